"""The embedded Redis server: a real one with TimeSeries, on this machine only, for as long as somebody uses it.

All processes that share a data folder share one server. Each holds a lock while it lives, so that the kernel keeps
count of the users, even of those that crash; the last one out ends the server. The server itself is run by
:mod:`scraperkit.embedded.keeper`.
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
from dataclasses import dataclass
from pathlib import Path

from scraperkit.config import Settings
from scraperkit.embedded import install
from scraperkit.embedded.install import WAYS_OUT
from scraperkit.embedded.server import BOOT_SECONDS, END_SECONDS, EmbeddedServer, launch, make_private, url_of
from scraperkit.embedded.state import ADDRESS, LOG, PINNED, State, end_orphan, info, is_locked, lock, open_lock
from scraperkit.errors import EmbeddedRedisError

__all__ = [
    "EmbeddedServer",
    "Status",
    "ensure",
    "redis_cli",
    "release",
    "running_url",
    "start",
    "status",
    "stop",
]

_guard = threading.RLock()
_leases: dict[Path, int] = {}


def _after_fork() -> None:
    # The child goes on holding its parent's locks, until both have closed them; only the guard must not stay taken.
    global _guard
    _guard = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True, slots=True)
class Status:
    """How the embedded server of one data folder is doing.

    Attributes
    ----------
    running, pinned : bool
        Whether it runs, and whether it stays although nobody uses it.
    url : str
        Where it listens, without the password; empty if it does not run.
    pid : int or None
        The server's process.
    version : str
        Of Redis.
    clients : int or None
        Open connections.
    folder, log : Path
        The data, and what the server says.
    size : int
        Bytes of data on the disk.
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
    """Return the address of the embedded server, with its password; start it if it does not run.

    From now on this process counts as one of its users, until it ends or calls :func:`release`.

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
            raise EmbeddedRedisError(
                f"the embedded Redis cannot use {folder}: {error.strerror or error}; "
                f"point SCRAPERKIT_DATA at a folder on a local disk, or {WAYS_OUT}"
            ) from error


def release() -> None:
    """Stop using the embedded server; the last one to do so ends it. Runs by itself when the process ends."""
    with _guard:
        while _leases:
            folder, descriptor = _leases.popitem()
            os.close(descriptor)
            _end_if_unused(folder)


def start(settings: Settings | None = None) -> str:
    """Start the embedded server and let it run without users, until :func:`stop`; return its address with password.

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
    """End the embedded server; tell whether it has ended.

    While other processes use it, it goes on until the last one leaves, unless forced. This process stops using it.

    Parameters
    ----------
    force : bool
        End it although others use it. What they stored is kept; their next ``connect()`` starts it again.
    """
    folder = _folder(settings or Settings.load())
    with _guard:
        (folder / PINNED).unlink(missing_ok=True)
        if folder in _leases:
            os.close(_leases.pop(folder))
        if force:
            return _end_keeper(folder)
        _end_if_unused(folder)
        return not is_locked(folder / "keeper.lock")


def status(settings: Settings | None = None) -> Status:
    """Look at the embedded server without starting it or using it."""
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
        # Our own question takes one connection.
        clients=int(known["connected_clients"]) - 1 if "connected_clients" in known else None,
        folder=folder,
        log=folder / LOG,
        size=sum(files),
    )


def running_url(settings: Settings | None = None) -> str | None:
    """Return the address of the running server with its password, or None; starts nothing."""
    folder = _folder(settings or Settings.load())
    state = State.load(folder)
    return url_of(state) if is_locked(folder / "keeper.lock") and state.ready else None


def redis_cli(settings: Settings | None = None) -> tuple[list[str], dict[str, str]]:
    """Return the command that opens redis-cli on the embedded server, and the environment to run it in.

    The password is in the environment, not among the arguments. The command may replace this process (``os.execve``):
    it goes on counting as a user.
    """
    settings = settings or Settings.load()
    ensure(settings)
    folder = _folder(settings)
    os.set_inheritable(_leases[folder], True)
    state = State.load(folder)
    client = install.install(settings.cache) / "bin" / "redis-cli"
    return [str(client), "-h", ADDRESS, "-p", str(state.port)], {**os.environ, "REDISCLI_AUTH": state.password}


def _folder(settings: Settings) -> Path:
    # Before anything that Windows does not have.
    install.supported_wheel()
    folder = Path(os.path.realpath(settings.data.expanduser())) / "redis"
    make_private(folder)
    return folder


def _lease(folder: Path) -> int:
    descriptor = open_lock(folder / "users.lock")
    # Taken by a server that is just ending.
    if not lock(descriptor, END_SECONDS * 2, shared=True):
        os.close(descriptor)
        raise EmbeddedRedisError(f"the embedded Redis of {folder} does not end; see {folder / LOG}")
    return descriptor


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = open_lock(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _running(folder: Path, settings: Settings) -> State:
    """Return the state of a server that answers; start one if none does. The caller holds a lease."""
    with _opened(folder / "start.lock") as starting:
        if not lock(starting, BOOT_SECONDS * 2):
            raise EmbeddedRedisError(f"another process is stuck starting the Redis of {folder}; end it, or {WAYS_OUT}")
        keeper, deadline = folder / "keeper.lock", time.monotonic() + BOOT_SECONDS
        while is_locked(keeper):
            state = State.load(folder)
            if state.ready:
                _check_machine(folder, state)
                return state
            if time.monotonic() > deadline:
                raise EmbeddedRedisError(f"the embedded Redis does not come up; see {folder / LOG}, or {WAYS_OUT}")
            time.sleep(0.02)
        launch(folder, install.install(settings.cache))
        return State.load(folder)


def _end_if_unused(folder: Path) -> None:
    """End the server at once where nobody else uses it; its keeper would find out within half a second."""
    with _opened(folder / "users.lock") as users:
        if lock(users):
            if not (folder / PINNED).exists():
                _end_keeper(folder)
        elif not lock(users, shared=True):
            # Somebody else is ending it right now: the keeper, or the process that left just before.
            _wait_for_end(folder)


def _end_keeper(folder: Path) -> bool:
    state = State.load(folder)
    # A process number means something only while its keeper lives, and on its own machine.
    if is_locked(folder / "keeper.lock") and state.keeper > 1 and state.host == platform.node():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(state.keeper, signal.SIGTERM)
        return _wait_for_end(folder)
    if is_locked(folder / "keeper.lock"):
        return False
    with _opened(folder / "server.lock") as descriptor:
        return end_orphan(folder, descriptor)


def _wait_for_end(folder: Path) -> bool:
    with _opened(folder / "keeper.lock") as descriptor:
        return lock(descriptor, END_SECONDS, shared=True)


def _check_machine(folder: Path, state: State) -> None:
    if state.host != platform.node() and not info(state.port, state.password):
        raise EmbeddedRedisError(
            f"{folder} is in use by the embedded Redis of another machine, {state.host}; "
            f"point SCRAPERKIT_DATA at a folder of this one, or {WAYS_OUT}"
        )
