"""Processes of a test: start, kill, pause, stop cleanly, and never leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Self

from support.waiting import PATIENCE, wait_until

FOLDER = Path(__file__).parent
COMMAND = str(Path(sys.executable).parent / "scraperkit")
WORK = (COMMAND, "work")
HANDS = (sys.executable, str(FOLDER / "hands.py"))


def environment(url: str, namespace: str, **settings: object) -> dict[str, str]:
    """Return this process's environment with settings of the kit."""
    given = {f"SCRAPERKIT_{name.upper()}": str(value) for name, value in settings.items()}
    return {**os.environ, "PYTHONUNBUFFERED": "1", "REDIS_URL": url, "SCRAPERKIT_NAMESPACE": namespace, **given}


class Child:
    """A process whose output goes to a file; killed, if need be, on leaving the block.

    Attributes
    ----------
    log : pathlib.Path
        Its output and errors.
    """

    def __init__(
        self,
        command: tuple[str, ...],
        environment: dict[str, str],
        log: Path,
        *,
        stdin: IO[str] | int = subprocess.DEVNULL,
    ) -> None:
        self.log = log
        with log.open("ab") as sink:
            # In its own session, so that Ctrl-C reaches only the test, which then ends its children.
            self._process = subprocess.Popen(
                command, env=environment, stdin=stdin, stdout=sink, stderr=sink, start_new_session=True
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    @property
    def output(self) -> str:
        """Its output so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def last_words(self) -> str:
        """The last line of its output."""
        return (self.output.strip().splitlines() or [""])[-1]

    def ready(self, seconds: float = PATIENCE) -> Self:
        """Wait until it prints READY."""
        assert self.says("READY", seconds), f"not ready, exit code {self.code}:\n{self.output}"
        return self

    def says(self, word: str, seconds: float = PATIENCE) -> bool:
        """Wait until it prints a word or ends; return whether it printed the word."""
        wait_until(lambda: word in self.output or self.code is not None, seconds)
        return word in self.output

    def pause(self) -> None:
        """Send SIGSTOP: it freezes without noticing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        self._signal(signal.SIGCONT)

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        if self.code is None:  # otherwise, another process may have its id
            self._process.send_signal(number)

    def stop(self, seconds: float = PATIENCE) -> int:
        """Send SIGTERM and wait for the end; return the exit code."""
        self.ask_to_stop()
        return self.wait(seconds)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for the end; return the exit code."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        """Send SIGKILL to it and to its children; harmless if it has ended."""
        if self.code is None:
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
