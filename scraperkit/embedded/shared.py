"""The embedded Redis server: a real Redis with TimeSeries, on this machine only, running while it is in use.

All processes with the same data folder share one server. Each holds a shared lock while it lives, so the kernel
tracks the users, even ones that crash; the last user ends the server. :mod:`scraperkit.embedded.keeper` runs the
server itself.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from scraperkit.config import Settings
from scraperkit.embedded import install
from scraperkit.embedded.install import WAYS_OUT
from scraperkit.embedded.server import (
    BOOT_SECONDS,
    END_SECONDS,
    EmbeddedServer,
    keep_in_place,
    launch,
    make_private,
    more_room,
    url_of,
)
from scraperkit.embedded.state import (
    ADDRESS,
    LOG,
    PINNED,
    State,
    end_orphan,
    info,
    is_locked,
    is_lost,
    lock,
    open_lock,
    unlock,
)
from scraperkit.errors import EmbeddedRedisError

__all__ = [
    "EmbeddedServer",
    "Status",
    "advice",
    "bring_back",
    "ensure",
    "is_missing",
    "redis_cli",
    "release",
    "running_url",
    "start",
    "status",
    "stop",
]

_guard = threading.RLock()
_leases: dict[Path, int] = {}
# Bringing a server back may take long, and must not hold up the end of this process, which takes the other guard.
_bringing_back = threading.Lock()
_failed: dict[Path, tuple[float, str]] = {}
_TRY_AGAIN_AFTER = 1.0


def _after_fork() -> None:
    # The child keeps its parent's file locks, but must not inherit a held guard.
    global _guard, _bringing_back
    _guard, _bringing_back = threading.RLock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True, slots=True)
class Status:
    """Status of the embedded server of one data folder.

    Attributes
    ----------
    running, pinned : bool
        Whether it is running, and whether it keeps running without users.
    url : str
        Its address, without the password; empty if it is not running.
    pid : int or None
        The server's process id.
    version : str
        The Redis version.
    clients : int or None
        Number of open connections.
    folder, log : Path
        The data folder and the log file.
    size : int
        Bytes of data on disk.
    """

    running: bool
    pinned: bool
    url: str
    pid: int | None
    version: str
    clients: int | None
    folder: Path
    log: Path
    size: int


def ensure(settings: Settings | None = None) -> str:
    """Return the address, with password, of the embedded server; start it if it is not running.

    This process then counts as a user until it ends or calls :func:`release`.

    Raises
    ------
    EmbeddedRedisError
        If the server cannot be installed or does not start.

    Examples
    --------
    >>> import redis
    >>> client = redis.Redis.from_url(ensure())  # doctest: +SKIP
    >>> client.ping()  # doctest: +SKIP
    True
    """
    settings = settings or Settings.load()
    folder = _folder(settings)
    with _guard:
        try:
            if folder not in _leases:
                _leases[folder] = _lease(folder)
                atexit.unregister(release)
                atexit.register(release)
            return url_of(_running(folder, settings))
        except OSError as error:
            raise _cannot_use(folder, error) from error


def is_missing(folder: Path) -> bool:
    """Return whether this process uses a data folder's server that was killed along with its keeper.

    A server that was stopped on purpose is not missing.
    """
    return folder in _leases and is_lost(folder)


def bring_back(folder: Path, settings: Settings) -> State:
    """Start the server of a data folder again if it is missing, and return its state; safe to call from any thread.

    Of many callers, one starts it. For a second after a failure, all get the same error.

    Raises
    ------
    EmbeddedRedisError
        If it does not start.
    """
    with _bringing_back:
        until, told = _failed.get(folder, (0.0, ""))
        if time.monotonic() < until:
            raise EmbeddedRedisError(told)
        try:
            return _running(folder, settings, even_if_stopped=False)
        except (EmbeddedRedisError, OSError) as error:
            failure = _cannot_use(folder, error) if isinstance(error, OSError) else error
            _failed[folder] = time.monotonic() + _TRY_AGAIN_AFTER, str(failure)
            raise failure from None


def advice(settings: Settings | None = None) -> str:
    """Return what to do if the running embedded server does not work: make room on its disk, or read its log."""
    folder = folder_of(settings)
    return more_room(folder) or f"this is the embedded server: see {folder / LOG}"


def release() -> None:
    """Stop using the embedded server, and end it if this was the last user. Runs automatically at exit."""
    with _guard:
        while _leases:
            folder, descriptor = _leases.popitem()
            os.close(descriptor)
            _end_if_unused(folder)


def start(settings: Settings | None = None) -> str:
    """Start the embedded server, pin it until :func:`stop`, and return its address with password.

    Raises
    ------
    EmbeddedRedisError
        If the server cannot be installed or does not start.
    """
    settings = settings or Settings.load()
    folder = _folder(settings)
    with _guard:
        used_before = folder in _leases
        url = ensure(settings)
        (folder / PINNED).touch(mode=0o600)
        if not used_before:
            os.close(_leases.pop(folder))
    return url


def stop(settings: Settings | None = None, *, force: bool = False) -> bool:
    """Stop using the embedded server, end it if possible, and return whether it has ended.

    If other processes use it, it runs until the last one leaves, unless forced.

    Parameters
    ----------
    force : bool
        End it even if other processes use it. Their data is kept; their next ``connect()`` starts it again.
    """
    folder = _folder(settings or Settings.load())
    with _guard:
        (folder / PINNED).unlink(missing_ok=True)
        if folder in _leases:
            os.close(_leases.pop(folder))
        if force:
            ended = _end_keeper(folder)
        else:
            _end_if_unused(folder)
            ended = not is_locked(folder / "keeper.lock")
        if ended:
            _note_that_it_was_meant(folder)
        return ended


def status(settings: Settings | None = None) -> Status:
    """Return the embedded server's status without starting or using it."""
    folder = _folder(settings or Settings.load())
    state = State.load(folder)
    running = is_locked(folder / "keeper.lock") and state.ready
    known = info(state.port, state.password) if running else {}
    files = (path.stat().st_size for path in (folder / "appendonlydir").glob("*"))
    return Status(
        running=running,
        pinned=running and (folder / PINNED).exists(),
        url=f"redis://{ADDRESS}:{state.port}/0" if running else "",
        pid=state.pid if running else None,
        version=state.version if running else "",
        # This status query takes one connection itself.
        clients=int(known["connected_clients"]) - 1 if "connected_clients" in known else None,
        folder=folder,
        log=folder / LOG,
        size=sum(files),
    )


