"""Redis behind sentinels: each new connection asks them where the primary is.

redis-py's Sentinel client needs its own kind of pool. Here, only the connections differ, so pools, Pub/Sub and asyncio
work as elsewhere.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlencode, urlsplit
from weakref import WeakSet

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from scraperkit.embedded.connections import in_thread
from scraperkit.failover.roles import (
    REPLICA,
    AsyncPlainConnection,
    AsyncTlsConnection,
    PlainConnection,
    TlsConnection,
)

PORT = 26379
# A sentinel that does not respond within these seconds is skipped.
_SENTINEL_TIMEOUT = 1.0
_WATCH_EVERY, _SILENT_FOR = 0.5, 5.0  # seconds
SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
_SERVICE = re.compile(r"/([A-Za-z0-9_.-]{1,100})")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?")
_OWN_OPTIONS = ("sentinel_username", "sentinel_password")


class SentinelAddress(NamedTuple):
    """An address such as ``redis+sentinel://user:password@host:26379,host:26379/service``.

    User and password are those of the servers; those of the sentinels go in ``?sentinel_username=`` and
    ``&sentinel_password=``. With ``rediss+sentinel://``, servers and sentinels are reached by TLS.

    Attributes
    ----------
    hosts : tuple of (host, port)
        The sentinels.
    service : str
        The sentinels' name for the primary and its replicas.
    server_url : str
        The address of a server with user, password and options, and a placeholder for its host.
    is_tls : bool
    username, password : str or None
        For the sentinels.
    """

    hosts: tuple[tuple[str, int], ...]
    service: str
    server_url: str
    is_tls: bool
    username: str | None
    password: str | None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read an address.

        Raises
        ------
        ValueError
            If it is not such an address; says which part, never the password.

        Examples
        --------
        >>> address = SentinelAddress.parse("redis+sentinel://:secret@a:26380,b/main?socket_connect_timeout=2")
        >>> address.hosts, address.service, address.server_url
        ((('a', 26380), ('b', 26379)), 'main', 'redis://:secret@sentinels:6379?socket_connect_timeout=2')
        """
        parts = urlsplit(url)
        secret, at, hosts = parts.netloc.rpartition("@")
        found = [_HOST.fullmatch(host) for host in hosts.split(",")]
        if not hosts or None in found:
            raise ValueError("not the hosts of sentinels")
        service = _SERVICE.fullmatch(parts.path)
        if service is None or parts.fragment:
            raise ValueError("no name of a service after the hosts of the sentinels")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        own = [options.pop(name, None) for name in _OWN_OPTIONS]
        is_tls = parts.scheme.lower().startswith("rediss")
        query = f"?{urlencode(options)}" if options else ""
        return cls(
            tuple((match[1].strip("[]"), int(match[2] or PORT)) for match in found if match),
            service[1],
            f"{'rediss' if is_tls else 'redis'}://{secret}{at}sentinels:6379{query}",
            is_tls,
            *own,
        )


class Named(NamedTuple):
    """A primary as a sentinel names it, with the epoch of the failover that made it one; 0 if unknown."""

    epoch: int
    host: str
    port: int


class Sentinels:
    """The sentinels to ask for the primary of a service.

    While connections are open, a thread polls the sentinels, and ends the connections to a server that has been
    replaced. Such a server may be silent, so that a command would wait for its time-out, or cut off, so that it would
    take writes that are lost.
    """

    def __init__(self, address: SentinelAddress, options: Mapping[str, Any]) -> None:
        self._address = address
        self._options = {
            **options,
            "ssl": address.is_tls,
            "username": address.username,
            "password": address.password,
            "decode_responses": True,
            "socket_timeout": _SENTINEL_TIMEOUT,
            "socket_connect_timeout": _SENTINEL_TIMEOUT,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,  # sentinels before Redis 6.2 support no other
        }
        self._guard = threading.Lock()
        self._newest: Named | None = None
        self._silent: dict[tuple[str, int], float] = {}
        self._connections: WeakSet[Any] = WeakSet()
        self._watcher: threading.Thread | None = None

    def primary(self) -> tuple[str, int]:
        """Return host and port of the primary of the newest failover that a sentinel knows.

        Raises
        ------
        redis.ConnectionError
            If no sentinel knows it.
        """
        with self._clients() as clients:
            named, problems = self._ask(clients)
        if not named:
            raise redis.ConnectionError(f"no sentinel knows the primary: {'; '.join(problems)}")
        chosen = self._choose(named)
        return chosen.host, chosen.port

    def watch(self, connection: Any) -> None:
        """End this connection, as long as it is open, once its server has been replaced."""
        with self._guard:
            self._connections.add(connection)
            if self._watcher is None or not self._watcher.is_alive():
                self._watcher = threading.Thread(target=self._run, name="scraperkit-sentinels", daemon=True)
                self._watcher.start()

    def _run(self) -> None:
        with self._clients() as clients:
            while watched := self._watched():
                named, _ = self._ask(clients)
                chosen = self._choose(named) if named else None
                for connection in watched:
                    if chosen is not None and (connection.host, connection.port) != (chosen.host, chosen.port):
                        connection.cut()
                del connection, watched  # so that they can be collected
                time.sleep(_WATCH_EVERY)

    def _watched(self) -> list[Any]:
        """Return the open connections; if there are none, the thread ends."""
        with self._guard:
            found = [connection for connection in self._connections if connection.is_open]
            if not found:
                self._watcher = None
            return found

    def _choose(self, named: Sequence[Named]) -> Named:
        """Return the primary of the newest epoch; a few sentinels that know an older one do not overrule it."""
        votes = Counter(named)
        best = max(votes, key=lambda each: (each.epoch, votes[each]))
        with self._guard:
            known = self._newest
            if known and best.epoch < known.epoch and 2 * votes[best] <= len(self._address.hosts):
                return known
            self._newest = best
            return best

    def _ask(self, clients: Mapping[tuple[str, int], redis.Redis]) -> tuple[list[Named], list[str]]:
        """Return the primary that each sentinel names, and the problems of the others.

        All are asked, since after a failover only one of them may know of it. One that was silent is left out for a
        while, unless no other responds.
        """
        found: list[Named] = []
        problems: list[str] = []
        now = time.monotonic()
        silent = [sentinel for sentinel in clients if self._silent.get(sentinel, 0.0) > now]
        for sentinel in sorted(clients, key=silent.__contains__):
            if sentinel in silent and found:
                break
            try:
                named = _named_by(clients[sentinel], self._address.service)
            except (redis.RedisError, OSError) as error:
                self._silent[sentinel] = now + _SILENT_FOR
                problems.append(f"{sentinel[0]}:{sentinel[1]}: {str(error).rstrip('.')}")
            else:
                self._silent.pop(sentinel, None)
                if named:
                    found.append(named)
                else:
                    problems.append(f"{sentinel[0]}:{sentinel[1]}: it knows no service {self._address.service!r}")
        return found, problems

    @contextlib.contextmanager
    def _clients(self) -> Iterator[dict[tuple[str, int], redis.Redis]]:
        with contextlib.ExitStack() as stack:
            yield {
                (host, port): stack.enter_context(redis.Redis(host=host, port=port, **self._options))
                for host, port in self._address.hosts
            }

    def __str__(self) -> str:
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self._address.hosts)
        return f"{self._address.service} (sentinels {hosts})"


