"""The archive's frames: equal to TimeSeriesReader's, with a clear error for each kind of missing data."""

from __future__ import annotations

import datetime as dt

import pandas as pd
import pyarrow.dataset as ds
import pytest
from support.daily_files import OTHER, bring_in, line, month_zip, text_of, zip_of

import scraperkit as sk
from scraperkit.errors import ConfigError, NotDownloaded, ScraperKitWarning, UnknownFund
from scraperkit.models import METRICS, today
from scraperkit.sources.open_data import reading
from scraperkit.timeseries.reader import TimeSeriesReader
from scraperkit.timeseries.store import SeriesStore

A_KEY, B_KEY = "00017024000153", "00068305000135"
SPLIT = "64026956000145"


@pytest.fixture
def stored(folder):
    """Yield an archive of two months: a class, one with subclasses only, and one that splits in the second month."""
    july = [line(day="2026-07-30"), line(OTHER, "2026-07-30", subclass="B2"), line(OTHER, "2026-07-31", subclass="A1")]
    july.append(line("64.026.956/0001-45", "2026-07-31"))
    august = [line(day="2026-08-03", quota="2.5"), line(day="2026-08-05", quota="", net_worth="-4.00")]
    august += [line("64.026.956/0001-45", "2026-08-03"), line("64.026.956/0001-45", "2026-08-04", subclass="S1")]
    bring_in(folder, month_zip(july, month="202607"), "2026-07")
    bring_in(folder, month_zip(august))
    with sk.OpenData("http://127.0.0.1:9/", archive=folder.path) as market:
        yield market


class TestFrames:
    def test_they_equal_those_of_the_time_series_reader(self, site, market, redis, namespace):
        cnpjs = ["18993924000100", "99101011000125"]
        market.download("2024-11", "2024-12")
        quotes = market.quotes(cnpjs)
        SeriesStore(redis, namespace).write_frame(quotes)
        reader = TimeSeriesReader(redis, namespace)
        pd.testing.assert_frame_equal(quotes, reader.quotes(cnpjs))
        assert list(quotes.columns[:3]) == ["cnpj", "subclass", "date"]
        for metric in METRICS:
            expected = reader.prices(cnpjs[::-1], start="2024-11-15", metric=metric)
            pd.testing.assert_frame_equal(market.prices(cnpjs[::-1], start="2024-11-15", metric=metric), expected)

    def test_an_empty_frame_has_the_same_dtypes(self, stored):
        some, nothing = stored.quotes(A_KEY), stored.quotes(A_KEY, "2026-08-20")
        assert nothing.empty
        pd.testing.assert_series_equal(nothing.dtypes, some.dtypes)
        prices = stored.prices(A_KEY, "2026-08-20")
        assert (prices.shape, prices.columns.tolist(), prices.index.name) == ((0, 1), [A_KEY], "date")

    def test_all_series_are_columns_under_their_names(self, stored):
        prices = stored.prices()
        names = [A_KEY, f"{B_KEY}:A1", f"{B_KEY}:B2", SPLIT, f"{SPLIT}:S1"]
        assert prices.columns.tolist() == names
        assert [f"{day:%m-%d}" for day in prices.index] == ["07-30", "07-31", "08-03", "08-04"]
        assert prices[A_KEY].dropna().tolist() == [1.5, 2.5]

    def test_quotes_are_sorted_by_series_and_day(self, stored):
        rows = stored.quotes()[["cnpj", "subclass", "date"]]
        assert rows.to_numpy().tolist() == sorted(rows.to_numpy().tolist())
        assert len(rows) == 8

    def test_a_market_day_has_all_series_with_kind_flag_and_provisional(self, stored):
        day = stored.market("2026-08-05")
        assert day[["cnpj", "kind", "flag"]].to_numpy().tolist() == [[A_KEY, "CLASSES - FIF", "blank quota"]]
        assert stored.market("2026-08")["date"].is_monotonic_increasing is False
        assert len(stored.market("2026-08")) == 4
        assert stored.market("2026-08-06").empty
        assert stored.market(dt.date(2026, 8, 5))["provisional"].dtype == bool


