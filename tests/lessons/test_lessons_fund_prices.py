"""The exercises on fund prices: the right answers pass, and each wrong one gets a hint that fits."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from scraperkit import lessons, metrics
from scraperkit.calendar import business_days
from scraperkit.lessons import fund_prices
from scraperkit.lessons.fund_prices import LOANS, PATCHY, STOCKS
from scraperkit.replica.sample import load_sample
from scraperkit.timeseries.reader import TimeSeriesReader
from scraperkit.timeseries.store import SeriesStore

FELL = pd.DatetimeIndex(["2022-06-15", "2023-06-15"])


@pytest.fixture
def lesson(redis_url):
    """A lesson whose prices are stored directly, without scraping."""
    lesson = lessons.begin("04_fund_prices", redis_url=redis_url)
    sample = load_sample()
    months = [f"{month:02d}/{year}" for year in (2022, 2023) for month in range(1, 13)]
    quotes = [quote for cnpj in (STOCKS, PATCHY, LOANS) for month in months for quote in sample.month(cnpj, month)]
    SeriesStore(lesson.redis).write(quotes)
    yield lesson
    lesson.close()


@pytest.fixture
def prices(lesson) -> pd.DataFrame:
    return TimeSeriesReader(lesson.redis).prices([STOCKS, PATCHY, LOANS], start="2022-01", end="2023-12")


def test_hints_for_the_worst_month(lesson, prices):
    months = metrics.monthly_returns(prices)[STOCKS]
    for answer in (months.idxmin(), "2022-05", pd.Timestamp("2022-05-31")):
        assert fund_prices.check_1(lesson, answer) is None
    assert "the best month" in fund_prices.check_1(lesson, months.idxmax())
    assert fund_prices.check_1(lesson, "2023-07") == "2023-07 returned -11.0%; another month was worse."
    assert "no prices of 2024-01" in fund_prices.check_1(lesson, "2024-01")
    assert "the answer is a month" in fund_prices.check_1(lesson, months.min())


def index_of(daily: pd.Series) -> pd.Series:
    return (1 + daily.fillna(0.0)).cumprod()


def test_an_index_without_the_amortisations_is_right(lesson, prices):
    daily = metrics.returns(prices)[LOANS]
    right = index_of(daily.where(daily > -0.05, 0.0))
    assert fund_prices.check_2(lesson, right) is None
    assert fund_prices.check_2(lesson, right.to_frame()) is None
    assert fund_prices.check_2(lesson, 1000 * right) is None


@pytest.mark.parametrize(
    ("spoil", "hint"),
    [
        (lambda daily: index_of(daily), "on 15 June 2022 it still falls by 38%"),
        (lambda daily: index_of(daily.where(daily.index != FELL[0], 0.0)), "on 15 June 2023 it still falls by 10%"),
        (lambda daily: index_of(daily * 0), "the returns of other days changed too"),
        (lambda daily: index_of(daily.where(~daily.index.isin(FELL), 0.5)), "it now jumps"),
        (lambda daily: (1 + daily.where(daily.index != daily.index[9])).cumprod(), "2 of its days are NaN"),
        (lambda daily: index_of(daily.drop(FELL)), "it should have the 500 days of the fund's prices; it has 498"),
        (lambda daily: daily.tolist(), "this is a list"),
    ],
)
def test_a_wrong_index_gets_a_hint(lesson, prices, spoil, hint):
    assert hint in fund_prices.check_2(lesson, spoil(metrics.returns(prices)[LOANS]))


def test_hints_for_the_missing_days(lesson, prices):
    own = prices[PATCHY].dropna().index
    right = business_days("2022-01-01", "2023-12-31").difference(own)
    assert fund_prices.check_3(lesson, right) is None
    assert fund_prices.check_3(lesson, [day.date() for day in right]) is None
    assert fund_prices.check_3(lesson, prices.loc[right, PATCHY].index) is None
    assert "1 of the missing days is not in your answer" in fund_prices.check_3(lesson, right[1:])
    assert "6 of the missing days are not in your answer" in fund_prices.check_3(lesson, [])
    assert "28 February 2022 is a weekend, a holiday" in fund_prices.check_3(lesson, [*right, "2022-02-28"])
    assert "there is a price on 03 January 2022" in fund_prices.check_3(lesson, own)
    assert "the answer holds days" in fund_prices.check_3(lesson, math.pi)


def test_hints_before_prices_are_stored(redis_url):
    empty = lessons.begin("04_fund_prices", redis_url=redis_url)
    try:
        days = pd.Series(1.0, index=FELL)
        for check, answer in ((1, "2022-05"), (2, days), (3, FELL)):
            assert "run the cells above" in empty.check(check, answer).text
    finally:
        empty.close()
