"""What a call has to fetch, and from where."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import redis as redis_py

from scraperkit.keys import DEFAULT_SOURCE, Keys
from scraperkit.models import Month
from scraperkit.research.due import is_due
from scraperkit.research.memory import Memory
from scraperkit.research.wanted import WantedFund
from scraperkit.sources.base import Source, check_source, stream_of

FILES = "open_data"
MOST_PAGES = 24  # they take about as long as one file


@dataclass(frozen=True, slots=True)
class Plan:
    """What a call has to fetch from one source.

    Attributes
    ----------
    source : str or Source
    memory : Memory
        Of that source.
    wanted : list of WantedFund
        In the order asked for; the series of a name is known if it was found out before.
    due : dict
        By CNPJ, the months to ask for; a fund without any is left out.
    is_free : bool
        Whether the caller named no source, so that what any has answered counts.
    """

    source: str | Source
    memory: Memory
    wanted: list[WantedFund]
    due: dict[str, list[Month]]
    is_free: bool

    @property
    def keys(self) -> Keys:
        """The keys of the namespace, as the source sees them."""
        return self.memory.keys

    @property
    def unknown(self) -> list[str]:
        """The names of which nobody knows yet what they mean."""
        return [each.label for each in self.wanted if not each.series]

    @property
    def size(self) -> int:
        """How many months of funds there may be to fetch."""
        return sum(map(len, self.due.values())) + sum(len(each.months) for each in self.wanted if not each.series)


def make_plan(
    redis: redis_py.Redis,
    keys: Keys,
    wanted: Sequence[WantedFund],
    source: str | Source | None = None,
) -> Plan:
    """Return what there is to fetch; without a `source`, from pages if there are few, and else from files.

    Raises
    ------
    ConfigError
        If `source` is not one.
    """

    def plan(source: str | Source, is_free: bool = False) -> Plan:
        memory = Memory(redis, keys.of(source if isinstance(source, str) else stream_of(source)))
        return renewed(Plan(source, memory, list(wanted), {}, is_free))

    if source is not None:
        if not isinstance(source, str):
            check_source(source)
        return plan(source)
    if any(":" in each.series for each in wanted):
        return plan(FILES, is_free=True)  # the pages have no subclasses
    by_page = plan(DEFAULT_SOURCE, is_free=True)
    return by_page if by_page.size <= MOST_PAGES else plan(FILES, is_free=True)


def renewed(plan: Plan) -> Plan:
    """Return a plan anew, with what has been found out meanwhile."""
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
