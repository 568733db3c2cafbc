"""Connect the series store and reader to Redis: redis-py keeps the connections; packed bytes may travel on them.

redis-py makes, authenticates, pools and retries the connections; other modules write and parse the bytes.
"""

from __future__ import annotations

import itertools
import secrets
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar

import hiredis
import redis as redis_py
from redis.exceptions import BusyLoadingError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from scraperkit.config import Settings
from scraperkit.connection import check_client, check_server, redis_needed
from scraperkit.errors import RedisRefused, StoreError
from scraperkit.failover.roles import Demoted
from scraperkit.keys import Keys
from scraperkit.timeseries.commands import Command, pack, word

T = TypeVar("T")
_READS_IN_FLIGHT = 4
_RECEIVE_BYTES = 262_144
_NULL = b"_\r\n"
_SOCKET = "_sock"  # the only private name of redis-py that the kit uses: no public API returns bytes


@dataclass(frozen=True, slots=True)
class Request:
    """Packed commands to send at once.

    Attributes
    ----------
    packed : bytes
        The commands, one after another.
    replies : int
        The number of replies to expect.
    """

    packed: bytes
    replies: int


def stream(
    pool: Any, requests: Iterable[Request], receive: Callable[[Any, Request], T], in_flight: int = 2
) -> Generator[T, None, None]:
    """Yield the result of `receive` for each request, in order.

    Requests are made and sent while the server works on earlier ones, so `in_flight` are in memory at a time. After a
    lost connection, they are sent again as often as the client's retries allow: a request must be safe to repeat. Close
    the generator if you leave it early. A connection with outstanding replies is closed before it returns to the pool.

    Parameters
    ----------
    pool : redis.ConnectionPool
    requests : iterable of Request
    receive : callable
        Reads all replies to a request from a connection; takes connection and request.
    in_flight : int
        At least 2. More keep the server busy while the caller works on a reply.

    Raises
    ------
    redis.RedisError
        If the connection fails after all retries. Errors of `requests` and `receive` pass through.
    """
    upcoming, waiting, sent = iter(requests), deque[Request](), 0
    connection = pool.get_connection()
    connection.check_health()

    def next_reply() -> T:
        nonlocal sent
        while sent < len(waiting):
            # A health check would consume replies to earlier requests.
            connection.send_packed_command([waiting[sent].packed], check_health=False)
            sent += 1
        return receive(connection, waiting[0])

    def reconnect(_: Exception) -> None:
        nonlocal sent
        sent = 0
        connection.disconnect()

    try:
        waiting.extend(islice(upcoming, in_flight))
        while waiting:
            answered = connection.retry.call_with_retry(next_reply, reconnect)
            waiting.popleft()
            sent -= 1
            yield answered
            waiting.extend(islice(upcoming, 1))
    finally:
        if waiting:
            connection.disconnect()
        pool.release(connection)


def parsed_replies(connection: Any, request: Request) -> list[Any]:
    """Receive replies as redis-py parses them; a refusal is an exception among them."""
    return [_parsed_reply(connection) for _ in range(request.replies)]


def bare_replies(reply: bytes | bytearray, count: int) -> list[Any]:
    r"""Parse replies with redis-py's parser, without its overhead per reply.

    Raises
    ------
    redis.ConnectionError
        If the server is still loading, or is a replica.

    Examples
    --------
    >>> list(map(str, bare_replies(b":1\r\n-ERR unknown command\r\n", 2)))
    ['1', 'unknown command']
    """
    reader = hiredis.Reader(replyError=_refusal, encoding="utf-8")
    reader.feed(bytes(reply))
    replies = [reader.gets() for _ in range(count)]
    for found in replies:
        if isinstance(found, RedisConnectionError):
            raise found
    return replies


def refused_replies(reply: bytearray, count: int) -> list[Any]:
    """Parse replies to write commands only if one is a refusal: nothing else in them holds a minus."""
    return bare_replies(reply, count) if b"-" in reply else []


def _refusal(text: str) -> Exception:
    if text.startswith("READONLY "):
        return Demoted()
    return BusyLoadingError(text) if text.startswith("LOADING ") else ResponseError(text.removeprefix("ERR "))


class RawReplies:
    """Receives the bytes of replies up to the reply to a ``PING`` with a random word.

    redis-py has no public way to read bytes from a connection, so this reads its socket. redis-py's own buffer is
    empty: a connection from the pool has no unread data, and only this object reads until it returns.

    Attributes
    ----------
    mark : bytes
        The ``PING``, to be the last command of each request.
    """

    def __init__(self) -> None:
        secret = secrets.token_hex(16)
        self.mark = pack(("PING", secret))
        self._end = word(secret.encode()) + b"\r\n"
        self._socket: Any = None
        self._received = bytearray()
        self._buffer = memoryview(bytearray(_RECEIVE_BYTES))

    def __call__(self, connection: Any, _: Request) -> bytearray:
        """Return the next reply, without the mark.

        Raises
        ------
        redis.ConnectionError, redis.TimeoutError
            If the connection ends before the reply does.
        """
        sock = socket_of(connection)
        if sock is not self._socket:  # reconnected: bytes of the old connection are useless
            self._socket, self._received = sock, bytearray()
        received, searched = self._received, 0
        while (end := received.find(self._end, searched)) < 0:
            searched = max(0, len(received) - len(self._end))
            try:
                count = sock.recv_into(self._buffer)
            except TimeoutError as error:
                raise RedisTimeoutError("Timeout reading from socket") from error
            except OSError as error:
                raise RedisConnectionError(f"Error while reading from socket: {error}") from error
            if not count:
                raise RedisConnectionError("Connection closed by server")
            received += self._buffer[:count]
        self._received = received[end + len(self._end) :]
        del received[end:]
        return received


