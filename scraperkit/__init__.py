"""Collect and study the daily prices of Brazilian investment funds, and learn publish/subscribe by watching it.

The main job, on an embedded Redis and an offline replica of the regulator's site::

    import scraperkit as sk

    sk.offline()
    redis  = sk.connect()
    source = sk.CvmPages()
    fund   = source.find_fund("18.993.924/0001-00")

    with sk.Subscriber(redis, source, threads=4):
        batch = sk.Publisher(redis).publish(fund.months("2022-01", "2022-12"))
        batch.wait()

    prices = sk.TimeSeriesReader(redis).prices([fund.cnpj], start="2022-01-01")
    sk.plot.prices(prices)

Importing this opens no connection and starts nothing.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scraperkit import calendar, errors, lessons, metrics, plot
    from scraperkit.batch import Batch, BatchStatus
    from scraperkit.config import Settings
    from scraperkit.config import __version__ as __version__
    from scraperkit.connection import connect
    from scraperkit.deadletters import DeadLetters
    from scraperkit.engine.hosting import WorkerProcess
    from scraperkit.engine.worker import Worker
    from scraperkit.errors import ScraperKitError, ScraperKitWarning
    from scraperkit.health import Health
    from scraperkit.models import COLUMNS, DailyQuote, Fund, ScrapeRequest, Stored
    from scraperkit.notebook import Dashboard, live_prices, monitor
    from scraperkit.publisher import Publisher
    from scraperkit.replica import Replica
    from scraperkit.research import export, offline, prices, quotes, read_csv, update
    from scraperkit.sources import CvmPages, Source
    from scraperkit.sources.open_data import OpenData
    from scraperkit.sources.rates import rates
    from scraperkit.subscriber import Subscriber
    from scraperkit.timeseries.news import on_stored
    from scraperkit.timeseries.reader import TimeSeriesReader
    from scraperkit.timeseries.store import SeriesStore

# Applications set up logging themselves. Without this handler, Python would print worker warnings below any cell.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "COLUMNS",
    "Batch",
    "BatchStatus",
    "CvmPages",
    "DailyQuote",
    "Dashboard",
    "DeadLetters",
    "Fund",
    "Health",
    "OpenData",
    "Publisher",
    "Replica",
    "ScrapeRequest",
    "ScraperKitError",
    "ScraperKitWarning",
    "SeriesStore",
    "Settings",
    "Source",
    "Stored",
    "Subscriber",
    "TimeSeriesReader",
    "Worker",
    "WorkerProcess",
    "calendar",
    "connect",
    "errors",
    "export",
    "lessons",
    "live_prices",
    "metrics",
    "monitor",
    "offline",
    "on_stored",
    "plot",
    "prices",
    "quotes",
    "rates",
    "read_csv",
    "update",
]

# Everything is imported when first used: a worker needs no pandas, and `--help` almost nothing.
_NAMES = {
    "batch": ("Batch", "BatchStatus"),
    "config": ("Settings", "__version__"),
    "connection": ("connect",),
    "deadletters": ("DeadLetters",),
    "engine.worker": ("Worker",),
    "engine.hosting": ("WorkerProcess",),
    "errors": ("ScraperKitError", "ScraperKitWarning"),
    "health": ("Health",),
    "models": ("COLUMNS", "DailyQuote", "Fund", "ScrapeRequest", "Stored"),
    "notebook": ("Dashboard", "live_prices", "monitor"),
    "publisher": ("Publisher",),
    "replica": ("Replica",),
    "research": ("export", "offline", "prices", "quotes", "read_csv", "update"),
    "sources": ("CvmPages", "Source"),
    "sources.open_data": ("OpenData",),
    "sources.rates": ("rates",),
    "subscriber": ("Subscriber",),
    "timeseries.news": ("on_stored",),
    "timeseries.reader": ("TimeSeriesReader",),
    "timeseries.store": ("SeriesStore",),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}
_MODULES = {"calendar", "errors", "lessons", "metrics", "plot"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"scraperkit.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'scraperkit' has no attribute {name!r}")
    if name == "Subscriber":
        # The dashboard registers itself, so that subscriber.dashboard() finds it.
        importlib.import_module("scraperkit.notebook.dashboard")
    value = getattr(importlib.import_module(f"scraperkit.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
