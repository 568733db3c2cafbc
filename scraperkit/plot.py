"""Charts of prices: each function takes a frame and a matplotlib ``ax``, draws on it and returns it.

Without an `ax` a figure of 10 by 5.5 inches is made. Colours are those of Okabe and Ito (2008, Color Universal Design),
told apart with any colour vision; after seven lines the line style changes too.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import Any, TypeAlias

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, DayLocator
from matplotlib.ticker import MaxNLocator

from scraperkit import metrics
from scraperkit.cnpj import format_cnpj, normalize_cnpj
from scraperkit.errors import ConfigError

# Their eighth colour, yellow, is too faint for a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("solid", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
Names: TypeAlias = "Mapping[str, str] | pd.Series[str] | None"
_INK, _FAINT = "#333333", "#DDDDDD"


def prices(frame: pd.DataFrame, ax: Axes | None = None, names: Names = None) -> Axes:
    """Draw the prices of funds as indices that are 100 on the first day that all of them have.

    Where no day is common to all, each fund is 100 on its own first day, and the axis says so.

    Parameters
    ----------
    frame : pandas.DataFrame
        Wide frame of :meth:`scraperkit.TimeSeriesReader.prices`. Days that a fund lacks are bridged by its line.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if left out.
    names : mapping of str to str, or pandas.Series, optional
        A name for each CNPJ, such as ``reader.funds()["name"]``; the punctuated CNPJ where there is none.

    Returns
    -------
    matplotlib.axes.Axes
        A line for each fund with prices, named beside the chart in the order of their last values; a single fund is
        named above it. Without any price, a chart that says so. On an `ax` of your own, make the figure with
        ``layout="constrained"``, so that it leaves room for the names.

    Raises
    ------
    ConfigError
        If the frame's index is not one of dates.

    Examples
    --------
    >>> days = pd.date_range("2022-01-03", periods=3, name="date")
    >>> ax = prices(pd.DataFrame({"18993924000100": [2.0, 2.1, 2.2]}, index=days))
    >>> ax.get_ylabel(), ax.get_lines()[0].get_ydata().round(6).tolist()
    ('index, first day (3 Jan 2022) = 100', [100.0, 105.0, 110.0])
    >>> plt.close(ax.figure)
    """
    ax = _new_axes() if ax is None else ax
    filled = _with_prices(frame)
    if filled.empty:
        return _say(ax, "no prices")
    common = filled.dropna(axis="index", how="any")
    if len(common):
        which = "first day" if filled.shape[1] == 1 else "first common day"
        label = f"index, {which} ({_long_date(common.index[0])}) = 100"
        base = common.iloc[0]
    else:
        label = "index, each fund's own first day = 100"
        base = filled.bfill().iloc[0]
    _lines(ax, filled / base * 100, names)
    ax.axhline(100, color=_INK, linewidth=0.6, zorder=1)
    ax.set_ylabel(label)
    return ax


def drawdown(frame: pd.DataFrame, ax: Axes | None = None, names: Names = None) -> Axes:
    """Draw how far each fund is below its highest price so far, in %.

    Parameters
    ----------
    frame : pandas.DataFrame
        Wide frame of :meth:`scraperkit.TimeSeriesReader.prices`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if left out.
    names : mapping of str to str, or pandas.Series, optional
        A name for each CNPJ; the punctuated CNPJ where there is none.

    Returns
    -------
    matplotlib.axes.Axes
        As :func:`prices` returns it; for a single fund the area is filled.

    Raises
    ------
    ConfigError
        If the frame's index is not one of dates.
    """
    ax = _new_axes() if ax is None else ax
    filled = _with_prices(frame)
    if filled.empty:
        return _say(ax, "no prices")
    percent = metrics.drawdown(filled) * 100
    _lines(ax, percent, names)
    if percent.shape[1] == 1:
        own = percent.iloc[:, 0].dropna()
        ax.fill_between(own.index, own.to_numpy(), 0, color=COLOURS[0], alpha=0.15, linewidth=0)
    ax.set_ylim(top=0)
    ax.set_ylabel("below the highest price so far, %")
    return ax


def net_worth_and_holders(quotes: pd.DataFrame, cnpj: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the net worth of one fund and, on an axis at the right, its number of holders.

    Parameters
    ----------
    quotes : pandas.DataFrame
        Tidy frame of :meth:`scraperkit.TimeSeriesReader.quotes`.
    cnpj : str, optional
        Which fund, if the frame has several.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if left out.

    Returns
    -------
    matplotlib.axes.Axes
        The axes of the net worth, in R$ million. Without any figure, a chart that says so.

    Raises
    ------
    ConfigError
        If the frame has several funds and `cnpj` does not say which, `cnpj` is none, or the frame is not a tidy one.
    """
    missing = [column for column in ("cnpj", "date", "net_worth", "holders") if column not in quotes]
    if missing:
        raise ConfigError(f"quotes: no column {', '.join(missing)}; give the tidy frame of TimeSeriesReader.quotes()")
    if cnpj is not None:
        quotes = quotes[quotes["cnpj"] == normalize_cnpj(cnpj)]
    elif quotes["cnpj"].nunique() > 1:
        raise ConfigError(f"cnpj: the frame has {quotes['cnpj'].nunique()} funds; say which to draw")
    ax = _new_axes() if ax is None else ax
    dated = quotes.set_index("date")[["net_worth", "holders"]].astype("float64").dropna(how="all")
    if dated.empty:
        return _say(ax, "no figures")
    right = ax.twinx()
    _plain(ax, dated.index)
    _unbox(right)
    _side(ax, (dated["net_worth"] / 1e6).dropna(), COLOURS[0], "net worth, R$ million")
    _side(right, dated["holders"].dropna(), COLOURS[1], "holders, people")
    ax.set_title(format_cnpj(str(quotes["cnpj"].iloc[0])), loc="left", fontsize="medium")
    return ax


