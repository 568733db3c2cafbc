"""Download the portal's files politely into the archive, or say why not."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin

from tqdm.auto import tqdm

from scraperkit.errors import WITHOUT_SITE, FileRefused, SiteUnavailable, SourceError
from scraperkit.models import Month
from scraperkit.sources.http import ClosedHere, Download, HttpClient
from scraperkit.sources.open_data.folder import Entry, Folder
from scraperkit.sources.open_data.importing import import_zip
from scraperkit.sources.open_data.portal_files import (
    TYPICAL_BYTES,
    PortalFile,
    is_due,
    listed_sizes,
    plan_text,
)
from scraperkit.sources.politeness import Politeness
from scraperkit.text import say

MOST_BYTES = 1_000_000_000
MOST_FAILURES = 3  # of files in a row for which the site does not respond
DOWNLOAD_PATIENCE = 120.0  # seconds that a download waits for each turn, while the site asks for a pause
SITE_AWAY = "the site is unavailable"
_OK, _UNCHANGED, _MISSING_STATUSES = 200, 304, (403, 404, 410)


class Outcome(NamedTuple):
    """The outcome of a file; the columns of :meth:`OpenData.download`."""

    file: str
    outcome: str
    rows: int = 0
    changed: int = 0
    rejected: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Downloader:
    """Downloads files of the portal at `url` into the archive in `folder`."""

    url: str
    folder: Folder
    http: HttpClient
    politeness: Politeness

    def run(
        self,
        files: Sequence[PortalFile],
        progress: bool | None,
        named: tuple[Month, Month] | None = None,
        *,
        only_due: bool = False,
    ) -> list[Outcome]:
        """Download files one after another; a fault in one does not stop the others.

        Pruned months come back only if they are among those `named`, from the first to the last. With `only_due`, a
        file that another process has downloaded meanwhile is not requested again.

        Raises
        ------
        ArchiveError
            If the archive cannot be written.
        """
        began = dt.datetime.now(dt.UTC)
        outcomes: list[Outcome] = []
        failures = 0
        disable = None if progress is None else not progress
        with tqdm(total=len(files), unit="file", desc="downloading", disable=disable, dynamic_ncols=True) as bar:
            if files and progress is not False:
                with self.folder.writing("plan"):  # no request if nothing can be stored
                    say(self.plan(files))
            for file in files:
                bar.set_postfix_str(file.name)
                if failures >= MOST_FAILURES:
                    outcomes.append(Outcome(file.name, "refused", reason="not requested: the site does not respond"))
                else:
                    outcomes.append(self._fetch(file, None if only_due else began, named))
                    failures = failures + 1 if outcomes[-1].reason.startswith(SITE_AWAY) else 0
                bar.update()
        away = [outcome for outcome in outcomes if outcome.reason.startswith(SITE_AWAY)]
        if away and progress is not False:
            say(f"{away[-1].file}: {away[-1].reason}\n{WITHOUT_SITE}")
        return outcomes

    def plan(self, files: Sequence[PortalFile]) -> str:
        """Return how many files, megabytes and minutes a download of these takes."""
        if files:
            with contextlib.suppress(SourceError), self.politeness.patient(DOWNLOAD_PATIENCE):
                self.http.learn_pace(self.url)
        return plan_text(self._sizes(files), self.politeness.crawl_delay)

    def _fetch(self, file: PortalFile, began: dt.datetime | None, named: tuple[Month, Month] | None) -> Outcome:
        """Download a file unless another process has since `began`; without `began`, if it is due."""
        with self.folder.writing(file.name) as stage:
            entry = self.folder.entry(file.name)
            is_settled = entry is not None and entry.outcome != "refused" and not entry.pruned
            now = dt.datetime.now(dt.UTC)
            if entry and is_settled:
                checked_at = dt.datetime.fromisoformat(entry.checked_at)
                # Another process may have requested it while this one waited for the lock.
                if began <= checked_at <= now if began else not is_due(file, entry, now):
                    return told(entry, is_news=False)
            entry = entry or Entry(file.name, urljoin(self.url, file.path))
            gone = {month for month in entry.pruned if not (named and named[0].iso <= month <= named[1].iso)}
            try:
                entry, changed = self._into_archive(file, entry, stage, now, gone)
                if entry.outcome != "missing":
                    entry = replace(entry, confirmed_at=now.isoformat())
            except SourceError as error:
                reason = f"{SITE_AWAY}: {error}" if isinstance(error, SiteUnavailable) else str(error)
                entry, changed = replace(entry, outcome="refused", reason=reason), 0
            self.folder.note(replace(entry, checked_at=now.isoformat()))
            return told(entry, changed)

    def _into_archive(
        self, file: PortalFile, entry: Entry, stage: Path, now: dt.datetime, gone: set[str]
    ) -> tuple[Entry, int]:
        url = urljoin(self.url, file.path)
        part = stage / f"{file.name}.part"
        wanted = {*entry.months, *entry.pruned} - gone
        has_all = bool(entry.months) and wanted <= {month.iso for month in self.folder.months()}
        known = entry if has_all and entry.url == url else None
        got, sha256 = download(self.http, self.politeness, self.folder, url, part, known)
        if (without := response_without_file(got, known, entry)) is not None:
            return without, 0
        size = part.stat().st_size
        entry = replace(entry, url=url)
        fresh = replace(
            entry,
            etag=got.headers.get("ETag", ""),
            last_modified=got.headers.get("Last-Modified", ""),
            sha256=sha256,
            bytes=size,
            fetched_at=now.isoformat(),
            reason="",
        )
        if has_all and sha256 == entry.sha256:
            return replace(fresh, outcome="unchanged"), 0
        whole = part.rename(stage / file.name)
        try:
            done = import_zip(self.folder, stage, whole, file.name, (file.first, file.last), now, gone)
        except FileRefused as error:
            raise FileRefused(str(error), url) from None
        is_first = bool(done.months) and not entry.months
        outcome = "new" if is_first else "changed" if done.added or done.changed else "unchanged"
        return (
            replace(
                fresh,
                layout=done.layout,
                rows_read=done.rows_read,
                kept=done.kept,
                rejected=done.rejected,
                months=done.months,
                pruned=tuple(sorted(gone)),
                outcome=outcome,
                reason="" if done.rows_read else "it has no rows yet",
            ),
            done.changed,
        )

    def _sizes(self, files: Sequence[PortalFile]) -> list[int]:
        """Return the size of each file: from the ledger, else from the portal's listing, else a typical one."""
        known = {entry.file: entry.bytes for entry in self.folder.entries() if entry.bytes}
        for folder in dict.fromkeys(file.folder for file in files if file.name not in known):
            try:
                page = self.http.get(urljoin(self.url, folder))
            except SourceError:
                continue
            known = listed_sizes(page.content.decode("latin-1")) | known
        return [known.get(file.name, TYPICAL_BYTES[file.folder]) for file in files]


