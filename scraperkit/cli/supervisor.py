"""Several worker processes under one small parent, and what tells others that they are alive."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scraperkit.cli.exits import CONFIG, SOFTWARE, UNAVAILABLE
from scraperkit.config import Settings
from scraperkit.connection import connect
from scraperkit.engine.registry import WorkerCard, live_workers, this_host
from scraperkit.keys import Keys

log = logging.getLogger(__name__)
ALIVE = b"ALIVE\n"
# What a stop takes beyond its deadline, at the very worst: see WorkerLoop.wind_up.
SLACK = 15.0
_TICK = 0.25
_AT_ONCE = 5.0  # a life shorter than this many seconds counts as none
_LIVES = 5
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_STOOD_STILL = 5.0


@dataclass(slots=True)
class _Child:
    """One of the processes, through all its lives."""

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
    """Runs worker processes, replaces one that dies or stands still, and ends them all in order.

    A worker says ``READY <name>`` on its standard output, and ``ALIVE`` again and again while its loop turns. It ends
    when its standard input ends, which is when this process is gone.

    Parameters
    ----------
    commands : sequence of sequences of str
        One for each process.
    stop_deadline : float
        Seconds that a worker gives to the jobs in hand when it is asked to stop.
    silence : float
        Seconds after which a worker that says nothing is killed. Its jobs are others' by then.
    """

    def __init__(self, commands: Sequence[Sequence[str]], *, stop_deadline: float, silence: float) -> None:
        self._children = [_Child(command) for command in commands]
        self._stop_within = stop_deadline + SLACK
        self._silence = silence
        self._selector = selectors.DefaultSelector()
        self._announced = False
        self._asked_to_stop = False
        self._given_up: int | None = None

    def run(self) -> int:
        """Run the workers until SIGTERM or SIGINT; return the exit code."""
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
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
        """Read what the workers say, for at most so long."""
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
        """Find those that have died, and set the time at which each is replaced."""
        for child in self._children:
            code = child.process.poll() if child.process is not None else None
            if code is None:
                continue
            now = time.monotonic()
            who = child.name or "a worker that was not ready yet"
            child.deaths = child.deaths + 1 if now - child.started_at < _AT_ONCE else 1
            self._close(child)
            self._given_up = self._reason_to_give_up(child, code)
            if self._given_up is not None:
                log.error("%s ended %s; giving up with exit code %d", who, _how(code), self._given_up)
                return
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (child.deaths - 1))
            child.start_at = now + pause
            log.warning("%s ended %s; another takes its place in %.1f s", who, _how(code), pause)

    def _reason_to_give_up(self, child: _Child, code: int) -> int | None:
        if code == CONFIG or (code == UNAVAILABLE and not self._announced):
            return code
        # Once all is under way, Redis being away is something to wait for, however long it takes.
        return SOFTWARE if code != UNAVAILABLE and child.deaths >= _LIVES else None

    def _kill_the_silent(self, now: float, *, excused: bool) -> None:
        """Kill those whose loop stands still; but if this process stood still itself, nobody could be heard."""
        for child in self._children:
            if not child.ready or child.process is None:
                continue
            if excused:
                child.heard_at = now
            elif now - child.heard_at > self._silence:
                log.error("%s has not given a sign of life for %.0f s and is killed", child.name, self._silence)
                child.process.kill()
                child.heard_at = now

    def _end_all(self) -> bool:
        """Ask all to stop, and wait; return whether each ended by itself, in order."""
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
                    # One that was not ready yet had nothing in hand, however it ended.
                    clean &= code in (0, UNAVAILABLE) or not child.ready
                    self._close(child)
        for child in running:
            log.error("%s did not end within %.0f s and is killed", child.name, self._stop_within)
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
    """Tell systemd how this service is doing, if it asks for it (``Type=notify``); else do nothing."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messenger:
        try:
            messenger.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            log.warning("systemd could not be told %s: %s", state, error)


def workers_here(namespace: str | None = None) -> list[WorkerCard]:
    """Return the workers on this machine, or in this container, whose heart beats.

    Raises
    ------
    RedisUnreachable
        If Redis is away: where their signs of life are kept.
    """
    settings = Settings.load()
    with connect() as redis:
        client: Any = redis
        workers = live_workers(client, Keys(namespace or settings.namespace))
    return [worker for worker in workers if worker.host == this_host() and _runs(worker.pid)]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
