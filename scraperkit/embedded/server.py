"""Start the keeper of a Redis server; :class:`EmbeddedServer` is a server that belongs to one process alone."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from scraperkit.config import Settings
from scraperkit.embedded import install
from scraperkit.embedded.install import WAYS_OUT
from scraperkit.embedded.state import ADDRESS, LOG, State, private_opener
from scraperkit.errors import EmbeddedRedisError

BOOT_SECONDS = 120.0
END_SECONDS = 15.0
_LOG_BYTES = 1_000_000
# Stand-ins for the packages spare the keeper everything that the real ones import.
_RUN_KEEPER = """
import sys, types
for name, folder in ("scraperkit", sys.argv[1]), ("scraperkit.embedded", sys.argv[2]):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
from scraperkit.embedded.keeper import main
main(*sys.argv[3:])
"""


class EmbeddedServer:
    """A Redis of one's own, for a lesson or a test that kills it; ends with the block, and with this process.

    Parameters
    ----------
    folder : Path or str
        Where its data, its port and its password are kept, from one start to the next.
    cache : Path, optional
        Where the binary is; `Settings.cache` if left out.

    Examples
    --------
    >>> with EmbeddedServer("/tmp/lesson") as server:  # doctest: +SKIP
    ...     server.kill()
    ...     server.restart()
    """

    def __init__(self, folder: Path | str, cache: Path | None = None) -> None:
        self.folder = Path(folder).absolute()
        self._cache = cache
        self._keeper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<EmbeddedServer {self.folder} {'runs' if self.running else 'is stopped'}>"

    @property
    def running(self) -> bool:
        """Whether the server runs."""
        return self._keeper is not None and self._keeper.poll() is None

    @property
    def url(self) -> str:
        """The address with the password; the same after a restart."""
        return url_of(State.load(self.folder))

    @property
    def pid(self) -> int | None:
        """The server's process, or None."""
        return State.load(self.folder).pid if self.running else None

    def start(self) -> None:
        """Start the server, unless it runs."""
        if not self.running:
            self.stop()
            make_private(self.folder)
            home = install.install(self._cache or Settings.load().cache)
            self._keeper = launch(self.folder, home, "owned")

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would; what it had not yet written to the disk is lost."""
        # Zero would mean this process's whole group.
        if self._keeper is not None and (pid := self.pid):
            os.kill(pid, signal.SIGKILL)
            self._keeper.wait(END_SECONDS)
        self.stop()

    def restart(self) -> None:
        """Stop the server if it runs, and start it at the same address with the same data."""
        self.stop()
        self.start()

    def stop(self) -> None:
        """End the server, in order; its data stay. Harmless if it does not run."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        # Closing its input would do, but for children of this process that still hold the other end.
        keeper.terminate()
        try:
            keeper.communicate(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.communicate()


def make_private(folder: Path) -> None:
    """Make a folder that nobody else may read.

    Raises
    ------
    EmbeddedRedisError
        If it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedRedisError(
            f"data cannot be kept in {folder}: {error.strerror}; point SCRAPERKIT_DATA elsewhere, or {WAYS_OUT}"
        ) from error


def url_of(state: State) -> str:
    """Return the address of a server on this machine, with its password."""
    return f"redis://:{state.password}@{ADDRESS}:{state.port}/0"


def launch(folder: Path, home: Path, *flags: str) -> subprocess.Popen[bytes]:
    """Start a keeper and return once its server answers.

    Raises
    ------
    EmbeddedRedisError
        If it does not; tells the server's own last words.
    """
    here, log = Path(__file__).parent, folder / LOG
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.unlink()
    with open(log, "ab", opener=private_opener) as sink:
        process = subprocess.Popen(  # noqa: S603
            [
                sys.executable,
                "-I",
                "-S",
                "-c",
                _RUN_KEEPER,
                str(here.parent),
                str(here),
                str(folder),
                str(home),
                *flags,
            ],
            stdin=subprocess.PIPE if flags else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sink,
            cwd=folder,
            # Ctrl-C in a terminal is meant for the user's program, and reaches its whole session.
            start_new_session=True,
        )
    outcome = _outcome(process)
    if not flags:
        process.wait(END_SECONDS)
    if "error" in outcome:
        process.communicate(timeout=END_SECONDS)
        raise EmbeddedRedisError(f"the embedded Redis did not start: {outcome['error']}; see {log}, or {WAYS_OUT}")
    return process


def _outcome(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None  # noqa: S101
    with process.stdout as stream, selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        line = stream.readline() if selector.select(BOOT_SECONDS) else b""
    found = json.loads(line) if line else {"error": "its keeper ended before the server was up"}
    return dict(found)
