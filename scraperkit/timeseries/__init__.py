"""SeriesStore writes daily quotes to RedisTimeSeries, TimeSeriesReader reads them back as pandas frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scraperkit.timeseries.store import SeriesStore

if TYPE_CHECKING:
    from scraperkit.timeseries.reader import TimeSeriesReader

__all__ = ["SeriesStore", "TimeSeriesReader"]


def __getattr__(name: str) -> Any:
    """Import the reader when it is first used: a worker only writes, and needs no pandas."""
    if name != "TimeSeriesReader":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from scraperkit.timeseries.reader import TimeSeriesReader

    return TimeSeriesReader
