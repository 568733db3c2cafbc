"""Dated copies of the registry: fetched, kept in the archive, and loaded for searches."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scraperkit.errors import ArchiveError, FileRefused, FundNotFound, NotDownloaded, SourceError, warn
from scraperkit.models import ISO_DAY, Fund, Month, today
from scraperkit.sources.base import Hit, Hits, not_one_fund
from scraperkit.sources.http import without_credentials
from scraperkit.sources.open_data.cleaning import coded
from scraperkit.sources.open_data.downloads import (
    DOWNLOAD_PATIENCE,
    Downloader,
    Outcome,
    download,
    response_without_file,
    told,
)
from scraperkit.sources.open_data.folder import Entry, delete, read_parquet, write_whole
from scraperkit.sources.open_data.members import opened, whole_member
from scraperkit.sources.open_data.portal_files import (
    AT_ONCE,
    EACH_DAY,
    EACH_HOUR,
    EACH_MONTH,
    OLD_REGISTRY_PATH,
    REGISTRY_PATH,
    is_over,
)
from scraperkit.sources.open_data.registry import RegistrySearch, joined, parse_old_registry, parse_registry
from scraperkit.sources.open_data.revisions import figures

_PATHS = {"registry": (REGISTRY_PATH, EACH_DAY), "cad_fi": (OLD_REGISTRY_PATH, EACH_MONTH)}
_LONGEST_REGISTRY = 200_000_000  # unzipped; today's has about 60 MB
_NOTHING = ("missing", "refused")
_TOLD = ["name", "kind", "status", "started_on"]
_LEAST_SHARE_LEFT = 0.9  # of its classes and of its subclasses: ended ones stay in it


class Snapshots:
    """Dated copies of the registry in the archive.

    Parameters
    ----------
    downloader : Downloader
        Fetches them into its archive.
    """

    def __init__(self, downloader: Downloader) -> None:
        self._downloader = downloader
        self._folder = downloader.folder
        self._loaded: tuple[tuple[Path, ...], RegistrySearch] | None = None
        self._counted: object = None
        self._loading = threading.Lock()  # it takes a second: one thread loads, the others wait
        self._named: tuple[tuple[Path, ...], list[pa.Table]] | None = None

    def update(self, if_refused: dt.timedelta = AT_ONCE) -> list[Outcome]:
        """Fetch the registry if it was not requested today, and cad_fi if not this month.

        `if_refused` is the pause before a refused file is requested again.
        """
        with self._downloader.politeness.patient(DOWNLOAD_PATIENCE):
            return [self._update(kind, if_refused) for kind in _PATHS]

    def search(self) -> RegistrySearch:
        """Return a search of the newest registry, which is fetched first if it is old.

        Raises
        ------
        SourceError
            If there is none, and it cannot be fetched.
        """
        has_some = bool(self.days("registry"))
        try:
            # No search waits for a portal that was down a minute ago.
            outcomes = self.update(EACH_HOUR if has_some else AT_ONCE)
        except ArchiveError:  # read-only here: others write it
            if not has_some:
                raise
            outcomes = []
        reasons = [f"{each.file}: {each.reason}" for each in outcomes if each.outcome in _NOTHING]
        if reasons and not self.days("registry"):
            raise FileRefused(f"there is no registry to search: {'; '.join(reasons)}")
        if reasons:
            text = f"searching the registry of {self.days('registry')[-1]}: {'; '.join(reasons)}"
            warn(text)
        search = self.stored()
        newest = self._folder.months()[-2:]
        if self._counted != (stamps := [(month, self._folder.stamp(month)) for month in newest]):
            search.frame = search.frame.assign(
                holders=self._holders(newest).reindex(search.frame.index).astype("Int64")
            )
            self._counted = stamps
        return search

    def stored(self) -> RegistrySearch:
        """Return a search of the newest registry in the archive; fetch nothing.

        Raises
        ------
        NotDownloaded
            If it has none.
        """
        paths = tuple(path for kind in _PATHS for path in self._paths(kind)[-1:])
        if not self.days("registry"):
            raise NotDownloaded(f"archive {self._folder.path}: it has no registry: call update_registry() first")
        with self._loading:
            if self._loaded is None or self._loaded[0] != paths:
                self._loaded = (paths, self._load(paths))
                self._counted = None
            return self._loaded[1]

    def hits(self, text: str, count: int) -> Hits:
        """Return what the registry in the archive finds; see :meth:`OpenData.search`."""
        search = self.stored()
        found, number = search.ranked(text, count)
        hits = [
            Hit(series, name, kind, status, _day_of(started_on))
            for series, name, kind, status, started_on in found[_TOLD].itertuples(name=None)
        ]
        return Hits(hits, number, dt.date.fromisoformat(self.days("registry")[-1][:10]))

    def find_fund(self, text: str, source: str) -> Fund:
        """Return the one fund that a text means; see :meth:`OpenData.find_fund`."""
        search = self.search()
        found = search.the_one(text)
        if found is None:
            raise FundNotFound(not_one_fund(text, *search.nearest(text)), without_credentials(self._downloader.url))
        name, _, status, started_on = search.frame.loc[[found], _TOLD].to_numpy()[0]
        series = found if ":" in text else found.partition(":")[0]
        return Fund(series, name=name, status=status, started_on=_day_of(started_on), source=source)

    def names(self, series: Sequence[str]) -> dict[str, str]:
        """Return the names of some series in the archive's newest registry; fetch nothing."""
        paths = tuple(path for kind in reversed(_PATHS) for path in self._paths(kind)[-1:])
        found: dict[str, str] = {}
        # Names are optional: a registry that is pruned meanwhile, or damaged, must not fail a read.
        with contextlib.suppress(OSError, pa.ArrowException):
            if self._named is None or self._named[0] != paths:
                self._named = paths, [pq.ParquetFile(path).read(columns=["series", "name"]) for path in paths]
            wanted = [*series, *(name.partition(":")[0] for name in series)]
            for table in self._named[1]:
                known = table.filter(pc.is_in(table["series"], pa.array(wanted, table["series"].type)))
                found |= dict(zip(known["series"].to_pylist(), known["name"].to_pylist(), strict=True))
        # A subclass without a name uses that of its class.
        each = {name: found.get(name) or found.get(name.partition(":")[0], "") for name in series}
        return {name: text for name, text in each.items() if text}

    def days(self, kind: str) -> list[str]:
        """Return the days that have a snapshot, the oldest first; `kind` is ``registry`` or ``cad_fi``."""
        return [path.stem.removeprefix(f"{kind}-") for path in self._paths(kind)]

    def prune(self) -> int:
        """Delete all snapshots but the newest; return the number of bytes freed."""
        return sum(delete(self._paths(kind)[:-1]) for kind in _PATHS)

    def _paths(self, kind: str) -> list[Path]:
        name = re.compile(rf"{kind}-{ISO_DAY.pattern}(\.[0-9]{{2}})?")
        paths = (path for path in self._folder.registry.glob("*.parquet") if name.fullmatch(path.stem))
        return sorted(paths, key=lambda path: path.stem)

    def _fresh_path(self, kind: str, day: dt.date) -> Path:
        """Return the path of a new snapshot, numbered if the day has others."""
        others = sum(path.stem.startswith(f"{kind}-{day}") for path in self._paths(kind))
        return self._folder.registry / (f"{kind}-{day}.{others + 1:02d}.parquet" if others else f"{kind}-{day}.parquet")

    def _update(self, kind: str, if_refused: dt.timedelta) -> Outcome:
        path, pause = _PATHS[kind]
        name = path.rpartition("/")[2]
        now = dt.datetime.now(dt.UTC)
        entry = self._folder.entry(name)
        days = self.days(kind)
        if entry is not None and not is_over(pause, entry, now, if_refused) and (days or entry.outcome in _NOTHING):
            return told(entry, is_news=False)
        with self._folder.writing(name) as stage:
            entry = entry or Entry(name, urljoin(self._downloader.url, path))
            try:
                entry = self._fetch(kind, entry, stage, now, bool(days))
            except SourceError as error:
                entry = replace(entry, outcome="refused", reason=str(error))
            self._folder.note(replace(entry, checked_at=now.isoformat()))
        return told(entry)

    def _fetch(self, kind: str, entry: Entry, stage: Path, now: dt.datetime, has_some: bool) -> Entry:
        url = urljoin(self._downloader.url, _PATHS[kind][0])
        part = stage / f"{entry.file}.part"
        known = entry if has_some and entry.url == url else None
        http, politeness = self._downloader.http, self._downloader.politeness
        got, sha256 = download(http, politeness, self._folder, url, part, known)
        if (without := response_without_file(got, known, entry)) is not None:
            return without
        if known and sha256 == known.sha256:
            return replace(entry, outcome="unchanged", reason="")
        stored = next((read_parquet(path) for path in self._paths(kind)[-1:]), None)
        try:
            frame = _PARSERS[kind](part)
            _refuse_shrunk(frame, stored)
        except FileRefused as error:
            raise FileRefused(str(error), url) from None
        table = pa.Table.from_pandas(frame.reset_index(), preserve_index=False)
        is_new = stored is None or not table.equals(stored)
        if is_new:
            fresh = stage / "registry.parquet"
            pq.write_table(table, fresh, compression="zstd")
            write_whole(stage / "synced", b"")
            fresh.replace(self._fresh_path(kind, today()))
        return replace(
            entry,
            url=url,
            etag=got.headers.get("ETag", ""),
            last_modified=got.headers.get("Last-Modified", ""),
            sha256=sha256,
            bytes=part.stat().st_size,
            fetched_at=now.isoformat(),
            kept=len(frame),
            outcome=("changed" if has_some else "new") if is_new else "unchanged",
            reason="",
        )

    def _load(self, paths: Sequence[Path]) -> RegistrySearch:
        each = [read_parquet(path).to_pandas().set_index("series") for path in paths]
        frame = each[0] if len(each) == 1 else joined(*each)
        frame.insert(
            list(frame.columns).index("net_worth") + 1, "holders", pd.Series(pd.NA, frame.index, dtype="Int64")
        )
        return RegistrySearch(frame)

    def _holders(self, months: Sequence[Month]) -> pd.Series[int]:
        """Return the newest number of holders of each series in some months of the archive."""
        newest: dict[str, int] = {}
        for month in months:
            with self._folder.month(month) as stored:
                if stored is None:
                    continue
                table = stored.file.read(columns=["cnpj", "subclass", "date", "holders"])
            cnpj, subclass = coded(table["cnpj"]), coded(table["subclass"])
            for code, other, holders in zip(cnpj.codes, subclass.codes, figures(table, "holders"), strict=True):
                if holders == holders:
                    suffix = subclass.texts[other]
                    newest[f"{cnpj.texts[code]}:{suffix}" if suffix else str(cnpj.texts[code])] = int(holders)
        return pd.Series(newest, dtype="Int64")