def told(entry: Entry, changed: int = 0, *, is_news: bool = True) -> Outcome:
    """Return a ledger entry as an outcome; without news, a stored file is unchanged."""
    if entry.outcome == "refused":
        return Outcome(entry.file, "refused", reason=entry.reason)
    outcome = entry.outcome if is_news or entry.outcome == "missing" else "unchanged"
    return Outcome(entry.file, outcome, entry.kept, changed, entry.rejected, entry.reason)


def response_without_file(got: Download, known: Entry | None, entry: Entry) -> Entry | None:
    """Return the ledger's entry for a response without a file; ``None`` if it has one.

    Raises
    ------
    FileRefused
        If the status is unexpected.
    """
    if got.status == _UNCHANGED and known is not None:
        return replace(entry, outcome="unchanged", reason="")
    if got.status in _MISSING_STATUSES:
        stays = "; the stored data stays" if entry.kept else ""
        return replace(entry, outcome="missing", reason=f"the site returns {got.status}: it has no such file{stays}")
    if got.status != _OK:
        raise FileRefused(f"the site returns {got.status}", got.url)
    return None


def download(
    http: HttpClient, politeness: Politeness, folder: Folder, url: str, part: Path, known: Entry | None
) -> tuple[Download, str]:
    """Request a file, unless the known one is current; return the response, and the SHA-256 of the bytes written.

    Raises
    ------
    ArchiveError
        If it cannot be written.
    SiteUnavailable
        If the site does not respond.
    FileRefused
        If it is longer than any file of the portal.
    """
    headers = {}
    if known and known.etag:
        headers["If-None-Match"] = known.etag
    if known and known.last_modified:
        headers["If-Modified-Since"] = known.last_modified
    digest = hashlib.sha256()
    with part.open("wb", buffering=0) as file:

        def begin() -> Callable[[bytes], None]:
            nonlocal digest
            digest = hashlib.sha256()
            with folder.explained():
                file.seek(0)
                file.truncate()
            return write

        def write(piece: bytes) -> None:
            digest.update(piece)
            # A disk error must not look like an error of the site.
            with folder.explained():
                file.write(piece)
                if file.tell() > MOST_BYTES:
                    raise FileRefused(f"it is longer than {MOST_BYTES:,} bytes", url)

        try:
            got = http.download(url, headers, begin)
        except ClosedHere:
            raise
        except SiteUnavailable as error:
            politeness.failed(str(error))
            raise
    politeness.succeeded()
    return got, digest.hexdigest()
