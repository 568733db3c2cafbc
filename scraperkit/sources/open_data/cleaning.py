"""Make a month of the archive from parsed lines, without I/O: valid, each series and day once, sorted and flagged."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scraperkit.models import ISO_DAY, METRICS, Month
from scraperkit.sources.open_data.layouts import SCHEMA
from scraperkit.sources.open_data.parsing import Rejection
from scraperkit.timeseries.range_replies import Numbers

Marks = npt.NDArray[np.bool_]

PREFERRED_KIND = "CLASSES - FIF"
ZEROS, BLANK = "row of zeros: no quota", "blank quota"
_FLAGGED_IF_NEGATIVE = ("quota", "net_worth", "holders")
# First a flag for each set of negative figures: its number is the sum of 1, 2 and 4 for these.
FLAGS = (
    *(
        ", ".join(
            f"negative {name.replace('_', ' ')}" for bit, name in enumerate(_FLAGGED_IF_NEGATIVE) if number >> bit & 1
        )
        for number in range(1 << len(_FLAGGED_IF_NEGATIVE))
    ),
    ZEROS,
    BLANK,
)
_WITHOUT_QUOTA = (FLAGS.index(ZEROS), FLAGS.index(BLANK))
_SUBCLASS_OR_NONE = "^[A-Z0-9]{0,40}$"
_CNPJ_FIELD = re.compile(r"[0-9A-Za-z]{2}\.?[0-9A-Za-z]{3}\.?[0-9A-Za-z]{3}/?[0-9A-Za-z]{4}-?[0-9]{2}")
_WEIGHTS = np.array([6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2])
_DAYS_OF_A_MONTH = 32
FIGURES = len(METRICS)


class Cleaned(NamedTuple):
    """A month, with the archive's columns except `seen_at`, and the rejected lines, whole or in part, with reasons.

    `repeated` counts the lines that repeat the series and day of a kept line. `unread` has the CNPJ, or "", and the day
    of each line without a valid series.
    """

    table: pa.Table
    rejected: list[Rejection]
    repeated: int
    unread: list[tuple[str, str]]


class Coded(NamedTuple):
    """A column of text: its distinct texts, sorted, and each row's index into them; -1 for an invalid text."""

    texts: npt.NDArray[np.str_]
    codes: Numbers

    def column(self) -> pa.DictionaryArray:
        """Return the column as an Arrow array."""
        return pa.DictionaryArray.from_arrays(pa.array(self.codes, pa.int32()), pa.array(self.texts, pa.string()))


def clean_month(lines: Sequence[pa.Table], month: Month) -> Cleaned:
    """Make a month of parsed lines; lines of other months are ignored.

    Parameters
    ----------
    lines : sequence of pyarrow.Table
        As :func:`~scraperkit.sources.open_data.parsing.parse_lines` returns them.
    month : Month
    """
    here = [_of_month(some, month) for some in lines]
    table = pa.concat_tables(here).unify_dictionaries().combine_chunks()
    rejected: list[Rejection] = []
    cnpj, subclass = coded(table["cnpj"], valid_cnpjs), coded(table["subclass"], _valid_subclasses)
    kind = coded(table["kind"], _trimmed)
    is_valid = np.ones(table.num_rows, np.bool_)
    unread: list[tuple[str, str]] = []
    for name, column in (("cnpj", cnpj), ("subclass", subclass)):
        bad = np.flatnonzero(is_valid & (column.codes < 0))
        is_valid[bad] = False
        rejected += [
            Rejection(line, f"{name}: {text[:40]!r} is not valid")
            for line, text in zip(_lines(table, bad), table[name].take(pa.array(bad)).to_pylist(), strict=True)
        ]
        owners = [str(cnpj.texts[code]) if code >= 0 else "" for code in cnpj.codes[bad].tolist()]
        unread += zip(owners, map(str, table["date"].take(pa.array(bad)).to_pylist()), strict=True)
    key = sort_key(cnpj.codes, subclass.codes, max(1, subclass.texts.size), table["date"])
    has_figures = ~np.all([np.isnan(table[metric].to_numpy()) for metric in METRICS], axis=0)
    rejected += [Rejection(line, "no figures") for line in _lines(table, np.flatnonzero(is_valid & ~has_figures))]
    order = np.flatnonzero(is_valid & has_figures)
    usable = order.size
    if np.any(key[order][1:] <= key[order][:-1]):
        order = order[np.argsort(key[order], kind="stable")]
        order, repeats = _each_once(table, key, order, kind)
        rejected += repeats
    figures = {metric: table[metric].to_numpy()[order] for metric in METRICS}
    lines_kept = table["line"].to_numpy()[order]
    flags = flags_of(figures)
    figures["quota"] = np.where(flags == FLAGS.index(ZEROS), np.nan, figures["quota"])
    rejected += [
        Rejection(int(lines_kept[row]), FLAGS[flags[row]]) for row in np.flatnonzero(np.isin(flags, _WITHOUT_QUOTA))
    ]
    columns = {
        "cnpj": Coded(cnpj.texts, cnpj.codes[order]).column(),
        "subclass": Coded(subclass.texts, subclass.codes[order]).column(),
        "date": table["date"].take(pa.array(order)).cast(pa.timestamp("ms")),
        **{metric: figure_column(metric, values) for metric, values in figures.items()},
        "kind": Coded(kind.texts, kind.codes[order]).column(),
        "flag": flag_column(flags),
    }
    return Cleaned(pa.table(columns), sorted(rejected), usable - order.size, unread)


