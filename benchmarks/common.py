"""Shared by the benchmarks: a separate Redis, child processes that end, and tables."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import redis as redis_py

from scraperkit import connect
from scraperkit.embedded.server import EmbeddedServer

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "benchmarks"
T = TypeVar("T")
_END_SECONDS = 15.0


class BenchmarkError(Exception):
    """A measurement that could not be taken, and why."""


def arguments(doc: str, add: Callable[[argparse.ArgumentParser], object] = lambda _: None) -> argparse.Namespace:
    """Read the command line: ``--quick``, and what `add` adds."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a short run, to see that it works; its numbers say little"
    )
    add(parser)
    return parser.parse_args()


def main(measure: Callable[[], None]) -> None:
    """Run a script; on an error, print one sentence and exit with 1."""
    # SIGTERM cleans up, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        measure()
    except BenchmarkError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


@contextlib.contextmanager
def private_redis() -> Iterator[tuple[str, redis_py.Redis]]:
    """Run a Redis for this benchmark alone, in a temporary folder; yield its address and a client."""
    with (
        tempfile.TemporaryDirectory(prefix="scraperkit-bench-") as folder,
        EmbeddedServer(folder) as server,
        connect(server.url) as client,
    ):
        yield server.url, client


@contextlib.contextmanager
def process(
    command: Sequence[str | Path], environment: Mapping[str, str], folder: Path = HERE, **options: object
) -> Iterator[subprocess.Popen[str]]:
    """Run a command until the block ends; end its children with it."""
    running = subprocess.Popen(
        [str(word) for word in command],
        cwd=folder,
        env=child_environment() | environment,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        **options,
    )
    try:
        yield running
    finally:
        end(running)


def end(running: subprocess.Popen[str]) -> None:
    """Terminate a process; then kill it and its remaining children."""
    if running.poll() is None:
        running.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(_END_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def child_environment() -> dict[str, str]:
    """Return the environment without settings of the kit: all measurements use the defaults."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("SCRAPERKIT_", "REDIS_URL"))}
    if "SCRAPERKIT_CACHE" in os.environ:  # only says where the server's program is
        mine["SCRAPERKIT_CACHE"] = os.environ["SCRAPERKIT_CACHE"]
    return mine | {"PYTHONUNBUFFERED": "1"}


def first_line(running: subprocess.Popen[str], start: str) -> str:
    """Wait for the line in which a process reports that it is ready; return what follows `start` in it."""
    assert running.stdout is not None
    for line in running.stdout:
        if line.startswith(start):
            return line.removeprefix(start).strip()
    raise BenchmarkError(f"{running.args} ended before it was ready")


def wait_for(condition: Callable[[], T], seconds: float, what: str) -> T:
    """Return what `condition` returns once that is true; give up after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (response := condition()):
        if time.monotonic() > deadline:
            raise BenchmarkError(f"after {seconds:g} s: {what}")
        time.sleep(0.02)
    return response


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table that reads well in a terminal, too; all columns but the first are right-aligned."""
    widths = [max(len(row[place]) for row in [header, *rows]) for place in range(len(header))]
    lines = [
        _line(header, widths),
        "|" + "|".join("-" * (width + 1) + ("-" if not place else ":") for place, width in enumerate(widths)) + "|",
    ]
    return "\n".join(lines + [_line(row, widths) for row in rows])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
    return "| " + " | ".join(cells) + " |"


def goal(text: str, reached: bool) -> str:
    """Return a line that says whether a goal was reached."""
    return f"- {'reached' if reached else '**missed**'}: {text}"
