"""`sk.export` and `sk.read_csv`: files read back the same, and errors say why one cannot be written."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stdnum.br.cnpj import calc_check_digits
from support.disks import fill, small_disk
from support.fakes import FUND, FakeSite
from support.tree import ROOT

import scraperkit as sk
from scraperkit.errors import ConfigError, NotDownloaded, UnknownFund
from scraperkit.models import COLUMNS
from scraperkit.research.exports import write
from scraperkit.sources.rates.known import KNOWN_RATES

A = FUND.cnpj
ZEROS = "00360305000104"
LETTERS = "12ABC34501DE35"
KINDS = [("x.csv", False), ("x.csv", True), ("x.parquet", False)]

roots = st.text("0123456789ABCXYZ", min_size=12, max_size=12).filter(lambda text: text.strip("0"))
cnpjs = roots.map(lambda text: text + calc_check_digits(text))
subclasses = st.one_of(st.just(""), st.text("0123456789ABCXYZ", min_size=1, max_size=40))
days = st.dates(dt.date(1970, 1, 1), dt.date(2200, 1, 1))
figures = st.floats(allow_nan=True, allow_infinity=True)


def series_index(names: list[str]) -> pd.Index:
    return pd.Index(names, dtype="str", name="cnpj")


@st.composite
def wide_frames(draw) -> pd.DataFrame:
    series = draw(st.lists(st.tuples(cnpjs, subclasses), min_size=1, max_size=4, unique=True))
    dates = sorted(draw(st.sets(days, max_size=6)))
    values = [[draw(figures) for _ in series] for _ in dates]
    index = pd.DatetimeIndex(np.array(dates, dtype="datetime64[ms]"), name="date")
    names = [f"{cnpj}:{subclass}" if subclass else cnpj for cnpj, subclass in series]
    return pd.DataFrame(
        np.array(values, dtype=float).reshape(len(dates), len(series)), index=index, columns=series_index(names)
    )


@st.composite
def tidy_frames(draw) -> pd.DataFrame:
    keys = draw(st.lists(st.tuples(cnpjs, subclasses, days), max_size=6))
    columns = {
        "cnpj": pd.array([cnpj for cnpj, _, _ in keys], dtype="str"),
        "subclass": pd.array([subclass for _, subclass, _ in keys], dtype="str"),
        "date": np.array([day for _, _, day in keys], dtype="datetime64[ms]"),
    }
    for name, column in COLUMNS.items():
        if column.dtype == "float64":
            columns[name] = np.array([draw(figures) for _ in keys], dtype=float)
        elif column.dtype == "Int64":
            counts = [draw(st.one_of(st.none(), st.integers(0, 2**62))) for _ in keys]
            columns[name] = pd.array(counts, dtype="Int64")
    return pd.DataFrame(columns)[list(COLUMNS)]


@pytest.mark.parametrize(("name", "excel_br"), KINDS)
@given(frame=st.one_of(wide_frames(), tidy_frames()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_frame_reads_back_the_same(frame, name, excel_br, tmp_path):
    path = write(frame, tmp_path / name, excel_br=excel_br)
    back = sk.read_csv(path)
    pd.testing.assert_frame_equal(back, frame, check_exact=True, check_column_type=True, check_index_type=True)


@pytest.fixture
def prices() -> pd.DataFrame:
    index = pd.DatetimeIndex(["2022-01-03", "2022-01-04"], name="date").astype("datetime64[ms]")
    return pd.DataFrame([[1.5, np.nan], [1e-9, 2.0]], index=index, columns=series_index([ZEROS, LETTERS]))


@pytest.mark.parametrize("subclass", [A, "18.993.924/0001-00"])
def test_a_text_that_looks_like_a_cnpj_reads_back_as_it_is(tmp_path, subclass):
    frame = pd.DataFrame({"cnpj": [A], "subclass": [subclass], "days": [1]}).astype({"cnpj": "str", "subclass": "str"})
    path = write(frame, tmp_path / "x.csv", excel_br=True)
    assert "18.993.924/0001-00;" in path.read_text(encoding="utf-8-sig")
    assert sk.read_csv(path)["subclass"].tolist() == [subclass]


def test_excel_gets_numbers_it_reads_and_cnpjs_it_does_not_change(prices, tmp_path):
    path = sk.export(prices, tmp_path / "prices.csv", excel_br=True)
    assert path.read_bytes().decode("utf-8") == (
        "\ufeffdate;00.360.305/0001-04;12.ABC.345/01DE-35\n2022-01-03;1,5;\n2022-01-04;1e-09;2,0\n"
    )
    tidy = pd.DataFrame({"cnpj": [ZEROS, f"{LETTERS}:AB1"], "quota": [1.5, 2.0]})
    sk.export(tidy, path, excel_br=True)
    assert path.read_text("utf-8-sig").splitlines()[1:] == ["00.360.305/0001-04;1,5", "12.ABC.345/01DE-35:AB1;2,0"]


def test_a_file_that_excel_has_saved_again_is_read(tmp_path):
    path = tmp_path / "prices.csv"
    path.write_bytes("date;00.360.305/0001-04;Fundo Ação\r\n03/01/2022;1,5;\r\n04/01/2022;;2\r\n".encode("cp1252"))
    back = sk.read_csv(path)
    assert back.index.tolist() == [pd.Timestamp(2022, 1, 3), pd.Timestamp(2022, 1, 4)]
    assert back.columns.tolist() == [ZEROS, "Fundo Ação"]
    assert back.iloc[1, 1] == 2.0


def test_parquet_keeps_names_and_other_attrs_and_csv_loses_them(prices, tmp_path):
    prices.attrs |= {"names": {ZEROS: "Fundo Ação"}, "inherited": {ZEROS: dt.date(2022, 1, 3)}}
    back = sk.read_csv(sk.export(prices, tmp_path / "prices.parquet"))
    assert back.attrs == {"names": {ZEROS: "Fundo Ação"}, "inherited": {ZEROS: "2022-01-03"}}
    assert sk.read_csv(sk.export(prices, tmp_path / "prices.csv")).attrs == {}
    assert prices.attrs["inherited"][ZEROS] == dt.date(2022, 1, 3), "the frame itself is unchanged"


def test_a_column_of_a_fund_that_was_not_found_reads_back(prices, tmp_path):
    prices["=no such fund, at all"] = np.nan
    for name, excel_br in KINDS:
        back = sk.read_csv(sk.export(prices, tmp_path / name, excel_br=excel_br))
        pd.testing.assert_frame_equal(back, prices)


def test_text_is_guarded_against_formulas_and_reads_back_without_the_guard(tmp_path):
    frame = pd.DataFrame({"name": pd.array(["=1+1", "'quoted", "-5"], dtype="str"), "pk": ["007", "1", "2"]})
    for excel_br in (False, True):
        path = sk.export(frame, tmp_path / "funds.csv", excel_br=excel_br)
        assert "'=1+1" in path.read_text("utf-8-sig")
        assert sk.read_csv(path)["name"].tolist() == ["=1+1", "'quoted", "-5"]
        assert sk.read_csv(path)["pk"].tolist() == ["007", "1", "2"]


def test_unknown_columns_get_the_dtype_that_fits_all_their_cells(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(
        "fund,code,day,at,is_good,count,share,word,nothing\n"
        f"{A},007,2022-01-03,2022-01-03 10:00:00+00:00,True,3,0.5,a,\n"
        f"{ZEROS},8,,2022-01-03 10:00:00.5+00:00,False,-4,,2b,\n"
    )
    back = sk.read_csv(path)
    assert back.dtypes.astype(str).to_dict() == {
        **{"fund": "str", "code": "str", "day": "datetime64[ms]", "at": "datetime64[us, UTC]"},
        **{"is_good": "bool", "count": "int64", "share": "float64", "word": "str", "nothing": "float64"},
    }
    assert back["fund"].tolist() == [A, ZEROS]


def test_rows_selected_from_a_tidy_frame_are_written_without_row_numbers(tmp_path):
    tidy = pd.DataFrame({"cnpj": [A, ZEROS], "quota": [1.0, 2.0]})
    back = sk.read_csv(sk.export(tidy[tidy["cnpj"] == ZEROS], tmp_path / "some.csv"))
    assert back.to_dict("list") == {"cnpj": [ZEROS], "quota": [2.0]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "its first line has no headings"),
        (b"date,date\n", "two columns are called 'date'; rename one"),
        (b"date,00360305000104\n2022-01-03,1.5,2\n", "not a CSV file of one table: .*Expected 2 columns, got 3"),
        (
            b"date,00360305000104\n2022-01-03,1.5\n2022-01-04,x\n",
            "'00360305000104', line 3: 'x' is not a number",
        ),
        (
            b"date,00360305000104\n03/01/2022,1.5\n",
            "column 'date', line 2: '03/01/2022' is not a day; write it as",
        ),
        (b"date;00360305000104\n2022-01-03;1.234\n", "line 2: '1.234' is a number with a point, in a file with ;"),
        (b"cnpj,quota\n1.89939E+13,2\n", "column 'cnpj', line 2: '1.89939E\\+13' is not a CNPJ"),
        (b"cnpj,quota\n360305000104,2\n", "cut off its leading zeros: if so, write '00360305000104'"),
        (b"cnpj,holders\n00360305000104,2.5\n", "column 'holders', line 2: '2.5' is not a whole number"),
        (b"PAR1 is not all", "cannot read this Parquet file"),
        (b"no\rtext\x93,\n1", "not a CSV file"),
    ],
)
def test_the_error_for_a_malformed_file_names_column_and_line(content, message, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"^{path}: .*{message}"):
        sk.read_csv(path)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "prices.xlsx",
            {},
            r"path: 'prices.xlsx' must end in .csv or .parquet; for Excel, write .csv with excel_br=True",
        ),
        ("prices", {}, "path: 'prices' must end in .csv or .parquet$"),
        ("prices.csv.gz", {}, "must end in .csv or .parquet$"),
        ("prices.parquet", {"excel_br": True}, "excel_br, --excel-br: applies only to CSV; let path end in .csv"),
        ("no/prices.csv", {}, "path: no folder .*no; create it first"),
        ("folder.csv", {}, "path: .*folder.csv is a folder"),
        ("prices.csv", {"start": "2022-01"}, "start: applies only to funds; choose rows"),
        ("prices.csv", {"metric": "holders"}, "metric: applies only to funds"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(prices, tmp_path, name, options, message):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigError, match=message):
        sk.export(prices, tmp_path / name, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]


@pytest.mark.parametrize(("name", "excel_br"), KINDS)
def test_any_series_is_written_as_a_frame_of_one_column(tmp_path, name, excel_br):
    one = pd.Series([1.5, 2.5], index=pd.Index([A, ZEROS], dtype="str", name="cnpj"))
    back = sk.read_csv(sk.export(one, tmp_path / name, excel_br=excel_br))
    found = back["value"].tolist(), (back.index if name == "x.parquet" else back["cnpj"]).tolist()
    assert found == ([1.5, 2.5], [A, ZEROS])


def test_an_empty_frame_is_refused_and_the_old_file_is_kept(prices, tmp_path):
    path = sk.export(prices, tmp_path / "prices.csv")
    before = path.read_bytes()
    for empty in (prices.iloc[:0], prices[[]]):
        with pytest.raises(ConfigError, match="data: nothing to write to .*: the frame has no (rows|columns)"):
            sk.export(empty, path)
    with pytest.raises(ConfigError, match=r"path: give text or a Path; got NoneType"):
        sk.export(prices, None)
    assert path.read_bytes() == before


def test_a_frame_that_parquet_cannot_hold_leaves_the_old_file(prices, tmp_path):
    path = sk.export(prices, tmp_path / "prices.parquet")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"data: cannot be written to .*prices.parquet"):
        sk.export(pd.DataFrame({"mixed": [1, "a", object()]}), path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["prices.parquet"]


def test_a_file_is_replaced_atomically_and_keeps_its_permissions_and_links(prices, tmp_path):
    path = sk.export(prices, tmp_path / "prices.csv")
    path.chmod(0o600)
    link = tmp_path / "link.csv"
    link.symlink_to(path)
    with path.open() as reader:
        sk.export(prices.iloc[:1], link)
        assert len(reader.readlines()) == 3, "an open reader reads the old file to its end"
    assert link.is_symlink()
    assert len(sk.read_csv(path)) == 1
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_leaves_the_old_file(prices, tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        path = sk.export(prices, disk / "prices.csv")
        before = path.read_bytes()
        fill(disk)
        with pytest.raises(ConfigError, match=r"path: cannot write .*: No space left on device; choose another place"):
            sk.export(pd.concat([prices] * 20_000), path)
        assert path.read_bytes() == before
        assert not list(disk.glob(".*.part"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_error_names_a_path_that_cannot_be_written(prices):
    with pytest.raises(ConfigError, match=r"path: cannot write /proc/prices.csv: No such file or directory; choose"):
        sk.export(prices, "/proc/prices.csv")


class TestFunds:
    def test_funds_are_collected_and_the_file_names_the_source_of_the_figures(self, offline, tmp_path):
        path = sk.export(FUND, tmp_path / "prices.parquet", "2022-01", "2022-02")
        prices = sk.prices(A, "2022-01", "2022-02")
        pd.testing.assert_frame_equal(pd.read_parquet(path), prices)
        told = json.loads(pq.read_schema(path).metadata[b"scraperkit"])
        assert told["units"] == {"quota": "R$"}
        assert (told["metric"], told["source"]) == ("quota", "cvm_pages")
        assert told["licence"] == "invented figures of the offline replica"
        now = dt.datetime.now(dt.UTC)
        assert told["fetched_from"] <= told["fetched_to"] <= f"{now:%Y-%m-%dT%H:%MZ}"
        assert told["fetched_from"][:4] == f"{now:%Y}"

    def test_all_metrics_make_a_tidy_table_with_units(self, offline, tmp_path):
        path = sk.export(A, tmp_path / "quotes.parquet", "2022-01", "2022-01", "all")
        pd.testing.assert_frame_equal(sk.read_csv(path), sk.quotes(A, "2022-01", "2022-01"))
        told = json.loads(pq.read_schema(path).metadata[b"scraperkit"])
        assert told["units"]["holders"] == "people"

    def test_none_exports_all_that_is_stored_and_fetches_nothing(self, offline, requests, tmp_path):
        sk.prices(A, "2022-01", "2022-01")
        before = requests()
        assert sk.read_csv(sk.export(None, tmp_path / "all.csv", "2022-01")).columns.tolist() == [A]
        assert requests() == before

    def test_the_live_sources_have_their_licences(self, offline, redis, monkeypatch, tmp_path):
        from scraperkit.research import provenance

        prices = sk.prices([A], "2022-01", "2022-01", source="open_data")
        monkeypatch.setattr(provenance, "is_offline", lambda: False)
        prices = sk.prices([A], "2022-01", "2022-01", source="open_data")
        assert "(ODbL) 1.0" in prices.attrs["licence"]
        assert "no licence" in sk.prices([A], "2022-02", "2022-02", source="cvm_pages").attrs["licence"]

    @pytest.mark.parametrize(
        ("name", "licence"), [("cdi", "Banco Central"), ("ipca", "Banco Central"), ("ibovespa", "B3 S.A.")]
    )
    def test_a_rate_is_exported_with_its_metadata_and_reads_back(self, offline, monkeypatch, tmp_path, name, licence):
        rate = sk.rates(name, "2022-01", "2022-03")
        path = sk.export(rate, tmp_path / "rate.parquet")
        told = json.loads(pq.read_schema(path).metadata[b"scraperkit"])
        assert told["units"] == {name: rate.attrs["unit"]}
        assert (told["name"], told["kind"], told["source"]) == (name, rate.attrs["kind"], rate.attrs["source"])
        assert told["licence"] == "invented figures of the offline replica"
        assert told["fetched_to"][:10] == f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"
        assert licence in KNOWN_RATES[name].licence
        back = sk.read_csv(path)[name]
        pd.testing.assert_series_equal(back, rate)
        days = pd.DatetimeIndex(["2022-01-31", "2022-02-28"], name="date")
        assert sk.metrics.growth(back, days).equals(sk.metrics.growth(rate, days))
        for excel_br in (False, True):
            table = sk.read_csv(sk.export(rate, tmp_path / "rate.csv", excel_br=excel_br))
            pd.testing.assert_series_equal(table[name], rate)
            assert not table.attrs

    def test_a_users_own_source_has_no_licence(self, offline):
        assert sk.prices(A, "2022-01", "2022-01", source=FakeSite()).attrs["licence"] == ""
        mixed = sk.prices(A, "2022-01", "2022-02", source="cvm_pages").attrs
        assert mixed["licence"] == "invented figures of the offline replica"

    def test_invalid_arguments_are_refused_before_any_request(self, offline, requests, redis, tmp_path):
        for options, message in (
            ({"metric": "price"}, "metric: unknown metric 'price'; choose one of quota, .*, all"),
            ({"source": "open_data", "redis": redis}, "redis: the archive needs none; omit it"),
        ):
            with pytest.raises(ConfigError, match=message):
                sk.export(A, tmp_path / "x.csv", "2022-01", **options)
        with pytest.raises(ConfigError, match="must end in"):
            sk.export(A, tmp_path / "x.txt", "2022-01")
        assert requests() == (0, 0)


PROGRAM = """
import sys
import scraperkit as sk
with sk.Replica.start() as site:
    site.portal.crawl_delay = 0
    with sk.OpenData(site.open_data_url) as market:
        market.download("2022-01", "2022-02")
        sk.export(["18.993.924/0001-00"], "wide.parquet", "2022-01", "2022-02", source="open_data")
        sk.export("aroeira fundo exemplo", "tidy.csv", "2022-01", "2022-02", "all", source=market)
        market.prices("18993924000100", "2022-01", "2022-02").to_pickle("wide.pickle")
