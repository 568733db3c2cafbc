"""Collect and study the daily prices of Brazilian investment funds, and learn publish/subscribe by watching it.

The main job, on an embedded Redis and an offline replica of the regulator's site::

    import scraperkit as sk

    redis  = sk.connect()
    site   = sk.Replica.start()
    source = sk.CvmPages(site.url)
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
from typing import TYPE_CHECKING, Any

from scraperkit.batch import Batch, BatchStatus
from scraperkit.config import Settings
from scraperkit.connection import connect
from scraperkit.errors import (
    BadMessage,
    BatchError,
    BatchNotFound,
    BatchTimeout,
    ConfigError,
    EmbeddedRedisError,
    FundNotFound,
    MonthNotOffered,
    NotACvmPage,
    PageChanged,
    RedisError,
    RedisUnreachable,
    ScraperKitError,
    ScraperKitWarning,
    SiteUnavailable,
    SourceError,
    StoreError,
    TimeSeriesMissing,
    UnknownFund,
    WorkerError,
    WrongFund,
    WrongMonth,
)
from scraperkit.models import COLUMNS, DailyQuote, Fund, ScrapeRequest
from scraperkit.publisher import Publisher
from scraperkit.replica import Replica
try:
    from scraperkit.sources import CvmPages, Source
except ImportError:
    from scraperkit.sources import Source
from scraperkit.subscriber import Subscriber
from scraperkit.timeseries import SeriesStore, TimeSeriesReader
from scraperkit.worker import Worker

if TYPE_CHECKING:
    from scraperkit import calendar, metrics, plot

__version__ = "0.1.0"

__all__ = [
    "COLUMNS",
    "BadMessage",
    "Batch",
    "BatchError",
    "BatchNotFound",
    "BatchStatus",
    "BatchTimeout",
    "ConfigError",
    "CvmPages",
    "DailyQuote",
    "EmbeddedRedisError",
    "Fund",
    "FundNotFound",
    "MonthNotOffered",
    "NotACvmPage",
    "PageChanged",
    "Publisher",
    "RedisError",
    "RedisUnreachable",
    "Replica",
    "ScrapeRequest",
    "ScraperKitError",
    "ScraperKitWarning",
    "SeriesStore",
    "Settings",
    "SiteUnavailable",
    "Source",
    "SourceError",
    "StoreError",
    "Subscriber",
    "TimeSeriesMissing",
    "TimeSeriesReader",
    "UnknownFund",
    "Worker",
    "WorkerError",
    "WrongFund",
    "WrongMonth",
    "calendar",
    "connect",
    "metrics",
    "plot",
]

_ON_FIRST_USE = {"calendar", "metrics", "plot"}


def __getattr__(name: str) -> Any:
    """Import the heavy modules when they are first used: a worker needs no charts."""
    if name in _ON_FIRST_USE:
        return importlib.import_module(f"scraperkit.{name}")
    raise AttributeError(f"module 'scraperkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
