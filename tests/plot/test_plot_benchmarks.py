"""Benchmarks and marks for jumps in charts equal the metrics, and their labels cover nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from scraperkit import metrics, plot
from scraperkit.calendar import business_days
from scraperkit.errors import ConfigError
from scraperkit.plot.style import fund_labels
from scraperkit.replica.sample import load_sample

mpl.use("Agg")

A, B = "18993924000100", "12ABC34501DE35"
DAYS = business_days("2021-01-04", "2022-12-30").rename("date")


def declared(name: str, kind: str, values) -> pd.Series:
    series = pd.Series(np.asarray(values, float), index=DAYS, name=name)
    series.attrs["kind"] = kind
    return series


CDI = declared("cdi", "rate a day", np.full(len(DAYS), 0.04))
INDEX = declared("ibovespa", "level", np.exp(np.random.default_rng(2).normal(0, 0.01, len(DAYS)).cumsum()))


def funds(count: int, seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    steps = random.normal(0.0003, 0.0005 + 0.012 * random.random(count) ** 3, (len(DAYS), count))
    names = [f"Fundo de nome bastante comprido {number} FIC FIM Crédito Privado" for number in range(count)]
    return pd.DataFrame(np.exp(steps.cumsum(axis=0)), index=DAYS, columns=names)


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def quotes() -> pd.DataFrame:
    return load_sample().quotes


def legend(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def lines(ax) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_ydata()) for line in ax.get_lines()}


def is_inside(box: Bbox, figure) -> bool:
    return box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1


class TestPrices:
    def test_benchmarks_are_100_on_the_same_day_as_the_funds(self):
        frame = funds(2)
        frame.iloc[:30, 0] = math.nan
        ax = plot.prices(frame, benchmark=[CDI, INDEX])
        wealth = metrics.growth(CDI, DAYS)
        assert ax.get_ylabel() == f"index, first common day ({DAYS[30].day} {DAYS[30]:%b %Y}) = 100"
        np.testing.assert_allclose(lines(ax)["CDI"], wealth / wealth.iloc[30] * 100)
        np.testing.assert_allclose(lines(ax)["Ibovespa"], INDEX / INDEX.iloc[30] * 100)
        assert {"CDI", "Ibovespa"} < set(legend(ax))

    def test_a_single_fund_is_named_beside_its_benchmark(self):
        ax = plot.prices(funds(1), benchmark=CDI)
        assert len(legend(ax)) == 2
        assert ax.get_title(loc="left") == "Price index"

    def test_benchmarks_without_a_kind_or_with_equal_names_are_refused(self):
        bare = CDI.copy()
        bare.attrs = {}
        with pytest.raises(ConfigError, match="cdi declares no kind"):
            plot.prices(funds(1), benchmark=bare)
        with pytest.raises(ConfigError, match="two are named cdi; rename one"):
            plot.prices(funds(1), benchmark=[CDI, CDI])

    def test_a_benchmark_line_differs_from_funds_without_colour(self):
        ax = plot.prices(funds(7), benchmark=[CDI, INDEX])
        looks = [(line.get_color(), str(line._dash_pattern), line.get_linewidth()) for line in ax.get_lines()[:9]]
        assert len(set(looks)) == 9
        assert all(look[1] != "(0, None)" for look in looks[7:])


class TestMarks:
    def test_marks_are_on_the_line_and_named_with_day_and_size(self, quotes):
        jumps = metrics.jumps(quotes)
        cnpj = jumps["cnpj"][0]
        prices = quotes[quotes["cnpj"] == cnpj].pivot(index="date", columns="cnpj", values="quota")
        ax = plot.prices(prices, jumps=jumps)
        marks = [line for line in ax.get_lines() if line.get_marker() == "s"]
        assert [pd.Timestamp(mark.get_xdata()[0]) for mark in marks] == jumps["date"].tolist()
        drawn = prices[cnpj] / prices[cnpj].iloc[0] * 100
        np.testing.assert_allclose([mark.get_ydata()[0] for mark in marks], drawn[jumps["date"]])
        assert legend(ax)[1:] == [
            "15 Jun 2022: payout or write-down, −37.9 %",
            "15 Jun 2023: payout or write-down, −9.9 %",
        ]

    def test_each_kind_of_mark_has_its_own_shape_and_many_are_counted(self):
        from scraperkit.metrics.verdicts import JUMP_KINDS

        frame = funds(1)
        kinds = [*JUMP_KINDS, *JUMP_KINDS]
        jumps = pd.DataFrame({"cnpj": frame.columns[0], "subclass": "", "date": DAYS[10 : 10 + len(kinds)]})
        ax = plot.prices(frame, jumps=jumps.assign(metric="quota", size=0.1, kind=kinds))
        shapes = {line.get_marker() for line in ax.get_lines()} - {"None"}
        assert len(shapes) == len(JUMP_KINDS)
        assert sorted(legend(ax)[1:]) == sorted(f"{kind}, 2 days" for kind in JUMP_KINDS)

    def test_jumps_of_other_series_metrics_and_days_are_left_out(self):
        frame = funds(1)
        row = {
            "cnpj": frame.columns[0],
            "subclass": "",
            "date": DAYS[5],
            "metric": "quota",
            "size": 0.1,
            "kind": "split",
        }
        others = [row | {"cnpj": B}, row | {"subclass": "Z1"}, row | {"date": pd.Timestamp("2030-01-02")}]
        ax = plot.prices(frame, jumps=pd.DataFrame([*others, row | {"metric": "net_worth"}]))
        assert ax.get_legend() is None
        assert len(plot.prices(frame, jumps=pd.DataFrame([row])).get_legend().get_texts()) == 2

    def test_a_jump_without_a_price_is_marked_between_its_neighbours(self):
        frame = pd.DataFrame({A: [1.0, math.nan, 2.0]}, index=DAYS[:3])
        jumps = pd.DataFrame(
            [{"cnpj": A, "subclass": "", "date": DAYS[1], "metric": "quota", "size": -1, "kind": "error"}]
        )
        (mark,) = [line for line in plot.prices(frame, jumps=jumps).get_lines() if line.get_marker() == "X"]
        assert mark.get_ydata() == [150]

    def test_jumps_are_marked_on_the_net_worth_too(self, quotes):
        jumps = metrics.jumps(quotes)
        ax = plot.net_worth_and_holders(quotes, cnpj=jumps["cnpj"][0], jumps=jumps)
        assert len(legend(ax)) == 2
        ax.figure.canvas.draw()
        assert is_inside(ax.get_legend().get_window_extent(), ax.figure)
        assert plot.net_worth_and_holders(quotes, cnpj=A, jumps=jumps).get_legend() is None

    @pytest.mark.parametrize("count", [2, 8])
    def test_marks_name_their_fund(self, count):
        frame = funds(2)
        days = DAYS[10 : 10 + count]
        jumps = pd.DataFrame(
            {"cnpj": [frame.columns[place % 2] for place in range(count)], "subclass": "", "date": days}
        )
        ax = plot.prices(frame, jumps=jumps.assign(metric="quota", size=0.1, kind="payout"))
        lines = ax.get_lines()[:2]
        labels = fund_labels(list(frame.columns), {}, lines=1)
        told = [text.get_text().split("\n") for text in ax.get_legend().get_texts()[2:]]
        assert [each[0] for each in told] == labels
        assert told[0][1].endswith("payout, +10.0 %" if count == 2 else "payout, 4 days")
        marks = [line for line in ax.get_lines() if line.get_marker() == "v" and line.get_linestyle() == "None"]
        assert len(marks) == count
        for place, mark in enumerate(marks):
            assert mark.get_markeredgecolor() == lines[place % 2].get_color()

    @pytest.mark.parametrize("wrong", [["2022-06-15"], pd.DataFrame({"date": DAYS[:1]})])
    def test_a_frame_without_jumps_is_refused(self, wrong, quotes):
        with pytest.raises(ConfigError, match="^jumps: give the frame of metrics.jumps"):
            plot.prices(funds(1), jumps=wrong)
        with pytest.raises(ConfigError, match="^jumps: give the frame of metrics.jumps"):
            plot.net_worth_and_holders(quotes, cnpj=A, jumps=wrong)


class TestWindows:
    def test_window_lines_show_the_excess_and_names_the_share_of_wins(self):
        frame = funds(2)
        ax = plot.windows(frame, benchmark=CDI)
        expected = metrics.windows(frame, CDI)
        for name, line in zip(frame, ax.get_lines(), strict=False):
            np.testing.assert_allclose(line.get_ydata(), expected[name].dropna() * 100)
        told = sorted(text.splitlines()[-1] for text in legend(ax))
        share = (expected > 0).sum() / expected.count()
        assert told == sorted(f"beat CDI in {each * 100:.0f} % of windows" for each in share)
        assert ax.get_ylabel() == "return over 12 months\nless that of CDI, percentage points"

    def test_the_windows_of_one_fund_are_filled_and_titled(self):
        ax = plot.windows(funds(1), benchmark=INDEX, months=3)
        assert len(ax.collections) == 2
        assert ax.collections[1].get_hatch() == "///"
        assert "beat Ibovespa in " in ax.get_title(loc="left")

    def test_windows_without_a_benchmark_show_returns_and_too_few_days_say_so(self):
        assert plot.windows(funds(3)).get_ylabel() == "return over 12 months, %"
        assert plot.windows(funds(3).head(100)).texts[0].get_text() == "no fund with 12 months of prices"
        assert plot.windows(funds(3).head(0)).texts[0].get_text() == "no prices"


class TestRiskReturn:
    def test_dots_are_at_the_values_of_the_metrics(self):
        frame = funds(3)
        ax = plot.risk_return(frame, benchmark=[CDI, INDEX])
        years = (len(DAYS) - 1) / 252
        own = np.column_stack([metrics.volatility(frame), (frame.iloc[-1] / frame.iloc[0]) ** (1 / years) - 1]) * 100
        np.testing.assert_allclose(ax.collections[0].get_offsets(), own)
        bank = metrics.growth(CDI, DAYS)
        np.testing.assert_allclose(ax.collections[1].get_offsets()[0][1], (bank.iloc[-1] ** (1 / years) - 1) * 100)
        assert ax.get_ylabel() == "return a year, %\n4 Jan 2021 to 30 Dec 2022"

    def test_risk_and_return_use_the_shared_days(self):
        frame = funds(2)
        frame.iloc[:300, 0] = math.nan
        ax = plot.risk_return(frame)
        part = frame.iloc[300:]
        np.testing.assert_allclose(ax.collections[0].get_offsets()[:, 0], metrics.volatility(part) * 100)
        expected = (part.iloc[-1] / part.iloc[0] - 1) * 100
        np.testing.assert_allclose(ax.collections[0].get_offsets()[:, 1], expected)
        assert ax.get_ylabel().startswith("return, %"), "less than a year is not made one"
        frame.iloc[300:, 1] = math.nan
        assert plot.risk_return(frame).get_ylabel().endswith("each over its own days")

    @pytest.mark.parametrize("count", [1, 5, 8, 9, 20])
    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_no_label_covers_another_or_a_dot_or_leaves_the_figure(self, count, seed):
        ax = plot.risk_return(funds(count, seed), benchmark=[CDI, INDEX])
        ax.figure.canvas.draw()
        boxes = [Text.get_window_extent(text) for text in ax.texts]
        dots = np.vstack([ax.transData.transform(group.get_offsets()) for group in ax.collections])
        assert len(boxes) == count + 2
        for place, box in enumerate(boxes):
            assert is_inside(box, ax.figure)
            assert not any(box.shrunk(0.98, 0.9).overlaps(other.shrunk(0.98, 0.9)) for other in boxes[place + 1 :])
            assert not any(box.contains(*dot) for dot in dots)

    def test_more_than_eight_funds_are_numbered(self):
        ax = plot.risk_return(funds(9))
        assert sorted(text.get_text() for text in ax.texts) == [str(number) for number in range(1, 10)]
        assert legend(ax)[0].startswith("1  Fundo de nome")

    def test_a_fund_with_too_few_prices_is_left_out_and_named(self):
        frame = funds(3)
        whole = plot.risk_return(frame[frame.columns[:2]], benchmark=[CDI])
        frame.iloc[10:, 2] = math.nan
        ax = plot.risk_return(frame, benchmark=[CDI])
        assert ax.get_ylabel() == whole.get_ylabel()
        np.testing.assert_allclose(ax.collections[0].get_offsets(), whole.collections[0].get_offsets())
        short = fund_labels([frame.columns[2]], frame.attrs.get("names", {}), lines=1)[0]
        assert f"Too few prices on these days: {short}" in " ".join(ax.get_xlabel().split())
        assert "Too few" not in whole.get_xlabel()
        assert (
            "Too few prices on these days: CDI"
            in plot.risk_return(frame[frame.columns[:2]], benchmark=[CDI.head(8)]).get_xlabel()
        )

    def test_a_legend_distinguishes_funds_from_benchmarks(self):
        ax = plot.risk_return(funds(9), benchmark=[CDI, INDEX])
        first, _ = (each for each in ax.get_children() if isinstance(each, Legend))
        dots, diamonds = ax.collections[:2]
        assert [text.get_text() for text in first.get_texts()] == ["funds", "benchmarks"]
        assert dots.get_facecolor().tolist() != diamonds.get_facecolor().tolist()
        assert len(dots.get_paths()[0].vertices) != len(diamonds.get_paths()[0].vertices)
        assert not [each for each in plot.risk_return(funds(2)).get_children() if isinstance(each, Legend)]

    def test_a_chart_with_too_few_prices_says_so(self):
        assert plot.risk_return(funds(2).head(2)).texts[0].get_text() == "no fund with three prices"
        assert plot.risk_return(funds(2).head(0)).texts[0].get_text() == "no prices"
