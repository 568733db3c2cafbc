"""Confirm writes by ``WAIT``: a write counts once replicas have it; ``WAIT`` covers its own connection's writes only.

Replication is one stream, so a replica that confirms a connection's last write has all earlier writes, too.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

import redis
from redis.exceptions import ResponseError

from scraperkit.failover.roles import Demoted

log = logging.getLogger(__name__)
T = TypeVar("T")
# The server became a replica, before or during the wait.
_NO_PRIMARY = ("UNBLOCKED", "WAIT cannot be used with replica")


class Unconfirmed(redis.ConnectionError):
    """Too few replicas confirmed a write in time; if the primary is lost, the write may be lost, too."""


class Confirmation(NamedTuple):
    """Number of replicas that must confirm a write, and the seconds that they have."""

    replicas: int
    seconds: float

    @property
    def words(self) -> tuple[str, int, int]:
        """The command that waits for them."""
        return ("WAIT", self.replicas, max(1, int(self.seconds * 1000)))


async def confirmed(client: Any, wanted: Confirmation, write: Callable[[Any], Awaitable[T]]) -> T:
    """Return the result of `write` once replicas have what it wrote; `client` is an asyncio client without retries.

    If too few confirm, it keeps waiting: the primary has the write, and repeating it would only write it twice. If the
    primary is lost or demoted first, it raises ConnectionError, and the caller must repeat `write`.
    """
    async with client.client() as one:
        reply = await write(one)
        is_told = False
        while (have := await _count(one, wanted)) < wanted.replicas:
            if not is_told:
                log.warning("%d of %d replicas confirm what is settled; waiting for the rest", have, wanted.replicas)
                is_told = True
        return reply


async def check_right_to_wait(client: Any) -> None:
    """Raise the refusal if Redis does not allow ``WAIT``: better at the start than at the first result."""
    await client.execute_command("WAIT", 0, 0)


async def _count(one: Any, wanted: Confirmation) -> int:
    # A new connection has written nothing, so all replicas would confirm at once.
    if not one.connection.is_connected:
        raise redis.ConnectionError("the connection was lost before replicas had confirmed what it wrote")
    try:
        return int(await one.execute_command(*wanted.words))
    except ResponseError as error:
        if any(text in str(error) for text in _NO_PRIMARY):
            raise Demoted from None
        raise


class Confirming:
    """The part of a client that scripts need; its scripts return once replicas have what they wrote.

    Raises
    ------
    Unconfirmed
        If they do not confirm in time. The primary has the write, which can be repeated.
    """

    def __init__(self, client: redis.Redis, wanted: Confirmation) -> None:
        self._client: Any = client
        self._wanted = wanted

    def evalsha(self, *words: Any) -> Any:
        """Run a script and wait, in one round trip: a retry sends both over the same new connection."""
        with self._client.pipeline(transaction=False) as both:
            both.evalsha(*words)
            both.execute_command(*self._wanted.words)
            reply, have = both.execute(raise_on_error=False)
        for each in (reply, have):
            if isinstance(each, Exception):
                raise each
        if have < self._wanted.replicas:
            raise Unconfirmed(
                f"{have} of {self._wanted.replicas} replicas confirmed the write within {self._wanted.seconds:g} s"
            )
        return reply

    def script_load(self, text: str) -> Any:
        """Load a script."""
        return self._client.script_load(text)
