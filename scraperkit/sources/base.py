"""What a source of prices must be able to do."""

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

    A source may have a ``name``, which is noted with every month that it has brought. Requests with this name as their
    ``source`` are its own: they have a job stream for themselves, ``<namespace>:jobs:<name>``. A source without a name
    does the requests that name none; noted is the name of its class, as ``my_source`` for ``MySource``.

    A source whose ``has_subclasses`` is true reports all subclasses of a fund in a month: what it does not tell of one
    is withdrawn. Of other sources only what they tell is replaced.

    A source that has an attribute ``politeness``, a :class:`~scraperkit.sources.politeness.Politeness`, agrees through
    the workers' Redis with all other workers on how fast its site is asked. One that has a method
    ``interrupt(threads)`` ends what those threads, given by their identifiers, wait for; a worker calls it when it
    stops and jobs do not end in time.
    """

    def fetch(self, request: ScrapeRequest) -> Sequence[DailyQuote]:
        """Return the days of the month asked for; an empty list is a month without quotes, and is done.

        What it returns replaces all that is stored of the month: raise an error rather than return a part of it.

        Raises
        ------
        scraperkit.errors.SourceError
            If the page cannot be had or is not as known; ``retryable`` says whether later may be better. Any other
            exception also fails the job only, and is tried again, except a mistake in code, such as a ``TypeError`` or
            a ``KeyError``.
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
    """What a search by name finds.

    Attributes
    ----------
    hits : list of Hit
        The nearest first.
    found : int
        How many fit, also those that are not among the hits. If 0, the hits only resemble what was searched for.
    as_of : datetime.date or None
        The day of the copy that was searched; ``None`` if the source itself was asked.
    """

    hits: list[Hit]
    found: int
    as_of: dt.date | None = None


def check_source(source: object) -> None:
    """Refuse what is no source.

    Raises
    ------
    ConfigError
        If it has no ``fetch``, or is a class; says what to give instead.
    """
    if isinstance(source, type):
        raise ConfigError(f"source: {source.__name__} is a class; give an object made of it: {source.__name__}(...)")
    if not callable(getattr(source, "fetch", None)):
        raise ConfigError(f"source: {type(source).__name__} has no fetch(request) method")
    name_of(source)


def name_of(source: object) -> str:
    """Return the name under which a source's months are noted.

    Raises
    ------
    ConfigError
        If it has another name than letters, digits, ``_`` and ``-``.

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
        raise ConfigError(f"source.name: {str(name)[:40]!r} is no name of a source; use letters, digits, _ and - only")
    return name


def stream_of(source: object) -> str:
    """Return the source of the requests that this one does: its ``name``, or the default where it has none."""
    return DEFAULT_SOURCE if getattr(source, "name", None) is None else name_of(source)


def not_one_fund(text: str, nearest: Sequence[tuple[str, str]], found: int) -> str:
    """Return the sentence about a text that is not the name of one fund.

    Parameters
    ----------
    text : str
    nearest : sequence of (series, name)
        The nearest first; an empty series is not known.
    found : int
        How many funds fit.

    Examples
    --------
    >>> not_one_fund("ipê", [("99101012000170", "FUNDO IPÊ AMARELO"), ("", "FUNDO IPÊ ROXO")], 7)
    "'ipê' is not one fund; the nearest are 99.101.012/0001-70 FUNDO IPÊ AMARELO; FUNDO IPÊ ROXO; and 5 more"
    """
    near = [f"{format_series(series)} {name}" if series else name for series, name in nearest]
    more = [f"and {found - len(near):,} more"] if found > len(near) else []
    return f"{text[:60]!r} is not one fund; the nearest are {'; '.join([*near, *more])}"
