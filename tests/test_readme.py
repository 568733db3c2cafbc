"""What the README shows is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

import scraperkit as sk

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
ONE_CALL, TEN_LINES = BLOCKS[:2]


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """The environment of somebody who has set nothing."""
    monkeypatch.setenv("SCRAPERKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.delenv("SCRAPERKIT_NAMESPACE", raising=False)
    return tmp_path


def test_the_ten_lines_run_as_a_script_without_a_warning(alone):
    script = TEN_LINES + "\nprint(len(prices), prices.columns[0], batch.status())\n"
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=alone,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.stderr == ""
    assert ended.stdout == "251 18993924000100 12 published, 12 done\n"


def test_the_one_call_runs_as_a_script_without_a_warning(alone):
    script = ONE_CALL + "\nprint(prices.shape, prices.isna().sum().sum())\n"
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=alone,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert re.fullmatch(r"fetching \d+ months of 5 funds from the open data: 24 files, .*\n", ended.stderr)
    assert ended.stdout == "(500, 5) 0\n"


def test_the_ten_lines_run_as_one_cell_of_a_notebook_and_draw(alone, monkeypatch):
    monkeypatch.delenv("MPLBACKEND")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(TEN_LINES)])
    nbclient.NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": alone}}
    ).execute()
    outputs = notebook.cells[0].outputs
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_the_whole_market_runs(tmp_path, monkeypatch):
    section = README.partition("## The whole market\n")[2].partition("\n## ")[0]
    names: dict[str, object] = {"sk": sk}
    with sk.Replica.start() as site:
        site.portal.crawl_delay = 0
        monkeypatch.setenv("SCRAPERKIT_OPEN_DATA_URL", site.open_data_url)
        monkeypatch.setenv("SCRAPERKIT_ARCHIVE", str(tmp_path))
        for code in re.findall(r"^```python\n(.*?)^```", section, flags=re.DOTALL | re.MULTILINE):
            exec(code, names)
        names["market"].close()
    assert names["prices"].shape[0] == 253
    assert names["prices"].shape[1] > 10


def test_the_commands_are_targets_of_make():
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^\$ make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_commands_of_the_command_line_exist_with_their_options():
    command = str(Path(sys.executable).parent / "scraperkit")
    for line in re.findall(r"^\$ scraperkit ([^#&\n]*)", README, flags=re.MULTILINE):
        words = line.split()
        name = words[:2] if words[0] == "redis" else words[:1]
        told = subprocess.run(
            [command, *name, "--help"], capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "200"}
        ).stdout
        for option in (word for word in words if word.startswith("--")):
            assert option in told, line


def test_every_link_leads_to_a_file():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (Path(__file__).parent.parent / target).exists(), target


def test_every_setting_it_names_exists():
    from scraperkit.config import Settings

    for name in re.findall(r"SCRAPERKIT_([A-Z0-9_]+)", README):
        assert name.lower() in Settings.model_fields, name
