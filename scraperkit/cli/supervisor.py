"""Supervise several worker processes, and report whether they are alive."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from scraperkit.cli.exits import CONFIG, SOFTWARE, STOP_SIGNALS, UNAVAILABLE
from scraperkit.config import Settings
from scraperkit.connection import connect
from scraperkit.engine.registry import WorkerCard, each_source, live_workers, this_host
from scraperkit.errors import RedisUnreachable
from scraperkit.keys import Keys

log = logging.getLogger(__name__)
# Health checks have 10 s, including the start of the process.
HEALTH_SECONDS = 4.0
ALIVE = b"ALIVE\n"
# Longer than a worker takes to end itself after its deadline.
SLACK = 15.0
_TICK = 0.25
_SHORTEST_LIFE = 5.0  # seconds: a process that ends sooner counts as failing to start
_LIVES = 5
_FIRST_RESTART_AFTER = 0.5
_LONGEST_RESTART_AFTER = 30.0
_STOOD_STILL = 5.0


@dataclass(slots=True)
class _Child:
    """One worker slot, across all its restarts."""

    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    name: str = ""
    started_at: float = 0.0
    heard_at: float = 0.0
    start_at: float = 0.0
    deaths: int = 0
    unread: bytes = b""

    @property
    def ready(self) -> bool:
        return self.process is not None and bool(self.name)


class Supervisor:
    """Parent of worker processes: replaces any that die or hang, and stops them all cleanly.

    A worker prints ``READY <name>`` on its standard output, then ``ALIVE`` regularly while its event loop runs. It
    stops when its standard input closes, that is, when this process is gone.

    Parameters
    ----------
    commands : sequence of sequences of str
        One command for each process.
    stop_deadline : float
        Seconds that a stopping worker gives running jobs to finish.
    hung_after : float
        Seconds without output after which a worker is killed. Others own its jobs by then.
    """

    def __init__(self, commands: Sequence[Sequence[str]], *, stop_deadline: float, hung_after: float) -> None:
        self._children = [_Child(command) for command in commands]
        self._stop_within = stop_deadline + SLACK
        self._hung_after = hung_after
        self._selector = selectors.DefaultSelector()
        self._announced = False
        self._asked_to_stop = False
        self._given_up: int | None = None

    def run(self) -> int:
        """Run the workers until SIGTERM or SIGINT; return the exit code."""
        before = {number: signal.signal(number, self._stop) for number in STOP_SIGNALS}
        try:
            looked_at = time.monotonic()
            while not self._asked_to_stop and self._given_up is None:
                self._start_those_due()
                self._listen(_TICK)
                self._bury()
                now = time.monotonic()
                self._kill_the_silent(now, excused=now - looked_at > _STOOD_STILL)
                looked_at = now
            notify("STOPPING=1")
            clean = self._end_all()
        finally:
            self._kill_all()
            self._selector.close()
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._given_up is not None:
            return self._given_up
        return 0 if clean else SOFTWARE

    def _stop(self, *_: object) -> None:
        self._asked_to_stop = True

    def _start_those_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.process is None and child.start_at <= now:
                environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
                child.process = subprocess.Popen(  # noqa: S603
                    child.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
                )
                child.name, child.started_at, child.unread = "", now, b""
                assert child.process.stdout is not None  # noqa: S101
                self._selector.register(child.process.stdout, selectors.EVENT_READ, child)

    def _listen(self, seconds: float) -> None:
        """Read the workers' output, waiting for at most `seconds`."""
        for key, _ in self._selector.select(seconds):
            child: _Child = key.data
            said = os.read(key.fd, 65_536)
            if not said:
                self._selector.unregister(key.fileobj)
            child.heard_at = time.monotonic()
            *lines, child.unread = (child.unread + said).split(b"\n")
            for line in lines:
                if line.startswith(b"READY "):
                    child.name = line.removeprefix(b"READY ").decode()
        if not self._announced and all(child.ready for child in self._children):
            self._announced = True
            sys.stdout.write(f"READY {' '.join(child.name for child in self._children)}\n")
            sys.stdout.flush()
            notify("READY=1")
        notify("WATCHDOG=1")

    def _bury(self) -> None:
        """Find the workers that have died, and schedule their replacements."""
        dead = [
            (child, code)
            for child in self._children
            if child.process is not None and (code := child.process.poll()) is not None
        ]
        if dead:
            self._listen(0)  # a worker that has just died may have said READY just before
        for child, code in dead:
            now = time.monotonic()
            who = child.name or "a worker that was not ready yet"
            child.deaths = child.deaths + 1 if now - child.started_at < _SHORTEST_LIFE else 1
            self._close(child)
            self._given_up = self._reason_to_give_up(child, code)
            if self._given_up is not None:
                log.error("%s ended %s; giving up with exit code %d", who, _how(code), self._given_up)
                return
            pause = min(_LONGEST_RESTART_AFTER, _FIRST_RESTART_AFTER * 2 ** (child.deaths - 1))
            child.start_at = now + pause
            log.warning("%s ended %s; replacing it in %.1f s", who, _how(code), pause)

    def _reason_to_give_up(self, child: _Child, code: int) -> int | None:
        if code == CONFIG or (code == UNAVAILABLE and not self._announced):
            return code
        # Once every worker has been ready, an unreachable Redis is never a reason to give up.
        return SOFTWARE if code != UNAVAILABLE and child.deaths >= _LIVES else None

    def _kill_the_silent(self, now: float, *, excused: bool) -> None:
        """Kill workers whose event loop hangs, unless this process hung too and could not hear them."""
        for child in self._children:
            if not child.ready or child.process is None:
                continue
            if excused:
                child.heard_at = now
            elif now - child.heard_at > self._hung_after:
                log.error("%s has been silent for %.0f s; killing it", child.name, self._hung_after)
                child.process.kill()
                child.heard_at = now

    def _end_all(self) -> bool:
        """Ask all workers to stop, and wait; return whether each ended cleanly."""
        ends_at = time.monotonic() + self._stop_within
        clean = True
        for child in self._children:
            if child.process is not None:
                child.process.terminate()
        while (running := [child for child in self._children if child.process is not None]) and (
            time.monotonic() < ends_at
        ):
            self._listen(0.05)
            for child in running:
                assert child.process is not None  # noqa: S101
                if (code := child.process.poll()) is not None:
                    # A worker that was not ready had no jobs, so any exit code is fine.
                    clean &= code in (0, UNAVAILABLE) or not child.ready
                    self._close(child)
        for child in running:
            log.error("%s did not stop within %.0f s; killing it", child.name, self._stop_within)
        return clean and not running

    def _kill_all(self) -> None:
        for child in self._children:
            if child.process is not None:
                child.process.kill()
                child.process.wait()
                self._close(child)

    def _close(self, child: _Child) -> None:
        process, child.process, child.name = child.process, None, ""
        assert process is not None  # noqa: S101
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                if stream in self._selector.get_map():
                    self._selector.unregister(stream)
                stream.close()


