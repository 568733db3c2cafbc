"""`sk.prices` and `sk.quotes`: any mix of funds, collected if missing, with a warning if they cannot be."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from support.fakes import FUND, FakeSite
from support.waiting import wait_until

import scraperkit as sk
from scraperkit.errors import ConfigError, ScraperKitWarning, SiteUnavailable
from scraperkit.keys import Keys
from scraperkit.research import collecting, memory

A = FUND.cnpj
DOTTED = "18.993.924/0001-00"


def shown(prices, column):
    column = prices[column].dropna()
    return {f"{day:%Y-%m-%d}": value for day, value in column.items()}


def test_missing_prices_are_collected_and_the_same_call_again_sends_no_request(offline, requests, oracle):
    prices = sk.prices(DOTTED, "2022-01", "2022-03")
    assert shown(prices, A) == oracle(A, "2022-01-01", "2022-03-31")
    asked = requests()
    assert asked[0] > 0 == asked[1], "three months are pages, not files"
    assert sk.prices(DOTTED, "2022-01", "2022-03").equals(prices)
    assert sk.prices(A, "2022-02", "2022-02").equals(prices.loc["2022-02":"2022-02"])
    assert requests() == asked


def test_the_default_window_does_not_depend_on_what_else_is_stored(offline):
    before = sk.prices(DOTTED)
    sk.prices(DOTTED, "2024-01", "2024-02", source="open_data")
    assert sk.prices(DOTTED).equals(before)
    assert before.index[[0, -1]].strftime("%Y-%m").tolist() == ["2023-01", "2023-12"]


@pytest.mark.parametrize("call", [sk.prices, sk.quotes])
def test_figures_that_stop_before_the_last_whole_month_are_warned_of_in_every_call(offline, call):
    """The pages of the offline site end in December 2023."""
    for _ in range(2):
        with pytest.warns(ScraperKitWarning, match=r"18\.993\.924/0001-00: no figures after 2023-12-29"):
            frame = call(DOTTED, "2023-11", "2024-01")
    assert frame.attrs["problems"] == {DOTTED: "no figures after 2023-12-29"}


@pytest.mark.parametrize("source", ["cvm_pages", "open_data"])
def test_figures_of_a_fund_that_ended_are_not_missing_afterwards(offline, source):
    ended = next(fund for fund in offline.replica.funds if fund.status == "LIQUIDAÇÃO")
    prices = sk.prices(ended.cnpj, "2022-06", "2022-12", source=source)
    assert prices.index[-1].date() <= ended.ended_on


def test_an_end_without_a_start_means_the_twelve_months_up_to_it(offline):
    prices = sk.prices(DOTTED, end="2022-06")
    assert prices.index[[0, -1]].strftime("%Y-%m").tolist() == ["2021-07", "2022-06"]


def test_only_missing_months_are_fetched(offline):
    sk.prices(DOTTED, "2022-01", "2022-03")
    before = offline.replica.requests["daily_post"]
    sk.prices(DOTTED, "2022-01", "2022-05")
    assert offline.replica.requests["daily_post"] == before + 2


def test_many_months_come_from_files_and_are_not_requested_again(offline, requests, oracle):
    funds = list(dict.fromkeys(fund.cnpj for fund in offline.replica.funds))
    with pytest.warns(ScraperKitWarning, match="no figures on these days"):  # of a fund that had not begun
        prices = sk.prices(funds, "2022-01", "2022-12")
    asked = requests()
    assert asked[1] >= 12
    assert asked[0] == 0, "no page of any fund"
    for cnpj in prices.columns[prices.notna().any()]:
        assert shown(prices, cnpj) == oracle(cnpj, "2022-01-01", "2022-12-31")
    with pytest.warns(ScraperKitWarning, match="no figures on these days"):
        assert sk.prices(funds, "2022-01", "2022-12").equals(prices)
    assert requests() == asked


def test_the_months_of_a_subclass_come_from_files(offline, requests):
    (cnpj, subclass), *_ = {(row.cnpj, row.subclass) for row in offline.replica.portal.rows("2024-12") if row.subclass}
    series = f"{cnpj}:{subclass}".replace(".", "").replace("/", "").replace("-", "")
    prices = sk.prices(series, "2024-12", "2024-12")
    assert prices.columns.tolist() == [series]
    assert prices[series].notna().any()
    assert requests()[0] == 0


def test_a_source_may_be_a_name_or_an_object(offline, requests, redis):
    sk.prices(DOTTED, "2022-01", "2022-01", source="open_data")
    assert requests()[0] == 0
    site = FakeSite()
    prices = sk.prices(DOTTED, "2021-02", "2021-02", source=site, redis=redis)
    assert site.asked == {"02/2021": 1}
    assert prices[A].tolist() == [2021.02]


def test_any_mix_of_numbers_names_and_funds_keeps_its_order(offline):
    other = next(fund for fund in offline.replica.funds if fund.cnpj != A and fund.active)
    prices = sk.prices([sk.Fund(other.cnpj), "Aroeira", DOTTED], "2022-01", "2022-01", source="open_data")
    assert prices.columns.tolist() == [other.cnpj, A]
    assert prices.notna().all(axis=None)


def test_a_name_is_looked_up_only_once(offline, requests):
    sk.prices("aroeira fundo exemplo", "2022-01", "2022-01", source="open_data")
    before = requests()
    prices = sk.prices("Aroeira  FUNDO exemplo", "2022-01", "2022-01", source="open_data")
    assert prices.columns.tolist() == [A]
    assert requests() == before


def test_an_unknown_fund_gets_one_warning_and_a_column_of_nan(offline):
    with pytest.warns(ScraperKitWarning) as told:
        prices = sk.prices([DOTTED, "no such fund"], "2022-01", "2022-01", source="open_data")
    assert [str(each.message).partition(":")[0] for each in told] == ["could not be collected in full"]
    assert "'no such fund' matches no fund; nearest:" in str(told[0].message)
    assert told[0].filename == __file__
    assert prices.columns.tolist() == [A, "no such fund"]
    assert prices["no such fund"].isna().all()
    assert prices[A].notna().all()


def test_months_that_fail_are_named_with_their_reasons(offline, monkeypatch):
    monkeypatch.setenv("SCRAPERKIT_MAX_ATTEMPTS", "1")

    def respond(request):
        raise SiteUnavailable("nobody responds", "http://127.0.0.1:9/")

    with pytest.warns(
        ScraperKitWarning, match=r"18\.993\.924/0001-00: 2022-0\d: SiteUnavailable: nobody .*and 2 months"
    ):
        prices = sk.prices(DOTTED, "2022-01", "2022-03", source=FakeSite(respond))
    assert prices.empty
    assert prices.columns.tolist() == [A]


def test_the_warning_for_an_unreachable_site_suggests_offline_mode(offline):
    offline.replica.stop()
    with pytest.warns(ScraperKitWarning, match=r"call sk\.offline\(\) first"):
        prices = sk.prices(DOTTED, "2022-01", "2022-01", source="cvm_pages")
    assert prices.columns.tolist() == [A]


def test_a_month_before_the_start_of_a_fund_is_requested_only_once(offline, requests):
    with pytest.warns(ScraperKitWarning, match="has no month in this period: it has months from 2021-01 to"):
        sk.prices(DOTTED, "2019-01", "2019-02")
    before = requests()
    with pytest.warns(ScraperKitWarning):
        sk.prices(DOTTED, "2019-01", "2019-02")
    assert requests() == before


def test_running_workers_do_the_work(offline, redis):
    site = FakeSite()
    with sk.Subscriber(redis, site, threads=1):
        prices = sk.prices(sk.Fund(A, "132922", "Fundo"), "2022-01", "2022-02")
    assert site.asked == {"01/2022": 1, "02/2022": 1}
    assert prices[A].tolist() == [2022.01, 2022.02]


def test_a_source_without_a_name_gets_its_requests_even_beside_workers_of_the_pages(offline, redis):
    pages, own = FakeSite(), FakeSite()
    with sk.Subscriber(redis, pages, threads=1):
        sk.prices(FUND, "2022-01", "2022-02", source=own)
    assert (sum(own.asked.values()), sum(pages.asked.values())) == (2, 0)


def test_a_named_source_is_asked_even_if_another_source_has_stored_the_month(offline, requests):
    sk.prices(DOTTED, "2022-01", "2022-01", source="open_data")
    prices = sk.prices(DOTTED, "2022-01", "2022-01", source="cvm_pages")
    assert requests()[0] > 0
    assert prices.attrs["source"] == "cvm_pages"
    before = requests()
    sk.prices(DOTTED, "2022-01", "2022-01")
    assert requests() == before, "without a name, any will do"


def test_an_unknown_source_is_refused_even_if_nothing_is_missing(offline):
    sk.prices(DOTTED, "2022-01", "2022-01")
    with pytest.raises(ConfigError, match="unknown source 'yahoo'"):
        sk.prices(DOTTED, "2022-01", "2022-01", source="yahoo")


def test_threads_with_the_same_call_fetch_each_month_once(offline):
    barrier = threading.Barrier(6)

    def ask():
        barrier.wait(60)
        sk.prices(DOTTED, "2022-01", "2022-06")

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert offline.replica.requests["daily_post"] <= 6


def test_a_call_does_not_wait_for_a_site_that_asks_for_an_hours_pause(offline, monkeypatch):
    monkeypatch.setattr(collecting, "_PATIENCE_AT_SITE", 0.5)
    offline.replica.outage(3_600)
    with pytest.warns(ScraperKitWarning, match=r"busy, or its circuit is open.*call sk\.offline\(\) first"):
        prices = sk.prices(DOTTED, "2022-01", "2022-01", source="cvm_pages")
    assert prices.columns.tolist() == [A]


def test_offline_the_default_window_is_the_last_year_of_the_invented_pages(offline):
    prices = sk.prices(DOTTED)
    assert (prices.index[0].date(), prices.index[-1].date()) == (dt.date(2023, 1, 2), dt.date(2023, 12, 29))


def test_a_start_in_the_future_is_refused(offline):
    with pytest.raises(ConfigError, match="^start: 2999-01 is after the current month"):
        sk.prices(DOTTED, "2999-01")


def test_quotes_have_every_metric(offline):
    quotes = sk.quotes(DOTTED, "2022-01", "2022-01")
    assert quotes.columns.tolist() == list(sk.COLUMNS)
    assert len(quotes) == 21


def test_a_thread_and_an_asyncio_program_may_call_it(offline):
    found = {}
    thread = threading.Thread(target=lambda: found.update(thread=sk.prices(DOTTED, "2022-01", "2022-01")))
    thread.start()
    thread.join()

    async def program():
        found["asyncio"] = sk.prices(DOTTED, "2022-02", "2022-02")
        found["beside"] = await asyncio.to_thread(sk.prices, DOTTED, "2022-03", "2022-03")

    asyncio.run(program())
    assert [len(found[name]) for name in ("thread", "asyncio", "beside")] == [21, 19, 22]


PROGRAM = """
import sys
import scraperkit as sk
with sk.offline() as kit:
    kit.replica.latency = 3_600
    print("asking", flush=True)
    try:
        sk.prices(sk.Fund("18993924000100", "132922", "Fundo"), "2022-01", "2022-12", source="cvm_pages")
    except KeyboardInterrupt:
        import threading
        print("interrupted", [each.name for each in threading.enumerate() if "scraperkit" in each.name], flush=True)
