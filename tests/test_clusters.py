"""Every part of the kit refuses a Redis Cluster, in one sentence that says what to do instead."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import redis as redis_py
from chaos.processes import COMMAND
from redis.asyncio import RedisCluster as AsyncRedisCluster
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterCrossSlotError, ClusterDownError, MovedError, TryAgainError
from support.clusters import RealCluster, client, redis_cluster, tell
from support.fakes import FUND, FakeSite, months, one_quote
from support.ports import unused_port
from support.servers import redis_server

import scraperkit as sk
from scraperkit.cli.exits import CONFIG
from scraperkit.connection import async_client, check_client, connect, redis_needed
from scraperkit.engine.redis_retry import is_away
from scraperkit.errors import ConfigError

SENTENCE = r"the kit does not run on a Redis Cluster; use a Redis that is not in cluster mode, or several of them with "
SENTENCE += r"a namespace each \(docs/scaling\.md\)$"
NAMESPACE = "refused"
RESP3 = {"protocol": 3, "decode_responses": True}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[RealCluster]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
def environment(cluster, tmp_path) -> dict[str, str]:
    given = {"REDIS_URL": cluster.url, "SCRAPERKIT_CVM_URL": "http://127.0.0.1:9/", "SCRAPERKIT_DATA": str(tmp_path)}
    return os.environ | given


class TestConnecting:
    def test_every_node_is_refused(self, cluster):
        for port in (*cluster.primaries, *cluster.replicas):
            with pytest.raises(ConfigError, match=f"^127.0.0.1:{port}: {SENTENCE}"):
                connect(f"redis://127.0.0.1:{port}")

    @pytest.mark.parametrize("scheme", ["redis+cluster", "rediss+cluster", "Redis+Cluster"])
    def test_the_address_of_a_cluster_is_refused_without_connecting(self, scheme, monkeypatch):
        with pytest.raises(ConfigError, match=f"^url: {SENTENCE}") as caught:
            connect(f"{scheme}://:s3cret@127.0.0.1:9,127.0.0.1:9")
        assert "s3cret" not in str(caught.value)
        monkeypatch.setenv("REDIS_URL", f"{scheme}://127.0.0.1:9")
        with pytest.raises(ConfigError, match=f"^REDIS_URL: {SENTENCE}"):
            connect()

    @pytest.mark.parametrize("words", [["work", "--processes", "2"], ["api", "--port", "0"]])
    def test_services_exit_with_the_code_of_a_configuration_error(self, environment, words):
        ended = subprocess.run([COMMAND, *words], env=environment, capture_output=True, text=True, timeout=120)
        assert (ended.returncode, ended.stdout) == (CONFIG, "")
        assert re.search(f"^scraperkit: 127.0.0.1:[0-9]+: {SENTENCE}", ended.stderr, re.MULTILINE), ended.stderr

    @pytest.mark.parametrize("words", [["prices"], ["doctor"]])
    def test_commands_fail_with_the_sentence(self, environment, words):
        ended = subprocess.run([COMMAND, *words], env=environment, capture_output=True, text=True, timeout=120)
        assert ended.returncode != 0
        assert (ended.stdout + ended.stderr).count("the kit does not run on a Redis Cluster") == 1


#: Calls that read series or change state, given a plain redis-py client.
USES: dict[str, Callable[[redis_py.Redis], object]] = {
    "publisher": lambda redis: sk.Publisher(redis, namespace=NAMESPACE).publish(months(2)),
    "channel": lambda redis: sk.Publisher(redis, namespace=NAMESPACE, delivery="pubsub").publish(months(2)),
    "worker": lambda redis: sk.Subscriber(redis, FakeSite(), namespace=NAMESPACE).start(),
    "store": lambda redis: sk.SeriesStore(redis, namespace=NAMESPACE).write(one_quote(months(1)[0])),
    "frame": lambda redis: sk.SeriesStore(redis, namespace=NAMESPACE).write_frame(
        pd.DataFrame({"cnpj": [FUND.cnpj], "date": [pd.Timestamp("2022-01-03")], "quota": [1.5]})
    ),
    "reader": lambda redis: sk.TimeSeriesReader(redis, namespace=NAMESPACE).prices([FUND.cnpj], start="2022-01"),
    "last": lambda redis: sk.TimeSeriesReader(redis, namespace=NAMESPACE).last(),
    "funds": lambda redis: sk.TimeSeriesReader(redis, namespace=NAMESPACE).funds(),
    "health": lambda redis: sk.Health.read(redis, namespace=NAMESPACE),
    "batch": lambda redis: sk.Batch.find(redis, "none", namespace=NAMESPACE),
    "news": lambda redis: sk.on_stored(redis, print, namespace=NAMESPACE),
}


@contextlib.contextmanager
def refused_by(cluster: RealCluster, kind: type[redis_py.RedisError], folder: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield a node, and a command that it refuses in this way."""
    keys = ["{a}there", "{a}elsewhere"]
    home = cluster.home(keys[0])
    target = next(port for port in cluster.primaries if port != home)
    if kind is MovedError:
        yield target, ["GET", keys[0]]
    elif kind is ClusterCrossSlotError:
        yield home, ["MGET", "a", "b"]
    elif kind is ClusterDownError:
        options = ["--port", str(unused_port()), "--cluster-enabled", "yes", "--cluster-port", str(unused_port())]
        with redis_server(folder, *options):  # a node of a cluster without slots
            yield int(options[1]), ["GET", keys[0]]
    else:
        slot = key_slot(keys[0].encode())
        with client(home) as node:
            node.set(keys[0], 1)
        tell(target, "SETSLOT", slot, "IMPORTING", tell(home, "MYID"))
        tell(home, "SETSLOT", slot, "MIGRATING", tell(target, "MYID"))
        try:
            yield home, ["GET", keys[1]] if kind is AskError else ["MGET", *keys]
        finally:
            for port in (home, target):
                tell(port, "SETSLOT", slot, "STABLE")


