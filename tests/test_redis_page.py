"""docs/redis.md explains every key that the kit creates, and no other key."""

from __future__ import annotations

import datetime as dt
import json
import re
import threading
from typing import NamedTuple

import pytest
from support.fakes import FUND, FakeSite, GatedSite, months, one_quote
from support.pricer import CNPJ, pricer
from support.tree import ROOT
from support.waiting import wait_until

from scraperkit.config import Settings
from scraperkit.connection import connect
from scraperkit.embedded.server import EmbeddedServer
from scraperkit.engine.registry import WorkerCard
from scraperkit.keys import Keys
from scraperkit.models import DailyQuote, Fund, Month, ScrapeRequest, Stored
from scraperkit.publisher import Publisher
from scraperkit.replica import Replica
from scraperkit.research.memory import Memory
from scraperkit.sources import CvmPages
from scraperkit.sources.politeness import Politeness
from scraperkit.sources.rates.collect import collect
from scraperkit.sources.rates.known import KNOWN_RATES
from scraperkit.sources.rates.responses import Span
from scraperkit.subscriber import Subscriber
from scraperkit.timeseries.news import on_stored
from scraperkit.timeseries.store import SeriesStore

PAGE = (ROOT / "docs" / "redis.md").read_text(encoding="utf-8")
NAMESPACE = "scraperkit"
CNPJ_OF_ANOTHER = "99101011000125"


# Names contain no colon.
NAMES = dict.fromkeys(("<name>", "<source>", "<subclass>"), "[A-Za-z0-9_.-]+")


class Row(NamedTuple):
    """A line of the page's tables of keys."""

    key: str
    kind: str
    fields: frozenset[str]
    expires: bool

    def matches(self, key: str) -> bool:
        pattern = re.escape(self.key).replace(re.escape("{ns}"), NAMESPACE)
        for place, text in ({"<cnpj>": "[0-9A-Z]{14}", "<metric>": "[a-z_]+", "<id>": "[0-9a-f-]{36}"} | NAMES).items():
            pattern = pattern.replace(re.escape(place), text)
        return re.fullmatch(re.sub(r"<[a-z\\ -]+>", ".+", pattern), key) is not None


def rows() -> list[Row]:
    found = []
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 6:
            key, kind, fields, _, _, expires = cells
            found.append(Row(key.strip("`"), kind, frozenset(re.findall(r"`([^`]+)`", fields)), expires != "never"))
    return found


class Files(FakeSite):
    """A source with its own name."""

    name = "files"


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """Yield a server on which every feature was used, with a worker still running."""
    with EmbeddedServer(tmp_path_factory.mktemp("redis")) as server, connect(server.url) as redis:
        use_everything(redis, server.url)
        gated = GatedSite()
        news = on_stored(redis, print, namespace=NAMESPACE)
        with news, Subscriber(redis, [gated, Files()], threads=1, namespace=NAMESPACE):
            Publisher(redis, delivery="pubsub", namespace=NAMESPACE).publish(months(2, year=2023))
            assert gated.inside.acquire(timeout=20)
            Publisher(redis, namespace=NAMESPACE).publish(months(3, year=2024))
            yield redis
            gated.gate.set()


