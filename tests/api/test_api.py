"""The pricer's routes over HTTP: publishing, reading, watching, cancelling and retrying."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import io
import json
from decimal import Decimal

import pytest
from support.fakes import FUND, FakeSite, GatedSite
from support.pricer import CNPJ, FORMATTED, LETTERS, STRANGER, FakeSearch, Service, fields, pricer, service, store
from support.waiting import wait_until

import scraperkit as sk
from scraperkit.api import create_app
from scraperkit.api.quotes import buys, exact, plain
from scraperkit.config import Settings
from scraperkit.errors import NotACvmPage, PageChanged, SiteUnavailable
from scraperkit.models import DailyQuote, Fund, Month, today
from scraperkit.timeseries.rows import RowReader

DONE_FORMATTED = "99.101.011/0001-25"
DONE = "99101011000125"  # only the quarter of this fund is published
QUARTER = {"document": FORMATTED, "from_date": "01/2022", "to_date": "03/2022"}


@pytest.fixture(scope="module")
def running(redis_url):
    """A pricer and the offline site, each a process, for the whole module."""
    with service(redis_url) as found:
        yield found


@pytest.fixture
def api(running: Service):
    return running.client


@pytest.fixture
def done(running: Service, redis):
    """Quotes of a quarter, published through the API and scraped."""
    with sk.CvmPages(running.site_url) as source:
        with sk.Subscriber(redis, source, threads=4, namespace=running.namespace):
            published = running.client.post("/v1/funds", json=QUARTER | {"document": DONE}).json()
            batch = sk.Publisher(redis, namespace=running.namespace).batch(published["batch_id"])
            assert batch.wait(60, progress=False).done == 3
    return published


@pytest.fixture
def own(redis_url, namespace):
    """A pricer in a thread, with a source that the test controls."""
    source = FakeSearch({CNPJ: FUND})
    with pricer(redis_url, namespace, source) as client:
        client.source = source
        yield client


class TestPublishing:
    def test_a_fund_is_looked_up_and_its_months_published(self, api, running, redis):
        response = api.post("/v1/funds", json={**QUARTER, "from_date": "11/2022", "to_date": "12/2022"})
        assert response.status_code == 202
        told = response.json()
        assert told["count"] == 2
        assert told["receivers"] is None
        assert told["fund"]["document"] == CNPJ
        assert told["fund"]["formatted"] == FORMATTED
        assert told["fund"]["pk"] == "132922"
        assert told["fund"]["name"] == "Fundo Exemplo Aroeira FIC FIA"
        batch = sk.Publisher(redis, namespace=running.namespace).batch(told["batch_id"])
        assert list(batch.jobs()["month"]) == ["11/2022", "12/2022"]
        for name in ("fund", "prices", "batch"):
            assert api.get(told["links"][name]).status_code == 200, name
        with api.stream("GET", told["links"]["events"]) as events:
            assert next(events.iter_lines()) == "event: progress"

    @pytest.mark.parametrize(
        "written", [CNPJ, FORMATTED, "18993924/0001-00", "18 993 924 0001 00", LETTERS, "ex.emp.l0a/0001-00"]
    )
    def test_a_cnpj_may_have_any_punctuation_and_letters(self, api, written):
        response = api.post("/v1/funds", json={"document": written, "from_date": "01/2022", "to_date": "01/2022"})
        assert response.status_code == 202, response.text
        assert response.json()["fund"]["document"] in (CNPJ, LETTERS)

    def test_without_dates_all_months_of_the_fund_are_published(self, api):
        months = (today().year - 2021) * 12 + today().month
        assert api.post("/v1/funds", json={"document": CNPJ}).json()["count"] == months
        from_2022 = api.post("/v1/funds", json={"document": CNPJ, "from_date": "01/2022"}).json()
        assert from_2022["count"] == months - 12

    def test_no_month_is_published_after_a_fund_ended(self, api):
        told = api.post("/v1/funds", json={"document": "99101014000169"}).json()
        assert (told["count"], told["fund"]["ended_on"]) == (20, "2022-08-31")
        response = api.post("/v1/funds", json={"document": "99101014000169", "from_date": "09/2022"})
        assert fields(response) == ["from_date"]
        assert "it has months from 2021-01 to 2022-08" in response.json()["detail"]

    def test_the_same_months_are_the_same_batch_unless_forced(self, api):
        first, again, forced = (api.post("/v1/funds", json=QUARTER | more).json() for more in ({}, {}, {"force": True}))
        assert first["batch_id"] == again["batch_id"] != forced["batch_id"]

    def test_both_notations_of_months_give_the_same_batch(self, api):
        iso = QUARTER | {"from_date": "2022-01", "to_date": "2022-03"}
        mixed = QUARTER | {"to_date": "2022-03"}
        told = [api.post("/v1/funds", json=order).json()["batch_id"] for order in (QUARTER, iso, mixed)]
        assert len(set(told)) == 1

    def test_pubsub_without_listeners_reports_0_receivers(self, own, redis, namespace):
        response = own.post("/v1/funds", json=QUARTER | {"delivery": "pubsub"})
        assert response.status_code == 202
        assert response.json()["receivers"] == 0
        assert redis.exists(f"{namespace}:jobs") == 0

    def test_each_of_several_documents_has_its_own_result_in_the_order_sent(self, api):
        documents = [STRANGER, CNPJ, "nonsense", LETTERS]
        response = api.post("/v1/funds", json={"documents": documents, "from_date": "01/2022", "to_date": "02/2022"})
        assert response.status_code == 207
        told = response.json()
        assert [result["document"] for result in told["results"]] == documents
        assert [result["status"] for result in told["results"]] == [404, 202, 422, 202]
        assert (told["published"], told["failed"]) == (2, 2)
        unknown, known, nonsense, _ = told["results"]
        assert unknown["published"] is None
        assert unknown["problem"]["status"] == 404
        assert nonsense["problem"]["errors"][0]["field"] == "document"
        assert known["problem"] is None
        assert known["published"]["count"] == 2

    def test_several_documents_that_all_succeed_return_202(self, api):
        response = api.post("/v1/funds", json={"documents": [CNPJ, LETTERS], "from_date": "01/2022"})
        assert response.status_code == 202
        assert response.json()["failed"] == 0

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "document"),
            ({"document": "18.993.924/0001-01"}, "document"),
            ({"document": 18993924000100}, "document"),
            ({"document": CNPJ, "from_date": "13/2022"}, "from_date"),
            ({"document": CNPJ, "from_date": "2022-1"}, "from_date"),
            ({"document": CNPJ, "from_date": "2022-05", "to_date": "04/2022"}, "to_date"),
            ({"document": CNPJ, "from_date": "05/2022", "to_date": "04/2022"}, "to_date"),
            ({"document": CNPJ, "from_date": "01/1999", "to_date": "12/1999"}, "from_date"),
            ({"document": CNPJ, "from_date": "01/2090"}, "from_date"),
            ({"document": CNPJ, "delivery": "post"}, "delivery"),
            ({"document": CNPJ, "force": "perhaps"}, "force"),
            ({"document": CNPJ, "documents": [CNPJ]}, "document"),
            ({"document": CNPJ, "until": "12/2022"}, "until"),
            ({"documents": []}, "documents"),
            ({"documents": [CNPJ] * 101}, "documents"),
            ([CNPJ], "body"),
            ("{", "body"),
        ],
    )
    def test_an_invalid_field_returns_422_and_is_named(self, api, body, field):
        response = api.post("/v1/funds", content=body if isinstance(body, str) else json.dumps(body), headers=_JSON)
        assert response.status_code == 422
        assert any(field in name for name in fields(response)), response.text

    def test_a_fund_unknown_to_the_site_returns_404(self, api):
        response = api.post("/v1/funds", json={"document": STRANGER})
        assert response.status_code == 404
        assert fields(response) == ["document"]
        assert "11.222.333/0001-81" in response.json()["detail"]

    def test_a_fund_without_a_known_start_needs_from_date(self, own):
        own.source.funds[CNPJ] = Fund(CNPJ, "132922")
        assert fields(own.post("/v1/funds", json={"document": CNPJ})) == ["from_date"]
        assert own.post("/v1/funds", json=QUARTER).status_code == 202

    @pytest.mark.parametrize("kind", [SiteUnavailable, PageChanged, NotACvmPage])
    def test_a_site_that_is_down_or_has_changed_returns_502(self, own, kind):
        own.source.error = kind("the table is not as known", "http://site.example/page")
        response = own.post("/v1/funds", json={"document": CNPJ})
        assert response.status_code == 502
        assert fields(response) == []
        assert ("Retry-After" in response.headers) == (kind is SiteUnavailable)

    def test_a_look_up_is_cached_unless_forced(self, own):
        for _ in range(3):
            assert own.post("/v1/funds", json=QUARTER).status_code == 202
        assert own.source.asked == [FORMATTED]
        own.post("/v1/funds", json=QUARTER | {"force": True})
        assert own.source.asked == [FORMATTED] * 2


_JSON = {"Content-Type": "application/json"}


class TestCards:
    @pytest.mark.parametrize("written", [DONE, "99.101.011%2F0001-25", DONE_FORMATTED])
    def test_a_card_shows_which_days_are_stored(self, api, done, written):
        card = api.get(f"/v1/funds/{written}").json()
        assert card["document"] == DONE
        assert (card["first_day"], card["last_day"], card["days"]) == ("2022-01-03", "2022-03-31", 62)
        assert (card["started_on"], card["status"]) == ("2021-01-04", "EM FUNCIONAMENTO NORMAL")

    def test_the_list_comes_in_pages(self, own, redis, namespace):
        cnpjs = [CNPJ, "99101011000125", LETTERS]
        for cnpj in cnpjs:
            store(redis, namespace, [DailyQuote(cnpj, dt.date(2022, 1, 3), 1.5)], Fund(cnpj, "1", "Fundo <b>"))
        assert [card["document"] for card in own.get("/v1/funds").json()["funds"]] == cnpjs
        first = own.get("/v1/funds?limit=2").json()
        assert [card["document"] for card in first["funds"]] == cnpjs[:2]
        rest = own.get(first["next"]).json()
        assert [card["document"] for card in rest["funds"]] == cnpjs[2:]
        assert rest["next"] is None
        assert rest["funds"][0]["name"] == "Fundo <b>"

    def test_nothing_stored_is_an_empty_list(self, own):
        assert own.get("/v1/funds").json() == {"funds": [], "next": None}

    @pytest.mark.parametrize("tail", ["", "/prices"])
    def test_a_fund_with_nothing_stored_returns_404(self, api, tail):
        response = api.get(f"/v1/funds/{STRANGER}{tail}")
        assert response.status_code == 404
        assert fields(response) == ["document"]

    @pytest.mark.parametrize(
        "path", ["/v1/funds/x", "/v1/funds/x/prices", "/v1/funds/quotes/x", f"/v1/funds/{'1' * 99}"]
    )
    def test_an_invalid_cnpj_returns_422(self, api, path):
        response = api.get(path)
        assert response.status_code == 422
        assert fields(response) == ["document"]


class TestPrices:
    def test_json_prices_equal_those_of_the_reader(self, api, done, running, redis):
        told = api.get(f"/v1/funds/{DONE_FORMATTED}/prices").json()
        assert (told["document"], told["metric"], told["unit"]) == (DONE, "quota", "R$")
        read = sk.TimeSeriesReader(redis, running.namespace).prices(DONE)[DONE]
        assert [(row["date"], row["value"]) for row in told["prices"]] == [
            (f"{day:%Y-%m-%d}", value) for day, value in read.items()
        ]

    def test_csv_shows_counts_as_whole_numbers(self, api, done):
        response = api.get(
            f"/v1/funds/{DONE}/prices", params={"format": "csv", "metric": "holders", "start": "2022-03"}
        )
        assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
        rows = list(csv.reader(io.StringIO(response.text)))
        assert rows[0] == ["date", "holders"]
        assert rows[1][0] == "2022-03-02"
        assert all(value.isdecimal() for _, value in rows[1:])

    @pytest.mark.parametrize(
        ("window", "first", "last", "count"),
        [
            ({"start": "2022-02-01", "end": "2022-02-02"}, "2022-02-01", "2022-02-02", 2),
            ({"start": "2022-02", "end": "2022-02"}, "2022-02-01", "2022-02-25", 19),
            ({"end": "2022-01"}, "2022-01-03", "2022-01-31", 21),
        ],
    )
    def test_start_and_end_are_included(self, api, done, window, first, last, count):
        days = [row["date"] for row in api.get(f"/v1/funds/{DONE}/prices", params=window).json()["prices"]]
        assert (days[0], days[-1], len(days)) == (first, last, count)

    @pytest.mark.parametrize("window", [{"end": "1960-01"}, {"start": "2050-01"}])
    @pytest.mark.parametrize("form", ["json", "csv"])
    def test_a_window_without_quotes_returns_an_empty_list(self, api, done, window, form):
        response = api.get(f"/v1/funds/{DONE}/prices", params=window | {"format": form})
        assert response.status_code == 200
        assert response.json()["prices"] == [] if form == "json" else response.text == "date,quota\n"

    def test_a_published_fund_without_quotes_returns_an_empty_list(self, own):
        own.post("/v1/funds", json=QUARTER)
        assert own.get(f"/v1/funds/{CNPJ}/prices").json()["prices"] == []

    @pytest.mark.parametrize(
        ("params", "field"),
        [
            ({"start": "01/2022"}, "start"),
            ({"end": "2022-02-30"}, "end"),
            ({"start": "2022-02", "end": "2022-01"}, "end"),
            ({"metric": "price"}, "metric"),
            ({"format": "xml"}, "format"),
            ({"strat": "2022-01"}, "strat"),
        ],
    )
    def test_an_invalid_field_returns_422_and_is_named(self, api, params, field):
        response = api.get(f"/v1/funds/{CNPJ}/prices", params=params)
        assert response.status_code == 422
        assert fields(response) == [field]

    def test_a_long_series_arrives_complete_in_chunks(self, own, redis, namespace):
        quotes = [DailyQuote(CNPJ, dt.date(1990, 1, 1) + dt.timedelta(days=day), 1 + day / 7) for day in range(5_000)]
        store(redis, namespace, quotes)
        with own.stream("GET", f"/v1/funds/{CNPJ}/prices") as response:
            assert response.headers["Transfer-Encoding"] == "chunked"
            assert "Content-Length" not in response.headers
            told = json.loads("".join(response.iter_text()))
        assert [row["value"] for row in told["prices"]] == [quote.quota for quote in quotes]

    def test_redis_is_read_only_as_fast_as_the_client_reads(self, redis, redis_url, namespace, monkeypatch):
        days = (dt.date(1990, 1, 1) + dt.timedelta(days=day) for day in range(5_000))
        store(redis, namespace, [DailyQuote(CNPJ, day, 1.5) for day in days])
        reads = []
        read = RowReader.samples
        monkeypatch.setattr(RowReader, "samples", lambda *given: reads.append(given) or read(*given))
        app = create_app(Settings.load(namespace=namespace), redis_url=redis_url, source=FakeSearch())
        sent = asyncio.run(_first_chunk(app, f"/v1/funds/{CNPJ}/prices"))
        assert sent.startswith(b'{"document"')
        assert len(reads) == 1, "read ahead of the client"


async def _first_chunk(app, path: str) -> bytes:
    """Call the app directly, as a client that reads only the first bytes of the response; return these."""
    taken: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    host = [(b"host", b"127.0.0.1")]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": host}
    scope |= {"asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "server": ("127.0.0.1", 80)}

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        if message.get("body"):
            taken.set_result(message["body"])
            await asyncio.Event().wait()

    async with app.router.lifespan_context(app):
        asked = asyncio.create_task(app(scope, receive, send))
        first = await asyncio.wait_for(taken, 60)
        asked.cancel()
        await asyncio.wait([asked])
    return first


class TestQuotes:
    @pytest.mark.parametrize("date", ["2022-02-25", "25/02/2022"])
    def test_a_quote_is_the_quota_of_the_requested_day(self, api, done, redis, running, date):
        told = api.get("/v1/funds/quotes/99.101.011%2F0001-25", params={"date": date}).json()
        read = sk.TimeSeriesReader(redis, running.namespace).prices(DONE).loc["2022-02-25", DONE]
        assert (told["asked_for"], told["day"], told["is_day_asked_for"]) == ("2022-02-25", "2022-02-25", True)
        assert told["quota"] == str(read)
        assert told["investment"] is None
        assert told["quotas"] is None

    def test_a_day_without_a_quota_returns_the_last_one_before_and_its_day(self, api, done):
        told = api.get(f"/v1/funds/quotes/{DONE_FORMATTED}", params={"date": "01/03/2022"}).json()  # Carnival Tuesday
        assert (told["asked_for"], told["day"], told["is_day_asked_for"]) == ("2022-03-01", "2022-02-25", False)

    def test_without_a_date_the_newest_quota_is_returned(self, api, done):
        assert api.get(f"/v1/funds/quotes/{DONE}").json()["day"] == "2022-03-31"

    def test_the_quotas_that_an_investment_buys_are_exact(self, own, redis, namespace):
        store(redis, namespace, [DailyQuote(CNPJ, dt.date(2022, 1, 3), 3.39654813)])
        response = own.get(f"/v1/funds/quotes/{CNPJ}", params={"date": "03/01/2022", "investment": "1000.50"})
        told = json.loads(response.text)
        assert told["quota"] == "3.39654813"
        assert told["investment"] == "1000.50"
        quota, quotas, left = (Decimal(told[name]) for name in ("quota", "quotas", "cash_left"))
        assert quotas * quota + left == Decimal("1000.50")
        assert 0 <= left < quota * Decimal("1e-8")
        assert quotas.as_tuple().exponent == -8
        assert "rounded down" in told["rounding"]

    @pytest.mark.parametrize(
        ("money", "quota", "quotas", "left"),
        [
            ("1000", 3.0, "333.33333333", "0.00000001"),
            ("0.01", 1e9, "0.00000000", "0.010000000"),
            ("1000000000000", 1e-08, "100000000000000000000.00000000", "0"),
            ("10", 0.1, "100.00000000", "0"),
        ],
    )
    def test_huge_tiny_and_binary_fractions_lose_no_digit(self, money, quota, quotas, left):
        bought, rest = buys(Decimal(money), exact(quota))
        assert plain(bought) == quotas
        assert rest == Decimal(left)

    def test_a_day_before_the_first_quota_returns_404(self, api, done):
        for date in ("02/01/2022", "31/12/1969"):
            response = api.get(f"/v1/funds/quotes/{DONE}", params={"date": date})
            assert response.status_code == 404
            assert fields(response) == ["date"]

    def test_a_quote_of_an_unknown_fund_returns_404(self, api):
        assert fields(api.get(f"/v1/funds/quotes/{STRANGER}")) == ["document"]

    def test_an_investment_at_a_quota_of_0_returns_422(self, own, redis, namespace):
        store(redis, namespace, [DailyQuote(CNPJ, dt.date(2022, 1, 3), 0.0)])
        response = own.get(f"/v1/funds/quotes/{CNPJ}", params={"investment": "10"})
        assert response.status_code == 422
        assert fields(response) == ["investment"]

    @pytest.mark.parametrize(
        ("params", "field"),
        [
            ({"date": "2022-01"}, "date"),
            ({"date": "2022-02-30"}, "date"),
            ({"date": "20220103"}, "date"),
            ({"date": "30/02/2022"}, "date"),
            ({"investment": "1.000,50"}, "investment"),
            ({"investment": "-1"}, "investment"),
            ({"investment": "0"}, "investment"),
            ({"investment": "NaN"}, "investment"),
            ({"investment": "1e9"}, "investment"),
            ({"investment": "1000000000001"}, "investment"),
            ({"amount": "1"}, "amount"),
        ],
    )
    def test_an_invalid_field_returns_422_and_is_named(self, api, params, field):
        response = api.get(f"/v1/funds/quotes/{CNPJ}", params=params)
        assert response.status_code == 422
        assert fields(response) == [field]


class TestBatches:
    def test_a_report_shows_progress_and_failures(self, own, redis, namespace):
        def broken(request):
            if request.month_year == "02/2022":
                raise PageChanged("the heading is not as known")
            return []

        batch_id = own.post("/v1/funds", json=QUARTER).json()["batch_id"]
        path = f"/v1/batches/{batch_id}"
        assert own.get(path).json()["pending"] == 3
        with sk.Subscriber(redis, FakeSite(broken), threads=2, namespace=namespace):
            assert wait_until(lambda: own.get(path).json()["finished"])
        told = own.get(path).json()
        assert (told["published"], told["done"], told["failed"], told["pending"]) == (3, 2, 1, 0)
        (failure,) = told["failures"]
        assert (failure["document"], failure["month"], failure["state"]) == (CNPJ, "2022-02", "failed")
        assert "the heading is not as known" in failure["error"]

    def test_events_report_each_change_until_the_batch_is_finished(self, own, redis, namespace):
        batch_id = own.post("/v1/funds", json=QUARTER).json()["batch_id"]
        site = GatedSite()
        with own.stream("GET", f"/v1/batches/{batch_id}/events") as response:
            assert response.headers["Content-Type"].startswith("text/event-stream")
            assert response.headers["Cache-Control"] == "no-store"
            lines = response.iter_lines()
            assert next(lines) == "event: progress"
            assert json.loads(next(lines).removeprefix("data: "))["done"] == 0
            with sk.Subscriber(redis, site, threads=1, namespace=namespace):
                site.gate.set()
                rest = list(lines)
        assert rest[-3] == "event: finished"
        last = json.loads(rest[-2].removeprefix("data: "))
        assert (last["done"], last["finished"]) == (3, True)

    def test_events_of_a_finished_batch_end_at_once(self, api, done):
        lines = api.get(f"/v1/batches/{done['batch_id']}/events").text.splitlines()
        assert lines[0] == "event: finished"
        assert len(lines) == 3

    def test_the_events_of_a_deleted_batch_end_with_an_error(self, own, redis, namespace):
        batch_id = own.post("/v1/funds", json=QUARTER).json()["batch_id"]
        with own.stream("GET", f"/v1/batches/{batch_id}/events") as response:
            lines = response.iter_lines()
            assert next(lines) == "event: progress"
            redis.delete(f"{namespace}:batch:{batch_id}")
            rest = list(lines)
        assert "event: error" in rest
        assert json.loads(rest[-2].removeprefix("data: "))["status"] == 404

    def test_a_quiet_batch_is_kept_alive_by_a_heartbeat(self, own, monkeypatch):
        monkeypatch.setattr("scraperkit.api.batches.HEARTBEAT", 0.01)
        batch_id = own.post("/v1/funds", json=QUARTER).json()["batch_id"]
        with own.stream("GET", f"/v1/batches/{batch_id}/events") as response:
            assert any(line.startswith(":") for line in response.iter_lines())

    def test_delete_cancels_only_jobs_that_have_not_begun(self, own, redis, namespace):
        site = GatedSite()
        settings = Settings.load(prefetch=0)
        batch_id = own.post("/v1/funds", json=QUARTER).json()["batch_id"]
        path = f"/v1/batches/{batch_id}"
        with sk.Subscriber(redis, site, threads=1, namespace=namespace, settings=settings):
            assert site.inside.acquire(timeout=60)
            told = own.delete(path).json()
            assert told["now_cancelled"] == told["cancelled"] == 2
            assert told["pending"] == 1
            site.gate.set()
            assert wait_until(lambda: own.get(path).json()["finished"])
        assert (own.get(path).json()["done"], own.delete(path).json()["now_cancelled"]) == (1, 0)
        assert site.asked.total() == 1

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    def test_an_unknown_batch_returns_404_and_an_invalid_id_422(self, api, method):
        for batch_id, status in ((FUND.months("2022-01")[0].message_id, 404), ("x", 422), ("*", 422)):
            response = api.request(method, f"/v1/batches/{batch_id}")
            assert response.status_code == status
            assert fields(response) == ["batch_id"]

    def test_events_of_an_unknown_batch_return_404(self, api):
        assert api.get(f"/v1/batches/{FUND.months('2022-01')[0].message_id}/events").status_code == 404


class TestDeadLetters:
    @pytest.fixture
    def dead(self, own, redis, namespace):
        """Return a batch of three months that failed permanently."""

        def broken(request):
            raise PageChanged(f"no table in {request.month_year}")

        batch_id = own.post("/v1/funds", json=QUARTER).json()["batch_id"]
        with sk.Subscriber(redis, FakeSite(broken), threads=1, namespace=namespace):
            assert wait_until(lambda: own.get(f"/v1/batches/{batch_id}").json()["failed"] == 3)
        return batch_id

    def test_dead_letters_are_listed_in_pages_with_their_errors(self, own, dead):
        told = own.get("/v1/dead").json()
        assert [letter["document"] for letter in told["dead"]] == [CNPJ] * 3
        letter = told["dead"][0]
        assert letter["error"].startswith("PageChanged: no table in ")
        assert json.loads(letter["message"])["month_year"] == str(Month.parse_iso(letter["month"]))
        assert dt.datetime.fromisoformat(letter["died_at"]).tzinfo is not None
        first = own.get("/v1/dead?limit=2").json()
        assert first["dead"] + own.get(first["next"]).json()["dead"] == told["dead"]

    def test_a_retried_dead_letter_is_pending_in_its_batch_again(self, own, dead, redis, namespace):
        letter = own.get("/v1/dead").json()["dead"][0]
        response = own.post(f"/v1/dead/{letter['id']}/retry")
        assert (response.status_code, response.json()) == (202, {"retried": 1})
        assert len(own.get("/v1/dead").json()["dead"]) == 2
        assert own.get(f"/v1/batches/{dead}").json()["pending"] == 1
        again = own.post(f"/v1/dead/{letter['id']}/retry")
        assert again.status_code == 404
        assert fields(again) == ["letter_id"]

    def test_an_invalid_letter_id_returns_422(self, own):
        assert fields(own.post("/v1/dead/x/retry")) == ["letter_id"]
        assert fields(own.get("/v1/dead?after=(")) == ["after"]
        assert fields(own.get("/v1/dead?limit=0")) == ["limit"]
        assert own.get("/v1/dead").json() == {"dead": [], "next": None}
