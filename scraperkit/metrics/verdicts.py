"""Find the days on which a series jumps, and classify each jump by the identity and the next days."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from scraperkit.errors import ConfigError
from scraperkit.metrics.identity import Walk, is_price, money, percent, series_of, signed, walk

MARKET, PAYOUT, PAYOUT_OR_LOSS, SPLIT = "market move", "payout", "payout or write-down", "split"
ERROR, MOVED_FLOW, HIDDEN_FLOW, UNCLEAR = "error", "flow on another day", "unreported flow", "unclear"
JUMP_KINDS = (MARKET, PAYOUT, PAYOUT_OR_LOSS, SPLIT, ERROR, MOVED_FLOW, HIDDEN_FLOW, UNCLEAR)

_UNUSUAL, _EXTREME = 8.0, 20.0  # robust standard deviations: a jump, and more than a market moves
_SOON = 5  # days with a quota within which errors are corrected
_FACTOR = math.log(1.25)  # the smallest split
_VERDICT_COLUMNS = {
    "cnpj": "str", "subclass": "str", "date": "datetime64[ms]", "metric": "str", "size": "float64", "kind": "str",
    "until": "datetime64[ms]", "before": "float64", "after": "float64", "unexplained": "float64", "evidence": "str",
}  # fmt: skip


class _Judged(NamedTuple):
    metric: str
    kind: str
    evidence: str
    last: int  # the last affected day
    settled: int  # the last explained day


def jumps(quotes: pd.DataFrame, smallest: float = 0.005) -> pd.DataFrame:
    """Return the days on which a quota or a net worth jumped, with the kind of jump and the evidence.

    A quota jumps if its return is at least 8 robust standard deviations from the median (1.4826 times the median
    absolute deviation in the year around the day), and at least `smallest`. A net worth jumps if ``net worth(t) - net
    worth(t-1) · quota(t) / quota(t-1) - inflow(t) + outflow(t)`` is a share of `smallest` or more of it; in real
    reports this is within 0.1 % on 99.8 % of days. Both are judged by this identity, and by the next five days:

    ======================== ===========================================================================================
    kind                     what it is
    ======================== ===========================================================================================
    ``market move``          the net worth moved as the quota did, by no more than markets do
    ``payout``               the quota fell, the money is an outflow, and no unit was redeemed: an amortisation or a
                             distribution
    ``payout or write-down`` as a market move, but down by more than 20 robust standard deviations, and it stays: a
                             payout not reported as an outflow, or a loss; only the fund's notices say which
    ``split``                the quota changed by a factor, the money did not, and it stays: units were split or grouped
    ``error``                the quota or the net worth was back after at most five days, a quota was 0 or below, or a
                             flow never reached the net worth
    ``flow on another day``  the net worth shows a flow that is reported on another day
    ``unreported flow``      the net worth changed permanently without a return or a flow, as in a merger of funds
    ``unclear``              a deciding figure is missing: net worth, flows, or the days after
    ======================== ===========================================================================================

    Nothing is corrected. :func:`total_return` uses the verdicts, and reports its adjustments.

    Parameters
    ----------
    quotes : pandas.DataFrame
        Tidy frame of :meth:`scraperkit.TimeSeriesReader.quotes`.
    smallest : float
        A fraction: smaller moves and shares are not jumps.

    Returns
    -------
    pandas.DataFrame
        A row for each jump, sorted by series and day; index 0, 1, 2, ... Columns:

        - ``cnpj``, ``subclass`` (str), ``date`` (datetime64[ms]): the series, and the day of the jump;
        - ``metric`` (str): ``quota`` or ``net_worth``, the figure that jumped;
        - ``size`` (float64, fraction): the return of the quota, or the unexplained share of the net worth;
        - ``kind`` (str): see above;
        - ``until`` (datetime64[ms]): the last day of an error, else `date`;
        - ``before``, ``after`` (float64, R$): the figure on the day before, and on `date`;
        - ``unexplained`` (float64, R$): the part of the net worth of `date` that quota and flows do not explain; NaN
          where a figure is missing;
        - ``evidence`` (str): one sentence with the numbers.

    Raises
    ------
    ConfigError
        If the frame is not tidy, has a day of a series twice, or `smallest` is not a fraction.

    Examples
    --------
    >>> days = pd.bdate_range("2022-03-07", periods=5, name="date")
    >>> quotes = pd.DataFrame({"cnpj": "18993924000100", "date": days, "inflow": 0.0, "outflow": 0.0})
    >>> quotes["quota"] = [10.0, 10.01, 100.2, 10.03, 10.04]  # a decimal point in the wrong place
    >>> quotes["net_worth"] = [1e6, 1.001e6, 1.002e6, 1.003e6, 1.004e6]
    >>> jumps(quotes)[["date", "metric", "kind"]]
            date metric   kind
    0 2022-03-09  quota  error
    >>> print(jumps(quotes)["evidence"][0])
    quota +901.00 % (usual: ±1.00 %), net worth +0.10 %; back at 10.03 on 2022-03-10
    """
    if isinstance(smallest, bool) or not isinstance(smallest, int | float) or not 0 < smallest < 1:
        raise ConfigError(f"smallest: {smallest!r} is invalid; give a fraction, such as 0.005 for 0.5 %")
    rows = [row for own in series_of(quotes) for row in _of_series(own, smallest)]
    found = pd.DataFrame(rows, columns=list(_VERDICT_COLUMNS)).astype(_VERDICT_COLUMNS)
    return found.sort_values(["cnpj", "subclass", "date"], kind="stable", ignore_index=True)


def _of_series(rows: pd.DataFrame, smallest: float) -> Iterator[tuple[object, ...]]:
    own = walk(rows)
    yield from _unpriced(rows, own)
    settled = 0
    for place in _candidates(own, smallest):
        if place <= settled:
            continue
        verdict = _judge(own, place, smallest)
        if verdict is None:
            continue
        settled = verdict.settled
        is_quota = verdict.metric == "quota"
        figures = own.quota if is_quota else own.net_worth
        yield (
            own.cnpj, own.subclass, own.days[place], verdict.metric,
            math.expm1(own.move[place]) if is_quota else own.off[place],
            verdict.kind, own.days[verdict.last], figures[place - 1], figures[place], own.gap[place], verdict.evidence,
        )  # fmt: skip


def _unpriced(rows: pd.DataFrame, own: Walk) -> Iterator[tuple[object, ...]]:
    quota = rows["quota"].to_numpy(dtype=np.float64, na_value=np.nan)
    for place in np.flatnonzero(~np.isnan(quota) & ~is_price(quota)):
        day = rows["date"].to_numpy(dtype="datetime64[D]")[place]
        earlier = own.quota[own.days < day]
        before = float(earlier[-1]) if len(earlier) else math.nan
        evidence = f"a quota of {quota[place]:g} is not a price"
        size = quota[place] / before - 1
        yield (
            own.cnpj, own.subclass, day, "quota", size, ERROR, day, before, quota[place], math.nan, evidence,
        )  # fmt: skip


def _candidates(own: Walk, smallest: float) -> list[int]:
    away = np.abs(own.move - own.usual)
    jumped = (away >= np.maximum(_UNUSUAL * own.scale, smallest)) | (np.abs(own.off) >= smallest)
    return [int(place) for place in np.flatnonzero(jumped) if place > 0]


def _judge(own: Walk, place: int, smallest: float) -> _Judged | None:
    """Classify a day's jump; ``None`` if unknown flows may explain it."""
    away = abs(own.move[place] - own.usual[place])
    if away < max(_UNUSUAL * own.scale[place], smallest):
        return _of_net_worth(own, place) if own.broken(place) else None
    back = _back(own, place)
    # Markets fall and recover too: if the net worth did the same, only an impossible move is an error.
    beyond = own.surprise(place) > _EXTREME and abs(own.move[place]) > _FACTOR
    if back and (own.broken(place) or beyond):
        told = f"{_moves(own, place)}; back at {own.quota[back]:,.8g} on {own.days[back]}"
        return _Judged("quota", ERROR, told, back - 1, back)
    if own.holds(place):
        return _together(own, place)
    if own.broken(place):
        return _payout(own, place) or _split(own, place) or _unclear(own, place)
    return _unclear(own, place)


