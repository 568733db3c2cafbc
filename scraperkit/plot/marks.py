"""Marks for days on which a series jumped, as :func:`scraperkit.metrics.jumps` finds them."""

from __future__ import annotations

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
_EACH = 6  # so many jumps are named one by one; more are counted by kind
_MARK_COLUMNS = ("cnpj", "subclass", "date", "metric", "size", "kind")


def checked_jumps(jumps: Any) -> pd.DataFrame:
    """Return a frame of jumps with the name of each series, ``CNPJ`` or ``CNPJ:SUBCLASS``.

    Raises
    ------
    ConfigError
        If it is not one of :func:`scraperkit.metrics.jumps`.
    """
    if not isinstance(jumps, pd.DataFrame) or not set(_MARK_COLUMNS) <= set(jumps):
        raise ConfigError("jumps: give the frame of metrics.jumps(quotes)")
    suffix = (":" + jumps["subclass"].astype("str")).where(jumps["subclass"] != "", "")
    return jumps.assign(series=jumps["cnpj"].astype("str") + suffix)


def draw_marks(ax: Axes, lines: dict[str, pd.Series[float]], jumps: pd.DataFrame) -> list[Line2D]:
    """Mark jumps on the lines of their series, and return what a legend says of them.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where the lines are.
    lines : dict of str to pandas.Series
        What was drawn of each series.
    jumps : pandas.DataFrame
        Of :func:`checked_jumps`; those of other series, or beyond the days drawn, are left out.
    """
    drawn = [
        (row["kind"], row["date"], float(row["size"]), _height(lines[row["series"]], row["date"]))
        for row in jumps.to_dict("records")
        if row["series"] in lines and lines[row["series"]].index[0] <= row["date"] <= lines[row["series"]].index[-1]
    ]
    drawn.sort(key=lambda each: each[1])
    for kind, day, _, height in drawn:
        ax.plot([day], [height], **_look(kind))
    kinds = [kind for kind in _SHAPES if kind in {each[0] for each in drawn}]
    if len(drawn) > _EACH:
        counts = [(kind, sum(each[0] == kind for each in drawn)) for kind in kinds]
        return [Line2D([], [], label=f"{kind}, {count} days", **_look(kind)) for kind, count in counts]
    told = [(kind, f"{long_date(day)}: {kind}, {_size(size)}") for kind, day, size, _ in drawn]
    return [Line2D([], [], label=label, **_look(kind)) for kind, label in told]


def _height(line: pd.Series[float], day: pd.Timestamp) -> float:
    """Return where the line is on a day; between its neighbours where it has no value."""
    return float(np.interp(day.timestamp(), [each.timestamp() for each in line.index], line.to_numpy()))


def _look(kind: str) -> dict[str, Any]:
    return {
        "marker": _SHAPES.get(kind, "P"), "markersize": 7, "markerfacecolor": "white", "markeredgecolor": "black",
        "markeredgewidth": 1.3, "linestyle": "none", "zorder": 5,
    }  # fmt: skip


def _size(size: float) -> str:
    return f"{size * 100:+,.1f} %".replace("-", "−") if np.isfinite(size) else "no size"
