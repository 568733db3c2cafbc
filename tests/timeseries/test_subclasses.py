"""A series is a CNPJ, or a CNPJ and a subclass; histories are joined only on request."""

from __future__ import annotations

import datetime as dt

import pandas as pd
import pytest

from scraperkit.cnpj import format_series, normalize_series
from scraperkit.errors import ConfigError, ScraperKitWarning, UnknownFund
from scraperkit.keys import Keys
from scraperkit.models import COLUMNS, DailyQuote

FUND, OTHER = "18993924000100", "12ABC34501DE35"
FIRST, SECOND = f"{FUND}:Z2HFZ1734468953", f"{FUND}:B2"


def quote(series: str, date: str, quota: float) -> DailyQuote:
    cnpj, _, subclass = series.partition(":")
    return DailyQuote(cnpj, dt.date.fromisoformat(date), quota, subclass=subclass)


class TestTheNameOfASeries:
    @pytest.mark.parametrize("text", ["18.993.924/0001-00:z2hfz1734468953", FIRST])
    def test_is_normalized(self, text):
        assert normalize_series(text) == FIRST

    def test_is_shown_with_the_punctuation_of_its_cnpj(self):
        assert format_series(FIRST) == "18.993.924/0001-00:Z2HFZ1734468953"
        assert normalize_series(format_series(FIRST)) == FIRST

    @pytest.mark.parametrize("subclass", ["", "A)B", "A,B", "A:B", "a b", "é", "A" * 41])
    def test_that_could_not_be_a_label_is_refused(self, subclass):
        text = f"{FUND}:{subclass}"
        with pytest.raises(ConfigError, match=r"subclass .* of 18\.993\.924/0001-00: give 1 to 40 letters and digits"):
            normalize_series(text)


class TestASubclass:
    def test_has_its_own_series_and_label(self, store, reader, redis, namespace):
        store.write([quote(FIRST, "2024-01-03", 1.5)])
        info = redis.execute_command("TS.INFO", f"{namespace}:{{{FUND}}}:Z2HFZ1734468953:quota")
        assert info["labels"] == {
            "kit": namespace,
            "metric": "quota",
            "cnpj": FUND,
            "subclass": "Z2HFZ1734468953",
        }
        assert Keys(namespace).series(FIRST, "quota") == f"{namespace}:{{{FUND}}}:Z2HFZ1734468953:quota"

    def test_is_read_by_its_name_and_beside_its_class(self, store, reader):
        store.write([quote(FUND, "2024-01-03", 1.0), quote(FIRST, "2024-01-04", 1.5), quote(SECOND, "2024-01-04", 9.0)])
        assert reader.prices([FIRST, FUND]).columns.tolist() == [FIRST, FUND]
        assert reader.prices(FUND).columns.tolist() == [FUND]
        rows = reader.quotes()
        assert list(rows.columns) == list(COLUMNS)
        assert rows[["cnpj", "subclass", "quota"]].to_numpy().tolist() == [
            [FUND, "", 1.0],
            [FUND, "B2", 9.0],
            [FUND, "Z2HFZ1734468953", 1.5],
        ]
        assert reader.last([SECOND])["quota"].tolist() == [9.0]
        assert reader.funds()["days"].to_dict() == {FUND: 1, SECOND: 1, FIRST: 1}

    def test_that_is_not_stored_is_unknown_by_its_full_name(self, store, reader):
        store.write([quote(FIRST, "2024-01-03", 1.5)])
        with pytest.raises(UnknownFund, match=r"18\.993\.924/0001-00:B2"):
            reader.prices([FIRST, SECOND])

    def test_is_deleted_alone_or_with_its_fund(self, store, reader):
        quotes = [quote(FUND, "2024-01-03", 1.0), quote(FIRST, "2024-01-04", 1.5), quote(SECOND, "2024-01-04", 9.0)]
        store.write(quotes)
        assert store.delete(SECOND) == 1
        assert reader.funds().index.tolist() == [FUND, FIRST]
        assert store.delete(FUND) == 1
        assert reader.funds().empty


