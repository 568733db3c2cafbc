"""Turn quotes and fund cards into Redis commands, and read the replies; no server, no pandas.

:class:`~scraperkit.SeriesStore` does::

    commands = add_commands(keys, quotes)              # send them, in one pipeline
    refused = refused_series(commands, replies)        # usually none
    again = repair_commands(keys, commands, refused)   # if any: send these,
    check_replies(again, replies_again)                # and now all must have succeeded

The engine passes the :func:`words_of` a month to a script that replaces the month.
"""

from __future__ import annotations

import array
import datetime as dt
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import chain, compress
from operator import attrgetter
from typing import Any

from pydantic_core import to_json

from scraperkit.cnpj import normalize_cnpj, normalize_series
from scraperkit.errors import StoreError, way_out_of
from scraperkit.keys import Keys, series_in
from scraperkit.models import COLUMNS, METRICS, DailyQuote, Fund, Month, Stored, news

Command = tuple[str | int, ...]

CHUNK_SIZE = 512  # bytes; values arrive in any order, and a small chunk is rewritten faster than the default 4096
DAY_MS = 86_400_000
SAMPLES_PER_COMMAND = 1_000
# Override the server's defaults: keep every sample as written, and the newer of two.
SERIES_OPTIONS: tuple[str | int, ...] = (
    *("RETENTION", 0, "ENCODING", "COMPRESSED", "CHUNK_SIZE", CHUNK_SIZE),
    *("DUPLICATE_POLICY", "LAST", "IGNORE", 0, 0),
)
ANY_FUND = "\0" * 14  # as long as a CNPJ, and impossible in a namespace
EPOCH = dt.date(1970, 1, 1)
_EPOCH_ORDINAL = EPOCH.toordinal()
_HEAD = b"$7\r\nTS.MADD"
LENGTHS = [b"$%d" % length for length in range(32)]  # no float needs more than 24 characters
_values_of = attrgetter(*METRICS)
# Counts are read back as whole numbers of 64 bits.
LIMITS = {metric: 2.0**63 if COLUMNS[metric].dtype == "Int64" else math.inf for metric in METRICS}
_COUNTS = [place for place, metric in enumerate(METRICS) if LIMITS[metric] < math.inf]

# ------------------------------------------------------ packing: many words at once; redis-py packs one at a time


def word(text: bytes) -> bytes:
    r"""Return one packed word of a command, without its last line break.

    Examples
    --------
    >>> word(b"quota")
    b'$5\r\nquota'
    """
    return b"$%d\r\n%b" % (len(text), text)


def pack(command: Sequence[str | int]) -> bytes:
    r"""Return a whole command as redis-py would send it.

    Examples
    --------
    >>> pack(("TS.DEL", "quota", 0, 86400000))
    b'*4\r\n$6\r\nTS.DEL\r\n$5\r\nquota\r\n$1\r\n0\r\n$8\r\n86400000\r\n'
    """
    words = (word(str(part).encode()) for part in command)
    return b"\r\n".join([b"*%d" % len(command), *words, b""])


MULTI, EXEC = pack(("MULTI",)), pack(("EXEC",))


def unpack(command: bytes) -> list[str]:
    """Return the words of a packed command; no word may hold a line break.

    Examples
    --------
    >>> unpack(pack(("TS.DEL", "quota", 0, 86400000)))
    ['TS.DEL', 'quota', '0', '86400000']
    """
    return command.decode().split("\r\n")[2::2]


def for_funds(packed: bytes, cnpjs: Iterable[str]) -> list[bytes]:
    r"""Return a copy for each fund of packed words that name ``ANY_FUND``, at a tenth of the cost of packing.

    Examples
    --------
    >>> for_funds(word(ANY_FUND.encode()), ["18993924000100"])
    [b'$14\r\n18993924000100']
    """
    parts = packed.split(ANY_FUND.encode())
    return [cnpj.encode().join(parts) for cnpj in cnpjs]


