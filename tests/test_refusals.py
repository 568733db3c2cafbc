"""If Redis refuses a command, every public call raises an error of the kit that says what to do."""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
from collections.abc import Callable

import pytest
import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.fakes import FUND, FakeSite, months
from support.servers import redis_server
from support.waiting import wait_until

import scraperkit as sk
from scraperkit.connection import connect, sibling
from scraperkit.engine.worker import Worker
from scraperkit.errors import RedisRefused, RedisUnreachable, ScraperKitError, StoreError
from scraperkit.models import DailyQuote
from scraperkit.timeseries.frames import tidy_frame

NAMESPACE = "refused"
QUOTES = [DailyQuote(FUND.cnpj, dt.date(2022, 1, 3), quota=1.5)]
Call = Callable[[redis_py.Redis], object]


def publisher(redis, **given):
    return sk.Publisher(redis, namespace=NAMESPACE, **given)


def batch(redis):
    return sk.Batch(redis, "0778e977-c9d1-5645-97ce-d1f8dcc5e752", namespace=NAMESPACE)


def dead(redis):
    return sk.DeadLetters(redis, namespace=NAMESPACE)


def store(redis):
    return sk.SeriesStore(redis, NAMESPACE)


def reader(redis):
    return sk.TimeSeriesReader(redis, NAMESPACE)


def stepped(redis):
    return asyncio.run(Worker(redis, FakeSite(), namespace=NAMESPACE).step())


CALLS: dict[str, Call] = {
    "Publisher.publish": lambda redis: publisher(redis).publish(months(2)),
    "Publisher.publish to the channel": lambda redis: publisher(redis, delivery="pubsub").publish(months(2)),
    "Publisher.publish what is missing": lambda redis: publisher(redis).publish(months(2), only_missing=True),
    "Publisher.batch": lambda redis: publisher(redis).batch("1"),
    "Batch.find": lambda redis: sk.Batch.find(redis, "1", namespace=NAMESPACE),
    "Batch.status": lambda redis: batch(redis).status(),
    "Batch.wait": lambda redis: batch(redis).wait(60),
    "Batch.explain": lambda redis: batch(redis).explain(),
    "Batch.lacks_worker": lambda redis: batch(redis).lacks_worker(),
    "Batch.jobs": lambda redis: batch(redis).jobs(),
    "Batch.failures": lambda redis: batch(redis).failures(),
    "Batch.cancel": lambda redis: batch(redis).cancel(),
    "Batch.events": lambda redis: batch(redis).events(),
    "DeadLetters.list": lambda redis: dead(redis).list(),
    "DeadLetters.history": lambda redis: dead(redis).history("1-1"),
    "DeadLetters.retry": lambda redis: dead(redis).retry(),
    "DeadLetters.drop": lambda redis: dead(redis).drop(),
    "DeadLetters.__len__": lambda redis: len(dead(redis)),
    "Health.read": lambda redis: sk.Health.read(redis, namespace=NAMESPACE),
    "SeriesStore.write": lambda redis: store(redis).write(QUOTES),
    "SeriesStore.write_frame": lambda redis: store(redis).write_frame(frame()),
    "SeriesStore.save_fund": lambda redis: store(redis).save_fund(FUND),
    "SeriesStore.save_funds": lambda redis: store(redis).save_funds([FUND]),
    "SeriesStore.delete": lambda redis: store(redis).delete(FUND),
    "TimeSeriesReader.prices": lambda redis: reader(redis).prices(FUND),
    "TimeSeriesReader.quotes": lambda redis: reader(redis).quotes(FUND),
    "TimeSeriesReader.known": lambda redis: reader(redis).known([FUND]),
    "TimeSeriesReader.last": lambda redis: reader(redis).last(FUND),
    "TimeSeriesReader.funds": lambda redis: reader(redis).funds(),
    "TimeSeriesReader.months": lambda redis: reader(redis).months(FUND),
    "TimeSeriesReader.changes": lambda redis: reader(redis).changes(FUND),
    "Subscriber.start": lambda redis: sk.Subscriber(redis, FakeSite(), namespace=NAMESPACE).start(),
    "Subscriber.health": lambda redis: sk.Subscriber(redis, FakeSite(), namespace=NAMESPACE).health(),
    "Worker.step": stepped,
    "rates": lambda redis: sk.rates("cdi", redis=redis),
    "monitor": lambda redis: sk.monitor(redis, seconds=1),
}
# Methods that do not use Redis, or only through a started worker.
SILENT = {
    "Subscriber": {"stop", "pause", "resume", "crash_next", "dashboard", "request_stop", "attach"},
    "Worker": {"start", "run", "close", "pause", "resume", "crash", "crash_next", "request_stop", "wait_until_paused"},
}


def frame():
    import numpy as np

    return tidy_frame([FUND.cnpj], [(np.array([19_000]), np.full((1, 6), 1.5))])


