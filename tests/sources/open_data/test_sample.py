"""From the portal's text to the frame: every figure of the sample, in each layout, and in blocks of any size."""

from __future__ import annotations

import math
from decimal import Decimal

import pandas as pd
import pytest
from support.daily_files import CNPJ, OTHER, bring_in, line, text_of, zip_of

import scraperkit as sk
from scraperkit.models import METRICS
from scraperkit.sources.open_data import importing, members
from scraperkit.sources.open_data.folder import Folder

LAYOUTS = {"2000-02": "B", "2004-12": "B", "2005-03": "A", "2019-06": "A", "2021-02": "B", "2024-10": "C"}


def exact(text: str) -> float:
    return float(Decimal(text)) if text else math.nan


@pytest.mark.parametrize("month", LAYOUTS)
def test_every_figure_is_the_float64_of_the_portals_text(site, market, month):
    files = market.download(month, month)
    assert files["outcome"].tolist() == ["new"]
    assert market.archive_info()["layout"].tolist() == [LAYOUTS[month]]
    stored = market.market(month)
    found = {
        (row["cnpj"], row["subclass"], f"{row['date']:%Y-%m-%d}"): [float(row[metric]) for metric in METRICS]
        for row in stored.astype({"holders": "float64"}).to_dict("records")
    }
    rows = site.portal.rows(month)
    expected = {
        (row.cnpj.translate(BARE), row.subclass if LAYOUTS[month] == "C" else "", row.date): [
            exact(getattr(row, metric)) for metric in METRICS
        ]
        for row in rows
    }
    assert len(found) == len(stored) == len(rows)
    assert repr(sorted(found.items())) == repr(sorted(expected.items()))


BARE = str.maketrans("", "", "./-")


def test_a_year_before_2021_brings_all_its_months(site, market):
    market.download("2004-07", "2004-07")
    months = [f"{month:%Y-%m}" for month in pd.to_datetime(market.quotes()["date"]).dt.to_period("M").unique()]
    there = [month for month in site.portal.months if month.startswith("2004")]
    assert sorted(months) == there
    assert len(there) == 12


@pytest.mark.parametrize("block", [97, 1000, 1 << 24])
@pytest.mark.parametrize("kept", [0, 1 << 26])
def test_the_size_of_blocks_changes_nothing(tmp_path, monkeypatch, block, kept):
    """Lines, their numbers and their texts are the same, whether the member is kept or unpacked twice."""
    monkeypatch.setattr(members, "BLOCK_BYTES", block)
    monkeypatch.setattr(importing, "_MOST_BYTES_KEPT", kept)
    days = [f"2004-{month:02d}-{day:02d}" for month in (3, 1, 2) for day in (5, 2)]
    lines = [line(cnpj, day, quota=f"{number}.25") for number, day in enumerate(days) for cnpj in (OTHER, CNPJ)]
    lines[3:3] = ["bad", line(CNPJ, "2005-01-03"), line("1", "2004-02-03", kind="Não")]
    folder = Folder(tmp_path / "archive")
    content = zip_of({"year.csv": text_of(lines).removesuffix(b"\r\n")})
    done = bring_in(folder, content, "2004-01", "2004-12")
    assert (done.rows_read, done.kept, done.months) == (15, 12, ("2004-01", "2004-02", "2004-03"))
    with sk.OpenData("http://127.0.0.1:9/", archive=folder.path) as market:
        quotas = {(row.cnpj, f"{row.date:%Y-%m-%d}"): row.quota for row in market.quotes().itertuples()}
        told = market.rejected().sort_values("line")
    keys = {OTHER: "00068305000135", CNPJ: "00017024000153"}
    assert quotas == {(keys[cnpj], day): number + 0.25 for number, day in enumerate(days) for cnpj in keys}
    assert told[["line", "text"]].to_numpy().tolist() == [[place + 2, lines[place]] for place in (3, 4, 5)]
