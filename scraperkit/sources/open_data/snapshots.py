"""The registry as it was on each day that it was new: fetched, kept in the archive, and loaded to be searched."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urljoin

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scraperkit.errors import ArchiveError, FileRefused, ScraperKitWarning, SourceError
from scraperkit.sources.open_data.cleaning import coded
from scraperkit.sources.open_data.downloads import Downloader, Outcome, download
from scraperkit.sources.open_data.folder import Entry, delete, write_whole
from scraperkit.sources.open_data.members import opened
from scraperkit.sources.open_data.portal_files import EACH_DAY, EACH_MONTH, OLD_REGISTRY_PATH, REGISTRY_PATH
from scraperkit.sources.open_data.registry import RegistrySearch, joined, parse_old_registry, parse_registry
from scraperkit.sources.open_data.revisions import figures

_PATHS = {"registry": (REGISTRY_PATH, EACH_DAY), "cad_fi": (OLD_REGISTRY_PATH, EACH_MONTH)}
_LONGEST_REGISTRY = 500_000_000


class Snapshots:
    """Dated copies of the registry in the archive.

    Parameters
    ----------
    downloader : Downloader
        Where they come from and go to.
    """

    def __init__(self, downloader: Downloader) -> None:
        self._downloader = downloader
        self._folder = downloader.folder
        self._loaded: tuple[tuple[Path, ...], RegistrySearch] | None = None
        self._named: tuple[tuple[Path, ...], list[pa.Table]] | None = None

    def update(self) -> list[Outcome]:
        """Fetch what is new of the registry, unless it was looked for lately: today, and cad_fi this month."""
        return [self._update(kind) for kind in _PATHS]

    def search(self) -> RegistrySearch:
        """Return the newest registry, ready to be searched; fetched first where it is old.

        Raises
        ------
        SourceError
            If there is none, and it cannot be had.
        """
        try:
            outcomes = self.update()
        except ArchiveError:  # one that others write
            if not self.days("registry"):
                raise
            outcomes = []
        reasons = [f"{each.file}: {each.reason}" for each in outcomes if each.outcome in ("refused", "missing")]
        if reasons and not self.days("registry"):
            raise FileRefused(f"there is no registry to search: {'; '.join(reasons)}")
        if reasons:
            text = f"searching the registry of {self.days('registry')[-1]}: {'; '.join(reasons)}"
            warnings.warn(text, ScraperKitWarning, stacklevel=3)
        paths = tuple(path for kind in _PATHS for path in self._paths(kind)[-1:])
        if self._loaded is None or self._loaded[0] != paths:
            self._loaded = (paths, self._load(paths))
        return self._loaded[1]

    def names(self, series: Sequence[str]) -> dict[str, str]:
        """Return the names that the newest registry in the archive has of some series; nothing is fetched."""
        paths = tuple(path for kind in reversed(_PATHS) for path in self._paths(kind)[-1:])
        found: dict[str, str] = {}
        # A name is a courtesy: a registry that others prune meanwhile, or that is damaged, fails no read.
        with contextlib.suppress(OSError, pa.ArrowException):
            if self._named is None or self._named[0] != paths:
                self._named = paths, [pq.ParquetFile(path).read(columns=["series", "name"]) for path in paths]
            wanted = [*series, *(name.partition(":")[0] for name in series)]
            for table in self._named[1]:
                known = table.filter(pc.is_in(table["series"], pa.array(wanted, table["series"].type)))
                found |= dict(zip(known["series"].to_pylist(), known["name"].to_pylist(), strict=True))
        # A subclass without a name goes by that of its class.
        each = {name: found.get(name) or found.get(name.partition(":")[0], "") for name in series}
        return {name: text for name, text in each.items() if text}

    def days(self, kind: str) -> list[str]:
        """Return the days of which there is a snapshot, the oldest first; `kind` is ``registry`` or ``cad_fi``."""
        return [path.stem.removeprefix(f"{kind}-") for path in self._paths(kind)]

    def prune(self) -> int:
        """Delete all snapshots but the newest; return how many bytes that were."""
        return sum(delete(self._paths(kind)[:-1]) for kind in _PATHS)

    def _paths(self, kind: str) -> list[Path]:
        name = re.compile(kind + r"-[0-9]{4}-[0-9]{2}-[0-9]{2}\.parquet")
        return sorted(path for path in self._folder.registry.glob("*.parquet") if name.fullmatch(path.name))

    def _update(self, kind: str) -> Outcome:
        path, pause = _PATHS[kind]
        name = path.rpartition("/")[2]
        now = dt.datetime.now(dt.UTC)
        entry = self._folder.entry(name)
        days = self.days(kind)
        is_new = entry is not None and now - dt.datetime.fromisoformat(entry.checked_at) < pause
        if entry is not None and is_new and (days or entry.outcome == "missing"):
            return Outcome(name, "unchanged", entry.kept)
        with self._folder.writing(name) as stage:
            entry = entry or Entry(name, urljoin(self._downloader.url, path))
            try:
                entry = self._fetch(kind, entry, stage, now, bool(days))
            except SourceError as error:
                entry = replace(entry, outcome="refused", reason=str(error))
            self._folder.note(replace(entry, checked_at=now.isoformat()))
        return Outcome(name, entry.outcome, entry.kept, 0, 0, entry.reason)

    def _fetch(self, kind: str, entry: Entry, stage: Path, now: dt.datetime, has_some: bool) -> Entry:
        url = urljoin(self._downloader.url, _PATHS[kind][0])
        part = stage / f"{entry.file}.part"
        known = entry if has_some and entry.url == url else None
        http, politeness = self._downloader.http, self._downloader.politeness
        got, sha256 = download(http, politeness, self._folder, url, part, known)
        if got.status == 304 or (known and got.status == 200 and sha256 == known.sha256):
            return replace(entry, outcome="unchanged", reason="")
        if got.status in (403, 404, 410):
            return replace(entry, outcome="missing", reason=f"the site answers {got.status}: it has no such file")
        if got.status != 200:
            raise FileRefused(f"the site answers {got.status}", url)
        try:
            frame = _PARSERS[kind](part)
        except FileRefused as error:
            raise FileRefused(str(error), url) from None
        fresh = stage / "registry.parquet"
        table = pa.Table.from_pandas(frame.reset_index(), preserve_index=False)
        pq.write_table(table, fresh, compression="zstd")
        write_whole(stage / "synced", b"")
        fresh.replace(self._folder.registry / f"{kind}-{now.date()}.parquet")
        return replace(
            entry,
            url=url,
            etag=got.headers.get("ETag", ""),
            last_modified=got.headers.get("Last-Modified", ""),
            sha256=sha256,
            bytes=part.stat().st_size,
            fetched_at=now.isoformat(),
            kept=len(frame),
            outcome="changed" if has_some else "new",
            reason="",
        )

    def _load(self, paths: Sequence[Path]) -> RegistrySearch:
        each = [pq.ParquetFile(path).read().to_pandas().set_index("series") for path in paths]
        frame = each[0] if len(each) == 1 else joined(*each)
        frame.insert(list(frame.columns).index("net_worth") + 1, "holders", self._holders().reindex(frame.index))
        frame["holders"] = frame["holders"].astype("Int64")
        return RegistrySearch(frame)

    def _holders(self) -> pd.Series[int]:
        """Return the newest number of holders of each series in the newest two months of the archive."""
        newest: dict[str, int] = {}
        for month in self._folder.months()[-2:]:
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


def _registry_of(path: Path) -> pd.DataFrame:
    with opened(path) as archive:
        return parse_registry({name: archive.read(name) for name in archive.namelist() if name.endswith(".csv")})


def _old_registry_of(path: Path) -> pd.DataFrame:
    if path.stat().st_size > _LONGEST_REGISTRY:
        raise FileRefused(f"it is longer than {_LONGEST_REGISTRY:,} bytes")
    return parse_old_registry(path.read_bytes())


_PARSERS: dict[str, Callable[[Path], pd.DataFrame]] = {"registry": _registry_of, "cad_fi": _old_registry_of}
