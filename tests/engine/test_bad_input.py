"""Garbage from outside: always counted, never a dead worker, never a hang."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import math
from collections import Counter
from dataclasses import asdict
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fakes import FakeSite, months, one_quote
from support.waiting import wait_until
from support.workers import subscriber

from scraperkit.batch import Batch
from scraperkit.config import Settings
from scraperkit.engine.registry import WorkerCard, live_workers
from scraperkit.engine.worker import Worker
from scraperkit.health import Health
from scraperkit.models import DailyQuote
from scraperkit.publisher import Publisher

GOOD = {"document": "18993924000100", "fund_pk": "132922", "month_year": "12/2022"}
QUOTE = partial(DailyQuote, cnpj="18993924000100", date=dt.date(2021, 1, 4))
MEGABYTE = 1_000_000
CARD = WorkerCard("odd", "odd/1", "elsewhere", 1, 1, "both", 0.0, lease=60.0)
NASTY = [
    b"",
    b"\x00",
    b"\xff\xfe\xfd",
    b"null",
    b"-0",
    b"1e999",
    b"[" * MEGABYTE,
    b'{"a":' * 100_000,
    b'"' + b"x" * MEGABYTE,
    b"{" + b" " * MEGABYTE + b"}",
    json.dumps(GOOD | {"document": "1" * MEGABYTE}).encode(),
    json.dumps(GOOD | {"padding": "x" * MEGABYTE}).encode(),
    json.dumps(GOOD | {"published_at": 10**400}).encode(),
    json.dumps(GOOD).encode()[:-1],
    json.dumps(GOOD).encode("utf-16"),
    '{"document": "18993924000100", "fund_pk": "１２", "month_year": "12/2022"}'.encode(),
    b'{"document": "18993924000100", "fund_pk": NaN, "month_year": "12/2022"}',
]


@pytest.mark.parametrize("delivery", ["stream", "pubsub"])
def test_nasty_messages_become_dead_letters_and_work_continues(redis, namespace, keys, delivery):
    with subscriber(redis, namespace, FakeSite(), threads=2) as one:
        for raw in NASTY:
            if delivery == "stream":
                redis.xadd(keys.jobs, {"message": raw})
            else:
                redis.publish(keys.channel, raw)
        assert Publisher(redis, namespace=namespace, delivery=delivery).publish(months(3)).wait(60).done == 3
        assert wait_until(lambda: one.outcomes["dead"] == len(NASTY))
    assert one.outcomes == Counter(dead=len(NASTY), done=3)
    letters = [fields for _, fields in redis.xrange(keys.dead)]
    assert all(letter["error"].startswith("BadMessage: ") for letter in letters)
    assert max(len(letter["message"]) for letter in letters) < 70_000
    assert redis.xlen(keys.jobs) == 0


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
_almost = st.dictionaries(
    st.sampled_from([*GOOD, "message_id", "acked", "batch_id", "published_at"]), _json, max_size=7
)
_raw = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
    _json.map(lambda value: json.dumps(value).encode()),
    _almost.map(lambda fields: json.dumps(GOOD | fields).encode()),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(messages=st.lists(_raw, min_size=1, max_size=8))
def test_any_message_is_settled(redis, namespace, keys, messages):
    async def go() -> Counter[str]:
        given = Settings.load(namespace=namespace, threads=8)
        worker = Worker(redis, FakeSite(), delivery="stream", settings=given)
        await worker.start()
        for raw in messages:
            redis.xadd(keys.jobs, {"message": raw})
        try:
            return await worker.step()
        finally:
            await worker.close()

    outcomes = asyncio.run(go())
    assert outcomes.total() == len(messages)
    assert set(outcomes) <= {"done", "dead", "ignored"}
    assert redis.xlen(keys.jobs) == 0


class TestASourceThatReturnsGarbage:
    """A mistake in a user's source class fails only that job, and its error says what is wrong."""

    @pytest.mark.parametrize(
        ("response", "says"),
        [
            (None, "the source returned NoneType, not a list"),
            ([("18993924000100", 1.0)], "a list with tuple in it"),
            ([{"cnpj": "99101018000147"}], "quotes of '99101018000147' for 18993924000100"),
            ([{"date": "2021-01-04"}], "'2021-01-04' for a day, not a datetime.date"),
            ([{"date": None}], "'None' for a day, not a datetime.date"),
            ([{"date": dt.date(2021, 2, 1)}], "returned 2021-02-01 for 01/2021"),
            ([{"quota": "12,34"}], "quota on 2021-01-04: '12,34' is text"),
            ([{"holders": math.nan}], "holders on 2021-01-04: nan cannot be stored"),
        ],
    )
    def test_fails_its_job_with_an_error_that_says_what_is_wrong(self, redis, namespace, response, says):
        def fetch(request):
            if request.month == 2:
                return one_quote(request)
            return response and [QUOTE(**each) if isinstance(each, dict) else each for each in response]

        with subscriber(redis, namespace, FakeSite(fetch), threads=2, max_attempts=1):
            batch = Publisher(redis, namespace=namespace).publish(months(2))
            assert str(batch.wait(60)) == "2 published, 1 done, 1 failed"
        assert says in batch.failures()["error"].item()

    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    @given(st.lists(st.builds(DailyQuote, *[st.none() | st.integers() | st.text(max_size=9) | st.floats()] * 8)))
    def test_does_not_kill_the_worker(self, redis, namespace, quotes):
        async def go() -> Counter[str]:
            given = Settings.load(namespace=namespace, threads=1, max_attempts=1)
            worker = Worker(redis, FakeSite(lambda _: quotes), delivery="stream", settings=given)
            await worker.start()
            Publisher(redis, namespace=namespace).publish(months(1), force=True)
            try:
                return await worker.step()
            finally:
                await worker.close()

        assert asyncio.run(go()) == {"dead" if quotes else "done": 1}


