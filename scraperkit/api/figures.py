"""``/v1/funds/{document}/metrics``: returns and risks of a fund, also beside a reference rate."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Annotated, Any

import pandas as pd
from fastapi import APIRouter, Query
from pydantic import Field

from scraperkit import metrics
from scraperkit.api.backend import Backend
from scraperkit.api.fields import DaysAsked, RateName, SeriesInPath
from scraperkit.api.running import Running, TheRunning
from scraperkit.api.schemas import FundFigures, FundMetrics, RateFacts
from scraperkit.cnpj import format_series
from scraperkit.metrics.inputs import days_without_price
from scraperkit.sources.rates.collect import collect
from scraperkit.sources.rates.known import known
from scraperkit.sources.rates.responses import Span
from scraperkit.sources.rates.series import series_of
from scraperkit.timeseries.frames import window
from scraperkit.timeseries.reader import TimeSeriesReader

router = APIRouter(prefix="/v1/funds", tags=["prices"])
_DAYS_TOLD = 5


class MetricsQuery(DaysAsked):
    """The days, and the benchmark."""

    benchmark: RateName | None = Field(None, description="a reference rate, such as cdi; default: none")


@router.get("/{document:series}/metrics", summary="A fund's return and risk figures, optionally against a benchmark")
async def fund_metrics(
    document: SeriesInPath, asked: Annotated[MetricsQuery, Query()], running: TheRunning
) -> FundMetrics:
    """Return figures of the stored quotas, and of the rate, which is fetched if it is not stored yet.

    Returns and risk figures are fractions: 0.01 is 1 %. Comparisons with the rate cover the days that both have,
    `compared_from` to `compared_to`. A figure that needs more days than exist is null. If only the subclasses of a
    CNPJ have quotas on these days, each has its own figures.
    """
    backend = running.backend
    prices, subclasses = await running.read(lambda: _prices(backend, document, asked))
    rate, notes = await _rate(running, asked.benchmark, prices)
    unpriced = days_without_price(prices)
    notes = [*notes, *(_unpriced(series, days) for series, days in unpriced.items())]
    figures = await running.read(lambda: _figures(prices.where(prices > 0), rate))
    facts = known(asked.benchmark) if asked.benchmark else None
    return FundMetrics(
        document=document,
        stands_for=subclasses,
        benchmark=RateFacts.model_validate(facts, from_attributes=True) if facts else None,
        figures=figures,
        notes=notes,
    )


def _prices(backend: Backend, document: str, asked: MetricsQuery) -> tuple[pd.DataFrame, list[str]]:
    first, last = window(asked.start, asked.end)
    rows = backend.rows
    subclasses: list[str] = []
    if not rows.samples(document, "quota", first, last, 1) and ":" not in document:
        subclasses = rows.stands_for([document], first, last).get(document, [])
    reader = TimeSeriesReader(backend.redis, backend.keys.namespace)
    return reader.prices(subclasses or document, asked.start, asked.end), subclasses


async def _rate(running: Running, name: str | None, prices: pd.DataFrame) -> tuple[pd.Series[float] | None, list[str]]:
    """Return the rate on the days of the prices, and notes about it."""
    if name is None:
        return None, []
    rate = known(name)
    if not len(prices):
        return series_of(rate, []), []
    span = Span(*(dt.date.fromisoformat(f"{day:%Y-%m-%d}") for day in prices.index[[0, -1]]))
    redis = await running.read(lambda: running.backend.redis)
    found = await running.look_up(lambda: collect(rate, span, redis, running.backend.hasty_settings))
    return series_of(rate, found.samples), found.notes


def _unpriced(series: str, days: Sequence[str]) -> str:
    told = ", ".join(days[:_DAYS_TOLD]) + (" …" if len(days) > _DAYS_TOLD else "")
    return f"{format_series(series)}: the quota of {told} is not a price and was left out"


def _figures(prices: pd.DataFrame, rate: pd.Series[float] | None) -> list[FundFigures]:
    found = metrics.summary(prices, benchmark=rate)
    return [_told(str(series), row, prices[series]) for series, row in found.to_dict("index").items()]


def _told(series: str, row: dict[Any, Any], own: pd.Series[float]) -> FundFigures:
    day = {"first_day": own.first_valid_index(), "last_day": own.last_valid_index()}
    years = {name.removeprefix("return_"): value for name, value in row.items() if name.startswith("return_")}
    known_values = {name: value for name, value in (row | day).items() if not pd.isna(value)}
    return FundFigures(document=series, returns_by_year=years, **known_values)
