"""A primary, its replicas and their sentinels, as real processes."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis as redis_py
from chaos.proxy import Proxy

from scraperkit.config import Settings
from scraperkit.embedded import install
from support.ports import unused_port
from support.waiting import wait_until

SERVICE = "prices"
# Longer than a server on a busy machine is ever silent: sentinels never make a flapping server a replica.
DOWN_AFTER_MS = 3000


class Guarded:
    """A service monitored by sentinels.

    Attributes
    ----------
    url : str
        The address that names the sentinels.
    servers : dict of int to subprocess.Popen
        By the port that the server announces.
    proxies : dict of int to Proxy
        By the port that the proxy listens on, which is also the one announced; empty without proxies.
    sentinels : list of int
        Their ports.
    """

    def __init__(
        self,
        folder: Path,
        stack: contextlib.ExitStack,
        replicas: int,
        *,
        is_proxied: bool = False,
        options: Sequence[str] = ("--save", ""),
        seed: int = 0,
    ) -> None:
        self._home = install.install(Settings.load().cache)
        self._folder, self._stack = folder, stack
        self._is_proxied, self._options, self._seed = is_proxied, options, seed
        self._own_ports: dict[int, int] = {}
        self.servers: dict[int, subprocess.Popen[bytes]] = {}
        self.proxies: dict[int, Proxy] = {}
        first = self._start()
        for _ in range(replicas):
            self._start("--replicaof", "127.0.0.1", str(first))
        self.sentinels = [self._sentinel(first) for _ in range(3)]
        self.url = "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in self.sentinels) + f"/{SERVICE}"
        assert wait_until(lambda: self._is_whole(replicas)), "the sentinels do not see each other"

    @property
    def primary(self) -> int:
        """The port of the primary, according to a sentinel."""
        with client(self.sentinels[0]) as sentinel:
            return int(sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])

    def wait_for_another(self, than: int) -> int:
        """Wait until another server is the primary, and responds as one; return its port."""

        def is_promoted() -> bool:
            port = self.primary
            if port == than:
                return False
            with contextlib.suppress(redis_py.RedisError), self.client(port) as server:
                return server.execute_command("ROLE")[0] == "master"
            return False

        assert wait_until(is_promoted), f"no failover: {self.told()}"
        return self.primary

    def client(self, port: int) -> redis_py.Redis:
        """Return a client of one server that bypasses its proxy."""
        return redis_py.Redis(port=self._own_ports[port], decode_responses=True, protocol=3, socket_timeout=5)

    def tolerate(self, milliseconds: int) -> None:
        """Make the sentinels wait this long before they declare a silent server dead."""
        for port in self.sentinels:
            with client(port) as sentinel:
                sentinel.execute_command("SENTINEL", "SET", SERVICE, "down-after-milliseconds", milliseconds)

    def is_replica(self, port: int) -> bool:
        """Return whether a server follows another one, and has caught up with it."""
        with contextlib.suppress(redis_py.RedisError), self.client(port) as server:
            found = server.info("replication")
            return found["role"] == "slave" and found["master_link_status"] == "up"
        return False

    def told(self) -> str:
        """Return the last log lines of each sentinel."""
        logs = (self._folder / f"sentinel-{port}" / "log" for port in self.sentinels)
        return "\n".join("\n".join(log.read_text().splitlines()[-30:]) for log in logs)

    def isolated_sentinel(self, port: int) -> int:
        """Start a sentinel that sees this server only, past its proxy; return its port."""
        return self._sentinel(self._own_ports[port])

    def kill(self, port: int) -> None:
        """Kill a server."""
        self.servers[port].kill()
        self.servers[port].wait(60)

    def start_again(self, port: int) -> None:
        """Restart a killed server; the sentinels make it a replica."""
        self._start(port=port)

    def _start(self, *options: str, port: int = 0) -> int:
        own = self._own_ports[port] if port else unused_port()
        port = port or self._announced(own)
        folder = self._folder / f"server-{own}"
        folder.mkdir(exist_ok=True)
        module = str(self._home / "lib" / "redistimeseries.so")
        words = ["--port", str(own), "--dir", str(folder), *self._options, *options, "--loadmodule", module]
        announced = ["--replica-announce-ip", "127.0.0.1", "--replica-announce-port", str(port)]
        self.servers[port] = self._run(folder, [*words, *announced, "--repl-diskless-sync-delay", "0"])
        assert wait_until(lambda: responds(own)), (folder / "log").read_text()
        return port

    def _announced(self, own: int) -> int:
        port = own
        if self._is_proxied:
            proxy = self._stack.enter_context(Proxy(f"redis://127.0.0.1:{own}", seed=self._seed + len(self.proxies)))
            port = int(urlsplit(proxy.url).port or 0)
            self.proxies[port] = proxy
        self._own_ports[port] = own
        return port

    def _sentinel(self, primary: int) -> int:
        port = unused_port()
        folder = self._folder / f"sentinel-{port}"
        folder.mkdir()
        lines = [
            f"port {port}",
            f"dir {folder}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 3000",
        ]
        (folder / "sentinel.conf").write_text("\n".join(lines) + "\n")
        self._run(folder, [str(folder / "sentinel.conf"), "--sentinel"])
        assert wait_until(lambda: responds(port)), (folder / "log").read_text()
        return port

    def _run(self, folder: Path, words: list[str]) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context((folder / "log").open("ab"))
        process = subprocess.Popen([self._home / "bin" / "redis-server", *words], stdout=log, stderr=log)
        self._stack.callback(process.wait, 60)
        self._stack.callback(process.kill)
        return process

    def _is_whole(self, replicas: int) -> bool:
        for port in self.sentinels:
            with client(port) as sentinel:
                fields = sentinel.execute_command("SENTINEL", "MASTER", SERVICE)
                found = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
                if (int(found["num-slaves"]), int(found["num-other-sentinels"])) != (replicas, 2):
                    return False
        with self.client(self.primary) as server:
            return all(server.info("replication")[f"slave{number}"]["state"] == "online" for number in range(replicas))


@contextlib.contextmanager
def guarded_redis(folder: Path, replicas: int = 1, **options: Any) -> Iterator[Guarded]:
    """Run a service, with the options of :class:`Guarded`; end everything afterwards."""
    with contextlib.ExitStack() as stack:
        yield Guarded(folder, stack, replicas, **options)


def client(port: int) -> redis_py.Redis:
    return redis_py.Redis(port=port, decode_responses=True, socket_timeout=5)


def responds(port: int) -> bool:
    with contextlib.suppress(redis_py.RedisError), client(port) as server:
        return bool(server.ping())
    return False
