"""Connections to the embedded server that bring it back if it was killed along with its keeper.

Every wait for Redis reconnects, so batches and workers need not look after the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import hiredis
import redis
import redis.asyncio

from scraperkit.config import Settings
from scraperkit.embedded import shared
from scraperkit.embedded.state import State
from scraperkit.errors import EmbeddedRedisError

T = TypeVar("T")


class EmbeddedConnection(redis.Connection):
    """Connection to the embedded server, which may have changed its port.

    Parameters
    ----------
    embedded : Settings
        Where its data and its binary are.
    **options
        As for ``redis.Connection``.
    """

    def __init__(self, *, embedded: Settings, **options: Any) -> None:
        self._embedded, self._folder = embedded, shared.folder_of(embedded)
        super().__init__(**options)  # type: ignore[no-untyped-call]

    def connect_check_health(self, *args: Any, **options: Any) -> None:
        """Connect unless connected, bringing the server back first if necessary."""
        if not self.is_connected:
            if shared.is_missing(self._folder):
                _bring_back(self._folder, self._embedded)
            _aim(self, State.load(self._folder))
        super().connect_check_health(*args, **options)


class PackedInC:
    """A connection for asyncio whose commands are packed in C.

    redis-py does so for its synchronous connections only; packing a month of figures in Python takes as long as all
    other work on it.
    """

    def pack_command(self, *words: Any) -> list[bytes]:
        """Return a command as bytes; raise DataError if a word is neither text, bytes nor a number."""
        first = words[0] if isinstance(words[0], bytes) else words[0].encode()
        try:
            return [hiredis.pack_command((*first.split(), *words[1:]))]
        except TypeError as error:
            raise redis.DataError(str(error)) from error


class AsyncEmbeddedConnection(PackedInC, redis.asyncio.Connection):
    """The same for asyncio; a thread waits for the server while the event loop continues."""

    def __init__(self, *, embedded: Settings, **options: Any) -> None:
        self._embedded, self._folder = embedded, shared.folder_of(embedded)
        super().__init__(**options)

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        """Connect unless connected, bringing the server back first if necessary."""
        if not self.is_connected:
            if shared.is_missing(self._folder):
                await in_thread(_bring_back, self._folder, self._embedded)
            _aim(self, State.load(self._folder))
        await super().connect_check_health(*args, **options)


def _bring_back(*where: Any) -> None:
    try:
        shared.bring_back(*where)
    except EmbeddedRedisError as error:
        # An outage like any other: callers that can wait retry.
        raise redis.ConnectionError(str(error)) from error


def _aim(connection: Any, state: State) -> None:
    if state.port:
        connection.port, connection.password = state.port, state.password


async def in_thread(call: Callable[..., T], *arguments: Any) -> T:
    """Await a call in a thread that does not delay the exit, unlike those of the event loop's executor."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(error: Exception | None, result: Any) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def run() -> None:
        failure: Exception | None = None
        result = None
        try:
            result = call(*arguments)
        except Exception as error:  # noqa: BLE001 - raised where it is awaited
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, failure, result)

    threading.Thread(target=run, name="scraperkit-connecting", daemon=True).start()
    return await done
