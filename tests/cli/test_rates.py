"""``scraperkit rates``, against the replica's services."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from support.pricer import of_rates

import scraperkit as sk

COMMAND = str(Path(sys.executable).parent / "scraperkit")


@pytest.fixture
def run(redis_url, namespace):
    with sk.Replica.start() as site:

        def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
            given = os.environ | of_rates(site) | {"REDIS_URL": redis_url, "SCRAPERKIT_NAMESPACE": namespace}
            ended = subprocess.run(
                [COMMAND, "rates", *words], env=given, capture_output=True, text=True, timeout=120, check=False
            )
            assert ended.returncode == code, ended.stdout + ended.stderr
            return ended

        run.site = site
        yield run


def test_a_long_rate_shows_a_heading_and_both_ends(run):
    lines = run("cdi", "--start", "2022-01", "--end", "2022-12").stdout.splitlines()
    assert (
        lines[0]
        == "cdi: rate a day, in % a day, from invented figures of a replica, in place of Banco Central do Brasil SGS 12"
    )
    assert lines[1].split() == ["2022-01-03", "0.049206"]
    assert lines[6] == "… 241 more; --out FILE.csv writes them all"
    assert lines[-1].split() == ["2022-12-30", "0.049206"]
    assert len(lines) == 12


def test_a_short_rate_is_shown_whole_with_aligned_numbers(run):
    lines = run("ibovespa", "--start", "2022-01-03", "--end", "2022-01-31").stdout.splitlines()
    assert len(lines) == 22
    assert len({len(line) for line in lines[1:]}) == 1
    assert lines[1].split()[1] == f"{float(run.site.rates.values('ibovespa')[pd.Timestamp('2022-01-03').date()]):,.2f}"
    nothing = run("ibovespa", "--start", "1980-01", "--end", "1980-02", code=1).stderr
    assert "before its first value" in nothing
    assert nothing.endswith("scraperkit: no values\n")


@pytest.mark.parametrize("name", ["ipca.csv", "ipca.parquet"])
def test_a_rate_written_to_a_file_reads_back_equal(run, tmp_path, name):
    told = run("ipca", "--start", "2022-01", "--end", "2022-12", "--out", str(tmp_path / name)).stdout
    assert told.endswith(f"12 values in {tmp_path / name}\n")
    if name.endswith(".csv"):
        frame = pd.read_csv(tmp_path / name, index_col="date", parse_dates=["date"])
    else:
        frame = pd.read_parquet(tmp_path / name)
    given = {pd.Timestamp(day): float(text) for day, text in run.site.rates.values("ipca").items() if day.year == 2022}
    assert frame["ipca"].to_dict() == given


def test_an_unavailable_rate_exits_with_1_and_one_sentence(run):
    assert "use 'ibovespa'" in run("7", code=78).stderr
    run.site.rates.outage(600)
    told = run("cdi", "--start", "2022-01", "--end", "2022-01", code=1).stderr
    assert told.startswith("scraperkit: HTTP 504 after all retries")
    assert told.count("\n") == 2
    assert "scraperkit replica --help" in told.splitlines()[1]