class Dialogue:
    """A connection for commands that depend on earlier replies; get one from :meth:`Link.dialogue`.

    Attributes
    ----------
    was_nothing : bool
        Whether the last reply received was null, as ``EXEC`` replies if a watched key has changed.
    """

    def __init__(self, connection: Any) -> None:
        self._connection, self._raw = connection, RawReplies()
        self.was_nothing = False

    def repeat(self, exchange: Callable[[], T]) -> T:
        """Return the result of `exchange`; repeat it after a lost connection, as often as the retries allow."""
        reply: T = self._connection.retry.call_with_retry(exchange, lambda _: self._connection.disconnect())
        return reply

    def send(self, packed: bytes) -> None:
        """Send packed commands."""
        self._connection.send_packed_command([packed + self._raw.mark], check_health=False)

    def receive(self, count: int, parse: Callable[[bytearray, int], list[Any]] = bare_replies) -> list[Any]:
        """Return the replies to what was sent; a refusal is an exception among them. See :meth:`Link.stream`."""
        try:
            reply = self._raw(self._connection, Request(b"", count + 1))
        except NoSocket:
            replies = parsed_replies(self._connection, Request(b"", count + 1))[:-1]
            self.was_nothing = replies[-1] is None
            return replies
        self.was_nothing = reply.endswith(_NULL)
        return parse(reply, count)


def socket_of(connection: Any) -> Any:
    """Return the socket of a connected redis-py connection.

    Raises
    ------
    NoSocket
        If this release of redis-py keeps it elsewhere.
    """
    sock = getattr(connection, _SOCKET, None)
    if not hasattr(sock, "recv_into"):
        raise NoSocket(f"{type(connection).__name__} does not show its socket")
    return sock


class NoSocket(Exception):
    """redis-py keeps its sockets where this module does not find them."""


def _parsed_reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


class Link:
    """A client on the connections of a given one; its errors are the kit's.

    ``redis.ts()`` permanently changes the replies to raw ``TS.*`` commands on its client; it is never called on this
    one.

    Raises
    ------
    ConfigError
        If :func:`~scraperkit.connection.check_client` refuses the given client.
    """

    def __init__(self, redis: redis_py.Redis) -> None:
        self._pool = check_client(redis).connection_pool

    @cached_property
    def _client(self) -> Any:
        check_server(self._pool)
        return redis_py.Redis(connection_pool=self._pool)

    def send(self, *command: str | int) -> Any:
        """Return the reply to one command; raises ``StoreError`` if Redis refuses it."""
        with _kit_errors():
            return self._client.execute_command(*command)

    def pipeline(self, commands: Iterable[Command]) -> list[Any]:
        """Return the reply to each command; a refusal is an exception among them."""
        with _kit_errors():
            pipeline = self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return list(pipeline.execute(raise_on_error=False))

    def write(self, commands: Sequence[bytes]) -> list[Any]:
        """Return the reply to each packed command; a refusal is an exception among them. All must be repeatable."""
        (replies,) = self.stream([Request(b"".join(commands), len(commands))])
        return replies

    def stream(
        self, requests: Iterable[Request], parse: Callable[[bytearray, int], list[Any]] = bare_replies
    ) -> Generator[list[Any], None, None]:
        """Yield the replies to each request; a refusal is an exception among them. See :func:`.link.stream`.

        Parameters
        ----------
        requests : iterable of Request
        parse : callable
            Takes the bytes of the replies to a request, and their number. If redis-py does not show the sockets of its
            connections, its own parser is used, and all replies are yielded.
        """
        raw = RawReplies()

        def receive(connection: Any, request: Request) -> list[Any]:
            try:
                reply = raw(connection, request)
            except NoSocket:
                return parsed_replies(connection, request)[:-1]
            return parse(reply, request.replies - 1)

        marked = (Request(request.packed + raw.mark, request.replies + 1) for request in requests)
        with _kit_errors():
            yield from stream(self._client.connection_pool, marked, receive)

    @contextmanager
    def dialogue(self) -> Iterator[Dialogue]:
        """Yield a connection of its own, for transactions that depend on earlier reads.

        Raises
        ------
        RedisUnreachable
            If Redis is unreachable.
        """
        with _kit_errors():
            pool = self._client.connection_pool
            connection = pool.get_connection()
            try:
                yield Dialogue(connection)
            except BaseException:
                connection.disconnect()  # it may have unread replies or watched keys
                raise
            finally:
                pool.release(connection)

    def raw_replies(self, requests: Iterable[bytes]) -> Generator[bytearray, None, None]:
        """Yield the bytes of the replies to each request of packed commands; close it if you leave it early.

        Raises
        ------
        NoSocket
            If redis-py does not show the sockets of its connections.
        RedisUnreachable
            If Redis is unreachable.
        """
        receive = RawReplies()
        marked = (Request(request + receive.mark, 1) for request in requests)
        with _kit_errors():
            yield from stream(self._client.connection_pool, marked, receive, _READS_IN_FLIGHT)


@contextmanager
def _kit_errors() -> Iterator[None]:
    try:
        with redis_needed():
            yield
    except RedisRefused as error:
        raise StoreError(str(error)) from error.__cause__


def keys_of(namespace: str | None) -> Keys:
    """Return the keys of a namespace, by default the one in the settings."""
    return Keys(namespace if namespace is not None else Settings.load().namespace)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of at most `size`.

    Examples
    --------
    >>> list(batched("abc", 2))
    [['a', 'b'], ['c']]
    """
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
