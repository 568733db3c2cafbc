"""Killed at any step, written by two at once, on a full disk: the archive stays intact."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from support.disks import fill, small_disk
from support.tree import ROOT

import scraperkit as sk
from scraperkit.errors import ArchiveError

MONTHS = ("2024-11", "2024-12")


@contextlib.contextmanager
def downloader(url: str, archive: Path, *months: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that downloads on command."""
    words = [sys.executable, "-m", "support.market_process", url, str(archive), *months]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    with subprocess.Popen(
        words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.stdin.close()
        process.wait(60)


def tell(process: subprocess.Popen[str], step: int) -> str:
    process.stdin.write(f"{step}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


class TestKills:
    def test_at_every_step_leave_each_month_old_or_new(self, site, market, tmp_path):
        """Kill the download of a restated and a new month before each of its disk writes."""
        market.download(MONTHS[0], MONTHS[0])
        old = market.quotes(start=MONTHS[0])
        before = dt.datetime.now(dt.UTC)
        kept = tmp_path / "kept"
        shutil.copytree(market.archive, kept)
        restated = site.portal.restate(MONTHS[0], 0.05)
        with sk.OpenData(site.open_data_url, archive=tmp_path / "whole") as whole:
            whole.download(*MONTHS)
            new, newer = whole.quotes(start=MONTHS[0], end=MONTHS[0]), whole.quotes(start=MONTHS[1])
        kills = 0
        seen = set()
        with downloader(site.open_data_url, market.archive, *MONTHS) as process:
            while tell(process, kills + 1) == "killed":
                kills += 1
                months = {path.stem for path in (market.archive / "quotes").iterdir()}
                frame = market.quotes(start=MONTHS[0], end=MONTHS[0])
                state = "new" if frame.equals(new) else "old" if frame.equals(old) else "broken"
                seen.add((state, MONTHS[1] in months))
                pd.testing.assert_frame_equal(market.quotes(start=MONTHS[0], end=MONTHS[0], as_of=before), old)
                assert len(market.changes(MONTHS[0], MONTHS[0])) == (len(restated) if state == "new" else 0)
                if MONTHS[1] in months:
                    pd.testing.assert_frame_equal(market.quotes(start=MONTHS[1]), newer)
                shutil.rmtree(market.archive)
                shutil.copytree(kept, market.archive)
        assert kills >= 20
        assert seen == {("old", False), ("old", True), ("new", True)}
        pd.testing.assert_frame_equal(market.quotes(start=MONTHS[0], end=MONTHS[0]), new)

    def test_twenty_in_a_row_leave_nothing_that_the_next_download_cannot_clear(self, site, market):
        market.download(MONTHS[0], MONTHS[0])
        restated = site.portal.restate(MONTHS[0], 0.05)
        with downloader(site.open_data_url, market.archive, *MONTHS) as process:
            assert [tell(process, step) for step in range(1, 21)] == ["killed"] * 20
        market.download(*MONTHS)
        assert len(market.changes()) == len(restated)
        assert {path.suffix for path in (market.archive / "staging").iterdir()} == {".lock"}
        rows = [row for month in MONTHS for row in site.portal.rows(month)]
        assert len(market.quotes()) == len(rows)


class TestTwoAtOnce:
    def test_each_file_is_fetched_once_and_all_are_stored(self, site, tmp_path):
        archive, months = tmp_path / "archive", ("2023-01", "2024-12")
        with (
            downloader(site.open_data_url, archive, *months) as one,
            downloader(site.open_data_url, archive, *months) as other,
        ):
            for process in (one, other):
                process.stdin.write("0\n")
                process.stdin.flush()
            assert [process.stdout.readline().strip() for process in (one, other)] == ["0", "0"]
            for process in (one, other):
                process.stdin.close()
                assert len(process.stderr.read().splitlines()) == 26  # the plan, and a table of 24 files
        assert site.portal.requests["file"] == 24
        with sk.OpenData(site.open_data_url, archive=archive) as market:
            rows = [row for month in site.portal.months if month >= months[0] for row in site.portal.rows(month)]
            assert len(market.quotes()) == len(rows)
            assert (market.archive_info()["outcome"].isin(["new", "unchanged"])).all()


class TestFullDisk:
    @pytest.mark.parametrize("left", [0, 5_000, 20_000, 60_000])
    def test_the_error_says_so_and_stored_data_is_intact(self, site, tmp_path, left):
        with small_disk(tmp_path / "disk", "2m") as disk, sk.OpenData(site.open_data_url, archive=disk / "a") as market:
            market.download(MONTHS[0], MONTHS[0])
            before = market.quotes()
            site.portal.restate(MONTHS[0], 0.5)
            filling = fill(disk, leave=left)
            try:
                told = market.download("2023-01", MONTHS[0])
            except ArchiveError as error:
                assert "its disk is full; free some space" in str(error)
                assert str(market.archive) in str(error)
            else:
                pytest.fail(f"it fitted: {told}")
            now = market.quotes(start=MONTHS[0])
            assert now.equals(before) or len(market.changes(MONTHS[0]))
            filling.unlink()
            assert set(market.download("2023-01", MONTHS[0])["outcome"]) <= {"new", "changed", "unchanged"}
            assert len(market.quotes(start=MONTHS[0])) == len(site.portal.rows(MONTHS[0]))

    def test_a_folder_that_cannot_be_created_is_an_error(self, site, tmp_path):
        (tmp_path / "file").write_text("")
        with (
            sk.OpenData(site.open_data_url, archive=tmp_path / "file" / "archive") as market,
            pytest.raises(ArchiveError, match="SCRAPERKIT_ARCHIVE"),
        ):
            market.download(MONTHS[0], MONTHS[0])

    def test_a_file_that_is_not_a_month_is_an_error_with_a_remedy(self, market):
        market.download(MONTHS[0], MONTHS[0])
        path = market.archive / "quotes" / f"{MONTHS[0]}.parquet"
        path.write_bytes(b"PAR1 not really")
        with pytest.raises(ArchiveError, match=f"{path.name}: not a month of the archive; delete it"):
            market.prices()