def running_url(settings: Settings | None = None) -> str | None:
    """Return the address, with password, of the running server, or None; starts nothing."""
    folder = _folder(settings or Settings.load())
    state = State.load(folder)
    return url_of(state) if is_locked(folder / "keeper.lock") and state.ready else None


def redis_cli(settings: Settings | None = None) -> tuple[list[str], dict[str, str]]:
    """Return the redis-cli command for the embedded server, and its environment.

    The password is in the environment, not in the arguments. If the command replaces this process (``os.execve``),
    it still counts as a user.
    """
    settings = settings or Settings.load()
    ensure(settings)
    folder = _folder(settings)
    os.set_inheritable(_leases[folder], True)
    state = State.load(folder)
    client = install.install(settings.cache) / "bin" / "redis-cli"
    return [str(client), "-h", ADDRESS, "-p", str(state.port)], {**os.environ, "REDISCLI_AUTH": state.password}


def folder_of(settings: Settings | None = None) -> Path:
    """Return the folder of the embedded server's data."""
    settings = settings or Settings.load()
    return Path(os.path.realpath(settings.data.expanduser())) / "redis"


def _folder(settings: Settings) -> Path:
    # Reject Windows before using anything that it lacks.
    install.supported_wheel()
    folder = folder_of(settings)
    make_private(folder)
    keep_in_place(folder)
    return folder


def _cannot_use(folder: Path, error: OSError) -> EmbeddedRedisError:
    reason = error.strerror or str(error)
    way_out = more_room(folder, reason) or f"point SCRAPERKIT_DATA at a folder on a local disk, {WAYS_OUT}"
    return EmbeddedRedisError(f"the embedded Redis cannot use {folder}: {reason}; {way_out}")


def _lease(folder: Path) -> int:
    descriptor = open_lock(folder / "users.lock")
    # A keeper that is ending holds this lock exclusively.
    if not lock(descriptor, END_SECONDS * 2, shared=True):
        os.close(descriptor)
        raise EmbeddedRedisError(f"the embedded Redis of {folder} does not stop; see {folder / LOG}")
    return descriptor


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = open_lock(path)
    try:
        yield descriptor
    finally:
        unlock(descriptor)


def _running(folder: Path, settings: Settings, *, even_if_stopped: bool = True) -> State:
    """Return the state of a ready server, starting one if necessary. The caller must hold a lease."""
    with _opened(folder / "start.lock") as starting:
        if not lock(starting, BOOT_SECONDS * 2):
            raise EmbeddedRedisError(f"another process hangs while starting the Redis of {folder}; end it, {WAYS_OUT}")
        keeper, deadline = folder / "keeper.lock", time.monotonic() + BOOT_SECONDS
        while is_locked(keeper):
            state = State.load(folder)
            if state.ready:
                _check_machine(folder, state)
                return state
            if (room := more_room(folder)) or time.monotonic() > deadline:
                way_out = room or f"see {folder / LOG}, {WAYS_OUT}"
                raise EmbeddedRedisError(f"the embedded Redis does not start; {way_out}")
            time.sleep(0.02)
        if even_if_stopped or is_lost(folder):
            launch(folder, install.install(settings.cache))
        return State.load(folder)


def _end_if_unused(folder: Path) -> None:
    """End the server at once if it has no users left; its keeper would only notice within half a second."""
    with _opened(folder / "users.lock") as users:
        if lock(users):
            if not (folder / PINNED).exists():
                _end_keeper(folder)
        elif not lock(users, shared=True):
            # The keeper, or the process that left just before, is already ending it.
            _wait_for_end(folder)


def _end_keeper(folder: Path) -> bool:
    state = State.load(folder)
    if is_locked(folder / "keeper.lock"):
        # A process id is valid only while its keeper lives, and on its own machine.
        if state.host != platform.node():
            return False
        if state.keeper > 1:  # else it is ending already
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(state.keeper, signal.SIGTERM)
        return _wait_for_end(folder)
    with _opened(folder / "server.lock") as descriptor:
        return end_orphan(folder, descriptor)


def _note_that_it_was_meant(folder: Path) -> None:
    """Mark a server whose keeper was killed as stopped on purpose, so that its users do not bring it back."""
    with _opened(folder / "keeper.lock") as keeper:
        state = State.load(folder)
        if state.keeper and lock(keeper):
            with contextlib.suppress(OSError):
                replace(state, ready=False, keeper=0).save(folder)


def _wait_for_end(folder: Path) -> bool:
    with _opened(folder / "keeper.lock") as descriptor:
        return lock(descriptor, END_SECONDS, shared=True)


def _check_machine(folder: Path, state: State) -> None:
    if state.host != platform.node() and not info(state.port, state.password):
        raise EmbeddedRedisError(
            f"{folder} is in use by the embedded Redis on another machine, {state.host}; "
            f"point SCRAPERKIT_DATA at a folder on this one, {WAYS_OUT}"
        )
