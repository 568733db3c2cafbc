"""What is written counts once replicas have it: ``WAIT``, which answers for the writes of its own connection alone.

Replication is one stream, so who confirms the last write of a connection has all that its server wrote before, too.
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
# The server has become a replica, before it waited or while it did.
_NO_PRIMARY = ("UNBLOCKED", "WAIT cannot be used with replica")


class Unconfirmed(redis.ConnectionError):
    """Too few replicas have confirmed a write in time; it may be lost with the primary."""


class Confirmation(NamedTuple):
    """How many replicas must confirm a write, and within how many seconds."""

    replicas: int
    seconds: float

    @property
    def words(self) -> tuple[str, int, int]:
        """The command that waits for them."""
        return ("WAIT", self.replicas, max(1, int(self.seconds * 1000)))


async def confirmed(client: Any, wanted: Confirmation, write: Callable[[Any], Awaitable[T]]) -> T:
    """Return what `write` returns once replicas have what it wrote; `client` is one of asyncio without retries.

    Where too few of them confirm, it waits on: what is written is in the primary, and would only be written twice. If
    the primary is lost meanwhile, or is the primary no more, that raises ConnectionError, and `write` must be repeated.
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
    """Raise the refusal, if Redis would refuse to wait for replicas: better at the start than at the first result."""
    await client.execute_command("WAIT", 0, 0)


async def _count(one: Any, wanted: Confirmation) -> int:
    # A new connection has written nothing, so all replicas would confirm that at once.
    if not one.connection.is_connected:
        raise redis.ConnectionError("the connection was lost before replicas had confirmed what it wrote")
    try:
        return int(await one.execute_command(*wanted.words))
    except ResponseError as error:
        if any(text in str(error) for text in _NO_PRIMARY):
            raise Demoted from None
        raise


class Confirming:
    """As much of a client as a script needs, whose scripts return once replicas have what they wrote.

    Raises
    ------
    Unconfirmed
        If they do not confirm it in time. It is written all the same, if only in the primary: it can be repeated.
    """

    def __init__(self, client: redis.Redis, wanted: Confirmation) -> None:
        self._client: Any = client
        self._wanted = wanted

    def evalsha(self, *words: Any) -> Any:
        """Run a script and wait, by one trip: retried, both go over the same new connection."""
        with self._client.pipeline(transaction=False) as both:
            both.evalsha(*words)
            both.execute_command(*self._wanted.words)
            reply, have = both.execute(raise_on_error=False)
        for answer in (reply, have):
            if isinstance(answer, Exception):
                raise answer
        if have < self._wanted.replicas:
            raise Unconfirmed(
                f"{have} of {self._wanted.replicas} replicas have confirmed within {self._wanted.seconds:g} s what was "
                "written"
            )
        return reply

    def script_load(self, text: str) -> Any:
        """Load a script."""
        return self._client.script_load(text)
