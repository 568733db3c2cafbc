"""The identity of one series: net worth is that of the day before, grown with the quota, plus net inflow."""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from scraperkit.calendar import business_days
from scraperkit.errors import ConfigError
from scraperkit.metrics.inputs import check_tidy

Floats: TypeAlias = "npt.NDArray[np.float64]"
_WALKED = ("quota", "net_worth", "inflow", "outflow")
_TOLERANCE = 0.001  # of the net worth: real reports stay within it on 99.8 % of days
_WINDOW, _FEW = 253, 8
# The smallest usual move, and the usual move assumed if too few days are known.
_LEAST_SCALE, _UNKNOWN_SCALE = 0.0002, 0.01


class Walk(NamedTuple):
    """A series over the days on which it has a quota; each array has one value for each of these days.

    Attributes
    ----------
    cnpj, subclass : str
        The series.
    days : array of datetime64
        Sorted.
    quota, net_worth : array of float64
        In R$; the net worth is NaN where it is blank.
    flows, outflow : array of float64
        Inflow less outflow since the day before, and outflow, in R$; blanks count as 0.
    whole : array of bool
        Whether the flows of every business day since the day before are known.
    move, usual, scale : array of float64
        Logarithmic return since the day before, the median return, and the robust standard deviation.
    gap, off : array of float64
        The part of the net worth that quota and flows do not explain, in R$ and as a share.
    """

    cnpj: str
    subclass: str
    days: npt.NDArray[np.datetime64]
    quota: Floats
    net_worth: Floats
    flows: Floats
    outflow: Floats
    whole: npt.NDArray[np.bool_]
    move: Floats
    usual: Floats
    scale: Floats
    gap: Floats
    off: Floats

    def surprise(self, place: int) -> float:
        """Return the distance of a day's return from the median, in robust standard deviations."""
        return float(abs(self.move[place] - self.usual[place]) / self.scale[place])

    def holds(self, place: int) -> bool:
        """Return whether quota and flows explain the net worth of a day."""
        return bool(abs(self.off[place]) <= _TOLERANCE)

    def broken(self, place: int) -> bool:
        """Return whether quota and flows, all known, do not explain the net worth of a day."""
        return bool(abs(self.off[place]) > _TOLERANCE and self.whole[place])

    def closes(self, before: int, after: int) -> bool:
        """Return whether the identity holds from one day to a later one, ignoring the days between."""
        flows = float(self.flows[before + 1 : after + 1].sum())
        grown = self.net_worth[before] * self.quota[after] / self.quota[before]
        most = max(abs(grown), abs(self.net_worth[after]))
        return bool(abs(self.net_worth[after] - grown - flows) <= 2 * _TOLERANCE * most)


