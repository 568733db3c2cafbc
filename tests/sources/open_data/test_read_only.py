"""A read-only archive that others fill: it is read, and no request goes to the portal."""

from __future__ import annotations

import subprocess

import pytest
from support.disks import small_disk

import scraperkit as sk
from scraperkit.errors import ArchiveError, MonthNotOffered
from scraperkit.models import ScrapeRequest

FUND = "18993924000100"


@pytest.fixture
def reader(site, tmp_path):
    """Yield an archive of one month and one that the portal lacks, on a disk that can no longer be written."""
    with small_disk(tmp_path / "disk", "8m") as disk:
        with sk.OpenData(site.open_data_url, archive=disk) as market:
            market.download("2024-12", "2025-01")
            market.find("aroeira")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with sk.OpenData(site.open_data_url, archive=disk) as found:
            yield found


def request(month: str) -> ScrapeRequest:
    return ScrapeRequest(document=FUND, month_year=month, source="open_data")


def test_stored_months_are_read_without_a_request(site, reader):
    asked = site.portal.requests.total()
    assert reader.fetch(request("12/2024"))
    assert not reader.prices(FUND).empty
    assert reader.find_fund(FUND).name
    with pytest.raises(MonthNotOffered, match="the portal has no data for 2025-01"):
        reader.fetch(request("01/2025"))
    assert site.portal.requests.total() == asked


def test_a_missing_month_error_says_what_to_run(site, reader):
    asked = site.portal.requests.total()
    with pytest.raises(ArchiveError, match="`scraperkit market download --start 2024-11 --end 2024-11` where it can"):
        reader.fetch(request("11/2024"))
    with pytest.raises(ArchiveError, match="make it writable"):
        reader.download("2024-11", "2024-11")
    assert site.portal.requests.total() == asked


def test_a_month_before_the_first_is_not_offered_and_not_requested(site, market):
    with pytest.raises(MonthNotOffered, match="the portal begins with 2000-01"):
        market.fetch(request("12/1999"))
    assert not site.portal.requests
