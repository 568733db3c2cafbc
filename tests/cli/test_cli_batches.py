"""Several funds at once, one of them unknown; batches that fail, or that have no workers."""

from __future__ import annotations

import re
import signal
import subprocess

import pandas as pd
import pytest
from chaos.processes import COMMAND
from support.fakes import one_quote

import scraperkit as sk
from scraperkit.cli.exits import CONFIG
from scraperkit.models import ScrapeRequest, today
from scraperkit.timeseries.store import SeriesStore

CNPJ, FORMATTED = "18993924000100", "18.993.924/0001-00"
LIQUIDATED = "99.101.014/0001-69"
UNKNOWN = "33.000.167/0001-01"
TYPO = "18.993.924/0001-01"
NONE_THERE = r"18\.993\.924/0001-00 has no month in this period: it has months from 2021-01 to \d{4}-\d{2}$"


@pytest.fixture
def environment(environment):
    return environment | {"SCRAPERKIT_HTTP_RETRIES": "0"}


@pytest.fixture
def run(end):
    """Run a command; return its exit code, stdout and stderr."""

    def run(*words: str, **changes: str) -> tuple[int, str, str]:
        ended = end(*words, **changes)
        return ended.returncode, ended.stdout, ended.stderr

    return run


def wrong_fund(redis, namespace: str, months: int = 1) -> sk.Batch:
    """Publish jobs that fail permanently: the number belongs to another fund."""
    requests = [
        ScrapeRequest(document="99101011000125", fund_pk="132922", month_year=f"{month:02d}/2022")
        for month in range(1, months + 1)
    ]
    return sk.Publisher(redis, namespace=namespace).publish(requests)


class TestSeveralFunds:
    def test_valid_funds_are_published_and_the_others_reported_at_the_end(self, run, redis, namespace, site):
        known = sorted({fund.cnpj for fund in site.funds})
        code, told, errors = run("publish", TYPO, *known, UNKNOWN, "--from", "2021-11", "--to", "2021-11")
        batch = sk.Batch.find(redis, re.search(r"batch (\S+): ", told)[1], namespace=namespace)
        # One fund begins in 2022, so it has no month in this period: no error.
        assert set(batch.jobs()["cnpj"]) == set(known) - {"99101013000114"}
        assert code == CONFIG
        first, second, third, last = errors.splitlines()
        assert first.startswith("scraperkit: 99.101.013/0001-14 has no month in this period")
        assert second.startswith(f"scraperkit: '{TYPO}' is not a CNPJ")
        assert third.startswith(f"scraperkit: the site knows no fund with the CNPJ {UNKNOWN}")
        assert last == "scraperkit: 2 of 22 funds left out, for the reasons above"

    def test_wait_covers_the_published_funds_before_the_others_are_reported(self, run, worker):
        code, told, errors = run("publish", UNKNOWN, FORMATTED, "--from", "2022-01", "--to", "2022-03", "--wait")
        assert told.splitlines()[-1] == "3 published, 3 done"
        assert errors.splitlines()[-1] == "scraperkit: 1 of 2 funds left out, for the reasons above"
        assert code == 1

    def test_a_silent_site_is_not_asked_for_every_fund(self, run, site):
        site.outage(3600)
        many = sorted({fund.cnpj for fund in site.funds})[:6]
        code, told, errors = run("publish", *many, SCRAPERKIT_BREAKER_FAILURES="1000", SCRAPERKIT_SITE_PATIENCE="1")
        assert (code, told) == (1, "")
        assert errors.count("not looked up, since the site did not respond 3 times in a row") == 3
        assert all(cnpj in errors for cnpj in many)
        assert "6 of 6 funds left out" in errors

    def test_an_invalid_month_is_refused_before_the_site_is_asked(self, run, site):
        earlier = f"give {today():%Y-%m} or an earlier month"
        for words, said in (
            (("--from", "yesterday"), "--start: 'yesterday' is not a month; write it as '2022-01'"),
            (("--to", "2022-13"), "--end: '2022-13' is not a month; write it as '2022-01'"),
            (("--from", "2022-02", "--to", "2022-01"), "--end: 2022-01 is before --start, 2022-02; give a later month"),
            (("--from", "2098-12"), f"--start: 2098-12 has not begun in Brazil; {earlier}"),
        ):
            assert run("publish", CNPJ, UNKNOWN, *words) == (CONFIG, "", f"scraperkit: {said}\n")
        assert not site.requests.total()

    def test_a_period_before_the_fund_began_is_reported(self, run):
        code, told, errors = run("publish", CNPJ, "--from", "1999-01", "--to", "1999-02")
        assert (code, told) == (1, "")
        assert re.fullmatch(rf"scraperkit: {NONE_THERE}", errors.strip())

    def test_only_missing_says_when_every_month_is_stored(self, run, worker):
        period = (CNPJ, "--from", "2022-01", "--to", "2022-01")
        assert run("publish", *period, "--wait")[0] == 0
        code, told, _ = run("publish", *period, "--only-missing")
        assert code == 0
        assert told.endswith("0 published, 0 done; every month is stored already\n")

    def test_stored_prices_are_shown_and_the_other_funds_reported(self, run, redis, namespace, tmp_path):
        request = ScrapeRequest(document=CNPJ, fund_pk="132922", month_year="01/2022")
        SeriesStore(redis, namespace).write(one_quote(request))
        code, told, errors = run("prices", UNKNOWN, FORMATTED, TYPO)
        assert "2022-01-01" in told
        assert code == CONFIG
        assert UNKNOWN in errors.splitlines()[0]
        assert TYPO in errors.splitlines()[1]
        assert run("prices", UNKNOWN, FORMATTED, "--out", "some.csv")[0] == 1
        assert list(pd.read_csv(tmp_path / "some.csv").columns) == ["date", CNPJ]
        assert run("prices", UNKNOWN, TYPO)[1] == ""

    def test_a_file_suffix_may_be_in_capitals(self, run, redis, namespace, tmp_path):
        request = ScrapeRequest(document=CNPJ, fund_pk="132922", month_year="01/2022")
        SeriesStore(redis, namespace).write(one_quote(request))
        assert run("prices", "--out", "X.CSV")[0] == run("prices", "--out", "X.Parquet")[0] == 0
        assert len(pd.read_csv(tmp_path / "X.CSV")) == len(pd.read_parquet(tmp_path / "X.Parquet")) == 1

    def test_leading_zeros_cut_by_a_spreadsheet_are_suggested(self, run):
        for command in ("publish", "prices"):
            code, _, errors = run(command, "360305000104")
            assert code == CONFIG
            assert errors.endswith("a spreadsheet may have cut off its leading zeros: if so, write '00360305000104'\n")