def _of_month(lines: pa.Table, month: Month) -> pa.Table:
    if _lies_within(lines, month.first_day, month.last_day):
        return lines
    first, last = pa.scalar(month.first_day, pa.date32()), pa.scalar(month.last_day, pa.date32())
    return lines.filter(pc.and_(pc.greater_equal(lines["date"], first), pc.less_equal(lines["date"], last)))


def _lies_within(lines: pa.Table, first: dt.date, last: dt.date) -> bool:
    bounds = pc.min_max(lines["date"]).as_py()
    return bounds["min"] is None or (first <= bounds["min"] and bounds["max"] <= last)


def lines_by_month(lines: Sequence[pa.Table]) -> Counter[Month]:
    """Return how many parsed lines each month has."""
    found: Counter[Month] = Counter()
    for some in lines:
        for each in pc.value_counts(some["date"]).to_pylist():
            found[Month.of(each["values"])] += each["counts"]
    return found


def keys_in(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Return the apparent CNPJ and day of each line, "" where one cannot be read.

    A line with a NUL may have swallowed others, of any fund and day.

    Examples
    --------
    >>> keys_in(["FI;00.017.024/0001-53;;2018-01-02;1;x", "00.017.024/0001-53;2018-01-", "FI;00.0"])
    [('00017024000153', '2018-01-02'), ('00017024000153', ''), ('', '')]
    """
    if not texts:
        return []
    fields = [[field.strip() for field in text.split(";")] if "\0" not in text else [] for text in texts]
    named = [next(filter(_CNPJ_FIELD.fullmatch, each), "") for each in fields]
    cnpjs, are_some = valid_cnpjs(np.array(named, np.str_))
    days = [next(filter(_is_day, each), "") for each in fields]
    return list(zip(np.where(are_some, cnpjs, "").tolist(), days, strict=True))


def _is_day(text: str) -> bool:
    try:
        return bool(ISO_DAY.fullmatch(text) and dt.date.fromisoformat(text))
    except ValueError:
        return False


def _lines(table: pa.Table, rows: Numbers) -> list[int]:
    numbers: list[int] = table["line"].take(pa.array(rows)).to_pylist()
    return numbers


def misplaced(lines: pa.Table, first: dt.date, last: dt.date) -> list[Rejection]:
    """Return the lines whose day is outside the file's period."""
    if _lies_within(lines, first, last):
        return []
    outside = pc.or_(
        pc.less(lines["date"], pa.scalar(first, pa.date32())), pc.greater(lines["date"], pa.scalar(last, pa.date32()))
    )
    found = lines.filter(outside)
    return [
        Rejection(line, f"date: {day} is not in the period of the file, {first} to {last}")
        for line, day in zip(found["line"].to_pylist(), found["date"].to_pylist(), strict=True)
    ]


def coded(column: pa.ChunkedArray | pa.Array, normalize: object = None) -> Coded:
    """Return a column of text as sorted texts and codes, each text normalized; a text without a normal form gets -1."""
    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column
        column = column.combine_chunks()
    whole = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
    texts = np.asarray(whole.dictionary.to_pylist(), dtype=np.str_)
    valid = np.ones(texts.size, np.bool_)
    if callable(normalize):
        texts, valid = normalize(texts)
    names, places = np.unique(texts[valid], return_inverse=True)
    code = np.full(texts.size, -1, np.int64)
    code[valid] = places
    return Coded(names, code[whole.indices.to_numpy()] if texts.size else np.empty(0, np.int64))


def sort_key(cnpj: Numbers, subclass: Numbers, subclasses: int, dates: pa.ChunkedArray) -> Numbers:
    """Return a number for each row of a month that sorts rows by series and day."""
    days: Numbers = pc.day(dates).to_numpy()
    return (cnpj * subclasses + subclass) * _DAYS_OF_A_MONTH + days


def valid_cnpjs(texts: npt.NDArray[np.str_]) -> tuple[npt.NDArray[np.str_], Marks]:
    """Return CNPJs as 14 upper-case characters, and which are valid: `normalize_cnpj` for many.

    Examples
    --------
    >>> valid_cnpjs(np.array(["18.993.924/0001-00", "18993924000101"]))
    (array(['18993924000100', '18993924000101'], dtype='<U14'), array([ True, False]))
    """
    bare = pc.utf8_upper(pc.replace_substring_regex(pa.array(texts, pa.string()), "[ ./-]", ""))
    fits = pc.match_substring_regex(bare, "^[0-9A-Z]{12}[0-9]{2}$").to_numpy(zero_copy_only=False)
    names = np.where(fits, np.asarray(bare.to_pylist(), dtype=np.str_), "0" * 14).astype("U14")
    values = names.view(np.uint32).reshape(-1, 14).astype(np.int64) - ord("0")
    first = (11 - values[:, :12] @ _WEIGHTS[1:]) % 11 % 10
    second = (11 - values[:, :13] @ _WEIGHTS) % 11 % 10
    is_some = fits & (first == values[:, 12]) & (second == values[:, 13]) & values[:, :12].any(axis=1)
    return np.asarray(bare.to_pylist(), dtype=np.str_), is_some


def _valid_subclasses(texts: npt.NDArray[np.str_]) -> tuple[npt.NDArray[np.str_], Marks]:
    names = pc.utf8_upper(pc.utf8_trim(pa.array(texts, pa.string()), " "))
    fits = pc.match_substring_regex(names, _SUBCLASS_OR_NONE).to_numpy(zero_copy_only=False)
    return np.asarray(names.to_pylist(), dtype=np.str_), fits


def _trimmed(texts: npt.NDArray[np.str_]) -> tuple[npt.NDArray[np.str_], Marks]:
    return np.strings.strip(texts), np.ones(texts.size, np.bool_)


def _each_once(table: pa.Table, key: Numbers, order: Numbers, kind: Coded) -> tuple[Numbers, list[Rejection]]:
    """Keep one row for each series and day: CLASSES - FIF before others, then the last in the file."""
    line = table["line"].to_numpy()
    is_preferred = (kind.texts == PREFERRED_KIND)[kind.codes] if kind.texts.size else np.zeros(key.size, np.bool_)
    order = order[np.lexsort((line[order], is_preferred[order], key[order]))]
    keys = key[order]
    is_best = np.append(keys[1:] != keys[:-1], True)
    others, winners = order[~is_best], order[is_best][np.searchsorted(keys[is_best], keys[~is_best])]
    is_same = np.ones(others.size, np.bool_)
    for metric in METRICS:
        left, right = (table[metric].to_numpy()[rows] for rows in (others, winners))
        is_same &= (left == right) | (np.isnan(left) & np.isnan(right))
    repeats = [
        Rejection(lost, f"the same as line {won}")
        for lost, won in zip(line[others[is_same]].tolist(), line[winners[is_same]].tolist(), strict=True)
    ]
    for loser, winner in zip(others[~is_same].tolist(), winners[~is_same].tolist(), strict=True):
        lost, won = int(line[loser]), int(line[winner])
        by_kind = is_preferred[winner] and not is_preferred[loser]
        beaten = str(kind.texts[kind.codes[loser]]) or "a row without a kind"
        why = f"{PREFERRED_KIND} beats {beaten}" if by_kind else "the later line counts"
        repeats.append(Rejection(lost, f"conflicts with line {won}: {why}"))
        repeats.append(Rejection(won, f"kept, but line {lost} conflicts with it: {why}"))
    return order[is_best], repeats


def flags_of(figures: Mapping[str, npt.NDArray[np.float64]]) -> Numbers:
    """Return the index of each row's flag in `FLAGS`."""
    quota, net_worth, holders = (figures[name] for name in ("quota", "net_worth", "holders"))
    zeros = ((quota == 0) & (net_worth != net_worth) | (net_worth == 0) & ~(np.abs(quota) > 0)) & ~(np.abs(holders) > 0)
    flags = np.sum([(figures[name] < 0).astype(np.int64) << bit for bit, name in enumerate(_FLAGGED_IF_NEGATIVE)], 0)
    flags[np.isnan(quota)] = FLAGS.index(BLANK)
    flags[zeros] = FLAGS.index(ZEROS)
    return np.asarray(flags, np.int64)


def flag_column(flags: Numbers) -> pa.DictionaryArray:
    """Return flags as an Arrow array of texts."""
    return pa.DictionaryArray.from_arrays(pa.array(flags, pa.int32()), pa.array(FLAGS))


def figure_column(metric: str, values: npt.NDArray[np.float64]) -> pa.Array:
    """Return a metric's values in the archive's type; null for NaN."""
    return pa.array(values, pa.float64(), from_pandas=True).cast(SCHEMA.field(metric).type)
