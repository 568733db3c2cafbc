"""Hosts of workers: subscribers, which end with this process, and child processes."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from typing import IO, Protocol, Self

from scraperkit.config import Settings
from scraperkit.errors import WorkerError

_START_SECONDS = 30.0
_CHILD_ENDS_WITHIN = 15.0
_LOOK_AGAIN_AFTER = 0.02


class Hosted(Protocol):
    """What this module needs of a subscriber."""

    namespace: str
    error: BaseException | None

    @property
    def name(self) -> str:
        """The consumer's name."""

    def request_stop(self, deadline: float | None = None) -> None:
        """Ask it to end, without waiting."""

    def stop(self, deadline: float | None = None) -> None:
        """End it."""


# Jupyter kills a kernel two and a half seconds after asking it to end.
_EXIT_DEADLINE = 1.0
_running: weakref.WeakSet[Hosted] = weakref.WeakSet()
_lock = threading.Lock()
_registered = False


def add(subscriber: Hosted) -> None:
    """Remember a subscriber until it is stopped, so that it is stopped at exit at the latest."""
    global _registered
    with _lock:
        _running.add(subscriber)
        if not _registered:
            atexit.register(_stop_all)
            _registered = True


def discard(subscriber: Hosted) -> None:
    """Forget a subscriber."""
    with _lock:
        _running.discard(subscriber)


def subscribers_of(namespace: str) -> list[Hosted]:
    """Return the subscribers of this process that work in a namespace and have not been stopped."""
    with _lock:
        return [each for each in _running if each.namespace == namespace]


def raise_engine_error(namespace: str) -> None:
    """Raise the error of any subscriber of this process and namespace whose engine failed."""
    with _lock:
        errors = [each.error for each in _running if each.namespace == namespace and each.error is not None]
    if errors and errors[0] is not None:
        raise errors[0]


def _stop_all() -> None:
    with _lock:
        subscribers = list(_running)
    for subscriber in subscribers:
        subscriber.request_stop(_EXIT_DEADLINE)
    for subscriber in subscribers:
        with contextlib.suppress(Exception):
            subscriber.stop(_EXIT_DEADLINE)


class WorkerProcess:
    """``scraperkit work`` as a child process, which you can kill, freeze or stop cleanly.

    It ends with the ``with`` block, and with this process, even if that is killed.

    Parameters
    ----------
    redis_url : str
        The address of Redis.
    site_url : str, optional
        The site to read, as for :class:`~scraperkit.CvmPages`.
    name : str, optional
        The worker's name.
    namespace : str, optional
        Default: ``SCRAPERKIT_NAMESPACE``.
    settings : Settings, optional
        Settings with an explicit value apply to the process, too; the others come from the environment.

    Examples
    --------
    >>> with WorkerProcess(redis_url, site.url, name="anna") as anna:  # doctest: +SKIP
    ...     anna.kill()
    """

    def __init__(
        self,
        redis_url: str,
        site_url: str | None = None,
        *,
        name: str | None = None,
        namespace: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        given = settings.model_dump(include=settings.model_fields_set - {"redis_url"}) if settings else {}
        given |= {name: value for name, value in (("namespace", namespace), ("cvm_url", site_url)) if value}
        chosen = {f"SCRAPERKIT_{name.upper()}": str(value) for name, value in given.items() if value is not None}
        self.name = name or ""
        self._environment = {**os.environ, **chosen, "REDIS_URL": redis_url, "PYTHONUNBUFFERED": "1"}
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._frozen = False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the process is alive, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id, or None."""
        return self._process.pid if self._process is not None and self.running else None

    def start(self) -> Self:
        """Start the process unless it is running; return once the worker is listening.

        Raises
        ------
        WorkerError
            If it is not listening within half a minute; the message quotes its last output.
        """
        if self.running:
            return self
        self._end()
        name = ["--name", self.name] if self.name else []
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process has ended
        self._process = subprocess.Popen(  # noqa: S603
            # Supervised, it ends when its input does, so also when this process is killed.
            [sys.executable, "-P", "-m", "scraperkit", "work", "--supervised", *name],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            # Ctrl-C is meant for the user's program, and the system ends frozen processes in an orphaned group.
            process_group=0,
        )
        try:
            self.name = self._ready()
        except BaseException:
            self.kill()
            raise
        return self

    def kill(self) -> None:
        """Send SIGKILL: the process dies at once and hands nothing back. Harmless if it is not running."""
        self._signal(signal.SIGKILL)
        self._end()

    def freeze(self) -> None:
        """Send SIGSTOP: the process freezes, like a laptop with its lid closed. Return once it has."""
        if (pid := self.pid) is not None and not self._frozen:
            self._frozen = True
            self._signal(signal.SIGSTOP)
            with contextlib.suppress(ChildProcessError):  # it has ended instead
                os.waitpid(pid, os.WUNTRACED)

    def thaw(self) -> None:
        """Send SIGCONT: the process continues where it stopped, unaware of the time that has passed."""
        self._frozen = False
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Send SIGTERM: the process finishes running jobs, hands back the rest, and ends. Harmless if not running."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)
        self._end()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(number)

    def _end(self) -> None:
        self._frozen = False
        process, self._process = self._process, None
        log, self._log = self._log, None
        if process is not None:
            try:
                process.wait(_CHILD_ENDS_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate()
        if log is not None:
            log.close()

    def _ready(self) -> str:
        """Wait until the process says that it is listening; return the worker's name."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            ended = not self.running
            said = self._said()
            for line in said:
                if line.startswith("READY "):
                    return line.removeprefix("READY ")
            if ended or time.monotonic() > deadline:
                last = said[-1][:500] if said else "it printed nothing"
                raise WorkerError(f"the worker process did not start: {last}")
            time.sleep(_LOOK_AGAIN_AFTER)

    def _said(self) -> list[str]:
        assert self._log is not None  # noqa: S101
        # pread, since a seek would move the offset that the process shares.
        text = os.pread(self._log.fileno(), 100_000, 0)
        return text.decode(errors="replace").strip().splitlines()

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.name}: {f'process {self.pid}' if self.running else 'not running'}>"
