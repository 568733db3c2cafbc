"""A Redis that responds but refuses writes: workers wait, and no job loses an attempt."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest
from support.fakes import FakeSite, GatedSite, months
from support.ports import unused_port
from support.servers import redis_server
from support.waiting import wait_until

from scraperkit.config import Settings
from scraperkit.connection import connect
from scraperkit.errors import RedisRefused
from scraperkit.failover import roles
from scraperkit.publisher import Publisher
from scraperkit.subscriber import Subscriber
from scraperkit.timeseries.reader import TimeSeriesReader

NAMESPACE = "refusing"


def cannot_save(redis, folder) -> None:
    """Remove the folder for snapshots."""
    redis.config_set("save", "3600 1")
    shutil.rmtree(folder)
    redis.bgsave()
    assert wait_until(lambda: redis.info("persistence")["rdb_last_bgsave_status"] == "err")


def save_no_more(redis) -> None:
    redis.config_set("stop-writes-on-bgsave-error", "no")
    redis.config_set("save", "")  # or it would not end


def lose_the_primary(redis) -> None:
    redis.config_set("replica-serve-stale-data", "no")
    redis.replicaof("127.0.0.1", "1")


# How to make a server refuse, and how to undo it.
REFUSALS = {
    "OOM": (
        lambda redis, _: redis.config_set("maxmemory", 1),
        lambda redis: redis.config_set("maxmemory", 0),
    ),
    "NOREPLICAS": (
        lambda redis, _: redis.config_set("min-replicas-to-write", 1),
        lambda redis: redis.config_set("min-replicas-to-write", 0),
    ),
    "MISCONF": (cannot_save, save_no_more),
    "READONLY": (lambda redis, _: redis.replicaof("127.0.0.1", "1"), lambda redis: redis.replicaof("NO", "ONE")),
    "MASTERDOWN": (lambda redis, _: lose_the_primary(redis), lambda redis: redis.replicaof("NO", "ONE")),
}


def test_a_full_redis_makes_no_worker_seem_dead(tmp_path):
    """Cards cannot be written then, but the last one is extended, so channel messages in hand are not lost."""
    site = GatedSite()
    settings = Settings.load(namespace=NAMESPACE, heartbeat=0.2, threads=2)
    with (
        redis_server(tmp_path, "--port", "0"),
        connect(f"unix://{tmp_path}/ready.sock") as redis,
        Subscriber(redis, site, settings=settings, delivery="pubsub") as worker,
    ):
        batch = Publisher(redis, namespace=NAMESPACE, delivery="pubsub").publish(months(2))
        assert all(site.inside.acquire(timeout=60) for _ in range(2))
        redis.config_set("maxmemory", 1)
        card, kept, last = worker.worker.keys.worker(worker.name), 0, 0

        def is_kept() -> bool:
            nonlocal kept, last
            now = redis.pttl(card)
            kept, last = kept + (now > last), now
            return kept > 6

        assert wait_until(is_kept)
        assert batch.status().lost == 0
        redis.config_set("maxmemory", 0)
        site.gate.set()
        assert batch.wait(60).done == 2


def test_a_redis_without_the_role_command_is_supported(tmp_path, monkeypatch):
    """A managed Redis may lack the command."""
    monkeypatch.setattr(roles, "ROLE_EVERY", 0.0)
    with (
        redis_server(tmp_path, "--port", "0", "--rename-command", "ROLE", "NOROLE"),
        connect(f"unix://{tmp_path}/ready.sock") as redis,
        Subscriber(redis, FakeSite(), threads=2, namespace=NAMESPACE),
    ):
        assert Publisher(redis, namespace=NAMESPACE).publish(months(3)).wait(60).done == 3
        assert len(TimeSeriesReader(redis, NAMESPACE).funds()) == 1


def test_a_worker_that_starts_at_a_replica_is_refused(tmp_path):
    with redis_server(tmp_path, "--port", "0"), connect(f"unix://{tmp_path}/ready.sock") as redis:
        redis.replicaof("127.0.0.1", "1")
        with pytest.raises(RedisRefused, match="could not start: the server is a replica.*; connect to the primary"):
            Subscriber(redis, FakeSite(), namespace=NAMESPACE).start()


@pytest.mark.parametrize("kind", REFUSALS)
def test_workers_wait_for_a_redis_that_refuses_writes_and_no_job_loses_an_attempt(tmp_path, kind):
    refuse, come_round = REFUSALS[kind]
    folder, port, site = tmp_path / "server", unused_port(), GatedSite()
    folder.mkdir()
    settings = Settings.load(namespace=NAMESPACE, max_attempts=2, backoff=0.01, threads=4)
    with (
        redis_server(folder, "--port", str(port)),
        connect(f"redis://127.0.0.1:{port}") as redis,
        connect(f"redis://127.0.0.1:{port}") as admin,
        Subscriber(redis, site, settings=settings) as worker,
    ):
        batch = Publisher(redis, namespace=NAMESPACE).publish(months(8))
        assert all(site.inside.acquire(timeout=60) for _ in range(4))
        refuse(admin, folder)
        site.gate.set()
        assert wait_until(lambda: worker.worker.outages > 0)
        assert worker.running
        come_round(admin)
        assert batch.wait(60).done == 8
        events = batch.events()
        assert set(events["attempt"]) == {1}
        assert Counter(events["outcome"])["done"] == 8
