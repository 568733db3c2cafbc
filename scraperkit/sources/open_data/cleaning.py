"""Make a month of the archive from parsed lines, without I/O: valid, each series and day once, sorted and flagged."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scraperkit.models import METRICS, Month
from scraperkit.sources.open_data.layouts import SCHEMA
from scraperkit.sources.open_data.parsing import Rejection

Numbers = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]

PREFERRED_KIND = "CLASSES - FIF"
ZEROS, BLANK = "row of zeros: no quota", "blank quota"
NEGATIVE_QUOTA, NEGATIVE_NET_WORTH = "negative quota", "negative net worth"
FLAGS = ("", ZEROS, BLANK, NEGATIVE_QUOTA, NEGATIVE_NET_WORTH, f"{NEGATIVE_QUOTA}, {NEGATIVE_NET_WORTH}")
_SUBCLASS_OR_NONE = "^[A-Za-z0-9]{0,32}$"
_WEIGHTS = np.array([6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2])
_DAYS_OF_A_MONTH = 32
FIGURES = len(METRICS)


class Cleaned(NamedTuple):
    """A month, with the columns of the archive but `seen_at`, and the lines left out or cut short, with the reasons."""

    table: pa.Table
    rejected: list[Rejection]


class Coded(NamedTuple):
    """A column of text: the different texts, sorted, and which of them each row has; -1 where a text is not valid."""

    texts: npt.NDArray[np.str_]
    codes: Numbers

    def column(self) -> pa.DictionaryArray:
        """Return the column as Arrow has it."""
        return pa.DictionaryArray.from_arrays(pa.array(self.codes, pa.int32()), pa.array(self.texts, pa.string()))


def clean_month(lines: Sequence[pa.Table], month: Month) -> Cleaned:
    """Make a month of parsed lines; those of other months are left out without a word.

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
    is_valid = np.ones(table.num_rows, np.bool_)
    for name, column in (("cnpj", cnpj), ("subclass", subclass)):
        bad = np.flatnonzero(is_valid & (column.codes < 0))
        is_valid[bad] = False
        rejected += [
            Rejection(line, f"{name}: {text[:40]!r} is not valid")
            for line, text in zip(_lines(table, bad), table[name].take(pa.array(bad)).to_pylist(), strict=True)
        ]
    key = sort_key(cnpj.codes, subclass.codes, max(1, subclass.texts.size), table["date"])
    has_figures = ~np.all([np.isnan(table[metric].to_numpy()) for metric in METRICS], axis=0)
    rejected += [Rejection(line, "no figures") for line in _lines(table, np.flatnonzero(is_valid & ~has_figures))]
    order = np.flatnonzero(is_valid & has_figures)
    if np.any(key[order][1:] <= key[order][:-1]):
        order = order[np.argsort(key[order], kind="stable")]
        order, told = _each_once(table, key, order)
        rejected += told
    figures = {metric: table[metric].to_numpy()[order] for metric in METRICS}
    lines_kept = table["line"].to_numpy()[order]
    flags = flags_of(figures)
    figures["quota"] = np.where(flags == FLAGS.index(ZEROS), np.nan, figures["quota"])
    rejected += [Rejection(int(lines_kept[row]), FLAGS[flags[row]]) for row in np.flatnonzero(np.isin(flags, (1, 2)))]
    columns = {
        "cnpj": Coded(cnpj.texts, cnpj.codes[order]).column(),
        "subclass": Coded(subclass.texts, subclass.codes[order]).column(),
        "date": table["date"].take(pa.array(order)).cast(pa.timestamp("ms")),
        **{metric: figure_column(metric, values) for metric, values in figures.items()},
        "kind": table["kind"].take(pa.array(order)),
        "flag": flag_column(flags),
    }
    return Cleaned(pa.table(columns), sorted(rejected))


def _of_month(lines: pa.Table, month: Month) -> pa.Table:
    if _lies_within(lines, month.first_day, month.last_day):
        return lines
    first, last = pa.scalar(month.first_day, pa.date32()), pa.scalar(month.last_day, pa.date32())
    return lines.filter(pc.and_(pc.greater_equal(lines["date"], first), pc.less_equal(lines["date"], last)))


def _lies_within(lines: pa.Table, first: dt.date, last: dt.date) -> bool:
    bounds = pc.min_max(lines["date"]).as_py()
    return bounds["min"] is None or (first <= bounds["min"] and bounds["max"] <= last)


