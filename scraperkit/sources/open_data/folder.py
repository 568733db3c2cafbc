"""The archive's folder: a Parquet file for each month, beside it what changed, what was rejected, and the ledger.

A month is written into `staging/` and becomes visible by one rename of its file in `quotes/`. The file holds its
generation number; changes and rejections of a later generation were left by a killed process, and are ignored.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scraperkit.embedded.state import lock, open_lock, unlock
from scraperkit.errors import ArchiveError
from scraperkit.models import Month
from scraperkit.sources.open_data.layouts import SCHEMA, TEXTS
from scraperkit.sources.open_data.revisions import CHANGES

REJECTED = pa.schema(
    [
        ("file", pa.string()),
        ("member", pa.string()),
        ("line", pa.int64()),
        ("reason", pa.string()),
        ("text", pa.string()),
    ]
)
_GENERATION = b"scraperkit.generation"
_ROWS_PER_GROUP = 1 << 16


@dataclass(frozen=True, slots=True)
class Entry:
    """The ledger's entry for a file; times in ISO 8601, UTC."""

    file: str
    url: str
    etag: str = ""
    last_modified: str = ""
    sha256: str = ""
    bytes: int = 0
    fetched_at: str = ""
    confirmed_at: str = ""  # when the portal last sent it, or confirmed it unchanged
    checked_at: str = ""
    layout: str = ""
    rows_read: int = 0
    kept: int = 0
    rejected: int = 0
    months: tuple[str, ...] = ()  # in the archive
    pruned: tuple[str, ...] = ()  # deleted; they come back only if a call names them
    outcome: str = ""
    reason: str = ""

    def without(self, month: Month) -> Entry:
        """Return the entry after a month of the file was pruned."""
        months = tuple(each for each in self.months if each != month.iso)
        return replace(self, months=months, pruned=tuple(sorted({*self.pruned, month.iso})))


@dataclass(frozen=True, slots=True)
class StoredMonth:
    """A month of the archive, open for reading; it stays readable even if a newer generation replaces it."""

    month: Month
    source: pa.NativeFile
    file: pq.ParquetFile

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.file.metadata.num_rows)

    @property
    def generation(self) -> int:
        """How often the month's content has been new."""
        return int(self.file.metadata.metadata[_GENERATION])


