"""The portal's part of the sample: it can be regenerated exactly, and has every difficult case."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from stdnum.br import cnpj as stdnum_cnpj
from support.tree import ROOT, load_tool

from scraperkit.calendar import business_days
from scraperkit.errors import ScraperKitError
from scraperkit.replica.open_data import load_open_data, read_open_data

FOLDER = ROOT / "data" / "sample"
NAMES = ("daily.csv", "registry.csv", "subclasses.csv")
SPLIT, SIBLINGS, OLD, NEW = "99101035000184", "99101034000130", "99101036000129", "99101037000173"


@pytest.fixture(scope="module")
def maker() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        yield load_tool("make_open_data_sample.py")


def rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def daily() -> pd.DataFrame:
    return pd.read_csv(FOLDER / "daily.csv", dtype={"cnpj": "str", "subclass": "str"}, parse_dates=["date"]).fillna(
        {"subclass": ""}
    )


def days_of(frame: pd.DataFrame) -> list[str]:
    return frame["date"].dt.strftime("%Y-%m-%d").tolist()


class TestTheFiles:
    def test_regenerating_yields_the_same_bytes(self, maker):
        assert maker.render() == {name: (FOLDER / name).read_bytes() for name in NAMES}

    def test_check_reports_a_file_that_differs(self, maker, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(maker.make_sample, "FOLDER", tmp_path)
        monkeypatch.setattr(sys, "argv", ["make_open_data_sample.py"])
        files = maker.render()
        assert maker.make_sample.write_or_check(files) == 0
        monkeypatch.setattr(sys, "argv", ["make_open_data_sample.py", "--check"])
        assert maker.make_sample.write_or_check(files) == 0
        (tmp_path / "registry.csv").write_bytes(b"")
        assert maker.make_sample.write_or_check(files) == 1
        assert "registry.csv" in capsys.readouterr().err

    def test_are_sorted_plain_and_small(self):
        for name, key in zip(NAMES, (("cnpj", "subclass", "date"), ("cnpj",), ("subclass",)), strict=True):
            content = (FOLDER / name).read_bytes()
            keys = [tuple(row[column] for column in key) for row in rows(name)]
            assert keys == sorted(set(keys))
            assert b"\r" not in content
            assert len(content) < 2_000_000

    def test_the_readme_names_the_counts(self):
        text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
        for name in NAMES:
            assert f"### `sample/{name}`: {len(rows(name)):,} rows" in text

    def test_every_cnpj_is_valid_and_in_the_registry(self, daily):
        for row in rows("registry.csv"):
            for cnpj in (row["cnpj"], row["fund_cnpj"], row["administrator_cnpj"], *row["manager_cnpjs"].split("|")):
                assert stdnum_cnpj.validate(cnpj) == cnpj
                assert cnpj == "18993924000100" or cnpj.startswith(("99", "EX", "9Z"))
            assert "Exemplo" in row["name"]
        assert set(daily["cnpj"]) <= {row["cnpj"] for row in rows("registry.csv")}
        subclasses = set(daily["subclass"]) - {""}
        assert subclasses == {row["subclass"] for row in rows("subclasses.csv")}

    def test_days_are_business_days_and_begin_where_the_pages_end(self, daily):
        assert set(daily["date"]) == set(business_days("2000-01-03", "2024-12-31"))
        pages = pd.read_csv(FOLDER / "quotes.csv", dtype={"cnpj": "str"}, parse_dates=["date"])
        both = pd.concat([pages, daily])
        assert not both.duplicated(["cnpj", "subclass", "date"]).any()
        lessons = both[both["cnpj"] == "18993924000100"].sort_values("date")
        pd.testing.assert_index_equal(
            pd.DatetimeIndex(lessons["date"]).as_unit("ms"), business_days("2021-01-04", "2024-12-31")
        )
        assert lessons["quota"].pct_change().abs().max() < 0.06


class TestTheCases:
    def test_net_worth_moves_with_the_quota_and_the_flows(self, daily):
        for key, series in daily.groupby(["cnpj", "subclass"]):
            before = series.shift()
            expected = before["net_worth"] * series["quota"] / before["quota"] + series["inflow"] - series["outflow"]
            gap = (series["net_worth"] - expected).dropna().abs()
            assert gap.max() < 0.01, key

    def test_one_fund_runs_through_all_layouts(self, daily):
        own = daily[daily["cnpj"] == "99101031000104"]
        pd.testing.assert_index_equal(
            pd.DatetimeIndex(own["date"]).as_unit("ms"), business_days("2000-01-03", "2024-12-31")
        )

    def test_a_class_turns_into_subclasses_within_a_month(self, daily):
        own = daily[daily["cnpj"] == SPLIT]
        september = own[own["date"].dt.strftime("%Y-%m") == "2024-09"]
        classes, subclasses = september[september["subclass"] == ""], september[september["subclass"] != ""]
        assert days_of(classes)[-1] == "2024-09-13"
        assert days_of(subclasses.sort_values("date"))[0] == "2024-09-16"
        assert own[own["subclass"] == ""]["date"].max() == classes["date"].max()
        # One subclass continues the class; the others begin at 1.
        first = subclasses.groupby("subclass")["quota"].first()
        assert first["B8MNP1726012800"] == pytest.approx(classes["quota"].iloc[-1], rel=0.01)
        assert (first.drop("B8MNP1726012800") - 1).abs().max() < 0.01

    def test_a_class_with_subclasses_far_apart_has_no_row_of_its_own(self, daily):
        own = daily[daily["cnpj"] == SIBLINGS]
        assert set(own["subclass"]) == {"Q4T7K1719837600", "Z2HFZ1719837661"}
        quotas = own.groupby("subclass")["quota"].first()
        assert quotas.max() / quotas.min() > 2.5

    def test_a_fund_continues_under_another_cnpj_on_the_next_business_day(self, daily):
        old, new = daily[daily["cnpj"] == OLD], daily[daily["cnpj"] == NEW]
        assert (days_of(old)[-1], days_of(new)[0]) == ("2024-05-14", "2024-05-15")
        assert new["quota"].iloc[0] == pytest.approx(old["quota"].iloc[-1], rel=0.02)
        status = {row["cnpj"]: row["status"] for row in rows("registry.csv")}
        assert (status[OLD], status[NEW]) == ("CANCELADA", "EM FUNCIONAMENTO NORMAL")

    def test_quotas_have_12_decimals(self):
        texts = [row["quota"].partition(".")[2] for row in rows("daily.csv")]
        assert {len(text) for text in texts} == {12}
        assert sum(text.endswith("0") for text in texts) < 0.2 * len(texts)


class TestLoading:
    def test_is_done_once(self):
        assert load_open_data() is load_open_data()

    def test_a_missing_sample_error_names_the_folder_and_the_remedy(self, tmp_path):
        with pytest.raises(ScraperKitError, match="no quotes.csv, daily.csv.*make_sample"):
            read_open_data([tmp_path / "a"])

    @pytest.mark.parametrize(("name", "old"), [("daily.csv", "subclass,date"), ("registry.csv", "adapted_on")])
    def test_a_damaged_sample_error_names_the_column(self, tmp_path: Path, name, old):
        for path in FOLDER.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        text = (tmp_path / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace(old, "x", 1), encoding="utf-8")
        with pytest.raises(ScraperKitError, match="damaged: .* is missing"):
            read_open_data([tmp_path])
