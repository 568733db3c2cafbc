"""The source against real HTTP: the replica, and a small server that responds as a test requires."""

from __future__ import annotations

import datetime as dt
import gc
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from support.odd_sites import CNPJ, ONCE, Asked, Odd, Reply, daily, fund_page, search, served

import scraperkit
from scraperkit.config import CVM_URL, Settings
from scraperkit.errors import (
    ConfigError,
    FundNotFound,
    MonthNotOffered,
    NotACvmPage,
    PageChanged,
    SiteUnavailable,
    SourceError,
    WrongFund,
    WrongMonth,
)
from scraperkit.models import Fund, ScrapeRequest
from scraperkit.replica import Replica
from scraperkit.replica.sample import load_sample
from scraperkit.sources import CvmPages, Source

OTHER = "99101011000125"


def request(month="01/2022", cnpj=CNPJ, pk="1") -> ScrapeRequest:
    return ScrapeRequest(document=cnpj, fund_pk=pk, month_year=month)


# --- against the replica ---


@pytest.fixture
def replica() -> Iterator[Replica]:
    with Replica.start() as running:
        yield running


def pages_asked(replica: Replica) -> dict[str, int]:
    """Return how often each page was requested, without robots.txt."""
    return {kind: count for kind, count in replica.requests.items() if kind not in ("unknown", "robots")}


def test_every_fund_of_the_sample_is_fetched_exactly(replica):
    """Two months a year of each; test_road has all of them."""
    sample = load_sample()
    with CvmPages(replica.url) as source, ThreadPoolExecutor(4) as pool:
        for known in sample.funds:
            if known.pk == "901109":
                continue  # The inactive one of a CNPJ's two entries, which is not found.
            found = source.find_fund(known.cnpj)
            assert found == known.fund
            months = source.available_months(found)
            offered = sample.offered(known.pk)
            assert months == [f"{month[3:]}-{month[:2]}" for month in reversed(offered)]
            requests = found.months(months[0], months[-1])
            assert [item.month_year for item in requests] == list(reversed(offered))
            some = requests[::6]
            for item, quotes in zip(some, pool.map(source.fetch, some), strict=True):
                assert quotes == list(sample.month(known.cnpj, item.month_year)), (known, item.month_year)


def test_it_is_a_source_with_a_short_repr(replica):
    with CvmPages(replica.url.rstrip("/")) as source:
        assert isinstance(source, Source)
        assert source.url == replica.url
        assert repr(source) == f"CvmPages('{replica.url}')"
        assert repr(CvmPages("http://me:secret@host/a?b")) == "CvmPages('http://host/a?b/')"


def test_the_address_comes_from_the_environment_or_is_the_live_site(monkeypatch):
    assert CvmPages().url == CVM_URL
    monkeypatch.setenv("SCRAPERKIT_CVM_URL", "http://localhost:1/x")
    assert CvmPages().url == "http://localhost:1/x/"
    assert CvmPages(settings=Settings(cvm_url="http://localhost:2")).url == "http://localhost:2/"
    assert CvmPages("http://localhost:3").url == "http://localhost:3/"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/", "http://", "/path", "http://h:port/", "http://[::1"])
def test_an_invalid_address_is_refused(url):
    with pytest.raises(ConfigError, match="SCRAPERKIT_CVM_URL"):
        CvmPages(url)


def test_eight_threads_on_one_fund_take_one_first_page_and_one_request_a_month(replica):
    requests = Fund(CNPJ, "132922").months("2021-01", "2022-12")
    with CvmPages(replica.url) as source, ThreadPoolExecutor(8) as pool:
        months = list(pool.map(source.fetch, requests))
    assert all(months)
    assert pages_asked(replica) == {"daily_get": 1, "daily_post": 24}


def test_the_month_that_the_site_shows_first_takes_one_request(replica):
    with CvmPages(replica.url) as source:
        latest = source.available_months(Fund(CNPJ, "132922"))[-1]
    with CvmPages(replica.url) as source:
        (asked,) = Fund(CNPJ, "132922").months(latest, latest)
        quotes = source.fetch(asked)
        assert quotes
        assert pages_asked(replica) == {"daily_get": 2}
        # A second fetch requests the page again: it may have more quotes by now.
        assert source.fetch(asked) == quotes
        assert pages_asked(replica) == {"daily_get": 2, "daily_post": 1}


