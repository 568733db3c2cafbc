"""Lesson 07: reports arrive late, the chart ranks, and each wrong answer gets a hint that fits."""

from __future__ import annotations

import os

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from scraperkit import lessons
from scraperkit.lessons import whole_market
from scraperkit.lessons.whole_market import AFTER, BEFORE, SINCE, UNTIL, LateReports, ranking
from scraperkit.replica.open_data import load_open_data
from scraperkit.replica.portal import Portal
from scraperkit.sources.rates import rates

mpl.use("agg")


@pytest.fixture
def lesson(redis_url):
    """A lesson whose archive has three years, with revisions of the newest month."""
    lesson = lessons.begin("07_the_whole_market", redis_url=redis_url)
    late = LateReports(lesson.site.portal, "2024-12")
    lesson.market.download("2022-01", "2024-12", progress=False)
    late.arrive()
    lesson.market.download("2024-12", "2024-12", progress=False)
    yield lesson
    lesson.close()


@pytest.fixture
def empty(redis_url):
    lesson = lessons.begin("07_the_whole_market", redis_url=redis_url)
    yield lesson
    lesson.close()


@pytest.fixture
def prices(lesson) -> pd.DataFrame:
    return lesson.market.prices(start=SINCE, end=UNTIL)


# ------------------------------------------------------------------------ the lesson


def test_the_market_and_the_rates_come_from_the_offline_site_until_the_end(redis_url, monkeypatch):
    monkeypatch.setenv("SCRAPERKIT_SGS_URL", "http://127.0.0.1:9/")
    monkeypatch.delenv("SCRAPERKIT_B3_URL", raising=False)
    lesson = lessons.begin("07_the_whole_market", redis_url=redis_url)
    archive = lesson.market.archive
    assert lesson.market.url == lesson.site.open_data_url
    assert lesson.market.download("2024-12", "2024-12", progress=False)["outcome"].tolist() == ["new"]
    assert not rates("cdi", "2024-12", "2024-12", redis=lesson.redis).empty
    assert lesson.end().done
    assert not archive.exists()
    assert os.environ["SCRAPERKIT_SGS_URL"] == "http://127.0.0.1:9/"
    assert "SCRAPERKIT_B3_URL" not in os.environ


def test_a_live_lesson_uses_the_users_archive(redis_url, tmp_path, monkeypatch):
    monkeypatch.setenv("SCRAPERKIT_ARCHIVE", str(tmp_path / "own"))
    lesson = lessons.begin("07_the_whole_market", redis_url=redis_url, live=True)
    (tmp_path / "own").mkdir()
    assert lesson.market.archive == tmp_path / "own"
    lesson.end()
    assert (tmp_path / "own").is_dir()


def test_the_newest_days_lack_reports_that_arrive_later():
    portal = Portal(load_open_data())
    final = portal.rows("2024-12")
    late = LateReports(portal, "2024-12")
    early = portal.rows("2024-12")
    assert len(final) - len(early) == late.held_back
    days = [sum(row.date == day for row in early) for day in sorted({row.date for row in final})]
    assert days[-1] < days[-2] < days[-3] == days[0]
    true = {(row.cnpj, row.subclass, row.date): row for row in final}
    assert 1 <= sum(true[row.cnpj, row.subclass, row.date] != row for row in early) < 20
    late.arrive()
    assert portal.rows("2024-12") == final


def test_a_corrected_figure_is_a_revision_and_a_late_one_is_not(lesson):
    changes = lesson.market.changes("2024-12", "2024-12")
    assert 1 <= len(changes) < 20
    assert changes[["old", "new"]].notna().all(axis=None)
    assert lesson.market.completeness("2024-12", "2024-12")["missing"].iloc[-1] == 0


# ------------------------------------------------------------------------ the chart


def totals(**shares: float) -> pd.Series:
    return pd.Series(shares)


def test_the_chart_ranks_funds_and_marks_winners_and_ended_funds():
    total = totals(good=0.5, bad=-0.1, gone=0.05)
    total.attrs["names"] = {"good": "Good", "bad": "Bad", "gone": "Gone"}
    ax = ranking(total, 0.2, pd.Series({"bad": False, "gone": True, "good": False}))
    assert [text.get_text() for text in ax.get_yticklabels()] == ["Bad", "Gone", "Good"]
    assert [round(bar.get_width()) for bar in ax.patches] == [-10, 5, 50]
    assert [bool(bar.get_hatch()) for bar in ax.patches] == [False, True, False]
    colours = [bar.get_facecolor() for bar in ax.patches]
    assert colours[0] == colours[1] != colours[2]
    assert ax.get_title(loc="left") == "1 of 3 quotas grew by more than the CDI, +20.0%; 1 ended early"
    assert ax.get_xlabel().endswith("%")


def test_a_large_market_is_a_curve_whose_scale_ignores_outliers():
    total = pd.Series(np.linspace(-0.5, 1.0, 20_000))
    total.iloc[-1] = 1e9
    ax = ranking(total, 0.2, total > 5)
    assert not ax.patches
    assert len(ax.collections) == 2
    assert ax.get_xlim()[1] < 110


# ------------------------------------------------------------------------ exercises


def test_hints_for_one_series_from_two_cnpjs(lesson, prices):
    right = prices[BEFORE].combine_first(prices[AFTER])
    assert whole_market.check_1(lesson, right) is None
    assert whole_market.check_1(lesson, right.dropna().to_frame()) is None
    assert "the prices of the second CNPJ are missing" in whole_market.check_1(lesson, prices[BEFORE])
    assert "the prices of the first CNPJ are missing" in whole_market.check_1(lesson, prices[AFTER])
    assert "502 prices together; your Series has 501" in whole_market.check_1(lesson, right.dropna().iloc[1:])
    assert "join, do not add" in whole_market.check_1(lesson, right * 2)
    assert "this is a float" in whole_market.check_1(lesson, 3.0)


def test_hints_for_the_largest_revision(lesson):
    changes = lesson.market.changes(SINCE, UNTIL)
    sizes = 100 * (changes["new"] / changes["old"] - 1)
    largest = sizes.abs().max()
    assert whole_market.check_2(lesson, largest) is None
    assert whole_market.check_2(lesson, -largest) is None
    assert "multiply by 100" in whole_market.check_2(lesson, largest / 100)
    assert "compare new with old" in whole_market.check_2(lesson, sizes.abs().min())
    assert "a number, in per cent" in whole_market.check_2(lesson, "much")


def test_hints_for_the_share_of_money(lesson, prices):
    total, ended = whole_market.totals(prices)
    better = total > whole_market.cash(prices, lesson)
    money = lesson.market.prices(start=SINCE, end=UNTIL, metric="net_worth")[total.index]
    assert ended.sum() == 1

    def share(day: int) -> float:
        return money.iloc[day][better].sum() / money.iloc[day].sum()

    assert whole_market.check_3(lesson, share(0)) is None
    assert "take that of the first" in whole_market.check_3(lesson, share(-1))
    assert "counts each fund once" in whole_market.check_3(lesson, better.mean())
    assert "that is per cent" in whole_market.check_3(lesson, 100 * share(0))
    assert "of all 20 that had a price then" in whole_market.check_3(lesson, 0.9)
    assert "a share between 0 and 1" in whole_market.check_3(lesson, None)


@pytest.mark.parametrize(("number", "answer"), [(1, pd.Series([1.0])), (2, 1.0), (3, 0.5)])
def test_hints_before_anything_is_downloaded(empty, number, answer):
    assert "run the cells above" in empty.check(number, answer).text
