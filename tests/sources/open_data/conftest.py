"""An offline portal that does not ask for pauses, and an archive of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import scraperkit as sk
from scraperkit.sources.open_data.folder import Folder


@pytest.fixture
def site() -> Iterator[sk.Replica]:
    """Yield a replica whose portal asks for no pauses between requests."""
    with sk.Replica.start() as replica:
        replica.portal.crawl_delay = 0
        yield replica


@pytest.fixture
def market(site: sk.Replica, tmp_path: Path) -> Iterator[sk.OpenData]:
    """Yield the open data of the replica, with an empty archive."""
    with sk.OpenData(site.open_data_url, archive=tmp_path / "archive") as open_data:
        yield open_data


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Return an empty archive."""
    return Folder(tmp_path / "archive")