def _back(own: Walk, place: int) -> int:
    """Return the day on which the quota jumps back to its old level; 0 if it does not within `_SOON` days."""
    jump = own.move[place]
    for later in range(place + 1, min(place + 1 + _SOON, len(own.days))):
        way = own.move[place : later + 1].sum() - own.usual[place] * (later - place + 1)
        near = max(4 * own.scale[later] * math.sqrt(later - place + 1), 0.05 * min(abs(jump), 1.0))
        # In one jump: over several days, a small move may reverse by chance.
        if abs(way) <= min(near, abs(jump) / 2) and own.move[later] / jump < -0.5:
            return later
    return 0


def _together(own: Walk, place: int) -> _Judged:
    """Classify a return that the net worth shared."""
    told = f"{_moves(own, place)}, as quota and flows explain"
    if own.move[place] > 0 or own.surprise(place) <= _EXTREME:
        return _Judged("quota", MARKET, told, place, place)
    lost = -math.expm1(own.move[place] - own.usual[place]) * own.net_worth[place - 1]
    for later in range(place + 1, min(place + 1 + _SOON, len(own.days))):
        paid = own.gap[later]
        if own.broken(later) and abs(paid - lost) <= 0.02 * lost and paid <= own.outflow[later] * 1.001:
            told += f"; {money(own.outflow[later])} is reported as an outflow on {own.days[later]}"
            return _Judged("quota", PAYOUT, told, place, later)
    usual = f"{own.surprise(place):,.0f} robust standard deviations"
    seen = "no matching outflow is reported" if own.whole[place] else "flows of that day are missing"
    return _Judged("quota", PAYOUT_OR_LOSS, f"{told}; {seen}; {usual}", place, place)


