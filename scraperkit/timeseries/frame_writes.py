"""Turn a frame of quotes into packed commands, one chunk of rows at a time; nothing here talks to a server."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic_core import to_json

from scraperkit.cnpj import series_of
from scraperkit.errors import ConfigError, StoreError
from scraperkit.keys import Keys
from scraperkit.models import COLUMNS, METRICS, Stored
from scraperkit.timeseries.commands import (
    DAY_MS,
    EPOCH,
    LENGTHS,
    LIMITS,
    cut_commands,
    day_number,
    for_series,
    pack,
    stamp,
    unfit,
    word,
)
from scraperkit.timeseries.range_replies import Numbers, Values

ROWS_PER_CHUNK = 5_000  # at most 30,000 samples: 3 MB as commands
_FIRST_DAY, _LAST_DAY = day_number(dt.date.min), day_number(dt.date.max)
_DAYS = 10_000_000  # more than any day number


@dataclass(frozen=True, slots=True)
class FrameChunk:
    """Some rows of a frame, checked.

    Attributes
    ----------
    series : list of str
        The series in these rows, as ``CNPJ`` or ``CNPJ:SUBCLASS``, in order of appearance.
    codes, days : numpy.ndarray
        For each row, the position of its series in `series`, and its day since 1970.
    values : numpy.ndarray
        Shape (rows, metrics); NaN where there is no sample.
    """

    series: list[str]
    codes: Numbers
    days: Numbers
    values: Values
    metrics: Sequence[str]

    @property
    def samples(self) -> int:
        """The number of samples in these rows."""
        return int(np.count_nonzero(~np.isnan(self.values)))

    def add_commands(self, keys: Keys) -> list[bytes]:
        """Return the ``TS.MADD`` that write these rows; none mixes funds."""
        row, column = np.nonzero(~np.isnan(self.values))
        codes = self.codes[row]
        if not row.size:
            return []
        makers = [partial(_key_word, keys, metric=metric) for metric in self.metrics]
        distinct, place = np.unique(self.days, return_inverse=True)
        text = to_json(self.values[row, column].tolist())[1:-1]  # as in float_texts
        commas = np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == ord(","))
        lines = np.empty((row.size, 4), dtype=object)  # as sample_lines makes them, without a Python step for each
        lines[:, 0] = _objects([for_series(make, self.series) for make in makers])[column, codes]
        lines[:, 1] = _objects(list(map(stamp, distinct.tolist())))[place[row]]
        lines[:, 2] = _LENGTH_LINES[np.diff(commas, prepend=-1, append=len(text)) - 1]
        lines[:, 3] = text.split(b",")
        ends = np.append(np.flatnonzero(np.diff(codes)) + 1, codes.size)
        return cut_commands(lines.ravel().tolist(), ends.tolist())

    def months(self, with_empty: bool) -> list[Stored]:
        """Return the months of these rows with their number of days with a value; `with_empty` includes 0."""
        found = np.unique(self.codes * _DAYS + _months(self.days))
        given = ~np.isnan(self.values).all(axis=1)
        days = np.unique(self.codes[given] * _DAYS + self.days[given])  # a day may come twice
        of_month = np.searchsorted(found, days // _DAYS * _DAYS + _months(days % _DAYS))
        counts = np.bincount(of_month, minlength=found.size).tolist()
        texts = {month: str(np.datetime64(month, "M")) for month in np.unique(found % _DAYS).tolist()}
        each = zip((found // _DAYS).tolist(), (found % _DAYS).tolist(), counts, strict=True)
        return [Stored.of(self.series[code], texts[month], count) for code, month, count in each if count or with_empty]

    def delete_commands(self, keys: Keys, series: Collection[str]) -> list[bytes]:
        """Return the ``TS.DEL`` that empty each month in which these series have a row."""
        found = np.unique(np.stack([self.codes, _months(self.days)]), axis=1)
        # Consecutive months share one range.
        starts = np.flatnonzero(np.any(np.diff(found, axis=1, prepend=-9) != [[0], [1]], axis=0))
        ends = np.append(starts[1:], found.shape[1]) - 1
        ranges: dict[tuple[int, int], list[str]] = {}
        wanted = set(series)
        for code, first, last in zip(
            found[0, starts].tolist(), found[1, starts].tolist(), found[1, ends].tolist(), strict=True
        ):
            if self.series[code] in wanted:
                ranges.setdefault((first, last), []).append(self.series[code])
        return [
            command
            for months, names in ranges.items()
            for metric in self.metrics
            for command in for_series(partial(_delete_command, keys, metric=metric, months=months), names)
        ]


def checked_metrics(frame: pd.DataFrame) -> list[str]:
    """Return the metrics among the columns of a frame.

    Raises
    ------
    ConfigError
        If ``cnpj``, ``date`` or every metric is missing, or a column name is unknown or repeated.
    """
    if not isinstance(frame, pd.DataFrame):
        raise ConfigError(f"quotes: expected a pandas.DataFrame, got {type(frame).__name__}")
    names = [str(name) for name in frame.columns]
    metrics = [metric for metric in METRICS if metric in names]
    missing = [name for name in ("cnpj", "date") if name not in names] or ([] if metrics else [" or ".join(METRICS)])
    if missing:
        raise ConfigError(f"quotes: the frame has no column {missing[0]}; it needs cnpj, date and at least one metric")
    if unknown := sorted({name for name in names if name not in COLUMNS or names.count(name) > 1}):
        raise ConfigError(f"quotes: unknown or repeated column {unknown[0][:40]!r}; use only {', '.join(COLUMNS)}")
    return metrics


class Survey(NamedTuple):
    """The series and months that a checked frame writes to.

    Attributes
    ----------
    series : list of str
        As ``CNPJ`` or ``CNPJ:SUBCLASS``, each once, in order of appearance.
    months : numpy.ndarray or None
        A number for each row: the same for all rows of one series and month, and ascending with both.
    """

    series: list[str]
    months: Numbers | None


def survey(keys: Keys, frame: pd.DataFrame, metrics: Sequence[str], with_months: bool = False) -> Survey:
    """Check a whole frame; see :func:`frame_chunks`. Months need memory for three numbers a row."""
    months = np.empty(len(frame), dtype=np.int64) if with_months else None
    place: dict[str, int] = {}
    at = 0
    for chunk in frame_chunks(keys, frame, metrics):
        series = np.array([place.setdefault(name, len(place)) for name in chunk.series], dtype=np.int64)
        if months is not None:
            month = _months(chunk.days)
            months[at : at + month.size] = series[chunk.codes] * 1_000_000 + month
            at += month.size
    return Survey(list(place), months)


def frame_chunks(
    keys: Keys, frame: pd.DataFrame, metrics: Sequence[str], months: Numbers | None = None
) -> Iterator[FrameChunk]:
    """Yield the rows of a frame, about 5,000 at a time.

    Parameters
    ----------
    keys : Keys
        For error messages.
    frame : pandas.DataFrame
    metrics : sequence of str
        See :func:`checked_metrics`.
    months : numpy.ndarray, optional
        Those of a :class:`Survey`: keep each series' rows of a month in one chunk, in any order of rows.

    Raises
    ------
    ConfigError
        If a CNPJ or a subclass is invalid.
    StoreError
        If a day or a value cannot be stored; names the series and the day.
    """
    if months is None:
        for start in range(0, len(frame), ROWS_PER_CHUNK):
            yield _checked(keys, frame.iloc[start : start + ROWS_PER_CHUNK], metrics)
        return
    order = np.argsort(months, kind="stable")
    months = months[order]
    start = 0
    while start < len(frame):
        end = min(start + ROWS_PER_CHUNK, len(frame))
        end = int(np.searchsorted(months, months[end - 1], side="right"))
        yield _checked(keys, frame.iloc[order[start:end]], metrics)
        start = end


def _checked(keys: Keys, rows: pd.DataFrame, metrics: Sequence[str]) -> FrameChunk:
    names, codes = _series(rows)

    def series(row: int, metric: str) -> str:
        return keys.series(names[codes[row]], metric)

    days = _days(rows["date"])
    if (unfit_rows := np.flatnonzero((days < 0) | (days > _LAST_DAY))).size:
        row = int(unfit_rows[0])
        name, date = series(row, metrics[0]), rows["date"].iloc[row]
        if not _FIRST_DAY <= days[row] <= _LAST_DAY:
            raise StoreError(f"{name}: {str(date)[:30]!r} is not a day; use datetime.date or datetime64")
        raise unfit(name, EPOCH + dt.timedelta(days=int(days[row])), 0.0)
    values = np.empty((len(rows), len(metrics)))
    for column, metric in enumerate(metrics):
        numbers, bad = _numbers(rows[metric], metric)
        if bad is not None:
            date = EPOCH + dt.timedelta(days=int(days[bad]))
            raise unfit(series(bad, metric), date, rows[metric].iloc[bad])
        values[:, column] = numbers
    return FrameChunk(names, codes.astype(np.int64), days, values, metrics)


def _series(rows: pd.DataFrame) -> tuple[list[str], Numbers]:
    """Return the series in these rows, and for each row the position of its series."""
    codes, found_cnpjs = pd.factorize(rows["cnpj"], use_na_sentinel=False)
    cnpjs, subclasses = found_cnpjs.tolist(), [""]
    if "subclass" in rows:
        of_row, found_subclasses = pd.factorize(rows["subclass"].fillna(""))
        subclasses = found_subclasses.tolist()
        pairs, codes = np.unique(codes * len(subclasses) + of_row, return_inverse=True)
    else:
        pairs = np.arange(len(cnpjs))
    each = [divmod(pair, len(subclasses)) for pair in pairs.tolist()]
    spelled = [series_of(cnpjs[cnpj], subclasses[subclass]) for cnpj, subclass in each]
    found = list(dict.fromkeys(spelled))
    if len(found) < len(spelled):  # the same CNPJ, with and without punctuation
        place = {name: number for number, name in enumerate(found)}
        codes = np.array([place[name] for name in spelled], dtype=np.int64)[codes]
    return found, codes


def _key_word(keys: Keys, series: str, metric: str) -> bytes:
    return word(keys.series(series, metric).encode())


def _delete_command(keys: Keys, series: str, *, metric: str, months: tuple[int, int]) -> bytes:
    """Return the ``TS.DEL`` of a range of months, given as months since 1970, both included."""
    first, last = months
    begin, end = (
        int(np.datetime64(month, "M").astype("datetime64[D]").astype(np.int64)) for month in (first, last + 1)
    )
    return pack(("TS.DEL", keys.series(series, metric), begin * DAY_MS, end * DAY_MS - 1))


def _months(days: Numbers) -> Numbers:
    """Convert days since 1970 to months since 1970."""
    return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def _days(column: pd.Series[Any]) -> Numbers:
    """Return days since 1970; a value that is not a day gets a number far out of range."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_localize(None)
    if pd.api.types.is_datetime64_dtype(column.dtype):
        return column.to_numpy().astype("datetime64[D]").astype(np.int64)
    return np.array([_day(value) for value in column], dtype=np.int64)


def _day(value: Any) -> int:
    try:
        return day_number(value)
    except (AttributeError, TypeError, ValueError):
        return np.iinfo(np.int64).min


def _numbers(column: pd.Series[Any], metric: str) -> tuple[Values, int | None]:
    """Return a column as floats, NaN where empty, and the first row with a value that cannot be stored."""
    is_numeric = pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_complex_dtype(column.dtype)
    present = column.notna().to_numpy()
    if not is_numeric:
        for row in np.flatnonzero(present).tolist():
            try:
                fits = not isinstance(column.iloc[row], str | complex) and bool(np.isfinite(float(column.iloc[row])))
            except (OverflowError, TypeError, ValueError):
                fits = False
            if not fits:
                return np.empty(0), row
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    too_large = np.flatnonzero(np.abs(values) >= LIMITS[metric])
    return values, int(too_large[0]) if too_large.size else None


def _objects(words: Sequence[bytes] | Sequence[Sequence[bytes]]) -> npt.NDArray[np.object_]:
    return np.array(words, dtype=object)


_LENGTH_LINES = _objects(LENGTHS)