class TestAClassWithoutItsOwnFigures:
    def test_is_replaced_by_all_its_subclasses_with_a_warning(self, store, reader):
        store.write(
            [quote(FIRST, "2024-01-03", 1.5), quote(SECOND, "2024-01-03", 9.0), quote(OTHER, "2024-01-03", 2.0)]
        )
        with pytest.warns(ScraperKitWarning, match=rf"reported by subclass.*18\.993\.924/0001-00: {SECOND}, {FIRST}"):
            prices = reader.prices([OTHER, FUND])
        assert prices.columns.tolist() == [OTHER, SECOND, FIRST]
        for read in (reader.quotes, reader.last):
            with pytest.warns(ScraperKitWarning, match="reported by subclass"):
                assert len(read([OTHER, FUND])) == 3

    def test_is_judged_by_the_requested_days_and_by_every_metric(self, store, reader):
        store.write([quote(FUND, "2023-01-03", 1.0), quote(FIRST, "2024-01-04", 1.5)])
        assert reader.prices(FUND).columns.tolist() == [FUND]
        with pytest.warns(ScraperKitWarning, match=FIRST):
            assert reader.prices(FUND, start="2024-01").columns.tolist() == [FIRST]
        assert reader.prices(FUND, "2023-02", "2023-03").columns.tolist() == [FUND], "neither has figures then"
        # A class that reports only its net worth has figures, too.
        store.write([DailyQuote(FUND, dt.date(2024, 1, 5), net_worth=5.0)])
        assert reader.prices(FUND, start="2024-01").columns.tolist() == [FUND]

    def test_is_itself_beside_one_of_its_subclasses(self, store, reader):
        store.write([quote(FIRST, "2024-01-04", 1.5), quote(SECOND, "2024-01-04", 9.0), quote(FUND, "2023-01-03", 1.0)])
        assert reader.prices([FUND, FIRST], start="2024-01").columns.tolist() == [FUND, FIRST]


class TestHistory:
    def test_is_joined_on_request_only_and_marked(self, store, reader):
        store.write([quote(FUND, f"2024-01-0{day}", day) for day in (2, 3, 4)])
        store.write([quote(FIRST, "2024-01-08", 8.0), quote(FIRST, "2024-01-09", 9.0)])
        assert reader.prices(FIRST)[FIRST].tolist() == [8.0, 9.0]
        joined = reader.prices([FIRST, FUND], inherit=True)
        assert joined[FIRST].tolist() == [2.0, 3.0, 4.0, 8.0, 9.0]
        assert joined[FUND].dropna().tolist() == [2.0, 3.0, 4.0]
        assert joined.attrs["inherited"] == {FIRST: "2024-01-04"}
        rows = reader.quotes(FIRST, inherit=True)
        assert rows["quota"].tolist() == [2.0, 3.0, 4.0, 8.0, 9.0]
        assert set(rows["subclass"]) == {"Z2HFZ1734468953"}
        assert rows.attrs["inherited"] == {FIRST: "2024-01-04"}
        assert rows.pop("inherited").tolist() == [True, True, True, False, False]
        assert {name: str(rows[name].dtype) for name in rows} == {name: each.dtype for name, each in COLUMNS.items()}

    @pytest.mark.parametrize(("last", "is_joined"), [("2024-01-01", True), ("2023-12-31", False)])
    def test_is_joined_only_if_the_class_was_quoted_within_seven_days_before(self, store, reader, last, is_joined):
        store.write([quote(FUND, last, 1.0), quote(FIRST, "2024-01-08", 8.0)])
        assert (reader.prices(FIRST, inherit=True).size == 2) is is_joined
        assert (len(reader.quotes(FIRST, inherit=True)) == 2) is is_joined

    def test_is_judged_by_the_series_and_cut_at_the_window(self, store, reader):
        """Whether a class became its subclass does not depend on the requested days."""
        store.write([quote(FUND, f"2024-01-0{day}", day) for day in (1, 2, 3, 4)])
        store.write([quote(FIRST, "2024-01-08", 8.0)])
        joined = reader.prices(FIRST, end="2024-01-02", inherit=True)
        assert joined[FIRST].tolist() == [1.0, 2.0]
        assert joined.attrs["inherited"] == {FIRST: "2024-01-02"}
        assert reader.quotes(FIRST, end="2024-01-02", inherit=True)["quota"].tolist() == [1.0, 2.0]
        store.delete(FIRST)
        store.write([quote(FIRST, "2024-01-12", 9.0)])
        assert reader.prices(FIRST, end="2024-01-09", inherit=True).empty, "eight days without a quote"

    def test_of_a_sibling_or_on_days_that_both_have_is_never_joined(self, store, reader):
        store.write([quote(SECOND, "2024-01-04", 4.0), quote(FUND, "2024-01-09", 1.0)])
        store.write([quote(FIRST, "2024-01-08", 8.0), quote(FIRST, "2024-01-09", 9.0)])
        assert reader.prices(FIRST, inherit=True)[FIRST].tolist() == [8.0, 9.0]

    def test_does_not_change_a_frame_without_subclasses(self, store, reader):
        store.write([quote(OTHER, "2024-01-04", 4.0)])
        pd.testing.assert_frame_equal(reader.prices(inherit=True), reader.prices())
