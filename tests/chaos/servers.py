"""The Redis of a world: one server, or a primary and a replica with sentinels; each server is behind a proxy.

Why servers run with ``appendfsync always``: Redis writes its log to the kernel before it replies, so that a SIGKILL
(not a loss of power) loses nothing acknowledged, with one exception. With ``everysec``, the embedded server's setting,
that write is delayed for up to two seconds while the previous fsync is still running, and replies go out meanwhile; on
a busy disk, a SIGKILL then loses what was acknowledged in that time. That is a trade-off of the setting, not a fault of
the kit, and must not make this test fail at random.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import redis as redis_py
from chaos.proxy import Proxy
from support.sentinels import Guarded

from scraperkit.connection import connect, sibling
from scraperkit.embedded.server import EmbeddedServer

_TOO_FULL = 1_000_000  # bytes: less than an empty server uses


class Servers:
    """Base class of both.

    Attributes
    ----------
    url : str
        The address for the processes.
    proxies : dict
        The proxies; the keys differ between subclasses.
    is_whole : bool
        Whether all servers are up; a fault must end before the next begins.
    """

    url: str
    proxies: dict[int, Proxy]
    is_whole = True
    can_fail_over = False

    @property
    def redis(self) -> Any:
        """A client of the primary that bypasses the proxies; the primary may be down."""
        raise NotImplementedError

    def kill(self) -> None:
        """Send SIGKILL to the primary."""
        raise NotImplementedError

    def start(self) -> None:
        """Restart the killed server with its data, and accept connections to it again."""
        raise NotImplementedError

    def fill(self) -> None:
        """Limit the primary's memory, so that it refuses commands that need more."""
        self.redis.config_set("maxmemory", _TOO_FULL)

    def empty(self) -> None:
        """Remove the limit of memory."""
        self.redis.config_set("maxmemory", 0)

    def cut_all(self) -> None:
        """Cut all present connections."""
        for proxy in self.proxies.values():
            proxy.cut_all()

    def lose(self, chances: dict[str, float]) -> None:
        """Lose replies from now on."""
        for proxy in self.proxies.values():
            proxy.chances = dict(chances)

    @property
    def lost(self) -> Counter[str]:
        """The replies lost so far."""
        return sum((proxy.lost for proxy in self.proxies.values()), Counter())

    def calm(self) -> None:
        """End all faults."""
        for proxy in self.proxies.values():
            proxy.calm()
        if not self.is_whole:
            self.start()
        self.empty()


class Alone(Servers):
    """One server."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack, seed: int) -> None:
        self._server = stack.enter_context(EmbeddedServer(folder / "redis"))
        self._proxy = stack.enter_context(Proxy(self._server.url, seed=seed))
        self.proxies = {0: self._proxy}
        self.url = self._proxy.url
        client = stack.enter_context(connect(self._server.url))
        self._redis = stack.enter_context(sibling(client, socket_timeout=30))
        self._sync_always()

    @property
    def redis(self) -> Any:
        return self._redis

    def _sync_always(self) -> None:
        self._redis.config_set("appendfsync", "always")

    def kill(self) -> None:
        self.is_whole = False
        self._proxy.shut()
        self._server.kill()

    def start(self) -> None:
        self._server.start()
        self._proxy.lead_to(self._server.url)
        self._sync_always()  # before clients can connect
        self._proxy.open()
        self.is_whole = True


class Pair(Servers):
    """A primary, a replica, and three sentinels that monitor them."""

    can_fail_over = True

    def __init__(self, folder: Path, stack: contextlib.ExitStack, seed: int) -> None:
        options = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
        self.guarded = Guarded(folder, stack, 1, is_proxied=True, options=options, seed=seed)
        self.proxies = self.guarded.proxies
        self.url = self.guarded.url
        self._stack = stack
        self._clients: dict[int, Any] = {}
        self._away = 0

    @property
    def redis(self) -> Any:
        port = self.guarded.primary
        if port not in self._clients:
            self._clients[port] = self._stack.enter_context(self.guarded.client(port))
        return self._clients[port]

    def kill(self) -> None:
        self.is_whole = False
        self._away = self.guarded.primary
        self.proxies[self._away].shut()
        self.guarded.kill(self._away)

    def start(self) -> None:
        if self.guarded.servers[self._away].poll() is not None:
            self.guarded.start_again(self._away)
        self.proxies[self._away].open()
        self.is_whole = True

    def cut_off(self, *, with_clients: bool) -> None:
        """Cut the primary off from sentinels and replica; `with_clients`, its clients stay connected to it."""
        self.is_whole = False
        self._away = self.guarded.primary
        self.proxies[self._away].shut("peers" if with_clients else "all")

    @property
    def has_failed_over(self) -> bool:
        """Whether another server has become the primary."""
        port = self.guarded.primary
        with contextlib.suppress(redis_py.RedisError):
            return port != self._away and self.guarded.client(port).execute_command("ROLE")[0] == "master"
        return False

    @property
    def is_replicated(self) -> bool:
        """Whether the other server has caught up."""
        primary = self.guarded.primary
        return all(self.guarded.is_replica(port) for port in self.proxies if port != primary)

    def empty(self) -> None:
        for port in self.proxies:
            with contextlib.suppress(redis_py.RedisError), self.guarded.client(port) as server:
                server.config_set("maxmemory", 0)
