"""Import a zip of daily reports into the archive: all of its months, or none if it is refused."""

from __future__ import annotations

import datetime as dt
import zipfile
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from scraperkit.errors import FileRefused
from scraperkit.models import Month
from scraperkit.sources.open_data.cleaning import clean_month, keys_in, lines_by_month, misplaced
from scraperkit.sources.open_data.folder import REJECTED, Folder
from scraperkit.sources.open_data.layouts import layout_of
from scraperkit.sources.open_data.members import header_and_blocks, opened, texts_of
from scraperkit.sources.open_data.parsing import Rejection, parse_lines
from scraperkit.sources.open_data.revisions import compare, with_unread

_LARGEST_SHARE_REJECTED = 0.5
_TOO_SMALL_A_SHARE = 0.5  # of a month's stored rows; a new file has more
_FEW_ROWS = 20  # a month of fewer may lose more
_MOST_BYTES_KEPT = 1 << 26


class Imported(NamedTuple):
    """The outcome of an import."""

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
    blocks: list[bytes]  # of a short member; a long one is unpacked again for its rejected lines


class _Rejected(NamedTuple):
    """A rejected line, as the archive keeps it."""

    member: str
    line: int
    reason: str
    text: str


class _Staged(NamedTuple):
    generation: int
    rows: int  # including those kept because a line could not be read
    kept: int
    added: int
    changed: int
    repeated: int


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
        Its name on the portal.
    period : tuple of Month
        First and last month that it may contain.
    seen_at : datetime.datetime
        When it was fetched: aware.
    skipped : collection of str
        Months, ``YYYY-MM``, that are checked with the others but not stored.

    Raises
    ------
    FileRefused
        If it is unexpected, or has lost half of a stored month; the archive is unchanged.
    """
    staged: dict[Month, _Staged] = {}
    rejected: defaultdict[Month | None, list[_Rejected]] = defaultdict(list)
    layouts: set[str] = set()
    read = 0
    with opened(path) as archive:
        members = archive.namelist()
        for member in members:
            lines = _parse(archive, member)
            layouts.add(lines.layout)
            read += lines.read
            found = lines_by_month(lines.tables)
            months = [month for month in sorted(found) if period[0] <= month <= period[1]]
            first, last = period
            if months and len(members) > 1:  # each has one month: that of most of its lines
                first = last = max(months, key=found.__getitem__)
                months = [first]
            if twice := set(months) & set(staged):
                raise FileRefused(f"two members of the zip have lines of {min(twice).iso}")
            texts = _Texts(archive, member, lines.blocks)
            outside = [line for some in lines.tables for line in misplaced(some, first.first_day, last.last_day)]
            unread = keys_in(list(texts.of(lines.rejected).values()))
            # Such a line may stand for any day of the month.
            unread += [(cnpj, "") for cnpj, _ in keys_in(list(texts.of(outside).values()))]
            others = [*lines.rejected, *outside]
            for month in months:
                staged[month], of_month = _stage(folder, stage, month, lines.tables, unread, seen_at)
                rejected[month] += texts.lines(of_month)
            # Lines of no month are reported with the first month that stays.
            rejected[next((month for month in months if month.iso not in skipped), None)] += texts.lines(others)
    kept, repeated = (sum(getattr(each, name) for each in staged.values()) for name in ("kept", "repeated"))
    if read and (not kept or (read - kept - repeated) > _LARGEST_SHARE_REJECTED * read):
        raise FileRefused(f"only {kept + repeated:,} of its {read:,} lines can be used")
    staged = {month: each for month, each in staged.items() if month.iso not in skipped}
    for month in folder.months():
        if period[0] <= month <= period[1]:
            _refuse_shrunk(folder, month, staged[month].rows if month in staged else 0)
    if staged:
        rejected[min(staged)] += rejected.pop(None, [])
    for month, done in staged.items():
        _stage_rejected(folder, stage, month, done.generation, file, rejected[month])
        folder.commit_month(stage, month, done.generation)
    return Imported(
        "+".join(sorted(layouts)),
        tuple(month.iso for month in sorted(staged)),
        read,
        sum(each.kept for each in staged.values()),
        sum(len(rejected[month]) for month in staged),
        sum(each.added for each in staged.values()),
        sum(each.changed for each in staged.values()),
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
        table, bad = parse_lines(block, layout, line)
        tables.append(table)
        rejected += bad
        line += table.num_rows + len(bad)
        if keeps:
            kept.append(block)
    return _Lines(layout.name, tables, rejected, line - 2, kept)


class _Texts:
    """Finds the texts of a member's lines."""

    def __init__(self, archive: zipfile.ZipFile, member: str, blocks: list[bytes]) -> None:
        self._archive = archive
        self._member = member
        self._blocks = blocks

    def of(self, rejected: Sequence[Rejection]) -> dict[int, str]:
        if not rejected:
            return {}
        blocks = self._blocks or header_and_blocks(self._archive, self._member)[1]
        return texts_of(blocks, {each.line for each in rejected})

    def lines(self, rejected: Sequence[Rejection]) -> list[_Rejected]:
        texts = self.of(rejected)
        return [_Rejected(self._member, line, reason, texts[line]) for line, reason in rejected]


def _stage(
    folder: Folder,
    stage: Path,
    month: Month,
    lines: Sequence[pa.Table],
    unread: Sequence[tuple[str, str]],
    seen_at: dt.datetime,
) -> tuple[_Staged, list[Rejection]]:
    cleaned = clean_month(lines, month)
    table = cleaned.table
    with folder.month(month) as stored:
        generation = stored.generation if stored else 0
        before = stored.file.read() if stored else None
        if before is not None:
            table = with_unread(before, table, {*unread, *cleaned.unread})
        compared = compare(before, table, seen_at)
    if not compared.is_same:
        generation += 1
        folder.stage_month(stage, month, generation, compared.table, compared.changes)
    kept = cleaned.table.num_rows
    done = _Staged(generation, table.num_rows, kept, compared.added, compared.changes.num_rows, cleaned.repeated)
    return done, cleaned.rejected


def _refuse_shrunk(folder: Folder, month: Month, now: int) -> None:
    """Refuse a file that has lost half of a month: it is truncated or a different file; CVM never withdraws so much."""
    with folder.month(month) as stored:
        before = stored.rows if stored else 0
    if not now or (before >= _FEW_ROWS and now <= _TOO_SMALL_A_SHARE * before):
        raise FileRefused(
            f"it has {now:,} rows of {month.iso}, but {before:,} are stored; if that is right, delete "
            f"{folder.quotes / month.iso}.parquet, and download it again"
        )


def _stage_rejected(
    folder: Folder, stage: Path, month: Month, generation: int, file: str, rejected: Sequence[_Rejected]
) -> None:
    ordered = sorted(rejected)
    columns = {
        name: pa.array([getattr(each, name) for each in ordered], REJECTED.field(name).type)
        for name in _Rejected._fields
    }
    table = pa.table({"file": pa.repeat(pa.scalar(file), len(ordered)), **columns}, schema=REJECTED)
    if not folder.rejected(month, generation).equals(table):
        folder.stage_rejected(stage, month, table)
