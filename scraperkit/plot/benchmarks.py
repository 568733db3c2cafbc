"""Benchmarks in charts: their names, and the look of their lines beside those of funds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from scraperkit import metrics
from scraperkit.errors import ConfigError
from scraperkit.plot.style import INK, dot

Benchmarks: TypeAlias = "pd.Series[float] | Sequence[pd.Series[float]]"

_RATE_TITLES = {"cdi": "CDI", "selic": "Selic", "ipca": "IPCA", "igpm": "IGP-M", "ibovespa": "Ibovespa"}
_DASHES = ((0, (6, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1)))


def benchmark_title(name: Any) -> str:
    """Return the name of a benchmark in a chart."""
    return _RATE_TITLES.get(str(name).lower(), str(name)).lstrip("_").replace("$", r"\$")


def grown(benchmark: Benchmarks, days: pd.Index[Any]) -> list[pd.Series[float]]:
    """Return the value of R$ 1 in each benchmark on each day.

    Raises
    ------
    ConfigError
        If one declares no kind, or two have the same name.
    """
    given = [benchmark] if isinstance(benchmark, pd.Series) else list(benchmark)
    found = [metrics.growth(each, pd.DatetimeIndex(days)) for each in given]
    names = [str(each.name) for each in found]
    if double := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"benchmark: two are named {min(double)}; rename one with benchmark.rename()")
    return found


def draw_benchmarks(ax: Axes, table: list[pd.Series[float]]) -> list[Line2D]:
    """Draw each benchmark as a dark, dashed line above those of the funds."""
    handles: list[Line2D] = []
    for place, values in enumerate(table):
        own = values.dropna()
        style: Any = _DASHES[place % len(_DASHES)]
        handles += ax.plot(
            own.index, own.to_numpy(), color=INK, linestyle=style, linewidth=1.7, zorder=2.5,
            label=benchmark_title(own.name), **dot(own),
        )  # fmt: skip
    return handles
