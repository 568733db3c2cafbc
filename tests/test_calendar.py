"""The ANBIMA calendar against facts written by hand."""

from __future__ import annotations

import datetime as dt

import pandas as pd
import pytest

from scraperkit.calendar import business_days, is_business_day
from scraperkit.errors import ConfigError

# Every weekday on which the market was closed, from ANBIMA's published table.
CLOSED = {
    2021: "01-01 02-15 02-16 04-02 04-21 06-03 09-07 10-12 11-02 11-15",
    2022: "02-28 03-01 04-15 04-21 06-16 09-07 10-12 11-02 11-15",
    2023: "02-20 02-21 04-07 04-21 05-01 06-08 09-07 10-12 11-02 11-15 12-25",
    2024: "01-01 02-12 02-13 03-29 05-01 05-30 11-15 11-20 12-25",
}


@pytest.mark.parametrize(("year", "count"), [(2021, 251), (2022, 251), (2023, 249), (2024, 253)])
def test_a_year_is_its_weekdays_except_closed_days(year: int, count: int) -> None:
    closed = {dt.date.fromisoformat(f"{year}-{day}") for day in CLOSED[year].split()}
    every = [dt.date(year, 1, 1) + dt.timedelta(days=n) for n in range(366)]
    expected = [day for day in every if day.year == year and day.weekday() < 5 and day not in closed]

    days = business_days(f"{year}-01-01", f"{year}-12-31")

    assert [stamp.date() for stamp in days] == expected
    assert len(days) == count
    assert [day for day in every if day.year == year and is_business_day(day)] == expected


@pytest.mark.parametrize("day", ["2022-02-28", "2022-03-01", "2022-06-16", "2022-04-15", "2022-12-24", "2022-12-25"])
def test_a_holiday_or_weekend_is_closed(day: str) -> None:
    assert not is_business_day(day)
    assert business_days(day, day).empty


@pytest.mark.parametrize("day", ["2022-03-02", "2022-12-26", "2022-12-30", "2023-11-20", "2021-06-04"])
def test_a_business_day_is_open(day: str) -> None:
    assert is_business_day(day)
    assert len(business_days(day, day)) == 1


def test_the_index_is_naive_ascending_and_in_milliseconds() -> None:
    days = business_days("2021-12-29", dt.date(2022, 1, 4))
    expected = pd.DatetimeIndex(
        ["2021-12-29", "2021-12-30", "2021-12-31", "2022-01-03", "2022-01-04"], dtype="datetime64[ms]", name="date"
    )
    pd.testing.assert_index_equal(days, expected, exact=True)


def test_an_end_before_the_start_returns_an_empty_index_of_the_same_type() -> None:
    for start, end in [("2022-01-10", "2022-01-03"), ("2023-01-10", "2022-01-03")]:
        days = business_days(start, end)
        assert (len(days), str(days.dtype), days.name) == (0, "datetime64[ms]", "date")


def test_a_time_of_day_is_ignored() -> None:
    assert len(business_days("2022-01-03 18:00", dt.datetime(2022, 1, 4, 1))) == 2
    assert is_business_day(dt.datetime(2022, 1, 4, 23, 59))


@pytest.mark.parametrize("value", ["", "soon", "2022-13-01", "99999-01-01", "2022-01-03T00:00Z", None, 20220103])
def test_an_invalid_day_is_refused_by_name(value: object) -> None:
    with pytest.raises(ConfigError, match=r"end: .* is not a day"):
        business_days("2022-01-03", value)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="date: "):
        is_business_day(value)  # type: ignore[arg-type]
