"""What a source of prices must do."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from scraperkit.cnpj import format_series
from scraperkit.errors import ConfigError
from scraperkit.keys import DEFAULT_SOURCE, SOURCE_NAME
from scraperkit.models import DailyQuote, ScrapeRequest

# The sources that the kit has.
BuiltIn = Literal["cvm_pages", "open_data"]


@runtime_checkable
class Source(Protocol):
    """Anything with ``fetch``; called from many threads at once, so it must be thread-safe.

    A source may have a ``name``, which is recorded with every month that it fetches. Requests with this name as their
    ``source`` have a job stream of their own, ``<namespace>:jobs:<name>``. A source without a name handles the requests
    that name none; its class name is recorded, as ``my_source`` for ``MySource``.

    If ``has_subclasses`` is true, the source reports all subclasses of a fund in a month, and figures that it omits are
    withdrawn. Other sources replace only the figures that they report.

    If it has an attribute ``politeness``, a :class:`~scraperkit.sources.politeness.Politeness`, all workers on a Redis
    share the rate limit of its site. If it has a method ``interrupt(threads)``, a worker that stops calls it to end the
    waits of threads, given by identifier, whose jobs do not end in time.
    """

    def fetch(self, request: ScrapeRequest) -> Sequence[DailyQuote]:
        """Return the days of the requested month; an empty list is a month without quotes, and is done.

        The result replaces everything stored for the month: raise an error rather than return a part of it.

        Raises
        ------
        scraperkit.errors.SourceError
            If the page is unavailable or unexpected; ``retryable`` says whether a retry may help. Any other exception
            also fails only this job, which is retried, unless it is a bug such as a ``TypeError`` or a ``KeyError``.
        """
        ...


class Hit(NamedTuple):
    """A fund, class or subclass that a search by name finds; what its source does not show is empty.

    Attributes
    ----------
    series : str
        ``CNPJ``, or ``CNPJ:SUBCLASS``.
    """

    series: str
    name: str
    kind: str = ""
    status: str = ""
    started_on: dt.date | None = None


class Hits(NamedTuple):
    """The result of a search by name.

    Attributes
    ----------
    hits : list of Hit
        Nearest first.
    found : int
        How many match, including those not among the hits. If 0, the hits only resemble the text.
    as_of : datetime.date or None
        The day of the copy that was searched; ``None`` if the source itself was searched.
    """

    hits: list[Hit]
    found: int
    as_of: dt.date | None = None


def check_source(source: object) -> None:
    """Refuse an object that is not a source.

    Raises
    ------
    ConfigError
        If it has no ``fetch``, or is a class; says what to give instead.
    """
    if isinstance(source, type):
        raise ConfigError(f"source: {source.__name__} is a class; give an instance: {source.__name__}(...)")
    if not callable(getattr(source, "fetch", None)):
        raise ConfigError(f"source: {type(source).__name__} has no fetch(request) method")
    name_of(source)


def name_of(source: object) -> str:
    """Return the name under which a source's months are recorded.

    Raises
    ------
    ConfigError
        If the name has other characters than letters, digits, ``_`` and ``-``.

    Examples
    --------
    >>> class MyOwnSource: ...
    >>> name_of(MyOwnSource())
    'my_own_source'
    """
    name = getattr(source, "name", None)
    if name is None:
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(source).__name__.strip("_")).lower()
        name = re.sub(r"[^a-z0-9_]", "_", words)
    if not isinstance(name, str) or not re.fullmatch(SOURCE_NAME, name):
        raise ConfigError(f"source.name: {str(name)[:40]!r} is not a valid name; use only letters, digits, _ and -")
    return name


def stream_of(source: object) -> str:
    """Return the ``source`` of the requests that it handles: its ``name``, or the default if it has none."""
    return DEFAULT_SOURCE if getattr(source, "name", None) is None else name_of(source)


def not_one_fund(text: str, nearest: Sequence[tuple[str, str]], found: int) -> str:
    """Return the message for a text that does not identify one fund.

    Parameters
    ----------
    text : str
    nearest : sequence of (series, name)
        Nearest first, matches before others; a series is empty if unknown.
    found : int
        How many funds match.

    Examples
    --------
    >>> not_one_fund("ipê", [("99101012000170", "FUNDO IPÊ AMARELO"), ("", "FUNDO IPÊ ROXO")], 7)
    "'ipê' matches 7 funds; nearest: 99.101.012/0001-70 FUNDO IPÊ AMARELO; FUNDO IPÊ ROXO; and 5 more"
    """
    near = [f"{format_series(series)} {name}" if series else name for series, name in nearest]
    more = [f"and {found - len(near):,} more"] if found > len(near) else []
    how_many = "no fund" if not found else "1 fund" if found == 1 else f"{found:,} funds"
    are_all = 0 < found <= len(near)
    return f"{text[:60]!r} matches {how_many}{': ' if are_all else '; nearest: '}{'; '.join([*near, *more])}"
