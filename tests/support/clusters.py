"""A Redis Cluster with TimeSeries, as real processes."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import redis as redis_py
from redis.crc import key_slot

from scraperkit.config import Settings
from scraperkit.embedded import install
from support.ports import unused_port
from support.waiting import wait_until

SLOTS = 16_384


class RealCluster:
    """Primaries that share the slots evenly, optionally with one replica each.

    Attributes
    ----------
    primaries, replicas : list of int
        Their ports; the first replica belongs to the first primary, and so on.
    processes : dict of int to subprocess.Popen
        By port.
    """

    def __init__(
        self, folder: Path, stack: contextlib.ExitStack, primaries: int, with_replicas: bool, node_timeout: int
    ) -> None:
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self._options = ["--cluster-node-timeout", str(node_timeout)]
        self._home = install.install(Settings.load().cache)
        self._folder, self._stack = folder, stack
        self.primaries = [self._start() for _ in range(primaries)]
        self.replicas = [self._start() for _ in range(primaries if with_replicas else 0)]
        self._share_slots()
        self._meet()
        for primary, replica in zip(self.primaries, self.replicas, strict=False):
            tell(replica, "REPLICATE", tell(primary, "MYID"))
        assert wait_until(self._is_whole), f"no whole cluster: {tell(self.primaries[0], 'NODES')}"

    @property
    def url(self) -> str:
        """The address of one of its nodes, like that of a single server."""
        return f"redis://127.0.0.1:{self.primaries[0]}"

    def home(self, key: str) -> int:
        """Return the primary that got a key's slot at first."""
        return next(
            port
            for place, port in enumerate(self.primaries)
            if key_slot(key.encode()) < SLOTS * (place + 1) // len(self.primaries)
        )

    def replica_of(self, primary: int) -> int:
        """Return the replica of a primary."""
        return self.replicas[self.primaries.index(primary)]

    def _start(self) -> int:
        port = unused_port()
        folder = self._folder / f"node-{port}"
        folder.mkdir()
        log = self._stack.enter_context((folder / "log").open("wb"))
        words = ["--port", str(port), "--dir", str(folder), "--save", "", "--cluster-enabled", "yes"]
        # The default bus port, 10,000 higher, may exceed the highest port.
        words += ["--cluster-port", str(unused_port()), "--repl-diskless-sync-delay", "0", *self._options]
        module = self._home / "lib" / "redistimeseries.so"
        process = subprocess.Popen(
            [self._home / "bin" / "redis-server", *words, "--loadmodule", module], stdout=log, stderr=log
        )
        self.processes[port] = process
        self._stack.callback(process.wait, 60)
        self._stack.callback(process.kill)
        assert wait_until(lambda: is_answering(port)), (folder / "log").read_text()
        return port

    def _share_slots(self) -> None:
        count = len(self.primaries)
        for place, port in enumerate(self.primaries):
            tell(port, "SET-CONFIG-EPOCH", place + 1)
            tell(port, "ADDSLOTSRANGE", SLOTS * place // count, SLOTS * (place + 1) // count - 1)

    def _meet(self) -> None:
        first, *others = [*self.primaries, *self.replicas]
        for port in others:
            with client(port) as node:
                bus = node.config_get("cluster-port")["cluster-port"]
            tell(first, "MEET", "127.0.0.1", port, bus)
        nodes = [first, *others]
        assert wait_until(lambda: all(f"cluster_known_nodes:{len(nodes)}\r" in tell(port, "INFO") for port in nodes))

    def _is_whole(self) -> bool:
        if any("cluster_state:ok" not in tell(port, "INFO") for port in (*self.primaries, *self.replicas)):
            return False
        for port in self.replicas:
            with client(port) as replica:
                if replica.info("replication").get("master_link_status") != "up":
                    return False
        return True


@contextlib.contextmanager
def redis_cluster(
    folder: Path, primaries: int = 3, with_replicas: bool = True, node_timeout: int = 15_000
) -> Iterator[RealCluster]:
    """Run a cluster with this node timeout in milliseconds; end everything afterwards."""
    with contextlib.ExitStack() as stack:
        yield RealCluster(folder, stack, primaries, with_replicas, node_timeout)


def client(port: int) -> redis_py.Redis:
    """Return a plain client of one node."""
    return redis_py.Redis(port=port, protocol=3, decode_responses=True, socket_timeout=5)


def tell(port: int, *words: str | int) -> str:
    """Return the reply of a node to a ``CLUSTER`` command, as its text."""
    with client(port) as node:
        # In a script, since redis-py would turn the reply into a dict.
        return node.eval("return redis.call('CLUSTER', unpack(ARGV))", 0, *words)


def is_answering(port: int) -> bool:
    """Return whether a node responds."""
    with contextlib.suppress(redis_py.RedisError), client(port) as node:
        return bool(node.ping())
    return False
