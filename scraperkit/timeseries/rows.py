"""Read what is stored as plain rows, without pandas: for the frames of the reader, and for the pricer."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import redis as redis_py
from redis.exceptions import ResponseError

from scraperkit.cnpj import format_cnpj
from scraperkit.errors import StoreError, UnknownFund, way_out_of
from scraperkit.keys import Keys
from scraperkit.lua.state import MonthRecord
from scraperkit.models import METRICS
from scraperkit.timeseries.commands import ANY_FUND, DAY_MS, Command, day_number, for_funds, pack
from scraperkit.timeseries.link import Link, Request, bare_replies, batched, keys_of

FUNDS_PER_PIPELINE = 500
_FIELDS = ("totalSamples", "firstTimestamp", "lastTimestamp", "retentionTime")
# These lines of the reply to TS.INFO, of thirty; as objects the others would take most of the time.
_INFO = re.compile(rb".*?".join(rb"\+%b\r\n:([0-9]+)\r\n" % field.encode() for field in _FIELDS), re.DOTALL)
StoredSample = tuple[int, float]


@dataclass(frozen=True, slots=True)
class StoredFund:
    """What is stored of one fund.

    Attributes
    ----------
    cnpj : str
    card : mapping
        The fund card: name, pk, status, started_on, ended_on; empty if there is none.
    days : int
        Quotas stored.
    first, last : datetime.date or None
        The days of the oldest and the newest quota.
    keeps : int
        How many milliseconds before the newest quota Redis forgets one; 0 for never, as the kit makes its series.
    """

    cnpj: str
    card: Mapping[str, str]
    days: int = 0
    first: dt.date | None = None
    last: dt.date | None = None
    keeps: int = 0

    @property
    def started_on(self) -> dt.date | None:
        """The first day of the fund, as the site tells it."""
        text = self.card.get("started_on")
        return dt.date.fromisoformat(text) if text else None

    @property
    def ended_on(self) -> dt.date | None:
        """The last day of a fund that ended: of its last month, the newest quota stored, or else the month's end."""
        text = self.card.get("ended_on")
        if not text:
            return None
        end = dt.date.fromisoformat(text)
        return self.last if self.last and (self.last.year, self.last.month) == (end.year, end.month) else end


def forgetful(keys: Keys, funds: Sequence[StoredFund]) -> str:
    """Return a sentence about series that forget their past, as another program or the server's policy made them."""
    found = [fund for fund in funds if fund.keeps]
    if not found:
        return ""
    series, days = keys.series(found[0].cnpj, "quota"), found[0].keeps / DAY_MS
    return (
        f"{len(found)} series forget their past, as {series}, which keeps {days:.3g} days: a worker that stores a "
        f"month of the fund corrects that, or you do by `TS.ALTER {series} RETENTION 0`; fetch again what is gone"
    )


class Change(NamedTuple):
    """A figure that was restated or withdrawn: its new value is NaN then. `changed_at` is in seconds since 1970."""

    cnpj: str
    day: dt.date
    metric: str
    old: float
    new: float
    source: str
    changed_at: float


