"""Remember for the next call which fund a name meant, and which months were not available."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cachetools import TTLCache

from scraperkit.errors import FundNotFound
from scraperkit.keys import Keys
from scraperkit.models import Month
from scraperkit.research.due import LastAsked
from scraperkit.timeseries.link import batched
from scraperkit.timeseries.rows import RowReader

_NAMES_KEPT = 7 * 86_400  # a fund may be renamed, and another take its name
_REMEMBERED_AT_ONCE = 500
_NOT_FOUND_SECONDS = 600  # the site may list a new fund at any time
# By source and name or CNPJ; in this process only, so that one user's typing error affects nobody else.
_not_found: TTLCache[tuple[str, str], tuple[str, dt.datetime]] = TTLCache(
    1_000, _NOT_FOUND_SECONDS, timer=lambda: time.time()
)


class Memory:
    """Reads and writes what earlier calls found out, for one source."""

    def __init__(self, redis: Any, keys: Keys) -> None:
        self._redis = redis
        self.keys = keys
        self._rows = RowReader(redis, keys.namespace, advice="")

    def series_of(self, names: Sequence[str]) -> dict[str, str]:
        """Return the series that these names were resolved to in the last seven days."""
        if not names:
            return {}
        found = self._redis.hmget(self.keys.names, [_folded(name) for name in names])
        return {name: series for name, series in zip(names, found, strict=True) if series}

    def note_names(self, found: Mapping[str, str]) -> None:
        """Remember the series that names were resolved to."""
        if found:
            self._redis.hset(self.keys.names, mapping={_folded(name): series for name, series in found.items()})
            self._redis.expire(self.keys.names, _NAMES_KEPT)

    def refuse_not_found(self, text: str) -> None:
        """Raise the error of the source again if it did not know this fund in the last ten minutes.

        Raises
        ------
        FundNotFound
            Says when the source will be asked again.
        """
        told, when = _not_found.get((self.keys.names, _folded(text)), ("", None))
        if when is not None:
            again = when + dt.timedelta(seconds=_NOT_FOUND_SECONDS)
            raise FundNotFound(f"{told} (asked at {when:%H:%M:%S}; will be asked again from {again:%H:%M:%S})")

    def note_not_found(self, text: str, told: str) -> None:
        """Remember that the source does not know a fund, and its error."""
        _not_found[self.keys.names, _folded(text)] = told, dt.datetime.fromtimestamp(time.time()).astimezone()

    def asked(self, cnpjs: Iterable[str], of_any: bool) -> dict[tuple[str, Month], LastAsked]:
        """Return when each month of these funds was last requested, from any source or from this one."""
        wanted = list(cnpjs)
        found: dict[tuple[str, Month], LastAsked] = {}
        for some in batched(wanted, _REMEMBERED_AT_ONCE):
            with self._redis.pipeline(transaction=False) as pipeline:
                for cnpj in some:
                    pipeline.hgetall(self.keys.not_offered(cnpj))
                for cnpj, moments in zip(some, pipeline.execute(), strict=True):
                    found |= {
                        (cnpj, Month.parse_iso(month)): LastAsked(float(moment), found=False)
                        for field, moment in moments.items()
                        for source, month in [field.split(" ")]
                        if of_any or source == self.keys.source
                    }
        for cnpj, month, record in self._rows.months(wanted):
            if not (of_any or record.source == self.keys.source):
                continue
            found[cnpj, Month.parse_iso(month)] = LastAsked(record.fetched_at, found=True)
        return found

    def note_not_offered(self, months: Iterable[tuple[str, Month]]) -> None:
        """Remember months of funds that the source does not have."""
        now = f"{time.time():.0f}"
        for some in batched(months, _REMEMBERED_AT_ONCE):
            with self._redis.pipeline(transaction=False) as pipeline:
                for cnpj, month in some:
                    pipeline.hset(self.keys.not_offered(cnpj), f"{self.keys.source} {month.iso}", now)
                pipeline.execute()


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())
