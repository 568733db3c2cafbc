"""The process that keeps a Redis server running while it is in use; see :mod:`scraperkit.embedded.shared`.

It only uses the standard library and runs as ``python -I -S``, so it starts fast and does not depend on other
packages. Its folder contains:

=================  ==========================================================================================
``keeper.lock``    locked by the keeper while it runs; ``state.json`` is valid only while this is locked
``server.lock``    locked by keeper and server, so that a server never opens data that an older one still uses
``users.lock``     locked, shared, by every process that uses the server; the kernel unlocks it on a crash
``start.lock``     locked by the process that starts a keeper
``state.json``     :class:`~scraperkit.embedded.state.State`; kept between runs, as clients remember port and password
``pinned``         exists while the server should keep running without users
``redis.log``      log of the keeper and the server
``appendonlydir``  the data
=================  ==========================================================================================
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from scraperkit.embedded.state import ADDRESS, LOG, PINNED, QUIET_END, State, end_orphan, info, lock, open_lock, unlock

CHECK_EVERY = 0.5
FIRST_BACKOFF, LONGEST_BACKOFF = 0.05, 5.0
STEADY = 30.0
_PORTS_TRIED = 5
_PORT_TAKEN = "Address already in use"
_PR_SET_PDEATHSIG = 1


class BootError(Exception):
    """The server did not start; the text is the end of its log."""


class Keeper:
    """Supervisor of one server: starts it, restarts it after a crash, and ends it when nobody uses it.

    Parameters
    ----------
    folder : Path
        Folder of the data and the files listed above.
    home : Path
        Folder of the binary.
    owned : bool
        Whether a single process owns the server: it ends when the keeper's standard input closes, with no restart.
    """

    def __init__(self, folder: Path, home: Path, *, owned: bool) -> None:
        self.folder, self.home, self.owned = folder, home, owned
        self.stopping = False
        self._child: subprocess.Popen[bytes] | None = None
        self._state = State()
        self._server_lock = -1
        self._wakeup, self._waker = socket.socketpair()

    def run(self) -> None:
        """Keep the server running while it is needed.

        Raises
        ------
        BootError
            If it does not start at all.
        """
        self._watch_signals()
        keeper_lock = open_lock(self.folder / "keeper.lock")
        if not lock(keeper_lock, QUIET_END):
            raise BootError("another keeper is running in this folder")
        try:
            self._keep()
        except BaseException:
            # The starting process may look for a keeper as soon as it reads the error.
            unlock(keeper_lock)
            raise

    def _keep(self) -> None:
        if not State.load(self.folder).keeper:
            # A pin ends with its server, unless the server was lost.
            (self.folder / PINNED).unlink(missing_ok=True)
        self._server_lock = open_lock(self.folder / "server.lock")
        if not end_orphan(self.folder, self._server_lock):
            raise BootError("a server without a keeper is using the data and does not stop")
        try:
            self._recall()
            self._boot()
            report({"pid": self._state.pid, "port": self._state.port})
            self._stay()
            self.stopping = True
        finally:
            self._end()

    def _watch_signals(self) -> None:
        self._wakeup.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        # Without a handler, a child's exit would not wake select().
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _on_sigterm(self, *_: Any) -> None:
        self.stopping = True

    def _recall(self) -> None:
        old = State.load(self.folder)
        password = old.password or secrets.token_urlsafe(32)
        self._state = State(port=old.port, password=password, keeper=os.getpid(), host=platform.node())

    def _boot(self) -> None:
        """Start the server on its previous port, or on another if that is taken."""
        for left in reversed(range(_PORTS_TRIED)):
            self._state = replace(self._state, ready=False, port=free_port(self._state.port))
            try:
                return self._boot_here()
            except BootError as error:
                # Another process may take the port between the check and the server's start.
                if not left or _PORT_TAKEN not in str(error):
                    raise
                self._state = replace(self._state, port=0)
        return None

    def _boot_here(self) -> None:
        self._state.save(self.folder)
        said = os.fstat(2).st_size
        self._child = self._spawn()
        while self._child.poll() is None and not self.stopping:
            known = info(self._state.port, self._state.password)
            # The process id matters because another server may use that port.
            if known.get("process_id") == str(self._child.pid) and known.get("loading") == "0":
                version = known.get("redis_version", "")
                self._state = replace(self._state, ready=True, pid=self._child.pid, version=version)
                self._state.save(self.folder)
                return
            self._sleep(0.02)
        raise BootError("it was asked to stop" if self.stopping else last_words(self.folder / LOG, said))

    def _spawn(self) -> subprocess.Popen[bytes]:
        config = redis_config(self.folder, self.home, self._state.port, self._state.password)
        # A pipe buffers these few hundred bytes, so writing does not block.
        incoming, outgoing = os.pipe()
        os.write(outgoing, config.encode())
        os.close(outgoing)
        try:
            return subprocess.Popen(  # noqa: S603
                [self.home / "bin" / "redis-server", "-"],
                stdin=incoming,
                stdout=2,
                stderr=2,
                pass_fds=[self._server_lock],
                preexec_fn=_dies_with_this_process(),
                # Redis does not start if the user's locale is not installed.
                env={**os.environ, "LC_ALL": "C"},
            )
        finally:
            os.close(incoming)

    def _stay(self) -> None:
        backoff, started = FIRST_BACKOFF, time.monotonic()
        while not self.stopping and not self._idle():
            self._sleep(CHECK_EVERY)
            if self.stopping or (self._child is not None and self._child.poll() is None):
                continue
            say(f"the server ended with {self._child.returncode if self._child else 'an error'}")
            if self.owned:
                return
            self._state = replace(self._state, ready=False)
            self._state.save(self.folder)
            backoff = FIRST_BACKOFF if time.monotonic() - started > STEADY else backoff
            self._sleep(backoff)
            backoff, started = min(backoff * 2, LONGEST_BACKOFF), time.monotonic()
            try:
                self._boot()
            except (BootError, OSError) as error:
                say(f"the server did not restart: {error}")

    def _idle(self) -> bool:
        if self.owned:
            return False
        users = open_lock(self.folder / "users.lock")
        if lock(users) and not (self.folder / PINNED).exists():
            # The lock is held until this process ends; a new user waits for it, then starts a new keeper.
            return True
        os.close(users)
        return False

    def _sleep(self, seconds: float) -> None:
        watched = [self._wakeup.fileno(), 0] if self.owned else [self._wakeup.fileno()]
        ready, _, _ = select.select(watched, [], [], seconds)
        if 0 in ready and not os.read(0, 1):
            self.stopping = True
        with contextlib.suppress(BlockingIOError):
            self._wakeup.recv(4096)

    def _end(self) -> None:
        if self._state.port:
            keeper = 0 if self.stopping else self._state.keeper
            with contextlib.suppress(OSError):
                replace(self._state, ready=False, keeper=keeper).save(self.folder)
        if self._child is None or self._child.poll() is not None:
            return
        self._child.terminate()
        try:
            self._child.wait(QUIET_END)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def redis_config(folder: Path, home: Path, port: int, password: str) -> str:
    """Return the server's configuration, passed on standard input because ``ps`` would show a password argument."""
    lines = (
        f"bind {ADDRESS}",
        f"port {port}",
        "protected-mode yes",
        f"requirepass {_quoted(password)}",
        f"dir {_quoted(folder)}",
        f"loadmodule {_quoted(home / 'lib' / 'redistimeseries.so')}",
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
    )
    return "\n".join(lines) + "\n"


