"""Heat maps, rolling volatility and flows show the figures of their frames, with any gaps."""

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
from matplotlib.patches import Rectangle
from stdnum.br import cnpj as stdnum_cnpj

from scraperkit import metrics, plot
from scraperkit.calendar import business_days
from scraperkit.errors import ConfigError
from scraperkit.models import COLUMNS

mpl.use("Agg")

A, B, C = "18993924000100", "12ABC34501DE35", "00000000000191"
NAN = math.nan
LONG = "CLASSE ÚNICA DE COTAS DO FUNDO DE INVESTIMENTO FINANCEIRO EM AÇÕES JOÃO E ESPÓLIO RESPONSABILIDADE LIMITADA"


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


def wide(columns: dict[str, list[float]], days=None) -> pd.DataFrame:
    length = len(next(iter(columns.values()), []))
    index = business_days("2022-01-03", "2030-01-01")[:length] if days is None else pd.DatetimeIndex(days)
    names = pd.Index(list(columns), dtype="str", name="cnpj")
    return pd.DataFrame(columns, index=index.rename("date"), dtype="float64").set_axis(names, axis="columns")


def many(count: int, days: int = 60) -> pd.DataFrame:
    stems = [f"{number:08d}0001" for number in range(count)]
    steps = np.random.default_rng(1).normal(0, 0.01, (days, count))
    names = [stem + stdnum_cnpj.calc_check_digits(stem) for stem in stems]
    return wide(dict(zip(names, np.exp(steps.cumsum(0)).T.tolist(), strict=True)))


def tidy(**columns) -> pd.DataFrame:
    length = len(next(iter(columns.values())))
    frame = pd.DataFrame({"cnpj": A, "date": business_days("2022-01-03", "2030-01-01")[:length], **columns})
    frame = frame.reindex(columns=list(COLUMNS))
    return frame.astype({name: column.dtype for name, column in COLUMNS.items()})


