"""``scraperkit market``, against the replica's portal."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest
from support.waiting import wait_until
from typer.testing import CliRunner

import scraperkit as sk
from scraperkit.cli import app
from scraperkit.cli.exits import CONFIG
from scraperkit.errors import NothingThere

LEDGER = "inf_diario_fi_202412.zip"


@pytest.fixture
def site(monkeypatch, tmp_path):
    with sk.Replica.start() as replica:
        replica.portal.crawl_delay = 0
        monkeypatch.setenv("SCRAPERKIT_OPEN_DATA_URL", replica.open_data_url)
        monkeypatch.setenv("SCRAPERKIT_ARCHIVE", str(tmp_path / "archive"))
        yield replica


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["market", *words])
    assert result.exit_code == code, result.output
    return result.output


def test_every_command_works_after_a_download(site, tmp_path):
    told = run("download", "--from", "2024-11", "--to", "2024-12")
    assert "2 files, 0 MB, less than a minute" in told
    assert told.count(" new ") == 4  # the registry's files, too
    site.portal.restate("2024-12")
    assert " changed " in run("download", "--from", "2024-12", "--to", "2024-12")
    with sk.OpenData() as market:
        changes = market.changes()
        told = run("changes", "--from", "2024-12")
        assert all(repr(float(each)) in told for each in [*changes["old"], *changes["new"]])
        run("changes", "--out", str(tmp_path / "changes.parquet"))
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "changes.parquet"), changes)
    for words in ("JATOBÁ", "holders", "net_worth", "kind"):
        assert words in run("find", "jatoba", "--active")
    nobody = CliRunner().invoke(app, ["market", "find", "jatoba", "--inactive"])
    assert isinstance(nobody.exception, NothingThere)
    assert str(nobody.exception) == "nothing found"
    assert "published" in run("completeness", "--start", "2024-12")
    assert "no line was rejected" in run("rejected")
    told = run("info")
    for words in ("ODbL", LEDGER, "2024-11 to 2024-12", "changed"):
        assert words in told
    run("completeness", "--out", str(tmp_path / "days.csv"))
    assert (tmp_path / "days.csv").read_text().startswith("date,state,series")
    assert "1 months deleted" in run("prune", "--keep", "1")


def test_a_refused_file_exits_with_1_and_its_reason(site):
    site.portal.show_html("2024-12")
    told = run("download", "--from", "2024-12", "--to", "2024-12", code=1)
    assert "a web page instead of a zip" in told


def test_a_refused_registry_exits_with_1_every_time(site):
    site.portal.show_html("registry")
    for _ in range(2):
        assert "a web page instead of a zip" in run("download", "--from", "2024-12", "--to", "2024-12", code=1)


def test_an_unknown_file_suffix_is_refused(site):
    result = CliRunner().invoke(app, ["market", "changes", "--out", "x.xls"])  # before the empty archive
    assert "must end in .csv or .parquet" in str(result.exception)


def test_download_every_repeats_until_it_is_stopped(site):
    words = [sys.executable, "-m", "scraperkit", "market", "download", "--from", "2024-12", "--every", "0.001"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert wait_until(lambda: site.portal.requests["not_modified"] >= 1, 100)  # the second round, 4 s later
        process.terminate()
        assert process.wait(20) == 0


def test_the_archive_feeds_redis_in_bulk_and_by_workers(site, redis, redis_url, namespace, monkeypatch):
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("SCRAPERKIT_NAMESPACE", namespace)
    run("download", "--from", "2024-11", "--to", "2024-11")
    told = run("load", "18.993.924/0001-00", "--start", "2024-11", "--end", "2024-11")
    assert "samples written" in told
    assert "Redis will need about" in told
    reader = sk.TimeSeriesReader(redis, namespace)
    loaded = reader.quotes()
    assert len(loaded) == 19
    words = [sys.executable, "-m", "scraperkit", "work", "--source", "open_data", "--threads", "1"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as worker:
        told = ["publish", "18993924000100", "--from", "2024-10", "--to", "2024-11", "--source", "open_data", "--wait"]
        result = CliRunner().invoke(app, told)
        worker.terminate()
        assert worker.wait(30) == 0
    assert result.exit_code == 0, result.output
    assert "2 published, 2 done" in result.output
    pd.testing.assert_frame_equal(reader.quotes(start="2024-11"), loaded)
    assert len(reader.quotes(start="2024-10", end="2024-10")) > 15


def test_reading_commands_accept_a_subclass_and_publish_says_why_it_does_not(site, redis_url, namespace, monkeypatch):
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("SCRAPERKIT_NAMESPACE", namespace)
    monkeypatch.setenv("SCRAPERKIT_CVM_URL", site.url)
    split, name = "99.101.035/0001-84", "99101035000184:B8MNP1726012800"
    run("download", "--from", "2024-09", "--to", "2024-10")
    assert "samples written" in run("load", f"{split}:b8mnp1726012800")
    told = CliRunner().invoke(app, ["prices", f"{split}:B8MNP1726012800"])
    assert (told.exit_code, name in told.output) == (0, True), told.output
    run("load", split)
    told = CliRunner().invoke(app, ["prices", name, "--inherit"])
    assert "2024-09-02" in told.output, told.output
    with pytest.warns(sk.errors.ScraperKitWarning, match=name) as said:
        told = CliRunner().invoke(app, ["prices", split, "--start", "2024-10"])
    assert len(said) == 1
    assert told.exit_code == 0
    for source in ("cvm_pages", "open_data"):
        told = CliRunner().invoke(app, ["publish", name, "--from", "2024-09", "--source", source])
        assert told.exit_code == CONFIG
        assert f"here a CNPJ stands for all its subclasses: write {split}" in told.output
