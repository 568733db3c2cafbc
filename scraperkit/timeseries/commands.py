"""Quotes and fund cards as Redis commands, and what the replies mean; nothing here talks to a server.

:class:`~scraperkit.SeriesStore` sends these commands one way and the engine's event loop another; both do::

    commands = add_commands(keys, quotes)              # send them, in one pipeline
    refused = refused_funds(commands, replies)         # usually none
    again = repair_commands(keys, commands, refused)   # if anybody: send these,
    check_replies(again, replies_again)                # and now everything must have worked
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from scraperkit.cnpj import normalize_cnpj
from scraperkit.errors import StoreError
from scraperkit.keys import Keys
from scraperkit.models import METRICS, DailyQuote, Fund

Command = tuple[str | int, ...]

CHUNK_SIZE = 512  # bytes; daily values arrive in any order, and a small chunk is rewritten faster than the default 4096
SAMPLES_PER_COMMAND = 1_000
DAY_MS = 86_400_000
_EPOCH = dt.date(1970, 1, 1).toordinal()


def day_number(day: dt.date) -> int:
    """Return the days since 1970-01-01.

    Examples
    --------
    >>> day_number(dt.date(1970, 1, 2))
    1
    """
    return day.toordinal() - _EPOCH


def fund_of(series: str) -> str:
    """Return the CNPJ in the name of a series, which is its hash tag.

    Examples
    --------
    >>> fund_of(Keys("lesson").series("18993924000100", "quota"))
    '18993924000100'
    """
    return series.partition("{")[2].partition("}")[0]


def create_commands(keys: Keys, cnpj: str) -> list[Command]:
    """Return one ``TS.CREATE`` for each metric of a fund.

    Examples
    --------
    >>> len(create_commands(Keys("lesson"), "18993924000100"))
    6
    """
    return [
        (
            *("TS.CREATE", keys.series(cnpj, metric), "CHUNK_SIZE", CHUNK_SIZE, "DUPLICATE_POLICY", "LAST"),
            *("LABELS", "kit", keys.namespace, "metric", metric, "cnpj", cnpj),
        )
        for metric in METRICS
    ]


def card_command(keys: Keys, fund: Fund) -> Command:
    """Return the ``HSET`` that writes the whole card of a fund, in place of what it held.

    Examples
    --------
    >>> card_command(Keys("lesson"), Fund("18993924000100", "132922", "Fundo A"))[1:]
    ('lesson:{18993924000100}:fund', 'cnpj', '18993924000100', 'pk', '132922', 'name', 'Fundo A', 'status', '', \
'started_on', '')
    """
    cnpj = normalize_cnpj(fund.cnpj)
    started_on = fund.started_on.isoformat() if fund.started_on else ""
    fields = {"cnpj": cnpj, "pk": fund.pk, "name": fund.name, "status": fund.status, "started_on": started_on}
    return ("HSET", keys.fund(cnpj), *(part for field in fields.items() for part in field))


def first_card_commands(keys: Keys, cnpj: str, pk: str) -> list[Command]:
    """Return the ``HSETNX`` that start a card with what a request tells; a card that is there keeps its fields."""
    return [("HSETNX", keys.fund(cnpj), "cnpj", cnpj), ("HSETNX", keys.fund(cnpj), "pk", pk)]


def add_commands(keys: Keys, quotes: Iterable[DailyQuote]) -> list[Command]:
    """Return the ``TS.MADD`` that write these quotes.

    No command mixes funds, so each stays within one slot of a Redis Cluster and a refusal concerns one fund; none has
    more than 1,000 samples. Where a day occurs twice, the later quote wins.

    Raises
    ------
    StoreError
        If a value is no number, NaN or infinite, or a day is none or before 1970; names series and day.
    ConfigError
        If a quote's CNPJ is none.

    Examples
    --------
    >>> quote = DailyQuote("18993924000100", dt.date(2022, 1, 3), quota=1.25, holders=7)
    >>> add_commands(Keys("lesson"), [quote])[0][:4]
    ('TS.MADD', 'lesson:{18993924000100}:quota', 1641168000000, '1.25')
    """
    funds: dict[str, list[DailyQuote]] = {}
    for quote in quotes:
        funds.setdefault(normalize_cnpj(quote.cnpj), []).append(quote)
    commands: list[Command] = []
    for cnpj, of_fund in funds.items():
        words = _sample_words(keys, cnpj, of_fund)
        step = 3 * SAMPLES_PER_COMMAND
        commands += [("TS.MADD", *words[at : at + step]) for at in range(0, len(words), step)]
    return commands


def _sample_words(keys: Keys, cnpj: str, quotes: Iterable[DailyQuote]) -> list[str | int]:
    series = {metric: keys.series(cnpj, metric) for metric in METRICS}
    words: list[str | int] = []
    for quote in quotes:
        try:
            timestamp = day_number(quote.date) * DAY_MS
        except AttributeError:
            raise StoreError(f"{series['quota']}: {str(quote.date)[:30]!r} is no datetime.date") from None
        for metric, value in quote.metrics():
            if timestamp < 0 or not _is_finite(value):
                raise _unfit(series[metric], quote.date, value)
            words += (series[metric], timestamp, repr(float(value)))  # the shortest text that reads back the same
    return words


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except (OverflowError, TypeError, ValueError):  # an int beyond every float, or text
        return False


def _unfit(series: str, date: dt.date, value: object) -> StoreError:
    if date.year < 1970:
        return StoreError(f"{series} on {date}: Redis keeps no day before 1970-01-01")
    if isinstance(value, str):
        return StoreError(f"{series} on {date}: {value[:30]!r} is text; make a number of it")
    return StoreError(f"{series} on {date}: {str(value)[:30]} is no value to keep; leave it out of the quote (None)")


def sample_count(commands: Iterable[Command]) -> int:
    """Return how many samples the ``TS.MADD`` among these commands write."""
    return sum((len(command) - 1) // 3 for command in commands if command[0] == "TS.MADD")


def refused_funds(commands: Sequence[Command], replies: Sequence[Any]) -> list[str]:
    """Return the CNPJs of the funds of which a ``TS.MADD`` refused a sample.

    Most likely their series do not exist yet. The text of a refusal does not tell: RedisTimeSeries 1.12 says ``the key
    is not a TSDB key`` of a missing key and of a key of another type. So create them, write again, and believe the
    second answer: see :func:`repair_commands`.

    Raises
    ------
    StoreError
        If a whole command was refused; names its first series and day.
    """
    _refuse_failed_commands(commands, replies)
    return list(dict.fromkeys(fund_of(series) for series, _, _ in _refused_samples(commands, replies)))


def repair_commands(keys: Keys, commands: Iterable[Command], cnpjs: Collection[str]) -> list[Command]:
    """Return the commands that create all series of these funds and write their samples again."""
    creates = [create for cnpj in cnpjs for create in create_commands(keys, cnpj)]
    return creates + [command for command in commands if fund_of(str(command[1])) in cnpjs]


def check_replies(commands: Sequence[Command], replies: Sequence[Any]) -> None:
    """Check that every command did its work; that a series to create is there already is fine.

    Raises
    ------
    StoreError
        If a command or a sample was refused; names the first key, for a sample its day, and how many there are.
    """
    _refuse_failed_commands(commands, replies)
    refused = list(_refused_samples(commands, replies))
    if refused:
        series, day, error = refused[0]
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise StoreError(f"Redis refused {series} on {day}: {error}{more}")


def _refuse_failed_commands(commands: Sequence[Command], replies: Sequence[Any]) -> None:
    for command, reply in zip(commands, replies, strict=True):
        if isinstance(reply, Exception) and not _already_there(command, reply):
            day = f" on {_day(command[2])}" if command[0] == "TS.MADD" else ""
            raise StoreError(f"Redis refused {command[0]} {command[1]}{day}: {reply}") from reply


def _already_there(command: Command, error: Exception) -> bool:
    return command[0] == "TS.CREATE" and "already exists" in str(error)


def _refused_samples(commands: Sequence[Command], replies: Sequence[Any]) -> Iterator[tuple[str, dt.date, Exception]]:
    for command, reply in zip(commands, replies, strict=True):
        if command[0] != "TS.MADD":
            continue
        for place, item in enumerate(reply):
            if isinstance(item, Exception):
                yield str(command[1 + 3 * place]), _day(command[2 + 3 * place]), item


def _day(timestamp: str | int) -> dt.date:
    return dt.date.fromordinal(int(timestamp) // DAY_MS + _EPOCH)
