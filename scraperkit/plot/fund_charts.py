"""Charts of one fund: net worth, flows and holders."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import AbstractPathEffect, withStroke
from matplotlib.ticker import MaxNLocator

from scraperkit.cnpj import normalize_cnpj
from scraperkit.errors import ConfigError
from scraperkit.metrics.inputs import Names, check_tidy, names_of
from scraperkit.plot.marks import checked_jumps, draw_marks
from scraperkit.plot.style import COLOURS, INK, decimals, dot, entitle, fund_labels, new_axes, plain, say, unbox

_UNITS = ((1e9, "R$ billion"), (1e6, "R$ million"), (1e3, "R$ thousand"), (1.0, "R$"))
_HALO: list[AbstractPathEffect] = [withStroke(linewidth=3, foreground="white")]
_AROUND = pd.Timedelta(days=1.5)  # otherwise the axis of a single day would show hours
_MOST_DAYS = 70  # beyond this, daily bars are too thin to tell apart


def net_worth_and_holders(
    quotes: pd.DataFrame,
    ax: Axes | None = None,
    *,
    cnpj: str | None = None,
    names: Names = None,
    jumps: pd.DataFrame | None = None,
) -> Axes:
    """Draw a fund's net worth and, on the right axis, its number of holders.

    Parameters
    ----------
    quotes : pandas.DataFrame
        Tidy frame of :meth:`scraperkit.TimeSeriesReader.quotes`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if omitted.
    cnpj : str, optional
        Which fund, if the frame has several.
    names : mapping of str to str, pandas.Series, or iterable of Fund, optional
        A name for each CNPJ; default: those in ``attrs["names"]``. A fund without a name shows its CNPJ.
    jumps : pandas.DataFrame, optional
        From :func:`scraperkit.metrics.jumps`: days on which the fund jumped are marked on the line of the net worth,
        each kind with its own shape.

    Returns
    -------
    matplotlib.axes.Axes
        The axes of the net worth, in R$ million. If there are no figures, the chart says so.

    Raises
    ------
    ConfigError
        If the frame has several funds and `cnpj` is omitted, `cnpj` is invalid, or a frame has another form.

    Examples
    --------
    >>> from matplotlib import pyplot as plt
    >>> days = pd.date_range("2022-01-03", periods=2, name="date")
    >>> quotes = pd.DataFrame({"cnpj": "18993924000100", "date": days, "net_worth": [1e6, 2e6], "holders": [10, 11]})
    >>> ax = net_worth_and_holders(quotes)
    >>> ax.get_ylabel(), ax.get_lines()[0].get_ydata().tolist()
    ('net worth, R$ million', [1.0, 2.0])
    >>> plt.close(ax.figure)
    """
    dated, title = _of_fund(quotes, cnpj, names, ["net_worth", "holders"])
    ax = new_axes() if ax is None else ax
    if dated.empty:
        return say(ax, "no figures")
    right = ax.twinx()
    plain(ax, dated.index)
    unbox(right)
    _side(ax, (dated["net_worth"] / 1e6).dropna(), COLOURS[0], "net worth, R$ million")
    _side(right, dated["holders"].dropna(), COLOURS[1], "holders, people")
    marks = _marks(ax, quotes, cnpj, (dated["net_worth"] / 1e6).dropna(), jumps) if jumps is not None else []
    entitle(ax, "Net worth and holders", title, pad=34 if marks else None)
    if marks:
        ax.legend(
            handles=marks,
            loc="lower left",
            bbox_to_anchor=(0, 1.005),
            ncols=2,
            frameon=False,
            borderaxespad=0,
            fontsize="small",
        )
    return ax


def _marks(
    ax: Axes, quotes: pd.DataFrame, cnpj: str | None, line: pd.Series[float], jumps: pd.DataFrame
) -> list[Line2D]:
    """Mark a fund's jumps on the line of its net worth, and return their legend entries."""
    told = checked_jumps(jumps)
    fund = normalize_cnpj(cnpj) if cnpj is not None else str(quotes["cnpj"].iloc[0])
    subclasses = set(quotes.loc[quotes["cnpj"] == fund, "subclass"]) if "subclass" in quotes else {""}
    own = told[(told["cnpj"] == fund) & told["subclass"].isin(subclasses)]
    lines = dict.fromkeys(own["series"].unique(), line) if len(line) else {}
    return draw_marks(ax, lines, own, dict.fromkeys(lines, ("", "black")))


