"""The sample: it can be regenerated exactly, has every difficult case, and is loaded exactly."""

from __future__ import annotations

import csv
import datetime as dt
import importlib.util
import sys
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from stdnum.br import cnpj as stdnum_cnpj
from support.tree import ROOT

from scraperkit.calendar import business_days
from scraperkit.errors import ScraperKitError
from scraperkit.models import COLUMNS, DailyQuote
from scraperkit.replica.sample import Sample, SampleFund, load_sample, read_sample

FOLDER = ROOT / "data" / "sample"


@pytest.fixture(scope="module")
def make_sample() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_sample", ROOT / "tools" / "make_sample.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_sample"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sample() -> Sample:
    return load_sample()


@pytest.fixture(scope="module")
def quotes(sample: Sample) -> pd.DataFrame:
    return sample.quotes


def rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def noted(sample: Sample, text: str) -> SampleFund:
    return next(fund for fund in sample.funds if text in fund.note)


def of(quotes: pd.DataFrame, fund: SampleFund) -> pd.DataFrame:
    return quotes[quotes["cnpj"] == fund.cnpj].set_index("date")


# --- the files


def test_regenerating_yields_the_same_bytes(make_sample: ModuleType) -> None:
    assert make_sample.render() == {name: (FOLDER / name).read_bytes() for name in ("funds.csv", "quotes.csv")}


def test_check_reports_a_file_that_differs(
    make_sample: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make_sample, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["make_sample.py"])
    assert make_sample.main() == 0
    monkeypatch.setattr(sys, "argv", ["make_sample.py", "--check"])
    assert make_sample.main() == 0
    with (tmp_path / "quotes.csv").open("ab") as file:
        file.write(b"\n")
    assert make_sample.main() == 1
    (tmp_path / "funds.csv").unlink()
    assert make_sample.main() == 1
    assert "funds.csv" in capsys.readouterr().err


def test_the_files_are_sorted_plain_and_small() -> None:
    for name, key in (("funds.csv", ("cnpj", "pk")), ("quotes.csv", ("cnpj", "date"))):
        content = (FOLDER / name).read_bytes()
        keys = [tuple(row[column] for column in key) for row in rows(name)]
        assert keys == sorted(set(keys))
        assert b"\r" not in content
        assert len(content) < 2_000_000


def test_the_readme_names_the_counts() -> None:
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    assert f"{len(rows('quotes.csv')):,} rows" in text
    assert f"{len(rows('funds.csv'))} rows" in text


def test_every_cnpj_is_valid_and_only_one_is_real() -> None:
    for row in rows("funds.csv"):
        for cnpj in (row["cnpj"], row["administrator_cnpj"]):
            assert stdnum_cnpj.validate(cnpj) == cnpj
            assert cnpj == "18993924000100" or cnpj.startswith(("99", "EX", "9Z"))
        assert "Exemplo" in row["name"]
        assert "Exempl" in row["administrator"]
        (row["name"] + row["administrator"]).encode("iso-8859-1")


# --- the shape


def test_there_are_twenty_funds_over_the_business_days_of_36_months(sample: Sample, quotes: pd.DataFrame) -> None:
    assert len({fund.cnpj for fund in sample.funds}) == 20
    assert len({fund.pk for fund in sample.funds}) == len(sample.funds) == 21
    lessons = of(quotes, next(fund for fund in sample.funds if fund.pk == "132922"))
    pd.testing.assert_index_equal(lessons.index, business_days("2021-01-01", "2023-12-31"))
    assert set(quotes["date"]) == set(lessons.index)


def test_at_least_ten_active_funds_offer_all_36_months(sample: Sample) -> None:
    complete = [fund for fund in sample.funds if fund.active and len(sample.offered(fund.pk)) == 36]
    assert len(complete) == 17
    assert next(fund for fund in complete if fund.pk == "132922").cnpj == "18993924000100"
    assert sample.offered("132922")[:2] == ("12/2023", "11/2023")
    assert sample.offered("132922")[-1] == "01/2021"


