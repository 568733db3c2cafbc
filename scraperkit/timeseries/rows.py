"""Read stored figures as plain rows, without pandas, for the reader's frames and the pricer."""

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

from scraperkit.cnpj import format_series
from scraperkit.errors import StoreError, UnknownFund, way_out_of
from scraperkit.keys import Keys, series_in
from scraperkit.lua.state import MonthRecord
from scraperkit.models import ACTIVE, METRICS
from scraperkit.timeseries.commands import ANY_FUND, DAY_MS, EPOCH, Command, day_number, for_funds, for_series, pack
from scraperkit.timeseries.link import Link, Request, bare_replies, batched, keys_of

FUNDS_PER_PIPELINE = 500
_FIELDS = ("totalSamples", "firstTimestamp", "lastTimestamp", "retentionTime")
# Only these of the thirty fields of TS.INFO: parsing the others would take most of the time.
_INFO = re.compile(rb".*?".join(rb"\+%b\r\n:([0-9]+)\r\n" % field.encode() for field in _FIELDS), re.DOTALL)
StoredSample = tuple[int, float]


@dataclass(frozen=True, slots=True)
class StoredFund:
    """The stored data of one fund or subclass.

    Attributes
    ----------
    series : str
        ``CNPJ``, or ``CNPJ:SUBCLASS``.
    card : mapping
        The fund card: name, pk, status, started_on, ended_on; empty if there is none.
    days : int
        Number of quotas stored.
    first, last : datetime.date or None
        The days of the oldest and the newest quota.
    keeps : int
        Retention in milliseconds, counted back from the newest quota; 0, the kit's setting, keeps all.
    """

    series: str
    card: Mapping[str, str]
    days: int = 0
    first: dt.date | None = None
    last: dt.date | None = None
    keeps: int = 0

    @property
    def is_inactive(self) -> bool:
        """Whether the site reported that the fund no longer operates normally."""
        status = self.card.get("status", "")
        return status.strip().upper() not in ("", ACTIVE)

    @property
    def started_on(self) -> dt.date | None:
        """The first day of the fund, as the site reports it."""
        text = self.card.get("started_on")
        return dt.date.fromisoformat(text) if text else None

    @property
    def ended_on(self) -> dt.date | None:
        """The last day of a fund that ended: its newest quota if that is in its last month, else the month's end."""
        text = self.card.get("ended_on")
        if not text:
            return None
        end = dt.date.fromisoformat(text)
        return self.last if self.last and (self.last.year, self.last.month) == (end.year, end.month) else end


def forgetful(keys: Keys, funds: Sequence[StoredFund]) -> str:
    """Return a warning about series with a retention, set by another program or the server's policy."""
    found = [fund for fund in funds if fund.keeps]
    if not found:
        return ""
    series, days = keys.series(found[0].series, "quota"), found[0].keeps / DAY_MS
    return (
        f"Redis deletes old samples of {len(found)} series, such as {series}, which keeps {days:.3g} days: run "
        f"`TS.ALTER {series} RETENTION 0`, or let a worker store a month of the fund; then fetch the lost months again"
    )


class Change(NamedTuple):
    """A restated or withdrawn figure; `new` is NaN if withdrawn. `changed_at` is in seconds since 1970."""

    cnpj: str
    subclass: str
    day: dt.date
    metric: str
    old: float
    new: float
    source: str
    changed_at: float


def stored_series(link: Link, keys: Keys, cnpjs: Sequence[str] = (), metrics: Sequence[str] = METRICS) -> set[str]:
    """Return the stored series of these CNPJs, or all: each as ``CNPJ`` or ``CNPJ:SUBCLASS``."""
    # Filtering by metric here is three times faster than in the server.
    names = link.send("TS.QUERYINDEX", *_filters(keys, cnpjs, ()))
    start, ends = keys.series("", "").partition("}")[0], tuple(f":{metric}" for metric in metrics)
    # Without its metric, each of the six keys of a series has the same name.
    found = {name.rpartition(":")[0] for name in names if name.endswith(ends) and name.startswith(start)}
    return {series_in(f"{name}:") for name in found}


def _filters(keys: Keys, series: Sequence[str], metrics: Sequence[str] = METRICS) -> list[str]:
    wanted = {"metric": metrics, "cnpj": list(dict.fromkeys(name.partition(":")[0] for name in series))}
    lists = [f"{label}=({','.join(values)})" for label, values in wanted.items() if values]
    return [f"kit={keys.namespace}", *lists]