"""


def test_ctrl_c_leaves_no_threads_and_no_jobs(redis, redis_url, namespace):
    environment = {**os.environ, "REDIS_URL": redis_url, "SCRAPERKIT_NAMESPACE": namespace}
    keys = Keys(f"{namespace}-offline")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            assert wait_until(
                lambda: (
                    redis.xlen(keys.jobs) == 12 and redis.hvals(keys.workers) if False else redis.xlen(keys.jobs) == 12
                )
            )
            pending = lambda: redis.exists(keys.jobs) and redis.xpending(keys.jobs, keys.group)["pending"]  # noqa: E731
            assert wait_until(pending)
            program.send_signal(signal.SIGINT)
            out, err = program.communicate(timeout=120)
        finally:
            program.kill()
    assert "interrupted []" in out, err
    assert redis.xlen(keys.jobs) == redis.zcard(keys.retries) == redis.zcard(keys.workers) == 0
    for key in redis.scan_iter(keys.pattern):
        redis.unlink(key)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("18.993.924/0001-01",), "is not a CNPJ: the number's checksum"),
        ((360305000104,), "funds: give a CNPJ, a name, a Fund or a list of them; got int"),
        (([360305000104],), "funds: give CNPJs and names as text, or Funds; got int: '360305000104'"),
        (([],), "funds: the list is empty"),
        ((DOTTED, "2022-13"), "start: '2022-13' is not a month"),
        ((DOTTED, "2022-05", "2022-04"), "end: 2022-04 is before start, 2022-05"),
        ((DOTTED, "2022-01", "2022-02", "price"), "metric: unknown metric 'price'; choose one of quota, "),
    ],
)
def test_an_invalid_argument_is_refused_by_name_before_any_request(offline, requests, arguments, message):
    with pytest.raises(ConfigError, match=f"^.*{message}"):
        sk.prices(*arguments)
    assert requests() == (0, 0)


def test_an_unknown_source_is_refused(offline):
    with pytest.raises(ConfigError, match="^source: unknown source 'bloomberg'; choose one of cvm_pages, open_data"):
        sk.prices(DOTTED, "2022-01", "2022-01", source="bloomberg")


class TestOffline:
    def test_it_is_the_default_of_the_process_until_it_stops(self, redis_url, monkeypatch):
        monkeypatch.setenv("REDIS_URL", redis_url)
        monkeypatch.setenv("SCRAPERKIT_CVM_URL", "http://127.0.0.1:9/")
        with sk.offline() as found:
            assert sk.CvmPages().url == found.replica.url
            assert sk.OpenData().url == found.replica.open_data_url
            assert sk.Settings.load().namespace == "scraperkit-offline"
            assert sk.rates("cdi", "2022-01-03", "2022-01-31").size == 21
            assert sk.offline() is found
            archive = sk.OpenData().archive
        assert sk.CvmPages().url == "http://127.0.0.1:9/"
        assert sk.Settings.load().namespace == "scraperkit"
        assert not archive.exists()
        found.stop()
        assert repr(found) == "<Offline: stopped>"

    def test_no_thread_is_left(self):
        with sk.offline():
            pass


class Named(FakeSite):
    """A user's own source that finds funds after some errors."""

    def __init__(self, *errors):
        super().__init__()
        self.errors, self.looked_up = list(errors), 0

    def find_fund(self, text):
        self.looked_up += 1
        if self.errors:
            raise self.errors.pop(0)
        return FUND


