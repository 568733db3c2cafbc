"""SeriesStore writes daily quotes to RedisTimeSeries, TimeSeriesReader reads them back as pandas frames."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scraperkit.timeseries.reader import TimeSeriesReader
    from scraperkit.timeseries.store import SeriesStore

__all__ = ["SeriesStore", "TimeSeriesReader"]

# Imported when first used: a worker needs the commands of this package only, and no pandas.
_HOMES = {"SeriesStore": "store", "TimeSeriesReader": "reader"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