def _how(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"


def notify(state: str) -> None:
    """Send a state to systemd if it asks for it (``Type=notify``)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messenger:
        try:
            messenger.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            log.warning("cannot send %s to systemd: %s", state, error)


def workers_here(namespace: str | None = None) -> list[WorkerCard]:
    """Return the living workers on this machine or in this container.

    Raises
    ------
    RedisUnreachable
        If Redis, which stores the heartbeats, is unreachable.
    """
    settings = Settings.load()
    with connect() as redis:
        client: Any = redis
        each = each_source(client, Keys(namespace or settings.namespace))
        workers = [worker for keys in each for worker in live_workers(client, keys)]
    return [worker for worker in workers if worker.host == this_host() and _runs(worker.pid)]


def workers_here_in_time(namespace: str | None = None) -> list[WorkerCard]:
    """Return what :func:`workers_here` does, but fail within seconds if Redis hangs, as health checks need.

    Raises
    ------
    RedisUnreachable
        As that function does, and if it takes longer.
    """
    found: Future[list[WorkerCard]] = Future()

    def look() -> None:
        try:
            found.set_result(workers_here(namespace))
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            found.set_exception(error)

    # A daemon thread does not delay the process's exit.
    threading.Thread(target=look, name="health check", daemon=True).start()
    try:
        return found.result(HEALTH_SECONDS)
    except TimeoutError:
        raise RedisUnreachable(f"Redis does not respond in {HEALTH_SECONDS:g} s; it hangs or is overloaded") from None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
