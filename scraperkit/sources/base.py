"""What a source of prices must be able to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from scraperkit.errors import ConfigError
from scraperkit.models import DailyQuote, ScrapeRequest


@runtime_checkable
class Source(Protocol):
    """Anything with ``fetch``; called from many threads at once, so it must be thread-safe.

    A source that has an attribute ``politeness``, a :class:`~scraperkit.sources.politeness.Politeness`, agrees through
    the workers' Redis with all other workers on how fast its site is asked.
    """

    def fetch(self, request: ScrapeRequest) -> Sequence[DailyQuote]:
        """Return the days of the month asked for; an empty list is a month without quotes, and is done.

        Raises
        ------
        scraperkit.errors.SourceError
            If the page cannot be had or is not as known; ``retryable`` says whether later may be better. Any other
            exception also fails the job only, and counts as retryable.
        """
        ...


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
