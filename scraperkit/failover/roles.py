"""Connections that leave a server when it is no longer the primary, as after a failover behind one address.

They also refuse a server that is a node of a Redis Cluster.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import redis
import redis.asyncio
from redis.connection import SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ReadOnlyError, ResponseError

from scraperkit.embedded.connections import PackedInC
from scraperkit.errors import ConfigError
from scraperkit.failover.clusters import is_of_cluster, no_cluster, refuse_cluster

# Seconds between checks of the server's role.
ROLE_EVERY = 5.0
REPLICA = ("slave", b"slave")


class Demoted(redis.ConnectionError):
    """The server is no longer the primary; a retry reconnects to the same address."""

    def __init__(self, why: str = "the server is a replica, which takes no writes") -> None:
        super().__init__(why)


class _LeavesReplicas:
    """A connection that ends when its server is no longer a primary, as after a failover behind one address.

    A replica refuses writes. Reads would not show that the figures grow stale, so the connection checks the server's
    role at intervals. A reader that was given a replica's address keeps reading.
    """

    _asked_for_role_at = 0.0

    def on_connect_check_health(self: Any, *args: Any, **options: Any) -> None:
        """Shake hands with the server; raise ConfigError if it is a node of a Cluster."""
        super().on_connect_check_health(*args, **options)  # type: ignore[misc]
        try:
            refuse_cluster(self.handshake_metadata, where_to(self))
        except ConfigError:
            self.disconnect()
            raise

    def read_response(self: Any, *args: Any, **options: Any) -> Any:
        """Read a reply; raise :class:`Demoted` if it says that this is a replica."""
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except ReadOnlyError:
            self.disconnect()
            raise Demoted from None

    def check_health(self: Any) -> None:
        """Check the connection, and whether it leads to a primary."""
        super().check_health()  # type: ignore[misc]
        if _is_due(self) and self.is_left():
            self.disconnect()
            self.connect_check_health(check_health=False)

    def is_left(self: Any) -> bool:
        """Return whether the server has become a replica."""
        self.send_command("ROLE", check_health=False)
        with contextlib.suppress(ResponseError):  # some servers or users do not allow ROLE
            return super().read_response()[0] in REPLICA  # type: ignore[misc]
        return False


class _AsyncLeavesReplicas(PackedInC):
    """The same for asyncio, where a check never moves to another server silently: it raises an error.

    There, redis-py does not expose the handshake, so a Cluster is recognized by its errors.
    """

    _asked_for_role_at = 0.0

    async def read_response(self: Any, *args: Any, **options: Any) -> Any:
        """Read a reply; raise :class:`Demoted` or ConfigError if it is that of a replica or of a Cluster."""
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        except ReadOnlyError:
            await self.disconnect(nowait=True)
            raise Demoted from None
        except ResponseError as error:
            if not is_of_cluster(error):
                raise
            await self.disconnect(nowait=True)
            raise no_cluster(where_to(self)) from None

    async def check_health(self: Any) -> None:
        """Check the connection, and whether it leads to a primary."""
        await super().check_health()  # type: ignore[misc]
        if _is_due(self):
            if await self.is_left():
                await self.disconnect(nowait=True)
                raise Demoted
            if not self.is_connected:  # another task has disconnected all meanwhile
                raise redis.ConnectionError("disconnected; reconnect")

    async def is_left(self: Any) -> bool:
        """Return whether the server has become a replica."""
        await self.send_command("ROLE", check_health=False)
        with contextlib.suppress(ResponseError):  # some servers or users do not allow ROLE
            return (await super().read_response())[0] in REPLICA  # type: ignore[misc]
        return False


def where_to(connection: Any) -> str:
    """Return where a connection leads: host and port, or the path of a socket."""
    return getattr(connection, "path", "") or f"{connection.host}:{connection.port}"


def _is_due(connection: Any) -> bool:
    """Return whether to check the role now; not on a new connection, which has just reached the primary."""
    now, last = time.monotonic(), connection._asked_for_role_at
    if now - last < ROLE_EVERY:
        return False
    connection._asked_for_role_at = now
    return bool(last)


class PlainConnection(_LeavesReplicas, redis.Connection):
    """Over TCP."""


class TlsConnection(_LeavesReplicas, SSLConnection):
    """Over TLS."""


class SocketConnection(_LeavesReplicas, UnixDomainSocketConnection):
    """Over a Unix socket."""


class AsyncPlainConnection(_AsyncLeavesReplicas, redis.asyncio.Connection):
    """Over TCP, for asyncio."""


class AsyncTlsConnection(_AsyncLeavesReplicas, redis.asyncio.SSLConnection):
    """Over TLS, for asyncio."""


class AsyncSocketConnection(_AsyncLeavesReplicas, redis.asyncio.UnixDomainSocketConnection):
    """Over a Unix socket, for asyncio."""