@pytest.mark.parametrize("name", ["Exemplo", DOTTED])
def test_a_look_up_that_fails_with_a_transient_error_is_retried(offline, monkeypatch, name):
    monkeypatch.setenv("SCRAPERKIT_BACKOFF", "0.01")
    site = Named(OSError("reset"), SiteUnavailable("away"))
    assert sk.prices(name, "2021-02", "2021-02", source=site)[A].tolist() == [2021.02]
    assert site.looked_up == 3


@pytest.mark.parametrize("name", ["Exemplo", DOTTED])
def test_a_bug_in_a_look_up_is_reported_at_once_with_its_line(offline, name):
    site = Named(KeyError("pk"))
    with pytest.warns(
        ScraperKitWarning, match=r"named\.find_fund: KeyError: 'pk' \(test_one_call\.py, line \d+, in find_f"
    ):
        sk.prices(name, "2021-02", "2021-02", source=site)
    assert site.looked_up == 1


def test_a_bug_in_a_fetch_is_reported_at_once_with_its_line(offline):
    site = FakeSite(lambda request: request.quota)
    with pytest.warns(
        ScraperKitWarning, match=r"AttributeError: .*'quota' \(test_one_call\.py, line \d+, in <lambda>: "
    ):
        sk.prices(DOTTED, "2021-02", "2021-02", source=site)
    assert site.asked.total() == 1


