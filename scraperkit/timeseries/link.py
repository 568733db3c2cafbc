"""How the store and the reader of series talk to Redis."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import redis as redis_py

from scraperkit.config import Settings
from scraperkit.connection import check_client, redis_needed
from scraperkit.errors import StoreError
from scraperkit.keys import Keys
from scraperkit.timeseries.commands import Command
from scraperkit.timeseries.stream import RawReplies, Request, parsed_replies, stream

T = TypeVar("T")


class Link:
    """A client of our own on the connections of a given one; what goes wrong comes as an error of the kit.

    ``redis.ts()`` changes for good what raw ``TS.*`` commands answer on the client that it is called on; nobody calls
    it on this one.

    Raises
    ------
    ConfigError
        If the given client is not one that :func:`~scraperkit.connection.check_client` lets pass.
    """

    def __init__(self, redis: redis_py.Redis) -> None:
        self._client: Any = redis_py.Redis(connection_pool=check_client(redis).connection_pool)

    def send(self, *command: str | int) -> Any:
        """Return the reply to one command; raises ``StoreError`` if Redis refuses it."""
        with _kit_errors():
            return self._client.execute_command(*command)

    def pipeline(self, commands: Iterable[Command]) -> list[Any]:
        """Return the reply to each command; a refusal is an exception among them."""
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        with _kit_errors():
            return list(pipeline.execute(raise_on_error=False))

    def write(self, commands: Sequence[bytes]) -> list[Any]:
        """Return the reply to each packed command; a refusal is an exception among them. All must be repeatable."""
        (replies,) = self.stream([Request(b"".join(commands), len(commands))])
        return replies

    def stream(self, requests: Iterable[Request]) -> Generator[list[Any], None, None]:
        """Yield the replies to each request; a refusal is an exception among them. See :func:`.stream.stream`."""
        with _kit_errors():
            yield from stream(self._client.connection_pool, requests, parsed_replies)

    def raw_replies(self, requests: Iterable[bytes]) -> Generator[bytearray, None, None]:
        """Yield the bytes of the replies to each request of packed commands; close it if you leave it early.

        Raises
        ------
        NoSocket
            If redis-py does not show the sockets of its connections.
        RedisUnreachable
            If Redis goes away.
        """
        receive = RawReplies()
        marked = (Request(request + receive.mark, 1) for request in requests)
        with _kit_errors():
            yield from stream(self._client.connection_pool, marked, receive)


@contextmanager
def _kit_errors() -> Iterator[None]:
    try:
        with redis_needed():
            yield
    except redis_py.ResponseError as error:
        raise StoreError(f"Redis refused: {error}") from error


def keys_of(namespace: str | None) -> Keys:
    """Return the keys of a namespace; left out, of the one in the settings."""
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
