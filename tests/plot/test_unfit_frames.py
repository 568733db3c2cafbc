"""Every metric and chart handles quotas that are not prices, and CSV files read without options."""

from __future__ import annotations

import inspect
import io
import math
from collections.abc import Callable, Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from scraperkit import metrics, plot
from scraperkit.calendar import business_days
from scraperkit.errors import ConfigError, ScraperKitWarning

mpl.use("Agg")

A, B = "18993924000100", "12ABC34501DE35"
DAYS = business_days("2022-01-03", "2022-03-31").rename("date")
WALK = np.exp(np.random.default_rng(3).normal(0, 0.01, (len(DAYS), 2)).cumsum(axis=0))
PRICES = pd.DataFrame(WALK, index=DAYS, columns=pd.Index([A, B], name="cnpj"))
QUOTES = pd.DataFrame(
    {"cnpj": "00360305000104", "date": DAYS, "net_worth": 1e6, "inflow": 1.0, "outflow": 2.0, "holders": 9}
)
FIGURES = QUOTES.assign(quota=1.0)
SPEED = pd.DataFrame({"jobs_per_second": [9.0, 18.0]}, index=pd.Index([1, 2], name="threads"))
_TIMES = dict.fromkeys(("published_at", "started_at", "fetched_at", "stored_at"), pd.Timestamp("2026-01-05", tz="UTC"))
EVENTS = pd.DataFrame([{"message": "a", "outcome": "done", "attempt": 1, "worker": "w", "thread": "t"} | _TIMES])

RATES = pd.Series(0.0004, index=DAYS)
INDEX = pd.Series(np.linspace(100, 110, len(DAYS)), index=DAYS, name="index")
INDEX.attrs["kind"] = "level"
MORE = {"metrics.sharpe": {"risk_free": RATES}, "plot.monthly_returns": {"cnpj": A}}
for name in ("beta", "excess_return", "information_ratio", "share_of_benchmark", "tracking_error"):
    MORE[f"metrics.{name}"] = {"benchmark": INDEX}
MORE["plot.windows"] = {"months": 1}
MORE["metrics.real_return"] = {"inflation": INDEX}
OTHERS = {
    "metrics.growth": lambda: DAYS,
    "metrics.jumps": lambda: FIGURES,
    "metrics.total_return": lambda: FIGURES,
    "metrics.ends": lambda: pd.DataFrame({"cnpj": [A]}),
    "plot.throughput": lambda: SPEED,
    "plot.timeline": lambda: EVENTS,
    "plot.latency": lambda: EVENTS,
    "plot.net_worth_and_holders": lambda: QUOTES,
    "plot.flows_and_holders": lambda: QUOTES,
}


def public(room) -> Iterator[str]:
    """Return a subpackage's public function names."""
    short = room.__name__.rpartition(".")[2]
    return (f"{short}.{name}" for name in room.__all__ if inspect.isfunction(getattr(room, name)))


EVERY = [*public(metrics), *public(plot)]
OF_PRICES = [name for name in EVERY if name not in OTHERS]


def function(name: str) -> Callable:
    room, _, own = name.partition(".")
    found = getattr({"metrics": metrics, "plot": plot}[room], own)
    return lambda frame, **more: found(frame, **MORE.get(name, {}) | more)


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


def read_back(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(frame.to_csv()))


def test_every_public_function_is_tested_here():
    assert set(OTHERS) < set(EVERY)
    assert {"metrics.returns", "metrics.summary", "plot.coverage", "plot.prices"} < set(OF_PRICES)
    for name in OF_PRICES:
        function(name)(PRICES)


@pytest.mark.parametrize("name", OF_PRICES)
def test_unparsed_csv_prices_are_refused_with_a_sentence(name):
    with pytest.raises(ConfigError, match=r'TimeSeriesReader\.prices\(\).*pd\.read_csv\(path, index_col="date"'):
        function(name)(read_back(PRICES))
    text_dates = PRICES.set_axis(PRICES.index.astype("str"))
    with pytest.raises(ConfigError, match=r"index holds text.*pd\.read_csv"):
        function(name)(text_dates)


@pytest.mark.parametrize("name", OF_PRICES)
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda frame: frame.set_axis([18993924000100, 191], axis=1), r"column 18993924000100 .*str\.zfill\(14\)"),
        (lambda frame: frame.astype("str"), r"column 18993924000100 holds text.*decimal"),
        (lambda frame: frame.iloc[::-1], r"not in order.*sort_index"),
        (lambda frame: pd.concat([frame, frame.tail(1)]), "2022-03-31 appears twice"),
        (lambda frame: frame.tz_localize("UTC"), r"tz_localize\(None\)"),
        (lambda frame: frame[A], r"this is a Series; .*to_frame"),
    ],
)
def test_frames_of_another_shape_are_refused_with_a_sentence(name, spoil, says):
    with pytest.raises(ConfigError, match=says):
        function(name)(spoil(PRICES))


