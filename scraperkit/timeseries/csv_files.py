"""Write frames to CSV files that are safe in spreadsheets, and read them back unchanged."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from scraperkit.cnpj import format_series, normalize_series
from scraperkit.errors import ConfigError
from scraperkit.models import BRAZILIAN_DAY, COLUMNS, ISO_DAY
from scraperkit.text import safe_cell

_DAY = f"^{ISO_DAY.pattern}$"
_MOMENT = rf"^{ISO_DAY.pattern}[ T][0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(\.[0-9]{{1,6}})?(\+00:00|Z)$"
_WHOLE = r"^-?(0|[1-9]\d{0,17})$"
_MOST_NAME_BYTES = 200  # file systems allow 255, and the temporary name is longer
_MOST_PATH_BYTES = 4_000
_CODE = r"^[+-]?0\d"  # a leading zero marks a code, not a number
_GUARDED = re.compile("'[=+@\t\r\n＝＋－＠-]")
# Columns of the kit's frames that hold text, even if it is all digits or empty.
_COLUMNS_OF_TEXT = {name for name, column in COLUMNS.items() if column.dtype == "str"} | {
    *("name", "pk", "status", "month", "metric", "source", "kind", "flag", "state", "problem", "reason", "file")
}


def expanded(path: Path | str, field: str = "path") -> Path:
    """Return a path with ``~`` as the home folder.

    Raises
    ------
    ConfigError
        If the home folder does not exist, or a name is too long for file systems; names `field`.

    Examples
    --------
    >>> expanded("~/prices.csv") == Path.home() / "prices.csv"
    True
    """
    try:
        found = Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(f"{field}: {str(path)[:80]!r}: no such home folder; give the full path") from None
    long = next((part for part in found.parts if len(os.fsencode(part)) > _MOST_NAME_BYTES), None)
    if long is not None:
        size = len(os.fsencode(long))
        raise ConfigError(f"{field}: the name {long[:40]!r}… has {size} bytes; give at most {_MOST_NAME_BYTES}")
    if len(os.fsencode(found)) > _MOST_PATH_BYTES:
        raise ConfigError(f"{field}: the path has {len(os.fsencode(found)):,} bytes; give at most {_MOST_PATH_BYTES:,}")
    return found


# ---------------------------------------------------------------------------- write


def write_csv(frame: pd.DataFrame, path: Path | str | TextIO, *, excel_br: bool = False) -> None:
    """Write a frame as CSV, with cells and headings that spreadsheets do not take for formulas.

    Numbers and dates are written as pandas writes them, and read back the same. An unnamed index of numbers is left
    out.

    Parameters
    ----------
    frame : pandas.DataFrame
        As returned by :meth:`scraperkit.TimeSeriesReader.funds` or ``prices()``, for example.
    path : path, str or text file
        The file; it is replaced.
    excel_br : bool
        Write for Excel set to Portuguese: ``;`` between fields, decimal commas, and a byte order mark. CNPJs are
        punctuated: Excel would turn plain digits into a number and drop leading zeros.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "funds.csv"
    >>> write_csv(pd.DataFrame({"name": ["=1+1"], "days": [-3]}, index=pd.Index(["a"], name="cnpj")), path)
    >>> path.read_text().splitlines()
    ['cnpj,name,days', "a,'=1+1,-3"]
    """
    cell, number = (_excel_cell if excel_br else _safe), _is_nameless_number(frame.index)
    safe = frame.copy(deep=False)
    if any(map(_is_text, frame.dtypes)):
        # Elsewhere, a text that looks like a CNPJ must read back as it is.
        safe = frame.apply(
            lambda column: (
                _mapped(column, cell if column.name == "cnpj" else _safe) if _is_text(column.dtype) else column
            )
        )
    safe.index, safe.columns = _safe_labels(frame.index, cell), _safe_labels(frame.columns, cell)
    if excel_br:
        safe.to_csv(path, index=not number, sep=";", decimal=",", encoding="utf-8-sig")
    else:
        safe.to_csv(path, index=not number)


def _mapped(column: pd.Series[Any], cell: Callable[[Any], Any]) -> pd.Series[Any]:
    return column.map({text: cell(text) for text in column.dropna().unique()}, na_action="ignore")


def _is_nameless_number(index: pd.Index[Any]) -> bool:
    return index.name is None and pd.api.types.is_integer_dtype(index.dtype)


def _safe_labels(labels: pd.Index[Any], cell: Callable[[Any], Any]) -> pd.Index[Any]:
    if isinstance(labels, pd.MultiIndex):
        tuples = labels.map(lambda label: tuple(map(cell, label))) if len(labels) else labels
        return tuples.set_names([_safe(name) for name in labels.names])
    named = labels.map(cell) if len(labels) and _is_text(labels.dtype) else labels
    return named.rename(_safe(labels.name))


def _safe(value: Any) -> Any:
    return safe_cell(value) if isinstance(value, str) else value


def _excel_cell(value: Any) -> Any:
    series = _series_or_none(value)
    return _safe(value) if series is None else format_series(series)


def _series_or_none(text: Any) -> str | None:
    try:
        return normalize_series(text)
    except ConfigError:
        return None


def _is_text(dtype: Any) -> bool:
    if isinstance(dtype, pd.CategoricalDtype):
        dtype = dtype.categories.dtype
    return bool(pd.api.types.is_string_dtype(dtype) or pd.api.types.is_object_dtype(dtype))


# ---------------------------------------------------------------------------- read


def read_csv(path: Path | str) -> pd.DataFrame:
    """Read a file that :func:`scraperkit.export` has written: CSV of either kind, or Parquet; wide or tidy.

    The heading of a CSV file shows which kind it is. Files that Excel has saved again can be read too, unless Excel
    has changed their numbers.

    Parameters
    ----------
    path : path or str

    Returns
    -------
    pandas.DataFrame
        Wide, if the first column is ``date``: index ``date`` (``datetime64[ms]``), a column for each series, named
        ``cnpj``, ``float64``. Otherwise with index 0, 1, 2, ... and the dtypes of :data:`~scraperkit.models.COLUMNS`;
        other columns are text, dates, booleans or numbers, whichever fits all their cells. CNPJs are text of 14
        characters, leading zeros included. An empty cell is NaN, ``<NA>`` or empty text. A Parquet file returns the
        frame as it was, ``attrs`` included.

    Raises
    ------
    ConfigError
        If it is not such a file, or a cell does not fit its column; names file, column and line.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "prices.csv"
    >>> days = pd.DatetimeIndex(["2022-01-03"], name="date")
    >>> write_csv(pd.DataFrame({"00360305000104": [1.5]}, index=days), path, excel_br=True)
    >>> path.read_text(encoding="utf-8-sig").splitlines()
    ['date;00.360.305/0001-04', '2022-01-03;1,5']
    >>> read_csv(path)
    cnpj        00360305000104
    date
    2022-01-03             1.5
    """
    path = expanded(path)
    content = path.read_bytes()
    if content.startswith(b"PAR1"):
        try:
            return pd.read_parquet(path)
        except (pa.ArrowException, ValueError, OSError) as error:
            raise ConfigError(f"{path}: cannot read this Parquet file: {_first_line(error)}") from None
    text, headings, comma = _opened(path, content)
    table = _texts_of(path, text, headings, comma)
    names = [_series_or_none(name) or _unguarded(name) for name in headings]
    is_wide = names[0] == "date"
    has_series = is_wide and any(_series_or_none(name) for name in names[1:])
    columns = {}
    for name, heading, texts in zip(names, headings, table.columns, strict=True):
        cells = _Cells(path, heading, texts, comma)
        columns[name] = cells.numbers() if has_series and name != "date" else cells.as_named(name)
    frame = pd.DataFrame(columns, copy=False)
    if is_wide:
        frame = frame.set_index("date")
        frame.columns = frame.columns.astype("str").rename("cnpj" if has_series else None)
    return frame


def _opened(path: Path, content: bytes) -> tuple[bytes, list[str], bool]:
    """Return the text as UTF-8, its headings, and whether it has decimal commas."""
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        content.decode()
    except UnicodeDecodeError:  # as Excel saves "CSV (separado por vírgulas)"
        content = content.decode("cp1252", errors="replace").encode()
    line = content.partition(b"\n")[0].decode().rstrip("\r")
    bare = re.sub('"[^"]*"', "", line)
    comma = bare.count(";") > bare.count(",")
    try:
        headings = next(csv.reader([line], delimiter=";" if comma else ","), [])
    except csv.Error:  # a carriage return in it, as in what is no text
        headings = []
    if not any(headings):
        raise ConfigError(f"{path}: not a CSV file: its first line has no headings")
    twice = next((name for name, times in Counter(headings).items() if times > 1), None)
    if twice is not None:
        raise ConfigError(f"{path}: two columns are called {twice[:40]!r}; rename one")
    return content, headings, comma


def _texts_of(path: Path, text: bytes, headings: Sequence[str], comma: bool) -> pa.Table:
    try:
        return arrow_csv.read_csv(
            pa.BufferReader(text),
            parse_options=arrow_csv.ParseOptions(delimiter=";" if comma else ",", newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types={name: pa.string() for name in headings}, strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{path}: not a CSV file of one table: {_first_line(error)}") from None


class _Cells(NamedTuple):
    """The cells of a column, as text, and their conversion."""

    path: Path
    heading: str
    texts: pa.ChunkedArray
    comma: bool

    def as_named(self, name: str) -> Any:
        """Return the cells in the dtype of a column of this name; guess it if the name is unknown."""
        if name == "cnpj":
            return self.series()
        if name in _COLUMNS_OF_TEXT:
            return self.text()
        if name == "date":
            return self.days()
        if name in COLUMNS:
            return self.whole_numbers() if COLUMNS[name].dtype == "Int64" else self.numbers()
        return self._guessed()

    def text(self) -> Any:
        found = self.texts.to_pandas().astype("str")
        guarded = {text: _unguarded(text) for text in found.unique() if _GUARDED.match(text)}
        return found.replace(guarded) if guarded else found

    def series(self) -> Any:
        """Return series without punctuation."""
        found = self.texts.to_pandas().astype("str")
        known = {}
        for text in found.unique():
            try:
                known[text] = normalize_series(text) if text else ""
            except ConfigError as error:
                raise self._refused(text, str(error)) from None
        return found.map(known).astype("str")

    def days(self) -> Any:
        texts = (
            pc.replace_substring_regex(self.texts, f"^{BRAZILIAN_DAY.pattern}$", r"\3-\2-\1")
            if self.comma
            else self.texts
        )
        return self._cast(texts, pa.timestamp("ms"), "not a day; write it as 2022-01-31").astype("datetime64[ms]")

    def numbers(self) -> Any:
        return self._cast(self._with_points(), pa.float64(), "not a number").astype("float64")

    def whole_numbers(self) -> Any:
        found = self._cast(self._with_points(), pa.int64(), "not a whole number", as_float=False)
        return pd.array(found, dtype="Int64")

    def _with_points(self) -> pa.ChunkedArray:
        if not self.comma:
            return self.texts
        if pc.any(pc.match_substring(self.texts, ".")).as_py():
            bad = next(text for text in self.texts.to_pylist() if "." in text)
            raise self._refused(bad, "a number with a point, in a file with ; and decimal commas")
        return pc.replace_substring(self.texts, ",", ".", max_replacements=1)

    def _cast(self, texts: pa.ChunkedArray, to: pa.DataType, what: str, *, as_float: bool = True) -> Any:
        known = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
        try:
            found = pc.cast(known, to)
        except pa.ArrowInvalid:
            raise self._refused(_first_bad(known, to), what) from None
        return found.to_pandas() if as_float else found.to_pylist()

    def _guessed(self) -> Any:
        there = self.texts.filter(pc.not_equal(self.texts, ""))
        is_full = len(there) == len(self.texts)
        if not len(there):
            return self.numbers()
        if _all_match(there, _DAY):
            return self.days()
        if _all_match(there, _MOMENT):
            return pd.to_datetime(self.texts.to_pandas(), utc=True, format="ISO8601").astype("datetime64[us, UTC]")
        if is_full and _all_match(there, "^(True|False)$"):
            return self.texts.to_pandas() == "True"
        if pc.any(pc.match_substring_regex(there, _CODE)).as_py() or _are_cnpjs(there):
            return self.text()
        if is_full and _all_match(there, _WHOLE):
            return self._cast(self.texts, pa.int64(), "not a whole number")
        try:
            return self.numbers()
        except ConfigError:
            return self.text()

    def _refused(self, text: str, why: str) -> ConfigError:
        line = 2 + next((row for row, each in enumerate(self.texts.to_pylist()) if each == text), 0)
        told = why if text[:40] in why else f"{text[:40]!r} is {why}"
        return ConfigError(f"{self.path}: column {self.heading[:40]!r}, line {line}: {told}")


def _first_bad(texts: pa.ChunkedArray, to: pa.DataType) -> str:
    for text in texts.to_pylist():
        try:
            pc.cast(pa.scalar(text, pa.string()), to)
        except pa.ArrowInvalid:
            return str(text)
    return ""


def _all_match(texts: pa.ChunkedArray, form: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(texts, form)).as_py())


def _are_cnpjs(texts: pa.ChunkedArray) -> bool:
    return all(len(text) >= 14 and _series_or_none(text) for text in pc.unique(texts).to_pylist())


def _unguarded(text: str) -> str:
    return text[1:] if _GUARDED.match(text) else text


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