def test_net_worth_moves_with_the_quota_and_the_flows(quotes: pd.DataFrame) -> None:
    days = business_days("2021-01-01", "2023-12-31")
    for cnpj, rows_of_fund in quotes.groupby("cnpj"):
        # A day without a report becomes a blank between two days, and is not compared.
        fund = rows_of_fund.set_index("date").reindex(days)
        before = fund.shift()
        expected = before["net_worth"] * fund["quota"] / before["quota"] + fund["inflow"] - fund["outflow"]
        gap = (fund["net_worth"] - expected).dropna().abs()
        assert len(gap) > 200
        assert gap.max() < 0.05, cnpj
        share = (fund["portfolio"] / fund["net_worth"]).dropna()
        assert share.between(1, 1.005).all()
        assert (fund[["inflow", "outflow"]].fillna(0) >= 0).all().all()


# --- difficult cases


def test_one_fund_has_quotas_above_1000(sample: Sample, quotes: pd.DataFrame) -> None:
    fund = of(quotes, noted(sample, "quota above 1,000"))
    assert fund["quota"].iloc[0] == 1953.908722
    assert (fund["quota"] > 1000).all()


def test_quotas_have_from_no_to_8_significant_decimals() -> None:
    cnpj = next(row["cnpj"] for row in rows("funds.csv") if "trailing zeros" in row["note"])
    texts = [row["quota"] for row in rows("quotes.csv") if row["cnpj"] == cnpj]
    assert all(len(text.partition(".")[2]) == 8 for text in texts)
    assert {len(text.partition(".")[2].rstrip("0")) for text in texts} >= {0, 1, 2, 3, 4, 5, 6, 8}
    assert any(Decimal(text) > 1000 and Decimal(text) == int(Decimal(text)) for text in texts)


def test_one_fund_starts_and_one_ends_midway(sample: Sample, quotes: pd.DataFrame) -> None:
    starts, ends = noted(sample, "starts midway"), noted(sample, "ends midway")
    assert sample.offered(starts.pk)[-1] == "05/2022"
    assert starts.started_on.isoformat() == "2022-05-16"
    assert sample.offered(ends.pk)[0] == "08/2022"
    assert not ends.active
    assert str(ends.ended_on) == "2022-08-31"
    last = of(quotes, ends).iloc[-1]
    assert (last["net_worth"], last["holders"], last["portfolio"]) == (0, 0, 0)
    assert last["outflow"] > 1_000_000


def test_one_fund_is_cancelled(sample: Sample) -> None:
    fund = noted(sample, "cancelled")
    assert (fund.status, fund.active, sample.offered(fund.pk)[0]) == ("CANCELADA", False, "11/2021")


def test_days_and_cells_are_missing(sample: Sample, quotes: pd.DataFrame) -> None:
    fund = of(quotes, noted(sample, "days without any figure"))
    days = business_days("2021-01-01", "2023-12-31")
    assert len(days.difference(fund.index)) == 6
    assert {tuple(row[row.isna()].index) for _, row in fund[fund.isna().any(axis=1)].iterrows()} == {
        ("net_worth", "portfolio"),
        ("holders",),
        ("quota",),
        ("inflow", "outflow", "portfolio"),
    }


def test_an_offered_month_has_no_figure(sample: Sample) -> None:
    fund = noted(sample, "no figure at all")
    assert len(sample.offered(fund.pk)) == 36
    assert "08/2021" in sample.offered(fund.pk)
    assert sample.month(fund.cnpj, "08/2021") == ()


def test_an_amortisation_makes_the_quota_fall_in_a_day(sample: Sample, quotes: pd.DataFrame) -> None:
    fund = of(quotes, noted(sample, "amortisations"))
    moves = fund["quota"].pct_change()
    assert moves["2022-06-15"] < -0.35
    assert moves["2023-06-15"] < -0.09
    assert (moves < -0.05).sum() == 2
    assert fund["outflow"].max() == 0


def test_one_cnpj_has_two_rows_and_the_inactive_one_offers_nothing(sample: Sample) -> None:
    older, newer = [fund for fund in sample.funds if "two rows for one CNPJ" in fund.note]
    assert (older.cnpj, older.active, newer.active) == (newer.cnpj, False, True)
    assert older.pk != newer.pk
    assert (len(sample.offered(older.pk)), len(sample.offered(newer.pk))) == (0, 36)
    assert [fund.cnpj for fund in sample.funds].count(older.cnpj) == 2


