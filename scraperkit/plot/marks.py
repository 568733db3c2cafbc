"""Marks for days on which a series jumped, as :func:`scraperkit.metrics.jumps` finds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from scraperkit.errors import ConfigError
from scraperkit.plot.style import long_date

_SHAPES = {
    "market move": "o", "payout": "v", "payout or write-down": "s", "split": "D", "error": "X",
    "flow on another day": "<", "unreported flow": ">", "unclear": "P",
}  # fmt: skip
_EACH = 6  # up to this many jumps are named; more are counted by kind
_MARK_COLUMNS = ("cnpj", "subclass", "date", "metric", "size", "kind")


def checked_jumps(jumps: Any) -> pd.DataFrame:
    """Return a frame of jumps with a column ``series``, ``CNPJ`` or ``CNPJ:SUBCLASS``.

    Raises
    ------
    ConfigError
        If it is not a frame of :func:`scraperkit.metrics.jumps`.
    """
    if not isinstance(jumps, pd.DataFrame) or not set(_MARK_COLUMNS) <= set(jumps):
        raise ConfigError("jumps: give the frame of metrics.jumps(quotes)")
    suffix = (":" + jumps["subclass"].astype("str")).where(jumps["subclass"] != "", "")
    return jumps.assign(series=jumps["cnpj"].astype("str") + suffix)


def draw_marks(
    ax: Axes, lines: dict[str, pd.Series[float]], jumps: pd.DataFrame, owners: Mapping[str, tuple[str, str]]
) -> list[Line2D]:
    """Mark jumps on the lines of their series, and return their legend entries.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        The axes of the lines.
    lines : dict of str to pandas.Series
        The drawn values of each series.
    jumps : pandas.DataFrame
        From :func:`checked_jumps`; those of other series, or outside the drawn days, are left out.
    owners : mapping of str to (str, str)
        Label and colour of each series; the label is empty if there is only one.
    """
    drawn = [
        (row["series"], row["kind"], row["date"], float(row["size"]))
        for row in jumps.to_dict("records")
        if row["series"] in lines and lines[row["series"]].index[0] <= row["date"] <= lines[row["series"]].index[-1]
    ]
    drawn.sort(key=lambda each: each[2])
    for series, kind, day, _ in drawn:
        ax.plot([day], [_height(lines[series], day)], **_look(kind, owners[series][1]))
    if len(drawn) > _EACH:
        counts = Counter((series, kind) for series, kind, _, _ in drawn)
        order = sorted(counts, key=lambda each: (list(lines).index(each[0]), list(_SHAPES).index(each[1])))
        told = [(series, kind, f"{kind}, {_days(counts[series, kind])}") for series, kind in order]
    else:
        told = [(series, kind, f"{long_date(day)}: {kind}, {_size(size)}") for series, kind, day, size in drawn]
    return [
        Line2D([], [], label="\n".join(filter(None, (owners[series][0], text))), **_look(kind, owners[series][1]))
        for series, kind, text in told
    ]


def _height(line: pd.Series[float], day: pd.Timestamp) -> float:
    """Return the height of a line on a day, interpolated where it has no value."""
    return float(np.interp(day.timestamp(), [each.timestamp() for each in line.index], line.to_numpy()))


def _look(kind: str, colour: str) -> dict[str, Any]:
    return {
        "marker": _SHAPES.get(kind, "P"), "markersize": 7, "markerfacecolor": "white", "markeredgecolor": colour,
        "markeredgewidth": 1.6, "linestyle": "none", "zorder": 5,
    }  # fmt: skip


def _days(count: int) -> str:
    return f"{count} day{'s' * (count != 1)}"


def _size(size: float) -> str:
    return f"{size * 100:+,.1f} %".replace("-", "−") if np.isfinite(size) else "no size"