class Folder:
    """Paths of the archive; reads and writes its files.

    Parameters
    ----------
    path : pathlib.Path
        Created on the first write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.quotes = path / "quotes"
        self.registry = path / "registry"
        self._changes = path / "changes"
        self._rejected = path / "rejected"
        self._ledger = path / "ledger"
        self._staging = path / "staging"

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Lock a file of the portal against other processes, and yield an empty staging folder for it.

        Raises
        ------
        ArchiveError
            If the disk is full, or the folder cannot be written.
        """
        with self.explained():
            for folder in (self.quotes, self.registry, self._changes, self._rejected, self._ledger, self._staging):
                folder.mkdir(parents=True, exist_ok=True)
            descriptor = open_lock(self._staging / f"{name}.lock")
            try:
                while not lock(descriptor, 3600.0):
                    pass
                stage = self._staging / name
                shutil.rmtree(stage, ignore_errors=True)  # left by a killed process
                stage.mkdir()
                try:
                    yield stage
                finally:
                    shutil.rmtree(stage, ignore_errors=True)
            finally:
                unlock(descriptor)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn disk errors into one that says what to do."""
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
            why = "its disk is full" if full else (error.strerror or str(error))
            way_out = "free some space" if full else "make it writable"
            raise ArchiveError(
                f"archive {self.path}: {why}; {way_out}, or choose another folder (SCRAPERKIT_ARCHIVE). "
                "Stored data is intact"
            ) from error

    def months(self) -> list[Month]:
        """Return the months that the archive has, in order."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return sorted(month for path in self.quotes.iterdir() if (month := _month_of(path)) is not None)
        return []

    @contextlib.contextmanager
    def month(self, month: Month) -> Iterator[StoredMonth | None]:
        """Open a month; ``None`` if the archive lacks it.

        Raises
        ------
        ArchiveError
            If its file is not Parquet, or not the kit's.
        """
        try:
            source = pa.memory_map(str(self._month_path(month)))
        except FileNotFoundError:
            yield None
            return
        damaged = ArchiveError(
            f"archive {self._month_path(month)}: not a month of the archive; delete it, and download it again"
        )
        with source:
            try:
                stored = StoredMonth(month, source, pq.ParquetFile(source, read_dictionary=list(TEXTS)))
                _ = stored.generation
            except (pa.ArrowInvalid, KeyError, TypeError, ValueError):
                raise damaged from None
            try:
                yield stored
            except OSError as error:
                raise (error if _is_of_the_disk(error) else damaged) from None

    def stamp(self, month: Month) -> object:
        """Return a value that changes with the month's file; ``None`` if there is none."""
        with contextlib.suppress(FileNotFoundError):
            found = self._month_path(month).stat()
            return found.st_ino, found.st_mtime_ns
        return None

    def stage_month(self, stage: Path, month: Month, generation: int, table: pa.Table, changes: pa.Table) -> None:
        """Write a new generation of a month into the staging folder."""
        _write(table.select(SCHEMA.names), stage / f"{month.iso}.quotes", {_GENERATION: str(generation).encode()})
        if changes.num_rows:
            _write(changes, stage / f"{month.iso}.changes")

    def stage_rejected(self, stage: Path, month: Month, rejected: pa.Table) -> None:
        """Write a month's rejected lines into the staging folder."""
        _write(rejected, stage / f"{month.iso}.rejected")

    def commit_month(self, stage: Path, month: Month, generation: int) -> None:
        """Publish the staged month: a new generation, or new rejections of the current one."""
        for kind, folder in (("changes", self._changes), ("rejected", self._rejected)):
            target = folder / f"{month.iso}.{generation:06d}.parquet"
            staged = stage / f"{month.iso}.{kind}"
            if staged.exists():
                staged.replace(target)
            elif kind == "changes" and (stage / f"{month.iso}.quotes").exists():
                target.unlink(missing_ok=True)  # left by a process killed before the next step
            _sync(folder)
        with contextlib.suppress(FileNotFoundError):
            (stage / f"{month.iso}.quotes").replace(self._month_path(month))
            _sync(self.quotes)
        for path in self._rejected.glob(f"{month.iso}.*.parquet"):
            if _generation_of(path) < generation:
                path.unlink(missing_ok=True)

    def changes(self, month: Month, generation: int) -> pa.Table:
        """Return every change of a month up to a generation, the oldest first."""
        paths = sorted(self._changes.glob(f"{month.iso}.*.parquet"))
        return _read([path for path in paths if _generation_of(path) <= generation], CHANGES)

    def rejected(self, month: Month, generation: int) -> pa.Table:
        """Return the rejected lines of a generation of a month."""
        path = self._rejected / f"{month.iso}.{generation:06d}.parquet"
        return _read([path] if path.exists() else [], REJECTED)

    def delete_month(self, month: Month) -> int:
        """Delete a month with its changes and rejections; return the number of bytes freed."""
        paths = [self._month_path(month)]
        paths += [path for folder in (self._changes, self._rejected) for path in folder.glob(f"{month.iso}.*.parquet")]
        return delete(paths)

    def entry(self, file: str) -> Entry | None:
        """Return the ledger's entry for a file of the portal."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return _entry(self._ledger / f"{file}.json")
        return None

    def entries(self) -> list[Entry]:
        """Return the whole ledger, sorted by file."""
        return [_entry(path) for path in sorted(self._ledger.glob("*.json"))]

    def note(self, entry: Entry) -> None:
        """Write an entry of the ledger."""
        fresh = self._staging / f"{entry.file}.json"
        write_whole(fresh, json.dumps(asdict(entry), indent=1).encode())
        fresh.replace(self._ledger / f"{entry.file}.json")

    def forget(self, file: str) -> None:
        """Delete an entry of the ledger."""
        (self._ledger / f"{file}.json").unlink(missing_ok=True)

    def size(self) -> int:
        """Return how many bytes the archive takes."""
        return sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())

    def _month_path(self, month: Month) -> Path:
        return self.quotes / f"{month.iso}.parquet"


def _month_of(path: Path) -> Month | None:
    """Return the month of a file of quotes; ``None`` for any other file."""
    with contextlib.suppress(ValueError):
        month = Month.parse_iso(path.stem)
        return month if path.name == f"{month.iso}.parquet" else None
    return None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, and flush it to disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def delete(paths: Sequence[Path]) -> int:
    """Delete files that may be gone already; return the number of bytes freed."""
    freed = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            size = path.stat().st_size
            path.unlink()
            freed += size
    return freed


def _write(table: pa.Table, path: Path, metadata: dict[bytes, bytes] | None = None) -> None:
    coded = [field.name for field in table.schema if not pa.types.is_floating(field.type)]
    with path.open("wb") as file:
        # Texts are coded in memory only for speed; that schema is not stored, so readers see texts.
        with pq.ParquetWriter(
            file, table.schema, compression="zstd", use_dictionary=coded, store_schema=False
        ) as writer:
            writer.add_key_value_metadata(metadata or {})
            writer.write_table(table, _ROWS_PER_GROUP)
        file.flush()
        os.fsync(file.fileno())


def read_parquet(path: Path, schema: pa.Schema | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a file of the archive.

    Raises
    ------
    ArchiveError
        If it is not Parquet, or not the kit's.
    """
    try:
        table = pq.ParquetFile(path).read(columns=columns)
        return table if schema is None else table.cast(schema)
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:
        if _is_of_the_disk(error):
            raise
        raise ArchiveError(f"archive {path}: not a file of the archive; delete it") from None


def _is_of_the_disk(error: Exception) -> bool:
    """Return whether it is more than data that cannot be unpacked, for which pyarrow raises an OSError, too."""
    return isinstance(error, OSError) and error.errno is not None


def _read(paths: Sequence[Path], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables([schema.empty_table(), *(read_parquet(path, schema) for path in paths)])


def _generation_of(path: Path) -> int:
    number = path.name.split(".")[1]
    if not number.isdecimal():
        raise ArchiveError(f"archive {path}: not a file of the archive; delete it")
    return int(number)


def _entry(path: Path) -> Entry:
    try:
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Entry(**{**known, "months": tuple(known["months"]), "pruned": tuple(known.get("pruned", ()))})
    except (ValueError, TypeError, KeyError):
        raise ArchiveError(
            f"archive {path}: not an entry of the ledger; delete it, and download its file again"
        ) from None


def _sync(folder: Path) -> None:
    """Flush renames in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
