"""Which days are requested: after any calls, none is forgotten, and no final one is requested twice."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraperkit.calendar import business_days
from scraperkit.sources.rates.known import KNOWN_RATES
from scraperkit.sources.rates.responses import Span
from scraperkit.sources.rates.windows import (
    REVISED_DAYS,
    REVISED_MONTHS,
    Looked,
    merged,
    missing,
    newest_possible,
    possible,
)

NOW = dt.datetime(2022, 6, 15, 20)
OPEN = [stamp.date() for stamp in business_days("2022-01-03", "2022-06-30")]
days = st.dates(dt.date(2022, 3, 1), NOW.date())
names = st.sampled_from(sorted(name for name, rate in KNOWN_RATES.items() if not rate.monthly))


def span(first: str, last: str) -> Span:
    return Span(dt.date.fromisoformat(first), dt.date.fromisoformat(last))


def told(spans: list[Span]) -> list[str]:
    return [f"{first} {last}" for first, last in spans]


@pytest.mark.parametrize(
    ("today", "name", "newest"),
    [
        ("2022-03-01", "cdi", "2022-02-25"),  # Carnival Tuesday
        ("2022-03-02", "dollar", "2022-03-02"),
        ("2022-03-06", "ibovespa", "2022-03-04"),
        ("2022-03-01", "ipca", "2022-02-01"),
        ("2022-03-31", "igpm", "2022-03-01"),
        ("2022-01-01", "ipca", "2021-12-01"),
    ],
)
def test_newest_possible_is_the_newest_day_that_can_have_a_value(today, name, newest):
    assert newest_possible(KNOWN_RATES[name], dt.date.fromisoformat(today)).isoformat() == newest


def test_a_month_belongs_to_a_window_that_begins_within_it():
    wanted = possible(KNOWN_RATES["ipca"], span("2022-01-20", "2022-03-10"), NOW.date())
    assert told([wanted]) == ["2022-01-01 2022-03-01"]


@pytest.mark.parametrize(
    ("wanted", "asked_for"),
    [
        (("2022-01-03", "2022-03-31"), []),
        (("2022-02-01", "2022-02-10"), []),
        (("2021-12-01", "2022-02-10"), ["2021-12-01 2022-01-02"]),
        (("2021-12-01", "2021-12-10"), ["2021-12-01 2022-01-02"]),
        (("2022-03-01", "2022-04-29"), ["2022-04-01 2022-04-29"]),
        (("2022-05-02", "2022-05-31"), ["2022-04-01 2022-05-31"]),
        (("2021-12-01", "2022-04-29"), ["2021-12-01 2022-01-02", "2022-04-01 2022-04-29"]),
        (("2022-02-10", "2022-02-01"), []),
    ],
)
def test_days_requested_long_afterwards_are_final(wanted, asked_for):
    asked = Looked(dt.date(2022, 1, 3), dt.date(2022, 3, 31), NOW - dt.timedelta(days=30))
    assert told(missing(KNOWN_RATES["cdi"], asked, span(*wanted), dt.date(2022, 3, 31), NOW)) == asked_for


@given(names, st.lists(st.tuples(days, days, st.integers(0, 10_000)), min_size=1, max_size=6))
def test_after_any_calls_each_wanted_day_was_requested_since_it_could_change(name, calls):
    """An oracle with a clock for each day: when was it last requested?"""
    rate = KNOWN_RATES[name]
    asked_at: dict[dt.date, dt.datetime] = {}
    asked, now = None, NOW - dt.timedelta(minutes=sum(minutes for _, _, minutes in calls))
    for one, other, minutes in calls:
        now += dt.timedelta(minutes=minutes)
        wanted = possible(rate, Span(min(one, other), max(one, other)), now.date())
        for first, last in missing(rate, asked, wanted, max(asked_at, default=None), now):
            assert first <= last
            asked = merged(asked, Span(first, last), now)
            asked_at |= {day: now for day in OPEN if first <= day <= last}
        newest = dt.datetime.combine(newest_possible(rate, now.date()), dt.time())
        for place, day in enumerate(OPEN):
            if wanted.first <= day <= wanted.last:
                # Requested after the fifth business day after it began, or since the newest business day began.
                assert asked_at[day] >= min(newest, dt.datetime.combine(OPEN[place + REVISED_DAYS], dt.time())), day
        assert missing(rate, asked, wanted, max(asked_at, default=None), now) == []


def test_the_newest_two_months_of_a_monthly_rate_are_requested_again():
    asked = Looked(dt.date(2021, 1, 1), dt.date(2022, 4, 1), dt.datetime(2022, 5, 20, 12))
    wanted = possible(KNOWN_RATES["ipca"], span("2021-01-01", "2022-06-15"), NOW.date())
    assert told(missing(KNOWN_RATES["ipca"], asked, wanted, dt.date(2022, 4, 1), NOW)) == ["2022-03-01 2022-05-01"]
    assert REVISED_MONTHS == 2
