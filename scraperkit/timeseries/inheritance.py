"""Join the history of a class to the subclass that it became."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import pandas as pd

from scraperkit.models import METRICS

# A class became a subclass only if its last quote is at most this much older than the subclass.
_LONGEST_GAP = pd.Timedelta(days=7)


def with_history(
    frame: pd.DataFrame, classes: pd.DataFrame, began: Mapping[str, dt.date], last: pd.Timestamp
) -> pd.DataFrame:
    """Return a wide frame in which each subclass begins with the earlier figures of its class.

    Parameters
    ----------
    frame : pandas.DataFrame
        A column for each series.
    classes : pandas.DataFrame
        The same for the classes, including days after the window; a class without figures may be missing.
    began : mapping
        The first day of each subclass.
    last : pandas.Timestamp
        The end of the window.

    Returns
    -------
    pandas.DataFrame
        Its ``attrs["inherited"]`` holds, for each joined series, the last day taken from its class, as YYYY-MM-DD.

    Examples
    --------
    >>> days = pd.to_datetime(["2024-01-04", "2024-01-05", "2024-01-08"])
    >>> own = pd.DataFrame({"18993924000100:A1": [2.2]}, index=days[2:])
    >>> classes = pd.DataFrame({"18993924000100": [2.0, 2.1]}, index=days[:2])
    >>> joined = with_history(own, classes, {"18993924000100:A1": dt.date(2024, 1, 8)}, days[2])
    >>> joined["18993924000100:A1"].tolist(), joined.attrs
    ([2.0, 2.1, 2.2], {'inherited': {'18993924000100:A1': '2024-01-05'}})
    """
    older, inherited = {}, {}
    for name in frame.columns:
        cnpj, _, subclass = name.partition(":")
        if not subclass or name not in began or cnpj not in classes:
            continue
        first = pd.Timestamp(began[name])
        before = classes[cnpj].dropna().loc[: first - pd.Timedelta(days=1)]
        if before.size and first - before.index[-1] <= _LONGEST_GAP and (before := before.loc[:last]).size:
            older[name], inherited[name] = before, f"{before.index[-1]:%Y-%m-%d}"
    joined = frame
    if older:
        days = frame.index.union(pd.concat(older, axis="columns").index).rename(frame.index.name)
        joined = frame.reindex(days)
        for name, before in older.items():
            joined[name] = before.reindex(days).fillna(joined[name])
    joined.attrs = {**frame.attrs, "inherited": inherited}
    return joined


def rows_with_history(
    rows: pd.DataFrame, classes: pd.DataFrame, began: Mapping[str, dt.date], last: pd.Timestamp
) -> pd.DataFrame:
    """Return a tidy frame in which each subclass begins with the earlier rows of its class, marked `inherited`.

    `classes` are the rows of the classes; for the other parameters see :func:`with_history`.
    """
    rows = rows.assign(inherited=False)
    older, inherited = [], {}
    for name, start in began.items():
        cnpj, _, subclass = name.partition(":")
        first = pd.Timestamp(start)
        before = classes[(classes["cnpj"] == cnpj) & (classes["date"] < first)]
        if not subclass or before.empty or first - before["date"].max() > _LONGEST_GAP:
            continue
        before = before[before["date"] <= last]
        if len(before):
            older.append(before.assign(subclass=subclass, inherited=True))
            inherited[name] = f"{before['date'].max():%Y-%m-%d}"
    joined = rows
    if older:
        joined = pd.concat([rows, *older]).sort_values(["cnpj", "subclass", "date"], ignore_index=True)
        joined = joined.astype({metric: rows[metric].dtype for metric in METRICS})
    joined.attrs = {**rows.attrs, "inherited": inherited}
    return joined