@pytest.mark.parametrize("kind", [MovedError, AskError, TryAgainError, ClusterCrossSlotError, ClusterDownError])
def test_every_refusal_of_a_cluster_node_becomes_that_sentence(cluster, tmp_path, kind):
    with refused_by(cluster, kind, tmp_path) as (port, command):
        with client(port) as node:
            with pytest.raises(kind):
                node.execute_command(*command)
            with pytest.raises(ConfigError, match=f"^redis: {SENTENCE}"), redis_needed():
                node.execute_command(*command)

            async def ask() -> None:
                async with async_client(node) as other:
                    await other.execute_command(*command)

            with pytest.raises(ConfigError, match=f"^localhost:{port}: {SENTENCE}") as caught:
                asyncio.run(ask())
            assert not is_away(caught.value), "a worker would wait forever"


class TestClients:
    def test_a_cluster_client_is_refused_by_name(self, cluster):
        for made in (
            redis_py.RedisCluster(host="127.0.0.1", port=cluster.primaries[0], **RESP3),
            AsyncRedisCluster(host="127.0.0.1", port=cluster.primaries[0], **RESP3),
        ):
            with pytest.raises(ConfigError, match=f"^redis: a RedisCluster client: {SENTENCE}"):
                check_client(made)

    @pytest.mark.parametrize("use", USES)
    def test_a_plain_client_of_one_node_gets_no_partial_response(self, cluster, use):
        for port in (*cluster.primaries, *cluster.replicas):
            with client(port) as node, pytest.raises(ConfigError, match=SENTENCE):
                USES[use](node)

    def test_a_client_that_is_already_connected_gets_none_either(self, cluster):
        with client(cluster.primaries[0]) as node:
            assert node.ping()
            with pytest.raises(ConfigError, match=SENTENCE):
                sk.TimeSeriesReader(node, namespace=NAMESPACE).funds()

    def test_a_plain_client_of_a_single_server_is_accepted(self, redis, namespace):
        options = {key: redis.get_connection_kwargs()[key] for key in ("host", "port", "password")}
        with redis_py.Redis(**options, **RESP3) as made:
            sk.SeriesStore(made, namespace=namespace).write(one_quote(months(1)[0]))
            assert len(sk.TimeSeriesReader(made, namespace=namespace).prices()) == 1
