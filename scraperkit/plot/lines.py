"""A line for each fund over the days."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from scraperkit import metrics
from scraperkit.metrics.inputs import Names, names_of
from scraperkit.plot.benchmarks import Benchmarks, draw_benchmarks, grown
from scraperkit.plot.marks import checked_jumps, draw_marks
from scraperkit.plot.style import (
    INK,
    dot,
    entitle,
    fund_labels,
    long_date,
    looks_of,
    name_unpriced,
    new_axes,
    plain,
    say,
    with_prices,
)

_FEW = 7  # funds, whose lines may be thicker
_SUDDEN, _EXTREMELY = 0.05, 20  # a fraction; robust standard deviations


def prices(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    names: Names = None,
    *,
    benchmark: Benchmarks | None = None,
    jumps: pd.DataFrame | None = None,
) -> Axes:
    """Draw the prices of funds as indices: 100 on the first day that all funds and benchmarks have.

    If they have no common day, each is 100 on its own first day, and the axis says so.

    Parameters
    ----------
    frame : pandas.DataFrame
        Wide frame of :meth:`scraperkit.TimeSeriesReader.prices`. A fund's line bridges missing days.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if omitted.
    names : mapping of str to str, pandas.Series, or iterable of Fund, optional
        A name for each CNPJ; default: those in ``attrs["names"]``. A fund without a name shows its CNPJ.
    benchmark : pandas.Series or list of pandas.Series, optional
        Benchmarks of a declared kind (see :func:`scraperkit.metrics.growth`), such as CDI: dark, dashed lines.
    jumps : pandas.DataFrame, optional
        From :func:`scraperkit.metrics.jumps`: days on which a quota jumped are marked on its line, with a shape for
        each kind; the legend names up to six with fund, day and size, and counts more. If omitted, sudden lasting falls
        are marked as ``payout or write-down``: prices alone cannot distinguish an amortisation from a loss.

    Returns
    -------
    matplotlib.axes.Axes
        A line for each fund with prices, named beside the chart in the order of the last values; its place among the
        names sets its colour. A single fund, if nothing else is drawn, is named above the chart. Without any price, a
        chart that says so. For your own `ax`, make the figure with ``layout="constrained"`` to leave room for names.

    Raises
    ------
    ConfigError
        If `frame` is not a wide frame, or a benchmark or `jumps` is invalid.

    Examples
    --------
    >>> from matplotlib import pyplot as plt
    >>> days = pd.date_range("2022-01-03", periods=3, name="date")
    >>> ax = prices(pd.DataFrame({"18993924000100": [2.0, 2.1, 2.2]}, index=days))
    >>> ax.get_ylabel(), ax.get_lines()[0].get_ydata().round(6).tolist()
    ('index, first day (3 Jan 2022) = 100', [100.0, 105.0, 110.0])
    >>> plt.close(ax.figure)
    """
    ax = new_axes() if ax is None else ax
    filled = with_prices(frame)
    if filled.empty:
        return say(ax, "no prices")
    beside = [] if benchmark is None else grown(benchmark, filled.index)
    table = pd.concat([filled, *beside], axis=1)
    common = table.dropna(axis="index", how="any")
    if len(common):
        which = "first day" if table.shape[1] == 1 else "first common day"
        label = f"index, {which} ({long_date(common.index[0])}) = 100"
    else:
        label = f"index, each {'line' if beside else 'fund'}'s own first day = 100"
    first = (common if len(common) else table.bfill()).iloc[0].to_numpy(dtype=np.float64)
    table = table.div(first, axis="columns") * 100
    own = table.iloc[:, : filled.shape[1]]
    told = sudden_falls(filled) if jumps is None else checked_jumps(jumps)
    others = [table.iloc[:, place] for place in range(own.shape[1], table.shape[1])]
    title = "Total return index" if "adjusted" in frame.attrs else "Price index"
    draw_lines(ax, own, title, names_of(frame, names), others, told[told["metric"] == "quota"])
    ax.axhline(100, color=INK, linewidth=0.6, zorder=1)
    ax.set_ylabel(label)
    name_unpriced(ax, frame)
    return ax


def drawdown(frame: pd.DataFrame, ax: Axes | None = None, names: Names = None) -> Axes:
    """Draw how far each fund is below its highest price so far, in %.

    Parameters
    ----------
    frame : pandas.DataFrame
        Wide frame of :meth:`scraperkit.TimeSeriesReader.prices`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if omitted.
    names : mapping of str to str, pandas.Series, or iterable of Fund, optional
        A name for each CNPJ; default: those in ``attrs["names"]``. A fund without a name shows its CNPJ.

    Returns
    -------
    matplotlib.axes.Axes
        As :func:`prices` returns it; for a single fund the area is filled.

    Raises
    ------
    ConfigError
        If `frame` is not a wide frame.

    Examples
    --------
    >>> from matplotlib import pyplot as plt
    >>> days = pd.date_range("2022-01-03", periods=3, name="date")
    >>> ax = drawdown(pd.DataFrame({"18993924000100": [100.0, 80.0, 120.0]}, index=days))
    >>> ax.get_ylabel(), ax.get_lines()[0].get_ydata().tolist()
    ('below the highest price so far, %', [0.0, -20.0, 0.0])
    >>> plt.close(ax.figure)
    """
    ax = new_axes() if ax is None else ax
    filled = with_prices(frame)
    if filled.empty:
        return say(ax, "no prices")
    percent = metrics.drawdown(filled) * 100
    draw_lines(ax, percent, "Drawdown", names_of(frame, names))
    if percent.shape[1] == 1:
        own = percent.iloc[:, 0].dropna()
        ax.fill_between(own.index, own.to_numpy(), 0, color=ax.get_lines()[0].get_color(), alpha=0.15, linewidth=0)
    # Small falls must not look large.
    ax.set_ylim(min(ax.get_ylim()[0], -1), 0)
    ax.set_ylabel("below the highest price so far, %")
    name_unpriced(ax, frame)
    return ax


def rolling_volatility(frame: pd.DataFrame, ax: Axes | None = None, names: Names = None, window: int = 21) -> Axes:
    """Draw the annualised volatility of each fund over its last returns, in % a year.

    Parameters
    ----------
    frame : pandas.DataFrame
        Wide frame of :meth:`scraperkit.TimeSeriesReader.prices`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if omitted.
    names : mapping of str to str, pandas.Series, or iterable of Fund, optional
        A name for each CNPJ; default: those in ``attrs["names"]``. A fund without a name shows its CNPJ.
    window : int
        Number of returns in each window, 2 or more; 21 are about a month.

    Returns
    -------
    matplotlib.axes.Axes
        As :func:`prices` returns it, a line for each fund with more prices than `window`. Without any, a chart that
        says so.

    Raises
    ------
    ConfigError
        If `window` is not a whole number of 2 or more, or `frame` is not a wide frame.

    Examples
    --------
    >>> from matplotlib import pyplot as plt
    >>> days = pd.date_range("2022-01-03", periods=4, name="date")
    >>> prices = pd.DataFrame({"18993924000100": [100.0, 101.0, 99.99, 100.9899]}, index=days)
    >>> ax = rolling_volatility(prices, window=2)
    >>> ax.get_ylabel(), ax.get_lines()[0].get_ydata().round(2).tolist()
    ('volatility of the last 2 returns, % a year', [22.45, 22.45])
    >>> plt.close(ax.figure)
    """
    ax = new_axes() if ax is None else ax
    filled = with_prices(frame)
    rolled = metrics.volatility(filled, window=window).dropna(axis="columns", how="all") * 100
    if rolled.empty:
        return say(ax, "no prices" if filled.empty else f"no fund with {window} returns")
    draw_lines(ax, rolled.dropna(axis="index", how="all"), "Rolling volatility", names_of(frame, names))
    ax.set_ylim(bottom=0)
    ax.set_ylabel(f"volatility of the last {window} returns, % a year")
    name_unpriced(ax, frame)
    return ax


def sudden_falls(prices: pd.DataFrame) -> pd.DataFrame:
    """Return the days on which a price fell suddenly and stayed down, judged by prices alone.

    The fall is 5 % or more, its distance from the fund's median return is more than 20 times the median distance, and
    the median price of the next five days is below that of the five before by more than half of the fall.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices, NaN where there is none.

    Returns
    -------
    pandas.DataFrame
        As :func:`scraperkit.plot.marks.checked_jumps` returns it, of the kind ``payout or write-down``.

    Examples
    --------
    >>> days = pd.bdate_range("2022-03-07", periods=6, name="date")
    >>> sudden_falls(pd.DataFrame({"a": [10.0, 10.01, 10.02, 8.0, 8.01, 8.02]}, index=days))[["date", "kind"]]
            date                  kind
    0 2022-03-10  payout or write-down
    """
    rows = []
    for name in prices.columns:
        own = prices[name].dropna()
        steps = np.diff(np.log(own.to_numpy(dtype=np.float64)))
        usual = np.median(steps) if len(steps) else 0.0
        spread = np.median(np.abs(steps - usual)) if len(steps) else 0.0
        falls = (steps < math.log1p(-_SUDDEN)) & (usual - steps > _EXTREMELY * spread)
        for place in np.flatnonzero(falls).tolist():
            before, after = own.iloc[max(0, place - 4) : place + 1], own.iloc[place + 1 : place + 6]
            if math.log(after.median() / before.median()) < steps[place] / 2:
                size = math.expm1(steps[place])
                rows.append((str(name), own.index[place + 1], "quota", size, "payout or write-down"))
    return pd.DataFrame(rows, columns=["series", "date", "metric", "size", "kind"])


def draw_lines(
    ax: Axes,
    table: pd.DataFrame,
    what: str,
    names: Mapping[str, str],
    benchmarks: Sequence[pd.Series[float]] = (),
    jumps: pd.DataFrame | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Draw a line for each column, and name them beside the chart in the order of their last values.

    Parameters
    ----------
    ax, table, what, names
        Where to draw, a column for each fund, what the chart shows, and the names of the funds.
    benchmarks : sequence of pandas.Series
        Drawn above the funds, as dark, dashed lines.
    jumps : pandas.DataFrame, optional
        Days to mark, from :func:`scraperkit.plot.marks.checked_jumps`.
    notes : sequence of str
        A text below each fund's name.
    """
    count = table.shape[1]
    labels = fund_labels(list(map(str, table.columns)), names, lines=2 if count <= 14 else 1)
    handles = []
    looks = looks_of(list(map(str, table.columns)), names)
    for place, (label, (colour, style)) in enumerate(zip(labels, looks, strict=True)):
        own = table.iloc[:, place].dropna()
        handles += ax.plot(
            own.index,
            own.to_numpy(),
            color=colour,
            linestyle=style,
            linewidth=1.4 if count <= _FEW else 1.1,
            label=label,
            **dot(own),
        )
    plain(ax, table.index)
    last = list(table.ffill().iloc[-1])
    others = draw_benchmarks(ax, list(benchmarks)) if benchmarks else []
    last += [float(values.dropna().iloc[-1]) for values in benchmarks]
    lines = {str(name): table[name].dropna() for name in table.columns}
    several = fund_labels(list(lines), names, lines=1) if count > 1 or benchmarks else [""] * count
    owners = {name: (label, str(line.get_color())) for name, label, line in zip(lines, several, handles, strict=True)}
    marks = draw_marks(ax, lines, jumps, owners) if jumps is not None and len(jumps) else []
    if count == 1 and not benchmarks and not marks:
        entitle(ax, what, *fund_labels([str(table.columns[0])], names, lines=1, width=90), *notes)
        return
    entitle(ax, what)
    for handle, note in zip(handles, notes, strict=False):
        handle.set_label(f"{handle.get_label()}\n{note}")
    handles += others
    order = np.argsort(-np.array(last), kind="stable")
    ax.legend(
        handles=[handles[place] for place in order] + marks,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        borderaxespad=0,
        frameon=False,
        fontsize="small",
        handlelength=2.6,
        ncols=1 + (len(handles) + len(marks) - 1) // 28,
    )