def _day_of(started_on: Any) -> dt.date | None:
    return None if pd.isna(started_on) else started_on.date()


def _refuse_shrunk(frame: pd.DataFrame, stored: pa.Table | None) -> None:
    """Refuse a registry that is empty or much shorter than the newest one: it is truncated."""
    if frame.empty:
        raise FileRefused("it has no rows")
    for what, sign in (("funds and classes", False), ("subclasses", True)):
        names = (stored["series"].to_pylist() if stored is not None else (), frame.index)
        before, now = (sum((":" in name) is sign for name in some) for some in names)
        if now < _LEAST_SHARE_LEFT * before:
            way_out = "if that is right, delete the newest snapshot in registry/ of the archive"
            raise FileRefused(f"it has {now:,} {what}, but {before:,} are stored; {way_out}")


def _registry_of(path: Path) -> pd.DataFrame:
    with opened(path, _LONGEST_REGISTRY) as archive:
        return parse_registry(
            {name: whole_member(archive, name) for name in archive.namelist() if name.endswith(".csv")}
        )


def _old_registry_of(path: Path) -> pd.DataFrame:
    if path.stat().st_size > _LONGEST_REGISTRY:
        raise FileRefused(f"it is longer than {_LONGEST_REGISTRY:,} bytes")
    return parse_old_registry(path.read_bytes())


_PARSERS: dict[str, Callable[[Path], pd.DataFrame]] = {"registry": _registry_of, "cad_fi": _old_registry_of}