def series_of(quotes: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the rows of each series of a tidy frame, in order, with a column ``subclass``.

    Raises
    ------
    ConfigError
        If the frame is not tidy, or has a day of a series twice.
    """
    check_tidy(quotes, _WALKED)
    own = quotes if "subclass" in quotes else quotes.assign(subclass="")
    own = own[["cnpj", "subclass", "date", *_WALKED]].sort_values(["cnpj", "subclass", "date"], kind="stable")
    twice = own.duplicated(["cnpj", "subclass", "date"])
    if twice.any():
        cnpj, subclass, date = own.loc[twice, ["cnpj", "subclass", "date"]].iloc[0]
        raise ConfigError(f"quotes: {date:%Y-%m-%d} of {named(cnpj, subclass)} appears twice; keep one")
    return [rows for _, rows in own.groupby(["cnpj", "subclass"], sort=False)]


def named(cnpj: str, subclass: str) -> str:
    """Return the name of a series, as in the columns of a wide frame."""
    return f"{cnpj}:{subclass}" if subclass else cnpj


def is_price(quota: Floats) -> npt.NDArray[np.bool_]:
    """Return which quotas are prices."""
    return np.isfinite(quota) & (quota > 0)


def walk(rows: pd.DataFrame) -> Walk:
    """Return the walk of one series from its rows."""
    figures = rows[list(_WALKED)].to_numpy(dtype=np.float64, na_value=np.nan)
    days = rows["date"].to_numpy(dtype="datetime64[D]")
    priced = np.flatnonzero(is_price(figures[:, 0]))
    begin = np.concatenate([[0], priced[:-1] + 1]) if len(priced) else priced
    inflow, outflow = (_sums(np.nan_to_num(figures[:, place]), begin, priced) for place in (2, 3))
    known = ~np.isnan(figures[:, 2:]).any(axis=1)
    steps = _business_steps(days[priced])
    whole = (_sums(known.astype("float64"), begin, priced) >= steps) & (steps > 0)
    quota, net_worth = figures[priced, 0], figures[priced, 1]
    move = np.concatenate([[np.nan], np.diff(np.log(quota))])[: len(priced)]
    usual, scale = _usual(move)
    scale = scale * np.sqrt(np.maximum(steps, 1))
    gap, off = _unexplained(quota, net_worth, inflow - outflow)
    first = rows.iloc[0]
    return Walk(
        str(first["cnpj"]), str(first["subclass"]), days[priced], quota, net_worth, inflow - outflow, outflow, whole,
        move, usual, scale, gap, off,
    )  # fmt: skip


def _sums(values: Floats, begin: npt.NDArray[np.intp], end: npt.NDArray[np.intp]) -> Floats:
    """Return the sum of the values from each begin to its end, both included."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    sums: Floats = total[end + 1] - total[begin]
    # Cumulative sums of large amounts leave rounding errors where nothing flowed.
    return np.where(np.abs(sums) < 1e-9 * total[-1], 0.0, sums)


def _business_steps(days: npt.NDArray[np.datetime64]) -> Floats:
    """Return how many business days each day is after the one before; 0 for the first."""
    if not len(days):
        return np.empty(0)
    every = business_days(pd.Timestamp(days[0]), pd.Timestamp(days[-1])).to_numpy(dtype="datetime64[D]")
    steps = np.diff(np.searchsorted(every, days, side="right"), prepend=0).astype("float64")
    steps[0] = 0.0
    return steps


def _usual(move: Floats) -> tuple[Floats, Floats]:
    """Return the median return around each day, and the robust standard deviation; single days hardly affect them."""
    # A quota repeated for days does not mean low volatility.
    moving = pd.Series(np.where(move == 0, np.nan, move))
    around = moving.rolling(_WINDOW, center=True, min_periods=1)
    usual = around.median().fillna(0.0)
    distance = 1.4826 * (moving - usual).abs().rolling(_WINDOW, center=True, min_periods=1).median()
    few = around.count().to_numpy() < _FEW
    scale = np.where(few, _UNKNOWN_SCALE, np.fmax(distance.to_numpy(), _LEAST_SCALE))
    return np.where(few, 0.0, usual.to_numpy()), scale


def _unexplained(quota: Floats, net_worth: Floats, flows: Floats) -> tuple[Floats, Floats]:
    gap = np.full(len(quota), np.nan)
    if len(quota) > 1:
        gap[1:] = net_worth[1:] - net_worth[:-1] * (quota[1:] / quota[:-1]) - flows[1:]
    most = np.fmax(np.abs(net_worth), np.abs(net_worth - gap - flows))
    return gap, np.divide(gap, most, out=np.full(len(quota), np.nan), where=most > 0)


def percent(move: float) -> str:
    """Format a logarithmic return in per cent."""
    return signed(math.expm1(move))


def signed(share: float) -> str:
    """Format a share in per cent, with its sign."""
    return f"{share * 100:+,.2f} %".replace("-", "−")


def money(amount: float) -> str:
    """Format an amount in R$."""
    return f"R$ {amount:,.2f}".replace("-", "−")
