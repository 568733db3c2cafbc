"""The total return of a quota with payouts reinvested."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from scraperkit.errors import ConfigError, warn
from scraperkit.metrics import verdicts
from scraperkit.metrics.identity import Floats, Walk, named, series_of, walk

_KEYS = ["cnpj", "subclass", "date", "metric", "kind", "until"]
_ADJUSTED = (verdicts.PAYOUT, verdicts.SPLIT, verdicts.ERROR)
_OPEN_VERDICTS = (verdicts.PAYOUT_OR_LOSS, verdicts.UNCLEAR)
_DAYS_SAID = 5


def total_return(quotes: pd.DataFrame, jumps: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return a total return index of each series, as if payouts had been reinvested.

    It begins with the first quota and grows each day by ``quota(t) / quota(t-1)``, except on the days that `jumps`
    explains:

    - ``payout``: by ``quota(t) / quota(t-1) + P / net worth(t-1)``, where P is the outflow for which no unit was
      redeemed. If none is reported on that day, by the return of a usual day, since P is unknown;
    - ``split``: by ``(net worth(t) - inflow(t) + outflow(t)) / net worth(t-1)``;
    - ``error`` of a quota: the index is NaN from the day to ``until``.

    All other days count as reported, a ``payout or write-down`` as a loss. If you know from the fund's notices that it
    was a payout, change its kind in the frame of :func:`jumps` and pass that frame.

    Parameters
    ----------
    quotes : pandas.DataFrame
        Tidy frame of :meth:`scraperkit.TimeSeriesReader.quotes`.
    jumps : pandas.DataFrame, optional
        From :func:`jumps`, with kinds corrected or rows removed; computed from `quotes` if omitted.

    Returns
    -------
    pandas.DataFrame
        A wide frame, as all other metrics take it: index ``date``, a column for each series (``CNPJ`` or
        ``CNPJ:SUBCLASS``), ``float64`` in R$, NaN where there is no quota. ``attrs["adjusted"]`` has for each series
        the adjusted days, as YYYY-MM-DD, with their kind.

    Raises
    ------
    ConfigError
        If a frame has another shape, or `jumps` names a day that `quotes` does not have.

    Warns
    -----
    ScraperKitWarning
        If `jumps` is omitted and days were adjusted or may need it; names them.

    Examples
    --------
    >>> from scraperkit.metrics import jumps
    >>> days = pd.bdate_range("2022-03-07", periods=4, name="date")
    >>> quotes = pd.DataFrame({"cnpj": "18993924000100", "date": days, "inflow": 0.0})
    >>> quotes["quota"], quotes["net_worth"] = [10.0, 10.0, 9.0, 9.0], [1e6, 1e6, 9e5, 9e5]
    >>> quotes["outflow"] = [0.0, 0.0, 1e5, 0.0]  # paid out: the net worth fell once, by the outflow
    >>> total_return(quotes, jumps(quotes))["18993924000100"].tolist()
    [10.0, 10.0, 10.0, 10.0]
    """
    told = verdicts.jumps(quotes) if jumps is None else _checked(jumps)
    found, adjusted = {}, {}
    for own in map(walk, series_of(quotes)):
        series = named(own.cnpj, own.subclass)
        mine = told[(told["cnpj"] == own.cnpj) & (told["subclass"] == own.subclass) & (told["metric"] == "quota")]
        mine = mine[mine["kind"].isin(_ADJUSTED)]
        found[series] = pd.Series(_index(own, mine), index=pd.DatetimeIndex(own.days).astype("datetime64[ms]"))
        if len(mine):
            adjusted[series] = dict(zip(mine["date"].dt.strftime("%Y-%m-%d"), mine["kind"], strict=True))
    if jumps is None:
        _warn(told)
    frame = pd.DataFrame(found, dtype="float64").sort_index()
    frame = frame.rename_axis(index="date", columns="cnpj")
    frame.attrs["adjusted"] = adjusted
    return frame


def _index(own: Walk, mine: pd.DataFrame) -> Floats:
    """Return the index of one series, over the days on which it has a quota."""
    if not len(own.days):
        return own.quota
    factors = np.concatenate([own.quota[:1], own.quota[1:] / own.quota[:-1]])
    wrong = np.zeros(len(own.days), dtype=bool)
    dates, untils = (mine[column].to_numpy(dtype="datetime64[D]") for column in ("date", "until"))
    for day, until, kind in zip(dates, untils, mine["kind"], strict=True):
        if kind == verdicts.ERROR:
            wrong |= (own.days >= day) & (own.days <= until)
            continue
        place = int(np.searchsorted(own.days, day))
        if place in (0, len(own.days)) or own.days[place] != day:
            raise ConfigError(f"jumps: {named(own.cnpj, own.subclass)} has no return on {day} in quotes")
        factors[place] = factor = _paid(own, place) if kind == verdicts.PAYOUT else _stayed(own, place)
        if not 0 < factor < np.inf:
            raise ConfigError(
                f"jumps: {named(own.cnpj, own.subclass)} on {day} cannot be a {kind}: its net worth is missing or "
                "not positive; remove the row"
            )
    return np.where(wrong, np.nan, np.cumprod(factors))


def _paid(own: Walk, place: int) -> float:
    if own.broken(place) and own.gap[place] > 0:
        return float(own.quota[place] / own.quota[place - 1] + own.gap[place] / own.net_worth[place - 1])
    return float(np.exp(own.usual[place]))


def _stayed(own: Walk, place: int) -> float:
    return float((own.net_worth[place] - own.flows[place]) / own.net_worth[place - 1])


def _checked(jumps: Any) -> pd.DataFrame:
    if not isinstance(jumps, pd.DataFrame) or not set(_KEYS) <= set(jumps):
        raise ConfigError("jumps: give the frame of metrics.jumps(quotes), with corrected kinds where you know better")
    if unknown := sorted({str(kind)[:40] for kind in jumps["kind"]} - set(verdicts.JUMP_KINDS)):
        raise ConfigError(f"jumps: {unknown[0]!r} is not a kind; use one of {', '.join(verdicts.JUMP_KINDS)}")
    return jumps


def _warn(told: pd.DataFrame) -> None:
    parts = []
    for kinds, what in ((_ADJUSTED, "adjusted"), (_OPEN_VERDICTS, "left as reported, though they may be payouts")):
        rows = told[told["kind"].isin(kinds) & (told["metric"] == "quota")]
        if len(rows):
            first = rows.head(_DAYS_SAID)
            names = first["cnpj"].where(first["subclass"] == "", first["cnpj"] + ":" + first["subclass"])
            days = (names + " " + first["date"].dt.strftime("%Y-%m-%d") + " (" + first["kind"] + ")").tolist()
            more = f", {len(rows) - _DAYS_SAID:,} more" if len(rows) > _DAYS_SAID else ""
            parts.append(f"{len(rows):,} {what}: {', '.join(days)}{more}")
    if parts:
        way = "look at metrics.jumps(quotes), correct the kinds where you know better, and pass it as jumps="
        warn(f"quotes: days that jumped; {'; '.join(parts)}; {way}")
