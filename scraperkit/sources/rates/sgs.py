"""The Banco Central's time series (SGS): addresses and responses, without I/O.

``bcdata.sgs.<number>/dados?formato=json&dataInicial=dd/mm/aaaa&dataFinal=dd/mm/aaaa`` returns a list of
``{"data": "01/10/2025", "valor": "0.055131"}``. Daily series want both dates and at most ten years between them. If a
range has no value, the status is 404 and the text says so.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from scraperkit.errors import RateRefused
from scraperkit.models import brazilian_date
from scraperkit.sources.rates.known import Rate
from scraperkit.sources.rates.responses import RateSample, Span, in_order, parsed
from scraperkit.sources.says import says

YEARS = 10
STATUSES = frozenset({HTTPStatus.OK, HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.NOT_ACCEPTABLE})
_NO_VALUES = re.compile(r"value\(s\) not found", re.IGNORECASE)
_PUBLISHED = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,12})?")


def pieces(span: Span) -> Iterator[Span]:
    """Yield the spans to request, one request each.

    Examples
    --------
    >>> [f"{piece.first} {piece.last}" for piece in pieces(Span(dt.date(2000, 2, 29), dt.date(2015, 1, 5)))]
    ['2000-02-29 2010-02-27', '2010-02-28 2015-01-05']
    """
    first = span.first
    while first <= span.last:
        last = min(span.last, _years_later(first) - dt.timedelta(days=1))
        yield Span(first, last)
        first = last + dt.timedelta(days=1)


def _years_later(day: dt.date) -> dt.date:
    # 28 February stands for the 29th in years without one.
    return day.replace(year=day.year + YEARS, day=min(day.day, 28) if day.month == 2 else day.day)


def address(base: str, rate: Rate, span: Span) -> str:
    """Return the address that asks for a rate.

    Examples
    --------
    >>> from scraperkit.sources.rates.known import KNOWN_RATES
    >>> address("https://host/", KNOWN_RATES["cdi"], Span(dt.date(2022, 1, 3), dt.date(2022, 1, 4)))
    'https://host/bcdata.sgs.12/dados?formato=json&dataInicial=03/01/2022&dataFinal=04/01/2022'
    """
    first, last = (f"{day:%d}/{day:%m}/{day.year:04d}" for day in span)
    return f"{base}bcdata.sgs.{rate.code}/dados?formato=json&dataInicial={first}&dataFinal={last}"


def read(rate: Rate, span: Span, status: int, content: bytes, url: str) -> list[RateSample]:
    """Return the values in a response; none if the service says that the range has none.

    Raises
    ------
    RateRefused
        If the service refuses the request, or its response is unexpected; names the entry and the reason.
    """
    what = f"SGS {rate.code} ({rate.name})"
    if status != HTTPStatus.OK:
        text = content.decode("utf-8", "replace")
        if status == HTTPStatus.NOT_FOUND and _NO_VALUES.search(text):
            return []
        raise RateRefused(f"{what}: {_refusal(status, text)}", url)
    response = parsed(content, what, url)
    if not isinstance(response, list):
        raise RateRefused(f"{what}: the response is not a list of values{_detail(response)}", url)
    if not response:
        raise RateRefused(
            f"{what}: the response is an empty list, but the service returns HTTP 404 where it has no values", url
        )
    return in_order((_sample(what, place, entry, span, url) for place, entry in enumerate(response, 1)), what, url)


def _refusal(status: int, text: str) -> str:
    try:
        detail = _detail(json.loads(text))
    except (ValueError, RecursionError):
        detail = says(text)
    match status:
        case HTTPStatus.NOT_ACCEPTABLE:
            return f"the service refuses the dates (HTTP 406); it requires both, and at most {YEARS} years{detail}"
        case HTTPStatus.NOT_FOUND:
            return f"HTTP 404 that does not say that the range has no values; check SCRAPERKIT_SGS_URL{detail}"
    return f"the service refuses the request (HTTP {status}){detail}"


def _detail(response: Any) -> str:
    """Return what a response says in place of values, as the end of a sentence."""
    if isinstance(response, dict):
        inner = response.get("erro", response.get("error", response))
        response = inner.get("detail", inner) if isinstance(inner, dict) else inner
    return f"; it says {str(response)[:160]!r}"


def _sample(what: str, place: int, entry: Any, span: Span, url: str) -> RateSample:
    fields = entry if isinstance(entry, dict) else {}
    day, value = _day(fields.get("data")), _value(fields.get("valor"))
    if day is None or value is None:
        raise RateRefused(f"{what}: value {place} is malformed: {str(entry)[:100]!r}", url)
    if not span.first <= day <= span.last:
        raise RateRefused(f"{what}: value {place} is for {day}, outside {span.first} to {span.last}", url)
    return RateSample(day, value)


def _day(text: Any) -> dt.date | None:
    try:
        return brazilian_date(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _value(text: Any) -> float | None:
    value = float(text) if isinstance(text, str) and _PUBLISHED.fullmatch(text) else math.nan
    return value if math.isfinite(value) else None