def test_an_empty_month_is_an_empty_list(replica):
    with CvmPages(replica.url) as source:
        assert source.fetch(request("08/2021", "99101017000100", "901107")) == []


def test_a_month_that_the_site_lacks_is_an_error(replica):
    with CvmPages(replica.url) as source:
        with pytest.raises(MonthNotOffered, match=r"no 01/1999 for 18\.993\.924/0001-00: it has 01/2021 to ") as caught:
            source.fetch(request("01/1999", pk="132922"))
        assert "PK_PARTIC=132922" in caught.value.url
        assert not caught.value.retryable
        assert pages_asked(replica) == {"daily_get": 1}


def test_the_fund_of_a_pk_is_checked(replica):
    with CvmPages(replica.url) as source:
        with pytest.raises(WrongFund):
            source.fetch(request(cnpj=OTHER, pk="132922"))
        assert source.fetch(request(pk="132922"))
        with pytest.raises(WrongFund, match=r"PK_PARTIC 132922 belongs to 18\.993\.924/0001-00, not"):
            source.fetch(request(cnpj=OTHER, pk="132922"))
    assert pages_asked(replica) == {"daily_get": 2, "daily_post": 1}


def test_an_unknown_fund_is_an_error(replica):
    with CvmPages(replica.url) as source, pytest.raises(FundNotFound, match=r"00\.000\.000/0001-91") as caught:
        source.find_fund("00000000000191")
    assert caught.value.url.startswith(replica.url)
    assert pages_asked(replica) == {"search": 2}


def test_an_invalid_cnpj_or_pk_never_reaches_the_site(replica):
    with CvmPages(replica.url) as source:
        for text in ("", "123", "18993924000101", "EXEMPL0A000101", "FIC FIM", "' -- %", "x" * 201, 18993924000100):
            with pytest.raises(ConfigError):
                source.find_fund(text)
        for fund in (Fund(CNPJ, "1&x=y"), Fund(CNPJ, ""), Fund("x", "1"), Fund(CNPJ, "٣")):
            with pytest.raises(ConfigError):
                source.available_months(fund)
    assert not pages_asked(replica)


def test_an_error_page_with_status_200_is_not_an_empty_month(replica):
    with CvmPages(replica.url, settings=ONCE) as source:
        assert source.fetch(request(pk="132922"))
        replica.error_rate = 1.0
        outcomes = set()
        for _ in range(12):
            with pytest.raises((NotACvmPage, SiteUnavailable)) as caught:
                source.fetch(request(pk="132922"))
            outcomes.add(type(caught.value))
        assert outcomes == {NotACvmPage, SiteUnavailable}
        replica.error_rate = 0.0
        assert source.fetch(request(pk="132922"))


def test_an_outage_is_waited_out(replica):
    replica.outage(1.0)
    with CvmPages(replica.url) as source:
        assert source.fetch(request(pk="132922"))
    counts = pages_asked(replica)
    assert counts.pop("outage") >= 1
    assert counts == {"daily_get": 1, "daily_post": 1}


# --- looking up a fund ---


def redirecting(pages: dict[str, tuple[str, str]], months: dict[str, tuple[str, ...]], known: str):
    """Answer searches for `known` with rows; `pages` has address and page of each row, by target."""

    def respond(asked: Asked) -> Reply | str:
        if asked.method == "POST":
            return Reply(status=302, headers={"Location": pages[asked.form["__EVENTTARGET"]][0]})
        if "CNPJNome" in asked.query:
            return search(*pages) if asked.query["CNPJNome"] == known else search()
        page = urlsplit(asked.path).path.rpartition("/")[2]
        if page == "CPublicaInfDiario.aspx":
            return daily(months[asked.query["PK_PARTIC"]])
        return next(text for address, text in pages.values() if urlsplit(address).path.endswith(page))

    return respond


