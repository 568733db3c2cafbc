"""Parse lines of a daily report into columns, without I/O: bytes in, a table and rejections out.

pyarrow parses a block of well-formed lines at once. If a block has a malformed line, all of its lines are checked field
by field, so that only bad lines are lost.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from scraperkit.models import ISO_DAY, METRICS
from scraperkit.sources.open_data.layouts import Layout
from scraperkit.timeseries.commands import day_number

_CODED = pa.dictionary(pa.int32(), pa.string())
_TYPES: dict[str, pa.DataType] = {
    "kind": _CODED,
    "cnpj": _CODED,
    "subclass": _CODED,
    "date": pa.date32(),
    **dict.fromkeys(METRICS, pa.float64()),
}
PARSED = pa.schema([*_TYPES.items(), ("line", pa.int64())])
_PARSE = csv.ParseOptions(
    delimiter=";", quote_char=False, double_quote=False, newlines_in_values=False, ignore_empty_lines=False
)
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_BLANKS = " \t"
_LF, _CR, _NUL, _SEMICOLON = b"\n\r\0;"
_MOST_HOLDERS = 2**53
_BYTES_A_THREAD = 1 << 22


class Rejection(NamedTuple):
    """A line that was rejected, whole or in part, and why."""

    line: int
    reason: str


def parse_lines(block: bytes, layout: Layout, first_line: int) -> tuple[pa.Table, list[Rejection]]:
    r"""Parse whole lines, each ending in a line feed.

    Parameters
    ----------
    block : bytes
        Latin-1 text without the header.
    layout : Layout
        From the header.
    first_line : int
        The number of the first of these lines in its file.

    Returns
    -------
    pyarrow.Table
        As `PARSED`: texts unchanged and coded, figures as the float64 nearest to their text, null where blank, and the
        number of each line.
    list of Rejection

    Examples
    --------
    >>> from scraperkit.sources.open_data.layouts import LAYOUTS
    >>> lines = b"00.017.024/0001-53;2018-01-02;1;2.5;;0;0;7\r\nx;2018-13-01;;;;;;\n"
    >>> table, rejected = parse_lines(lines, LAYOUTS[0], 2)
    >>> table["quota"].to_pylist(), table["net_worth"].to_pylist(), rejected
    ([2.5], [None], [Rejection(line=3, reason="date: '2018-13-01' is not a day")])
    """
    lines = block.count(b"\n")
    try:
        table = _read(block, layout, _TYPES)
        if table.num_rows == lines and b"\0" not in block and _is_plain(table):
            return _whole(table, np.arange(first_line, first_line + lines)), []
    except pa.ArrowInvalid:
        pass
    return _parse_carefully(block, layout, first_line)


def _read(block: bytes, layout: Layout, types: dict[str, pa.DataType]) -> pa.Table:
    return csv.read_csv(
        pa.BufferReader(block),
        csv.ReadOptions(column_names=layout.columns, block_size=_BYTES_A_THREAD),
        _PARSE,
        csv.ConvertOptions(
            column_types={name: types[name] for name in layout.columns},
            null_values=[""],
            strings_can_be_null=False,
            check_utf8=True,
        ),
    )


def _is_plain(table: pa.Table) -> bool:
    """Return whether all figures are finite, all days valid, and all holders whole numbers."""
    if table["date"].null_count or pc.min(table["date"].cast(pa.int32())).as_py() < day_number(dt.date.min):
        return False
    for metric in METRICS:
        values = _floats(table[metric])
        if np.isinf(values).any() or np.count_nonzero(np.isnan(values)) != table[metric].null_count:
            return False
    holders = _floats(table["holders"])
    return not _are_broken(holders).any()


def _are_broken(holders: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which numbers of holders are invalid."""
    with np.errstate(invalid="ignore"):
        broken: npt.NDArray[np.bool_] = (holders != np.rint(holders)) & ~np.isnan(holders)
        return broken | (np.abs(holders) > _MOST_HOLDERS)


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = column.to_numpy()
    return values


def _whole(table: pa.Table, lines: npt.NDArray[np.int64]) -> pa.Table:
    """Return the table with the columns of all layouts."""
    blank = pa.DictionaryArray.from_arrays(np.zeros(table.num_rows, np.int32), pa.array([""]))
    columns = {name: table[name] if name in table.column_names else blank for name in _TYPES}
    return pa.table({**columns, "line": pa.array(lines, pa.int64())}, schema=PARSED)


