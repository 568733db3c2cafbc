"""Figures computed from price frames, in plain pandas; imported by the package root, plot, lessons, api and cli.

Every function takes the wide frame of :meth:`scraperkit.TimeSeriesReader.prices`: index ``date``, a column for each
fund, NaN where a fund has no price. Missing days are allowed: each fund is measured over its own days, so the return
after a gap covers the whole gap.

Only a positive, finite number is a price. A quota of 0 or below, which some funds report, counts as a missing day, with
a :class:`~scraperkit.ScraperKitWarning` that names fund and days. A frame of another shape, such as a CSV read without
options, raises a :class:`~scraperkit.errors.ConfigError` that says how to fix it.
"""

from __future__ import annotations

from scraperkit.metrics.benchmark import Benchmark, growth
from scraperkit.metrics.comparison import (
    beta,
    excess_return,
    information_ratio,
    real_return,
    share_of_benchmark,
    tracking_error,
    windows,
    yearly_returns,
)
from scraperkit.metrics.overview import Calendar, Dates, coverage, ends, summary
from scraperkit.metrics.payouts import total_return
from scraperkit.metrics.risk import correlation, sharpe, volatility
from scraperkit.metrics.series import TRADING_DAYS, drawdown, monthly_returns, returns
from scraperkit.metrics.verdicts import jumps

__all__ = [
    "TRADING_DAYS",
    "Benchmark",
    "Calendar",
    "Dates",
    "beta",
    "correlation",
    "coverage",
    "drawdown",
    "ends",
    "excess_return",
    "growth",
    "information_ratio",
    "jumps",
    "monthly_returns",
    "real_return",
    "returns",
    "share_of_benchmark",
    "sharpe",
    "summary",
    "total_return",
    "tracking_error",
    "volatility",
    "windows",
    "yearly_returns",
]


def __dir__() -> list[str]:
    return __all__