def _with_prices(frame: pd.DataFrame) -> pd.DataFrame:
    filled = frame.dropna(axis="columns", how="all")
    if not filled.empty and not isinstance(frame.index, pd.DatetimeIndex):
        raise ConfigError("frame: give the wide frame of TimeSeriesReader.prices(): an index of dates, a column a fund")
    return filled


def _side(ax: Axes, values: pd.Series[float], colour: str, label: str) -> None:
    """Draw one line on its own y axis, which takes the colour of the line."""
    ax.plot(values.index, values.to_numpy(), color=colour, linewidth=1.4, label=label, **_dot(values))
    ax.set_ylabel(label, color=colour)
    ax.tick_params(axis="y", colors=colour)
    people = label.startswith("holders")
    ax.yaxis.set_major_locator(MaxNLocator(9, steps=[1, 2, 5, 10], integer=people, min_n_ticks=1))
    ax.yaxis.set_major_formatter(lambda value, _place: f"{value:,.{_decimals(ax)}f}")


def _decimals(ax: Axes) -> int:
    """Return how many decimals the steps between the ticks of the y axis have."""
    steps = np.diff(ax.yaxis.get_majorticklocs())
    return max(0, math.ceil(-math.log10(steps[0]) - 1e-6)) if len(steps) else 0


def _new_axes() -> Axes:
    _, ax = plt.subplots(figsize=(10, 5.5), layout="constrained")
    return ax


def _say(ax: Axes, text: str) -> Axes:
    """Leave a chart that only tells why it is empty."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=_INK)
    ax.set_axis_off()
    return ax


def _lines(ax: Axes, table: pd.DataFrame, names: Names) -> None:
    """Draw a line for each column, and name them beside the chart in the order in which they end."""
    count = table.shape[1]
    handles = []
    for place, cnpj in enumerate(table.columns):
        own = table.iloc[:, place].dropna()
        handles += ax.plot(
            own.index,
            own.to_numpy(),
            color=COLOURS[place % len(COLOURS)],
            linestyle=STYLES[place // len(COLOURS) % len(STYLES)],
            linewidth=1.4 if count <= len(COLOURS) else 1.1,
            label=_label(str(cnpj), names, lines=2 if count <= 14 else 1),
            **_dot(own),
        )
    _plain(ax, table.index)
    if count == 1:
        ax.set_title(_label(str(table.columns[0]), names, lines=1, width=90), loc="left", fontsize="medium")
        return
    order = np.argsort(-table.ffill().iloc[-1].to_numpy(), kind="stable")
    ax.legend(
        handles=[handles[place] for place in order],
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        borderaxespad=0,
        frameon=False,
        fontsize="small",
        handlelength=2.6,
        ncols=1 + (count - 1) // 28,
    )


def _dot(values: pd.Series[float]) -> dict[str, Any]:
    """Make a single day visible, which is no line."""
    return {"marker": "o", "markersize": 4} if len(values) == 1 else {}


def _label(cnpj: str, names: Names, lines: int, width: int = 28) -> str:
    name = str(names[cnpj]) if names is not None and cnpj in names else ""
    if not name.strip():
        try:
            return format_cnpj(normalize_cnpj(cnpj))
        except ConfigError:  # columns renamed before: take them as they are
            name = cnpj
    text = textwrap.fill(name, width, max_lines=lines, placeholder=" …")
    # matplotlib leaves labels that start with an underscore out of the legend, and reads $ as mathematics.
    return text.lstrip("_").replace("$", r"\$")


def _plain(ax: Axes, days: pd.Index[Any]) -> None:
    """Take the box away, leave faint horizontal lines, and make the dates short."""
    few = (days[-1] - days[0]).days < 7  # AutoDateLocator would mark hours, and prices have none
    locator: Any = DayLocator() if few else AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    formatter: Any = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
    # "05 Jan" under each tick and the year at the end: the default names only the month of the last tick.
    formatter.formats[2] = formatter.zero_formats[2] = "%d %b"
    formatter.offset_formats[2] = "%Y"
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(formatter)
    ax.grid(visible=True, axis="y", color=_FAINT, linewidth=0.7)
    ax.set_axisbelow(True)
    _unbox(ax)


def _unbox(ax: Axes) -> None:
    ax.tick_params(axis="y", length=0)
    ax.margins(x=0.01)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)


def _long_date(day: pd.Timestamp) -> str:
    return f"{day.day} {day:%b %Y}"
