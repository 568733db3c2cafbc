"""The health of workers and queue, seen from any process."""

from __future__ import annotations

import logging
import time

from support.fakes import FakeSite, GatedSite, months
from support.waiting import wait_until
from support.workers import LIVELY, subscriber

from scraperkit.health import Health
from scraperkit.keys import Keys


def test_an_empty_namespace_has_no_workers_and_no_messages(redis, namespace):
    health = Health.read(redis, namespace=namespace)
    assert not health.alive
    assert health.last_heartbeat is None
    assert str(health) == "workers: none; waiting: 0; in hand: 0; retries: 0; dead: 0"


def test_health_shows_a_worker_and_its_queue(redis, namespace, publisher):
    site = GatedSite()
    publisher.publish(months(5))
    with subscriber(redis, namespace, site, threads=3, name="anna", **LIVELY) as one:
        assert wait_until(lambda: one.health().in_hand == 3)
        health = one.health()
        assert (health.lag, health.pending, health.retries, health.dead) == (2, 3, 0, 0)
        assert [worker.name for worker in health.workers] == ["anna"]
        assert 0 <= health.oldest < 60
        assert abs(time.time() - health.last_heartbeat) < 60
        assert "anna (3 threads)" in str(health)
        site.gate.set()
        assert wait_until(lambda: one.health().oldest is None)
    assert not Health.read(redis, namespace=namespace).alive


def test_scheduled_retries_are_counted(redis, namespace, publisher):
    def fails(request):
        raise OSError if request.month == 1 else LookupError

    publisher.publish(months(2))
    with subscriber(redis, namespace, FakeSite(fails), backoff=100.0) as one:
        assert wait_until(lambda: one.health().retries == 2)


def test_a_silent_worker_is_listed_as_stale_and_then_forgotten(redis, namespace, keys):
    with subscriber(redis, namespace, FakeSite(), name="anna"):
        redis.zadd(keys.workers, {"bob": time.time() - 10})
        redis.xgroup_createconsumer(keys.jobs, keys.group, "bob")
        assert Health.read(redis, namespace=namespace).stale == ("bob",)
    redis.zadd(keys.workers, {"bob": 1.0})
    with subscriber(redis, namespace, FakeSite(), name="anna", **LIVELY):
        assert wait_until(lambda: not Health.read(redis, namespace=namespace).stale)
        # Anna becomes a consumer with her first read.
        assert wait_until(lambda: {each["name"] for each in redis.xinfo_consumers(keys.jobs, keys.group)} == {"anna"})


def test_a_dead_worker_is_not_forgotten_while_it_has_pending_entries(redis, namespace, keys, publisher):
    site = GatedSite()
    with subscriber(redis, namespace, site, threads=1, prefetch=0, name="anna", **LIVELY):
        publisher.publish(months(2))
        assert site.inside.acquire(timeout=60)
        redis.xreadgroup(keys.group, "bob", {keys.jobs: ">"})
        redis.zadd(keys.workers, {"bob": 1.0})
        # Anna's only thread is busy, so she cannot take the entry over; her upkeep continues.
        beats = redis.zscore(keys.workers, "anna")
        assert wait_until(lambda: redis.zscore(keys.workers, "anna") > beats + 1)
        assert Health.read(redis, namespace=namespace).stale == ("bob",)
        assert redis.xpending(keys.jobs, keys.group)["pending"] == 2
        site.gate.set()
        assert wait_until(lambda: not Health.read(redis, namespace=namespace).stale)
    assert redis.xlen(keys.jobs) == 0
    assert max(site.asked.values()) == 1


def test_the_library_logs_through_child_loggers_and_installs_no_handler(redis, namespace, redis_url, publisher, caplog):
    caplog.set_level(logging.DEBUG)
    password = redis_url.split(":")[2].split("@")[0]
    redis.xadd(Keys(namespace).jobs, {"message": "rubbish"})
    with subscriber(redis, namespace, FakeSite()):
        publisher.publish(months(2)).wait(60)
    ours = [record for record in caplog.records if record.name.startswith("scraperkit.")]
    assert ours
    assert not any(logging.getLogger(record.name).handlers for record in ours)
    assert password not in caplog.text