def test_some_cnpjs_have_letters_and_some_names_have_accents_and_html_marks(sample: Sample) -> None:
    assert sum(not fund.cnpj.isdigit() for fund in sample.funds) == 2
    assert any(fund.cnpj[8:12].isalnum() and not fund.cnpj[8:12].isdigit() for fund in sample.funds)
    assert not noted(sample, "accents").name.isascii()
    assert {"&", "<"} <= set(noted(sample, "& and <").name)


# --- loading


def test_the_frame_has_the_columns_and_dtypes_of_the_models(quotes: pd.DataFrame) -> None:
    assert {name: str(dtype) for name, dtype in quotes.dtypes.items()} == {
        name: column.dtype for name, column in COLUMNS.items()
    }
    assert isinstance(quotes.index, pd.RangeIndex)


def test_every_number_is_the_float_of_its_text(sample: Sample, quotes: pd.DataFrame) -> None:
    found = [quote for fund in sample.funds for month in reversed(sample.offered(fund.pk))
             for quote in sample.month(fund.cnpj, month)]  # fmt: skip
    texts = rows("quotes.csv")
    assert len(found) == len(texts) == len(quotes)
    for quote, row in zip(found, texts, strict=True):
        assert (quote.cnpj, quote.date.isoformat()) == (row["cnpj"], row["date"])
        assert dict(quote.metrics()) == {
            name: float(row[name]) for name in row if name not in ("cnpj", "date") and row[name]
        }
        assert quote.holders is None or isinstance(quote.holders, int)
    column = quotes["quota"].dropna().tolist()
    assert column == [float(row["quota"]) for row in texts if row["quota"]]


def test_a_month_is_a_tuple_of_quotes_in_order(sample: Sample) -> None:
    month = sample.month("18993924000100", "01/2021")
    assert month[0] == DailyQuote(
        "18993924000100", dt.date(2021, 1, 4), 3.19, 88352589.77, 1302, 81364.15, 128774.38, 88660410.19
    )
    assert [quote.date for quote in month] == [day.date() for day in business_days("2021-01-01", "2021-01-31")]


def test_it_is_loaded_once_and_cannot_be_changed(sample: Sample) -> None:
    assert load_sample() is sample
    frame = sample.quotes
    frame.loc[0, "quota"] = -1.0
    frame["extra"] = 1
    assert "extra" not in sample.quotes
    assert sample.quotes.loc[0, "quota"] == 3.19
    with pytest.raises(AttributeError):
        sample.funds = ()  # type: ignore[misc]


def test_an_unknown_month_or_pk_is_empty(sample: Sample) -> None:
    assert sample.month("18993924000100", "01/2020") == ()
    assert sample.month("00000000000191", "01/2022") == ()
    assert sample.offered("1") == ()


def test_a_missing_sample_error_names_the_folders_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ScraperKitError, match="make_sample") as caught:
        read_sample([tmp_path / "a", tmp_path / "b"])
    assert str(tmp_path / "a") in str(caught.value)
    assert str(tmp_path / "b") in str(caught.value)


@pytest.mark.parametrize(("old", "new"), [("2021-01-04,3.19", "04/01/2021,3.19"), (",net_worth,", ",worth,")])
def test_a_damaged_sample_error_names_the_file_and_line(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "funds.csv").write_bytes((FOLDER / "funds.csv").read_bytes())
    text = (FOLDER / "quotes.csv").read_text(encoding="utf-8")
    (tmp_path / "quotes.csv").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ScraperKitError, match=r"damaged: quotes.csv, line 2"):
        read_sample([tmp_path / "nothing", tmp_path])


def test_a_restated_sample_differs_in_one_month_only(sample: Sample, quotes: pd.DataFrame) -> None:
    restated = sample.restated("18993924000100", "03/2022", 2.0)
    march = (quotes["cnpj"] == "18993924000100") & (quotes["date"].dt.strftime("%m/%Y") == "03/2022")
    expected = quotes.assign(quota=quotes["quota"].where(~march, quotes["quota"] * 2))
    pd.testing.assert_frame_equal(restated.quotes, expected)
    pd.testing.assert_frame_equal(sample.quotes, quotes)
    assert [quote.quota for quote in restated.month("18993924000100", "03/2022")] == expected.loc[
        march, "quota"
    ].tolist()
    assert restated.month("18993924000100", "04/2022") == sample.month("18993924000100", "04/2022")
