"""The style of all charts: colours, axes without a box, short dates, names that fit.

The colours are those of Okabe and Ito (2008, Color Universal Design), distinct for any colour vision.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, DayLocator, num2date

from scraperkit.cnpj import format_cnpj, normalize_cnpj, shown_series, tails_of
from scraperkit.errors import ConfigError
from scraperkit.metrics.inputs import check_wide, days_without_price, told, wide_prices

# Their eighth colour, yellow, is too faint for a line on white.
#: Colours of lines, in order; distinct for any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
#: Styles of lines, for more lines than there are colours.
STYLES = ("solid", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
INK, FAINT = "#333333", "#DDDDDD"


def new_axes(height: float = 5.5) -> Axes:
    """Return axes on a new figure, 10 inches wide."""
    _, ax = plt.subplots(figsize=(10, height), layout="constrained")
    return ax


def entitle(ax: Axes, *parts: str, pad: float | None = None) -> None:
    """Write a chart's title: what it shows, then the fund."""
    ax.set_title(" · ".join(part for part in parts if part), loc="left", fontsize="medium", pad=pad)


def looks_of(series: Sequence[str], names: Mapping[str, str]) -> list[tuple[str, Any]]:
    """Return colour and line style of each fund by its place among the names: the same in all charts.

    If that gives two funds the same look, their places among `series` count.

    Parameters
    ----------
    series : sequence of str
        The drawn series.
    names : mapping of str to str
        See :func:`scraperkit.metrics.inputs.names_of`.

    Examples
    --------
    >>> looks_of(["b"], {"a": "Aroeira", "b": "Jatobá"}) == looks_of(["a", "b"], {})[1:]
    True
    """
    places = {one: place for place, one in enumerate(dict.fromkeys([*names, *series]))}
    found = [places[one] % (len(COLOURS) * len(STYLES)) for one in series]
    if len(set(found)) < len(series):
        found = list(range(len(series)))
    return [(COLOURS[place % len(COLOURS)], STYLES[place // len(COLOURS) % len(STYLES)]) for place in found]


def say(ax: Axes, text: str) -> Axes:
    """Make a chart that only says why it is empty."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=INK)
    ax.set_axis_off()
    return ax


def with_prices(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the funds that have any price; refuse a frame that is not wide."""
    return wide_prices(frame, "frame").dropna(axis="columns", how="all")


def one_fund(frame: pd.DataFrame, cnpj: str | None) -> pd.DataFrame:
    """Return the one column of a wide frame to draw, unchanged."""
    check_wide(frame, "frame")
    if cnpj is not None:
        wanted = normalize_cnpj(cnpj)
        if wanted not in frame:
            raise ConfigError(f"cnpj: the frame has no fund {format_cnpj(wanted)}")
        return frame[[wanted]]
    if frame.shape[1] > 1:
        raise ConfigError(f"cnpj: the frame has {frame.shape[1]} funds; name the one to draw")
    return frame


def name_unpriced(ax: Axes, frame: pd.DataFrame) -> None:
    """Name below a chart the days whose quota is not a price."""
    if unpriced := days_without_price(frame):
        text = textwrap.fill(f"Left out: {told(unpriced)}", 120, max_lines=3, placeholder=" …")
        own = f"{ax.get_xlabel()}\n" if ax.get_xlabel() else ""
        ax.set_xlabel(own + text, loc="left", fontsize="small", color=INK)


def dot(values: pd.Series[float]) -> dict[str, Any]:
    """Return a marker for a single day, which makes no line."""
    return {"marker": "o", "markersize": 4} if len(values) == 1 else {}


def fund_labels(series: Sequence[str], names: Mapping[str, str], lines: int, width: int = 28) -> list[str]:
    """Return the name of each fund, or its punctuated CNPJ if it has none, in at most `lines` lines; all differ.

    Funds whose shortened names are equal have the end of their CNPJ appended.

    Parameters
    ----------
    series : sequence of str
        CNPJs, with or without a subclass, or columns renamed before.
    names : mapping of str to str
        See :func:`scraperkit.metrics.inputs.names_of`; a subclass without a name has that of its class.
    lines, width : int
        Most lines of a name, and most characters of a line.

    Examples
    --------
    >>> fund_labels(["18993924000100", "99101011000125", "EXEMPL0A000100"], {"18993924000100": "Aroeira"}, 1)
    ['Aroeira', '99.101.011/0001-25', 'EX.EMP.L0A/0001-00']
    >>> fund_labels(["18993924000100", "99101011000125"], {"18993924000100": "Ipê", "99101011000125": "Ipê"}, 1)
    ['Ipê 924/0001-00', 'Ipê 011/0001-25']
    """
    whole = {one: names.get(one) or names.get(one.partition(":")[0]) or shown_series(one) for one in series}
    labels = {one: _in_lines(name, lines, width) for one, name in whole.items()}
    for one, tail in tails_of(labels).items():
        labels[one] = f"{_in_lines(whole[one], lines, max(width - len(tail) - 1, 8))} {tail}"
    # matplotlib leaves labels that start with an underscore out of the legend, and reads $ as mathematics.
    return [labels[one].lstrip("_").replace("$", r"\$") for one in series]


def _in_lines(name: str, lines: int, width: int) -> str:
    return textwrap.fill(name, width, max_lines=lines, placeholder=" …")


class _AxisDates(ConciseDateFormatter):
    """Short dates; the first tick, if it is a month while a later one is a year, has its year below it."""

    def format_ticks(self, values: Any) -> list[str]:
        labels: list[str] = super().format_ticks(values)  # type: ignore[no-untyped-call]
        low, high = self.axis.get_view_interval()  # type: ignore[union-attr]
        first = next((place for place, value in enumerate(values) if low <= value <= high), None)
        if first is not None and labels[first].isalpha() and any(label.isdigit() for label in labels):
            labels[first] += f"\n{num2date(values[first]):%Y}"  # type: ignore[no-untyped-call]
        return labels


def plain(ax: Axes, days: pd.Index[Any]) -> None:
    """Remove the box, draw faint horizontal lines, and shorten the dates."""
    few = (days[-1] - days[0]).days < 7  # AutoDateLocator would mark hours, and prices have none
    locator: Any = DayLocator() if few else AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    formatter: Any = _AxisDates(locator)  # type: ignore[no-untyped-call]
    # "05 Jan" under each tick and the year at the end: the default names only the month of the last tick.
    formatter.formats[2] = formatter.zero_formats[2] = "%d %b"
    formatter.offset_formats[2] = "%Y"
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(formatter)
    ax.grid(visible=True, axis="y", color=FAINT, linewidth=0.7)
    ax.set_axisbelow(True)
    unbox(ax)


def unbox(ax: Axes) -> None:
    """Remove the box, but keep the baseline."""
    ax.tick_params(axis="y", length=0)
    ax.margins(x=0.01)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)


def decimals(ax: Axes) -> int:
    """Return the number of decimals in the steps between ticks of the y axis."""
    steps = np.diff(ax.yaxis.get_majorticklocs())
    return max(0, math.ceil(-math.log10(steps[0]) - 1e-6)) if len(steps) else 0


def long_date(day: pd.Timestamp) -> str:
    """Return a day as text, such as 3 Jan 2022."""
    return f"{day.day} {day:%b %Y}"
