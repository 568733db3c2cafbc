"""What ``07_the_whole_market`` needs: a portal with late reports, a chart of the market, and checks."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scraperkit import metrics
from scraperkit.errors import NotDownloaded, UnknownFund
from scraperkit.lessons.lesson import Lesson
from scraperkit.replica.portal import Portal
from scraperkit.sources.rates import rates

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The exercises' period, and two CNPJs of one fund: the second continues where the first ends.
SINCE, UNTIL = "2022-01-01", "2024-12-31"
BEFORE, AFTER = "99101036000129", "99101037000173"
# Shares of the series that have reported the newest day, the day before, and the one before that.
_REPORTED = (0.1, 0.9, 0.97)
_RESTATED = 0.01
_NAMED = 40
_BETTER, _WORSE = "#0072B2", "#D55E00"
_NOTHING_YET = "the archive has no figures for this yet: run the cells above from the top."


class LateReports:
    """The newest month of a portal as it was two nights ago: wrong figures, and days still missing.

    Parameters
    ----------
    portal : Portal
        The offline site's.
    month : str
        ``YYYY-MM``.

    Attributes
    ----------
    held_back : int
        How many rows are still missing.
    """

    def __init__(self, portal: Portal, month: str) -> None:
        self._portal, self._month = portal, month
        self._final = portal.rows(month)
        portal.restate(month, _RESTATED, seed=7)
        early = portal.rows(month)
        days = sorted({row.date for row in early}, reverse=True)
        reported = dict(zip(days, _REPORTED, strict=False))
        series = sorted({(row.cnpj, row.subclass) for row in early})
        random.Random(month).shuffle(series)
        rank = {each: number / len(series) for number, each in enumerate(series)}
        kept = [row for row in early if rank[row.cnpj, row.subclass] < reported.get(row.date, 1.0)]
        self.held_back = len(early) - len(kept)
        portal.publish(month, kept)

    def arrive(self) -> None:
        """Publish the final version of the month."""
        self._portal.publish(self._month, self._final)


def ranking(total: pd.Series[float], benchmark: float, ended: pd.Series[bool], ax: Axes | None = None) -> Axes:
    """Draw how far each quota of a market has grown, from the worst to the best, beside a benchmark.

    Parameters
    ----------
    total : pandas.Series
        Growth of each series, as a share; 0.1 is 10 %. Names for up to 40 of them in ``attrs["names"]``.
    benchmark : float
        Return of the benchmark, as a share.
    ended : pandas.Series
        Whether a series has ended before the last day; bool, same index as `total`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if left out.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    from scraperkit.plot.style import fund_labels, new_axes, unbox

    ranked = total.dropna().sort_values()
    few = len(ranked) <= _NAMED
    if ax is None:
        ax = new_axes(1.2 + 0.26 * len(ranked) if few else 6)
    above, gone = (ranked > benchmark).to_numpy(), ended.reindex(ranked.index).to_numpy(dtype=bool)
    places = (np.arange(len(ranked)) + 0.5) / max(1, len(ranked)) * 100
    if few:
        _bars(ax, places, ranked, above, gone)
        ax.set_yticks(places, fund_labels([str(series) for series in ranked.index], total.attrs.get("names", {}), 1))
    else:
        for colour, chosen in ((_WORSE, ~above), (_BETTER, above)):
            ax.fill_betweenx(places[chosen], 100 * ranked[chosen], color=colour, linewidth=0)
        ax.set_ylabel("funds, from the worst to the best, %")
        ax.set_xlim(*100 * ranked.quantile([0.005, 0.995]))  # a few absurd quotas would hide all others
    ax.axvline(100 * benchmark, color="black", linestyle="--", linewidth=1.2)
    ax.set_ylim(0, 100)
    ax.set_xlabel("growth of the quota, without payouts, %")
    better = f"{np.count_nonzero(above):,} of {len(ranked):,} quotas grew by more than the CDI, {benchmark:+.1%}"
    ax.set_title(f"{better}; {np.count_nonzero(gone):,} ended early", loc="left", fontsize="medium", pad=26)
    looks: list[Any] = [Line2D([], [], color="black", linestyle="--", linewidth=1.2, label="the CDI")]
    looks += [Patch(color=_BETTER, label="above the CDI"), Patch(color=_WORSE, label="below the CDI")]
    if few and gone.any():
        looks.append(Patch(facecolor=_WORSE, hatch="////", edgecolor="white", label="ended before the last day"))
    ax.legend(handles=looks, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, borderaxespad=0.2)
    ax.grid(visible=True, axis="x", color="#DDDDDD", linewidth=0.7)
    ax.set_axisbelow(True)
    unbox(ax)
    ax.tick_params(axis="y", length=0)
    return ax


def _bars(ax: Axes, places: Any, ranked: pd.Series[float], above: Any, gone: Any) -> None:
    colours = np.where(above, _BETTER, _WORSE).tolist()
    bars = ax.barh(places, 100 * ranked, height=80 / len(ranked), color=colours)
    for bar, is_gone in zip(bars, gone, strict=True):
        if is_gone:
            bar.set(hatch="////", edgecolor="white", linewidth=0)


