"""Names in charts and tables: given ones first, then the frame's, then CNPJs, and no two alike."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from scraperkit import metrics, plot
from scraperkit.cli.options import with_names
from scraperkit.errors import ConfigError
from scraperkit.models import Fund
from scraperkit.plot.style import fund_labels

A, B, C = "18993924000100", "99101011000125", "EXEMPL0A000100"
CARRIED = {A: "Aroeira Ações", B: "Jatobá Multi"}
SHOWN = {"Aroeira Ações", "Jatobá Multi", "EX.EMP.L0A/0001-00"}
DAYS = pd.bdate_range("2021-01-04", periods=400, name="date")


@pytest.fixture
def prices() -> pd.DataFrame:
    steps = np.random.default_rng(5).normal(0, 0.01, (len(DAYS), 3))
    frame = pd.DataFrame(100 * np.exp(np.cumsum(steps, axis=0)), index=DAYS, columns=[A, B, C])
    frame.attrs["names"] = dict(CARRIED)
    return frame


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def legend(ax) -> set[str]:
    return {text.get_text() for text in ax.get_legend().get_texts()}


@pytest.mark.parametrize("chart", [plot.prices, plot.drawdown, plot.rolling_volatility, plot.windows])
def test_every_line_chart_shows_the_names_of_its_frame(prices, chart):
    assert legend(chart(prices)) == SHOWN


@pytest.mark.parametrize("chart", [plot.correlation, plot.coverage])
def test_every_heatmap_shows_the_names_of_its_frame(prices, chart):
    assert {label.get_text().split("   ")[0] for label in chart(prices).get_yticklabels()} == SHOWN


@pytest.mark.parametrize("chart", [plot.prices, plot.drawdown, plot.rolling_volatility])
def test_a_fund_has_the_same_colour_in_all_charts(prices, chart):
    colours = {line.get_label(): line.get_color() for line in plot.prices(prices).get_lines()}
    for fund in (B, C):
        (line, *_) = chart(prices[[fund]]).get_lines()
        assert line.get_color() == colours[plot.style.fund_labels([fund], CARRIED, lines=2)[0]]


def test_if_names_give_equal_colours_the_column_order_decides(prices):
    many = {f"{number:014d}": str(number) for number in range(27)}
    names = {A: "first", **many, B: "as far as all colours and styles"}
    looks = [
        (line.get_color(), line.get_linestyle()) for line in plot.drawdown(prices[[A, B]], names=names).get_lines()
    ]
    assert len(set(looks)) == 2


def test_dots_and_titles_show_the_names_of_the_frame(prices):
    assert {text.get_text() for text in plot.risk_return(prices).texts} == SHOWN
    assert plot.monthly_returns(prices, cnpj=B).get_title(loc="left") == f"Monthly returns · {CARRIED[B]}"
    assert plot.monthly_returns(prices, cnpj=C).get_title(loc="left") == "Monthly returns · EX.EMP.L0A/0001-00"
    tidy = pd.DataFrame({"cnpj": A, "date": DAYS[:3], "net_worth": 1e6, "holders": 3, "inflow": 1.0, "outflow": 2.0})
    tidy.attrs["names"] = CARRIED
    for chart in (plot.net_worth_and_holders, plot.flows_and_holders):
        assert chart(tidy).get_title(loc="left").endswith(f" · {CARRIED[A]}")


@pytest.mark.parametrize(
    "names",
    [
        {B: "Mine"},
        pd.Series({B: "Mine", A: np.nan}),
        Fund(B, name="MINE FUNDO DE INVESTIMENTO"),
        [Fund(B, name="MINE FUNDO DE INVESTIMENTO"), Fund(C)],
        (fund for fund in [Fund(B, name="Mine FI")]),
    ],
    ids=["mapping", "series", "fund", "funds", "generator"],
)
def test_given_names_take_precedence_over_those_of_the_frame(prices, names):
    assert legend(plot.prices(prices, names=names)) == {"Aroeira Ações", "Mine", "EX.EMP.L0A/0001-00"}


@pytest.mark.parametrize("names", ["Aroeira", ["Aroeira"], [Fund(A), "Aroeira"], 3])
def test_invalid_names_are_refused(prices, names):
    for show in (plot.prices, metrics.summary):
        with pytest.raises(ConfigError, match="names: give a name for each CNPJ.*or Funds"):
            show(prices, names=names)


def test_no_two_lines_have_the_same_name(prices):
    long = "An invented name that is far too long for two lines of a legend, and differs only at its end, "
    for names in ({A: "Same", B: "Same", C: "Same"}, {A: long + "1", B: long + "2", C: long + "3"}):
        labels = legend(plot.prices(prices, names=names))
        assert len(labels) == 3
        assert all(
            any(label.endswith(tail) for label in labels) for tail in ("924/0001-00", "011/0001-25", "L0A/0001-00")
        )


def test_a_subclass_has_its_class_name_and_a_renamed_column_its_own():
    series = [A, f"{A}:Z2HFZ1734468953", "mine", "$_x"]
    assert fund_labels(series, {A: "Ipê"}, 1) == ["Ipê 924/0001-00", "Ipê …34468953", "mine", r"\$_x"]
    assert fund_labels([f"{A}:S1"], {}, 1) == ["18.993.924/0001-00:S1"]


def test_a_summary_has_a_column_of_names_if_any_is_known(prices):
    found = metrics.summary(prices)
    assert found["name"].to_dict() == {**CARRIED, C: "EX.EMP.L0A/0001-00"}
    assert list(found)[:2] == ["name", "days"]
    twins = metrics.summary(prices, names={A: "Same", B: "Same"})["name"].tolist()
    assert twins == ["Same 924/0001-00", "Same 011/0001-25", "EX.EMP.L0A/0001-00"]
    prices.attrs = {}
    assert "name" not in metrics.summary(prices)


def test_a_printed_table_has_names_below_the_cnpjs(prices):
    head = with_names(prices).head(1).to_string().splitlines()[:2]
    assert head[0].split() == ["cnpj", A, B, C]
    assert head[1].split() == ["name", "Aroeira", "Ações", "Jatobá", "Multi"]
    prices.attrs = {}
    assert with_names(prices) is prices
