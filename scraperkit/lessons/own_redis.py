"""A private Redis that a lesson may kill; it leaves nothing behind."""

from __future__ import annotations

import atexit
import contextlib
import tempfile
from pathlib import Path

from scraperkit.embedded.server import EmbeddedServer

_open: list[OwnRedis] = []


class OwnRedis(EmbeddedServer):
    """A private Redis in a temporary folder; leaving the block stops it and deletes the folder.

    It logs every change in an append-only file, so a restart after a kill restores its data.
    """

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="scraperkit-lesson-")
        super().__init__(Path(self._temporary.name))
        _open.append(self)

    def close(self) -> None:
        """Stop the server and delete its folder; may be called again."""
        self.stop()
        self._temporary.cleanup()
        if self in _open:
            _open.remove(self)

    def __exit__(self, *_: object) -> None:
        self.close()


def own_redis() -> OwnRedis:
    """Start a Redis for one lesson, which exits it last: ``lesson.enter(server, last=True)``.

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
