"""Charts: each function takes a frame and a matplotlib axes and draws; imported by notebook, lessons and cli.

Without an `ax`, they make a figure 10 inches wide. Units are on the axes; colours differ for any colour vision, and no
meaning depends on colour alone. If there is nothing to draw, the chart says so.
"""

from __future__ import annotations

from scraperkit.plot.comparisons import risk_return, windows
from scraperkit.plot.fund_charts import flows_and_holders, net_worth_and_holders
from scraperkit.plot.heatmaps import correlation, coverage, monthly_returns
from scraperkit.plot.jobs import timeline
from scraperkit.plot.lines import drawdown, prices, rolling_volatility
from scraperkit.plot.speed import latency, throughput
from scraperkit.plot.style import COLOURS, STYLES

__all__ = [
    "COLOURS",
    "STYLES",
    "correlation",
    "coverage",
    "drawdown",
    "flows_and_holders",
    "latency",
    "monthly_returns",
    "net_worth_and_holders",
    "prices",
    "risk_return",
    "rolling_volatility",
    "throughput",
    "timeline",
    "windows",
]


def __dir__() -> list[str]:
    return __all__
