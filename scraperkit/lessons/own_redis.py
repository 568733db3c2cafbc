"""A Redis of one's own, to be killed: nobody else is on it, and it leaves nothing."""

from __future__ import annotations

import atexit
import contextlib
import tempfile
from pathlib import Path

from scraperkit.embedded.server import EmbeddedServer

_open: list[OwnRedis] = []


class OwnRedis(EmbeddedServer):
    """A Redis in a temporary folder, which nobody else knows; leaving the block ends it and deletes the folder.

    It keeps a log of every change that it was told (an append-only file): killed, it comes back as it was.
    """

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="scraperkit-lesson-")
        super().__init__(Path(self._temporary.name))
        _open.append(self)

    def close(self) -> None:
        """End the server and delete all that it kept; again is harmless."""
        self.stop()
        self._temporary.cleanup()
        if self in _open:
            _open.remove(self)

    def __exit__(self, *_: object) -> None:
        self.close()


def own_redis() -> OwnRedis:
    """Start a Redis that belongs to one lesson alone, which leaves it last: ``lesson.enter(server, last=True)``.

    Examples
    --------
    >>> with own_redis() as server:
    ...     server.running
    True
    """
    server = OwnRedis()
    server.start()
    return server


@atexit.register
def _close_all() -> None:
    for server in list(_open):
        with contextlib.suppress(Exception):
            server.close()
