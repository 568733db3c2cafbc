"""Exit codes of the commands that run as a service: systemd and Kubernetes act on them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import redis as redis_py

from scraperkit.errors import ConfigError, RedisError, ScraperKitError, TimeSeriesMissing

# Those of sysexits.h.
UNAVAILABLE = 69
SOFTWARE = 70
CONFIG = 78

# One paragraph of a command's help.
EXIT_CODES = (
    f"Exit codes: 0 after a clean stop; {CONFIG} if the configuration does not fit, which starting again does not "
    f"mend; {UNAVAILABLE} if Redis cannot be reached at the start; {SOFTWARE} if the work itself failed."
)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn what the kit raises into one sentence on stderr and the exit code that fits."""
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
