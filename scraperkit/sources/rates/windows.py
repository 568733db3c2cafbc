"""Which days of a rate to request, given what was requested before; without I/O."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from typing import NamedTuple

from scraperkit.calendar import business_days
from scraperkit.models import Month
from scraperkit.sources.rates.known import Rate
from scraperkit.sources.rates.responses import Span

# The newest values are requested again, since they may have been revised.
REVISED_DAYS = 5
REVISED_MONTHS = 2
# Today's value may come at any moment; it is requested again only after a while.
PATIENCE = dt.timedelta(minutes=10)
# Gaps between values are requested again once a day; a few hours less, so that a job at the same hour each day finds
# them due.
HOLES_PAUSE = dt.timedelta(hours=20)
_LONGEST_BREAK = dt.timedelta(days=30)  # has more than REVISED_DAYS business days, even with holidays


class HolesLooked(NamedTuple):
    """Days, from the first to the last, that were all requested since a time, including the holes."""

    first: dt.date
    last: dt.date
    since: dt.datetime


class Looked(NamedTuple):
    """What was requested of a rate: every day from the first to the last, and when its newest days were.

    `holes` says which of these days may wait, even without a value.
    """

    first: dt.date
    last: dt.date
    at: dt.datetime
    holes: HolesLooked | None = None


def newest_possible(rate: Rate, today: dt.date) -> dt.date:
    """Return the newest day whose value can have been published.

    Examples
    --------
    >>> from scraperkit.sources.rates.known import KNOWN_RATES
    >>> saturday = dt.date(2022, 1, 15)
    >>> [newest_possible(KNOWN_RATES[name], saturday).isoformat() for name in ("cdi", "ipca", "igpm")]
    ['2022-01-14', '2021-12-01', '2022-01-01']
    """
    return Month.of(today).shift(-rate.lag).first_day if rate.monthly else _open_days(today)[-1]


def possible(rate: Rate, span: Span, today: dt.date) -> Span:
    """Return the part of a span in which a rate may have values; its last day is before its first if there is none.

    A month belongs to a span that begins within it.
    """
    first = span.first.replace(day=1) if rate.monthly else span.first
    last = span.last.replace(day=1) if rate.monthly else span.last
    return Span(max(first, rate.first), min(last, newest_possible(rate, today)))


def missing(rate: Rate, asked: Looked | None, wanted: Span, newest: dt.date | None, now: dt.datetime) -> list[Span]:
    """Return the spans to request.

    The requested days stay one stretch without a gap, so a separate span is requested with all days between.

    Parameters
    ----------
    rate : Rate
    asked : Looked, optional
        What was requested before.
    wanted : Span
        As :func:`possible` returns it.
    newest : datetime.date, optional
        The newest day that is stored.
    now : datetime.datetime
        In São Paulo.

    Examples
    --------
    >>> from scraperkit.sources.rates.known import KNOWN_RATES
    >>> now = dt.datetime(2022, 1, 14, 20)
    >>> asked = Looked(dt.date(2022, 1, 3), dt.date(2022, 1, 14), now)
    >>> missing(KNOWN_RATES["cdi"], asked, Span(dt.date(2022, 1, 3), dt.date(2022, 1, 14)), dt.date(2022, 1, 14), now)
    []
    """
    if wanted.last < wanted.first:
        return []
    if asked is None:
        return [wanted]
    found = []
    if wanted.first < asked.first:
        found.append(Span(wanted.first, asked.first - dt.timedelta(days=1)))
    settled = _settled(rate, asked)
    if wanted.last > settled and (wanted.last > asked.last or _is_due(rate, asked, newest, now)):
        found.append(Span(_next(rate, settled), max(wanted.last, asked.last)))
    return found


def merged(asked: Looked | None, span: Span, now: dt.datetime) -> Looked:
    """Return what was requested, including one more span."""
    if asked is None:
        return Looked(*span, now, HolesLooked(*span, now))
    looked = now if span.last >= asked.last else asked.at
    first, last = min(asked.first, span.first), max(asked.last, span.last)
    return Looked(first, last, looked, _holes_merged(asked.holes, span, now))


def _holes_merged(looked: HolesLooked | None, span: Span, now: dt.datetime) -> HolesLooked:
    if looked is None or now - looked.since >= HOLES_PAUSE:
        return HolesLooked(*span, now)
    # One stretch: a hole between the two waits for the rest of the pause, at most.
    return HolesLooked(min(looked.first, span.first), max(looked.last, span.last), looked.since)


def hole(rate: Rate, asked: Looked | None, wanted: Span, have: Collection[dt.date], now: dt.datetime) -> Span | None:
    """Return the days from the first to the last hole of a span, if they are to be requested again now.

    A hole is a business day, or for a monthly rate a month, that has no value although a later one has. The exchange
    has its own holidays, so its levels have no holes.

    Parameters
    ----------
    rate : Rate
    asked : Looked, optional
        What was requested before; other days cannot be holes yet.
    wanted : Span
        As :func:`possible` returns it.
    have : collection of datetime.date
        Its days that are stored.
    now : datetime.datetime
        In São Paulo.

    Examples
    --------
    >>> from scraperkit.sources.rates.known import KNOWN_RATES
    >>> days = [dt.date(2022, 1, day) for day in (3, 4, 6, 7)]
    >>> asked = Looked(days[0], days[-1], dt.datetime(2022, 1, 7, 20))
    >>> hole(KNOWN_RATES["cdi"], asked, Span(days[0], days[-1]), days, dt.datetime(2022, 1, 14))
    Span(first=datetime.date(2022, 1, 5), last=datetime.date(2022, 1, 5))
    """
    if rate.service == "b3" or asked is None or not have:
        return None
    days = _expected(rate, max(wanted.first, asked.first), max(have)) - set(have)
    if not days:
        return None
    found, looked = Span(min(days), max(days)), asked.holes
    if looked is None or now - looked.since >= HOLES_PAUSE:
        return found
    return None if looked.first <= found.first and found.last <= looked.last else found


def _expected(rate: Rate, first: dt.date, last: dt.date) -> set[dt.date]:
    if rate.monthly:
        return {month.first_day for month in Month.of(first).until(Month.of(last))}
    return {stamp.date() for stamp in business_days(first, last)}


def _is_due(rate: Rate, asked: Looked, newest: dt.date | None, now: dt.datetime) -> bool:
    """Return whether something may have been published, or revised, since the newest days were requested."""
    today, looked = now.date(), asked.at.date()
    opened = _open_days(today)[-1]
    if looked > opened:
        return False
    has_newest = newest is not None and newest >= newest_possible(rate, today)
    if rate.monthly and has_newest:
        return Month.of(looked) < Month.of(today)
    if has_newest and not rate.moves_in_session:
        return False
    return now - asked.at >= PATIENCE


def _settled(rate: Rate, asked: Looked) -> dt.date:
    """Return the last day that was requested late enough to be final."""
    day = asked.at.date()
    if rate.monthly:
        return min(asked.last, Month.of(day).shift(-rate.lag - REVISED_MONTHS).first_day)
    return min(asked.last, _open_days(day)[-REVISED_DAYS - 1])


def _next(rate: Rate, day: dt.date) -> dt.date:
    return Month.of(day).shift(1).first_day if rate.monthly else day + dt.timedelta(days=1)


def _open_days(day: dt.date) -> list[dt.date]:
    """Return the newest business days, the last one at most `day`."""
    return [stamp.date() for stamp in business_days(day - _LONGEST_BREAK, day)]
