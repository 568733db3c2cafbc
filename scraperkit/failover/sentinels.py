"""Redis behind sentinels: each new connection asks them where the primary is.

redis-py's Sentinel client needs its own kind of pool. Here, only the connections differ, so pools, Pub/Sub and asyncio
work as elsewhere.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from scraperkit.embedded.connections import in_thread
from scraperkit.failover.roles import (
    REPLICA,
    ROLE_EVERY,
    AsyncPlainConnection,
    AsyncTlsConnection,
    PlainConnection,
    TlsConnection,
)

PORT = 26379
# A sentinel that does not answer within these seconds is skipped.
_SENTINEL_TIMEOUT = 1.0
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


class Sentinels:
    """The sentinels to ask for the primary of a service."""

    def __init__(self, address: SentinelAddress, options: Mapping[str, Any]) -> None:
        self._address = address
        self._order = list(address.hosts)
        self._asked_at = -math.inf
        self._named: tuple[str, int] | None = None
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

    def primary(self) -> tuple[str, int]:
        """Return host and port of the primary, from the first sentinel that knows it.

        Raises
        ------
        redis.ConnectionError
            If no sentinel knows it.
        """
        problems = []
        for host, port in list(self._order):
            try:
                named = self._ask(host, port)
            except (redis.RedisError, OSError) as error:
                problems.append(f"{host}:{port}: {str(error).rstrip('.')}")
                continue
            if named:
                with contextlib.suppress(ValueError):  # another thread may have done so
                    self._order.remove((host, port))
                    self._order.insert(0, (host, port))
                return named
            problems.append(f"{host}:{port}: it knows no service {self._address.service!r}")
        raise redis.ConnectionError(f"no sentinel knows the primary: {'; '.join(problems)}")

    def name_another(self, host: str, port: int) -> bool:
        """Return whether most sentinels name another primary than this one, which does not notice that it is cut off.

        They are asked at most every few seconds, however many connections call; those that do not answer name none.
        """
        now = time.monotonic()
        if now - self._asked_at >= ROLE_EVERY:
            self._asked_at = now
            named: Counter[tuple[str, int] | None] = Counter()
            for sentinel in self._address.hosts:
                with contextlib.suppress(redis.RedisError, OSError):
                    named[self._ask(*sentinel)] += 1
            self._named = next((found for found, count in named.items() if 2 * count > len(self._address.hosts)), None)
        return self._named not in (None, (host, port))

    def _ask(self, host: str, port: int) -> tuple[str, int] | None:
        with redis.Redis(host=host, port=port, **self._options) as sentinel:
            found: Any = sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.service)
        return (str(found[0]), int(found[1])) if found else None

    def __str__(self) -> str:
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self._address.hosts)
        return f"{self._address.service} (sentinels {hosts})"


class _AsksSentinels:
    """A connection to the primary of a service, wherever it is now."""

    def __init__(self: Any, *, sentinels: Sentinels, **options: Any) -> None:
        self._sentinels = sentinels
        super().__init__(**options)

    def connect_check_health(self: Any, *args: Any, **options: Any) -> None:
        """Connect to the primary unless connected; raise ConnectionError while the sentinels name a replica."""
        if self.is_connected:
            return
        self.host, self.port = self._sentinels.primary()
        super().connect_check_health(*args, **options)  # type: ignore[misc]
        self.send_command("ROLE", check_health=False)
        with contextlib.suppress(ResponseError):  # this user may lack the right to ROLE
            if super().read_response()[0] in REPLICA:  # type: ignore[misc]
                self.disconnect()
                raise redis.ConnectionError(f"{self.host}:{self.port} is a replica: a failover is under way")

    def is_left(self: Any) -> bool:
        """Return whether the server is no longer the primary: a replica, or cut off from the sentinels."""
        is_replica: bool = super().is_left()  # type: ignore[misc]
        return is_replica or self._sentinels.name_another(self.host, self.port)


class SentinelConnection(_AsksSentinels, PlainConnection):
    """Over TCP."""


class SentinelTlsConnection(_AsksSentinels, TlsConnection):
    """Over TLS."""


class _AsyncAsksSentinels:
    """The same for asyncio; a thread asks the sentinels while the event loop continues."""

    def __init__(self: Any, *, sentinels: Sentinels, **options: Any) -> None:
        self._sentinels = sentinels
        super().__init__(**options)

    async def connect_check_health(self: Any, *args: Any, **options: Any) -> None:
        """Connect to the primary unless connected; raise ConnectionError while the sentinels name a replica."""
        if self.is_connected:
            return
        self.host, self.port = await in_thread(self._sentinels.primary)
        await super().connect_check_health(*args, **options)  # type: ignore[misc]
        await self.send_command("ROLE", check_health=False)
        with contextlib.suppress(ResponseError):  # this user may lack the right to ROLE
            if (await super().read_response())[0] in REPLICA:  # type: ignore[misc]
                await self.disconnect(nowait=True)
                raise redis.ConnectionError(f"{self.host}:{self.port} is a replica: a failover is under way")

    async def is_left(self: Any) -> bool:
        """Return whether the server is no longer the primary: a replica, or cut off from the sentinels."""
        if await super().is_left():  # type: ignore[misc]
            return True
        return await in_thread(self._sentinels.name_another, self.host, self.port)


class AsyncSentinelConnection(_AsyncAsksSentinels, AsyncPlainConnection):
    """Over TCP, for asyncio."""


class AsyncSentinelTlsConnection(_AsyncAsksSentinels, AsyncTlsConnection):
    """Over TLS, for asyncio."""
