"""Faults on demand that every simulated server has: slow responses, and an outage."""

from __future__ import annotations

import math
import time

from scraperkit.errors import ConfigError

_SLOWEST = 86_400.0


def checked(field: str, value: float, most: float = _SLOWEST) -> float:
    """Return a fault's number, if it is from 0 to `most`.

    Raises
    ------
    ConfigError
        If it is not; names the field.
    """
    if not (isinstance(value, (int, float)) and 0 <= value <= most):
        raise ConfigError(f"{field}: {str(value)[:40]!r} is invalid; give a number from 0 to {most:g}")
    return float(value)


class ServerFaults:
    """Slow responses and an outage, on demand."""

    _latency = 0.0
    _outage_ends = -math.inf

    @property
    def latency(self) -> float:
        """Seconds before each response; may be set at any time."""
        return self._latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self._latency = checked("latency", seconds)

    def outage(self, seconds: float) -> None:
        """Respond to every request with 503 and ``Retry-After`` for the next `seconds`; 0 ends it at once."""
        self._outage_ends = time.monotonic() + checked("seconds", seconds)

    def _outage_left(self) -> float:
        """Return the seconds until the outage ends; not above 0 if there is none."""
        return self._outage_ends - time.monotonic()