@pytest.fixture
def powerless(redis):
    """Yield a client whose user may only connect."""
    redis.acl_setuser("powerless", enabled=True, passwords=["+secret"], categories=["+@connection"], reset=True)
    with sibling(redis, username="powerless", password="secret") as client:
        yield client
    redis.acl_deluser("powerless")


class TestAUserWithoutRights:
    @pytest.mark.filterwarnings("ignore:reading slowly")
    @pytest.mark.parametrize("name", CALLS)
    def test_gets_an_error_of_the_kit(self, powerless, name):
        with pytest.raises(ScraperKitError, match="(?i)no permissions|no batch") as caught:
            CALLS[name](powerless)
        assert isinstance(caught.value, RedisRefused), repr(caught.value)
        assert "ACL SETUSER" in str(caught.value)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(("call", "command"), [("months", "hgetall"), ("changes", "xrange")])
    def test_for_one_command_gets_an_error_that_names_it_and_the_key(self, redis, namespace, call, command):
        sk.SeriesStore(redis, namespace).write(QUOTES)
        rights = {"commands": [f"-{command}"], "categories": ["+@all"], "keys": ["*"], "channels": ["*"]}
        redis.acl_setuser(f"no-{command}", enabled=True, passwords=["+secret"], reset=True, **rights)
        with sibling(redis, username=f"no-{command}", password="secret") as client:
            with pytest.raises(StoreError, match=rf"refused {command.upper()} {namespace}:.*{call}: .*ACL SETUSER"):
                getattr(sk.TimeSeriesReader(client, namespace), call)(FUND)
        redis.acl_deluser(f"no-{command}")

    def test_all_public_calls_are_tested(self):
        tried = {name.split(" ")[0] for name in CALLS}
        for kind in (sk.Publisher, sk.Batch, sk.DeadLetters, sk.Health, sk.SeriesStore, sk.TimeSeriesReader):
            assert {f"{kind.__name__}.{name}" for name in public_methods(kind)} <= tried
        for kind in (sk.Subscriber, sk.Worker):
            names = public_methods(kind) - SILENT[kind.__name__]
            assert {f"{kind.__name__}.{name}" for name in names} <= tried


def public_methods(kind: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")}


WRITES = [name for name in CALLS if name.startswith(("Publisher.publish", "SeriesStore.w", "SeriesStore.s"))]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    with redis_server(folder, "--port", "0"), connect(f"unix://{folder}/ready.sock") as redis:
        yield redis


class TestARedisThatIsFull:
    @pytest.mark.parametrize("name", WRITES)
    def test_gets_an_error_that_says_so(self, own, name):
        own.config_set("maxmemory", 1)
        try:
            with pytest.raises(RedisRefused, match="Redis is full: raise its maxmemory"):
                CALLS[name](own)
        finally:
            own.config_set("maxmemory", 0)


class TestAReplica:
    @pytest.mark.parametrize("name", WRITES)
    def test_gets_an_error_that_says_so(self, own, tmp_path, name):
        own.replicaof("127.0.0.1", "1")
        try:
            with pytest.raises((RedisRefused, RedisUnreachable), match="connect to the primary"):
                CALLS[name](own)
        finally:
            own.replicaof("NO", "ONE")


class TestAKeyOfTheWrongType:
    def test_for_a_fund_is_named_in_the_publishers_error(self, own):
        own.set(f"{NAMESPACE}:{{{FUND.cnpj}}}:fund", "mine")
        with pytest.raises(RedisRefused, match=rf"WRONGTYPE.*\{{{FUND.cnpj}\}}:fund|{FUND.cnpj}.*WRONGTYPE"):
            publisher(own).publish(months(1))
        own.flushall()

    def test_for_a_queue_is_an_error_of_health_and_dead_letters(self, own):
        for name in ("jobs", "dead", "workers"):
            own.set(f"{NAMESPACE}:{name}", "mine")
        with pytest.raises(RedisRefused, match="another SCRAPERKIT_NAMESPACE"):
            sk.Health.read(own, namespace=NAMESPACE)
        with pytest.raises(RedisRefused, match="another SCRAPERKIT_NAMESPACE"):
            dead(own).list()
        assert repr(dead(own)) == f"<DeadLetters of {NAMESPACE!r}>"
        own.flushall()

    def test_for_a_series_is_named_in_the_stores_error(self, own):
        own.set(f"{NAMESPACE}:{{{FUND.cnpj}}}:quota", "mine")
        with pytest.raises(StoreError, match="quota"):
            store(own).write(QUOTES)
        own.flushall()


def test_every_call_to_a_lost_server_raises_redis_unreachable(tmp_path):
    with redis_server(tmp_path, "--port", "0"):
        first = connect(f"unix://{tmp_path}/ready.sock")
        client = sibling(first, retry=Retry(NoBackoff(), 0))
        client.ping()
        first.close()
    assert wait_until(lambda: not (tmp_path / "ready.sock").exists())
    with client:
        for name in [name for name in CALLS if name not in ("Batch.wait",)]:
            with pytest.raises(ScraperKitError) as caught:
                CALLS[name](client)
            assert isinstance(caught.value, RedisUnreachable), (name, caught.value)
