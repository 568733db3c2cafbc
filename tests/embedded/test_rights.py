"""Other users of the machine cannot read the embedded server's data, or its user is warned."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from scraperkit.config import Settings
from scraperkit.embedded import shared
from scraperkit.embedded.server import EmbeddedServer, make_private
from scraperkit.errors import ScraperKitWarning


def rights(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


@pytest.fixture
def folder(tmp_path) -> Path:
    """An existing folder that all users may read and write."""
    found = tmp_path / "my data" / "redis"
    found.mkdir(parents=True)
    found.chmod(0o777)
    return found


def test_a_new_folder_is_private_under_any_umask(tmp_path):
    before = os.umask(0)
    try:
        make_private(tmp_path / "new" / "redis")
    finally:
        os.umask(before)
    assert rights(tmp_path / "new" / "redis") == 0o700


def test_an_empty_folder_is_made_private(folder):
    make_private(folder)
    assert rights(folder) == 0o700


def test_a_folder_with_only_a_servers_files_is_made_private(folder):
    with EmbeddedServer(folder) as server:
        assert server.running
    left = {path.name for path in folder.iterdir()}
    assert {"state.json", "redis.log"} <= left
    folder.chmod(0o755)
    make_private(folder)
    assert rights(folder) == 0o700


def test_a_private_folder_is_not_changed(folder):
    folder.chmod(0o700)
    before = folder.stat().st_ctime_ns
    make_private(folder)
    assert folder.stat().st_ctime_ns == before, "nothing to change"


def test_a_folder_with_other_files_is_not_changed_but_warned_of(folder):
    (folder / "thesis.tex").touch()
    for _ in range(2):
        with pytest.warns(ScraperKitWarning, match=r"other users have rights to .*chmod 700 '.*my data/redis'"):
            make_private(folder)
        (folder / "state.json").touch()
    assert rights(folder) == 0o777


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_another_users_folder_is_not_changed_but_warned_of(folder):
    os.chown(folder, 65_534, 65_534)
    with pytest.warns(ScraperKitWarning, match="other users have rights"):
        make_private(folder)
    assert rights(folder) == 0o777


@pytest.mark.parametrize(("before", "after"), [(0o777, 0o755), (0o775, 0o755), (0o1777, 0o1777), (0o755, 0o755)])
def test_other_users_cannot_replace_the_folder(folder, before, after):
    """The folder that SCRAPERKIT_DATA names is the one above."""
    folder.parent.chmod(before)
    assert shared._folder(Settings(data=folder.parent)) == folder
    assert (rights(folder.parent), rights(folder)) == (after, 0o700)


def test_a_parent_folder_with_other_files_is_not_changed_but_warned_of(folder):
    (folder.parent / "thesis.tex").touch()
    folder.parent.chmod(0o777)
    with pytest.warns(ScraperKitWarning, match="chmod go-w .*SCRAPERKIT_DATA"):
        shared._folder(Settings(data=folder.parent))
    assert rights(folder.parent) == 0o777
