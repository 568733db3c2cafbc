"""Replace a month of many funds, except where a newer fetch has stored it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from scraperkit.errors import StoreError
from scraperkit.keys import Keys
from scraperkit.lua.state import MonthRecord
from scraperkit.models import METRICS, Month, Stored
from scraperkit.timeseries.commands import (
    ANY_FUND,
    DAY_MS,
    EXEC,
    MULTI,
    check_replies,
    create_all,
    day_number,
    for_funds,
    pack,
    refused_series,
    repair_commands,
)
from scraperkit.timeseries.frame_writes import FrameChunk, frame_chunks
from scraperkit.timeseries.link import Dialogue, Link, batched, refused_replies
from scraperkit.timeseries.news import Announcer
from scraperkit.timeseries.range_replies import Numbers
from scraperkit.timeseries.rows import stored_series

_MONTHS_AT_ONCE = 1_000
_CLOCKS_DIFFER = 2.0  # seconds


class Written(NamedTuple):
    """The result of writing a month: the number of samples, and the CNPJs whose newer data was kept."""

    samples: int
    kept: set[str]


class _Prepared(NamedTuple):
    """The commands that write one chunk.

    Attributes
    ----------
    chunk : FrameChunk
    funds : list of str
        Their CNPJs.
    creates, look, commands, news : list of bytes
        Commands that create missing series, watch and read the records of the months, replace the months, and publish
        the news.
    """

    chunk: FrameChunk
    funds: list[str]
    creates: list[bytes]
    look: list[bytes]
    commands: list[bytes]
    news: list[bytes]


class MonthWriter:
    """Writes a month of many funds, all with the same fetch time as their fencing token.

    Parameters
    ----------
    link : Link
    keys : Keys
    month : Month
    record : MonthRecord
        The record of the month for each whole fund; its `fetched_at` is the token.
    whole : collection of str
        The CNPJs of which the frame has all series: their other stored series lose the month.
    """

    def __init__(self, link: Link, keys: Keys, month: Month, record: MonthRecord, whole: Collection[str]) -> None:
        self._link, self._keys, self._month, self._record = link, keys, month, record
        self._whole = whole
        self._others: dict[str, list[bytes]] = {}
        self._gone: dict[str, list[Stored]] = {}
        self._new: set[str] = set()
        self._announcer = Announcer(keys)

    def write(self, frame: pd.DataFrame) -> Written:
        """Write the rows of a frame, about 5,000 at a time, in transactions that check each fund's token.

        Raises
        ------
        StoreError
            If Redis refuses a sample; names series and day.
        RedisUnreachable
            If Redis is unreachable; writing everything again is safe.
        """
        self._look(frame)
        samples, kept = 0, set[str]()
        chunks = map(self._prepare, frame_chunks(self._keys, frame, METRICS, _series_of_rows(frame)))
        with self._link.dialogue() as dialogue:
            prepared = next(chunks, None)
            while prepared is not None:
                written, newer, prepared = self._replace(dialogue, prepared, chunks)
                samples += written
                kept |= newer
        return Written(samples, kept)

    def _look(self, frame: pd.DataFrame) -> None:
        """Find the new series, and the stored series of whole funds that the frame lacks."""
        first = day_number(self._month.first_day) * DAY_MS
        last = day_number(self._month.shift(1).first_day) * DAY_MS - 1
        names = frame[["cnpj", "subclass"]].drop_duplicates()
        here = {
            f"{cnpj}:{name}" if name else cnpj
            for cnpj, name in zip(*(names[name].tolist() for name in ("cnpj", "subclass")), strict=True)
        }
        self._new = set(here)
        for some in batched(names["cnpj"].unique().tolist(), _MONTHS_AT_ONCE):
            stored = stored_series(self._link, self._keys, some)
            self._new -= stored
            for name in sorted(stored - here):
                if (cnpj := name.partition(":")[0]) in self._whole:
                    deletes = [pack(("TS.DEL", self._keys.series(name, metric), first, last)) for metric in METRICS]
                    self._others.setdefault(cnpj, []).extend(deletes)
                    self._gone.setdefault(cnpj, []).append(Stored.of(name, self._month.iso, 0))

    def _prepare(self, chunk: FrameChunk) -> _Prepared:
        """Make the commands of a chunk while the server works on the one before it."""
        funds = list(dict.fromkeys(name.partition(":")[0] for name in chunk.series))
        creates = create_all(self._keys, [name for name in chunk.series if name in self._new])
        asked = for_funds(pack(("HGET", self._keys.months(ANY_FUND), self._month.iso)), funds)
        watch = [pack(("WATCH", *map(self._keys.months, funds)))] if funds else []
        old = [name for name in chunk.series if name not in self._new]
        commands = [*chunk.delete_commands(self._keys, old), *chunk.add_commands(self._keys)] if funds else []
        for cnpj in funds:
            commands += self._others.get(cnpj, ())
        note = pack(("HSET", self._keys.months(ANY_FUND), self._month.iso, self._record.text))
        commands += for_funds(note, [cnpj for cnpj in funds if cnpj in self._whole])
        gone = [stored for cnpj in funds for stored in self._gone.get(cnpj, ())]
        news = self._announcer.commands([*chunk.months(with_empty=True), *gone]) if funds else []
        return _Prepared(chunk, funds, creates, [*watch, *asked], commands, news)

    def _replace(
        self, dialogue: Dialogue, prepared: _Prepared, chunks: Iterator[_Prepared]
    ) -> tuple[int, set[str], _Prepared | None]:
        """Write a chunk and prepare the next one meanwhile; return samples, funds kept, and the next chunk."""
        following: list[_Prepared | None] = []

        def exchange() -> tuple[_Prepared, set[str]] | None:
            newer = self._newer(dialogue, prepared)
            mine = self._prepare(_without(prepared.chunk, newer)) if newer else prepared
            dialogue.send(b"".join([MULTI, *mine.commands, EXEC]))
            if not following:
                following.append(next(chunks, None))
            replies = dialogue.receive(len(mine.commands) + 2, refused_replies)
            if dialogue.was_nothing:
                return None  # another writer has stored a month of these funds: read again
            if replies:
                executed = replies[-1]
                whole = executed if isinstance(executed, list) else [executed] * len(mine.commands)
                self._settle(mine.commands, whole)
            return mine, newer

        while (done := dialogue.repeat(exchange)) is None:
            self._new.difference_update(prepared.chunk.series)  # now they exist and may hold samples
            prepared = self._prepare(prepared.chunk)
        mine, newer = done
        self._announcer.hear(self._link.write(mine.news) if mine.news else [])
        return mine.chunk.samples, newer, following[0]

    def _newer(self, dialogue: Dialogue, prepared: _Prepared) -> set[str]:
        """Watch the months of some funds; return the funds whose fetch is newer than the token."""
        creates, look = prepared.creates, prepared.look
        dialogue.send(b"".join([*creates, *look]))
        replies = dialogue.receive(len(creates) + len(look))
        check_replies(creates, replies[: len(creates)])
        watched, *records = replies[len(creates) :]
        for reply in (watched, *records):
            if isinstance(reply, Exception):
                raise StoreError(f"Redis refused the transaction that writes a month: {reply}") from reply
        return {
            cnpj
            for cnpj, text in zip(prepared.funds, records, strict=True)
            if text is not None and self._is_older_than(MonthRecord.read(text))
        }

    def _is_older_than(self, known: MonthRecord) -> bool:
        # Two writes of one file may record times up to a second apart.
        is_alike = (known.source, known.digest) == (self._record.source, self._record.digest)
        return known.fetched_at > self._record.fetched_at + (_CLOCKS_DIFFER if is_alike else 0)

    def _settle(self, commands: list[bytes], replies: list[object]) -> None:
        """Recreate the series that were deleted since then, and write to them again."""
        if refused := refused_series(commands, replies):
            again = repair_commands(self._keys, commands, refused)
            check_replies(again, self._link.write(again))


def _series_of_rows(frame: pd.DataFrame) -> Numbers:
    """Return a number for each row that is the same for the rows of one series."""
    codes, _ = pd.factorize(frame["cnpj"])
    of_subclass, subclasses = pd.factorize(frame["subclass"])
    return np.asarray(codes * len(subclasses) + of_subclass, dtype=np.int64)


def _without(chunk: FrameChunk, cnpjs: Collection[str]) -> FrameChunk:
    """Return a chunk without the rows of these funds."""
    stays = [name.partition(":")[0] not in cnpjs for name in chunk.series]
    names = [name for name, is_here in zip(chunk.series, stays, strict=True) if is_here]
    place = np.cumsum(stays) - 1
    rows = np.array(stays, dtype=bool)[chunk.codes]
    return FrameChunk(names, place[chunk.codes[rows]], chunk.days[rows], chunk.values[rows], chunk.metrics)