@pytest.mark.parametrize("name", ["plot.net_worth_and_holders", "plot.flows_and_holders"])
def test_unparsed_csv_quotes_are_refused_with_a_sentence(name):
    found = read_back(QUOTES)
    with pytest.raises(ConfigError, match=r'column cnpj holds numbers, so zeros .*dtype=\{"cnpj": "str"\}'):
        function(name)(found)
    with pytest.raises(ConfigError, match=r'column date holds text.*parse_dates=\["date"\]'):
        function(name)(found.assign(cnpj="00360305000104"))


def test_unparsed_csv_runs_are_refused_with_a_sentence():
    with pytest.raises(ConfigError, match=r"numbers of threads.*pd\.read_csv\(path, index_col=0\)"):
        plot.throughput(read_back(SPEED))


@pytest.mark.parametrize("name", ["plot.timeline", "plot.latency"])
def test_unparsed_csv_events_can_be_drawn(name):
    function(name)(read_back(EVENTS)).figure.canvas.draw()
    with pytest.raises(ConfigError, match="events: the column started_at holds no times"):
        function(name)(EVENTS.assign(started_at="soon"))


def test_ends_of_another_frame_are_refused_with_a_sentence():
    with pytest.raises(ConfigError, match="funds: no column status, last"):
        metrics.ends(OTHERS["metrics.ends"]())


@pytest.mark.parametrize("wrong", [0.0, -1.5, math.inf])
@pytest.mark.parametrize("name", OF_PRICES)
def test_a_quota_that_is_not_a_price_warns_and_counts_as_missing(name, wrong):
    """NumPy does not warn either: the tests turn each warning into an error."""
    spoilt, lacking = PRICES.copy(), PRICES.copy()
    days = DAYS[[0, 10, 11, len(DAYS) - 1]]
    spoilt.loc[days, A], lacking.loc[days, A] = wrong, math.nan
    before = spoilt.copy()
    with pytest.warns(ScraperKitWarning, match=r"4 quotas .* 18\.993\.924/0001-00 on 2022-01-03, 2022-01-17") as caught:
        found = function(name)(spoilt)
    assert len(caught) == 1
    assert caught[0].filename == __file__, "the warning points at the caller"
    pd.testing.assert_frame_equal(spoilt, before)
    if name.startswith("metrics."):
        expected = function(name)(lacking)
        found.attrs = expected.attrs = {}
        compare = (
            pd.testing.assert_frame_equal if isinstance(expected, pd.DataFrame) else pd.testing.assert_series_equal
        )
        compare(found, expected)
        assert not np.isinf(found.to_numpy(dtype="float64")).any()
        return
    found.figure.canvas.draw()
    assert "4 quotas that are not prices" in found.get_xlabel().replace("\n", " ")
    assert "2022-01-17" in found.get_xlabel()
    box = found.xaxis.label.get_window_extent()
    assert box.x0 >= -1
    assert box.y0 >= -1
    assert box.x1 <= found.figure.bbox.x1 + 1
    assert function(name)(lacking).get_xlabel() == ("volatility, % a year" if name == "plot.risk_return" else "")


@pytest.mark.parametrize("name", OF_PRICES)
def test_a_fund_with_all_quotas_0_has_no_prices(name):
    with pytest.warns(ScraperKitWarning, match="not prices"):
        found = function(name)(PRICES * 0)
    if name.startswith("plot."):
        found.figure.canvas.draw()


def test_coverage_names_days_whose_quota_is_not_a_price():
    spoilt = PRICES.copy()
    spoilt.loc["2022-01-04":"2022-01-05", A] = 0
    with pytest.warns(ScraperKitWarning, match="2 quotas"):
        found = metrics.coverage(spoilt)
    assert found.attrs["no_price"] == {A: ["2022-01-04", "2022-01-05"]}
    assert found[A].iloc[0] == pytest.approx(19 / 21)
    assert metrics.coverage(PRICES).attrs["no_price"] == {}


def test_a_message_about_many_days_stays_short():
    names = [f"fund {number}" for number in range(200)]
    everything = pd.DataFrame(0.0, index=DAYS, columns=names)
    with pytest.warns(ScraperKitWarning) as caught:
        metrics.returns(everything)
    assert len(str(caught[0].message)) < 700
    assert "195 more funds" in str(caught[0].message)


