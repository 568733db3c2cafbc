"""SeriesStore: writes daily quotes and fund cards to Redis."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import redis as redis_py
from tqdm.auto import tqdm

from scraperkit.cnpj import normalize_cnpj
from scraperkit.errors import StoreError
from scraperkit.models import METRICS, DailyQuote, Fund
from scraperkit.timeseries.commands import (
    EXEC,
    MULTI,
    add_commands,
    card_command,
    check_replies,
    create_all,
    exists_command,
    for_series,
    months_of,
    of_series,
    pack,
    refused_creates,
    refused_series,
    repair_commands,
    sample_count,
)
from scraperkit.timeseries.frame_writes import FrameChunk, checked_metrics, frame_chunks, survey
from scraperkit.timeseries.frames import Funds, wanted_series
from scraperkit.timeseries.link import Link, Request, batched, keys_of, refused_replies
from scraperkit.timeseries.news import Announcer
from scraperkit.timeseries.rows import FUNDS_PER_PIPELINE, stored_series

QUOTES_PER_PIPELINE = 5_000


class SeriesStore:
    """Writes daily quotes and fund cards.

    Writing is idempotent: a day written twice holds the last value.

    Parameters
    ----------
    redis : redis.Redis
        A client made by :func:`scraperkit.connect`; only its connections are used.
    namespace : str, optional
        The start of every key; ``Settings.namespace`` if omitted.

    Raises
    ------
    ConfigError
        If the client does not use RESP3 and decode its replies, or `namespace` is invalid.

    Examples
    --------
    >>> store = SeriesStore(connect(), namespace="lesson")  # doctest: +SKIP
    >>> store.write([DailyQuote("18993924000100", date(2022, 1, 3), quota=1.25)])  # doctest: +SKIP
    1
    """

    def __init__(self, redis: redis_py.Redis, namespace: str | None = None) -> None:
        self._link = Link(redis)
        self._keys = keys_of(namespace)
        self._announcer = Announcer(self._keys)

    def __repr__(self) -> str:
        return f"SeriesStore(namespace={self._keys.namespace!r})"

    def write(self, quotes: Iterable[DailyQuote]) -> int:
        """Write quotes, creating missing series, and return the number of samples written.

        A metric that is ``None`` keeps its stored value. Quotes are sent 5,000 at a time, so an error may leave earlier
        ones written; writing everything again is safe.

        Raises
        ------
        StoreError
            If a value is not finite, a day is before 1970, or Redis refuses a sample; names series and day.
        ConfigError
            If a quote's CNPJ is invalid.
        RedisUnreachable
            If Redis is unreachable.
        """
        return sum(self._write_some(some) for some in batched(quotes, QUOTES_PER_PIPELINE))

    def _write_some(self, quotes: Sequence[DailyQuote]) -> int:
        commands = add_commands(self._keys, quotes)
        publish = self._announcer.commands(months_of(quotes)) if commands else []
        self._settle(commands, publish, self._link.write([*commands, *publish]))
        return sample_count(commands)

    def _settle(self, commands: Sequence[bytes], publish: Sequence[bytes], replies: Sequence[Any]) -> None:
        """Create missing series and write to them again; raise what Redis still refuses.

        The news comes last in the replies. It is published again after a repair, since not all of its prices could be
        read the first time.
        """
        replies, heard = replies[: len(commands)], replies[len(commands) :]
        if refused := refused_series(commands, replies):
            again = repair_commands(self._keys, commands, refused)
            replies = self._link.write([*again, *publish])
            check_replies(again, replies[: len(again)])
            heard = replies[len(again) :]
        self._announcer.hear(heard)

    def write_frame(self, quotes: pd.DataFrame, *, replace: bool = False) -> int:
        """Write a frame of quotes, creating missing series, and return the number of samples written.

        This is the fast way to write many quotes. The whole frame is checked before anything is written, then sent
        about 5,000 rows at a time, so losing Redis may leave earlier rows written; writing everything again is safe. If
        it takes longer than a second, terminals and notebooks show a progress bar.

        Parameters
        ----------
        quotes : pandas.DataFrame
            The columns of :meth:`TimeSeriesReader.quotes`: ``cnpj``, ``date`` and at least one metric, in any order;
            ``subclass`` may be omitted if there are none. ``NaN``, ``<NA>`` and ``None`` are not written. The time of
            day is ignored. If a day occurs twice, the later row wins.
        replace : bool
            Whether each month of a series in the frame replaces the stored one: days without a row, and metrics without
            a value, are removed. Metrics without a column in the frame are kept. Readers see the old month or the new
            one, never a mixture.

        Raises
        ------
        ConfigError
            If a column is missing or unknown, or a CNPJ is invalid.
        StoreError
            If a value is not a finite number, a day is before 1970, or Redis refuses a sample; names series and day.
        RedisUnreachable
            If Redis is unreachable.

        Examples
        --------
        >>> copy = SeriesStore(connect(), namespace="copy")  # doctest: +SKIP
        >>> copy.write_frame(TimeSeriesReader(connect()).quotes())  # doctest: +SKIP
        3012
        """
        metrics = checked_metrics(quotes)
        found = survey(self._keys, quotes, metrics, with_months=replace)
        present = self._present(found.series)
        if replace:
            self._check_transactions()
        with tqdm(total=len(quotes), unit=" rows", desc="writing", delay=1, disable=None, dynamic_ncols=True) as bar:
            chunks = frame_chunks(self._keys, quotes, metrics, found.months)
            return sum(self._write_chunks(chunks, present, replace, bar))

    def _check_transactions(self) -> None:
        """Refuse a user without transactions, before anything is deleted outside of one."""
        for reply in self._link.write([MULTI, EXEC]):
            if isinstance(reply, Exception):
                raise StoreError(f"Redis refused the transaction that replace=True needs: {reply}") from reply

    def _present(self, series: Sequence[str]) -> dict[str, int]:
        """Return how many metrics of each of these series are stored."""
        present: dict[str, int] = {}
        for some in batched(series, FUNDS_PER_PIPELINE):
            commands = for_series(partial(exists_command, self._keys), some)
            replies = self._link.write(commands)
            check_replies(commands, replies)
            present |= zip(some, replies, strict=True)
        return present

    def _write_chunks(
        self, chunks: Iterable[FrameChunk], present: Mapping[str, int], replace: bool, bar: Any
    ) -> Iterator[int]:
        """Write each chunk and create its missing series in one round trip."""
        sent: deque[tuple[FrameChunk, list[bytes], list[bytes], list[bytes]]] = deque()
        incomplete = {name for name, metrics in present.items() if metrics < len(METRICS)}

        def requests() -> Iterator[Request]:
            for chunk in chunks:
                creates = create_all(self._keys, [name for name in chunk.series if name in incomplete])
                incomplete.difference_update(chunk.series)
                commands = chunk.add_commands(self._keys)
                if replace:
                    old = [name for name in chunk.series if present[name]]
                    commands = [*chunk.delete_commands(self._keys, old), *commands]
                publish = self._announcer.commands(chunk.months(with_empty=replace))
                sent.append((chunk, creates, commands, publish))
                wrapped = [*creates, *([MULTI, *commands, EXEC] if replace else commands), *publish]
                yield Request(b"".join(wrapped), len(wrapped))

        for replies in self._link.stream(requests(), refused_replies):
            chunk, creates, commands, publish = sent.popleft()
            if replies:
                if replace:
                    end = len(replies) - len(publish)
                    executed = replies[end - 1]
                    refused = isinstance(executed, Exception)
                    replies[len(creates) : end] = [executed] * len(commands) if refused else executed
                self._settle([*creates, *commands], publish, replies)
                if late := refused_creates(creates, replies) if replace else ():
                    self._replace([*chunk.delete_commands(self._keys, late), *of_series(commands, late)])
            bar.update(chunk.days.size)
            yield chunk.samples

    def _replace(self, commands: Sequence[bytes]) -> None:
        """Replace months of series that another writer created after they were found missing."""
        *_, executed = self._link.write([MULTI, *commands, EXEC])
        check_replies(commands, executed)

    def save_fund(self, fund: Fund) -> None:
        """Write the card of one fund; see :meth:`save_funds`."""
        self.save_funds([fund])

    def save_funds(self, funds: Iterable[Fund]) -> None:
        """Overwrite the cards of funds, and create their missing series.

        The reader then knows these funds, even without quotes.

        Raises
        ------
        StoreError
            If Redis refuses a key; names it.
        ConfigError
            If a fund's CNPJ is invalid.
        RedisUnreachable
            If Redis is unreachable.
        """
        for some in batched(funds, FUNDS_PER_PIPELINE):
            commands = [pack(card_command(self._keys, fund)) for fund in some]
            commands += create_all(self._keys, [normalize_cnpj(fund.cnpj) for fund in some])
            check_replies(commands, self._link.write(commands))

    def delete(self, cnpjs: Funds) -> int:
        """Delete all series and the card of these funds; return how many funds had any.

        For ``CNPJ:SUBCLASS``, only the series of that subclass are deleted.

        Raises
        ------
        ConfigError
            If a CNPJ is invalid.
        RedisUnreachable
            If Redis is unreachable.
        """
        wanted = wanted_series(cnpjs)
        of_funds = {name: [name] for name in wanted}
        for name in stored_series(self._link, self._keys, wanted):
            of_funds.setdefault(name.partition(":")[0], []).append(name)
        commands = [pack(("UNLINK", *self._keys_of(name, of_funds[name]))) for name in wanted]
        replies = self._link.write(commands)
        check_replies(commands, replies)
        return sum(1 for removed in replies if removed)

    def _keys_of(self, name: str, series: Sequence[str]) -> Iterator[str]:
        """Yield the keys of a fund with its subclasses, or of one subclass."""
        if ":" not in name:
            keys = self._keys
            yield from (keys.fund(name), keys.months(name), keys.changes(name), keys.not_offered(name))
        yield from (self._keys.series(each, metric) for each in series for metric in METRICS)