class TestDeadLetters:
    def test_dead_letters_are_listed_retried_and_dropped(self, run, worker, redis, namespace):
        assert run("dead", "list")[1] == "no dead letters\n"
        assert wrong_fund(redis, namespace, 2).wait(60).failed == 2
        told = run("dead", "list")[1]
        assert told.count("WrongFund") == 2
        first = told.split()[0]
        assert run("dead", "drop", first)[1] == "1 dropped\n"
        assert "name the dead letters" in run("dead", "drop")[2]
        assert run("dead", "retry")[1] == "1 retried\n"
        code, _, errors = run("dead", "retry", "9-9")
        assert code == CONFIG
        assert "'9-9'" in errors


class TestBatches:
    def test_batches_are_shown_and_cancelled_by_id(self, run, namespace):
        told = run("publish", CNPJ, "--from", "2022-01", "--to", "2022-03")[1]
        batch_id = re.findall(r"^batch (\S+): 3 published", told)[0]
        assert run("batch", "cancel", batch_id)[1] == "3 cancelled: 3 published, 0 done, 3 cancelled\n"
        assert run("batch", "wait", batch_id)[1] == "3 published, 0 done, 3 cancelled\n"
        assert "no batch 'nothing'" in run("batch", "status", "nothing")[2]

    def test_a_batch_without_workers_says_what_to_start(self, run, namespace):
        start = f"start one with `scraperkit work --namespace {namespace}`"
        told = run("publish", CNPJ, "--from", "2022-01", "--to", "2022-03")[1]
        batch_id = re.findall(r"^batch (\S+): 3 published", told)[0]
        code, told, errors = run("batch", "status", batch_id)
        assert (code, told) == (0, "3 published, 0 done, 3 pending\n")
        assert start in errors
        code, _, errors = run("batch", "wait", batch_id, "--timeout", "0.2")
        assert code == 1
        assert "after 0.2 s" in errors
        assert start in errors

    def test_a_waiting_publish_without_workers_says_so(self, environment, namespace):
        words = ["publish", CNPJ, "--from", "2022-01", "--to", "2022-03", "--wait"]
        with subprocess.Popen(
            [COMMAND, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                assert "3 pending" in process.stdout.readline()
                said = process.stderr.readline()
            finally:
                process.send_signal(signal.SIGINT)
                try:
                    process.communicate(timeout=60)
                finally:
                    process.kill()
        assert said.startswith("no worker listens to the stream")
        assert f"`scraperkit work --namespace {namespace}`" in said
        assert process.returncode == 130

    def test_a_failed_batch_says_why_and_exits_with_1(self, run, worker, redis, namespace):
        batch = wrong_fund(redis, namespace, 3)
        code, told, errors = run("batch", "wait", batch.id)
        assert (code, told) == (1, "3 published, 0 done, 3 failed\n")
        assert re.search(r"^ +3 +WrongFund: .* 18\.993\.924/0001-00, not ", errors, re.M)
        more = re.search(r"`scraperkit (batch status .*?)`", errors)[1]
        told = run(*more.split())[1]
        assert len(re.findall(r"^99101011000125 0[123]/2022 failed: WrongFund: ", told, re.M)) == 3