def test_months_after_a_funds_end_are_not_missing():
    prices = PRICES.copy()
    prices.loc["2022-02-11":, A] = math.nan
    assert metrics.coverage(prices)[A].round(2).tolist() == [1, 0.42, 0], "it is not known that the fund has ended"
    cards = pd.DataFrame(
        {"status": [" cancelada ", "EM FUNCIONAMENTO NORMAL"], "last": pd.to_datetime(["2022-02-10", "2022-03-31"])},
        index=pd.Index([A, B], name="cnpj"),
    )
    ended = metrics.ends(cards)
    assert (ended.name, ended.index.name) == ("ended_on", "cnpj")
    found = metrics.coverage(prices, ended_on=ended)
    assert found[A].tolist() == pytest.approx([1, 1, math.nan], nan_ok=True)
    assert (found[B] == 1).all()
    known = metrics.ends(cards.assign(ended_on=[pd.NaT, pd.Timestamp("2022-01-31")]))
    assert known.dt.strftime("%Y-%m-%d").tolist() == ["2022-02-10", "2022-01-31"]
    ax = plot.coverage(prices, ended_on=ended)
    assert [text.get_text() for text in ax.texts] == []
    assert "before the fund's start, after its end" in [text.get_text() for text in ax.get_legend().get_texts()]
    ax.figure.canvas.draw()
    assert ax.get_legend().get_window_extent().x1 <= ax.figure.bbox.x1 + 1


@pytest.mark.parametrize("draw", [metrics.coverage, plot.coverage])
@pytest.mark.parametrize("argument", ["started_on", "ended_on"])
def test_dates_without_a_matching_fund_are_refused_with_a_sentence(draw, argument):
    for given, says in (
        (pd.Series({18993924000100: "2022-02-01"}), r"18993924000100 is not text.*pd\.read_csv"),
        ({A: "soon"}, "'soon' is not a day; write it as '2022-01-31'"),
        ("2022-02-01", "this is a str"),
    ):
        with pytest.raises(ConfigError, match=rf"^{argument}: give a day for each CNPJ.*{says}"):
            draw(PRICES, **{argument: given})
    zoned = pd.Series({A: pd.Timestamp("2022-02-10", tz="UTC"), B: pd.NA})
    plain = {A: "2022-02-10"}
    if draw is metrics.coverage:
        pd.testing.assert_frame_equal(draw(PRICES, **{argument: zoned}), draw(PRICES, **{argument: plain}))


def test_the_legend_of_coverage_fits_beside_long_names():
    ax = plot.coverage(
        PRICES, names={A: "Fundo Exemplo Cedro & Embaúba FIM Prazo < 365 Dias"}, ended_on={A: "2022-01-31"}
    )
    ax.figure.canvas.draw()
    box = ax.get_legend().get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= ax.figure.bbox.x1 + 1


@pytest.mark.parametrize("rate", [0.05, 13.65, -0.05, math.inf])
def test_a_rate_in_percent_is_refused_with_an_explanation(rate):
    for given in (rate, RATES * 0 + rate, (RATES * 0 + rate).to_frame()):
        if rate == math.inf and given is rate:
            continue
        with pytest.raises(ConfigError, match=r"^risk_free: .* more than 1 % a day.*0\.05 % a day is 0\.0005.*1\.1365"):
            metrics.sharpe(PRICES, given)


def test_a_rate_may_be_a_series_a_one_column_frame_or_a_number():
    expected = metrics.sharpe(PRICES, RATES)
    for given in (RATES.to_frame("cdi"), 0.0004, np.float64(0.0004)):
        pd.testing.assert_series_equal(metrics.sharpe(PRICES, given), expected)
    assert metrics.sharpe(PRICES, 0).notna().all()
    # A number is a rate even on days without prices.
    gap = PRICES.drop(DAYS[[5, 6]])
    pd.testing.assert_series_equal(metrics.sharpe(gap, 0.0004), metrics.sharpe(gap, RATES))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (pd.DataFrame({"a": RATES, "b": RATES}), "2 columns"),
        (
            RATES.reset_index().set_axis(["date", "rate"], axis=1).astype({"date": "str"}).set_index("date"),
            "holds text",
        ),
        (RATES.astype("str"), "not numbers"),
        (read_back(RATES.to_frame("cdi")), "2 columns"),
        (read_back(RATES.to_frame("cdi"))["cdi"], r"not dates; read a CSV with pd\.read_csv"),
        (True, "not True"),
        (math.nan, "not nan"),
        ("0.0004", "not '0.0004'"),
        (None, "not None"),
    ],
)
def test_rates_of_another_shape_are_refused_with_a_sentence(given, says):
    with pytest.raises(ConfigError, match=f"^risk_free: give a Series of daily rates.*{says}"):
        metrics.sharpe(PRICES, given)
