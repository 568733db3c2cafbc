"""Export frames and funds to files, with the provenance of the figures."""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import redis as redis_py
from dateutil.relativedelta import relativedelta

from scraperkit.config import Settings, __version__
from scraperkit.connection import connect
from scraperkit.errors import ConfigError, NothingThere
from scraperkit.models import today
from scraperkit.research.calls import prices, quotes
from scraperkit.research.planning import FILES
from scraperkit.research.provenance import note_archived, note_stored, told_of
from scraperkit.research.wanted import read_wanted
from scraperkit.sources.base import Source
from scraperkit.sources.open_data import OpenData
from scraperkit.timeseries.csv_files import expanded, write_csv
from scraperkit.timeseries.frames import Day, Funds, check_metric
from scraperkit.timeseries.reader import TimeSeriesReader

KEY = b"scraperkit"  # in the metadata of Parquet files


def export(
    data: pd.DataFrame | pd.Series[Any] | Funds | None,
    path: str | Path,
    start: Day | None = None,
    end: Day | None = None,
    metric: str = "quota",
    *,
    excel_br: bool = False,
    source: str | Source | None = None,
    redis: redis_py.Redis | None = None,
) -> Path:
    """Write a frame, or the figures of funds, to a CSV or Parquet file; :func:`read_csv` reads either back.

    The file is written under another name and then renamed, so readers never see a partial file.

    Parameters
    ----------
    data : pandas.DataFrame, pandas.Series, str, Fund, several, or None
        A frame that a call of the kit returned; a Series, such as a rate, which reads back as a frame of one column; or
        funds as for :func:`prices`. ``None`` exports all that is stored, and fetches nothing.
    path : str or pathlib.Path
        Ends in ``.csv`` or ``.parquet``; an existing file is replaced.
    start, end, source, redis
        For funds, as for :func:`prices`. With ``source="open_data"``, or an :class:`OpenData`, figures come from the
        archive on disk: no Redis is needed, and nothing is fetched.
    metric : str
        For funds: one metric for a wide table, a column for each series, or ``"all"`` for a tidy table.
    excel_br : bool
        Write CSV for Excel set to Portuguese: ``;``, decimal commas, a byte order mark, and punctuated CNPJs, since
        Excel would turn plain digits into numbers.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ConfigError
        If an argument is invalid, there is nothing to write, or the file cannot be written; an existing file is kept.
    NotDownloaded, UnknownFund
        If the archive has no data for these days, or for one of the funds.
    RedisUnreachable
        If Redis is unreachable.

    Notes
    -----
    Parquet keeps the whole frame, ``attrs`` included (as JSON). Its metadata has a key ``scraperkit`` with JSON:
    ``units`` by metric or rate, a rate's ``kind``, ``source``, ``licence``, ``fetched_from`` and ``fetched_to``, if
    ``attrs`` has them. CSV keeps only values and headings: no ``attrs``, so no names, and no index of numbers.

    Examples
    --------
    >>> import tempfile
    >>> import scraperkit as sk
    >>> with sk.offline():
    ...     prices = sk.prices("18.993.924/0001-00", "2022-01", "2022-01")
    >>> path = sk.export(prices, tempfile.mkdtemp() + "/prices.csv", excel_br=True)
    >>> print(path.read_text(encoding="utf-8-sig")[:45])
    date;18.993.924/0001-00
    2022-01-03;3,39654813
    >>> sk.read_csv(path).equals(prices)
    True
    """
    checked_path(path, excel_br=excel_br)
    if isinstance(data, pd.DataFrame | pd.Series):
        given = {"start": start, "end": end, "source": source, "redis": redis}
        if extra := [name for name, value in given.items() if value is not None] or ["metric"] * (metric != "quota"):
            raise ConfigError(f"{extra[0]}: applies only to funds; choose rows and columns of a frame before exporting")
        frame = data if isinstance(data, pd.DataFrame) else data.to_frame(data.name or "value")
    else:
        frame = figures_of(data, start, end, metric, source=source, redis=redis)
    if frame.empty:
        lacking = "rows" if frame.shape[1] else "columns"
        raise NothingThere(f"data: nothing to write to {path}: the frame has no {lacking}")
    return write(frame, path, excel_br=excel_br)


# ---------------------------------------------------------------------------- what to write


