"""Shared by the readers of both services: samples, spans of days, and checked JSON."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from scraperkit.errors import RateRefused
from scraperkit.sources.says import says


class RateSample(NamedTuple):
    """The value of one day."""

    day: dt.date
    value: float


class Span(NamedTuple):
    """Days from the first to the last, both included."""

    first: dt.date
    last: dt.date


def is_web_page(content: bytes, content_type: str) -> bool:
    """Return whether a response is a web page, which both services send in place of JSON when they fail.

    Examples
    --------
    >>> is_web_page(b"<!DOCTYPE html><html>", "application/json"), is_web_page(b"[]", "text/html")
    (True, False)
    """
    return content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<" or ("html" in content_type and not _is_json(content))


def _is_json(content: bytes) -> bool:
    return content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{")


def parsed(content: bytes, what: str, url: str) -> Any:
    """Return parsed JSON.

    Raises
    ------
    RateRefused
        If it is not JSON; quotes it.
    """
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (UnicodeDecodeError, ValueError, RecursionError):
        text = content.decode("utf-8", "replace")
        raise RateRefused(f"{what}: the response is not JSON{says(text)}", url) from None


def in_order(samples: Iterable[RateSample], what: str, url: str) -> list[RateSample]:
    """Return samples by day, each day once.

    Raises
    ------
    RateRefused
        If a day has two values.
    """
    found: dict[dt.date, float] = {}
    for day, value in samples:
        if found.setdefault(day, value) != value:
            raise RateRefused(f"{what}: {day} has two values, {found[day]:.12g} and {value:.12g}", url)
    return [RateSample(day, found[day]) for day in sorted(found)]
