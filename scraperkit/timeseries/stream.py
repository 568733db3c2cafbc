"""Send requests of ready-made bytes and receive their replies; the server works on the next one meanwhile.

redis-py makes, authenticates, pools and retries the connection; only what travels on it is made and read elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from redis.exceptions import ResponseError

T = TypeVar("T")
_IN_FLIGHT = 2


@dataclass(frozen=True, slots=True)
class Request:
    """Packed commands to send at once.

    Attributes
    ----------
    packed : bytes
        The commands, one after another.
    replies : int
        How many replies they get.
    """

    packed: bytes
    replies: int


def stream(pool: Any, requests: Iterable[Request], receive: Callable[[Any, Request], T]) -> Iterator[T]:
    """Yield what `receive` makes of the reply to each request, in order.

    Each request is made and sent while the server works on the one before it, so two are in memory at a time. After a
    lost connection, both are sent again as often as the client's retries allow: a request must be safe to repeat.
    Close the generator if you leave it early. A connection with replies still to come never returns to the pool open.

    Parameters
    ----------
    pool : redis.ConnectionPool
    requests : iterable of Request
    receive : callable
        Takes a connection and a request, and reads all replies to the request from the connection.

    Raises
    ------
    redis.RedisError
        If the connection fails after all retries, and whatever `requests` or `receive` raise.
    """
    upcoming, waiting, sent = iter(requests), deque[Request](), 0
    connection = pool.get_connection()

    def answer() -> T:
        nonlocal sent
        while sent < len(waiting):
            # A health check would read replies that are not its own.
            connection.send_packed_command([waiting[sent].packed], check_health=False)
            sent += 1
        return receive(connection, waiting[0])

    def reconnect(_: Exception) -> None:
        nonlocal sent
        sent = 0
        connection.disconnect()

    try:
        waiting.extend(islice(upcoming, _IN_FLIGHT))
        while waiting:
            answered = connection.retry.call_with_retry(answer, reconnect)
            waiting.popleft()
            sent -= 1
            yield answered
            waiting.extend(islice(upcoming, 1))
    finally:
        if waiting:
            connection.disconnect()
        pool.release(connection)


async def send_packed(pool: Any, commands: Sequence[bytes]) -> list[Any]:
    """Return the reply to each packed command, sent over a connection of an asyncio pool, without retries.

    A refusal is an exception among the replies. A connection with replies still to come never returns to the pool open.

    Raises
    ------
    redis.ConnectionError, redis.TimeoutError
        If the connection fails.
    """
    connection = await pool.get_connection()
    replies: list[Any] = []
    try:
        await connection.send_packed_command(b"".join(commands))
        while len(replies) < len(commands):
            try:
                replies.append(await connection.read_response())
            except ResponseError as error:
                replies.append(error)
        return replies
    finally:
        if len(replies) < len(commands):
            await connection.disconnect(nowait=True)
        await pool.release(connection)


def parsed_replies(connection: Any, request: Request) -> list[Any]:
    """Receive replies as redis-py parses them; a refusal is an exception among them."""
    return [_parsed_reply(connection) for _ in range(request.replies)]


def _parsed_reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
