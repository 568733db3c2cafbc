"""Figures computed from price frames, in plain pandas; imported by the front door, plot, lessons and cli.

Every function takes the wide frame of :meth:`scraperkit.TimeSeriesReader.prices`: index ``date``, a column for each
fund, NaN where a fund has no price. A missing day breaks nothing: each fund is measured over the days that it has, so
the return after a gap covers the whole gap.
"""

from __future__ import annotations

from scraperkit.metrics.overview import Calendar, Starts, coverage, summary
from scraperkit.metrics.risk import TRADING_DAYS, correlation, sharpe, volatility
from scraperkit.metrics.series import drawdown, monthly_returns, returns

__all__ = [
    "TRADING_DAYS",
    "Calendar",
    "Starts",
    "correlation",
    "coverage",
    "drawdown",
    "monthly_returns",
    "returns",
    "sharpe",
    "summary",
    "volatility",
]


def __dir__() -> list[str]:
    return __all__