def flows_and_holders(
    quotes: pd.DataFrame, ax: Axes | None = None, *, cnpj: str | None = None, names: Names = None
) -> Axes:
    """Draw a fund's inflow and outflow and, on the right axis, its number of holders.

    Parameters
    ----------
    quotes : pandas.DataFrame
        Tidy frame of :meth:`scraperkit.TimeSeriesReader.quotes`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if omitted.
    cnpj : str, optional
        Which fund, if the frame has several.
    names : mapping of str to str, pandas.Series, or iterable of Fund, optional
        A name for each CNPJ; default: those in ``attrs["names"]``. A fund without a name shows its CNPJ.

    Returns
    -------
    matplotlib.axes.Axes
        Bars up for inflow and down for outflow, and the net of both: by day, or by month for more than 70 days; the
        axis says whether in R$ or in thousands, millions or billions. If there are no figures, the chart says so.

    Raises
    ------
    ConfigError
        If the frame has several funds and `cnpj` is omitted, `cnpj` is invalid, or the frame is not tidy.

    Examples
    --------
    >>> from matplotlib import pyplot as plt
    >>> days = pd.date_range("2022-01-03", periods=2, name="date")
    >>> money = {"inflow": [5e3, 0.0], "outflow": [1e3, 2e3], "holders": [10, 11]}
    >>> ax = flows_and_holders(pd.DataFrame({"cnpj": "18993924000100", "date": days} | money))
    >>> ax.get_ylabel(), [float(bar.get_height()) for bar in ax.patches]
    ('R$ thousand a day', [5.0, 0.0, -1.0, -2.0])
    >>> plt.close(ax.figure)
    """
    dated, title = _of_fund(quotes, cnpj, names, ["inflow", "outflow", "holders"])
    ax = new_axes() if ax is None else ax
    if dated.empty:
        return say(ax, "no figures")
    daily = len(dated) <= _MOST_DAYS
    flows, holders = dated[["inflow", "outflow"]], dated["holders"].dropna()
    if not daily:
        flows = flows.resample("MS").sum(min_count=1)
        flows.index += pd.Timedelta(days=15)  # the middle of the month
    most = float(np.nanmax(flows.to_numpy(), initial=0.0))
    size, unit = next(((size, unit) for size, unit in _UNITS if most >= size), _UNITS[-1])
    _bars(ax, flows / size, width=0.8 if daily else 24, line=0.0 if daily else 1.2)
    if not most:
        ax.set_ylim(-1, 1)  # all flows are zero: matplotlib would label hundredths
    right = ax.twinx()
    plain(ax, dated.index)
    unbox(right)
    _side(right, holders, COLOURS[2], "holders, people")
    right.get_lines()[0].set_path_effects(_HALO)
    ax.axhline(0, color=INK, linewidth=0.6)
    if daily:
        ax.set_xlim(dated.index[0] - _AROUND, dated.index[-1] + _AROUND)
    ax.set_ylabel(f"{unit} a {'day' if daily else 'month'}")
    _number_ticks(ax)
    entitle(ax, "Flows and holders", title, pad=28)
    handles = {handle.get_label(): handle for handle in ax.get_legend_handles_labels()[0]}
    net = copy(handles["net"])
    net.set_path_effects([])  # in a legend, the halo would cut the line into dashes
    shown = [handles["inflow"], handles["outflow"], net, right.get_lines()[0]]
    ax.legend(handles=shown, loc="lower left", bbox_to_anchor=(0, 1.005), ncols=4, frameon=False, borderaxespad=0)
    return ax


def _bars(ax: Axes, flows: pd.DataFrame, width: float, line: float) -> None:
    """Draw inflow up, outflow down, and the net between them."""
    inflow, outflow = flows["inflow"], -flows["outflow"]
    ax.bar(flows.index, inflow, width, color=COLOURS[5], label="inflow")
    ax.bar(flows.index, outflow, width, color=COLOURS[4], hatch="///", edgecolor="white", linewidth=0, label="outflow")
    net = (inflow.fillna(0) + outflow.fillna(0)).where(flows.notna().any(axis="columns"))
    marks: dict[str, Any] = {"marker": "D", "markersize": 4, "markeredgecolor": "white", "markeredgewidth": 0.5}
    ax.plot(flows.index, net, color="black", linewidth=line, label="net", path_effects=_HALO if line else None, **marks)


def _of_fund(quotes: pd.DataFrame, cnpj: str | None, names: Names, columns: list[str]) -> tuple[pd.DataFrame, str]:
    """Return one fund's daily figures, without empty days, and the chart's title."""
    check_tidy(quotes, columns)
    if cnpj is not None:
        quotes = quotes[quotes["cnpj"] == normalize_cnpj(cnpj)]
    elif quotes["cnpj"].nunique() > 1:
        raise ConfigError(f"cnpj: the frame has {quotes['cnpj'].nunique()} funds; name the one to draw")
    dated = quotes.set_index("date")[columns].astype("float64").dropna(how="all")
    if dated.empty:
        return dated, ""
    (title,) = fund_labels([str(quotes["cnpj"].iloc[0])], names_of(quotes, names), lines=1, width=90)
    return dated, title


def _side(ax: Axes, values: pd.Series[float], colour: str, label: str) -> None:
    """Draw a line on its own y axis, in the line's colour."""
    ax.plot(values.index, values.to_numpy(), color=colour, linewidth=1.4, label=label, **dot(values))
    ax.set_ylabel(label, color=colour)
    ax.tick_params(axis="y", colors=colour)
    _number_ticks(ax, whole=label.startswith("holders"))


def _number_ticks(ax: Axes, whole: bool = False) -> None:
    ax.yaxis.set_major_locator(MaxNLocator(9, steps=[1, 2, 5, 10], integer=whole, min_n_ticks=1))
    ax.yaxis.set_major_formatter(lambda value, _place: f"{value:,.{decimals(ax)}f}".replace("-", "−"))