class TestGarbageInTheKitsOwnKeys:
    @given(text=st.text(max_size=60) | _json.map(json.dumps))
    def test_text_that_is_not_a_card_is_not_read_as_a_worker(self, text):
        assert WorkerCard.read(text) is None

    @given(name=st.sampled_from(sorted(WorkerCard.__dataclass_fields__)), value=_json)
    def test_a_card_is_read_only_if_each_field_has_its_type(self, name, value):
        kind = WorkerCard.__dataclass_fields__[name].type
        kinds = {"str": str, "int": int, "float": int | float}[kind]
        fits = isinstance(value, kinds) and not isinstance(value, bool)
        card = WorkerCard.read(json.dumps(asdict(CARD) | {name: value}))
        assert (card is not None) == fits
        assert card is None or getattr(card, name) == value or value != value

    def test_invalid_cards_break_no_reader(self, redis, namespace, keys):
        unfit = {"name": 5, "instance": None, "host": [], "pid": "1", "threads": 1.5, "delivery": None, "source": 5}
        with subscriber(redis, namespace, FakeSite(), name="anna"):
            for name, value in unfit.items():
                redis.zadd(keys.workers, {f"odd-{name}": 1e12})
                redis.set(keys.worker(f"odd-{name}"), json.dumps(asdict(CARD) | {name: value}))
            health = Health.read(redis, namespace=namespace)
            assert [card.name for card in health.workers] == ["anna"]
            assert set(health.stale) == {f"odd-{name}" for name in unfit}
            assert "anna" in str(health)
            assert "odd-name" in health._repr_html_()

    def test_workers_beside_garbage_are_listed(self, redis, namespace, keys):
        with subscriber(redis, namespace, FakeSite(), name="anna"):
            for number, text in enumerate(("", "{", "[]", '{"name": "x"}', "null")):
                redis.zadd(keys.workers, {f"rubbish-{number}": 1e12})
                redis.set(keys.worker(f"rubbish-{number}"), text)
            assert [card.name for card in live_workers(redis, keys)] == ["anna"]

    def test_a_batch_ignores_garbage_in_its_hash_and_events(self, redis, namespace, keys):
        batch = Publisher(redis, namespace=namespace).publish(months(1))
        redis.hset(keys.batch(batch.id), mapping={"not-a-state": "", "also-none": "done"})
        redis.xadd(keys.events, {"something": "else"})
        redis.xadd(keys.events, {"event": "no json", "outcome": "done", "attempt": "x"})
        found = Batch.find(redis, batch.id, namespace=namespace)
        assert len(found.jobs()) == 3
        assert found.events().empty


@pytest.mark.parametrize("lease", ["abc", None, [1]])
def test_a_card_whose_lease_is_not_a_number_does_not_end_a_worker(redis, namespace, keys, publisher, lease):
    batch = publisher.publish(months(1))
    redis.xreadgroup(keys.group, "odd", {keys.jobs: ">"})
    redis.xclaim(keys.jobs, keys.group, "odd", 0, [entry for entry, _ in redis.xrange(keys.jobs)], idle=600_000)
    card = asdict(CARD) | {"lease": lease}
    redis.set(keys.worker("odd"), json.dumps(card))
    with subscriber(redis, namespace, FakeSite(), threads=1):
        assert batch.wait(60).done == 1
