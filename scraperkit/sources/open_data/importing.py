"""From a zip of daily reports to months of the archive: all of its months, or, if it is refused, none."""

from __future__ import annotations

import datetime as dt
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from scraperkit.errors import FileRefused
from scraperkit.models import Month
from scraperkit.sources.open_data.cleaning import clean_month, misplaced, months_of
from scraperkit.sources.open_data.folder import REJECTED, Folder
from scraperkit.sources.open_data.layouts import layout_of
from scraperkit.sources.open_data.members import header_and_blocks, opened, texts_of
from scraperkit.sources.open_data.parsing import Rejection, parse_lines
from scraperkit.sources.open_data.revisions import compare

_LARGEST_SHARE_REJECTED = 0.5
_MOST_BYTES_KEPT = 1 << 26


class Imported(NamedTuple):
    """What came of a file."""

    layout: str
    months: tuple[str, ...]
    rows_read: int
    kept: int
    rejected: int
    added: int
    changed: int


class _Lines(NamedTuple):
    layout: str
    tables: list[pa.Table]
    rejected: list[Rejection]
    read: int
    blocks: list[bytes]  # of a short member; a long one is unpacked once more for the texts that were rejected


class _Staged(NamedTuple):
    month: Month
    generation: int
    rejected: list[Rejection]
    kept: int
    added: int
    changed: int


def import_zip(
    folder: Folder,
    stage: Path,
    path: Path,
    file: str,
    period: tuple[Month, Month],
    seen_at: dt.datetime,
    skipped: Collection[str] = (),
) -> Imported:
    """Compare a file's months with those stored, and replace what differs.

    Parameters
    ----------
    folder : Folder
    stage : pathlib.Path
        From :meth:`Folder.writing`.
    path : pathlib.Path
        The zip.
    file : str
        Its name at the portal.
    period : tuple of Month
        First and last month that it may hold.
    seen_at : datetime.datetime
        When it was fetched: aware.
    skipped : collection of str
        Months, ``YYYY-MM``, that are checked with the others but not stored.

    Raises
    ------
    FileRefused
        If it is not as known; the archive stays as it was.
    """
    staged: dict[Month, _Staged] = {}
    rejected = 0
    layouts: list[str] = []
    read = 0
    with opened(path) as archive:
        for member in archive.namelist():
            lines = _parse(archive, member)
            layouts.append(lines.layout)
            read += lines.read
            outside = [
                told for some in lines.tables for told in misplaced(some, period[0].first_day, period[1].last_day)
            ]
            months = [month for month in months_of(lines.tables) if period[0] <= month <= period[1]]
            if twice := set(months) & set(staged):
                raise FileRefused(f"two members of the zip have lines of {min(twice).iso}")
            here = {month: _stage(folder, stage, month, lines.tables, seen_at) for month in months}
            if months:  # what is of no month is told of with the first
                here[months[0]].rejected.extend([*lines.rejected, *outside])
            blocks = lines.blocks or header_and_blocks(archive, member)[1]
            texts = texts_of(blocks, {told.line for each in here.values() for told in each.rejected})
            for each in here.values():
                _stage_rejected(folder, stage, each, file, member, texts)
                rejected += len(each.rejected)
            staged |= here
    usable = sum(month.kept for month in staged.values())
    if not usable or (read - usable) > _LARGEST_SHARE_REJECTED * read:
        raise FileRefused(f"of its {read:,} lines only {usable:,} can be used")
    staged = {month: each for month, each in staged.items() if month.iso not in skipped}
    for each in staged.values():
        folder.commit_month(stage, each.month, each.generation)
    return Imported(
        "+".join(sorted(set(layouts))),
        tuple(month.iso for month in sorted(staged)),
        read,
        sum(month.kept for month in staged.values()),
        rejected,
        sum(month.added for month in staged.values()),
        sum(month.changed for month in staged.values()),
    )


def _parse(archive: zipfile.ZipFile, member: str) -> _Lines:
    header, blocks = header_and_blocks(archive, member)
    layout = layout_of(header)
    tables: list[pa.Table] = []
    rejected: list[Rejection] = []
    kept: list[bytes] = []
    keeps = archive.getinfo(member).file_size <= _MOST_BYTES_KEPT
    line = 2
    for block in blocks:
        table, told = parse_lines(block, layout, line)
        tables.append(table)
        rejected += told
        line += table.num_rows + len(told)
        if keeps:
            kept.append(block)
    return _Lines(layout.name, tables, rejected, line - 2, kept)


def _stage(folder: Folder, stage: Path, month: Month, lines: Sequence[pa.Table], seen_at: dt.datetime) -> _Staged:
    cleaned = clean_month(lines, month)
    with folder.month(month) as stored:
        generation = stored.generation if stored else 0
        compared = compare(stored.file.read() if stored else None, cleaned.table, seen_at)
    if not compared.is_same:
        generation += 1
        folder.stage_month(stage, month, generation, compared.table, compared.changes)
    kept, changed = cleaned.table.num_rows, compared.changes.num_rows
    return _Staged(month, generation, cleaned.rejected, kept, compared.added, changed)


def _stage_rejected(
    folder: Folder, stage: Path, staged: _Staged, file: str, member: str, texts: Mapping[int, str]
) -> None:
    rejected = sorted(staged.rejected)
    columns = {
        "file": pa.repeat(pa.scalar(file), len(rejected)),
        "member": pa.repeat(pa.scalar(member), len(rejected)),
        "line": pa.array([told.line for told in rejected], pa.int64()),
        "reason": pa.array([told.reason for told in rejected], pa.string()),
        "text": pa.array([texts[told.line] for told in rejected], pa.string()),
    }
    table = pa.table(columns, schema=REJECTED)
    if not folder.rejected(staged.month, staged.generation).equals(table):
        folder.stage_rejected(stage, staged.month, table)
