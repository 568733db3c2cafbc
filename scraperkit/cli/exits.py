"""Exit codes of all commands: one table, which shells, cron, systemd and Kubernetes read."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import redis as redis_py

from scraperkit.cli.terminal import say_error
from scraperkit.errors import (
    BatchNotFound,
    BatchTimeout,
    ConfigError,
    NotDownloaded,
    NothingThere,
    RedisError,
    ScraperKitError,
    SourceError,
    TimeSeriesMissing,
    UnknownFund,
)

log = logging.getLogger(__name__)
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# All or part of the request failed, or nothing was found.
INCOMPLETE = 1
# As click uses it for an invalid command line.
USAGE = 2
# From sysexits.h.
UNAVAILABLE = 69
SOFTWARE = 70
CONFIG = 78
# As a shell uses it for Ctrl-C.
INTERRUPTED = 130

_NOT_HAD = (NothingThere, SourceError, UnknownFund, NotDownloaded, BatchNotFound, BatchTimeout)

TABLE = {
    0: "done",
    INCOMPLETE: "something failed: a site is down or refuses, nothing was found, or nothing is stored",
    USAGE: "no such command or option, or an invalid value of one",
    UNAVAILABLE: "Redis is unreachable",
    SOFTWARE: "the engine failed",
    CONFIG: "an argument or a setting is invalid; trying again will not help",
    INTERRUPTED: "interrupted",
}
# One paragraph of the help.
EXIT_CODES = f"Exit codes: {'; '.join(f'{code} {what}' for code, what in TABLE.items())}."


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn expected errors into one sentence on stderr and the matching exit code."""
    try:
        yield
    except (ScraperKitError, OSError, redis_py.RedisError) as error:
        if os.environ.get("SCRAPERKIT_DEBUG"):
            raise
        say_error(error)
        raise SystemExit(code_of(error)) from None


def stop_at_once() -> None:
    """Make SIGTERM and Ctrl-C end this process at once, cleanly: it has begun nothing yet.

    The handler raises nothing, since Python ignores exceptions raised during garbage collection.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: os._exit(0))


def stop_by_all_means(seconds: float) -> None:
    """End this process cleanly after `seconds` if it has not ended by then: something may hang."""

    def end() -> None:
        log.warning("something hangs; ending this process without it")
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def ignore_stops() -> None:
    """Ignore SIGTERM and Ctrl-C: this process is about to end with its own exit code."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def code_of(error: Exception) -> int:
    """Return the exit code for an error.

    Examples
    --------
    >>> code_of(ConfigError("SCRAPERKIT_THREADS: too many")), code_of(RedisError("away")), code_of(SourceError("away"))
    (78, 69, 1)
    """
    if isinstance(error, _NOT_HAD):
        return INCOMPLETE
    if isinstance(error, ConfigError | TimeSeriesMissing):
        return CONFIG
    return UNAVAILABLE if isinstance(error, RedisError | redis_py.RedisError) else SOFTWARE
