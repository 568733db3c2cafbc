"""``scraperkit export``, and ``prices --out``, which writes the same way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import scraperkit as sk
from scraperkit.keys import Keys

COMMAND = str(Path(sys.executable).parent / "scraperkit")
A, DOTTED = "18993924000100", "18.993.924/0001-00"
UNKNOWN = "00360305000104"


@pytest.fixture
def run(redis, redis_url, namespace, monkeypatch, tmp_path):
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("SCRAPERKIT_NAMESPACE", namespace)

    def run(*words: str, code: int = 0, **changes: str) -> str:
        ended = subprocess.run(
            [COMMAND, *words], env=os.environ | changes, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert ended.returncode == code, ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
        return ended.stderr if code else ended.stdout

    with sk.offline():
        yield run
    for key in redis.scan_iter(Keys(f"{namespace}-offline").pattern, count=1000):
        redis.unlink(key)


def test_missing_figures_are_fetched_and_written(run, tmp_path):
    assert "21 rows of 1 column in x.csv" in run(
        "export", DOTTED, "--start", "2022-01", "--end", "2022-01", "-o", "x.csv"
    )
    prices = sk.prices(A, "2022-01", "2022-01")
    assert sk.read_csv(tmp_path / "x.csv").equals(prices)
    words = ["--start", "2022-01", "--end", "2022-01"]
    run("export", DOTTED, *words, "-o", "q.parquet", "--metric", "all")
    assert sk.read_csv(tmp_path / "q.parquet").equals(sk.quotes(A, "2022-01", "2022-01"))
    run("prices", DOTTED, *words, "--out", "br.csv", "--excel-br")
    assert (tmp_path / "br.csv").read_text("utf-8-sig").startswith(f"date;{DOTTED}\n2022-01-03;3,")
    run("export", *words, "-o", "all.csv", "--namespace", os.environ["SCRAPERKIT_NAMESPACE"])
    assert sk.read_csv(tmp_path / "all.csv").equals(prices)


def test_the_archive_needs_no_redis(run, tmp_path):
    with sk.OpenData() as market:
        market.download("2022-01", "2022-01")
    words = ["--start", "2022-01", "--end", "2022-01", "--source", "open_data"]
    run("export", *words, "-o", "market.parquet", "--metric", "all", REDIS_URL="redis://127.0.0.1:9")
    with sk.OpenData() as market:
        assert sk.read_csv(tmp_path / "market.parquet").equals(market.quotes(None, "2022-01", "2022-01"))


def test_an_unavailable_fund_exits_with_1_and_the_others_are_written(run, tmp_path):
    words = ["--start", "2022-01", "--end", "2022-01", "-o", "x.csv"]
    assert "could not be collected in full" in run("export", DOTTED, UNKNOWN, *words, code=1)
    assert sk.read_csv(tmp_path / "x.csv").columns.tolist() == [A, UNKNOWN]
    assert "could not be collected in full" in run("export", DOTTED, UNKNOWN, "--metric", "all", *words, code=1)


def test_without_figures_an_existing_file_stays_unchanged(run, tmp_path):
    (tmp_path / "x.csv").write_text("kept")
    for command in ("prices", "export"):
        assert "nothing to write to x.csv: the frame has no columns" in run(command, "--out", "x.csv", code=1)
    assert (tmp_path / "x.csv").read_text() == "kept"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", A, "-o", "x.xlsx"], "--out: 'x.xlsx' must end in .csv or .parquet; for Excel, write .csv"),
        (["export", A, "-o", "no/x.csv"], "--out: no folder no; create it first"),
        (["prices", "--out", "no/x.csv"], "--out: no folder no; create it first"),
        (["export", A, "-o", "x.parquet", "--excel-br"], "--excel-br: applies only to CSV"),
        (["export", "-o", "x.csv", "--source", "cvm_pages"], "source: applies only to funds that you name"),
    ],
)
def test_a_mistake_is_reported_in_one_sentence(run, words, message, tmp_path):
    told = run(*words, code=78)
    assert message in told
    assert len(told.strip().splitlines()) == 1, told
    assert not list(tmp_path.glob("x.*"))
