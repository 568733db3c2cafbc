"""Jumps of generated series: each kind is planted, found, and distinguished from the others."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scraperkit import metrics
from scraperkit.calendar import business_days
from scraperkit.errors import ConfigError, ScraperKitWarning
from scraperkit.replica.sample import load_sample

DAYS = business_days("2021-01-04", "2022-06-30")
A, B = "18993924000100", "12ABC34501DE35"
SEEDS = st.integers(0, 10_000)
PLACES = st.integers(30, len(DAYS) - 30)
SCALES = st.sampled_from([0.0003, 0.002, 0.01])  # a credit fund, a multimarket fund, a stock fund


class Truth(NamedTuple):
    """The true returns and flows of a fund, before reporting."""

    returns: np.ndarray
    inflow: np.ndarray
    outflow: np.ndarray


def truth(seed: int, scale: float, days: int = len(DAYS)) -> Truth:
    random = np.random.default_rng(seed)
    flows = random.gamma(0.3, 1e-3, (2, days)) * 1e7
    returns = 0.0003 + random.standard_normal(days) * scale
    returns[:1] = 0.0
    return Truth(returns, *flows)


def report(
    true: Truth, *, payouts: dict[int, float] | None = None, told: bool = True, splits: dict[int, float] | None = None
) -> pd.DataFrame:
    """Report a fund as its administrator would: units, quota and net worth follow from returns, flows and payouts."""
    payouts, splits = payouts or {}, splits or {}
    quota, units, rows = 10.0, 1e6, []
    for place, move in enumerate(true.returns):
        quota *= 1 + move
        inflow, outflow = true.inflow[place], true.outflow[place]
        paid = units * quota * payouts.get(place, 0.0)
        quota *= 1 - payouts.get(place, 0.0)
        quota, units = quota / splits.get(place, 1.0), units * splits.get(place, 1.0)
        if place:
            units += (inflow - outflow) / quota
        rows.append((round(quota, 8), round(units * quota, 2), round(inflow, 2), round(outflow + paid * told, 2)))
    frame = pd.DataFrame(rows, columns=["quota", "net_worth", "inflow", "outflow"])
    frame.insert(0, "cnpj", A)
    frame.insert(1, "date", DAYS[: len(frame)])
    return frame


def only(found: pd.DataFrame) -> pd.Series:
    assert len(found) == 1, found.to_string()
    return found.iloc[0]


class TestEachKindIsRecognised:
    @settings(max_examples=60, deadline=None)
    @given(seed=SEEDS, place=PLACES, scale=SCALES, times=st.floats(8, 30))
    def test_a_payout_that_is_reported_as_an_outflow(self, seed, place, scale, times):
        share = max(0.006, min(times * scale, 0.5))
        row = only(metrics.jumps(report(truth(seed, scale), payouts={place: share})))
        assert (row["date"], row["kind"], row["metric"]) == (DAYS[place], "payout", "quota")
        assert row["unexplained"] / row["after"] > 0
        assert "redeemed no units" in row["evidence"]

    @settings(max_examples=40, deadline=None)
    @given(seed=SEEDS, place=PLACES, scale=SCALES)
    def test_a_payout_that_is_not_reported_may_be_a_loss(self, seed, place, scale):
        row = only(metrics.jumps(report(truth(seed, scale), payouts={place: max(0.02, 30 * scale)}, told=False)))
        assert (row["date"], row["kind"]) == (DAYS[place], "payout or write-down")
        assert "no matching outflow is reported" in row["evidence"]

    def test_a_payout_that_is_reported_two_days_later(self):
        quotes = report(truth(1, 0.001), payouts={100: 0.1}, told=False)
        paid = quotes.at[99, "net_worth"] * 0.1
        quotes.loc[102, "outflow"] += paid
        row = only(metrics.jumps(quotes))
        assert (row["date"], row["kind"]) == (DAYS[100], "payout")
        assert f"reported as an outflow on {DAYS[102]:%Y-%m-%d}" in row["evidence"]

    @settings(max_examples=60, deadline=None)
    @given(seed=SEEDS, place=PLACES, scale=SCALES, factor=st.sampled_from([2, 10, 1000, 0.1, 0.01, 1.5]))
    def test_a_split(self, seed, place, scale, factor):
        row = only(metrics.jumps(report(truth(seed, scale), splits={place: factor})))
        assert (row["date"], row["kind"]) == (DAYS[place], "split")
        assert row["before"] / row["after"] == pytest.approx(factor, rel=10 * scale)

    @settings(max_examples=60, deadline=None)
    @given(
        seed=SEEDS, place=PLACES, scale=SCALES, length=st.integers(1, 4), factor=st.sampled_from([10, 0.1, 1000, 1.3])
    )
    def test_a_quota_in_error(self, seed, place, scale, length, factor):
        quotes = report(truth(seed, scale))
        quotes.loc[place : place + length - 1, "quota"] *= factor
        row = only(metrics.jumps(quotes))
        assert (row["date"], row["until"]) == (DAYS[place], DAYS[place + length - 1])
        assert (row["kind"], row["metric"]) == ("error", "quota")

    @pytest.mark.parametrize("wrong", [0.0, -569.9, math.inf])
    def test_a_quota_that_is_not_a_price(self, wrong):
        quotes = report(truth(1, 0.01))
        quotes.loc[50, ["quota", "net_worth"]] = [wrong, 0]
        row = only(metrics.jumps(quotes))
        assert (row["date"], row["kind"], row["evidence"]) == (
            DAYS[50],
            "error",
            f"a quota of {wrong:g} is not a price",
        )

    @settings(max_examples=40, deadline=None)
    @given(seed=SEEDS, place=PLACES, scale=SCALES, factor=st.sampled_from([0.5, 1.05, 10, 0.0]))
    def test_a_net_worth_in_error(self, seed, place, scale, factor):
        quotes = report(truth(seed, scale))
        quotes.loc[place, "net_worth"] *= factor
        row = only(metrics.jumps(quotes))
        assert (row["date"], row["kind"], row["metric"]) == (DAYS[place], "error", "net_worth")

    @pytest.mark.parametrize("shift", [1, 3, -1])
    @pytest.mark.parametrize("column", ["inflow", "outflow"])
    def test_a_flow_on_another_day(self, shift, column):
        true = truth(3, 0.01)
        getattr(true, column)[100] = 2e6
        quotes = report(true)
        quotes.loc[100, column] -= 2e6
        quotes.loc[100 + shift, column] += 2e6
        row = only(metrics.jumps(quotes))
        assert (row["date"], row["kind"]) == (DAYS[min(100, 100 + shift)], "flow on another day")

    @pytest.mark.parametrize(("column", "kind"), [("inflow", "unreported flow"), ("outflow", "unreported flow")])
    def test_a_flow_that_is_not_reported(self, column, kind):
        true = truth(3, 0.01)
        getattr(true, column)[100] = 2e6
        quotes = report(true)
        quotes.loc[100, column] = 0
        row = only(metrics.jumps(quotes))
        assert (row["date"], row["kind"], row["metric"]) == (DAYS[100], kind, "net_worth")

    def test_a_reported_flow_that_never_reached_the_net_worth(self):
        quotes = report(truth(3, 0.01))
        quotes.loc[100, "inflow"] = 2e6
        row = only(metrics.jumps(quotes))
        assert (row["date"], row["kind"]) == (DAYS[100], "error")
        assert re.search(r"the flow of R\$ 1,99\S* never reached the net worth", row["evidence"])

    @pytest.mark.parametrize("move", [-0.15, 0.15])
    def test_a_move_of_the_market(self, move):
        true = truth(3, 0.01)
        true.returns[100] = move
        row = only(metrics.jumps(report(true)))
        assert (row["date"], row["kind"]) == (DAYS[100], "market move")
        assert row["size"] == pytest.approx(move, abs=1e-6)

    def test_a_fall_and_a_recovery_of_the_market_are_not_an_error(self):
        true = truth(3, 0.01)
        true.returns[[100, 101]] = -0.12, 0.136
        assert metrics.jumps(report(true))["kind"].tolist() == ["market move", "market move"]


class TestUnclearDays:
    def test_the_last_day_may_be_a_split_or_an_error(self):
        row = only(metrics.jumps(report(truth(1, 0.01), splits={len(DAYS) - 1: 10})))
        assert row["kind"] == "unclear"
        assert "would distinguish a split from an error" in row["evidence"]

    def test_missing_figures_are_reported_and_raise_no_false_alarm(self):
        for column, kind in (("net_worth", "unclear"), ("outflow", "payout or write-down")):
            quotes = report(truth(1, 0.01), payouts={100: 0.3})
            quotes.loc[[50, 100], column] = math.nan
            row = only(metrics.jumps(quotes))
            assert (row["date"], row["kind"]) == (DAYS[100], kind)
            assert re.search("(net worth|flows) .* (is|are) missing", row["evidence"])

    def test_a_payout_after_a_gap_whose_flows_are_missing(self):
        quotes = report(truth(1, 0.01), payouts={100: 0.5}).drop([98, 99])
        quotes.loc[100, "outflow"] = 0
        assert only(metrics.jumps(quotes))["kind"] in ("unclear", "payout or write-down")

    @settings(max_examples=40, deadline=None)
    @given(seed=SEEDS, scale=SCALES, gaps=st.sets(st.integers(1, len(DAYS) - 1), max_size=60))
    def test_missing_days_raise_no_alarm(self, seed, scale, gaps):
        """Over a gap, the flows are unknown, and a return over many days is larger."""
        assert metrics.jumps(report(truth(seed, scale)).drop(sorted(gaps))).empty

    @pytest.mark.parametrize("days", [0, 1, 2, 3])
    def test_a_few_days_raise_no_alarm(self, days):
        found = metrics.jumps(report(truth(1, 0.01, days)))
        assert found.empty
        assert found.dtypes.equals(metrics.jumps(report(truth(1, 0.01), splits={50: 2})).dtypes)

    def test_a_series_of_blank_quotas_raises_no_alarm(self):
        assert metrics.jumps(report(truth(1, 0.01)).assign(quota=math.nan)).empty


class TestOrdinaryDays:
    @settings(max_examples=60, deadline=None)
    @given(seed=SEEDS, scale=SCALES)
    def test_normal_returns_raise_no_alarm(self, seed, scale):
        assert metrics.jumps(report(truth(seed, scale))).empty

    def test_heavy_tails_raise_few_alarms_and_none_is_an_error_or_a_split(self):
        """Student's t with three degrees of freedom has tails at least as heavy as those of share prices."""
        frames = []
        for seed in range(40):
            returns = np.random.default_rng(seed).standard_t(3, len(DAYS)) * 0.012 / math.sqrt(3)
            returns[0] = 0
            flows = truth(seed, 0.01)
            frames.append(report(flows._replace(returns=returns)).assign(cnpj=f"{seed:014d}"))
        kinds = metrics.jumps(pd.concat(frames, ignore_index=True))["kind"].value_counts()
        assert set(kinds.index) <= {"market move", "payout or write-down"}
        fund_years = 40 * len(DAYS) / 252
        assert kinds["market move"] / fund_years < 1
        assert kinds.get("payout or write-down", 0) / fund_years < 0.1

    def test_the_sample_has_two_amortisations_and_nothing_else(self):
        """Blank cells, days without figures, rounded or repeated quotas and a fund's last day raise no alarm."""
        found = metrics.jumps(load_sample().quotes)
        assert found["cnpj"].tolist() == ["99101018000147"] * 2
        assert found["date"].dt.strftime("%Y-%m-%d").tolist() == ["2022-06-15", "2023-06-15"]
        assert found["kind"].tolist() == ["payout or write-down"] * 2
        assert found["size"].round(2).tolist() == [-0.38, -0.10]