def figures_of(
    funds: Funds | None,
    start: Day | None = None,
    end: Day | None = None,
    metric: str = "quota",
    *,
    source: str | Source | None = None,
    redis: redis_py.Redis | None = None,
) -> pd.DataFrame:
    """Return the figures of funds, wide, or tidy with all metrics; see :func:`export`."""
    check_metric(metric, "all")
    if source == FILES or isinstance(source, OpenData):
        if redis is not None:
            raise ConfigError("redis: the archive needs none; omit it, or omit source")
        return _archived(funds, start, end, metric, source)
    if funds is None:
        if source is not None:
            raise ConfigError("source: applies only to funds that you name; without funds, nothing is fetched")
        return _stored(start, end, metric, redis)
    if metric == "all":
        return quotes(funds, start, end, source=source, redis=redis)
    return prices(funds, start, end, metric, source=source, redis=redis)


def _archived(
    funds: Funds | None, start: Day | None, end: Day | None, metric: str, source: str | Source | None
) -> pd.DataFrame:
    since = _since(start)
    with contextlib.ExitStack() as stack:
        market = source if isinstance(source, OpenData) else stack.enter_context(OpenData())
        wanted = None
        if funds is not None:
            asked = [
                each if each.series else replace(each, series=_found(market, each.label)) for each in read_wanted(funds)
            ]
            wanted = [each.series for each in asked]
        if metric == "all":
            frame = market.quotes(wanted, since, end)
            note_archived(frame, market, since, end)
        else:
            frame = market.prices(wanted, since, end, metric)
            note_archived(frame, market, since, end, metric)
    return frame


def _found(market: OpenData, name: str) -> str:
    return market.find_fund(name).cnpj


def _stored(start: Day | None, end: Day | None, metric: str, redis: redis_py.Redis | None) -> pd.DataFrame:
    since = _since(start)
    with contextlib.ExitStack() as stack:
        reader = TimeSeriesReader(
            redis if redis is not None else stack.enter_context(connect()), Settings.load().namespace
        )
        if metric == "all":
            frame = reader.quotes(None, since, end)
            note_stored(frame, reader, since, end)
        else:
            frame = reader.prices(None, since, end, metric)
            note_stored(frame, reader, since, end, metric)
    return frame


def _since(start: Day | None) -> Day:
    return today() - relativedelta(months=12) if start is None else start


# ---------------------------------------------------------------------------- write


def checked_path(path: str | Path, field: str = "path", *, excel_br: bool = False) -> Path:
    """Return a path that a table may be written to; refuse any other before any work is done.

    Raises
    ------
    ConfigError
        If its suffix or its folder is unusable; names `field`.
    """
    if not isinstance(path, str | Path):
        raise ConfigError(f"{field}: give text or a Path; got {type(path).__name__}")
    file = expanded(path, field)
    if file.suffix.lower() not in (".csv", ".parquet"):
        is_excel = file.suffix.lower().startswith(".xls")
        hint = "; for Excel, write .csv with excel_br=True or --excel-br" if is_excel else ""
        raise ConfigError(f"{field}: {file.name!r} must end in .csv or .parquet{hint}")
    if excel_br and file.suffix.lower() == ".parquet":
        raise ConfigError(f"excel_br, --excel-br: applies only to CSV; let {field} end in .csv, or leave it out")
    if file.is_dir():
        raise ConfigError(f"{field}: {file} is a folder; give the name of a file in it")
    if not file.parent.is_dir():
        raise ConfigError(f"{field}: no folder {file.parent}; create it first")
    return file


def write(frame: pd.DataFrame, path: str | Path, *, excel_br: bool = False) -> Path:
    """Write a frame in the format of the file's suffix, even if it has no rows.

    Raises
    ------
    ConfigError
        If it cannot be written; an existing file is kept.
    """
    file = checked_path(path, excel_br=excel_br)
    with _replacing(file) as part:
        if file.suffix.lower() == ".csv":
            write_csv(frame, part, excel_br=excel_br)
        else:
            pq.write_table(_table(frame), part, compression="zstd")
    return file


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside a file; the file written there replaces it at the end."""
    target = path.resolve()  # keep a symlink
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        if target.exists():
            shutil.copymode(target, part)
        part.replace(target)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigError(f"path: cannot write {path}: {why}; choose another place, or free some space") from None
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ConfigError(f"data: cannot be written to {path}: {str(error)[:200]}") from None
    finally:
        part.unlink(missing_ok=True)


def _table(frame: pd.DataFrame) -> pa.Table:
    """Return a frame as a Parquet table with its metadata."""
    attrs = json.dumps(frame.attrs, default=str)
    bare = frame.copy(deep=False)
    bare.attrs = {}
    table = pa.Table.from_pandas(bare)
    told = told_of(frame) | {"written_by": f"scraperkit {__version__}"}
    metadata = {**(table.schema.metadata or {}), b"PANDAS_ATTRS": attrs.encode(), KEY: json.dumps(told).encode()}
    return table.replace_schema_metadata(metadata)
