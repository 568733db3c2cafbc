"""The README's examples, commands and links work as shown."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nbclient
import nbformat
import pyarrow.parquet as pq
import pytest
from matplotlib.image import imread
from support.ports import unused_port
from support.waiting import wait_until

import scraperkit as sk

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
ONE_CALL, TEN_LINES = BLOCKS[:2]


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """Set up the environment of a new user."""
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
    assert imread(alone / "prices.png").shape[1] >= 1_000


@pytest.mark.parametrize("call", ["CvmPages().find_fund('18.993.924/0001-00')", "rates('cdi', start='2022-01')"])
def test_the_error_for_an_unreachable_site_suggests_offline_mode(alone, call):
    closed = "http://127.0.0.1:1/"
    addresses = {"SCRAPERKIT_CVM_URL": closed, "SCRAPERKIT_SGS_URL": closed, "SCRAPERKIT_BACKOFF": "0"}
    ended = subprocess.run(
        [sys.executable, "-c", f"import scraperkit as sk; sk.{call}"],
        env=os.environ | addresses,
        cwd=alone,
        capture_output=True,
        text=True,
        timeout=240,
    )
    *_, error, note = ended.stderr.splitlines()
    assert error.startswith("scraperkit.errors.SiteUnavailable: the site does not respond")
    assert note.startswith("to work without the site, call sk.offline() first; in a shell, see ")
    assert "call `sk.offline()` first" in README


@pytest.mark.parametrize("code", [ONE_CALL, TEN_LINES], ids=["one call", "ten lines"])
def test_examples_run_as_one_cell_of_a_notebook_and_draw(alone, monkeypatch, code):
    monkeypatch.delenv("MPLBACKEND")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": alone}}
    ).execute()
    outputs = notebook.cells[0].outputs
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_after_activation_a_shell_finds_the_commands():
    (line,) = set(re.findall(r"^\$ (source \S+)", README, flags=re.MULTILINE))
    script = f"{line.replace('.venv', sys.prefix)} && command -v scraperkit && command -v python"
    bare = {"PATH": os.defpath, "HOME": os.environ.get("HOME", "/")}
    told = subprocess.run(["bash", "-c", script], env=bare, capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == [f"{sys.prefix}/bin/{name}" for name in ("scraperkit", "python")]
    assert not subprocess.run(["bash", "-c", "command -v scraperkit"], env=bare, capture_output=True).stdout


def test_the_api_responds_without_docker(alone):
    responses = [told for told in shell_session("The API without Docker", alone) if told.startswith("{")]
    assert len(responses) == 2
    assert '"batch_id":' in responses[0]
    assert '"quotas":"257.20819272"' in responses[1]


def test_the_command_line_works_offline(alone, monkeypatch):
    """Whatever asks another host fails at once, since the proxy is a closed port."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    parquet = "scraperkit export 18.993.924/0001-00 --start 2022-01 --end 2022-12 --out prices.parquet"
    told = "\n".join(shell_session("From the command line", alone, parquet))
    assert "12 published, 12 done" in told
    assert "251 rows of 1 column in prices.csv" in told
    assert "249 new days, the newest 2023-12-29" in told
    assert "\nFAIL" not in told
    assert (alone / "prices.csv").read_text().splitlines()[-1].startswith("2022-12-30,")
    facts = json.loads(pq.read_schema(alone / "prices.parquet").metadata[b"scraperkit"])
    assert facts["licence"] == "invented figures of the offline replica"


def shell_session(heading: str, folder: Path, *more: str) -> list[str]:
    """Run a section's commands in one shell, and return their outputs; those with `&` run until the end."""
    section = README.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\$ (.*?)(?:  +#.*)?$", section, flags=re.MULTILINE)
    api = unused_port()
    ports = zip(("--port", "--open-data-port", "--rates-port"), (unused_port() for _ in range(3)), strict=True)
    site = " ".join(f"{option} {port}" for option, port in ports)
    environment = os.environ | {
        "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
        "SCRAPERKIT_DATA": str(folder / "data"),
    }
    environment.pop("REDIS_URL", None)
    told: list[str] = []
    with ExitStack() as running:
        for line in [*lines, *more]:
            line = line.replace("scraperkit replica", f"scraperkit replica {site}")
            line = line.replace("scraperkit api", f"scraperkit api --port {api}")
            line = line.replace("127.0.0.1:8000", f"127.0.0.1:{api}")
            if line.startswith(("python3 tools/setup.py", "source ")):
                continue  # the tests' own environment has these packages
            if line.startswith("eval "):
                shown = output_of(f"{line}; env", environment, folder)
                environment |= dict(pair.split("=", 1) for pair in shown.splitlines() if pair.startswith("SCRAPERKIT_"))
            elif line.endswith(" &"):
                running.enter_context(in_the_background(line.removesuffix(" &"), environment))
            else:
                told.append(response_of(line, environment, folder))
        output_of("scraperkit redis stop", environment, folder)
    return told


def output_of(line: str, environment: dict[str, str], folder: Path) -> str:
    return subprocess.run(
        ["bash", "-c", line], env=environment, cwd=folder, capture_output=True, text=True, check=True, timeout=240
    ).stdout


@contextmanager
def in_the_background(line: str, environment: dict[str, str]) -> Iterator[None]:
    with subprocess.Popen(line.split(), env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline(), line
            yield
        finally:
            process.terminate()


def response_of(line: str, environment: dict[str, str], folder: Path) -> str:
    """Return a command's output; repeat a request for a price until the workers have stored it."""

    def ask() -> str:
        return output_of(line, environment, folder)

    if "/quotes/" in line:
        assert wait_until(lambda: '"day":"2022-12-23"' in ask(), 60), ask()
    return ask()


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


def test_the_scraperkit_commands_exist_with_their_options():
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


def test_every_setting_in_the_readme_exists():
    from scraperkit.config import Settings

    for name in re.findall(r"SCRAPERKIT_([A-Z0-9_]+)", README):
        assert name.lower() in Settings.model_fields, name