def _parse_carefully(block: bytes, layout: Layout, first_line: int) -> tuple[pa.Table, list[Rejection]]:
    kept, numbers, rejected = _well_formed(block, len(layout.columns), first_line)
    text = kept.decode("latin-1").encode()
    table = _read(text, layout, dict.fromkeys(_TYPES, pa.string())) if numbers.size else _nothing(layout)
    reasons: dict[int, str] = {}
    columns: dict[str, Any] = {}
    for name in reversed(layout.columns):  # of several faults in a line, the first is reported
        texts = table[name].combine_chunks()
        if name in METRICS:
            columns[name], faults = _numbers(name, texts)
        elif name == "date":
            columns[name], faults = _days(texts)
        else:
            columns[name], faults = texts.dictionary_encode(), {}
        reasons.update(faults)
    good = np.ones(numbers.size, np.bool_)
    good[list(reasons)] = False
    rejected += [Rejection(int(numbers[row]), reason) for row, reason in reasons.items()]
    named = pa.table({name: columns[name] for name in layout.columns})
    return _whole(named.filter(pa.array(good)), numbers[good]), sorted(rejected)


def _well_formed(block: bytes, fields: int, first_line: int) -> tuple[bytes, npt.NDArray[np.int64], list[Rejection]]:
    """Return the lines with as many fields as the header, their numbers, and rejections of the others."""
    text = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(text == _LF)
    starts = np.concatenate([[0], ends[:-1] + 1])
    found = _counts(text == _SEMICOLON, starts) + 1
    # A carriage return before the line feed ends the line with it; any other would split it.
    stray = text == _CR
    stray[ends[ends > 0] - 1] = False
    stray |= text == _NUL
    broken = _counts(stray, starts) > 0
    bad = (found != fields) | broken
    rejected = [
        Rejection(
            first_line + row,
            "line: it holds a carriage return or a NUL"
            if broken[row]
            else f"line: {found[row]} fields instead of {fields}",
        )
        for row in np.flatnonzero(bad).tolist()
    ]
    if not rejected:
        return block, np.arange(first_line, first_line + ends.size), []
    kept = b"".join(block[starts[row] : ends[row] + 1] for row in np.flatnonzero(~bad).tolist())
    return kept, np.flatnonzero(~bad) + first_line, rejected


def _counts(marks: npt.NDArray[np.bool_], starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return how many marks each line has."""
    if not starts.size or not marks.size:
        return np.zeros(starts.size, np.int64)
    return np.add.reduceat(marks, starts, dtype=np.int64)


def _nothing(layout: Layout) -> pa.Table:
    return pa.table({name: pa.array([], pa.string()) for name in layout.columns})


def _numbers(name: str, texts: pa.Array) -> tuple[pa.Array, dict[int, str]]:
    trimmed = pc.utf8_trim(texts, _BLANKS)
    is_blank = pc.equal(trimmed, "")
    fits = pc.match_substring_regex(trimmed, _NUMBER)
    plain = pc.utf8_ltrim(pc.if_else(fits, trimmed, None), "+")
    values = plain.cast(pa.float64())
    numbers = values.to_numpy(zero_copy_only=False)
    is_bad = ~(fits.to_numpy(zero_copy_only=False) | is_blank.to_numpy(zero_copy_only=False)) | np.isinf(numbers)
    if name == "holders":
        is_bad |= _are_broken(numbers)
    return values, _faults(name, texts, is_bad, "not a number" if name != "holders" else "not a number of holders")


def _days(texts: pa.Array) -> tuple[pa.Array, dict[int, str]]:
    coded = texts.dictionary_encode()
    days = pa.array([_day(text) for text in coded.dictionary.to_pylist()], pa.date32())
    values = days.take(coded.indices)
    return values, _faults("date", texts, values.is_null().to_numpy(zero_copy_only=False), "not a day")


def _day(text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text) if ISO_DAY.fullmatch(text := text.strip(_BLANKS)) else None
    except ValueError:
        return None


def _faults(name: str, texts: pa.Array, is_bad: npt.NDArray[np.bool_], what: str) -> dict[int, str]:
    rows: Iterable[int] = np.flatnonzero(is_bad).tolist()
    return {row: f"{name}: {texts[row].as_py()[:40]!r} is {what}" for row in rows}
