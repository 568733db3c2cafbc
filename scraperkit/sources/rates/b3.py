"""B3's index statistics: addresses and responses, without I/O.

``GetPortfolioDay/<base64 of {"index": "IBOVESPA", "language": "pt-br", "year": "2024"}>`` returns ``results``: an
object for each day of the month, ``day``, with ``rateValue1`` (January) to ``rateValue12``, numbers such as
``"132.833,95"`` or null. A day's value appears before the close, and is not final until then.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
from collections.abc import Iterator
from typing import Any

from scraperkit.errors import RateRefused
from scraperkit.sources.rates.known import Rate
from scraperkit.sources.rates.responses import RateSample, Span, in_order, parsed

_BRAZILIAN = re.compile(r"[0-9]{1,3}(?:\.[0-9]{3})*,[0-9]{1,6}|[0-9]{1,9}(?:,[0-9]{1,6})?")


def pieces(span: Span) -> Iterator[Span]:
    """Yield the whole years that a span touches: one request each.

    Examples
    --------
    >>> [f"{piece.first} {piece.last}" for piece in pieces(Span(dt.date(2023, 5, 2), dt.date(2024, 1, 5)))]
    ['2023-01-01 2023-12-31', '2024-01-01 2024-12-31']
    """
    for year in range(span.first.year, span.last.year + 1):
        yield Span(dt.date(year, 1, 1), dt.date(year, 12, 31))


def address(base: str, rate: Rate, span: Span) -> str:
    """Return the address that asks for the year of a span.

    Examples
    --------
    >>> from scraperkit.sources.rates.known import KNOWN_RATES
    >>> asked = address("https://host/", KNOWN_RATES["ibovespa"], Span(dt.date(2024, 1, 1), dt.date(2024, 12, 31)))
    >>> base64.b64decode(asked.rpartition("/")[2]).decode()
    '{"index":"IBOVESPA","language":"pt-br","year":"2024"}'
    """
    asked = {"index": rate.code, "language": "pt-br", "year": str(span.first.year)}
    word = base64.b64encode(json.dumps(asked, separators=(",", ":")).encode()).decode()
    return f"{base}GetPortfolioDay/{word}"


def read(rate: Rate, span: Span, content: bytes, url: str) -> list[RateSample]:
    """Return the values in a response, by day.

    Raises
    ------
    RateRefused
        If the response is unexpected; names the day, the month and the reason.
    """
    what = f"B3 {rate.code} {span.first.year}"
    response = parsed(content, what, url)
    results = response.get("results") if isinstance(response, dict) else None
    if not isinstance(results, list):
        raise RateRefused(f"{what}: the response has no list of results: {str(response)[:100]!r}", url)
    if not results:
        raise RateRefused(
            f"{what}: the list of results is empty, although a year has a row for each day of the month", url
        )
    return in_order((sample for row in results for sample in _samples(what, span.first.year, row, url)), what, url)


def _samples(what: str, year: int, row: Any, url: str) -> Iterator[RateSample]:
    day = row.get("day") if isinstance(row, dict) else None
    if not isinstance(day, int) or not 1 <= day <= 31:
        raise RateRefused(f"{what}: a result has no valid day: {str(row)[:100]!r}", url)
    for month in range(1, 13):
        if f"rateValue{month}" not in row:
            raise RateRefused(f"{what}: day {day} has no rateValue{month}: {str(row)[:100]!r}", url)
        text = row[f"rateValue{month}"]
        if text is not None:
            yield _sample(what, (year, month, day), text, url)


def _sample(what: str, day: tuple[int, int, int], text: Any, url: str) -> RateSample:
    shown = "{:04d}-{:02d}-{:02d}".format(*day)
    if not isinstance(text, str) or not _BRAZILIAN.fullmatch(text):
        raise RateRefused(f"{what}: {shown} has {str(text)[:40]!r}, which is not a number such as '132.833,95'", url)
    value = float(text.replace(".", "").replace(",", "."))
    if not value:
        raise RateRefused(f"{what}: {shown} has the value 0", url)
    try:
        return RateSample(dt.date(*day), value)
    except ValueError:
        raise RateRefused(f"{what}: {shown} has a value, but is not a day", url) from None
