"""Plan what a call fetches, and from which source."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import redis as redis_py

from scraperkit.errors import ConfigError
from scraperkit.keys import DEFAULT_SOURCE, Keys
from scraperkit.models import DailyQuote, Month, ScrapeRequest
from scraperkit.research.due import is_due
from scraperkit.research.memory import Memory
from scraperkit.research.wanted import WantedFund
from scraperkit.sources.base import BuiltIn, Source, check_source, name_of, stream_of

FILES = "open_data"
MOST_PAGES = 24  # they take about as long as one file


@dataclass(frozen=True, slots=True)
class Plan:
    """The funds and months to fetch from one source.

    Attributes
    ----------
    source : str or Source
    memory : Memory
        The memory of that source.
    wanted : list of WantedFund
        In the order requested; a name resolved earlier has its series.
    due : dict
        By CNPJ, the months to request; a fund without any is omitted.
    is_free : bool
        Whether the caller named no source, so that results of any source count.
    """

    source: str | Source
    memory: Memory
    wanted: list[WantedFund]
    due: dict[str, list[Month]]
    is_free: bool

    @property
    def keys(self) -> Keys:
        """The keys of the namespace, for this source."""
        return self.memory.keys

    @property
    def unknown(self) -> list[str]:
        """The names that are not resolved yet."""
        return [each.label for each in self.wanted if not each.series]

    @property
    def size(self) -> int:
        """The maximal number of months of funds to fetch."""
        return sum(map(len, self.due.values())) + sum(len(each.months) for each in self.wanted if not each.series)


def make_plan(
    redis: redis_py.Redis,
    keys: Keys,
    wanted: Sequence[WantedFund],
    source: str | Source | None = None,
    is_free: bool | None = None,
) -> Plan:
    """Return what to fetch; without a `source`, few months come from pages, and more from files.

    With `is_free`, which is implied if no source is given, figures of any source count.

    Raises
    ------
    ConfigError
        If `source` is not a source.
    """

    def plan(source: str | Source, is_free: bool = False) -> Plan:
        memory = Memory(redis, keys.of(source if isinstance(source, str) else stream_of(source)))
        return renewed(Plan(source, memory, list(wanted), {}, is_free))

    if source is not None:
        return plan(_checked(source), is_free=bool(is_free))
    if any(":" in each.series for each in wanted):
        return plan(FILES, is_free=True)  # the pages have no subclasses
    by_page = plan(DEFAULT_SOURCE, is_free=True)
    return by_page if by_page.size <= MOST_PAGES else plan(FILES, is_free=True)


def renewed(plan: Plan) -> Plan:
    """Return a plan updated with what has been found since."""
    memory = plan.memory
    means = memory.series_of(plan.unknown)
    known = [replace(each, series=each.series or means.get(each.label, "")) for each in plan.wanted]
    may_ask: dict[str, dict[Month, None]] = {}
    for each in known:
        if each.series:
            may_ask.setdefault(each.cnpj, {}).update(dict.fromkeys(each.months))
    asked, now, by_file = memory.asked(may_ask, of_any=plan.is_free), time.time(), memory.keys.source == FILES
    due = {
        cnpj: [month for month in months if is_due(month, asked.get((cnpj, month)), now, by_file=by_file)]
        for cnpj, months in may_ask.items()
    }
    return replace(plan, wanted=known, due={cnpj: months for cnpj, months in due.items() if months})


def _checked(source: str | Source) -> str | Source:
    if not isinstance(source, str):
        check_source(source)
        return source if getattr(source, "name", None) is not None else NamedSource(source)
    if source not in get_args(BuiltIn):
        raise ConfigError(f"source: unknown source {source[:40]!r}; choose one of {', '.join(get_args(BuiltIn))}")
    return source


class NamedSource:
    """A source under the name of its class, if it has none: its requests go to no other source."""

    def __init__(self, source: Source) -> None:
        self.name = name_of(source)
        self._source = source

    def fetch(self, request: ScrapeRequest) -> Sequence[DailyQuote]:
        """Call the source."""
        return self._source.fetch(request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)