def _quoted(text: object) -> str:
    escaped = str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def free_port(wanted: int) -> int:
    """Return the wanted port if it is free, otherwise another free one."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError, OverflowError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((ADDRESS, port))
            return int(probe.getsockname()[1])
    raise BootError("this machine has no free port")


def _dies_with_this_process() -> Any:
    """Return a ``preexec_fn`` that has the kernel end the server with its keeper; None except on Linux."""
    if sys.platform != "linux":
        return None
    keeper, libc = os.getpid(), ctypes.CDLL(None)

    def arrange() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != keeper:
            os._exit(1)

    return arrange


def last_words(log: Path, said: int) -> str:
    """Return the last log lines after the first `said` bytes, as one line."""
    lines = []
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(said)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    return " / ".join([line for line in lines if line][-2:]) or "it ended without a message"


def say(text: str) -> None:
    """Write one line to the log, if the disk has room for it."""
    with contextlib.suppress(OSError):
        os.write(2, f"{time.strftime('%Y-%m-%d %H:%M:%S')} keeper {os.getpid()}: {text}\n".encode())


def report(outcome: dict[str, Any]) -> None:
    """Report the outcome to the starting process, and release its pipe."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(outcome).encode() + b"\n")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def main(folder: str, home: str, *flags: str) -> None:
    """Run a keeper, in the background unless the flag ``owned`` is given."""
    owned = "owned" in flags
    os.umask(0o077)
    if not owned and os.fork():
        # The starter only waits for this process; if it were the keeper's parent, the keeper would become a zombie.
        os._exit(0)
    try:
        Keeper(Path(folder), Path(home), owned=owned).run()
    except (BootError, OSError) as error:
        say(f"the server did not start: {error}")
        report({"error": str(error)})
        sys.exit(1)
    say("the server ended, on request or because it is unused")