def _named_by(sentinel: Any, service: str) -> Named | None:
    with sentinel.pipeline(transaction=False) as both:
        both.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
        both.execute_command("SENTINEL", "MASTER", service)
        address, fields = both.execute(raise_on_error=False)
    if isinstance(address, Exception):
        raise address
    if not address:
        return None
    # This user of the sentinel may lack the right to MASTER.
    known = {} if isinstance(fields, Exception) else dict(zip(fields[::2], fields[1::2], strict=True))
    return Named(int(known.get("config-epoch", 0)), str(address[0]), int(address[1]))


class _Follower:
    """A connection that follows the primary of a service: the sentinels' thread ends it after a failover."""

    _is_connecting = False

    def __init__(self: Any, *, sentinels: Sentinels, **options: Any) -> None:
        self._sentinels = sentinels
        super().__init__(**options)

    @property
    def is_open(self: Any) -> bool:
        """Whether it is connected or connecting."""
        return bool(self._is_connecting or self.is_connected)

    def cut(self: Any) -> None:
        """Shut the socket, so that whatever waits for it fails; called from another thread."""
        # Meanwhile, its own thread may have closed it.
        if (own := self._own_socket()) is not None:
            with contextlib.suppress(OSError):
                own.shutdown(socket.SHUT_RDWR)


class _AsksSentinels(_Follower):
    def connect_check_health(self: Any, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """Connect to the primary unless connected; raise ConnectionError while the sentinels name a replica."""
        if self.is_connected:
            return
        self._is_connecting = True
        self._sentinels.watch(self)
        try:
            self.host, self.port = self._sentinels.primary()
            super().connect_check_health(check_health, retry_socket_connect)  # type: ignore[misc]
            self.send_command("ROLE", check_health=False)
            with contextlib.suppress(ResponseError):  # this user may lack the right to ROLE
                if super().read_response()[0] in REPLICA:  # type: ignore[misc]
                    self.disconnect()
                    raise redis.ConnectionError(f"{self.host}:{self.port} is a replica: a failover is under way")
        finally:
            self._is_connecting = False

    def _own_socket(self: Any) -> Any:
        own = self._sock
        # Not as an SSLSocket, whose shutdown would let the next command be sent in plain text.
        return super(socket.socket, own) if own else None


class SentinelConnection(_AsksSentinels, PlainConnection):
    """Over TCP."""


class SentinelTlsConnection(_AsksSentinels, TlsConnection):
    """Over TLS."""


class _AsyncAsksSentinels(_Follower):
    """The same for asyncio; a thread asks the sentinels while the event loop continues."""

    async def connect_check_health(self: Any, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """Connect to the primary unless connected; raise ConnectionError while the sentinels name a replica."""
        if self.is_connected:
            return
        self._is_connecting = True
        self._sentinels.watch(self)
        try:
            self.host, self.port = await in_thread(self._sentinels.primary)
            await super().connect_check_health(check_health, retry_socket_connect)  # type: ignore[misc]
            await self.send_command("ROLE", check_health=False)
            with contextlib.suppress(ResponseError):  # this user may lack the right to ROLE
                if (await super().read_response())[0] in REPLICA:  # type: ignore[misc]
                    await self.disconnect(nowait=True)
                    raise redis.ConnectionError(f"{self.host}:{self.port} is a replica: a failover is under way")
        finally:
            self._is_connecting = False

    def _own_socket(self: Any) -> Any:
        writer = self._writer
        return writer.get_extra_info("socket") if writer else None


class AsyncSentinelConnection(_AsyncAsksSentinels, AsyncPlainConnection):
    """Over TCP, for asyncio."""


class AsyncSentinelTlsConnection(_AsyncAsksSentinels, AsyncTlsConnection):
    """Over TLS, for asyncio."""
