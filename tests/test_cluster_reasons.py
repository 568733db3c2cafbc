"""Why the kit refuses a Redis Cluster: each reason in docs/scaling.md, on real primaries and replicas."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis.asyncio as redis_asyncio
from redis.crc import key_slot
from redis.exceptions import ClusterCrossSlotError, TryAgainError
from support.clusters import RealCluster, client, redis_cluster, tell
from support.fakes import FUND
from support.waiting import wait_until

from scraperkit.keys import Keys
from scraperkit.lua import scripts
from scraperkit.lua.scripts import FundFetched, MonthFetched, Outgoing, Settlement

KEYS = Keys("cluster")
MESSAGE = Outgoing("id", FUND.cnpj, "01/2022", "{}")
BATCH = {"delivery": "stream", "batch_ttl": 60, "claim_ttl": 60}
OWN = {"consumer": "worker", "instance": "worker/1"}
LIMITS = {"events_kept": 9, "claim_ttl": 60, "max_attempts": 3, "backoff": 1.0, "backoff_limit": 9.0}
SETTLED = Settlement("1-1", "", "id", KEYS.batch("b"), "done", "", "", False, 0.5)
MONTH = MonthFetched("2022-01", 1640995200000, 1643673599999, "1", [])

MORE_THAN_IN_FLIGHT = 64_000_000

#: Calls of the scripts that change the state of a namespace or of the sites.
ACROSS: dict[str, Callable[[Any], Any]] = {
    "publish": lambda redis: scripts.publish(redis, KEYS, "b", [MESSAGE], **BATCH),
    "claim": lambda redis: scripts.claim(
        redis, KEYS, [("id", "b")], instance="worker/1", lease=9.0, silence=9.0, exclusive=True
    ),
    "commit": lambda redis: scripts.commit(redis, KEYS, jobs=[SETTLED], events=[b"{}"], news=b"", **OWN, **LIMITS),
    "renew": lambda redis: scripts.renew(redis, KEYS, entries=["1-1"], claims=[KEYS.claim("id")], **OWN, lease=9.0),
    "feed_due": lambda redis: scripts.feed_due(redis, KEYS, 9),
    "take_over": lambda redis: scripts.take_over(redis, KEYS, {"1-1": "other"}, consumer="worker"),
    "hand_back": lambda redis: scripts.hand_back(redis, KEYS, entries=["1-1"], from_channel=[], **OWN),
    "forget": lambda redis: scripts.forget(redis, KEYS, ["other"]),
    "note_lost": lambda redis: scripts.note_lost(redis, KEYS, "b", [("id", "gone", None)]),
    "cancel": lambda redis: scripts.cancel(redis, KEYS, "b", "stream", [("id", "1-1")]),
    "retry_dead": lambda redis: scripts.retry_dead(redis, KEYS, "1-1", message_id="id", batch_id="b"),
    "agree_on_site": lambda redis: scripts.agree_on_site(redis, "site", "succeeded"),
}
#: The other scripts, each with a key in its slot.
WITHIN: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "pending_entries": (KEYS.jobs, lambda redis: scripts.pending_entries(redis, KEYS)),
    "take_turn": (KEYS.turn("site"), lambda redis: scripts.take_turn(redis, "site", apart=1.0, ahead=1.0, longest=1.0)),
    "replace_months": (
        KEYS.months(FUND.cnpj),
        lambda redis: scripts.replace_months(
            redis,
            KEYS,
            [FundFetched(FUND.cnpj, "1", False, {}, [MONTH])],
            source="site",
            is_whole=False,
            metrics=["quota"],
            options=[],
        ),
    ),
}


class OneTag(Keys):
    """The keys of a namespace, all with one hash tag."""

    def __post_init__(self) -> None:
        """Allow braces, which are invalid in a namespace."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[RealCluster]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


def call(port: int, script: Callable[[Any], Any]) -> Any:
    """Call a script on a node, with a sync or asyncio client, as it needs."""

    async def awaited() -> Any:
        async with redis_asyncio.Redis(port=port, protocol=3, decode_responses=True) as node:
            return await script(node)

    with client(port) as node:
        response = script(node)
    if not asyncio.iscoroutine(response):
        return response
    response.close()
    return asyncio.run(awaited())


def test_every_script_is_in_one_of_the_two_lists():
    assert {*ACROSS, *WITHIN} == set(scripts.names().values())