class RowReader:
    """Reads rows: times in milliseconds and values as Redis keeps them.

    Every method raises ``RedisUnreachable`` if Redis goes away, and ``StoreError`` if it refuses.

    Parameters
    ----------
    redis : redis.Redis
        A client made by :func:`scraperkit.connect`; only its connections are used.
    namespace : str, optional
        The start of every key; ``Settings.namespace`` if left out.
    advice : str
        What to do if nothing is stored for a fund, as the error's second half.
    """

    def __init__(self, redis: redis_py.Redis, namespace: str | None = None, *, advice: str) -> None:
        self.keys = keys_of(namespace)
        self.link = Link(redis)
        self._advice = advice

    def stored(self, cnpjs: Sequence[str] = (), metrics: Sequence[str] = METRICS) -> set[str]:
        """Return the CNPJs, of these or of all, that have a series."""
        # A list of metrics would cost the server three times as much, and their series end with them.
        names = self.link.send("TS.QUERYINDEX", *self._filters(cnpjs, ()))
        start, ends = self.keys.series("", "").partition("}")[0], tuple(f"}}:{metric}" for metric in metrics)
        funds = {name.partition("}")[0] for name in names if name.endswith(ends)}
        return {fund.removeprefix(start) for fund in funds if fund.startswith(start)}

    def fetched(self, cnpjs: Iterable[str]) -> set[str]:
        """Return those of these CNPJs of which a month was fetched, even if it had no figures."""
        found = set()
        for some in batched(cnpjs, FUNDS_PER_PIPELINE):
            replies = self._replies([("EXISTS", self.keys.months(cnpj)) for cnpj in some])
            found |= {cnpj for cnpj, is_there in zip(some, replies, strict=True) if is_there}
        return found

    def funds(self, cnpjs: Iterable[str]) -> list[StoredFund]:
        """Return what is stored of each of these funds."""
        found: list[StoredFund] = []
        each = list(batched(cnpjs, FUNDS_PER_PIPELINE))

        def asked(*command: str) -> Iterator[Request]:
            return (Request(b"".join(for_funds(pack(command), some)), len(some)) for some in each)

        cards = self.link.stream(asked("HGETALL", self.keys.fund(ANY_FUND)))
        infos = self.link.stream(asked("TS.INFO", self.keys.series(ANY_FUND, "quota")), _parse_infos)
        for replies in zip(each, cards, infos, strict=True):
            found += map(_stored_fund, *replies)
        return found

    def months(self, cnpjs: Iterable[str]) -> Iterator[tuple[str, str, MonthRecord]]:
        """Yield what is known of each month that was fetched, with its CNPJ and the month as ``YYYY-MM``."""
        for some in batched(cnpjs, FUNDS_PER_PIPELINE):
            replies = self._replies([("HGETALL", self.keys.months(cnpj)) for cnpj in some])
            for cnpj, records in zip(some, replies, strict=True):
                yield from ((cnpj, month, MonthRecord.read(text)) for month, text in sorted(records.items()))

    def changes(self, cnpjs: Iterable[str]) -> Iterator[Change]:
        """Yield what was restated or withdrawn, fund by fund, the oldest change first."""
        for some in batched(cnpjs, FUNDS_PER_PIPELINE):
            replies = self._replies([("XRANGE", self.keys.changes(cnpj), "-", "+") for cnpj in some])
            for cnpj, entries in zip(some, replies, strict=True):
                for entry_id, fields in entries:
                    changed_at = int(entry_id.partition("-")[0]) / 1000
                    for timestamp, series, old, *new in sorted(json.loads(fields["changes"])):
                        metric = series.rpartition(":")[2]
                        value = float(new[0]) if new else math.nan
                        yield Change(cnpj, day_of(timestamp), metric, float(old), value, fields["source"], changed_at)

    def _replies(self, commands: Sequence[Command]) -> list[Any]:
        replies = self.link.pipeline(commands)
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, Exception):
                raise StoreError(f"Redis refused {command[0]} {command[1]}: {reply}{way_out_of(reply)}") from reply
        return replies

    def newest(self, cnpjs: Sequence[str]) -> dict[str, dict[str, StoredSample]]:
        """Return the newest sample of each metric, by CNPJ; a fund that is not stored is left out."""
        reply = self.link.send("TS.MGET", "FILTER", *self._filters(cnpjs))
        found = {}
        for cnpj in cnpjs:
            series = {metric: reply.get(self.keys.series(cnpj, metric)) for metric in METRICS}
            if any(series.values()):
                found[cnpj] = {metric: tuple(entry[1]) for metric, entry in series.items() if entry and entry[1]}
        return found

    def ranges(self, cnpjs: Sequence[str], metrics: Sequence[str], first: int, last: int) -> list[list[Any]]:
        """Return for each fund the samples of each metric from `first` to `last`; ``None`` where there is no series."""
        reply = self.link.send("TS.MRANGE", first, last, "FILTER", *self._filters(cnpjs, metrics))
        found = [[reply.pop(self.keys.series(cnpj, metric), None) for metric in metrics] for cnpj in cnpjs]
        return [[entry[-1] if entry else None for entry in entries] for entries in found]

    def samples(self, cnpj: str, metric: str, first: int, last: int, most: int) -> list[StoredSample]:
        """Return at most `most` samples of one series from `first` on, oldest first.

        Raises
        ------
        UnknownFund
            If nothing is known of the fund.
        """
        return self._one_series(cnpj, "TS.RANGE", self.keys.series(cnpj, metric), first, last, "COUNT", most)

    def newest_until(self, cnpj: str, metric: str, day: dt.date) -> StoredSample | None:
        """Return the newest sample of a series that is not after a day; ``None`` if there is none.

        Raises
        ------
        UnknownFund
            If nothing is known of the fund.
        """
        until = day_number(day) * DAY_MS
        series = self.keys.series(cnpj, metric)
        found = self._one_series(cnpj, "TS.REVRANGE", series, 0, max(until, 0), "COUNT", 1)
        return found[0] if found and until >= 0 else None

    def _one_series(self, cnpj: str, command: str, series: str, *words: str | int) -> list[StoredSample]:
        is_there, is_known, found = self.link.pipeline(
            [("EXISTS", series), ("EXISTS", self.keys.fund(cnpj)), (command, series, *words)]
        )
        if not is_there:
            if not is_known:
                self.refuse([cnpj])
            return []
        if isinstance(found, ResponseError):
            raise StoreError(f"Redis refused {command} {series}: {found}") from found
        return [(int(timestamp), float(value)) for timestamp, value in found]

    def refuse(self, cnpjs: Sequence[str]) -> None:
        """Raise ``UnknownFund`` for these funds, if there are any."""
        if cnpjs:
            formatted = ", ".join(format_cnpj(cnpj) for cnpj in cnpjs)
            raise UnknownFund(f"nothing is stored for {formatted}: {self._advice}")

    def _filters(self, cnpjs: Sequence[str], metrics: Sequence[str] = METRICS) -> list[str]:
        wanted = {"metric": metrics, "cnpj": cnpjs}
        lists = [f"{label}=({','.join(values)})" for label, values in wanted.items() if values]
        return [f"kit={self.keys.namespace}", *lists]


def _parse_infos(reply: bytearray, count: int) -> list[Any]:
    """Return number, first and last timestamp of some series; other replies than the usual ones as they are."""
    found = _INFO.findall(reply)
    return found if len(found) == count else bare_replies(reply, count)


def _stored_fund(cnpj: str, card: Any, info: Any) -> StoredFund:
    # A key deleted meanwhile, or of another type, is an error here: nothing is known of it.
    known = {} if isinstance(card, Exception) else card
    if not isinstance(info, tuple):
        info = [0 if isinstance(info, Exception) else info.get(field, 0) for field in _FIELDS]
    days, first, last, keeps = map(int, info)
    # An empty series reports 0 for both ends, which is also 1970-01-01.
    oldest, newest = (day_of(first), day_of(last)) if days else (None, None)
    return StoredFund(cnpj, known, days, oldest, newest, keeps)


@lru_cache(maxsize=10_000)
def day_of(timestamp: int) -> dt.date:
    """Return the day of a sample.

    Examples
    --------
    >>> day_of(1641168000000)
    datetime.date(2022, 1, 3)
    """
    return dt.date(1970, 1, 1) + dt.timedelta(days=int(timestamp) // DAY_MS)
