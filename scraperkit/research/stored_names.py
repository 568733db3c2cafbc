"""Resolve names among stored funds, without asking a source."""

from __future__ import annotations

from collections.abc import Callable

import redis as redis_py

from scraperkit.cnpj import folded_name, has_words, is_shown_as
from scraperkit.errors import UnknownFund
from scraperkit.keys import Keys
from scraperkit.research.updating import named_before
from scraperkit.research.wanted import read_wanted
from scraperkit.sources.base import not_one_fund
from scraperkit.timeseries.frames import Funds
from scraperkit.timeseries.reader import TimeSeriesReader

_MOST_LISTED = 5


def stored_series(redis: redis_py.Redis, reader: TimeSeriesReader, funds: Funds, namespace: str) -> list[str]:
    """Return the series of funds, without duplicates, in order; look up names among stored funds.

    Parameters
    ----------
    redis : redis.Redis
    reader : TimeSeriesReader
        A reader of that namespace.
    funds : str, Fund, or several
        As for :func:`scraperkit.prices`. A name is matched with recent look-ups, then with full names, short names as
        tables show them, and words of a name.
    namespace : str

    Raises
    ------
    ConfigError
        If an item is neither text nor a fund, or is an invalid CNPJ.
    UnknownFund
        If no stored fund has such a name, or several have.
    """
    wanted = named_before(redis, Keys(namespace), read_wanted(funds))
    names: dict[str, str] = {}
    if any(not each.series for each in wanted):
        names = {str(series): str(name) for series, name in reader.funds()["name"].items() if name}
    return list(dict.fromkeys(each.series or _the_one(each.label, names) for each in wanted))


def _the_one(text: str, names: dict[str, str]) -> str:
    fits: tuple[Callable[[str, str], bool], ...] = (
        lambda _, name: folded_name(name) == folded_name(text),
        lambda series, name: is_shown_as(name, text, series),
        lambda _, name: has_words(name, text),
    )
    for fit in fits:
        found = [series for series, name in names.items() if fit(series, name)]
        # A subclass may have the name of its class.
        chosen = [series for series in found if ":" not in series] or found
        if len(chosen) == 1:
            return chosen[0]
        if chosen:
            raise UnknownFund(not_one_fund(text, [(each, names[each]) for each in chosen[:_MOST_LISTED]], len(chosen)))
    raise UnknownFund(
        f"no stored fund is named {text[:60]!r}; collect it with sk.prices or `scraperkit publish`, or give its CNPJ"
    )