@pytest.mark.parametrize(
    ("known", "searches"), [("18.993.924/0001-00", 1), ("18993924000100", 2)], ids=["punctuated", "bare"]
)
def test_the_search_tries_both_ways_to_write_a_cnpj(known, searches):
    pages = {"ddlFundos$_ctl0$lnkbtn1": ("Fundo.aspx?pk_partic=77&SemFrame=", fund_page())}
    with served(redirecting(pages, {}, known)) as (odd, source):
        assert source.find_fund("18.993.924/0001-00") == Fund(CNPJ, "77", "FUNDO", "EM FUNCIONAMENTO NORMAL")
        kinds = ["GET ResultBuscaParticFdo.aspx"] * searches
        assert odd.kinds == [*kinds, "POST ResultBuscaParticFdo.aspx", "GET Fundo.aspx"]
        assert odd.asked[0].query == {
            "CNPJNome": "18.993.924/0001-00", "TpPartic": "0", "Adm": "false", "SemFrame": ""
        }  # fmt: skip
        posted = odd.asked[searches]
        assert posted.path == odd.asked[searches - 1].path
        assert posted.form == {"__VIEWSTATE": "v", "__EVENTTARGET": "ddlFundos$_ctl0$lnkbtn1", "__EVENTARGUMENT": ""}
        assert odd.asked[0].headers["User-Agent"].startswith(f"scraperkit/{scraperkit.__version__} ")


def entries(**status: str) -> dict[str, tuple[str, str]]:
    """One row of a search for each pk."""
    return {
        f"ddlFundos$_ctl{n}$lnkbtn1": (f"../Doc/F{pk}.aspx?PK_PARTIC={pk[1:]}", fund_page(pk=pk[1:], status=text))
        for n, (pk, text) in enumerate(status.items())
    }


NORMAL = "EM FUNCIONAMENTO NORMAL"


@pytest.mark.parametrize(
    ("status", "months", "best"),
    [
        ({"_1": "CANCELADA", "_2": NORMAL}, {}, "2"),
        ({"_1": NORMAL, "_2": "CANCELADA"}, {}, "1"),
        ({"_1": NORMAL, "_2": NORMAL}, {"1": ("02/2022", "12/2021"), "2": ("12/2021",)}, "1"),
        ({"_1": NORMAL, "_2": NORMAL}, {"1": ("12/2021",), "2": ("02/2022",)}, "2"),
        ({"_1": NORMAL, "_2": NORMAL}, {"1": ("02/2022",), "2": ("02/2022",)}, "2"),
        ({"_1": NORMAL, "_2": NORMAL}, {"1": ("02/2022",), "2": ()}, "1"),
        ({"_1": "CANCELADA", "_2": "LIQUIDAÇÃO"}, {"1": ("02/2022",), "2": ("12/2021",)}, "1"),
    ],
)
def test_the_active_then_the_freshest_of_several_entries_is_taken(status, months, best):
    respond = redirecting(entries(**status), {pk: months[pk] or ("",) for pk in months}, "18.993.924/0001-00")
    with served(respond) as (_, source):
        assert source.find_fund(CNPJ).pk == best


def test_the_pk_may_be_only_in_the_link_but_must_not_be_missing():
    pages = {"a$_ctl0$b": ("Fundo.aspx", fund_page(pk="77"))}
    with served(redirecting(pages, {}, "18.993.924/0001-00")) as (_, source):
        assert source.find_fund(CNPJ).pk == "77"
        pages["a$_ctl0$b"] = ("Fundo.aspx", fund_page())
        with pytest.raises(PageChanged, match="PK_PARTIC"):
            source.find_fund(CNPJ)
        pages["a$_ctl0$b"] = ("Fundo.aspx?PK_PARTIC=1", fund_page(cnpj=OTHER))
        with pytest.raises(WrongFund):
            source.find_fund(CNPJ)
        pages["a$_ctl0$b"] = ("Fundo.aspx?PK_PARTIC=1", "<html>Erro</html>")
        with pytest.raises(NotACvmPage, match="fund page") as caught:
            source.find_fund(CNPJ)
        assert caught.value.url.endswith("Fundo.aspx?PK_PARTIC=1")


# --- forms that expire ---