def legend(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def cells(ax: Axes) -> np.ndarray:
    return np.ma.filled(ax.collections[0].get_array(), np.nan).round(6)


def hatched(ax: Axes) -> set[tuple[int, int]]:
    """Return row and column of each hatched cell."""
    boxes = [patch for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_hatch()]
    return {(int(patch.get_y()), int(patch.get_x())) for patch in boxes}


def labels(axis) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def overlapping(boxes) -> list[tuple[int, int]]:
    """Return the boxes that overlap by more than a pixel."""
    found = []
    for one, first in enumerate(boxes):
        for other, second in enumerate(boxes[:one]):
            width = min(first.x1, second.x1) - max(first.x0, second.x0)
            height = min(first.y1, second.y1) - max(first.y0, second.y0)
            if width > 1 and height > 1:
                found.append((one, other))
    return found


MONTHS = ["2021-11-30", "2021-12-31", "2022-01-31", "2022-03-31"]


def test_monthly_returns_by_year_and_month_with_the_year_at_the_end():
    ax = plot.monthly_returns(wide({A: [100.0, 110.0, 121.0, 96.8]}, MONTHS))
    table = cells(ax)
    assert table.shape == (2, 12)
    assert (table[0, 11], table[1, 0], table[1, 2]) == (10, 10, -20)
    assert np.isnan(table).sum() == 24 - 3
    assert hatched(ax) == {(row, column) for row, column in np.argwhere(np.isnan(table))}
    assert texts(ax) == ["+10.0", "+10.0", "−20.0", "+10.0", "−12.0"]
    assert labels(ax.yaxis) == ["2021", "2022"]
    assert labels(ax.xaxis)[::12] == ["Jan", "year"]
    assert ax.get_ylabel() == "return, %"


def test_the_colours_of_monthly_returns_are_centred_at_0():
    mesh = plot.monthly_returns(wide({A: [100.0, 130.0, 117.0]}, MONTHS[:3])).collections[0]
    assert (mesh.norm.vmin, mesh.norm.vmax) == pytest.approx((-30, 30))
    red, green, blue, _ = mesh.cmap(mesh.norm(0.0))
    assert max(red, green, blue) - min(red, green, blue) < 0.02


def test_a_return_of_0_has_no_minus_sign():
    ax = plot.monthly_returns(wide({A: [100.0, 99.999, 99.999]}, MONTHS[:3]))
    assert texts(ax) == ["+0.0", "+0.0", "+0.0", "+0.0"]


def test_a_year_without_prices_between_others_has_a_row():
    ax = plot.monthly_returns(wide({A: [1.0, 2.0, 3.0]}, ["2020-12-30", "2020-12-31", "2022-01-31"]))
    assert labels(ax.yaxis) == ["2020", "2021", "2022"]
    assert texts(ax) == ["+100.0", "+50.0", "+100.0", "", "+50.0"]


def _walk(*falls: tuple[int, float]) -> pd.DataFrame:
    """Two funds over 60 days: one grows a little each day, but for `falls`; one moves as stocks do."""
    calm = 1 + np.random.default_rng(3).normal(0.0004, 0.0002, 60)
    for place, factor in falls:
        calm[place] = factor
    rough = 1 + np.random.default_rng(4).normal(0, 0.02, 60)
    rough[40] = 0.88
    return wide({A: 100 * calm.cumprod(), B: 100 * rough.cumprod()})


def test_prices_mark_sudden_lasting_falls():
    ax = plot.prices(_walk((20, 0.62), (45, 0.9)))
    told = [text for text in legend(ax) if "payout" in text]
    assert [text.partition(": ")[2] for text in told] == [
        "payout or write-down, −38.0 %",
        "payout or write-down, −10.0 %",
    ]


@pytest.mark.parametrize("falls", [(), ((20, 10.0), (21, 0.1)), ((20, 0.1), (21, 10.0)), ((20, 0.96),)])
def test_prices_do_not_mark_market_moves_or_corrected_errors(falls):
    assert not [text for text in legend(plot.prices(_walk(*falls))) if "payout" in text]


def test_prices_with_given_jumps_mark_only_these():
    known = pd.DataFrame(columns=["cnpj", "subclass", "date", "metric", "size", "kind"])
    assert not [text for text in legend(plot.prices(_walk((20, 0.62)), jumps=known)) if "payout" in text]


def test_monthly_returns_need_one_fund():
    both = wide({A: [1.0, 2.0], B: [1.0, 3.0]})
    with pytest.raises(ConfigError, match="cnpj: the frame has 2 funds; name the one"):
        plot.monthly_returns(both)
    with pytest.raises(ConfigError, match="cnpj: the frame has no fund 00.000.000/0001-91"):
        plot.monthly_returns(both, cnpj=C)
    ax = plot.monthly_returns(both, cnpj="12.abc.345/01de-35", names={B: "Fund B"})
    assert (ax.get_title(loc="left"), texts(ax)) == ("Monthly returns · Fund B", ["+200.0", "+200.0"])


def test_correlation_shows_each_pair_once():
    frame = wide({A: [1.0, 2.0, 2.0, 4.0], B: [8.0, 4.0, 4.0, 2.0], C: [NAN, 1.0, 2.0, NAN]})
    ax = plot.correlation(frame, names={A: "Fund A"})
    table = cells(ax)
    assert table[1, 0] == -1
    assert np.isnan(table).sum() == 8
    assert hatched(ax) == {(2, 0), (2, 1)}
    assert texts(ax) == ["−1.00"]
    assert labels(ax.yaxis) == ["Fund A   1", "12.ABC.345/01DE-35   2", "00.000.000/0001-91   3"]
    assert labels(ax.xaxis) == ["1", "2"]
    mesh = ax.collections[0]
    assert (mesh.norm.vmin, mesh.norm.vmax) == (-1, 1)


def test_correlation_of_one_fund_says_there_is_no_pair():
    assert texts(plot.correlation(wide({A: [1.0, 2.0], B: [NAN, NAN]}))) == ["one fund: no pair to correlate"]


def test_coverage_distinguishes_missing_days_from_days_before_the_start():
    days = business_days("2022-01-03", "2022-03-31")
    frame = wide({A: [1.0] * len(days), B: [NAN] * len(days)}, days)
    frame.loc["2022-02-01":"2022-02-10", A] = NAN
    frame.loc["2022-03-15":, B] = 1.0
    ax = plot.coverage(frame)
    # February 2022 has 19 business days: the 28th is Carnival Monday.
    np.testing.assert_allclose(cells(ax), [[100, 11 / 19 * 100, 100], [NAN, NAN, 100]], atol=1e-5)
    assert hatched(ax) == {(1, 0), (1, 1)}
    assert texts(ax) == ["58"]
    assert labels(ax.xaxis) == ["Jan\n2022", "Feb", "Mar"]
    told = plot.coverage(frame, started_on=pd.Series({B: pd.Timestamp("2022-02-21")}))
    np.testing.assert_allclose(cells(told)[1], [NAN, 0, 13 / 22 * 100], atol=1e-5)
    assert "before the fund's start" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_coverage_labels_months_evenly_and_each_year_once():
    frame = wide({A: [1.0] * 500}, business_days("2021-11-15", "2030-01-01")[:500])
    ticks = labels(plot.coverage(frame).xaxis)
    assert ticks == ["Jan\n2022", "Apr", "Jul", "Oct", "Jan\n2023", "Apr", "Jul", "Oct"]


def test_rolling_volatility_is_in_percent_a_year():
    frame = wide({A: [100.0, 101.0, 99.99, 100.9899], B: [1.0, NAN, NAN, 1.0]})
    ax = plot.rolling_volatility(frame, window=2)
    [line] = ax.get_lines()
    assert np.asarray(line.get_ydata()).round(2).tolist() == [22.45, 22.45]
    assert ax.get_ylabel() == "volatility of the last 2 returns, % a year"
    assert ax.get_ylim()[0] == 0
    assert texts(plot.rolling_volatility(frame)) == ["no fund with 21 returns"]
    with pytest.raises(ConfigError, match="^window"):
        plot.rolling_volatility(frame, window=1)


def test_flows_go_up_and_down_by_day():
    ax = plot.flows_and_holders(tidy(inflow=[2e3, NAN, 1e3], outflow=[5e2, 3e3, NAN], holders=[10, pd.NA, 12]))
    heights = [[patch.get_height() for patch in group] for group in ax.containers]
    np.testing.assert_allclose(heights, [[2, NAN, 1], [-0.5, -3, NAN]])
    [net] = [line for line in ax.get_lines() if line.get_label() == "net"]
    assert np.asarray(net.get_ydata()).tolist() == [1.5, -3, 1]
    assert ax.get_ylabel() == "R$ thousand a day"
    left, right = ax.figure.axes
    assert left is ax
    assert np.asarray(right.get_lines()[0].get_ydata()).tolist() == [10, 12]
    assert right.get_ylabel() == "holders, people"
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["inflow", "outflow", "net", "holders, people"]


def test_flows_of_many_days_are_summed_by_month():
    ax = plot.flows_and_holders(tidy(inflow=[1e6] * 80, outflow=[2e6] * 80, holders=[1] * 80))
    days = pd.Series(1.0, index=business_days("2022-01-03", "2030-01-01")[:80])
    assert [patch.get_height() for patch in ax.containers[0]] == days.resample("MS").sum().tolist()
    assert ax.get_ylabel() == "R$ million a month"


@pytest.mark.parametrize(
    ("most", "unit"), [(0.0, "R$"), (999.0, "R$"), (1e3, "R$ thousand"), (2e6, "R$ million"), (3e9, "R$ billion")]
)
def test_flows_have_a_suitable_unit(most, unit):
    ax = plot.flows_and_holders(tidy(inflow=[most], outflow=[0.0], holders=[1]))
    ax.figure.canvas.draw()
    assert ax.get_ylabel() == f"{unit} a day"
    ticks = [text for text in labels(ax.yaxis) if text]
    assert len(set(ticks)) == len(ticks)


def test_a_single_day_of_flows_shows_its_date():
    ax = plot.flows_and_holders(tidy(inflow=[1.0], outflow=[1.0], holders=[1]))
    ax.figure.canvas.draw()
    assert "03 Jan" in labels(ax.xaxis)
    first, last = mdates.num2date(ax.get_xlim()[0]), mdates.num2date(ax.get_xlim()[1])
    assert (last - first).days == 3


@pytest.mark.parametrize("frame", [tidy(quota=[]), tidy(quota=[1.0, 2.0])])
def test_a_chart_without_flows_says_so(frame):
    assert texts(plot.flows_and_holders(frame)) == ["no figures"]
    with pytest.raises(ConfigError, match="quotes: no column cnpj, date, inflow, outflow, holders"):
        plot.flows_and_holders(wide({A: [1.0]}))


WIDE = [plot.rolling_volatility, plot.monthly_returns, plot.correlation, plot.coverage]


@pytest.mark.parametrize("draw", WIDE)
def test_charts_use_the_given_axes_and_do_not_change_the_frame(draw):
    figure, axes = plt.subplots(1, 2)
    frame = many(1, 40)
    before = frame.copy()
    assert draw(frame, ax=axes[1]) is axes[1]
    assert draw(frame.head(0), ax=axes[0]) is axes[0]
    assert plt.get_fignums() == [figure.number]
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("draw", WIDE)
@pytest.mark.parametrize(
    "frame", [wide({A: []}), wide({A: [NAN]}), wide({A: [1.0]}), wide({A: [1.0, NAN, 2.0]}), wide({}), pd.DataFrame()]
)
def test_empty_and_tiny_frames_can_be_drawn(draw, frame):
    draw(frame).figure.canvas.draw()


@pytest.mark.parametrize("draw", WIDE)
def test_a_tidy_frame_is_refused(draw):
    with pytest.raises(ConfigError, match=r"give the wide frame of TimeSeriesReader\.prices"):
        draw(tidy(quota=[1.0, 2.0]))


@pytest.mark.parametrize("count", [1, 10, 20])
@pytest.mark.parametrize("draw", [plot.rolling_volatility, plot.correlation, plot.coverage])
def test_no_label_covers_another_or_is_cut_off(draw, count):
    frame = many(max(count, 2) if draw is plot.correlation else count, 200)
    ax = draw(frame, names=dict.fromkeys(frame.columns, LONG))
    figure = ax.figure
    figure.canvas.draw()
    for axis in (ax.xaxis, ax.yaxis):
        boxes = [label.get_window_extent() for label in axis.get_ticklabels() if label.get_text()]
        assert overlapping(boxes) == []
        assert all(box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y0 >= -1 for box in boxes)
    assert overlapping([text.get_window_extent() for text in ax.texts]) == []
    legend = ax.get_legend()
    if legend is not None:
        box = legend.get_window_extent()
        assert box.x1 <= figure.bbox.x1 + 1
        assert box.y1 <= figure.bbox.y1 + 1
        assert overlapping([box, ax.get_window_extent()]) == []


def test_drawn_figures_equal_those_of_the_metrics():
    frame = many(4, 90)
    np.testing.assert_allclose(cells(plot.coverage(frame)), metrics.coverage(frame).T * 100)
    drawn = cells(plot.correlation(frame))
    below = np.tril_indices(4, -1)
    np.testing.assert_allclose(drawn[below], metrics.correlation(frame).to_numpy()[below], atol=1e-6)
