"""Funds beside benchmarks: windows of twelve months, and return over risk."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from scraperkit import metrics
from scraperkit.calendar import business_days
from scraperkit.metrics.inputs import Names, names_of
from scraperkit.plot.benchmarks import Benchmarks, benchmark_title, grown
from scraperkit.plot.labels import label_dots
from scraperkit.plot.lines import draw_lines
from scraperkit.plot.style import (
    COLOURS,
    FAINT,
    INK,
    entitle,
    fund_labels,
    long_date,
    name_unpriced,
    new_axes,
    say,
    unbox,
    with_prices,
)

_A_MONTH = 22  # prices; a fund with fewer would shorten the shared days of all
_LEAST_PRICES = 3
_BESIDE_THEIR_POINTS = 8  # more funds are numbered, and named beside the chart


def windows(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    names: Names = None,
    *,
    benchmark: metrics.Benchmark | None = None,
    months: int = 12,
) -> Axes:
    """Draw the return of each fund over every window of some months, or its excess over a benchmark's.

    Parameters
    ----------
    frame : pandas.DataFrame
        Wide frame of :meth:`scraperkit.TimeSeriesReader.prices`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if omitted.
    names : mapping of str to str, pandas.Series, or iterable of Fund, optional
        A name for each CNPJ; default: those in ``attrs["names"]``. A fund without a name shows its CNPJ.
    benchmark : pandas.Series, optional
        A benchmark of a declared kind (see :func:`scraperkit.metrics.growth`).
    months : int
        Length of a window, 1 or more.

    Returns
    -------
    matplotlib.axes.Axes
        A line for each fund, at the last day of each window, as in :func:`scraperkit.metrics.windows`: in %, or with a
        benchmark in percentage points, with the share of windows that beat it beside each name. For a single fund the
        area is filled: blue where it beat the benchmark, orange and hatched where it did not. Without any window, a
        chart that says so.

    Raises
    ------
    ConfigError
        If an argument is invalid.

    Examples
    --------
    >>> from matplotlib import pyplot as plt
    >>> days = pd.DatetimeIndex(["2021-01-04", "2021-01-05", "2022-01-04", "2022-01-05"], name="date")
    >>> ax = windows(pd.DataFrame({"18993924000100": [100.0, 110.0, 120.0, 121.0]}, index=days))
    >>> ax.get_ylabel(), ax.get_lines()[0].get_ydata().round(2).tolist()
    ('return over 12 months, %', [20.0, 10.0])
    >>> plt.close(ax.figure)
    """
    ax = new_axes() if ax is None else ax
    filled = with_prices(frame)
    table = metrics.windows(filled, benchmark, months).dropna(axis="columns", how="all")
    table = table.dropna(axis="index", how="all") * 100
    if table.empty:
        return say(ax, "no prices" if filled.empty else f"no fund with {months} months of prices")
    if benchmark is None:
        draw_lines(ax, table, f"Returns over {months} months", names_of(frame, names))
        ax.set_ylabel(f"return over {months} months, %")
    else:
        title = benchmark_title(benchmark.name)
        shares = ((table > 0).sum() / table.count() * 100).tolist()
        notes = [f"beat {title} in {share:.0f} % of windows" for share in shares]
        draw_lines(ax, table, f"Returns over {months} months", names_of(frame, names), notes=notes)
        ax.set_ylabel(f"return over {months} months\nless that of {title}, percentage points")
        if table.shape[1] == 1:
            _fill(ax, table.iloc[:, 0].dropna())
    ax.axhline(0, color=INK, linewidth=0.8, zorder=1)
    name_unpriced(ax, frame)
    return ax


def risk_return(
    frame: pd.DataFrame, ax: Axes | None = None, names: Names = None, *, benchmark: Benchmarks | None = None
) -> Axes:
    """Draw the return of each fund over its volatility.

    All are measured over the days that they share: from the latest first day to the earliest last day. If they share no
    days, each is measured over its own, and the axis says so. A fund or benchmark with fewer than 22 prices, among
    others that have more, is left out and named below the chart.

    Parameters
    ----------
    frame : pandas.DataFrame
        Wide frame of :meth:`scraperkit.TimeSeriesReader.prices`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if left out. Do not change its limits afterwards: names are placed around dots.
    names : mapping of str to str, pandas.Series, or iterable of Fund, optional
        A name for each CNPJ; default: those in ``attrs["names"]``. A fund without a name shows its CNPJ.
    benchmark : pandas.Series or list of pandas.Series, optional
        Benchmarks of a declared kind (see :func:`scraperkit.metrics.growth`): dark, hollow diamonds; a legend
        above the chart explains them and the blue dots of funds.

    Returns
    -------
    matplotlib.axes.Axes
        A dot for each fund with three prices or more: x is :func:`scraperkit.metrics.volatility`, y the return, a year
        of 252 business days if the days make a year or more, else in total. Up to eight are named at their dots; more
        are numbered, and named beside the chart. If there is none, the chart says so.

    Raises
    ------
    ConfigError
        If an argument is invalid.

    Examples
    --------
    >>> from matplotlib import pyplot as plt
    >>> days = pd.date_range("2022-01-03", periods=4, name="date")
    >>> ax = risk_return(pd.DataFrame({"18993924000100": [100.0, 101.0, 99.99, 100.9899]}, index=days))
    >>> ax.get_xlabel(), ax.collections[0].get_offsets().round(2).tolist()
    ('volatility, % a year', [[18.33, 0.99]])
    >>> plt.close(ax.figure)
    """
    ax = new_axes() if ax is None else ax
    filled = with_prices(frame)
    beside = [] if benchmark is None else grown(benchmark, filled.index)
    table, short = _long_enough(pd.concat([filled, *beside], axis=1), filled.shape[1])
    shared, span = _shared(table)
    short += [str(name) for name in shared.columns[shared.count() < _LEAST_PRICES]]
    shared = shared.loc[:, shared.count() >= _LEAST_PRICES]
    funds = [str(name) for name in filled.columns if name in shared]
    if not funds:
        return say(ax, "no prices" if filled.empty else "no fund with three prices")
    others = [str(each.name) for each in beside if each.name in shared]
    gain, what = _gain(shared)
    spots = pd.DataFrame({"risk": metrics.volatility(shared) * 100, "gain": gain})
    own, bench = spots.loc[funds], spots.loc[others]
    filled_dot: dict[str, Any] = {"color": COLOURS[0], "edgecolors": "white", "linewidths": 0.8}
    hollow: dict[str, Any] = {"marker": "D", "facecolors": "white", "edgecolors": "black", "linewidths": 1.3}
    handles = [
        ax.scatter(own["risk"], own["gain"], s=42, zorder=3, label="funds", **filled_dot),
        ax.scatter(bench["risk"], bench["gain"], s=46, zorder=4, label="benchmarks", **hollow),
    ]
    kinds = _above(ax, handles) if others else None
    _scales(ax, spots)
    entitle(ax, "Return and volatility")
    ax.set_ylabel(f"{what}, %\n{span}")
    name_unpriced(ax, frame)
    short = [str(name) for name in frame.columns if name not in filled] + short
    _name_short(ax, short, names_of(frame, names), [str(each.name) for each in beside])
    numbered = len(funds) > _BESIDE_THEIR_POINTS
    if numbered:
        if kinds is not None:  # a second legend would replace it, and add_artist would cut it off at the axes
            ax.add_artist(kinds).set_clip_on(False)
        _name_beside(ax, fund_labels(funds, names_of(frame, names), lines=1, width=36))
        texts = [str(number) for number in range(1, len(funds) + 1)]
    else:
        texts = fund_labels(funds, names_of(frame, names), lines=2, width=24)
    texts += [benchmark_title(name) for name in others]
    at = spots.loc[[*funds, *others]].to_numpy()
    label_dots(ax, [(float(risk), float(up), text) for (risk, up), text in zip(at, texts, strict=True)])
    return ax


def _fill(ax: Axes, values: pd.Series[float]) -> None:
    days, heights = values.index, values.to_numpy()
    ax.fill_between(days, heights, 0, where=heights >= 0, color=COLOURS[0], alpha=0.2, linewidth=0, interpolate=True)
    ax.fill_between(
        days, heights, 0, where=heights <= 0, facecolor=COLOURS[1], alpha=0.25, linewidth=0, hatch="///",
        edgecolor="white", interpolate=True,
    )  # fmt: skip


def _long_enough(table: pd.DataFrame, funds: int) -> tuple[pd.DataFrame, list[str]]:
    """Return the columns with a month of prices, and the names of the others; all columns if no fund has a month."""
    counts = table.count()
    if (counts.iloc[:funds] < _A_MONTH).all():
        return table, []
    return table.loc[:, counts >= _A_MONTH], [str(name) for name in table.columns[counts < _A_MONTH]]


def _name_short(ax: Axes, short: list[str], names: Mapping[str, str], benchmarks: list[str]) -> None:
    """Name below the chart what was left out for too few prices."""
    if short:
        funds = [name for name in short if name not in benchmarks]
        labels = fund_labels(funds, names, lines=1) + [benchmark_title(name) for name in short if name in benchmarks]
        text = textwrap.fill(f"Too few prices on these days: {', '.join(labels)}", 100, max_lines=3, placeholder=" …")
        ax.set_xlabel(f"{ax.get_xlabel()}\n{text}", loc="left", fontsize="small", color=INK)


def _above(ax: Axes, handles: list[Any]) -> Legend:
    return ax.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1, 1.01), borderaxespad=0, frameon=False, fontsize="small",
        ncols=2, handletextpad=0.2, columnspacing=1.2,
    )  # fmt: skip


def _shared(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the part of the table between the first and last shared days, and those days as text."""
    if table.empty:
        return table, ""
    own = [pd.DatetimeIndex(table.iloc[:, place].dropna().index) for place in range(table.shape[1])]
    first, last = max(days[0] for days in own), min(days[-1] for days in own)
    if first >= last:
        return table, "each over its own days"
    inside = (table.index >= first) & (table.index <= last)
    return table[inside], f"{long_date(first)} to {long_date(last)}"


