"""Start the keeper of a Redis server; :class:`EmbeddedServer` is a server owned by one process."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from scraperkit.config import Settings
from scraperkit.embedded import install
from scraperkit.embedded.install import WAYS_OUT
from scraperkit.embedded.state import ADDRESS, LOG, PINNED, State, private_opener
from scraperkit.errors import EmbeddedRedisError, warn

BOOT_SECONDS = 120.0
END_SECONDS = 15.0
_OWN_FILES = {"state.json", "state.tmp", "users.lock", "keeper.lock", "server.lock", "start.lock", LOG, PINNED}
_OWN_FILES |= {"appendonlydir", "dump.rdb"}  # Redis writes these, and temp-*
_LOG_BYTES = 1_000_000
_LEAST_ROOM = 65_536
_NO_ROOM = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))
# Stub packages save the keeper all imports of the real ones.
_RUN_KEEPER = """
import sys, types
for name, folder in ("scraperkit", sys.argv[1]), ("scraperkit.embedded", sys.argv[2]):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
from scraperkit.embedded.keeper import main
main(*sys.argv[3:])
"""


class EmbeddedServer:
    """A private Redis, for a lesson or a test that kills it; it ends with the ``with`` block and with this process.

    Parameters
    ----------
    folder : Path or str
        Keeps its data, port and password between starts.
    cache : Path, optional
        Folder of the binary; `Settings.cache` if omitted.

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
        return f"<EmbeddedServer {self.folder} {'running' if self.running else 'stopped'}>"

    @property
    def running(self) -> bool:
        """Whether the server is running."""
        return self._keeper is not None and self._keeper.poll() is None

    @property
    def url(self) -> str:
        """The address, with password; a restart does not change it."""
        return url_of(State.load(self.folder))

    @property
    def pid(self) -> int | None:
        """The server's process id, or None."""
        return State.load(self.folder).pid if self.running else None

    def start(self) -> None:
        """Start the server, unless it is running."""
        if not self.running:
            self.stop()
            make_private(self.folder)
            home = install.install(self._cache or Settings.load().cache)
            self._keeper = launch(self.folder, home, "owned")

    def kill(self) -> None:
        """End the server with SIGKILL, as in a crash; data not yet written to disk is lost."""
        # Process id 0 would kill this process's whole group.
        if self._keeper is not None and (pid := self.pid):
            os.kill(pid, signal.SIGKILL)
            self._keeper.wait(END_SECONDS)
        self.stop()

    def restart(self) -> None:
        """Restart the server at the same address with the same data."""
        self.stop()
        self.start()

    def stop(self) -> None:
        """Shut the server down cleanly; its data is kept. Does nothing if it is not running."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        # Closing its input is not enough if children of this process still hold the other end.
        keeper.terminate()
        try:
            keeper.communicate(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.communicate()


def make_private(folder: Path) -> None:
    """Create a folder that other users cannot read, or remove their rights to an existing one.

    An existing folder is changed only if it is this user's and is empty or holds an embedded server's data.

    Raises
    ------
    EmbeddedRedisError
        If it cannot be created.

    Warns
    -----
    ScraperKitWarning
        If others have rights to it and keep them.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_wide(folder) and _is_ours(folder):
            with contextlib.suppress(PermissionError):
                folder.chmod(0o700)
        if _is_wide(folder):
            warn(
                f"other users have rights to {folder}, where the embedded server keeps its data; run "
                f"`chmod 700 {shlex.quote(str(folder))}`, or point SCRAPERKIT_DATA elsewhere"
            )
    except OSError as error:
        raise EmbeddedRedisError(
            f"cannot keep data in {folder}: {error.strerror}; point SCRAPERKIT_DATA elsewhere, {WAYS_OUT}"
        ) from error


def keep_in_place(folder: Path) -> None:
    """Remove other users' right to replace this folder with another, or warn that they have it.

    Write access to the parent folder includes that right, unless the parent has the sticky bit. The parent is changed
    only if it is this user's and holds nothing else.

    Warns
    -----
    ScraperKitWarning
        If others have that right and keep it.
    """
    above = folder.parent
    found = above.stat()
    if not found.st_mode & 0o022 or found.st_mode & stat.S_ISVTX:
        return
    if found.st_uid == os.geteuid() and {path.name for path in above.iterdir()} <= {folder.name}:
        above.chmod(stat.S_IMODE(found.st_mode) & ~0o022)
        return
    warn(
        f"other users may write to {above}, where the embedded server keeps its data; run "
        f"`chmod go-w {shlex.quote(str(above))}`, or point SCRAPERKIT_DATA elsewhere"
    )


def _is_wide(folder: Path) -> bool:
    return bool(folder.stat().st_mode & 0o077)


def _is_ours(folder: Path) -> bool:
    """Return whether the kit may change the rights: the folder is this user's, and nothing else is in it."""
    names = {path.name for path in folder.iterdir() if not path.name.startswith("temp-")}
    return folder.stat().st_uid == os.geteuid() and names <= _OWN_FILES


def url_of(state: State) -> str:
    """Return the address, with password, of a server on this machine."""
    return f"redis://:{state.password}@{ADDRESS}:{state.port}/0"


def launch(folder: Path, home: Path, *flags: str) -> subprocess.Popen[bytes]:
    """Start a keeper and return once its server responds.

    Raises
    ------
    EmbeddedRedisError
        If the server does not start; quotes the end of its log.
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
            # Ctrl-C in a terminal would otherwise reach the keeper too.
            start_new_session=True,
        )
    outcome = _outcome(process)
    if not flags:
        process.wait(END_SECONDS)
    if "error" in outcome:
        process.communicate(timeout=END_SECONDS)
        advice = more_room(folder, outcome["error"]) or f"see {log}, {WAYS_OUT}"
        raise EmbeddedRedisError(f"the embedded Redis did not start: {outcome['error']}; {advice}")
    return process


def more_room(folder: Path, error: str = "") -> str:
    """Return what to do if the disk with the data is full, judging by the error and the disk; otherwise empty.

    A full disk may have no room for the log that would say so.
    """
    if not any(words in error for words in _NO_ROOM) and shutil.disk_usage(folder).free >= _LEAST_ROOM:
        return ""
    return f"the disk is full: free some space in {folder}, or point SCRAPERKIT_DATA at another disk"


def _outcome(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None  # noqa: S101
    with process.stdout as stream, selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        line = stream.readline() if selector.select(BOOT_SECONDS) else b""
    found = json.loads(line) if line else {"error": "its keeper ended before the server was ready"}
    return dict(found)
