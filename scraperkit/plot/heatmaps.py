"""Heat maps: months of a fund, correlations, coverage of the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Patch, Rectangle

from scraperkit import metrics
from scraperkit.metrics.inputs import Names, check_wide, names_of
from scraperkit.models import MONTH_NAMES
from scraperkit.plot.style import (
    COLOURS,
    INK,
    entitle,
    fund_labels,
    name_unpriced,
    new_axes,
    one_fund,
    say,
    with_prices,
)

# From vermilion over the palest grey to blue: the ends differ for any colour vision.
DIVERGING = LinearSegmentedColormap.from_list("scraperkit", [COLOURS[1], "#F6C9AE", "#F3F3F3", "#AFD3EA", COLOURS[0]])
# A single missing day must be visible: the blue pales at once below 100 %.
_SHARES = LinearSegmentedColormap.from_list(
    "scraperkit_shares", [(0.0, COLOURS[1]), (0.5, "#F6C9AE"), (0.9, "#CFE3F1"), (1.0, COLOURS[0])]
)
_HATCH = "#BBBBBB"
_Grid = npt.NDArray[np.float64]


def monthly_returns(
    frame: pd.DataFrame, ax: Axes | None = None, *, cnpj: str | None = None, names: Names = None
) -> Axes:
    """Draw the returns of one fund by year and month, and of each year, in %.

    Parameters
    ----------
    frame : pandas.DataFrame
        Wide frame of :meth:`scraperkit.TimeSeriesReader.prices`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; if omitted, a new figure, as high as its years need.
    cnpj : str, optional
        Which fund, if the frame has several.
    names : mapping of str to str, pandas.Series, or iterable of Fund, optional
        A name for each CNPJ; default: those in ``attrs["names"]``. A fund without a name shows its CNPJ.

    Returns
    -------
    matplotlib.axes.Axes
        A row for each year, a column for each month and one for the year: :func:`scraperkit.metrics.monthly_returns`,
        compounded. Blue is a gain, orange a loss, white is 0, and hatched means no price. Without any return, a chart
        that says so.

    Raises
    ------
    ConfigError
        If the frame has several funds and `cnpj` is omitted, it lacks that fund, or it is not wide.

    Examples
    --------
    >>> from matplotlib import pyplot as plt
    >>> days = pd.DatetimeIndex(["2022-01-03", "2022-01-31", "2022-02-25"], name="date")
    >>> ax = monthly_returns(pd.DataFrame({"18993924000100": [100.0, 110.0, 99.0]}, index=days))
    >>> [text.get_text() for text in ax.texts]  # January, February, the year
    ['+10.0', '−10.0', '−1.0']
    >>> plt.close(ax.figure)
    """
    drawn = one_fund(frame, cnpj)
    own = with_prices(drawn)
    returns = metrics.monthly_returns(own).dropna(how="all")
    months = pd.PeriodIndex(returns.index, freq="M")
    years = sorted(set(months.year)) if own.shape[1] else []
    ax = new_axes(1.3 + 0.42 * max(len(years), 2)) if ax is None else ax
    if not years:
        return say(ax, "no returns")
    table = np.full((years[-1] - years[0] + 1, 12), np.nan)
    table[months.year - years[0], months.month - 1] = returns.to_numpy()[:, 0] * 100
    _cells(ax, table, DIVERGING, float(np.nanmax(np.abs(table))), lambda value: _signed(value, 1))
    for row, of_year in enumerate(table):
        known = of_year[~np.isnan(of_year)] / 100
        total = _signed((np.prod(1 + known) - 1) * 100, 1) if len(known) else ""
        ax.text(13, row + 0.5, total, ha="center", va="center", color=INK, weight="bold", fontsize="small")
    ax.set_xlim(0, 13.6)
    ax.set_xticks([*(np.arange(12) + 0.5), 13], [*MONTH_NAMES, "year"])
    ax.set_yticks(np.arange(len(table)) + 0.5, [str(years[0] + row) for row in range(len(table))])
    ax.set_ylabel("return, %")
    (title,) = fund_labels([str(own.columns[0])], names_of(frame, names), lines=1, width=90)
    entitle(ax, "Monthly returns", title)
    name_unpriced(ax, drawn)
    return ax


def correlation(frame: pd.DataFrame, ax: Axes | None = None, names: Names = None) -> Axes:
    """Draw the correlation of the daily returns of each pair of funds: 1 is alike, 0 unrelated, -1 opposite.

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
        Each pair once, as in :func:`scraperkit.metrics.correlation`; the columns have the numbers of the rows. Pairs
        with too few common days are hatched. With fewer than two funds, the chart says so.

    Raises
    ------
    ConfigError
        If `frame` is not a wide frame.

    Examples
    --------
    >>> from matplotlib import pyplot as plt
    >>> days = pd.date_range("2022-01-03", periods=4, name="date")
    >>> ax = correlation(pd.DataFrame({"one": [1.0, 2.0, 2.0, 4.0], "two": [8.0, 4.0, 4.0, 2.0]}, index=days))
    >>> [label.get_text() for label in ax.get_yticklabels()], ax.texts[0].get_text()
    (['one   1', 'two   2'], '−1.00')
    >>> plt.close(ax.figure)
    """
    filled = with_prices(frame)
    count = filled.shape[1]
    ax = new_axes(2.0 + 0.34 * max(count, 5)) if ax is None else ax
    if count < 2:
        return say(ax, "one fund: no pair to correlate" if count else "no prices")
    table = metrics.correlation(filled).to_numpy(dtype=np.float64)
    below = np.tril(np.ones((count, count), dtype=bool), k=-1)
    write = (lambda value: _signed(value, 2)) if count <= 14 else _nothing
    mesh = _cells(ax, np.where(below, table, np.nan), DIVERGING, 1.0, write, hatch=below)
    ax.set_xticks(np.arange(count - 1) + 0.5, [str(number) for number in range(1, count)])
    labels = fund_labels(list(map(str, filled.columns)), names_of(frame, names), lines=1, width=44)
    ax.set_yticks(np.arange(count) + 0.5, [f"{label}   {number}" for number, label in enumerate(labels, 1)])
    ax.set_xlim(0, count - 1)
    entitle(ax, "Correlation of daily returns")
    _bar(ax, mesh, "correlation, from −1 to 1")
    name_unpriced(ax, frame)
    return ax


def coverage(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    names: Names = None,
    started_on: metrics.Dates = None,
    ended_on: metrics.Dates = None,
) -> Axes:
    """Draw for each fund and month the share of business days that have a price.

    Parameters
    ----------
    frame : pandas.DataFrame
        Wide frame of :meth:`scraperkit.TimeSeriesReader.prices`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; if omitted, a new figure, as high as its funds need.
    names : mapping of str to str, pandas.Series, or iterable of Fund, optional
        A name for each CNPJ; default: those in ``attrs["names"]``. A fund without a name shows its CNPJ.
    started_on : mapping of str to date, or pandas.Series, optional
        The first day of each fund, as in ``reader.funds()["started_on"]``; default: the day of its first price.
    ended_on : mapping of str to date, or pandas.Series, optional
        The last day of each fund that has ended, as from :func:`scraperkit.metrics.ends`.

    Returns
    -------
    matplotlib.axes.Axes
        :func:`scraperkit.metrics.coverage` in %. Complete months are blue, without a number; others are paler, and then
        more orange, the more is missing. Months before a fund's start or after its end are hatched. Days with a quota
        that is not a price are named below. Without days, the chart says so.

    Raises
    ------
    ConfigError
        If `frame` is not a wide frame.

    Examples
    --------
    >>> from matplotlib import pyplot as plt
    >>> days = pd.DatetimeIndex(["2022-01-03", "2022-01-04", "2022-01-07"], name="date")  # a Monday to a Friday
    >>> ax = coverage(pd.DataFrame({"18993924000100": [1.0, 1.0, 1.0]}, index=days))
    >>> ax.texts[0].get_text()
    '60'
    >>> plt.close(ax.figure)
    """
    check_wide(frame, "frame")
    table = metrics.coverage(frame, started_on, ended_on=ended_on).T * 100
    ax = new_axes(1.5 + 0.3 * max(len(table), 3)) if ax is None else ax
    if table.empty:
        return say(ax, "no prices")
    values = table.to_numpy(dtype=np.float64)
    months = list(table.columns)
    write = _unless_whole if len(months) <= 30 and len(table) <= 30 else _nothing
    _cells(ax, values, _SHARES, 100.0, write, low=0.0)
    ticks = _month_ticks(months)
    ax.set_xticks([place + 0.5 for place, _ in ticks], [text for _, text in ticks])
    labels = fund_labels(list(map(str, table.index)), names_of(frame, names), lines=1, width=44)
    ax.set_yticks(np.arange(len(labels)) + 0.5, labels, fontsize="small" if len(labels) <= 25 else "xx-small")
    shares = [Patch(color=_SHARES(share / 100), label=f"{share} %") for share in (100, 90, 50, 0)]
    outside = "before the fund's start" if ended_on is None else "before the fund's start, after its end"
    before = Patch(facecolor="white", edgecolor=_HATCH, hatch="////", label=outside)
    ax.legend(
        handles=[*shares, before],
        loc="lower right",  # it may be wider than the cells, so it extends over the names
        bbox_to_anchor=(1, 1.0),
        ncols=6,
        frameon=False,
        fontsize="small",
        handlelength=1.2,
        columnspacing=1.2,
    )
    entitle(ax, "Business days with a price, by month", pad=24)
    name_unpriced(ax, frame)
    return ax


def _cells(
    ax: Axes,
    table: _Grid,
    colours: LinearSegmentedColormap,
    most: float,
    write: Callable[[float], str],
    *,
    low: float | None = None,
    hatch: npt.NDArray[np.bool_] | None = None,
) -> QuadMesh:
    """Draw a cell for each value, from the top, with the text of `write`; hatch NaN."""
    rows, columns = table.shape
    low = -most if low is None else low
    mesh = ax.pcolormesh(table, cmap=colours, vmin=low, vmax=most or 1e-9, edgecolors="white", linewidth=1)
    for row, column in np.ndindex(rows, columns):
        value = float(table[row, column])
        if np.isnan(value):
            if hatch is None or hatch[row, column]:
                ax.add_patch(
                    Rectangle((column, row), 1, 1, hatch="////", facecolor="none", edgecolor=_HATCH, linewidth=0)
                )
        elif text := write(value):
            dark = np.dot(mesh.to_rgba(np.array([value]))[0, :3], (0.299, 0.587, 0.114)) < 0.55
            colour = "white" if dark else INK
            ax.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour, fontsize="small")
    ax.set_ylim(rows, 0)
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)
    return mesh


def _signed(value: float, places: int) -> str:
    return f"{round(value, places) + 0.0:+.{places}f}".replace("-", "−")  # + 0.0 turns -0.0 into 0.0


def _unless_whole(percent: float) -> str:
    return "" if percent == 100 else f"{percent:.0f}"


def _nothing(_: float) -> str:
    return ""


def _bar(ax: Axes, mesh: QuadMesh, label: str) -> None:
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02, fraction=0.04, aspect=30)
    bar.outline.set_visible(False)
    bar.set_label(label)
    bar.ax.tick_params(length=0)


def _month_ticks(months: Sequence[Any]) -> list[tuple[int, str]]:
    """Return positions and texts for the months, the year below its first month."""
    step = next((step for step in (1, 3, 6) if len(months) / step <= 14), 12)
    ticks: list[tuple[int, str]] = []
    year = None
    for place, month in enumerate(months):
        if place and (month.month - 1) % step:
            continue
        if ticks and place - ticks[-1][0] < step and place < len(months):
            ticks.pop()  # a first month between steps is dropped
            year = None
        ticks.append((place, MONTH_NAMES[month.month - 1] + (f"\n{month.year}" if month.year != year else "")))
        year = month.year
    return ticks
