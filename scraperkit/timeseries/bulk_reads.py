"""Read many series from Redis as arrays: fast from the bytes of the replies, or else through redis-py."""

from __future__ import annotations

import itertools
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from scraperkit.errors import ScraperKitWarning
from scraperkit.models import METRICS
from scraperkit.timeseries.link import batched
from scraperkit.timeseries.range_replies import (
    MISSING,
    Ranges,
    ReplyError,
    newest_commands,
    parse_ranges,
    range_commands,
)
from scraperkit.timeseries.rows import RowReader
from scraperkit.timeseries.stream import NoSocket

SAMPLES_PER_READ = 60_000  # bounds memory: 2 MB as bytes, 10 MB while it is parsed
SERIES_PER_READ = 48  # as long as nothing is known of how many samples a series has, and through redis-py
_MOST_SERIES = 3_000


def read_ranges(
    rows: RowReader, cnpjs: Sequence[str], metrics: Sequence[str], first: int, last: int
) -> Generator[tuple[list[str], Ranges], None, None]:
    """Yield some funds after others, with the samples of each metric of each of them from `first` to `last`.

    Redis reads the next funds while the caller works on these. Close the generator if you leave it early.

    Warns
    -----
    ScraperKitWarning
        If the bytes on the connection are not what the kit expects, as with another release of redis-py or Redis.
        Reading goes on through redis-py.

    Raises
    ------
    RedisUnreachable
        If Redis goes away.
    StoreError
        If Redis refuses to read.
    """
    return _read(
        rows,
        cnpjs,
        metrics,
        lambda series: range_commands(series, first, last),
        lambda some: rows.ranges(some, metrics, first, last),
    )


def read_newest(rows: RowReader, cnpjs: Sequence[str]) -> Generator[tuple[list[str], Ranges], None, None]:
    """Yield some funds after others, with the newest sample of each metric; see :func:`read_ranges`."""

    def parsed(some: Sequence[str]) -> list[list[Any]]:
        found = rows.newest(some)
        return [
            [[found[cnpj][metric]] if metric in found[cnpj] else [] for metric in METRICS]
            if cnpj in found
            else [None] * len(METRICS)
            for cnpj in some
        ]

    return _read(rows, cnpjs, METRICS, newest_commands, parsed)


def _read(
    rows: RowReader,
    cnpjs: Sequence[str],
    metrics: Sequence[str],
    commands: Callable[[Sequence[str]], bytes],
    parsed: Callable[[Sequence[str]], Sequence[Sequence[Any]]],
) -> Generator[tuple[list[str], Ranges], None, None]:
    done, per_read = 0, max(1, SERIES_PER_READ // len(metrics))
    asked: deque[list[str]] = deque()
    left = iter(cnpjs)

    def requests() -> Iterator[bytes]:
        while some := list(itertools.islice(left, per_read)):
            asked.append(some)
            yield commands([rows.keys.series(cnpj, metric) for cnpj in some for metric in metrics])

    try:
        with closing(rows.link.raw_replies(requests())) as replies:
            for reply in replies:
                some = asked.popleft()
                found = parse_ranges(reply, len(some) * len(metrics))
                done += len(some)
                per_fund = found.values.size / len(some)
                per_read = max(1, min(_MOST_SERIES // len(metrics), int(SAMPLES_PER_READ / max(per_fund, 1))))
                yield some, found
        return
    except (NoSocket, ReplyError) as error:
        text = f"reading slowly, through redis-py, since its connections or the server are of an unknown kind: {error}"
        warnings.warn(text, ScraperKitWarning, stacklevel=4)
    for some in batched(cnpjs[done:], max(1, SERIES_PER_READ // len(metrics))):
        yield some, parsed_ranges(parsed(some))


def parsed_ranges(found: Sequence[Sequence[Any]]) -> Ranges:
    """Return what redis-py has parsed, as :meth:`.RowReader.ranges` gives it, as arrays.

    Examples
    --------
    >>> parsed_ranges([[[[86400000, 1.5]], None]])
    Ranges(counts=array([ 1, -1]), timestamps=array([86400000]), values=array([1.5]))
    """
    series = [samples for of_fund in found for samples in of_fund]
    counts = np.array([MISSING if samples is None else len(samples) for samples in series], dtype=np.int64)
    # A flat fromiter takes 0.6 of the time of np.array on the nested lists.
    samples = itertools.chain.from_iterable(filter(None, series))
    flat = np.fromiter(itertools.chain.from_iterable(samples), dtype=np.float64)
    return Ranges(counts, flat[0::2].astype(np.int64), flat[1::2].copy())
