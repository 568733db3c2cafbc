"""Revisions are logged once, and the state at any moment can be restored."""

from __future__ import annotations

import datetime as dt
import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.daily_files import CNPJ, OTHER, bring_in, line, month_zip

import scraperkit as sk
from scraperkit.errors import ArchiveError, ConfigError
from scraperkit.models import METRICS
from scraperkit.sources.open_data.folder import Folder

T0 = dt.datetime(2026, 9, 1, 4, tzinfo=dt.UTC)
A_KEY = "00017024000153"
ROWS = [(cnpj, subclass, day) for cnpj in (CNPJ, OTHER) for subclass in ("", "A1") for day in (3, 4)]
FIGURE = st.sampled_from(["", "0", "1.5", "2.5"])
STATE = st.dictionaries(st.sampled_from(ROWS), st.tuples(FIGURE, FIGURE, st.sampled_from(["", "7", "8"])), min_size=1)


def moment(number: int) -> dt.datetime:
    return T0 + dt.timedelta(days=number)


def content_of(state: dict[tuple[str, str, int], tuple[str, str, str]]) -> bytes:
    lines = [
        line(cnpj, f"2026-08-{day:02d}", *figures, subclass=subclass)
        for (cnpj, subclass, day), figures in state.items()
    ]
    return month_zip(lines)


class TestStates:
    @settings(max_examples=30)
    @given(st.lists(STATE, min_size=1, max_size=5))
    def test_each_can_be_restored(self, tmp_path_factory, states):
        archive = tmp_path_factory.mktemp("archive")
        folder = Folder(archive)
        with sk.OpenData("http://127.0.0.1:9/", archive=archive) as market:
            seen = []
            for number, state in enumerate(states):
                bring_in(folder, content_of(state), seen_at=moment(number))
                seen.append(market.quotes())
            for number, frame in enumerate(seen):
                for as_of in (moment(number), moment(number) + dt.timedelta(hours=23)):
                    pd.testing.assert_frame_equal(market.quotes(as_of=as_of), frame)
            assert market.quotes(as_of=moment(-1)).empty

    @settings(max_examples=30)
    @given(st.lists(STATE, min_size=2, max_size=4))
    def test_the_log_lists_exactly_the_differences(self, tmp_path_factory, states):
        archive = tmp_path_factory.mktemp("archive")
        folder = Folder(archive)
        with sk.OpenData("http://127.0.0.1:9/", archive=archive) as market:
            expected = []
            before: dict = {}
            for number, state in enumerate(states):
                bring_in(folder, content_of(state), seen_at=moment(number))
                now = figures_of(market)
                expected += [
                    (*key, metric, old, now.get(key, {}).get(metric, math.nan))
                    for key, row in before.items()
                    for metric, old in row.items()
                    if not same(old, now.get(key, {}).get(metric, math.nan))
                ]
                before = now
            changes = market.changes()
            found = changes[["cnpj", "subclass", "date", "metric", "old", "new"]].to_numpy().tolist()
            assert sorted(map(repr, map(tuple, found))) == sorted(map(repr, expected))
            assert changes["seen_at"].is_monotonic_increasing


def figures_of(market: sk.OpenData) -> dict:
    frame = market.quotes().astype({"holders": "float64"})
    return {
        (row["cnpj"], row["subclass"], row["date"]): {metric: float(row[metric]) for metric in METRICS}
        for row in frame.to_dict("records")
    }


def same(old: float, new: float) -> bool:
    return old == new or (math.isnan(old) and math.isnan(new))


class TestTheLog:
    def test_restated_and_withdrawn_figures_are_logged(self, folder):
        first = [line(day="2026-08-03"), line(day="2026-08-04"), line(OTHER)]
        bring_in(folder, month_zip(first), seen_at=moment(0))
        second = [line(day="2026-08-03", quota="1.75"), line(OTHER), line(day="2026-08-05")]
        done = bring_in(folder, month_zip(second), seen_at=moment(1))
        assert (done.added, done.changed) == (1, 7)
        with sk.OpenData("http://127.0.0.1:9/", archive=folder.path) as market:
            changes = market.changes()
            assert changes.dtypes.astype(str).to_dict() == {
                "cnpj": "str", "subclass": "str", "date": "datetime64[ms]", "metric": "str",
                "old": "float64", "new": "float64", "seen_at": "datetime64[us, UTC]",
            }  # fmt: skip
            restated, withdrawn = changes.iloc[0], changes.iloc[1:]
            assert restated[["cnpj", "metric", "old", "new"]].tolist() == [A_KEY, "quota", 1.5, 1.75]
            assert (changes["seen_at"] == pd.Timestamp(moment(1))).all()
            assert withdrawn["new"].isna().all()
            assert set(withdrawn["date"]) == {pd.Timestamp("2026-08-04")}
            assert market.changes("2026-08-04", "2026-08-04").equals(withdrawn.reset_index(drop=True))

    def test_the_same_content_in_other_bytes_is_not_a_revision(self, folder):
        lines = [line(day=f"2026-08-{day:02d}") for day in (3, 4, 5)]
        bring_in(folder, month_zip(lines), seen_at=moment(0))
        stamp = (folder.path / "quotes" / "2026-08.parquet").stat()
        done = bring_in(folder, month_zip(lines[::-1]), seen_at=moment(1))
        assert (done.added, done.changed) == (0, 0)
        assert (folder.path / "quotes" / "2026-08.parquet").stat() == stamp

    def test_a_new_layout_is_not_a_revision(self, folder):
        rest = "2026-08-03;1.00;2.5;3.00;4.00;5.00;6"
        for number, (layout, text) in enumerate({"A": f"{CNPJ};{rest}", "B": f"FI;{CNPJ};{rest}"}.items()):
            done = bring_in(folder, month_zip([text], layout), seen_at=moment(number))
        assert (done.layout, done.added, done.changed) == ("B", 0, 0)

    def test_an_unreadable_file_of_changes_is_named(self, folder):
        for quota, number in (("1.5", 0), ("1.75", 1)):
            bring_in(folder, month_zip([line(quota=quota)]), seen_at=moment(number))
        (path,) = (folder.path / "changes").iterdir()
        path.write_bytes(b"PAR1")
        with (
            sk.OpenData("http://127.0.0.1:9/", archive=folder.path) as market,
            pytest.raises(ArchiveError, match=f"{path.name}: not a file of the archive; delete it"),
        ):
            market.changes()

    def test_a_month_of_which_a_block_is_damaged_is_named(self, folder):
        days = [f"2026-08-{day:02d}" for day in range(3, 29)]
        bring_in(folder, month_zip([line(day=day, quota=f"1.{number}7") for number, day in enumerate(days)]))
        (path,) = folder.quotes.glob("*.parquet")
        content = bytearray(path.read_bytes())
        end = content.rindex(int.to_bytes(0x28B52FFD, 4, "big"))  # how a block of zstd begins
        content[4:end] = content[4:10] + bytes(end - 10)
        path.write_bytes(content)
        with (
            sk.OpenData("http://127.0.0.1:9/", archive=folder.path) as market,
            pytest.raises(ArchiveError, match=f"{path.name}: not a month of the archive; delete it"),
        ):
            market.quotes()

    @pytest.mark.parametrize("as_of", ["2026-09-01", dt.date(2026, 9, 1), dt.datetime(2026, 9, 1), 5, pd.NaT])
    def test_a_moment_needs_a_time_zone(self, market, as_of):
        for read in (market.prices, market.quotes):
            with pytest.raises(ConfigError, match="as_of"):
                read(as_of=as_of)