class TestTheFrame:
    def test_series_are_judged_separately_and_sorted(self):
        one = report(truth(1, 0.01), splits={50: 2, 200: 3})
        other = report(truth(2, 0.01), payouts={20: 0.2}).assign(cnpj=B)
        quotes = pd.concat([one.assign(subclass="Z1"), one.assign(subclass=""), other.assign(subclass="")])
        found = metrics.jumps(quotes.sample(frac=1, random_state=1))
        assert found["cnpj"].tolist() == [B, *[A] * 4]
        assert found["subclass"].tolist() == ["", "", "", "Z1", "Z1"]
        assert found.index.tolist() == [0, 1, 2, 3, 4]
        pd.testing.assert_frame_equal(metrics.jumps(one), found[1:3].reset_index(drop=True))

    def test_a_duplicate_day_is_refused(self):
        quotes = report(truth(1, 0.01))
        with pytest.raises(ConfigError, match=r"2021-01-05 of 18993924000100 appears twice; keep one"):
            metrics.jumps(pd.concat([quotes, quotes.iloc[[1]]]))

    @pytest.mark.parametrize("smallest", [0, 1, -0.1, True, "1 %", None, math.nan])
    def test_a_size_that_is_not_a_fraction_is_refused(self, smallest):
        with pytest.raises(ConfigError, match="^smallest: .* 0.005 for 0.5 %"):
            metrics.jumps(report(truth(1, 0.01)), smallest)

    def test_smaller_jumps_are_found_on_request(self):
        quotes = report(truth(1, 0.0003), payouts={100: 0.003})
        assert metrics.jumps(quotes).empty
        assert only(metrics.jumps(quotes, smallest=0.001))["kind"] == "payout"

    @pytest.mark.parametrize("function", [metrics.jumps, metrics.total_return])
    def test_the_error_for_a_frame_of_another_shape_says_what_is_wrong(self, function):
        quotes = report(truth(1, 0.01, 5))
        for wrong, says in (
            (quotes.drop(columns="net_worth"), r"no column net_worth; give the tidy frame"),
            (quotes.assign(date="2022-01-03"), r"column date holds text"),
            (quotes.assign(cnpj=18993924000100), r"zeros may be lost"),
            (quotes.set_index("date")["quota"], r"this is a Series"),
        ):
            with pytest.raises(ConfigError, match=f"^quotes: .*{says}"):
                function(wrong)