"""


def test_the_archive_is_exported_without_redis(tmp_path):
    environment = os.environ | {
        "REDIS_URL": "redis://127.0.0.1:9",  # nothing listens there
        "SCRAPERKIT_ARCHIVE": str(tmp_path / "archive"),
        "SCRAPERKIT_OPEN_DATA_URL": "http://127.0.0.1:9/",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    wide = sk.read_csv(tmp_path / "wide.parquet")
    pd.testing.assert_frame_equal(wide, pd.read_pickle(tmp_path / "wide.pickle"))
    told = json.loads(pq.read_schema(tmp_path / "wide.parquet").metadata[b"scraperkit"])
    assert told["source"] == "open_data"
    assert "(ODbL) 1.0" in told["licence"]
    assert told["fetched_from"] == told["fetched_to"] != ""
    tidy = sk.read_csv(tmp_path / "tidy.csv")
    assert tidy["quota"].tolist() == wide[A].tolist()
    assert tidy.columns.tolist() == list(COLUMNS)


def test_exporting_days_or_funds_that_the_archive_lacks_is_an_error(tmp_path):
    with sk.Replica.start() as site:
        site.portal.crawl_delay = 0
        with sk.OpenData(site.open_data_url, archive=tmp_path / "archive") as market:
            with pytest.raises(NotDownloaded, match=r"it is empty: call download\(start, end\) or "):
                sk.export(A, tmp_path / "x.csv", "2022-01", source=market)
            market.download("2022-01", "2022-01")
            with pytest.raises(UnknownFund):
                sk.export(ZEROS, tmp_path / "x.csv", "2022-01", "2022-01", source=market)
    assert not (tmp_path / "x.csv").exists()


def test_the_examples_of_the_page_run_in_order(redis_url, namespace, tmp_path):
    page = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    text = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)) + "\nprint(about['units'], about['licence'])"
    given = {"REDIS_URL": redis_url, "SCRAPERKIT_NAMESPACE": namespace}
    done = subprocess.run(
        [sys.executable, "-c", text], env=os.environ | given, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "{'quota': 'R$'} invented figures of the offline replica\n"
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".parquet"}
    with sk.connect(redis_url) as redis:
        for key in redis.scan_iter(f"{namespace}-offline:*", count=1000):
            redis.unlink(key)


def test_a_tilde_is_the_home_folder_and_too_long_a_name_is_refused(prices, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sk.export(prices, "~/prices.csv") == tmp_path / "prices.csv"
    assert sk.read_csv("~/prices.csv").equals(prices)
    for use in (lambda path: sk.export(prices, path), sk.read_csv):
        with pytest.raises(ConfigError, match="path: the name 'xxx.* has 304 bytes; give at most 200"):
            use(tmp_path / ("x" * 300 + ".csv"))
        with pytest.raises(ConfigError, match=r"path: the path has 4,\d\d\d bytes; give at most 4,000"):
            use(tmp_path / "/".join(["x" * 99] * 40) / "y.csv")
        with pytest.raises(ConfigError, match="path: '~nobody-of-this-name/x.csv': no such home folder"):
            use("~nobody-of-this-name/x.csv")
