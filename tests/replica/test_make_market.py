"""The made-up market: the same from the same seed, in the portal's form, with dirt in real proportions."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from stdnum.br import cnpj as stdnum_cnpj
from support.tree import ROOT, load_tool

from scraperkit.replica.portal_files import ReportLayout

SERIES, DAYS = 2_000, 10


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return load_tool("make_market.py")


@pytest.fixture(scope="module")
def month(maker):
    market = maker.Market(SERIES, seed=1)
    content = market.month("2026-08", ReportLayout.C, DAYS)
    return table(content), market.dirt


def table(content: bytes) -> list[dict[str, str]]:
    text = io.StringIO(content.decode("iso-8859-1"), newline="")
    return list(csv.DictReader(text, delimiter=";", quoting=csv.QUOTE_NONE))


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


class TestAMonth:
    def test_is_the_same_from_the_same_seed(self, maker):
        def made(seed: int) -> bytes:
            return maker.Market(300, seed).month("2026-08", ReportLayout.C, 5)

        assert made(1) == made(1) != made(2)

    def test_has_rows_for_96_of_100_days_of_its_series(self, month, maker):
        rows, dirt = month
        added = sum(dirt[kind] for kind in ("identical", "conflicting", "double", "double_conflicting"))
        assert len(rows) - added == pytest.approx(SERIES * DAYS * maker.FILLED, rel=0.01)
        assert len({row["DT_COMPTC"] for row in rows}) == DAYS
        subclasses = sum(row["ID_SUBCLASSE"] != "" for row in rows)
        assert subclasses == pytest.approx(0.031 * len(rows), rel=0.05)

    def test_is_in_the_portals_form(self, maker):
        content = maker.Market(300).month("2026-08", ReportLayout.C, 5, dirty=False)
        assert content.split(b"\r\n")[0].decode() == ReportLayout.C.value
        assert content.count(b"\n") == content.count(b"\r\n")
        for row in table(content):
            assert stdnum_cnpj.format(stdnum_cnpj.validate(row["CNPJ_FUNDO_CLASSE"])) == row["CNPJ_FUNDO_CLASSE"]
            assert len(row["VL_QUOTA"].partition(".")[2]) == 12
            assert float(row["VL_QUOTA"]) > 0
            assert int(row["NR_COTST"]) >= 1

    def test_is_clean_on_request(self, maker):
        market = maker.Market(2_000)
        rows = table(market.month("2026-08", ReportLayout.C, 5, dirty=False))
        keys = [(row["CNPJ_FUNDO_CLASSE"], row["ID_SUBCLASSE"], row["DT_COMPTC"]) for row in rows]
        assert len(set(keys)) == len(keys)
        assert market.dirt == Counter(split=1)

    def test_dirt_matches_its_counts(self, month):
        rows, dirt = month
        assert dirt == Counter(
            zeros=4,
            blank_quota=1,
            negative_quota=1,
            huge_quota=1,
            identical=1,
            conflicting=1,
            double=1,
            double_conflicting=1,
            split=1,
        )
        keys = [(row["CNPJ_FUNDO_CLASSE"], row["ID_SUBCLASSE"], row["DT_COMPTC"]) for row in rows]
        groups = {key: [row for row, own in zip(rows, keys, strict=True) if own == key]
                  for key, count in Counter(keys).items() if count > 1}  # fmt: skip
        kinds = Counter(
            ("double" if len({row["VL_PATRIM_LIQ"] for row in group}) == 1 else "double_conflicting")
            if len({row["TP_FUNDO_CLASSE"] for row in group}) == 2
            else "identical" if group[0] == group[1] else "conflicting"
            for group in groups.values()
        )  # fmt: skip
        assert kinds == Counter(identical=1, conflicting=1, double=1, double_conflicting=1)
        assert {row["TP_FUNDO_CLASSE"] for group in groups.values() for row in group} == {"FI", "CLASSES - FIF"}
        assert sum(row["VL_QUOTA"] == "" for row in rows) == 1
        zeros = [row for row in rows if float(row["VL_QUOTA"] or 1) == float(row["VL_PATRIM_LIQ"]) == 0]
        assert [row["NR_COTST"] for row in zeros] == ["0"] * 4
        assert sum(float(row["VL_QUOTA"] or 1) < 0 for row in rows) == 1
        assert sum(float(row["VL_QUOTA"] or 1) >= 1e9 for row in rows) == 1

    def test_a_class_becomes_a_subclass_within_the_month(self, month):
        rows, _ = month
        names = [row["ID_SUBCLASSE"] for row in rows if row["ID_SUBCLASSE"].startswith("SPLIT")]
        (name,) = set(names)
        (cnpj,) = {row["CNPJ_FUNDO_CLASSE"] for row in rows if row["ID_SUBCLASSE"] == name}
        own = [row for row in rows if row["CNPJ_FUNDO_CLASSE"] == cnpj]
        assert {row["ID_SUBCLASSE"] for row in own} == {"", name}
        turn = min(row["DT_COMPTC"] for row in own if row["ID_SUBCLASSE"])
        assert all((row["DT_COMPTC"] >= turn) == (row["ID_SUBCLASSE"] != "") for row in own)

    def test_a_class_that_became_a_subclass_stays_one(self, maker):
        market = maker.Market(200)
        first, second = (table(market.month(month, ReportLayout.C, 5)) for month in ("2026-08", "2026-09"))
        (name,) = {row["ID_SUBCLASSE"] for row in first if row["ID_SUBCLASSE"].startswith("SPLIT")}
        (cnpj,) = {row["CNPJ_FUNDO_CLASSE"] for row in first if row["ID_SUBCLASSE"] == name}
        assert {row["ID_SUBCLASSE"] for row in second if row["CNPJ_FUNDO_CLASSE"] == cnpj} == {name}

    def test_a_full_month_has_the_portals_proportions_of_dirt(self, maker):
        """Count over 525,000 rows, without making them."""
        counts = {name: maker.at_least_one(share * 525_000) for name, share in maker.DIRT.items()}
        assert counts == {
            "zeros": 105, "blank_quota": 10, "negative_quota": 1, "huge_quota": 1, "identical": 5, "conflicting": 1,
            "double": 5, "double_conflicting": 2,
        }  # fmt: skip
        assert round(maker.FULL_SERIES * 21 * maker.FILLED) == 525_000
        negative = sum(maker.Market(maker.FULL_SERIES)._net_worth < 0)
        assert negative * 21 == pytest.approx(690, rel=0.4)


class TestYears:
    def test_a_year_has_twelve_members_of_layout_a(self, maker, tmp_path):
        path = tmp_path / "inf_diario_fi_2015.zip"
        maker.write_year(path, days=3, market=maker.Market(200), layout=ReportLayout.A)
        found = members(path)
        assert [*found] == [f"inf_diario_fi_2015{month:02d}.csv" for month in range(1, 13)]
        for name, content in found.items():
            rows = table(content)
            assert ";".join(rows[0]) == ReportLayout.A.value
            assert {row["DT_COMPTC"][5:7] for row in rows} == {name[18:20]}

    def test_a_series_continues_from_month_to_month(self, maker, tmp_path):
        market = maker.Market(200)
        first, second = (table(market.month(f"2015-0{month}", ReportLayout.B, dirty=False)) for month in (1, 2))
        last = {row["CNPJ_FUNDO"]: float(row["VL_QUOTA"]) for row in first}
        following = {row["CNPJ_FUNDO"]: float(row["VL_QUOTA"]) for row in reversed(second)}
        moves = [abs(following[cnpj] / last[cnpj] - 1) for cnpj in last.keys() & following.keys()]
        assert len(moves) > 180
        assert sorted(moves)[int(len(moves) * 0.9)] < 0.05

    def test_a_decade_is_laid_out_as_on_the_portal(self, maker, tmp_path):
        paths = [*maker.write_decade(tmp_path, maker.Market(40), first=2020, years=5)]
        names = [str(path.relative_to(tmp_path)) for path in paths]
        assert names[:2] == ["HIST/inf_diario_fi_2020.zip", "inf_diario_fi_202101.zip"]
        assert len(names) == 1 + 4 * 12
        for name, layout in (("202312", ReportLayout.B), ("202401", ReportLayout.C)):
            ((_, content),) = members(tmp_path / f"inf_diario_fi_{name}.zip").items()
            assert content.startswith(f"{layout.value}\r\n".encode())


def test_the_command_writes_the_same_zip_again(tmp_path):
    command = [sys.executable, ROOT / "tools" / "make_market.py", "month"]
    for name in ("a.zip", "b.zip"):
        told = subprocess.run(
            [*command, tmp_path / name, "--series", "200"], capture_output=True, text=True, check=True
        )
        assert "zeros 1" in told.stdout
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert [*members(tmp_path / "a.zip")] == ["inf_diario_fi_202608.csv"]