def _payout(own: Walk, place: int) -> _Judged | None:
    """Return a payout if an outflow was reported for which no unit was redeemed."""
    if own.net_worth[place - 1] <= 0:
        return None
    paid, share = own.gap[place], own.gap[place] / own.net_worth[place - 1]
    kept = math.expm1(own.move[place]) + share
    usual = abs(kept - math.expm1(own.usual[place])) <= max(_UNUSUAL * own.scale[place], 0.002)
    # Otherwise the return is likelier without a payout, and the outflow is the error.
    fell = math.expm1(own.move[place] - own.usual[place]) < -share / 2
    if not 0 < paid <= own.outflow[place] * 1.001 or not usual or not fell:
        return None
    told = f"{_moves(own, place)}; of the outflow of {money(own.outflow[place])}, {money(paid)} redeemed no units"
    return _Judged("quota", PAYOUT, f"{told}: {signed(share)[1:]} of the net worth was paid out", place, place)


def _split(own: Walk, place: int) -> _Judged | None:
    """Return a split if the quota changed by a factor while the money stayed."""
    if own.net_worth[place - 1] <= 0 or abs(own.move[place]) < _FACTOR:
        return None
    stayed = (own.net_worth[place] - own.flows[place]) / own.net_worth[place - 1] - 1
    if abs(stayed) > max(_UNUSUAL * own.scale[place], 0.02):
        return None
    factor = math.exp(own.move[place] - math.log1p(stayed))
    units = f"one unit became {1 / factor:,.6g}" if factor < 1 else f"{factor:,.6g} units became one"
    told = f"{_moves(own, place)}, {signed(stayed)} without flows: as if {units}"
    if place in (1, len(own.days) - 1):
        why = "one more day on either side would distinguish a split from an error"
        return _Judged("quota", UNCLEAR, f"{told}; {why}", place, place)
    return _Judged("quota", SPLIT, f"{told}; it stays", place, place)


def _unclear(own: Walk, place: int) -> _Judged:
    if np.isnan(own.gap[place]):
        why = "the net worth of the day or of the day before is missing"
    elif not own.whole[place]:
        why = "flows since the day before are missing"
    else:
        why = f"quota and flows do not explain {money(own.gap[place])} of the net worth"
    return _Judged("quota", UNCLEAR, f"{_moves(own, place)}; {why}", place, place)


def _of_net_worth(own: Walk, place: int) -> _Judged:
    """Classify a net worth that quota and flows do not explain, on a day of a usual return."""
    gap = float(own.gap[place])
    told = f"quota {percent(own.move[place])}, but quota and flows do not explain {money(gap)} of the net worth"
    for later in range(place + 1, min(place + 1 + _SOON, len(own.days))):
        if own.closes(place - 1, later):
            flow = own.flows[place] if abs(own.flows[place] + gap) < abs(own.flows[later] - gap) else own.flows[later]
            if abs(abs(flow) - abs(gap)) <= 0.02 * abs(gap):
                told += f"; the flow of {money(flow)} explains it by {own.days[later]}"
                return _Judged("net_worth", MOVED_FLOW, told, place, later)
            told += f"; back at {money(own.net_worth[later])} on {own.days[later]}"
            return _Judged("net_worth", ERROR, told, later - 1, later)
    if payout := _payout(own, place):
        return payout
    if abs(gap + own.flows[place]) <= 0.02 * abs(gap):
        told += f"; the flow of {money(own.flows[place])} never reached the net worth"
        return _Judged("net_worth", ERROR, told, place, place)
    return _Judged("net_worth", HIDDEN_FLOW, f"{told}, nor do the next days", place, place)


def _moves(own: Walk, place: int) -> str:
    quota = f"quota {percent(own.move[place])} (usual: ±{own.scale[place] * 100:,.2f} %)"
    before, after = own.net_worth[place - 1], own.net_worth[place]
    return f"{quota}, net worth {signed(after / before - 1)}" if before > 0 and not np.isnan(after) else quota