def use_everything(redis, url):
    settings = Settings.load(namespace=NAMESPACE, backoff=3600.0, backoff_limit=3600.0, max_attempts=2)
    with Replica.start() as replica, CvmPages(replica.url, settings=settings) as source:
        fund = source.find_fund(FUND.cnpj)
        # A figure that the site will restate.
        SeriesStore(redis, NAMESPACE).write([DailyQuote(fund.cnpj, dt.date(2022, 1, 3), quota=1.0)])
        with Subscriber(redis, source, threads=2, settings=settings):
            Publisher(redis, namespace=NAMESPACE).publish(fund.months("2022-01", "2022-02")).wait(60)
            batch = Publisher(redis, delivery="pubsub", namespace=NAMESPACE).publish(fund.months("2022-03", "2022-04"))
            batch.wait(60)
            never = ScrapeRequest(document=fund.cnpj, fund_pk=fund.pk, month_year="01/2010")
            # The page of another fund is a dead letter at once.
            wrong = ScrapeRequest(document=CNPJ_OF_ANOTHER, fund_pk=fund.pk, month_year="01/2022")
            status = Publisher(redis, namespace=NAMESPACE).publish([never, wrong]).wait(60)
            assert (status.not_offered, status.failed) == (1, 1)

    def fail(request):
        if request.month == 1:
            raise OSError("reset by peer")
        return one_quote(request)

    keys = Keys(NAMESPACE)
    batch = Publisher(redis, namespace=NAMESPACE).publish(months(2, year=2021))
    ((_, entries),) = redis.xreadgroup(keys.group, "by hand", {keys.jobs: ">"}).items()
    redis.xclaim(keys.jobs, keys.group, "by hand", 0, [entry for entry, _ in entries[0]], idle=60_000)
    with Subscriber(redis, FakeSite(fail), threads=1, settings=settings):
        assert wait_until(lambda: redis.zcard(f"{NAMESPACE}:retries") == batch.status().done == 1)
    assert set(batch.events()["taken_from"]) == {"by hand"}
    with Subscriber(redis, Files(fail), threads=1, settings=settings):
        Publisher(redis, namespace=NAMESPACE).publish(Fund(FUND.cnpj, source="files").months("2021-01", "2021-02"))
        assert wait_until(lambda: redis.zcard(f"{NAMESPACE}:retries:files") == 1)
    Memory(redis, Keys(NAMESPACE)).note_names({"Aroeira": FUND.cnpj})
    Memory(redis, Keys(NAMESPACE, "files")).note_names({"Aroeira": FUND.cnpj})
    Memory(redis, Keys(NAMESPACE)).note_not_offered([(FUND.cnpj, Month(2010, 1))])
    SeriesStore(redis, NAMESPACE).write([DailyQuote(FUND.cnpj, dt.date(2022, 1, 3), 1.0, subclass="A1")])
    Publisher(redis, namespace=NAMESPACE).publish(months(1, year=2025)).cancel()

    politeness = Politeness("https://site.example/", Settings.load(breaker_failures=1, breaker_pause=0.01, rate=0.01))
    politeness.share(redis)
    politeness.heed(100.0)
    politeness.failed("HTTP 500")
    assert politeness.wait(threading.Event()), "it is this fetch's turn to try the site again"
    with pricer(url, NAMESPACE, api_keys="a-key-of-this-test", api_rate=600) as api:
        for _ in range(2):  # the first connects
            assert api.get(f"/v1/funds/{CNPJ}", headers={"X-API-Key": "a-key-of-this-test"}).status_code == 200
    with Replica.start() as replica:
        span = Span(dt.date(2022, 1, 3), dt.date(2022, 1, 31))
        collect(KNOWN_RATES["cdi"], span, redis, Settings.load(namespace=NAMESPACE, sgs_url=replica.sgs_url))


def test_the_page_explains_every_key_every_field_and_which_keys_expire(used):
    unseen = {row.key for row in rows() if row.kind != "channel"}
    for key in used.scan_iter():
        explained = [row for row in rows() if row.matches(key)]
        assert [row.kind for row in explained] == [used.type(key)], key
        (row,) = explained
        assert {shown(field) for field in fields_of(used, key)} <= row.fields, key
        assert (used.pttl(key) > 0) == row.expires, key
        unseen.discard(row.key)
    assert not unseen, "explained, but never seen"


def shown(field: str) -> str:
    """Return how the page writes a field that is an id or a month."""
    text = re.sub(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", "<message id>", field)
    text = re.sub(r"^(?:cvm_pages|files) (?=[0-9])", "<source> ", text)
    text = re.sub(r"(?:^|(?<=> ))[0-9]{4}-[0-9]{2}$", "YYYY-MM", text)
    return "<name>" if text == "aroeira" else text


def test_the_page_names_the_channels_and_the_fields_of_json_values(used):
    channels = {row.key.replace("{ns}", NAMESPACE) for row in rows() if row.kind == "channel"}
    assert channels == {*used.pubsub_channels()} == {"fund_parser", "scraperkit:stored"}
    told = {heading: set(re.findall(r"^- `([a-z_]+)`", text, flags=re.M)) for heading, text in sections().items()}
    (card,) = [used.get(f"{NAMESPACE}:worker:{name}") for name in used.zrange(f"{NAMESPACE}:workers", 0, -1)]
    assert told["A piece of news"] == set(Stored._fields)
    assert told["The worker card"] == json.loads(card).keys() == set(WorkerCard.__dataclass_fields__)
    events = [json.loads(fields["event"]) for _, fields in used.xrange(f"{NAMESPACE}:events")]
    assert told["An event"] == set().union(*events)


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.*)$", PAGE, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def fields_of(redis, key: str) -> set[str]:
    match redis.type(key):
        case "hash":
            return set(redis.hkeys(key))
        case "stream":
            return set().union(*(fields for _, fields in redis.xrange(key)))
        case "TSDB-TYPE":
            return set(redis.execute_command("TS.INFO", key)["labels"])
        case _:
            return set()