def for_series(make: Callable[[str], bytes], series: Sequence[str]) -> list[bytes]:
    r"""Return the result of `make` for each series, with one call for each length of subclass id.

    Examples
    --------
    >>> for_series(lambda name: word(name.encode()), ["18993924000100", "18993924000100:A1"])
    [b'$14\r\n18993924000100', b'$17\r\n18993924000100:A1']
    """
    parts = make(ANY_FUND).split(ANY_FUND.encode())
    templates: dict[int, bytes] = {}
    found = []
    for name in series:
        if len(name) == len(ANY_FUND):
            found.append(name.encode().join(parts))
            continue
        cnpj, _, subclass = name.encode().partition(b":")
        any_subclass = b"\1" * len(subclass)
        if len(subclass) not in templates:
            templates[len(subclass)] = make(f"{ANY_FUND}:{any_subclass.decode()}")
        template = templates[len(subclass)]
        found.append(template.replace(ANY_FUND.encode(), cnpj).replace(any_subclass, subclass))
    return found


def float_texts(values: Sequence[float]) -> list[bytes]:
    """Return the shortest text of each finite number that reads back as the same ``float64``.

    Raises
    ------
    TypeError
        If one is not a number.
    OverflowError, ValueError
        If one is infinite, NaN, or an integer too large for a float.

    Examples
    --------
    >>> float_texts([1.25, 7, 1e300])
    [b'1.25', b'7.0', b'1e+300']
    """
    # The array makes floats, or raises; to_json formats them in Rust, ten times faster than repr.
    text = to_json(array.array("d", values).tolist())[1:-1]
    if b"N" in text or b"I" in text:
        raise ValueError("NaN and infinite values cannot be stored")
    return text.split(b",") if text else []


def sample_lines(keys: Iterable[bytes], stamps: Iterable[bytes], values: Sequence[float]) -> list[bytes]:
    r"""Return the lines of the words that write samples, four for each: name, time, and two of the value.

    Parameters
    ----------
    keys, stamps : iterable of bytes
        For each sample, the name of its series and its time in milliseconds, both made by :func:`word`.
    values : sequence of float
        Finite numbers.

    Raises
    ------
    TypeError, OverflowError, ValueError
        If a value cannot be stored; see :func:`float_texts`.

    Examples
    --------
    >>> sample_lines([word(b"quota")], [word(b"86400000")], [1.5])
    [b'$5\r\nquota', b'$8\r\n86400000', b'$3', b'1.5']
    """
    texts = float_texts(values)
    lines = [b""] * (4 * len(texts))
    lines[0::4] = keys
    lines[1::4] = stamps
    lines[2::4] = map(LENGTHS.__getitem__, map(len, texts))
    lines[3::4] = texts
    return lines


def cut_commands(lines: Sequence[bytes], ends: Iterable[int]) -> list[bytes]:
    r"""Return the ``TS.MADD`` that write the samples of :func:`sample_lines`, at most 1,000 each.

    Parameters
    ----------
    lines : sequence of bytes
    ends : iterable of int
        Sample numbers, ascending, at which a command must end; the last is the number of samples.

    Examples
    --------
    >>> cut_commands(sample_lines([word(b"quota")], [word(b"86400000")], [1.5]), [1])
    [b'*4\r\n$7\r\nTS.MADD\r\n$5\r\nquota\r\n$8\r\n86400000\r\n$3\r\n1.5\r\n']
    """
    commands, start = [], 0
    for end in ends:
        for at in range(start, end, SAMPLES_PER_COMMAND):
            count = min(end - at, SAMPLES_PER_COMMAND)
            head = (b"*%d" % (1 + 3 * count), _HEAD)
            commands.append(b"\r\n".join((*head, *lines[4 * at : 4 * (at + count)], b"")))
        start = end
    return commands


# ------------------------------------------------------------------------------------------------ quotes and fund cards


def day_number(day: dt.date) -> int:
    """Return the days since 1970-01-01.

    Examples
    --------
    >>> day_number(dt.date(1970, 1, 2))
    1
    """
    return day.toordinal() - _EPOCH_ORDINAL


@lru_cache(maxsize=10_000)
def stamp(day: int) -> bytes:
    r"""Return the packed timestamp of a day, given as days since 1970.

    Examples
    --------
    >>> stamp(1)
    b'$8\r\n86400000'
    """
    return word(b"%d" % (day * DAY_MS))


def create_command(keys: Keys, series: str, metric: str) -> bytes:
    """Return the ``TS.CREATE`` of one metric of a series, packed."""
    cnpj, _, subclass = series.partition(":")
    labels = ("LABELS", "kit", keys.namespace, "metric", metric, "cnpj", cnpj)
    of_subclass = ("subclass", subclass) if subclass else ()
    return pack(("TS.CREATE", keys.series(series, metric), *SERIES_OPTIONS, *labels, *of_subclass))


