"""Names of workers: taken, lost to another, and taken again."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import asdict

import pytest
from chaos.proxy import Proxy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fakes import FakeSite, months
from support.tree import ROOT

from scraperkit.config import Settings
from scraperkit.connection import connect
from scraperkit.engine.registry import WorkerCard, enter, has_name
from scraperkit.engine.worker import Worker
from scraperkit.errors import ConfigError, RedisUnreachable
from scraperkit.publisher import Publisher

QUICK = {"lease": 1.0, "heartbeat": 0.2, "threads": 2}


@pytest.fixture
def steal(redis, keys, monkeypatch):
    """Give the first names that workers take to another worker before their first heartbeat."""

    def arrange(times: int, milliseconds: int = 60_000) -> list[str]:
        stolen: list[str] = []

        async def enter_and_lose(*arguments) -> WorkerCard:
            card = await enter(*arguments)
            if len(stolen) < times:
                stolen.append(card.name)
                another = WorkerCard(card.name, f"{card.name}/another", "elsewhere", 1, 1, "both", card.started_at)
                redis.set(keys.worker(card.name), json.dumps(asdict(another)), px=milliseconds)
            return card

        monkeypatch.setattr("scraperkit.engine.worker.enter", enter_and_lose)
        return stolen

    return arrange


VALUES = st.one_of(
    *(st.none(), st.booleans(), st.integers(-9, 9), st.sampled_from(["a/1", "other", ""])),
    st.lists(st.integers(), max_size=2),
)


class TestANameLostWhileStarting:
    @pytest.mark.parametrize("times", [1, 3])
    def test_is_left_to_the_other_worker_and_the_next_name_is_taken(self, redis, namespace, keys, steal, times):
        stolen = steal(times)
        batch = Publisher(redis, namespace=namespace).publish(months(2))
        name, outcomes = life_of(Worker(redis, FakeSite(), settings=Settings.load(namespace=namespace, **QUICK)))
        assert len(set(stolen)) == times
        assert name not in stolen
        assert outcomes == {"done": 2}
        assert str(batch.status()) == "2 published, 2 done"
        assert all("elsewhere" in redis.get(keys.worker(each)) for each in stolen)

    def test_leaves_no_thread_waiting(self, redis, namespace, steal):
        steal(2)
        worker = Worker(redis, FakeSite(), settings=Settings.load(namespace=namespace, **QUICK))

        async def go() -> int:
            await worker.start()
            try:
                return sum(thread.name.startswith("scraper-") for thread in threading.enumerate())
            finally:
                await worker.close()

        assert asyncio.run(go()) == QUICK["threads"]

    def test_is_taken_again_once_it_is_free_if_it_was_requested(self, redis, namespace, steal):
        steal(1, milliseconds=300)
        settings = Settings.load(namespace=namespace, **QUICK | {"heartbeat": 5.0})
        assert life_of(Worker(redis, FakeSite(), settings=settings, name="anna"))[0] == "anna"

    def test_raises_a_clear_error_if_it_was_requested_and_stays_taken(self, redis, namespace, steal):
        steal(1)
        settings = Settings.load(namespace=namespace, **QUICK | {"heartbeat": 0.05})
        with pytest.raises(ConfigError, match="another living worker is called 'anna'"):
            life_of(Worker(redis, FakeSite(), settings=settings, name="anna"))


class TestAStartThatFails:
    def test_leaves_neither_threads_nor_a_name(self, redis, redis_url, namespace, keys):
        with Proxy(redis_url) as proxy, connect(proxy.url) as client:
            fault = proxy.lose_request("ZRANGE")
            with pytest.raises(RedisUnreachable, match="could not start"):
                life_of(Worker(client, FakeSite(), settings=Settings.load(namespace=namespace, **QUICK)))
            assert fault.struck()
        assert not redis.exists(keys.workers)


def life_of(worker: Worker) -> tuple[str, dict[str, int]]:
    """Start a worker, do one round, and close it; return its name and the outcomes of its jobs."""

    async def go() -> tuple[str, dict[str, int]]:
        await worker.start()
        try:
            await worker.step()
            return worker.name, dict(worker.outcomes)
        finally:
            await worker.close()

    return asyncio.run(go())


class TestACardOfAnotherWorker:
    """Scripts and heartbeats agree on whether a name still belongs to a worker, even for a card written by hand."""

    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.one_of(st.none(), st.text(), st.builds(json.dumps, VALUES | st.builds(dict, instance=VALUES))))
    def test_is_judged_alike_by_lua_and_python(self, redis, namespace, keys, card):
        key = keys.worker("anna")
        redis.delete(key)
        if card is not None:
            redis.set(key, card)
        shared = "".join((ROOT / "scraperkit/lua" / f"{part}.lua").read_text() for part in ("prelude", "state"))
        told = redis.eval(f"{shared}\nreturn tostring(has_name(key(), given.instance))", 1, key, '{"instance":"a/1"}')
        assert told == str(has_name(redis.get(key), "a/1")).lower()

    @pytest.mark.parametrize("card", ['{"instance": "other"}', '{"instance": null}'])
    def test_counts_even_if_it_lacks_the_other_fields(self, card):
        assert not has_name(card, "a/1")
