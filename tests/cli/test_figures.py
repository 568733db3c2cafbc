"""``scraperkit summary`` and ``scraperkit jumps``, of stored quotes and the replica's rates."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from support.pricer import of_rates

import scraperkit as sk
from scraperkit import metrics
from scraperkit.cli.exits import CONFIG
from scraperkit.replica.sample import load_sample
from scraperkit.research.stored_names import stored_series

COMMAND = str(Path(sys.executable).parent / "scraperkit")
PAYS, LESSONS = "99101018000147", "18993924000100"


@pytest.fixture
def site():
    with sk.Replica.start() as replica:
        yield replica


@pytest.fixture
def run(redis, redis_url, namespace, site, tmp_path, monkeypatch):
    quotes = load_sample().quotes
    sk.SeriesStore(redis, namespace=namespace).write_frame(quotes[quotes["cnpj"].isin([PAYS, LESSONS])])
    given = of_rates(site) | {"REDIS_URL": redis_url, "SCRAPERKIT_NAMESPACE": namespace}
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    def run(*words: str, code: int = 0) -> str:
        ended = subprocess.run(
            [COMMAND, *words], env=os.environ, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert ended.returncode == code, ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
        return ended.stderr if code else ended.stdout

    return run


def test_summary_shows_the_library_figures_with_the_rates(run, redis, namespace, tmp_path):
    words = ["--start", "2022-01", "--end", "2023-06", "--benchmark", "cdi", "--inflation", "ipca"]
    told = {line.split()[0]: line.split()[1:] for line in run("summary", LESSONS, PAYS, *words).splitlines()[1:]}
    prices = sk.TimeSeriesReader(redis, namespace=namespace).prices([LESSONS, PAYS], "2022-01", "2023-06")
    rates = {name: sk.rates(name, *prices.index[[0, -1]], redis=redis) for name in ("cdi", "ipca")}
    expected = metrics.summary(prices, benchmark=rates["cdi"], inflation=rates["ipca"])
    assert list(told) == list(expected.columns)
    for name in ("excess_return", "share_of_benchmark", "sharpe", "real_return", "windows_beaten", "return_2022"):
        assert told[name] == [f"{value:,.4f}" for value in expected[name]], name
    assert told["compared_from"] == ["2022-01-03", "2022-01-03"]
    assert expected["sharpe"].notna().all()
    run("summary", LESSONS, PAYS, *words, "--out", "summary.csv")
    read = pd.read_csv(tmp_path / "summary.csv", dtype={"cnpj": "str"}, index_col="cnpj")
    assert (read["excess_return"].to_numpy() == expected["excess_return"].to_numpy()).all()


def test_summary_without_a_benchmark_requests_no_rate(run, site):
    site.rates.fail(10)
    assert "cumulative_return" in run("summary")
    assert run("summary", "--start", "2030-01", code=1) == "scraperkit: no prices stored\n"


def test_jumps_are_printed_one_a_line(run, tmp_path):
    lines = run("jumps").splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        f"2022-06-15  {PAYS}  payout or write-down",
        f"2023-06-15  {PAYS}  payout or write-down",
    ]
    assert "quota −37.93 %" in lines[0]
    assert run("jumps", LESSONS) == "no jumps\n"
    assert len(run("jumps", "--smallest", "0.2").splitlines()) == 1
    run("jumps", PAYS, "--out", "jumps.parquet")
    assert pd.read_parquet(tmp_path / "jumps.parquet")["date"].dt.day.tolist() == [15, 15]


@pytest.mark.parametrize("command", ["summary", "jumps"])
def test_funds_with_nothing_stored_are_reported_and_the_others_shown(run, command):
    absent = "99.101.011/0001-25"
    assert absent in run(command, absent, code=1)
    assert absent in run(command, absent, PAYS, code=1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["summary", "--benchmark", "ouro"], "ouro"),
        (["summary", "--benchmark", "cdi", "--risk-free", "ibovespa"], "risk_free: ibovespa is a level"),
        (["jumps", "--smallest", "5"], "smallest: 5.0 is invalid"),
        (["jumps", "--out", "jumps.xlsx"], "must end in .csv or .parquet"),
    ],
)
def test_a_mistake_is_reported_in_one_sentence(run, words, says):
    told = run(*words, code=CONFIG)
    assert says in told
    assert len(told.strip().splitlines()) == 1


@pytest.mark.parametrize("command", ["summary", "jumps", "prices"])
def test_funds_are_found_by_stored_and_by_displayed_names(run, command, redis, namespace):
    cards = {fund.cnpj: fund for fund in load_sample().funds}
    store = sk.SeriesStore(redis, namespace=namespace)
    for cnpj in (PAYS, LESSONS):
        store.save_fund(sk.Fund(cnpj, name=cards[cnpj].name))
    by_number = run(command, PAYS)
    names = sk.TimeSeriesReader(redis, namespace=namespace).prices(PAYS).attrs["names"]
    reader = sk.TimeSeriesReader(redis, namespace=namespace)
    for name in (cards[PAYS].name, names[PAYS], "canela"):
        assert stored_series(redis, reader, name, namespace) == [PAYS]
    assert run(command, names[PAYS]) == by_number
    told = run(command, "no such name", "fundo exemplo", code=1)
    assert "no stored fund is named 'no such name'" in told
    assert "'fundo exemplo' matches " in told
