"""Exit codes of the commands that run as services, for systemd and Kubernetes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import redis as redis_py

from scraperkit.errors import ConfigError, RedisError, ScraperKitError, TimeSeriesMissing

# From sysexits.h.
UNAVAILABLE = 69
SOFTWARE = 70
CONFIG = 78

# One paragraph of a command's help.
EXIT_CODES = (
    f"Exit codes: 0 after a clean stop; {CONFIG} if the configuration is invalid and a restart will not help; "
    f"{UNAVAILABLE} if Redis is unreachable at the start; {SOFTWARE} if the work itself failed."
)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn expected errors into one sentence on stderr and the matching exit code."""
    try:
        yield
    except (ScraperKitError, OSError, redis_py.RedisError) as error:
        if os.environ.get("SCRAPERKIT_DEBUG"):
            raise
        sys.stderr.write(f"scraperkit: {error}\n")
        raise SystemExit(code_of(error)) from None


def code_of(error: Exception) -> int:
    """Return the exit code for an error.

    Examples
    --------
    >>> code_of(ConfigError("SCRAPERKIT_THREADS: too many")), code_of(RedisError("away"))
    (78, 69)
    """
    if isinstance(error, ConfigError | TimeSeriesMissing):
        return CONFIG
    return UNAVAILABLE if isinstance(error, RedisError | redis_py.RedisError) else SOFTWARE