class TestTotalReturn:
    @settings(max_examples=40, deadline=None)
    @given(seed=SEEDS, scale=SCALES, places=st.sets(PLACES, min_size=1, max_size=4))
    def test_a_payout_is_not_a_loss(self, seed, scale, places):
        true = truth(seed, scale)
        quotes = report(true, payouts=dict.fromkeys(places, max(0.02, 10 * scale)))
        with pytest.warns(ScraperKitWarning, match=f"{len(places)} adjusted"):
            found = metrics.total_return(quotes)
        expected = 10 * np.cumprod(1 + true.returns)
        np.testing.assert_allclose(found[A], expected, rtol=1e-6)
        assert found.attrs["adjusted"] == {A: {f"{DAYS[place]:%Y-%m-%d}": "payout" for place in sorted(places)}}

    @settings(max_examples=30, deadline=None)
    @given(seed=SEEDS, scale=SCALES, place=PLACES, factor=st.sampled_from([2, 1000, 0.1]))
    def test_a_split_is_neither_gain_nor_loss(self, seed, scale, place, factor):
        true = truth(seed, scale)
        quotes = report(true, splits={place: factor})
        found = metrics.total_return(quotes, metrics.jumps(quotes))
        np.testing.assert_allclose(found[A], 10 * np.cumprod(1 + true.returns), rtol=1e-5)

    def test_days_in_error_are_nan_and_later_days_are_unchanged(self):
        quotes = report(truth(1, 0.01))
        whole = metrics.total_return(quotes)
        np.testing.assert_allclose(whole[A], quotes["quota"], rtol=1e-12)
        quotes.loc[100:101, "quota"] *= 10
        with pytest.warns(ScraperKitWarning, match=r"1 adjusted: 18993924000100 2021-05-28 \(error\)"):
            found = metrics.total_return(quotes)
        assert found[A].isna().to_numpy().nonzero()[0].tolist() == [100, 101]
        np.testing.assert_allclose(found[A].dropna(), whole[A].drop(DAYS[100:102]), rtol=1e-12)

    def test_a_possible_loss_counts_as_a_loss_until_you_correct_its_kind(self):
        true = truth(1, 0.0005)
        quotes = report(true, payouts={100: 0.3}, told=False)
        with pytest.warns(ScraperKitWarning, match=r"1 left as reported, though they may be payouts: .*write-down"):
            found = metrics.total_return(quotes)
        np.testing.assert_allclose(found[A], quotes["quota"], rtol=1e-12)
        known = metrics.jumps(quotes).assign(kind="payout")
        found = metrics.total_return(quotes, known)
        np.testing.assert_allclose(found[A], 10 * np.cumprod(1 + true.returns), rtol=0.003)

    def test_each_subclass_is_a_column(self):
        quotes = report(truth(1, 0.01))
        both = pd.concat([quotes.assign(subclass=""), quotes.assign(subclass="Z1")])
        found = metrics.total_return(both)
        assert list(found.columns) == [A, f"{A}:Z1"]
        assert (found.index.name, found.columns.name, found.index.dtype) == ("date", "cnpj", "datetime64[ms]")
        metrics.summary(found)

    def test_a_frame_that_does_not_hold_jumps_is_refused(self):
        quotes = report(truth(1, 0.01), splits={100: 2})
        jumps = metrics.jumps(quotes)
        for wrong, says in (
            (jumps.drop(columns="kind"), "give the frame of metrics.jumps"),
            (jumps.assign(kind="dividend"), "'dividend' is not a kind; use one of market move, payout"),
            (jumps.assign(date=pd.Timestamp("2020-01-02")), "has no return on 2020-01-02"),
            ("split", "give the frame"),
        ):
            with pytest.raises(ConfigError, match=f"^jumps: .*{says}"):
                metrics.total_return(quotes, wrong)
        quotes.loc[99, "net_worth"] = math.nan
        with pytest.raises(ConfigError, match="on 2021-05-28 cannot be a split: its net worth is missing"):
            metrics.total_return(quotes, jumps)

    def test_inputs_are_not_modified(self):
        quotes = report(truth(1, 0.01), payouts={50: 0.2})
        before = quotes.copy()
        metrics.total_return(quotes, metrics.jumps(quotes))
        pd.testing.assert_frame_equal(quotes, before)

    def test_an_empty_frame_returns_an_empty_frame(self):
        found = metrics.total_return(report(truth(1, 0.01, 0)))
        assert found.shape == (0, 0)
        metrics.summary(found)
