"""Charts show the given data with units, on the given axes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.dates as mdates
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from stdnum.br import cnpj as stdnum_cnpj

from scraperkit import plot
from scraperkit.calendar import business_days
from scraperkit.errors import ConfigError
from scraperkit.models import COLUMNS

mpl.use("Agg")

A, B = "18993924000100", "12ABC34501DE35"
NAN = math.nan


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


def wide(columns: dict[str, list[float]]) -> pd.DataFrame:
    length = len(next(iter(columns.values()), []))
    index = pd.DatetimeIndex(business_days("2022-01-03", "2030-01-01")[:length], name="date")
    names = pd.Index(list(columns), dtype="str", name="cnpj")
    return pd.DataFrame(columns, index=index, dtype="float64").set_axis(names, axis="columns")


def many(count: int, days: int = 30) -> pd.DataFrame:
    stems = [f"{number:08d}0001" for number in range(count)]
    steps = np.random.default_rng(1).normal(0, 0.01, (days, count))
    return wide(
        dict(
            zip([stem + stdnum_cnpj.calc_check_digits(stem) for stem in stems], np.exp(steps.cumsum(0)).T, strict=True)
        )
    )


def tidy(**columns) -> pd.DataFrame:
    length = len(next(iter(columns.values())))
    days = business_days("2022-01-03", "2030-01-01")[:length]
    frame = pd.DataFrame({"cnpj": A, "date": days, **columns})
    frame = frame.reindex(columns=list(COLUMNS))
    return frame.astype({name: column.dtype for name, column in COLUMNS.items()})


def lines(ax: Axes) -> dict[str, list[float]]:
    return {str(line.get_label()): np.asarray(line.get_ydata()).tolist() for line in ax.get_lines()}


def legend(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_prices_are_100_on_the_first_common_day():
    ax = plot.prices(wide({A: [2.0, 4.0, 5.0], B: [NAN, 8.0, 4.0]}))
    drawn = lines(ax)
    assert drawn["18.993.924/0001-00"] == [50, 100, 125]
    assert drawn["12.ABC.345/01DE-35"] == [100, 50]
    assert ax.get_ylabel() == "index, first common day (4 Jan 2022) = 100"


def test_prices_without_a_common_day_start_at_100_each():
    ax = plot.prices(wide({A: [2.0, 4.0, NAN], B: [NAN, NAN, 4.0]}))
    drawn = lines(ax)
    assert (drawn["18.993.924/0001-00"], drawn["12.ABC.345/01DE-35"]) == ([100, 200], [100])
    assert ax.get_ylabel() == "index, each fund's own first day = 100"


def test_a_fund_without_prices_does_not_affect_the_common_day():
    ax = plot.prices(wide({A: [2.0, 4.0], B: [NAN, NAN]}))
    assert lines(ax)["18.993.924/0001-00"] == [100, 200]
    assert ax.get_ylabel() == "index, first day (3 Jan 2022) = 100"


def test_a_line_bridges_missing_days():
    frame = wide({A: [1.0, NAN, 3.0], B: [1.0, 1.0, 1.0]})
    line = plot.prices(frame).get_lines()[0]
    assert np.asarray(line.get_ydata()).tolist() == [100, 300]
    assert mdates.date2num(line.get_xdata()).tolist() == mdates.date2num(frame.index[[0, 2]]).tolist()


def test_a_single_day_is_drawn_as_a_dot():
    ax = plot.prices(wide({A: [1.0, NAN], B: [1.0, 2.0]}))
    assert [line.get_marker() for line in ax.get_lines()[:2]] == ["o", "None"]


@pytest.mark.parametrize("draw", [plot.prices, plot.drawdown])
def test_charts_are_drawn_on_the_given_axes(draw):
    figure, axes = plt.subplots(1, 2)
    assert draw(wide({A: [1.0, 2.0]}), ax=axes[1]) is axes[1]
    assert draw(wide({A: []}), ax=axes[0]) is axes[0]
    assert axes[0].get_lines() == []
    assert plt.get_fignums() == [figure.number]


def test_without_axes_each_chart_makes_a_figure():
    before = plt.gca()
    first, second = plot.prices(wide({A: [1.0, 2.0]})), plot.prices(wide({A: [1.0, 2.0]}))
    assert len({before.figure, first.figure, second.figure}) == 3
    assert first.figure.get_size_inches().tolist() == [10, 5.5]


@pytest.mark.parametrize("frame", [wide({A: [], B: []}), wide({A: [NAN, NAN]}), wide({}), pd.DataFrame()])
@pytest.mark.parametrize("draw", [plot.prices, plot.drawdown])
def test_an_empty_chart_says_so(draw, frame):
    ax = draw(frame)
    assert [text.get_text() for text in ax.texts] == ["no prices"]
    ax.figure.canvas.draw()


@pytest.mark.parametrize("draw", [plot.prices, plot.drawdown])
def test_a_tidy_frame_is_refused(draw):
    with pytest.raises(ConfigError, match=r"frame: give the wide frame of TimeSeriesReader\.prices"):
        draw(tidy(quota=[1.0, 2.0]))
    with pytest.raises(ConfigError, match="quotes: no column cnpj, date, net_worth, holders"):
        plot.net_worth_and_holders(wide({A: [1.0]}))


def test_drawdown_is_in_percent():
    ax = plot.drawdown(wide({A: [100.0, 80.0, NAN, 120.0], B: [1.0, 1.0, 0.5, 0.25]}))
    drawn = lines(ax)
    assert drawn["18.993.924/0001-00"] == pytest.approx([0, -20, 0])
    assert drawn["12.ABC.345/01DE-35"] == pytest.approx([0, 0, -50, -75])
    assert ax.get_ylabel().endswith("%")
    assert ax.get_ylim()[1] == 0
    assert plot.drawdown(wide({A: [1.0, 2.0, 1.9999]})).get_ylim() == (-1, 0)


def test_the_legend_is_sorted_by_last_values():
    ax = plot.prices(wide({A: [1.0, 0.5, NAN], B: [1.0, 1.0, 2.0]}), names={A: "Fund A"})
    assert legend(ax) == ["12.ABC.345/01DE-35", "Fund A"]


def test_names_with_special_characters_are_shown():
    frame = wide({A: [1.0, 1.0], B: [1.0, 2.0]})
    names = pd.Series({A: "_FUNDO R$ 5 E US$ 3 DE INVESTIMENTO EM COTAS DE FUNDOS MULTIMERCADO", B: ""})
    ax = plot.prices(frame, names=names)
    assert legend(ax) == ["12.ABC.345/01DE-35", "FUNDO R\\$ 5 E US\\$ 3 DE\nINVESTIMENTO EM COTAS DE …"]
    ax.figure.canvas.draw()
    assert legend(plot.prices(frame.rename(columns={A: "ibov"}))) == ["12.ABC.345/01DE-35", "ibov"]


def test_one_fund_is_named_above_the_chart():
    ax = plot.prices(wide({A: [1.0, 2.0]}), names={A: "Fund A"})
    assert ax.get_legend() is None
    assert ax.get_title(loc="left") == "Price index · Fund A"


def test_twenty_lines_differ_and_their_legend_covers_no_data():
    ax = plot.prices(many(20))
    looks = {(to_hex(line.get_color()), str(line._dash_pattern)) for line in ax.get_lines()[:20]}
    assert len(looks) == 20
    ax.figure.canvas.draw()
    box, page = ax.get_legend().get_window_extent(), ax.figure.bbox
    assert box.x0 >= ax.get_window_extent().x1
    assert box.x1 <= page.x1
    assert box.y0 >= page.y0


@pytest.mark.parametrize("days", [1, 2, 5, 20, 250, 1500])
def test_date_labels_are_few_and_show_no_hours(days):
    ax = plot.prices(many(2, days))
    ax.figure.canvas.draw()
    labels = [label.get_text() for label in ax.get_xticklabels() if label.get_text()]
    assert 1 <= len(labels) <= 10
    assert len(set(labels)) == len(labels) or days > 20  # labels of months may repeat
    assert not any(":" in label for label in labels)


def test_net_worth_and_holders_have_separate_axes():
    ax = plot.net_worth_and_holders(tidy(net_worth=[1.0e6, NAN, 2.5e6], holders=[10, 11, pd.NA]))
    left, right = ax.figure.axes
    assert left is ax
    assert lines(left) == {"net worth, R$ million": [1.0, 2.5]}
    assert lines(right) == {"holders, people": [10, 11]}
    assert (left.get_ylabel(), right.get_ylabel()) == ("net worth, R$ million", "holders, people")
    assert left.yaxis.label.get_color() == left.get_lines()[0].get_color()
    assert left.get_title(loc="left") == "Net worth and holders · 18.993.924/0001-00"


@pytest.mark.parametrize(
    ("net_worth", "holders", "million", "people"),
    [
        ([1.50e6, 1.56e6], [3, 3], "1.50", "3"),
        ([1.0e9, 2.0e9], [30_000, 32_000], "1,000", "30,000"),
        ([3.0e6, 3.0e6], [1, 2], "3.00", "1"),
    ],
)
def test_ticks_have_the_decimals_they_need(net_worth, holders, million, people):
    ax = plot.net_worth_and_holders(tidy(net_worth=net_worth, holders=holders))
    ax.figure.canvas.draw()
    left, right = ([label.get_text() for label in one.get_yticklabels()] for one in ax.figure.axes)
    assert million in left
    assert people in right
    assert len(set(left)) == len(left)
    assert len(set(right)) == len(right)


def test_with_several_funds_one_must_be_named():
    both = pd.concat([tidy(net_worth=[1e6], holders=[1]), tidy(net_worth=[2e6], holders=[2]).assign(cnpj=B)])
    with pytest.raises(ConfigError, match="cnpj: the frame has 2 funds"):
        plot.net_worth_and_holders(both)
    with pytest.raises(ConfigError, match="not a CNPJ"):
        plot.net_worth_and_holders(both, cnpj="123")
    _, ax = plt.subplots()
    assert plot.net_worth_and_holders(both, ax, cnpj="12.abc.345/01de-35") is ax
    assert lines(ax)["net worth, R$ million"] == [2.0]


@pytest.mark.parametrize("frame", [tidy(quota=[]), tidy(quota=[1.0, 2.0])])
def test_a_chart_without_figures_says_so(frame):
    ax = plot.net_worth_and_holders(frame)
    assert [text.get_text() for text in ax.texts] == ["no figures"]
    ax.figure.canvas.draw()


def test_charts_do_not_change_the_frame():
    frame = many(3)
    before = frame.copy()
    plot.prices(frame)
    plot.drawdown(frame)
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(("begin", "first"), [("2022-02-01", "Apr\n2022"), ("2022-01-03", "2022")])
def test_the_first_date_of_an_axis_shows_its_year(begin, first):
    days = pd.DatetimeIndex(business_days(begin, "2023-12-29"), name="date")
    ax = plot.prices(pd.DataFrame({A: np.linspace(1, 2, len(days))}, index=days))
    ax.figure.canvas.draw()
    labels = [label.get_text() for label in ax.get_xticklabels()]
    low, high = ax.get_xlim()
    shown = [text for text, place in zip(labels, ax.get_xticks(), strict=True) if low <= place <= high]
    assert shown[0] == first
    assert shown.count("2023") == 1
