"""Checks of the exercises of ``04_fund_prices``."""

from __future__ import annotations

import contextlib
from typing import Any

import pandas as pd

from scraperkit import metrics
from scraperkit.calendar import business_days
from scraperkit.errors import UnknownFund
from scraperkit.lessons.lesson import Lesson
from scraperkit.timeseries.reader import TimeSeriesReader

# The funds that the exercises use.
STOCKS, PATCHY, LOANS = "18993924000100", "99101016000158", "99101018000147"
_FIRST, _LAST_SHOWN = "2022-01-01", "2023-12-31"
_BIG_FALL = -0.05


_NOTHING_YET = "no prices are stored yet: run the cells above from the top."


def _prices(lesson: Lesson, cnpj: str) -> pd.Series[float] | None:
    """Return the prices of one of the funds, or ``None`` if there are none."""
    reader = TimeSeriesReader(lesson.redis, namespace=lesson.namespace)
    try:
        return reader.prices(cnpj, start=_FIRST, end=_LAST_SHOWN)[cnpj].dropna()
    except UnknownFund:
        return None


def check_1(lesson: Lesson, answer: Any) -> str | None:
    """Check the month in which the fund of stocks lost most."""
    month: Any = None
    if isinstance(answer, (pd.Period, pd.Timestamp, str)):
        with contextlib.suppress(ValueError):
            month = pd.Period(answer, freq="M")
    if pd.isna(month):
        return "the answer is a month, as in the index of the monthly returns, or as text: '2022-01'."
    own = _prices(lesson, STOCKS)
    if own is None:
        return _NOTHING_YET
    of_month: dict[Any, float] = metrics.monthly_returns(own.to_frame())[STOCKS].to_dict()
    if month not in of_month:
        return f"there are no prices of {month}."
    if month == max(of_month, key=of_month.__getitem__):
        return "that is the best month. Which end of the list do you want?"
    worst = min(of_month, key=of_month.__getitem__)
    return None if month == worst else f"{month} returned {of_month[month]:+.1%}; another month was worse."


def check_2(lesson: Lesson, answer: Any) -> str | None:
    """Check an index of the fund of loans in which the two amortisations do not count as losses."""
    if isinstance(answer, pd.DataFrame) and answer.shape[1] == 1:
        answer = answer.iloc[:, 0]
    if not isinstance(answer, pd.Series):
        return f"the answer is a Series with a value for each day; this is a {type(answer).__name__}."
    own = _prices(lesson, LOANS)
    if own is None:
        return _NOTHING_YET
    if not answer.index.equals(own.index):
        return f"it should have the {len(own)} days of the fund's prices; it has {len(answer)}."
    if answer.isna().any():
        return (
            f"{int(answer.isna().sum())} of its days are NaN. A first day has no return: what has it grown by so far?"
        )
    pair = pd.DataFrame({"price": own, "answer": answer})
    daily = metrics.returns(pair).iloc[1:]
    if (daily["answer"] < _BIG_FALL).any():
        return f"on {daily['answer'].idxmin():%d %B %Y} it still falls by {-daily['answer'].min():.0%}."
    paid_back = daily["price"] < _BIG_FALL
    if (daily["answer"] - daily["price"])[~paid_back].abs().max() > 1e-9:
        return "the two falls are gone, but the returns of other days changed too; leave those as they are."
    far = daily.loc[paid_back, "answer"].abs().max() > -_BIG_FALL
    return "it now jumps on the two days; on a usual day this fund moves by far less than 1 %." if far else None


def check_3(lesson: Lesson, answer: Any) -> str | None:
    """Check the business days on which the patchy fund has no price."""
    try:
        days = pd.DatetimeIndex(list(answer)).normalize().unique()
    except (ValueError, TypeError):
        return "the answer holds days, such as the index of a frame, or a list of dates."
    own = _prices(lesson, PATCHY)
    if own is None:
        return _NOTHING_YET
    business, priced = business_days(_FIRST, _LAST_SHOWN), pd.DatetimeIndex(own.index)
    closed, there = days.difference(business), days.intersection(priced)
    if len(closed):
        return f"{closed[0]:%d %B %Y} is a weekend, a holiday or outside the two years: no price was due."
    if len(there):
        return f"there is a price on {there[0]:%d %B %Y}."
    more = len(business.difference(priced)) - len(days)
    if not more:
        return None
    return f"{more} of the missing days {'is' if more == 1 else 'are'} not in your answer."
