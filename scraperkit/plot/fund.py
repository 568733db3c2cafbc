"""One fund: what it holds, what comes in and goes out, and how many people hold it."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from scraperkit.cnpj import format_cnpj, normalize_cnpj
from scraperkit.errors import ConfigError
from scraperkit.plot.style import COLOURS, decimals, dot, new_axes, plain, say, unbox


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
    ax = new_axes() if ax is None else ax
    dated = quotes.set_index("date")[["net_worth", "holders"]].astype("float64").dropna(how="all")
    if dated.empty:
        return say(ax, "no figures")
    right = ax.twinx()
    plain(ax, dated.index)
    unbox(right)
    _side(ax, (dated["net_worth"] / 1e6).dropna(), COLOURS[0], "net worth, R$ million")
    _side(right, dated["holders"].dropna(), COLOURS[1], "holders, people")
    ax.set_title(format_cnpj(str(quotes["cnpj"].iloc[0])), loc="left", fontsize="medium")
    return ax


def _side(ax: Axes, values: pd.Series[float], colour: str, label: str) -> None:
    """Draw one line on its own y axis, which takes the colour of the line."""
    ax.plot(values.index, values.to_numpy(), color=colour, linewidth=1.4, label=label, **dot(values))
    ax.set_ylabel(label, color=colour)
    ax.tick_params(axis="y", colors=colour)
    people = label.startswith("holders")
    ax.yaxis.set_major_locator(MaxNLocator(9, steps=[1, 2, 5, 10], integer=people, min_n_ticks=1))
    ax.yaxis.set_major_formatter(lambda value, _place: f"{value:,.{decimals(ax)}f}")