def create_all(keys: Keys, series: Sequence[str]) -> list[bytes]:
    """Return one ``TS.CREATE`` for each metric of each series, packed.

    Examples
    --------
    >>> len(create_all(Keys("lesson"), ["18993924000100"]))
    6
    """
    each = (for_series(partial(create_command, keys, metric=metric), series) for metric in METRICS)
    return list(chain.from_iterable(zip(*each, strict=True)))


def exists_command(keys: Keys, series: str) -> bytes:
    """Return the ``EXISTS`` that counts the metrics of a series, packed."""
    return pack(("EXISTS", *(keys.series(series, metric) for metric in METRICS)))


def card_command(keys: Keys, fund: Fund) -> Command:
    """Return the ``HSET`` that overwrites the whole card of a fund.

    Examples
    --------
    >>> card_command(Keys("lesson"), Fund("18993924000100", "132922", "Fundo A"))[1:]
    ('lesson:{18993924000100}:fund', 'cnpj', '18993924000100', 'pk', '132922', 'name', 'Fundo A', 'status', '', \
'started_on', '', 'ended_on', '')
    """
    cnpj = normalize_cnpj(fund.cnpj)
    days = {"started_on": fund.started_on, "ended_on": fund.ended_on}
    fields = {"cnpj": cnpj, "pk": fund.pk, "name": fund.name, "status": fund.status}
    fields |= {name: day.isoformat() if day else "" for name, day in days.items()}
    return ("HSET", keys.fund(cnpj), *(part for field in fields.items() for part in field))


def first_card_commands(keys: Keys, cnpj: str, pk: str) -> list[Command]:
    """Return the ``HSETNX`` that start a card from a request; an existing card keeps its fields."""
    told = {"cnpj": cnpj} | ({"pk": pk} if pk else {})
    return [("HSETNX", keys.fund(cnpj), *field) for field in told.items()]


def add_commands(keys: Keys, quotes: Iterable[DailyQuote]) -> list[bytes]:
    """Return the ``TS.MADD`` that write these quotes, packed.

    No command mixes funds, so a refusal concerns one fund; none has more than 1,000 samples. If a day occurs twice, the
    later quote wins.

    Raises
    ------
    StoreError
        If a value is not a finite number, a count is 2**63 or more, or a day is invalid or before 1970; names series
        and day.
    ConfigError
        If a quote's CNPJ is invalid.

    Examples
    --------
    >>> quote = DailyQuote("18993924000100", dt.date(2022, 1, 3), quota=1.25, holders=7)
    >>> unpack(add_commands(Keys("lesson"), [quote])[0])[:4]
    ['TS.MADD', 'lesson:{18993924000100}:quota', '1641168000000', '1.25']
    """
    found: dict[str, list[DailyQuote]] = {}
    spelled: dict[tuple[str, str], list[DailyQuote]] = {}  # a CNPJ may be spelled in two ways
    for quote in quotes:
        of_series = spelled.get((quote.cnpj, quote.subclass))
        if of_series is None:
            of_series = found.setdefault(normalize_series(quote.series), [])
            spelled[quote.cnpj, quote.subclass] = of_series
        of_series.append(quote)
    return [command for series, of_series in found.items() for command in _series_commands(keys, series, of_series)]