@pytest.mark.parametrize("name", ACROSS)
def test_these_atomic_scripts_need_keys_in_several_slots(cluster, name):
    with pytest.raises(ClusterCrossSlotError):
        call(cluster.primaries[0], ACROSS[name])


@pytest.mark.parametrize("name", WITHIN)
def test_the_other_scripts_need_keys_in_one_slot_only(cluster, name):
    key, script = WITHIN[name]
    response = call(cluster.home(key), script)
    assert not any(isinstance(found, Exception) for found in (response if isinstance(response, list) else [response]))


def test_a_primary_lists_only_its_own_series(cluster):
    cnpjs = [f"{number:014d}" for number in range(30)]
    for cnpj in cnpjs:
        key = KEYS.series(cnpj, "quota")
        with client(cluster.home(key)) as home:
            home.execute_command("TS.CREATE", key, "LABELS", "kit", KEYS.namespace)
    counts = []
    for port in cluster.primaries:
        with client(port) as node:
            counts.append(len(node.execute_command("TS.QUERYINDEX", f"kit={KEYS.namespace}")))
    assert sum(counts) == len(cnpjs)
    assert all(0 < part < len(cnpjs) for part in counts), counts


def test_publish_counts_the_receivers_of_one_node_only(cluster):
    first, other = cluster.primaries[:2]
    with client(first) as node, client(other) as elsewhere, node.pubsub() as listener:
        listener.subscribe(KEYS.channel)
        assert listener.get_message(timeout=60)["type"] == "subscribe"
        assert elsewhere.publish(KEYS.channel, "heard") == 0
        assert listener.get_message(timeout=60)["data"] == "heard"


def test_with_one_hash_tag_all_work_stops_while_its_slot_moves(cluster):
    """Its keys are then on two primaries: neither runs a script before the last key has moved."""
    keys = OneTag("{tagged}")
    slot = key_slot(keys.jobs.encode())
    home = cluster.home(keys.jobs)
    target = next(port for port in cluster.primaries if port != home)

    def publish(port: int, name: str) -> object:
        with client(port) as node:
            return scripts.publish(node, keys, "batch", [MESSAGE._replace(message_id=name)], **BATCH)

    for number in range(20):
        publish(home, str(number))
    tell(target, "SETSLOT", slot, "IMPORTING", tell(home, "MYID"))
    tell(home, "SETSLOT", slot, "MIGRATING", tell(target, "MYID"))
    with client(home) as node:
        moving = node.cluster("GETKEYSINSLOT", slot, 100)
        assert len(moving) > 1
        while moving:
            node.migrate("127.0.0.1", target, moving.pop(), 0, 10_000)
            if moving:
                with pytest.raises(TryAgainError):
                    publish(home, "refused")
    for port in cluster.primaries:
        tell(port, "SETSLOT", slot, "NODE", tell(target, "MYID"))
    publish(target, "20")
    with client(target) as node:
        assert node.xlen(keys.jobs) == 21


def test_a_failover_of_one_primary_loses_figures_although_another_has_settled_their_job(tmp_path):
    """On one Redis, a replica that has a settlement also has the figures that were stored before it."""
    with redis_cluster(tmp_path, node_timeout=2_000) as cluster:
        key = KEYS.series(FUND.cnpj, "quota")
        home = cluster.home(key)
        settled = next(name for name in map(KEYS.batch, map(str, range(99))) if cluster.home(name) != home)
        heir = cluster.replica_of(home)
        os.kill(cluster.processes[heir].pid, signal.SIGSTOP)
        with client(home) as node, client(cluster.home(settled)) as another:
            node.set(KEYS.fund(FUND.cnpj), b"x" * MORE_THAN_IN_FLIGHT)  # so the replica lags
            node.execute_command("TS.ADD", key, 1, 2.5)
            another.hset(settled, "done", 1)
        cluster.processes[home].kill()
        os.kill(cluster.processes[heir].pid, signal.SIGCONT)
        with client(heir) as node, client(cluster.home(settled)) as another:
            assert wait_until(lambda: node.execute_command("ROLE")[0] == "master"), "no failover"
            for port in (heir, cluster.home(settled)):
                assert wait_until(lambda port=port: "cluster_state:ok" in tell(port, "INFO"))
            assert not node.exists(key)
            assert another.hget(settled, "done") == "1"
