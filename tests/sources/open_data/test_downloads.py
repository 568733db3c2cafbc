"""What is downloaded, how politely, and what is reported."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import threading

import pytest
from support.waiting import wait_until

import scraperkit as sk
from scraperkit.config import OPEN_DATA_URL, Settings
from scraperkit.connection import connect
from scraperkit.errors import ConfigError, SiteUnavailable
from scraperkit.keys import Keys
from scraperkit.models import Fund, Month, today
from scraperkit.replica.portal import PortalResponse
from scraperkit.sources.open_data.folder import Entry
from scraperkit.sources.open_data.portal_files import files_between, is_due, listed_sizes

NOW = dt.datetime(2026, 11, 26, 9, tzinfo=dt.UTC)


class TestWhatIsAskedFor:
    def test_years_until_2020_then_months_the_newest_first(self):
        names = [file.path for file in files_between(Month(2019, 11), Month(2021, 2))]
        assert names == [
            "DOC/INF_DIARIO/DADOS/inf_diario_fi_202102.zip",
            "DOC/INF_DIARIO/DADOS/inf_diario_fi_202101.zip",
            "DOC/INF_DIARIO/DADOS/HIST/inf_diario_fi_2020.zip",
            "DOC/INF_DIARIO/DADOS/HIST/inf_diario_fi_2019.zip",
        ]

    @pytest.mark.parametrize(
        ("month", "days", "due"),
        [
            ("2026-11", 1, True), ("2026-11", 0.5, False), ("2026-10", 1, True),
            ("2026-09", 1, False), ("2026-09", 7, True), ("2025-12", 6, False), ("2025-12", 7, True),
            ("2025-11", 7, False), ("2025-11", 30, True), ("2008-05", 20, False), ("2008-05", 30, True),
        ],
    )  # fmt: skip
    def test_newer_months_are_due_more_often(self, month, days, due):
        (file,) = files_between(Month.parse_iso(month), Month.parse_iso(month))
        checked = (NOW - dt.timedelta(days=days)).isoformat()
        assert is_due(file, Entry(file.name, "", checked_at=checked, outcome="unchanged"), NOW) is due
        assert is_due(file, Entry(file.name, "", checked_at=checked, outcome="refused"), NOW)
        assert is_due(file, None, NOW)

    def test_a_clock_that_was_ahead_blocks_no_request(self, site, market):
        market.download("2024-12", "2024-12")
        path = market.archive / "ledger" / "inf_diario_fi_202412.zip.json"
        year = str(dt.datetime.now(dt.UTC).year)
        path.write_text(path.read_text().replace(f'"checked_at": "{year}', '"checked_at": "2090'))
        assert market.download()["file"].tolist().count("inf_diario_fi_202412.zip") == 1
        path.write_text(path.read_text().replace(f'"checked_at": "{year}', '"checked_at": "2090'))
        site.portal.restate("2024-12")
        assert market.download("2024-12", "2024-12")["outcome"].tolist() == ["changed"]

    def test_an_empty_archive_begins_with_the_newest_24_months(self, site, market):
        files = market.download()
        assert len(files) == 24
        assert files["outcome"].isin(["new", "missing"]).all()

    def test_without_named_months_the_due_files_of_the_archive_are_requested(self, site, market):
        market.download("2024-10", "2024-10")
        asked = market.download()["file"].tolist()
        begun = Month(2024, 11)
        assert asked == [file.name for file in files_between(begun, Month.of(today()))]
        assert market.download().empty

    @pytest.mark.parametrize(
        ("start", "end", "field"),
        [
            ("2024-13", None, "start"),
            ("2024-05", "2024-04", "end"),
            (None, "x", "end"),
            ("2090-01", None, "start"),
            (None, "1999-12", "end"),
            (5, None, "start"),
        ],
    )
    def test_invalid_months_are_refused(self, market, start, end, field):
        with pytest.raises(ConfigError, match=f"^{field}: "):
            market.download(start, end)


class TestConditions:
    def test_an_unchanged_file_is_not_sent_again(self, site, market):
        market.download("2024-11", "2024-12")
        again = market.download("2024-11", "2024-12")
        assert again["outcome"].tolist() == ["unchanged", "unchanged"]
        assert again["rows"].tolist() == [len(site.portal.rows(month)) for month in ("2024-12", "2024-11")]
        assert (site.portal.requests["file"], site.portal.requests["not_modified"]) == (2, 2)

    def test_a_file_rewritten_with_the_same_rows_is_unchanged(self, site, market):
        market.download("2024-12", "2024-12")
        site.portal.rewrite("2024-12", dt.date(2026, 3, 1))
        assert market.download("2024-12", "2024-12")["outcome"].tolist() == ["unchanged"]
        assert market.changes().empty

    def test_restated_figures_are_counted_as_changed(self, site, market):
        market.download("2024-12", "2024-12")
        restated = site.portal.restate("2024-12", 0.02)
        (row,) = market.download("2024-12", "2024-12").to_dict("records")
        assert (row["outcome"], row["changed"]) == ("changed", len(restated))
        assert market.changes()[["old", "new"]].to_numpy().tolist() == [
            [float(change.old), float(change.new)]
            for change in sorted(restated, key=lambda each: (each.cnpj, each.subclass, each.date))
        ]

    @pytest.mark.parametrize("status", [403, 404])
    def test_a_removed_file_is_missing_and_its_stored_data_stays(self, site, market, status):
        market.download("2024-12", "2024-12")
        site.portal.missing_status = status
        site.portal.remove("2024-12")
        (row,) = market.download("2024-12", "2024-12").to_dict("records")
        assert row["outcome"] == "missing"
        assert f"the site returns {status}: it has no such file; the stored data stays" in row["reason"]
        assert row["rows"] == len(market.quotes())
        assert len(market.quotes())
        assert market.changes().empty

    def test_an_unrequested_304_is_refused(self, site, market, monkeypatch):
        response = site.portal.respond("/dados/FI/" + site.portal.path("2024-12"))
        monkeypatch.setattr(site.portal, "_file", lambda *_: ("file", PortalResponse(304, response.headers)))
        assert market.download("2024-12", "2024-12")["outcome"].tolist() == ["refused"]
        assert market.update_registry()["outcome"].tolist() == ["refused", "refused"]

    def test_a_deleted_month_is_downloaded_again(self, market):
        market.download("2024-12", "2024-12")
        (market.archive / "quotes" / "2024-12.parquet").unlink()
        market.download("2024-12", "2024-12")
        assert len(market.quotes())

    def test_the_ledger_describes_each_file(self, site, market):
        market.download("2024-12", "2024-12")
        entry = market.archive_info().loc["inf_diario_fi_202412.zip"]
        response = site.portal.respond("/dados/FI/" + site.portal.path("2024-12"))
        assert entry["url"] == site.open_data_url + site.portal.path("2024-12")
        assert (entry["etag"], entry["last_modified"]) == (response.headers["ETag"], response.headers["Last-Modified"])
        assert entry["sha256"] == hashlib.sha256(response.body).hexdigest()
        assert entry["bytes"] == len(response.body)
        assert (entry["layout"], entry["rejected"]) == ("C", 0)
        assert entry["rows_read"] == entry["kept"] == len(site.portal.rows("2024-12"))
        assert str(market.archive_info()["fetched_at"].dtype) == "datetime64[us, UTC]"


class TestPoliteness:
    def test_the_crawl_delay_is_kept_without_a_redis(self, site, market):
        site.portal.crawl_delay = 1
        began = dt.datetime.now(dt.UTC)
        market.download("2024-10", "2024-12")
        assert (dt.datetime.now(dt.UTC) - began).total_seconds() >= 2
        assert market.politeness.crawl_delay == 1

    def test_the_crawl_delay_is_shared_by_all_on_a_redis(self, site, redis_url, tmp_path):
        site.portal.crawl_delay = 1
        with connect(redis_url) as redis:
            each = [sk.OpenData(site.open_data_url, archive=tmp_path / name) for name in "ab"]
            for market in each:
                market.politeness.share(redis)
            began = dt.datetime.now(dt.UTC)
            for _ in range(2):
                for market in each:
                    market.download("2024-12", "2024-12")
            assert (dt.datetime.now(dt.UTC) - began).total_seconds() >= 3
            assert site.portal.requests["robots"] == 1
            for market in each:
                market.politeness.unshare(redis)
                market.close()

    def test_the_amount_is_printed_first(self, site, market, capsys):
        market.download("2024-11", "2024-12", progress=True)
        told = capsys.readouterr().err
        assert re.search(r"2 files, 0 MB, less than a minute", told)
        assert site.portal.requests["listing"] == 1
        market.download("2024-11", "2024-12", progress=True)
        assert site.portal.requests["listing"] == 1  # sizes are known by now

    def test_a_script_prints_the_amount_unless_progress_is_off(self, market, capsys):
        market.download("2024-11", "2024-12", progress=False)
        assert capsys.readouterr().err == ""
        market.download("2024-11", "2024-12")
        assert capsys.readouterr().err == "2 files, 0 MB, less than a minute\n"

    def test_the_plan_knows_the_crawl_delay_before_the_first_request(self, site, market):
        market.download("2023-01", "2024-12", progress=False)
        site.portal.crawl_delay = 30
        with sk.OpenData(site.open_data_url, archive=market.archive) as other:
            files = files_between(Month(2023, 1), Month(2024, 12))
            assert other._downloader.plan(files) == "24 files, 0 MB, about 12 minutes"

    def test_a_plan_counts_only_missing_files(self, site, market, monkeypatch):
        market.download("2024-11", "2024-11", progress=False)
        months = [Month(2024, 11), Month(2024, 12)]
        assert market.plan(months) == "1 file, 0 MB, less than a minute"
        monkeypatch.setattr("scraperkit.sources.open_data.source.is_due", lambda *_: True)  # as a day later
        assert market.plan(months) == "1 file, 0 MB, less than a minute; and a check of 1 already stored"
        market.download("2024-12", "2024-12", progress=False)
        assert market.plan(months) == "0 files, 0 MB, less than a minute; and a check of 2 already stored"

    def test_it_logs_a_wait_and_gives_up_if_the_wait_is_too_long(self, site, tmp_path, caplog):
        settings = Settings.load(http_retries=1)
        with sk.OpenData(site.open_data_url, archive=tmp_path, settings=settings) as market:
            site.portal.outage(7)
            assert market.download("2024-12", "2024-12")["outcome"].tolist() == ["new"]
            assert re.search(r"asks for a pause.*: waiting until [0-9]{2}:[0-9]{2}:[0-9]{2}", caplog.text)
            site.portal.outage(600)
            files = market.download("2024-01", "2024-12")
        assert (files["outcome"] == "refused").all()
        assert files["reason"].str.contains("try again in [56][0-9]{2} s").sum() == 3

    def test_after_three_failures_no_more_files_are_requested(self, site, tmp_path):
        settings = Settings.load(http_retries=0, breaker_failures=100)
        with sk.OpenData(site.open_data_url, archive=tmp_path, settings=settings) as market:
            site.open_data_up = False
            files = market.download("2024-01", "2024-12")
        assert (files["outcome"] == "refused").all()
        assert files["reason"].str.startswith("the site is unavailable").sum() == 3
        assert files["reason"].str.startswith("not requested").sum() == 9

    def test_if_the_site_is_away_the_last_lines_say_so_and_name_the_way_out(self, site, tmp_path, capsys):
        with sk.OpenData(site.open_data_url, archive=tmp_path, settings=Settings.load(http_retries=0)) as market:
            market.download("2024-01", "2024-01")
            assert "sk.offline()" not in capsys.readouterr().err
            site.open_data_up = False
            market.download("2024-02", "2024-02")
            *_, why, way_out = capsys.readouterr().err.splitlines()
            assert why.startswith("inf_diario_fi_202402.zip: the site is unavailable: ")
            assert "sk.offline()" in way_out
            market.download("2024-02", "2024-02", progress=False)
            assert capsys.readouterr().err == ""


class TestSettings:
    def test_url_and_archive_come_from_the_environment(self, monkeypatch, tmp_path):
        monkeypatch.setenv("SCRAPERKIT_OPEN_DATA_URL", "http://127.0.0.1:9/dados/FI")
        monkeypatch.setenv("SCRAPERKIT_ARCHIVE", str(tmp_path / "here"))
        with sk.OpenData() as market:
            assert (market.url, market.archive) == ("http://127.0.0.1:9/dados/FI/", tmp_path / "here")

    def test_by_default_it_is_the_live_portal_and_the_data_folder(self, tmp_path):
        with sk.OpenData(settings=Settings.load(data=tmp_path)) as market:
            assert (market.url, market.archive) == (OPEN_DATA_URL, tmp_path / "open_data")
        assert not list(tmp_path.iterdir())

    def test_months_may_be_month_objects(self, market):
        assert market.download(Month(2024, 11), Month(2024, 12))["outcome"].tolist() == ["new", "new"]
        assert len(market.market(Month(2024, 12))) == len(market.market("2024-12"))

    def test_an_archive_that_is_not_a_folder_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="archive: expected the path of a folder, got int"):
            sk.OpenData(archive=5)
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match="archive: .*file is a file; give a folder"):
            sk.OpenData(archive=tmp_path / "file")

    def test_an_empty_variable_counts_as_unset(self, monkeypatch, tmp_path):
        monkeypatch.setenv("SCRAPERKIT_OPEN_DATA_URL", "")
        with sk.OpenData(archive=tmp_path) as market:
            assert market.url == OPEN_DATA_URL

    def test_a_redirect_error_names_the_portals_variable(self, site, tmp_path, monkeypatch):
        elsewhere = PortalResponse(301, {"Location": "http://other.example/"})
        monkeypatch.setattr(site.portal, "_file", lambda *_: ("file", elsewhere))
        with sk.OpenData(site.open_data_url, archive=tmp_path) as market:
            (row,) = market.download("2024-12", "2024-12").to_dict("records")
        assert "set SCRAPERKIT_OPEN_DATA_URL" in row["reason"]

    def test_an_invalid_address_error_names_its_variable(self):
        with pytest.raises(ConfigError, match="SCRAPERKIT_OPEN_DATA_URL"):
            sk.OpenData("")

    def test_listings_with_rounded_sizes_are_read(self):
        page = (
            '<a href="inf_diario_fi_202101.zip">inf..&gt;</a>  15-Mar-2021 03:52   11M\n<a href="HIST/">HIST/</a> - -\n'
        )
        assert listed_sizes(page) == {"inf_diario_fi_202101.zip": 11 << 20}


def test_an_interrupted_download_is_not_a_failure_of_the_site(site, market, redis):
    """Otherwise one Ctrl-C would open the circuit for every worker on this Redis."""
    site.portal.latency = 3_600
    market.politeness.share(redis)
    threads = []

    def bring() -> None:
        threads.append(threading.get_ident())
        with pytest.raises(SiteUnavailable):
            market.fetch(Fund("18993924000100", source="open_data").months("2024-03", "2024-03")[0])

    thread = threading.Thread(target=bring)
    thread.start()
    assert wait_until(lambda: site.portal.requests["file"] or site.portal.requests["robots"] or threads)
    while thread.is_alive():
        market.interrupt(threads)
        thread.join(0.1)
    assert not redis.hgetall(Keys.site(market.politeness.site))
    market.politeness.unshare(redis)
