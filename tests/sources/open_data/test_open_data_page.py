"""docs/open-data.md: its examples run unchanged, and its tables match the files on disk."""

from __future__ import annotations

import re

import dask
import duckdb
import pyarrow.parquet as pq
import pytest
from support.tree import ROOT

import scraperkit as sk
from scraperkit.sources.terms import WARNINGS

PAGE = (ROOT / "docs" / "open-data.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    with sk.Replica.start() as site, sk.OpenData(site.open_data_url, archive=folder) as market:
        site.portal.crawl_delay = 0
        market.download("2024-09", "2024-12")
        site.portal.restate("2024-09")
        market.download("2024-09", "2024-09")
        market.find("aroeira")
    return folder


def example(words: str) -> str:
    (found,) = [text for text in EXAMPLES if words in text]
    return found


class TestOtherPrograms:
    def test_pyarrow(self, archive):
        with sk.OpenData("http://127.0.0.1:9/", archive=archive) as market:
            names: dict = {"market": market}
            exec(example("pyarrow"), names)
            assert names["of_fund"]["quota"].to_pylist() == market.prices("18993924000100").iloc[:, 0].tolist()

    def test_duckdb(self, archive):
        names = {"archive": archive}
        exec(example("duckdb"), names)
        assert names["largest"]["month"].dt.strftime("%Y-%m").tolist() == ["2024-09", "2024-10", "2024-11", "2024-12"]
        types = dict(
            duckdb.sql(f"describe select * from '{archive}/quotes/*.parquet'")
            .df()[["column_name", "column_type"]]
            .to_numpy()
        )
        assert (types["cnpj"], types["date"], types["quota"]) == ("VARCHAR", "TIMESTAMP", "DOUBLE")

    @pytest.mark.filterwarnings("default")
    def test_dask(self, archive):
        names = {"archive": archive}
        with dask.config.set(scheduler="synchronous"):  # its threads would outlive the test
            exec(example("dask"), names)
        with sk.OpenData("http://127.0.0.1:9/", archive=archive) as market:
            counts = market.quotes().groupby("date")["quota"].count()
        assert names["by_day"].sort_index().tolist() == counts.tolist()


def test_the_first_example_and_the_one_on_revisions_run(archive, monkeypatch):
    with sk.Replica.start() as site:
        site.portal.crawl_delay = 0
        monkeypatch.setenv("SCRAPERKIT_OPEN_DATA_URL", site.open_data_url)
        monkeypatch.setenv("SCRAPERKIT_ARCHIVE", str(archive))
        names: dict = {}
        exec(example("market = sk.OpenData()"), names)
        assert names["prices"].columns.tolist() == ["18993924000100"]
        exec(example("as_of=then").replace("2026, 9, 1", "2126, 9, 1"), names)
        names["market"].close()


@pytest.mark.filterwarnings("default")
def test_all_examples_run_one_after_the_other(redis_url, namespace, tmp_path, monkeypatch):
    with sk.Replica.start() as site:
        site.portal.crawl_delay = 0
        given = {"CVM_URL": site.url, "OPEN_DATA_URL": site.open_data_url, "ARCHIVE": tmp_path, "NAMESPACE": namespace}
        for name, value in given.items():
            monkeypatch.setenv(f"SCRAPERKIT_{name}", str(value))
        monkeypatch.setenv("REDIS_URL", redis_url)
        names: dict = {}
        with dask.config.set(scheduler="synchronous"):  # its threads would outlive the test
            for code in EXAMPLES:
                exec(code.replace("2026, 9, 1", "2126, 9, 1"), names)
        assert names["batch"].status().done == 12
        names["market"].close()
        names["redis"].close()
    assert names["prices"].index[0].isoformat() == "2022-01-03T00:00:00"


def test_the_table_of_columns_matches_the_files(archive):
    told = re.findall(r"^\| (`[a-z_`, ]+`) \| (text|float64|int64|timestamp)", PAGE, re.MULTILINE)
    names = [name for cell, _ in told for name in re.findall("`([a-z_]+)`", cell)]
    assert names == pq.ParquetFile(archive / "quotes" / "2024-09.parquet").schema_arrow.names


def test_the_table_of_folders_matches_the_archive(archive):
    told = re.findall(r"^\| `([a-z]+)/` \|", PAGE, re.MULTILINE)
    assert sorted(told) == sorted(path.name for path in archive.iterdir())


def test_the_warnings_are_those_of_the_view_and_the_docstring():
    def plain(text: str) -> str:
        return " ".join(text.replace("*", "").split())

    for warning in WARNINGS[1:4]:
        assert plain(warning) in plain(PAGE)
        assert plain(warning) in plain(sk.OpenData.__doc__)
