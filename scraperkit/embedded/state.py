"""State file, locks and queries shared by the embedded server's keeper and its users.

Uses the standard library only, because the keeper does; see :mod:`scraperkit.embedded.keeper`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

if sys.platform != "win32":
    import fcntl

ADDRESS = "127.0.0.1"
LOG = "redis.log"
PINNED = "pinned"
QUIET_END = 10.0


@dataclass(frozen=True, slots=True)
class State:
    """State of a server, written by its keeper.

    Attributes
    ----------
    ready : bool
        Whether the server responds; valid only while the keeper runs.
    keeper : int
        The keeper's process id; 0 once it has ended on purpose. A keeper that was killed leaves its id.
    """

    port: int = 0
    password: str = field(default="", repr=False)
    ready: bool = False
    keeper: int = 0
    pid: int = 0
    version: str = ""
    host: str = ""

    @classmethod
    def load(cls, folder: Path) -> State:
        """Return the folder's state, or an empty one if it is missing or unreadable."""
        empty = cls()
        try:
            found = json.loads((folder / "state.json").read_bytes())
        except (OSError, ValueError):
            return empty
        known = {item.name: type(getattr(empty, item.name)) for item in fields(cls)}
        items = found.items() if isinstance(found, dict) else ()
        return replace(empty, **{name: value for name, value in items if type(value) is known.get(name)})

    def save(self, folder: Path) -> None:
        """Replace the folder's state atomically. Hold ``keeper.lock``, so that there is only one writer."""
        fresh = folder / "state.tmp"
        try:
            with open(fresh, "w", opener=private_opener) as file:
                json.dump(asdict(self), file)
            fresh.replace(folder / "state.json")
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise


def private_opener(path: str, flags: int) -> int:
    """Open a file that other users cannot read."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def open_lock(path: Path) -> int:
    """Open a lock file; closing it unlocks it, unless a forked child holds it too."""
    return private_opener(str(path), os.O_RDWR | os.O_CREAT)


def unlock(descriptor: int) -> None:
    """Unlock and close an open lock file, also for children forked meanwhile."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def lock(descriptor: int, seconds: float = 0.0, *, shared: bool = False) -> bool:
    """Lock an open lock file, waiting for up to `seconds`; return whether it worked.

    ``flock`` belongs to the open file, not to the process: a forked child holds it too, until both close it.
    """
    kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, kind)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        else:
            return True


def is_locked(path: Path) -> bool:
    """Return whether the file is locked exclusively; probes with a shared lock, so that probes do not collide."""
    descriptor = open_lock(path)
    try:
        return not lock(descriptor, shared=True)
    finally:
        unlock(descriptor)


def is_lost(folder: Path) -> bool:
    """Return whether the folder's keeper and server were killed rather than stopped on purpose."""
    return State.load(folder).keeper > 0 and not is_locked(folder / "keeper.lock")


def ask(port: int, password: str, command: str) -> bytes:
    """Send a command to a server on this machine; return its reply, empty if the password is wrong."""
    with socket.create_connection((ADDRESS, port), timeout=2.0) as connection, connection.makefile("rb") as replies:
        connection.sendall(f"AUTH {password}\r\n{command}\r\n".encode())
        if replies.readline() != b"+OK\r\n":
            return b""
        head = replies.readline()
        return replies.read(int(head[1:])) if head.startswith(b"$") else head


def info(port: int, password: str) -> dict[str, str]:
    """Return the INFO of a server on this machine; empty if it does not respond."""
    try:
        lines = ask(port, password, "INFO").decode().split("\r\n")
    except (OSError, ValueError, OverflowError):
        return {}
    return {name: value for name, _, value in (line.partition(":") for line in lines) if value}


def end_orphan(folder: Path, server_lock: int) -> bool:
    """Lock ``server.lock``, ending a server that outlived its keeper if necessary; return whether it worked."""
    if lock(server_lock, 1.0):
        return True
    state = State.load(folder)
    with contextlib.suppress(OSError, ValueError):
        ask(state.port, state.password, "SHUTDOWN")
    return lock(server_lock, QUIET_END)