# --------------------------------------------------------------------------- the exercises


def check_1(lesson: Lesson, answer: Any) -> str | None:
    """Check the prices of a fund that continues under another CNPJ, as one Series."""
    if isinstance(answer, pd.DataFrame) and answer.shape[1] == 1:
        answer = answer.iloc[:, 0]
    if not isinstance(answer, pd.Series):
        return f"the answer is a Series with a price for each day; this is a {type(answer).__name__}."
    try:
        pair = lesson.market.prices([BEFORE, AFTER], SINCE, UNTIL)
    except (NotDownloaded, UnknownFund):
        return _NOTHING_YET
    right = pair[BEFORE].fillna(pair[AFTER]).dropna()
    given = answer.dropna()
    for cnpj, what in ((BEFORE, "first"), (AFTER, "second")):
        if not given.index.isin(pair[cnpj].dropna().index).any():
            return f"the prices of the {what} CNPJ are missing."
    if not given.index.equals(right.index):
        return f"the two have {len(right)} prices together; your Series has {len(given)}."
    return None if np.allclose(given, right) else "some prices are not those of the archive: join, do not add."


def check_2(lesson: Lesson, answer: Any) -> str | None:
    """Check the largest revision, in per cent of the earlier figure."""
    number = _number(answer)
    if number is None:
        return "the answer is a number, in per cent."
    try:
        changes = lesson.market.changes(SINCE, UNTIL)
    except NotDownloaded:
        return _NOTHING_YET
    if changes.empty:
        return _NOTHING_YET
    sizes = 100 * (changes["new"] / changes["old"] - 1)
    largest = sizes.abs().max()
    if math.isclose(abs(number), largest, rel_tol=0.005):
        return None
    if math.isclose(abs(number), largest / 100, rel_tol=0.005):
        return "that is a share; multiply by 100 for per cent."
    if math.isclose(number, sizes.max(), rel_tol=0.005):
        return "that is the largest revision upwards; another figure went down by more."
    return f"the largest of the {len(sizes)} revisions has another size: compare new with old, and ignore the sign."


def check_3(lesson: Lesson, answer: Any) -> str | None:
    """Check which share of the money of the first day was in funds whose quotas then grew by more than the CDI."""
    number = _number(answer)
    if number is None:
        return "the answer is a share between 0 and 1."
    try:
        prices = lesson.market.prices(start=SINCE, end=UNTIL)
        money = lesson.market.prices(start=SINCE, end=UNTIL, metric="net_worth")
    except NotDownloaded:
        return _NOTHING_YET
    total, _ = totals(prices)
    better = total > cash(prices, lesson)

    def share(weights: pd.Series[float]) -> float:
        return float(weights[better].sum() / weights.sum())

    own = money[total.index]
    if math.isclose(number, share(own.iloc[0]), abs_tol=0.0005):
        return None
    if math.isclose(number, share(own.iloc[-1]), abs_tol=0.0005):
        return "that is the money of the last day; take that of the first, before the returns were known."
    if math.isclose(number, better.mean(), abs_tol=0.0005):
        return "that counts each fund once, large or small; weight it by its net worth on the first day."
    if math.isclose(number, 100 * share(own.iloc[0]), abs_tol=0.05):
        return "that is per cent; the answer is a share between 0 and 1."
    return f"sum the net worth of the first day: of the winners, and of all {len(total)} that had a price then."


def totals(prices: pd.DataFrame) -> tuple[pd.Series[float], pd.Series[bool]]:
    """Return the return of each series that has a price on the first day, and whether it has ended.

    Examples
    --------
    >>> days = pd.to_datetime(["2024-01-02", "2024-01-03", "2024-01-04"])
    >>> frame = pd.DataFrame({"on": [1.0, 1.1, 1.2], "ended": [1.0, 0.9, None], "late": [None, 5.0, 6.0]}, index=days)
    >>> total, ended = totals(frame)
    >>> total.round(2).to_dict(), ended.to_dict()
    ({'on': 0.2, 'ended': -0.1}, {'on': False, 'ended': True})
    """
    there = prices.loc[:, prices.iloc[0].notna()]
    total = there.ffill().iloc[-1] / there.iloc[0] - 1
    total.attrs["names"] = prices.attrs.get("names", {})
    return total, there.iloc[-1].isna()


def cash(prices: pd.DataFrame, lesson: Lesson) -> float:
    """Return what the CDI returned from the first to the last day of a frame of prices, as a share."""
    first, last = prices.index[0], prices.index[-1]
    growth = metrics.growth(rates("cdi", first, last, redis=lesson.redis), pd.DatetimeIndex(prices.index))
    return float(growth.iloc[-1] - 1)


def _number(answer: Any) -> float | None:
    try:
        number = float(answer)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
