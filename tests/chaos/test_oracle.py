"""The oracle: which versions of a month may be stored, according to the site's record."""

from __future__ import annotations

from typing import Any

import pytest
from chaos.oracle import DOWNLOADS, METRICS, OPEN_DATA, PAGES, RECORD, Journal, Site

CNPJ, MONTH, DAY = "18993924000100", "12/2022", "2022-12-01"
OTHER, OTHER_MONTH = "99101035000184", "01/2024"


def row(quota: float) -> dict[str, Any]:
    return {metric: quota if metric == "quota" else None for metric in METRICS}


@pytest.fixture
def site(tmp_path) -> Site:
    """A site that restated a page at 10 and at 20, the latter unseen, and a file at 10, fetched from 11 on."""
    record = Journal(tmp_path / RECORD)
    for number in (0, 1):
        record.note(served=[CNPJ, MONTH, number])
    for number in (1, 2):
        record.note(restated=[CNPJ, MONTH, number], rows=[[DAY, row(number)]], at=10.0 * number)
    for number in (0, 1):
        record.note(rewritten="2024-01", rows=[[OTHER, "A", "2024-01-02", row(number)]], at=10.0 * number)
    Journal(tmp_path / DOWNLOADS).note(downloaded_since=11.0, ended=15.0)
    return Site.read(tmp_path)


@pytest.mark.parametrize(("asked_at", "versions"), [(5.0, [1, 0]), (12.0, [1]), (25.0, [])])
def test_an_acceptable_page_was_served_and_is_not_older_than_its_request(site, asked_at, versions):
    known = [version.figures for version in site.versions[PAGES, CNPJ, MONTH]]
    assert site.acceptable((PAGES, CNPJ, MONTH), asked_at) == [known[number] for number in versions]
    assert known[1] == {(CNPJ, "quota"): {DAY: 1.0}}


@pytest.mark.parametrize(("asked_at", "quotas"), [(5.0, [1.0, 0.0]), (12.0, [1.0, 0.0]), (16.0, [1.0])])
def test_acceptable_open_data_is_at_least_as_new_as_the_last_finished_download(site, asked_at, quotas):
    found = site.acceptable((OPEN_DATA, OTHER, OTHER_MONTH), asked_at)
    assert [figures[f"{OTHER}:A", "quota"]["2024-01-02"] for figures in found] == quotas


def test_nothing_may_be_stored_for_a_month_that_is_not_offered(site):
    assert site.acceptable((PAGES, CNPJ, "01/1999"), 5.0) == [{}]