@pytest.mark.parametrize("name", ["jequitibá rei", "33.000.167/0001-01"])
def test_a_fund_that_was_not_found_is_not_looked_up_again_for_ten_minutes(offline, requests, monkeypatch, name):
    with pytest.warns(ScraperKitWarning, match="the site (finds no fund named|knows no fund with)"):
        sk.prices([DOTTED, name], "2022-01", "2022-01")
    asked = requests()
    with pytest.warns(ScraperKitWarning, match=r"\(asked at \d\d:\d\d:\d\d; will be asked again from \d\d:\d\d:\d\d\)"):
        sk.prices([DOTTED, name], "2022-01", "2022-01")
    assert requests() == asked
    later = time.time() + 601
    monkeypatch.setattr(memory, "time", SimpleNamespace(time=lambda: later))
    with pytest.warns(ScraperKitWarning, match="the site (finds no fund named|knows no fund with)"):
        sk.prices([DOTTED, name], "2022-01", "2022-01")
    assert requests() > asked


@pytest.mark.parametrize("source", ["cvm_pages", "open_data"])
def test_names_that_the_kit_shows_are_accepted_as_input(offline, source):
    funds = [fund.cnpj for fund in offline.replica.funds if fund.active and fund.started_on.year < 2022][:8]
    prices = sk.prices(funds, "2022-01", "2022-01", source=source)
    names = prices.attrs["names"]
    assert len(names) == 8
    assert any(name.endswith("…") for name in names.values())
    shown = [names[cnpj] for cnpj in funds]
    assert sk.prices(shown, "2022-01", "2022-01", source=source).equals(prices)
