"""Each example runs as a process of its own, offline, prints its table and saves its chart."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest
from matplotlib.image import imread
from support.tree import ROOT

import scraperkit as sk

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SHOWN = {
    "tour": ("236 published, 236 done", "max_drawdown", "Aroeira"),
    "workers_in_the_background": ("jobs_per_second", "threads"),
    "fund_prices": ("18993924000100", "2023-12"),
    "biggest_flows": ("net flow in 2024-12, R$ million", "Exemplo"),
    "my_funds_and_cdi": ("99101012000170", "Ipê Amarelo", "share_of_benchmark", "chart: "),
    "one_call": ("2023-12-29", "Exemplo Ipê Amarelo", "chart: "),
    "revised_this_week": ("values revised this week", "net_worth", "in R$ or people"),
}


def code_lines(path: Path) -> set[int]:
    """Return the numbers of the lines that hold code, not comments."""
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    with path.open("rb") as file:
        words = [word for word in tokenize.tokenize(file.readline) if word.type not in (*skipped, tokenize.ENCODING)]
    return {line for word in words[1:] for line in range(word.start[0], word.end[0] + 1)}


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES} == set(SHOWN)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_at_most_15_lines_of_code(path):
    assert len(code_lines(path)) <= 15


def test_the_example_of_revisions_runs_live(tmp_path):
    """The live portal is a local one without revisions, so its output differs from the replica's."""
    with sk.Replica.start() as site:
        site.portal.crawl_delay = 0
        given = {"SCRAPERKIT_OPEN_DATA_URL": site.open_data_url, "SCRAPERKIT_ARCHIVE": str(tmp_path / "archive")}
        with sk.OpenData(site.open_data_url, archive=tmp_path / "archive") as market:
            market.download("2024-12", "2024-12")
        script = shutil.copy(ROOT / "examples" / "revised_this_week.py", tmp_path)
        words = [sys.executable, script, "--live"]
        done = subprocess.run(words, env=os.environ | given, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("0 values revised this week")
        assert sum(site.portal.requests.values()) > 1


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_its_table_and_saves_its_chart(path, tmp_path):
    script = Path(shutil.copy(path, tmp_path))
    environment = os.environ | {
        "SCRAPERKIT_DATA": str(tmp_path / "data"),
        "PYTHONWARNINGS": "error",
        "MPLBACKEND": "Agg",
    }
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    for text in SHOWN[path.stem]:
        assert text in done.stdout
    picture = imread(script.with_suffix(".png"))
    assert picture.shape[0] > 400
    assert picture.shape[1] > 800
    assert picture[..., :3].std() > 0.02, "the chart is blank"