class Ageing:
    """A site whose forms are valid until its `state` changes."""

    def __init__(self, months: tuple[str, ...] = ("02/2022", "01/2022")) -> None:
        self.months, self.state, self.refusal = months, "s1", "<html>Sess\xe3o expirada</html>"

    def __call__(self, asked: Asked) -> Reply | str:
        if asked.method == "GET":
            return daily(self.months, state=self.state)
        if asked.form["__VIEWSTATE"] != self.state:
            return self.refusal
        return daily(self.months, asked.form["ddComptc"], state="later", quota=f"{asked.form['ddComptc'][:2]},5")


@pytest.mark.parametrize("refusal", ["<html>Sess\xe3o expirada</html>", daily(("02/2022", "01/2022"))])
def test_an_expired_form_is_requested_again_once(refusal):
    site = Ageing()
    site.refusal = refusal
    with served(site) as (odd, source):
        assert [quote.quota for quote in source.fetch(request("01/2022"))] == [1.5]
        site.state = "s2"
        assert [quote.quota for quote in source.fetch(request("01/2022"))] == [1.5]
        assert [kind[:4].strip() for kind in odd.kinds] == ["GET", "POST", "POST", "GET", "POST"]
        source.fetch(request("01/2022"))
        assert len(odd.asked) == 6
        assert odd.asked[-1].form == {
            "__VIEWSTATE": "s2", "__EVENTTARGET": "ddComptc", "__EVENTARGUMENT": "", "ddComptc": "01/2022"
        }  # fmt: skip


def test_a_fresh_form_that_is_refused_is_an_error_and_is_not_kept():
    site = Ageing()
    with served(lambda asked: "<html>Erro</html>" if asked.method == "POST" else site(asked)) as (odd, source):
        for count in (2, 4):
            with pytest.raises(NotACvmPage):
                source.fetch(request("01/2022"))
            assert len(odd.asked) == count


def test_another_month_than_requested_is_an_error():
    with served(lambda _: daily(("02/2022", "01/2022"))) as (_, source):
        with pytest.raises(WrongMonth, match="shows 02/2022, not 01/2022"):
            source.fetch(request("01/2022"))
        assert source.fetch(request("02/2022"))


def test_a_form_refused_with_500_is_not_kept():
    site = Ageing()
    site.refusal = Reply("Erro", status=500)
    with served(site) as (odd, source):
        source.fetch(request("01/2022"))
        site.state = "s2"
        with pytest.raises(SiteUnavailable, match="HTTP 500; it says"):
            source.fetch(request("01/2022"))
        assert source.fetch(request("01/2022"))
        assert [asked.method for asked in odd.asked] == ["GET", "POST", "POST", "GET", "POST"]


def test_a_month_that_appeared_since_is_found(monkeypatch):
    monkeypatch.setattr("scraperkit.sources.cvm_pages.LIST_SECONDS", 0)
    site = Ageing(("01/2022", "12/2021"))
    with served(site) as (odd, source):
        source.fetch(request("12/2021"))
        with pytest.raises(MonthNotOffered):
            source.fetch(request("02/2022"))
        assert [asked.method for asked in odd.asked] == ["GET", "POST", "GET"]
        site.months = ("02/2022", "01/2022", "12/2021")
        assert source.fetch(request("02/2022"))
        assert source.available_months(Fund(CNPJ, "1")) == ["2021-12", "2022-01", "2022-02"]


def test_a_faulty_figure_fails_its_month_only():
    def respond(asked: Asked) -> str:
        month = asked.form.get("ddComptc", "02/2022")
        return daily(("02/2022", "01/2022"), month, quota="?" if month == "02/2022" else "1,5")

    with served(respond) as (_, source):
        assert source.fetch(request("01/2022"))
        with pytest.raises(PageChanged, match=r"Quota \(R\$\) of 03/02/2022") as caught:
            source.fetch(request("02/2022"))
        assert "PK_PARTIC=1" in caught.value.url


def test_a_form_is_posted_to_the_address_after_a_redirect():
    def respond(asked: Asked) -> Reply | str:
        if "Novo" not in asked.path:
            return Reply(status=301, headers={"Location": "/Novo/Diario.aspx?PK_PARTIC=1"})
        return daily(("02/2022", "01/2022"), asked.form.get("ddComptc"))

    with served(respond) as (odd, source):
        source.fetch(request("01/2022"))
        assert odd.kinds == ["GET CPublicaInfDiario.aspx", "GET Diario.aspx", "POST Diario.aspx"]


