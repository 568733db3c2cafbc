"""A store and a reader of the test's namespace."""

from __future__ import annotations

import pytest

from scraperkit.timeseries.reader import TimeSeriesReader
from scraperkit.timeseries.store import SeriesStore


@pytest.fixture
def store(redis, namespace) -> SeriesStore:
    return SeriesStore(redis, namespace)


@pytest.fixture
def reader(redis, namespace) -> TimeSeriesReader:
    return TimeSeriesReader(redis, namespace)