class RowReader:
    """Reads rows: times in milliseconds and values as Redis keeps them.

    Every method raises ``RedisUnreachable`` if Redis is unreachable, and ``StoreError`` if it refuses.

    Parameters
    ----------
    redis : redis.Redis
        A client made by :func:`scraperkit.connect`; only its connections are used.
    namespace : str, optional
        The start of every key; ``Settings.namespace`` if omitted.
    advice : str
        What to do if nothing is stored for a fund: the error's second half.
    """

    def __init__(self, redis: redis_py.Redis, namespace: str | None = None, *, advice: str) -> None:
        self.keys = keys_of(namespace)
        self.link = Link(redis)
        self._advice = advice

    def stored(self, cnpjs: Sequence[str] = (), metrics: Sequence[str] = METRICS) -> set[str]:
        """Return the stored series of these CNPJs, or all: each as ``CNPJ`` or ``CNPJ:SUBCLASS``."""
        return stored_series(self.link, self.keys, cnpjs, metrics)

    def stands_for(self, cnpjs: Sequence[str], first: int, last: int) -> dict[str, list[str]]:
        """Return the sorted subclasses that replace each of these CNPJs from `first` to `last`.

        Such a CNPJ has no figure of its own on those days, in any metric, but its subclasses do. Only the requested
        days decide, so the result does not depend on what else is stored.
        """
        found: dict[str, list[str]] = {}
        for some in batched(cnpjs, FUNDS_PER_PIPELINE):
            subclasses = sorted(name for name in self.stored(some) if ":" in name)
            split = dict.fromkeys(name.partition(":")[0] for name in subclasses)
            present = self._present([*split, *subclasses], first, last)
            for name in subclasses:
                if name in present and (cnpj := name.partition(":")[0]) not in present:
                    found.setdefault(cnpj, []).append(name)
        return found

    def _present(self, series: Sequence[str], first: int, last: int) -> set[str]:
        """Return the series that have any figure from `first` to `last`."""
        keys = [(name, self.keys.series(name, metric)) for name in series for metric in METRICS]
        replies = self.link.pipeline([("TS.RANGE", key, first, last, "COUNT", 1) for _, key in keys])
        # The reply for a metric that is not stored is an error.
        return {name for (name, _), reply in zip(keys, replies, strict=True) if isinstance(reply, list) and reply}

    def fetched(self, cnpjs: Iterable[str]) -> set[str]:
        """Return the CNPJs of which a month was fetched, even if it had no figures."""
        found = set()
        for some in batched(cnpjs, FUNDS_PER_PIPELINE):
            replies = self._replies([("EXISTS", self.keys.months(cnpj)) for cnpj in some])
            found |= {cnpj for cnpj, is_there in zip(some, replies, strict=True) if is_there}
        return found

    def funds(self, series: Iterable[str]) -> list[StoredFund]:
        """Return the stored data of each of these series."""
        found: list[StoredFund] = []
        each = list(batched(series, FUNDS_PER_PIPELINE))

        def info(name: str) -> bytes:
            return pack(("TS.INFO", self.keys.series(name, "quota")))

        card = pack(("HGETALL", self.keys.fund(ANY_FUND)))
        owners = (for_funds(card, [name.partition(":")[0] for name in some]) for some in each)
        cards = self.link.stream(Request(b"".join(some), len(some)) for some in owners)
        infos = self.link.stream((Request(b"".join(for_series(info, some)), len(some)) for some in each), _parse_infos)
        for replies in zip(each, cards, infos, strict=True):
            found += map(_stored_fund, *replies)
        return found

    def names(self, series: Sequence[str]) -> dict[str, str]:
        """Return the fund name of each of these series that has one on its card."""
        card = pack(("HGET", self.keys.fund(ANY_FUND), "name"))
        owners = for_funds(card, [name.partition(":")[0] for name in series])
        (replies,) = self.link.stream([Request(b"".join(owners), len(series))])
        # The reply for a key of another type is an error: it has no name.
        return {name: reply for name, reply in zip(series, replies, strict=True) if isinstance(reply, str) and reply}

    def months(self, cnpjs: Iterable[str]) -> Iterator[tuple[str, str, MonthRecord]]:
        """Yield CNPJ, month as ``YYYY-MM`` and record of each fetched month."""
        for some in batched(cnpjs, FUNDS_PER_PIPELINE):
            replies = self._replies([("HGETALL", self.keys.months(cnpj)) for cnpj in some])
            for cnpj, records in zip(some, replies, strict=True):
                yield from ((cnpj, month, MonthRecord.read(text)) for month, text in sorted(records.items()))

    def changes(self, cnpjs: Iterable[str]) -> Iterator[Change]:
        """Yield restated and withdrawn figures, fund by fund, the oldest change first."""
        for some in batched(cnpjs, FUNDS_PER_PIPELINE):
            replies = self._replies([("XRANGE", self.keys.changes(cnpj), "-", "+") for cnpj in some])
            for cnpj, entries in zip(some, replies, strict=True):
                for entry_id, fields in entries:
                    changed_at = int(entry_id.partition("-")[0]) / 1000
                    for timestamp, key, old, *new in sorted(json.loads(fields["changes"])):
                        subclass, metric = series_in(key).partition(":")[2], key.rpartition(":")[2]
                        values = float(old), float(new[0]) if new else math.nan
                        yield Change(cnpj, subclass, day_of(timestamp), metric, *values, fields["source"], changed_at)

    def _replies(self, commands: Sequence[Command]) -> list[Any]:
        replies = self.link.pipeline(commands)
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, Exception):
                raise StoreError(f"Redis refused {command[0]} {command[1]}: {reply}{way_out_of(reply)}") from reply
        return replies

    def newest(self, series: Sequence[str]) -> dict[str, dict[str, StoredSample]]:
        """Return the newest sample of each stored metric, by series."""
        reply = self.link.send("TS.MGET", "FILTER", *_filters(self.keys, series))
        found = {}
        for name in series:
            samples = {metric: reply.get(self.keys.series(name, metric)) for metric in METRICS}
            if any(samples.values()):
                found[name] = {metric: tuple(entry[1]) for metric, entry in samples.items() if entry and entry[1]}
        return found

    def ranges(self, series: Sequence[str], metrics: Sequence[str], first: int, last: int) -> list[list[Any]]:
        """Return each metric's samples of each series from `first` to `last`; ``None`` for one that is not stored."""
        reply = self.link.send("TS.MRANGE", first, last, "FILTER", *_filters(self.keys, series, metrics))
        found = [[reply.get(self.keys.series(name, metric)) for metric in metrics] for name in series]
        return [[entry[-1] if entry else None for entry in entries] for entries in found]

    def samples(self, series: str, metric: str, first: int, last: int, most: int) -> list[StoredSample]:
        """Return at most `most` samples of one series from `first` on, oldest first.

        Raises
        ------
        UnknownFund
            If the fund is unknown.
        """
        return self._one_series(series, metric, "TS.RANGE", first, last, "COUNT", most)

    def newest_until(self, series: str, metric: str, day: dt.date) -> StoredSample | None:
        """Return the newest sample of a series up to a day; ``None`` if there is none.

        Raises
        ------
        UnknownFund
            If the fund is unknown.
        """
        until = day_number(day) * DAY_MS
        found = self._one_series(series, metric, "TS.REVRANGE", 0, max(until, 0), "COUNT", 1)
        return found[0] if found and until >= 0 else None

    def _one_series(self, series: str, metric: str, command: str, *words: str | int) -> list[StoredSample]:
        key, card = self.keys.series(series, metric), self.keys.fund(series.partition(":")[0])
        is_there, is_known, found = self.link.pipeline([("EXISTS", key), ("EXISTS", card), (command, key, *words)])
        if not is_there:
            if ":" in series or not (is_known or self.stored([series])):
                self.refuse([series])
            return []
        if isinstance(found, ResponseError):
            raise StoreError(f"Redis refused {command} {key}: {found}") from found
        return [(int(timestamp), float(value)) for timestamp, value in found]

    def refuse(self, series: Sequence[str]) -> None:
        """Raise ``UnknownFund`` for these series, if there are any."""
        if series:
            formatted = ", ".join(map(format_series, series))
            raise UnknownFund(f"nothing is stored for {formatted}: {self._advice}")


def _parse_infos(reply: bytearray, count: int) -> list[Any]:
    """Return the fields of `_FIELDS` for each series; parse all fields if a reply is unusual."""
    found = _INFO.findall(reply)
    return found if len(found) == count else bare_replies(reply, count)


def _stored_fund(series: str, card: Any, info: Any) -> StoredFund:
    # The reply for a key deleted meanwhile, or of another type, is an error.
    known = {} if isinstance(card, Exception) else card
    if not isinstance(info, tuple):
        info = [0 if isinstance(info, Exception) else info.get(field, 0) for field in _FIELDS]
    days, first, last, keeps = map(int, info)
    # An empty series reports 0 for both ends, which is also 1970-01-01.
    oldest, newest = (day_of(first), day_of(last)) if days else (None, None)
    return StoredFund(series, known, days, oldest, newest, keeps)


@lru_cache(maxsize=10_000)
def day_of(timestamp: int) -> dt.date:
    """Return the day of a sample.

    Examples
    --------
    >>> day_of(1641168000000)
    datetime.date(2022, 1, 3)
    """
    return EPOCH + dt.timedelta(days=int(timestamp) // DAY_MS)