def _series_commands(keys: Keys, series: str, quotes: Sequence[DailyQuote]) -> list[bytes]:
    names = [word(keys.series(series, metric).encode()) for metric in METRICS]
    with _naming_the_unfit(keys, series, quotes):
        lines = sample_lines(*_columns(names, stamp, quotes))
    return cut_commands(lines, [len(lines) // 4])


def months_of(quotes: Iterable[DailyQuote]) -> list[Stored]:
    """Return the months of these quotes, and how many days each has.

    Examples
    --------
    >>> months_of([DailyQuote("18.993.924/0001-00", dt.date(2022, 1, day), 1.0) for day in (3, 4)])
    [Stored(cnpj='18993924000100', subclass='', month='2022-01', days=2, changed=None)]
    """
    spelled: dict[tuple[str, int, int], set[int]] = {}
    for quote in quotes:
        spelled.setdefault((quote.series, quote.date.year, quote.date.month), set()).add(quote.date.day)
    days: dict[tuple[str, str], set[int]] = {}  # a CNPJ may be spelled in two ways
    for (series, year, month), found in spelled.items():
        days.setdefault((normalize_series(series), Month(year, month).iso), set()).update(found)
    return [Stored.of(series, month, len(found)) for (series, month), found in days.items()]


def news_commands(keys: Keys, months: Iterable[Stored]) -> list[bytes]:
    """Return the ``PUBLISH`` that announces these months, if there are any."""
    text = news(months)
    return [pack(("PUBLISH", keys.stored, text.decode()))] if text else []


def month_words(keys: Keys, quotes: Iterable[DailyQuote]) -> list[bytes]:
    """Return name, time and value of each sample of these quotes, series by series, in the order of their days.

    Raises
    ------
    StoreError
        If a value is not a finite number, a count is 2**63 or more, or a day is before 1970; names series and day.

    Examples
    --------
    >>> month_words(Keys("lesson"), [DailyQuote("18993924000100", dt.date(2022, 1, 3), quota=1.25)])
    [b'lesson:{18993924000100}:quota', b'1641168000000', b'1.25']
    """
    return words_of(keys, by_series(quotes))


def by_series(quotes: Iterable[DailyQuote]) -> dict[str, dict[dt.date, DailyQuote]]:
    """Return the quotes of each series by day; if a day occurs twice, the later quote wins."""
    found: dict[str, dict[dt.date, DailyQuote]] = {}
    for quote in quotes:
        found.setdefault(quote.series, {})[quote.date] = quote
    return found


def words_of(keys: Keys, quotes: Mapping[str, Mapping[dt.date, DailyQuote]]) -> list[bytes]:
    """Do the work of :func:`month_words` for quotes by series and day."""
    words: list[bytes] = []
    for series, by_day in quotes.items():
        days = [by_day[day] for day in sorted(by_day)]
        with _naming_the_unfit(keys, series, days):
            names, stamps, values = _columns(_names(keys, series), _milliseconds, days)
            words += chain.from_iterable(zip(names, stamps, float_texts(values), strict=True))
    return words


@lru_cache(maxsize=10_000)
def _names(keys: Keys, series: str) -> list[bytes]:
    return [keys.series(series, metric).encode() for metric in METRICS]


@lru_cache(maxsize=10_000)
def _milliseconds(day: int) -> bytes:
    return b"%d" % (day * DAY_MS)


def _columns(
    names: list[bytes], stamp_of: Callable[[int], bytes], quotes: Sequence[DailyQuote]
) -> tuple[Iterable[bytes], Iterable[bytes], list[float]]:
    """Return name, time and value of each sample, given the keys of a series."""
    days = [day_number(quote.date) for quote in quotes]
    if min(days) < 0:
        raise ValueError
    values = list(chain.from_iterable(map(_values_of, quotes)))
    for place in _COUNTS:
        if any(count is not None and abs(count) >= LIMITS[METRICS[place]] for count in values[place :: len(METRICS)]):
            raise ValueError
    given = [value is not None for value in values]
    stamps: list[bytes] = [text for text in map(stamp_of, days) for _ in METRICS]
    return compress(names * len(quotes), given), compress(stamps, given), list(compress(values, given))


@contextmanager
def _naming_the_unfit(keys: Keys, series: str, quotes: Sequence[DailyQuote]) -> Iterator[None]:
    try:
        yield
    except (AttributeError, OverflowError, TypeError, ValueError):
        raise _first_unfit(keys, series, quotes) from None


def _first_unfit(keys: Keys, series: str, quotes: Iterable[DailyQuote]) -> StoreError:
    for quote in quotes:
        if not hasattr(quote.date, "toordinal"):
            return StoreError(f"{keys.series(series, 'quota')}: {str(quote.date)[:30]!r} is not a datetime.date")
        for metric, value in quote.metrics():
            if quote.date.year < 1970 or not _fits(metric, value):
                return unfit(keys.series(series, metric), quote.date, value)
    return StoreError(f"{keys.series(series, 'quota')}: a day is before 1970-01-01")


def _fits(metric: str, value: float) -> bool:
    try:
        return math.isfinite(value) and abs(value) < LIMITS[metric]
    except (OverflowError, TypeError, ValueError):  # an int too large for a float, or text
        return False


def unfit(series: str, date: dt.date, value: object) -> StoreError:
    """Return the error that says why a value or its day cannot be stored."""
    if date.year < 1970:
        return StoreError(f"{series} on {date}: Redis cannot store days before 1970-01-01")
    if isinstance(value, str):
        return StoreError(f"{series} on {date}: {value[:30]!r} is text; convert it to a number")
    return StoreError(f"{series} on {date}: {str(value)[:30]} cannot be stored; leave it out of the quote (None)")


def sample_count(commands: Iterable[bytes]) -> int:
    """Return how many samples the ``TS.MADD`` among these commands write.

    Examples
    --------
    >>> sample_count(add_commands(Keys("lesson"), [DailyQuote("18993924000100", dt.date(2022, 1, 3), 1.5, holders=7)]))
    2
    """
    return sum(int(command[1 : command.index(b"\r")]) // 3 for command in commands if _is_add(command))


def refused_series(commands: Sequence[bytes], replies: Sequence[Any]) -> list[str]:
    """Return the series, as ``CNPJ`` or ``CNPJ:SUBCLASS``, for which Redis refused a sample or a deletion.

    Most likely they do not exist yet. The text of a refusal does not distinguish: RedisTimeSeries 1.12 says ``the key
    is not a TSDB key`` both for a missing key and for a key of another type. So create them, write again, and trust
    the second reply: see :func:`repair_commands`.

    Raises
    ------
    StoreError
        If a whole command was refused; names its first series and day.
    """
    _refuse_failed_commands(commands, replies)
    return list(dict.fromkeys(series_in(key) for key, _, _ in _refused_samples(commands, replies)))


def refused_creates(commands: Sequence[bytes], replies: Iterable[Any]) -> set[str]:
    """Return the series that existed already, by the replies to these ``TS.CREATE``, which come first."""
    return {
        series_in(_key(command))
        for command, reply in zip(commands, replies, strict=False)
        if isinstance(reply, Exception)
    }


def repair_commands(keys: Keys, commands: Iterable[bytes], series: Collection[str]) -> list[bytes]:
    """Return the commands that create these series and write their samples again."""
    return create_all(keys, list(series)) + of_series(commands, series)


def of_series(commands: Iterable[bytes], series: Collection[str]) -> list[bytes]:
    """Return the commands that write to these series."""
    return [command for command in commands if series_in(_key(command)) in series]


def check_replies(commands: Sequence[bytes], replies: Sequence[Any]) -> None:
    """Check that every command succeeded; creating an existing series counts as success.

    Raises
    ------
    StoreError
        If a command or a sample was refused; names the first key, the day of a sample, and how many more there are.
    """
    _refuse_failed_commands(commands, replies)
    refused = list(_refused_samples(commands, replies))
    if refused:
        series, day, error = refused[0]
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise StoreError(f"Redis refused {series} on {day}: {error}{more}{way_out_of(error)}")


def _refuse_failed_commands(commands: Sequence[bytes], replies: Sequence[Any]) -> None:
    for command, reply in zip(commands, replies, strict=True):
        if isinstance(reply, Exception):
            words = unpack(command)
            if words[0] == "TS.DEL" or (words[0] == "TS.CREATE" and _already_exists(reply)):
                continue
            day = f" on {_day(words[2])}" if words[0] == "TS.MADD" else ""
            why = f"{str(reply).rstrip('.')}{way_out_of(reply)}"
            raise StoreError(f"Redis refused {words[0]} {words[1]}{day}: {why}") from reply


def _refused_samples(commands: Sequence[bytes], replies: Sequence[Any]) -> Iterator[tuple[str, dt.date, Exception]]:
    for command, reply in zip(commands, replies, strict=True):
        if isinstance(reply, Exception):
            words = unpack(command)
            if words[0] == "TS.DEL":
                yield words[1], _day(words[2]), reply
        # Nearly always all are timestamps, and comparing types is the cheapest check.
        elif _is_add(command) and set(map(type, reply)) != {int}:
            words = unpack(command)
            for place, item in enumerate(reply):
                if isinstance(item, Exception):
                    yield words[1 + 3 * place], _day(words[2 + 3 * place]), item


def _already_exists(error: Exception) -> bool:
    return "already exists" in str(error)


def _is_add(command: bytes) -> bool:
    return b"\r\nTS.MADD\r\n" in command[:32]


def _key(command: bytes) -> str:
    return command.split(b"\r\n", 5)[4].decode()


def _day(timestamp: str | int) -> dt.date:
    return dt.date.fromordinal(int(timestamp) // DAY_MS + _EPOCH_ORDINAL)