def _gain(table: pd.DataFrame) -> tuple[pd.Series[float], str]:
    """Return the gain of each column in %, annualised if the days make a year, and its name."""
    own = [table.iloc[:, place].dropna() for place in range(table.shape[1])]
    total = [float(values.iloc[-1] / values.iloc[0]) for values in own]
    spans = [pd.DatetimeIndex(values.index) for values in own]
    steps = [len(business_days(days[0], days[-1])) - 1 for days in spans]
    by_year = min(steps, default=0) >= metrics.TRADING_DAYS
    powers = [metrics.TRADING_DAYS / step if by_year else 1.0 for step in steps]
    gains = [(growth**power - 1) * 100 for growth, power in zip(total, powers, strict=True)]
    return pd.Series(gains, index=table.columns, dtype="float64"), "return a year" if by_year else "return"


def _scales(ax: Axes, spots: pd.DataFrame) -> None:
    ax.set_xlabel("volatility, % a year")
    ax.grid(visible=True, color=FAINT, linewidth=0.7)
    ax.set_axisbelow(True)
    unbox(ax)
    ax.margins(x=0.1, y=0.12)
    right = max(float(spots["risk"].max()) * 1.15, 0.1)
    ax.set_xlim(-0.012 * right, right)  # a dot at 0 is not cut off
    if spots["gain"].min() < 0 < spots["gain"].max():
        ax.axhline(0, color=INK, linewidth=0.6, zorder=1)


def _name_beside(ax: Axes, labels: list[str]) -> None:
    handles = [Line2D([], [], linestyle="none", label=f"{number}  {label}") for number, label in enumerate(labels, 1)]
    ax.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0, frameon=False,
        fontsize="small", handlelength=0, handletextpad=0, ncols=1 + (len(labels) - 1) // 28,
    )  # fmt: skip