class TestSeries:
    def test_a_cnpj_alone_is_the_class_even_after_a_split(self, stored):
        assert stored.prices(SPLIT).columns.tolist() == [SPLIT]
        assert stored.quotes(SPLIT)["subclass"].tolist() == ["", ""]

    def test_if_only_subclasses_have_rows_a_cnpj_is_all_of_them_with_a_warning(self, stored):
        with pytest.warns(ScraperKitWarning, match=f"{B_KEY} has no rows of its own here.*{B_KEY}:A1, {B_KEY}:B2"):
            prices = stored.prices([B_KEY, A_KEY])
        assert prices.columns.tolist() == [f"{B_KEY}:A1", f"{B_KEY}:B2", A_KEY]

    def test_a_subclass_after_a_colon_excludes_its_siblings(self, stored):
        quotes = stored.quotes("00.068.305/0001-35:B2")
        assert quotes[["cnpj", "subclass"]].to_numpy().tolist() == [[B_KEY, "B2"]]

    @pytest.mark.parametrize("bad", ["1", f"{A_KEY}:", f"{A_KEY}:a b", 5, [5], f"{A_KEY}:A1:B"])
    def test_an_invalid_series_is_refused(self, stored, bad):
        with pytest.raises(ConfigError):
            stored.prices(bad)

    def test_an_unknown_metric_is_refused(self, stored):
        with pytest.raises(ConfigError, match="metric: unknown metric 'x'"):
            stored.prices(metric="x")


class TestMissingData:
    def test_a_month_that_was_not_downloaded_is_named(self, market):
        with pytest.raises(NotDownloaded, match=r"it is empty: call download\(start, end\) or run"):
            market.prices()
        market.download("2024-12", "2024-12")
        with pytest.raises(NotDownloaded, match="no data for 2024-11; it has 2024-12: call"):
            market.market("2024-11-05")
        market.download("2024-10", "2024-10")
        with pytest.raises(NotDownloaded, match="no data for 2024-11; it has 2024-10, 2024-12: call"):
            market.quotes(start="2024-11", end="2024-11")
        market.prune(1)
        with pytest.warns(ScraperKitWarning, match=r"the archive has no data for 2024-10 to 2024-11: call download"):
            market.prices(start="2024-10")

    def test_a_month_that_the_portal_lacks_is_named(self, site, market):
        market.download("2024-12", "2025-01")
        with pytest.warns(ScraperKitWarning, match="the portal had no file of 2025-01"):
            market.prices(end="2025-01")

    def test_every_report_warns_of_the_months_that_are_missing(self, site, market):
        market.download("2024-10", "2024-10")
        market.download("2024-12", "2025-01")
        for read in (market.changes, market.rejected, market.prices):
            with pytest.warns(ScraperKitWarning) as told:
                read(start="2024-09", end="2025-01")
            texts = {str(each.message).partition(": call")[0] for each in told}
            assert texts == {
                "the portal had no file of 2025-01",
                "the archive has no data for 2024-09, 2024-11",
            }
        states = market.completeness("2024-09", "2025-01")["state"].groupby(lambda day: f"{day:%Y-%m}").unique()
        assert {month: state.tolist() for month, state in states.items()} == {
            "2024-09": ["not downloaded"], "2024-10": ["published"], "2024-11": ["not downloaded"],
            "2024-12": ["published"], "2025-01": ["no file"],
        }  # fmt: skip

    @pytest.mark.parametrize("day", ["05/03/2024", None, 5, pd.NaT])
    def test_an_invalid_day_of_the_market_is_refused_by_name(self, stored, day):
        with pytest.raises(ConfigError, match="^day: "):
            stored.market(day)

    def test_an_unpublished_day_is_reported_as_such(self, stored):
        frame = stored.completeness("2026-08-03", "2026-08-06")
        assert frame["state"].tolist() == ["published", "published", "published", "not published"]
        assert frame["series"].tolist() == [2, 1, 1, 0]

    def test_an_unknown_fund_is_an_error(self, stored):
        with pytest.raises(UnknownFund, match=r"the archive has no data for 18993924000100; find\(\)"):
            stored.prices(["18.993.924/0001-00", A_KEY])
        with pytest.raises(UnknownFund, match=f"{A_KEY}:ZZ"):
            stored.quotes(f"{A_KEY}:ZZ")
        # Known, but without rows on these days: no error, and nothing is filled.
        with pytest.warns(ScraperKitWarning, match=f"{SPLIT}:S1"):
            prices = stored.prices([A_KEY, SPLIT], "2026-08-04", "2026-08-04")
        assert prices[A_KEY].isna().tolist() == [True]