# --- faults on the way ---


@pytest.mark.parametrize(
    "fault",
    [
        Reply(status=429, headers={"Retry-After": "0"}),
        Reply(status=503, headers={"Retry-After": "soon"}),
        Reply("<html>Erro</html>", status=500),
        Reply(reset=True),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_passing_fault_is_retried_for_reads_and_forms_alike(fault, method):
    faults = [fault]

    def respond(asked: Asked) -> Reply | str:
        if asked.method == method and faults:
            return faults.pop()
        return daily(("02/2022", "01/2022"), asked.form.get("ddComptc"))

    with served(respond, Settings(http_retries=1)) as (odd, source):
        assert source.fetch(request("01/2022"))
        assert len(odd.asked) == 3


def test_retry_after_is_waited_for():
    faults = [Reply(status=429, headers={"Retry-After": "1"})]
    with served(lambda _: faults.pop() if faults else daily(), Settings(http_retries=1)) as (_, source):
        began = time.monotonic()
        assert source.fetch(request())
        assert time.monotonic() - began >= 1.0


@pytest.mark.parametrize("header", ["soon", "-1", "9" * 5000, "Fri, 31 Dec 1999 23:59:59 GMT", "99 Dec 9999999999"])
def test_an_invalid_or_past_retry_after_is_ignored(header):
    faults = [Reply(status=503, headers={"Retry-After": header})]
    with served(lambda _: faults.pop() if faults else daily(), Settings(http_retries=1)) as (odd, source):
        assert source.fetch(request())
        assert len(odd.asked) == 2


@pytest.mark.parametrize(
    ("reply", "error", "says"),
    [
        (Reply(status=429), SiteUnavailable, r"HTTP 429 \["),
        (Reply(status=503), SiteUnavailable, r"HTTP 503 \["),
        (Reply(daily(), status=404), NotACvmPage, "returns 404"),
        (Reply(daily(), status=403), NotACvmPage, "returns 403"),
        (Reply(daily(), status=302), NotACvmPage, "returns 302"),
        (Reply(status=302, headers={"Location": "?again"}), SiteUnavailable, "redirects without end"),
        (Reply(daily(), length=100_000), SiteUnavailable, "broke off"),
        (Reply(daily(), headers={"Content-Encoding": "gzip"}), SiteUnavailable, "compressed data is damaged"),
        (Reply(reset=True), SiteUnavailable, "Connection reset by peer"),
        (Reply(b""), NotACvmPage, "empty"),
        (Reply(daily()[:-40]), NotACvmPage, "cut short"),
        (Reply(b"\0" * 20_001), SourceError, r"longer than 20,000 bytes \(SCRAPERKIT_MAX_PAGE_BYTES\)"),
    ],
)
def test_any_other_response_is_an_error_with_the_address(reply, error, says):
    settings = Settings(http_retries=0, max_page_bytes=20_000)
    with served(lambda _: reply, settings) as (odd, source):
        with pytest.raises(error, match=says) as caught:
            source.fetch(request())
        assert type(caught.value) is error
        assert caught.value.retryable == (error is not SourceError)
        assert caught.value.url.startswith(odd.url)


def test_an_endless_page_is_abandoned():
    with (
        served(lambda _: Reply(b"<p>" * 10_000, endless=True)) as (_, source),
        pytest.raises(SourceError, match="longer than 8,000,000 bytes"),
    ):
        source.fetch(request())


def test_a_slow_response_times_out():
    leave = threading.Event()

    def respond(_: Asked) -> str:
        leave.wait(300)
        return daily()

    settings = Settings(http_retries=0, read_timeout=0.2)
    with served(respond, settings) as (_, source):
        with pytest.raises(SiteUnavailable, match="reading timed out"):
            source.fetch(request())
        leave.set()


def test_a_refused_connection_is_an_error_after_all_retries():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        CvmPages(f"http://127.0.0.1:{port}", settings=Settings(http_retries=1)) as source,
        pytest.raises(SiteUnavailable, match="Connection refused"),
    ):
        source.fetch(request())


def test_errors_never_contain_passwords(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", f"http://proxy:hush1@127.0.0.1:{port}")
    with CvmPages("http://me:hush2@cvm.invalid/", settings=ONCE) as source:
        for call in (lambda: source.fetch(request()), lambda: source.find_fund(CNPJ)):
            with pytest.raises(SiteUnavailable, match="proxy is unreachable") as caught:
                call()
            error = caught.value
            assert "hush" not in f"{error}{error.url}{error.__cause__}{source!r}"
            assert error.url.startswith("http://cvm.invalid/")


# --- threads, and closing ---


def test_close_ends_the_connections_of_all_threads():
    barrier, at_once = threading.Barrier(4), threading.Barrier(3)  # all ask at once: no connection serves two

    def work(source: CvmPages, pk: str) -> None:
        source.fetch(request(pk=pk))
        barrier.wait(60)  # all have a connection
        barrier.wait(60)  # the source is closed

    with served(lambda asked: (at_once.wait(60), daily(("01/2022",), asked.form.get("ddComptc")))[1]) as (odd, source):
        threads = [threading.Thread(target=work, args=(source, pk)) for pk in "123"]
        for thread in threads:
            thread.start()
        barrier.wait(60)
        source.close()
        source.close()
        # The server sees each connection end while the client threads are still running.
        assert all(odd.ended.acquire(timeout=60) for _ in threads)
        assert all(thread.is_alive() for thread in threads)
        barrier.wait(60)
        for thread in threads:
            thread.join()
        with pytest.raises(SiteUnavailable, match="closed here") as caught:
            source.fetch(request())
        assert caught.value.url.startswith(odd.url)


def test_close_ends_the_wait_between_retries():
    seen, caught = threading.Event(), []

    def respond(_: Asked) -> Reply:
        seen.set()
        return Reply(status=503, headers={"Retry-After": "500"})

    def work(source: CvmPages) -> None:
        try:
            source.fetch(request())
        except SiteUnavailable as error:
            caught.append(error)

    with served(respond, Settings(http_retries=3)) as (odd, source):
        thread = threading.Thread(target=work, args=(source,))
        thread.start()
        assert seen.wait(60)
        source.close()
        thread.join(60)
        assert not thread.is_alive()
        assert "closed here" in str(caught[0])
        assert caught[0].url.startswith(odd.url)


def test_a_thread_that_ends_leaves_its_connection_to_the_next():
    with served(lambda _: daily()) as (odd, source):
        for _ in range(3):
            thread = threading.Thread(target=source.fetch, args=(request(),))
            thread.start()
            thread.join()
        source.close()
        assert odd.ended.acquire(timeout=60)
    assert not odd.ended.acquire(blocking=False), "it was one connection for all three"


def test_an_unclosed_source_leaves_no_connection_open():
    with Odd(lambda _: daily()) as odd:
        CvmPages(odd.url, settings=ONCE).fetch(request())
        gc.collect()
        assert odd.ended.acquire(timeout=60)


def test_threads_and_funds_do_not_mix():
    def respond(asked: Asked) -> str:
        pk = asked.query["PK_PARTIC"]
        months = tuple(f"{month:02d}/2022" for month in range(12, 0, -1))
        shown = asked.form.get("ddComptc", months[0])
        assert asked.form.get("__VIEWSTATE", pk) == pk
        return daily(months, shown, state=pk, quota=f"{pk},{shown[:2]}")

    jobs = [request(f"{month:02d}/2022", pk=str(pk)) for pk in range(1, 9) for month in range(1, 13)]
    with served(respond) as (odd, source), ThreadPoolExecutor(8) as pool:
        for job, quotes in zip(jobs, pool.map(source.fetch, jobs), strict=True):
            (quote,) = quotes
            assert quote.quota == float(f"{job.fund_pk}.{job.month_year[:2]}")
            assert quote.date == dt.date(2022, job.month, 3)
        assert odd.kinds.count("GET CPublicaInfDiario.aspx") == 8
        assert len(odd.asked) <= len(jobs) + 8