def months_of(lines: Sequence[pa.Table]) -> list[Month]:
    """Return the months that parsed lines are of, in order."""
    found: set[int] = set()
    for some in lines:
        days = pc.unique(some["date"]).to_pylist()
        found |= {day.year * 12 + day.month - 1 for day in days}
    return [Month(year, month + 1) for year, month in (divmod(number, 12) for number in sorted(found))]


def _lines(table: pa.Table, rows: Numbers) -> list[int]:
    numbers: list[int] = table["line"].take(pa.array(rows)).to_pylist()
    return numbers


def misplaced(lines: pa.Table, first: dt.date, last: dt.date) -> list[Rejection]:
    """Return the lines of days that the file is not about."""
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
    """Return a column of text as sorted texts and codes, each text normalized; what has no normal form gets -1."""
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
    """Return a number for each row of a month, by which rows sort by series and day."""
    days: Numbers = pc.day(dates).to_numpy()
    return (cnpj * subclasses + subclass) * _DAYS_OF_A_MONTH + days


def valid_cnpjs(texts: npt.NDArray[np.str_]) -> tuple[npt.NDArray[np.str_], Marks]:
    """Return CNPJs as 14 upper-case characters, and which of them are some: what `normalize_cnpj` does, for many.

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
    trimmed = pc.utf8_trim(pa.array(texts, pa.string()), " ")
    fits = pc.match_substring_regex(trimmed, _SUBCLASS_OR_NONE).to_numpy(zero_copy_only=False)
    return np.asarray(trimmed.to_pylist(), dtype=np.str_), fits


def _each_once(table: pa.Table, key: Numbers, order: Numbers) -> tuple[Numbers, list[Rejection]]:
    """Keep one row of those of the same series and day: CLASSES - FIF before others, then the last of the file."""
    keys = key[order]
    begins = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    sizes = np.diff(np.append(begins, keys.size))
    kept = np.ones(keys.size, np.bool_)
    told: list[Rejection] = []
    for begin, size in zip(begins[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        rows = table.take(pa.array(order[begin : begin + size])).to_pylist()
        best = max(range(size), key=lambda row: (rows[row]["kind"] == PREFERRED_KIND, rows[row]["line"]))
        kept[begin : begin + size] = False
        kept[begin + best] = True
        told += _told(rows, best)
    return order[kept], told


def _told(rows: list[dict[str, object]], best: int) -> list[Rejection]:
    """Say of rows of one series and day which was kept, and why."""
    winner = rows[best]
    told = []
    for row in rows:
        if row is winner:
            continue
        if all(row[metric] == winner[metric] for metric in METRICS):
            told.append(Rejection(int(str(row["line"])), f"the same as line {winner['line']}"))
            continue
        by_kind = winner["kind"] == PREFERRED_KIND != row["kind"]
        why = f"{winner['kind']} beats {row['kind'] or 'a row without a kind'}" if by_kind else "the later line counts"
        told.append(Rejection(int(str(row["line"])), f"conflicts with line {winner['line']}: {why}"))
        told.append(Rejection(int(str(winner["line"])), f"kept, but line {row['line']} conflicts with it: {why}"))
    return told


def flags_of(figures: Mapping[str, npt.NDArray[np.float64]]) -> Numbers:
    """Return the number of each row's flag in `FLAGS`."""
    quota, net_worth, holders = (figures[name] for name in ("quota", "net_worth", "holders"))
    zeros = ((quota == 0) & (net_worth != net_worth) | (net_worth == 0) & ~(np.abs(quota) > 0)) & ~(np.abs(holders) > 0)
    flags = np.zeros(quota.size, np.int64)
    flags[quota < 0] = FLAGS.index(NEGATIVE_QUOTA)
    flags[net_worth < 0] = FLAGS.index(NEGATIVE_NET_WORTH)
    flags[(quota < 0) & (net_worth < 0)] = len(FLAGS) - 1
    flags[np.isnan(quota)] = FLAGS.index(BLANK)
    flags[zeros] = FLAGS.index(ZEROS)
    return flags


def flag_column(flags: Numbers) -> pa.DictionaryArray:
    """Return flags as Arrow has them."""
    return pa.DictionaryArray.from_arrays(pa.array(flags, pa.int32()), pa.array(FLAGS))


def figure_column(metric: str, values: npt.NDArray[np.float64]) -> pa.Array:
    """Return the values of a metric in the type of the archive; null where they are NaN."""
    return pa.array(values, pa.float64(), from_pandas=True).cast(SCHEMA.field(metric).type)