class TestCompleteness:
    def test_it_compares_each_day_with_the_day_before(self, folder):
        lines = [line(day="2026-08-03"), line(OTHER, "2026-08-03"), line(day="2026-08-04", quota="")]
        bring_in(folder, month_zip(lines))
        with sk.OpenData("http://127.0.0.1:9/", archive=folder.path) as market:
            frame = market.completeness("2026-08-03", "2026-08-05")
        row = frame.loc["2026-08-04"]
        assert row[["state", "series", "quotas", "before", "share", "missing"]].tolist() == [
            "published",
            1,
            0,
            2,
            0.5,
            1,
        ]
        assert frame.loc["2026-08-05", "missing"] == 1
        assert frame["series"].dtype == "int64"
        assert frame.index.dtype == "datetime64[ms]"

    def test_the_first_day_is_compared_with_the_day_before_and_a_gap_ends_that(self, folder):
        bring_in(folder, month_zip([line(day="2026-07-31"), line(OTHER, "2026-07-31")], month="202607"), "2026-07")
        bring_in(folder, month_zip([line(day="2026-08-03"), line(day="2026-08-17")]))
        with sk.OpenData("http://127.0.0.1:9/", archive=folder.path) as market:
            frame = market.completeness("2026-08", "2026-08")
        assert frame.index.min() == pd.Timestamp("2026-08-03")
        assert frame.loc["2026-08-03", ["before", "share", "missing"]].tolist() == [2, 0.5, 1]
        assert frame.loc["2026-08-17", ["series", "before", "missing"]].tolist() == [1, 0, 0]
        assert pd.isna(frame.loc["2026-08-17", "share"])

    @pytest.mark.parametrize(
        ("today", "since"),
        [
            ("2026-09-09", "2026-09-01"),
            ("2026-09-07", "2026-08-31"),
            ("2026-09-13", "2026-09-04"),
            ("2026-02-19", "2026-02-10"),
        ],
    )
    def test_a_day_is_provisional_until_five_business_days_have_passed(self, today, since):
        assert reading.provisional_since(dt.date.fromisoformat(today)) == dt.date.fromisoformat(since)

    def test_today_is_provisional_and_last_year_is_not(self, folder):
        now = today()
        old = line(day="2026-08-03")
        bring_in(folder, month_zip([old]))
        bring_in(folder, zip_of({"x.csv": text_of([line(day=f"{now}")])}), f"{now:%Y-%m}")
        with sk.OpenData("http://127.0.0.1:9/", archive=folder.path) as market:
            assert market.market("2026-08-03")["provisional"].tolist() == [False]
            assert market.market(now)["provisional"].tolist() == [True]
            assert market.completeness("2026-08-03", "2026-08-03")["provisional"].tolist() == [False]


class TestOtherPrograms:
    """Other programs read the folder directly."""

    def test_pandas_reads_the_same_rows(self, stored):
        frame = pd.read_parquet(stored.archive / "quotes")
        expected = stored.quotes()
        assert frame.dtypes.astype(str).to_dict() == {
            "cnpj": "str", "subclass": "str", "date": "datetime64[ms]", "quota": "float64", "net_worth": "float64",
            "holders": "int64", "inflow": "float64", "outflow": "float64", "portfolio": "float64",
            "kind": "str", "flag": "str", "seen_at": "datetime64[us, UTC]",
        }  # fmt: skip
        ordered = frame.sort_values(["cnpj", "subclass", "date"], ignore_index=True)
        pd.testing.assert_frame_equal(
            ordered[list(expected.columns)], expected.astype({"holders": "int64"}), check_column_type=False
        )

    def test_each_file_is_zstd_sorted_by_series_and_day(self, stored):
        for fragment in ds.dataset(stored.archive / "quotes").get_fragments():
            assert fragment.metadata.row_group(0).column(0).compression == "ZSTD"
            rows = fragment.to_table(columns=["cnpj", "subclass", "date"]).to_pylist()
            keys = [tuple(row.values()) for row in rows]
            assert keys == sorted(keys)

    def test_the_view_names_the_source_and_the_warnings(self, stored):
        html, text = stored._repr_html_(), stored._repr_mimebundle_()["text/plain"]
        for words in (
            "Comissão de Valores Mobiliários",
            "ODbL",
            "FIC",
            "survivors",
            "Come-cotas",
            "provisional",
            "FIDC",
        ):
            assert words in html
            assert words in text
            assert words in sk.OpenData.__doc__

    def test_pruning_keeps_the_newest_and_returns_what_it_deleted(self, stored):
        gone = stored.prune(1)
        assert gone["month"].tolist() == ["2026-07"]
        assert gone["bytes"].sum() > 0
        assert stored.quotes()["date"].min() == pd.Timestamp("2026-08-03")
        for keep in (0, "1", -3, True):
            with pytest.raises(ConfigError, match="keep"):
                stored.prune(keep)
