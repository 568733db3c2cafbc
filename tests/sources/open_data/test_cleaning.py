"""A month of the archive: valid series, each day once, sorted, flagged, and a reason for each rejected line."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum.br import cnpj as stdnum_cnpj
from support.daily_files import CNPJ, OTHER, line, text_of

from scraperkit.models import Month
from scraperkit.sources.open_data.cleaning import clean_month, valid_cnpjs
from scraperkit.sources.open_data.layouts import LAYOUTS
from scraperkit.sources.open_data.parsing import parse_lines

C = LAYOUTS[2]
A_KEY, B_KEY = "00017024000153", "00068305000135"


def clean(*lines: str):
    table, _ = parse_lines(text_of(lines).partition(b"\n")[2], C, 2)
    cleaned = clean_month([table], Month(2026, 8))
    return cleaned.table.to_pylist(), [tuple(told) for told in cleaned.rejected]


class TestOneRowADay:
    def test_identical_duplicates_collapse_and_are_reported(self):
        rows, rejected = clean(line(), line())
        assert len(rows) == 1
        assert rejected == [(2, "the same as line 3")]

    def test_a_class_beats_a_conflicting_fund_in_either_order(self):
        fund, klass = line(kind="FI", quota="1.1"), line(quota="2.2")
        for pair in ((fund, klass), (klass, fund)):
            rows, rejected = clean(*pair)
            assert [row["quota"] for row in rows] == [2.2]
            lost, won = (2, 3) if pair[0] is fund else (3, 2)
            why = "CLASSES - FIF beats FI"
            assert sorted(rejected) == sorted(
                [(lost, f"conflicts with line {won}: {why}"), (won, f"kept, but line {lost} conflicts with it: {why}")]
            )

    def test_blanks_around_the_kind_are_ignored(self):
        rows, _ = clean(line(kind="CLASSES - FIF ", quota="2.2"), line(kind="FI", quota="1.1"))
        assert [(row["kind"], row["quota"]) for row in rows] == [("CLASSES - FIF", 2.2)]

    def test_a_month_of_duplicates_is_cleaned(self):
        lines = [line(day=f"2026-08-{day:02d}", subclass=f"S{number}") for number in range(3_000) for day in (3, 4)]
        rows, rejected = clean(*lines, *lines)
        assert (len(rows), len(rejected)) == (6_000, 6_000)

    def test_the_last_of_other_conflicting_lines_counts(self):
        rows, rejected = clean(line(quota="1.1"), line(quota="2.2"), line(quota="3.3"))
        assert [row["quota"] for row in rows] == [3.3]
        assert [told[0] for told in rejected] == [2, 3, 4, 4]
        assert rejected[0][1] == "conflicts with line 4: the later line counts"

    def test_subclasses_are_series_of_their_own(self):
        rows, rejected = clean(line(subclass="B1"), line(), line(subclass="A1"))
        assert [row["subclass"] for row in rows] == ["", "A1", "B1"]
        assert not rejected


class TestFigures:
    def test_a_row_of_zeros_has_no_quota_and_is_reported(self):
        rows, rejected = clean(line(quota="0.000000000000", net_worth="0.00", holders="0"))
        assert (rows[0]["quota"], rows[0]["net_worth"], rows[0]["flag"]) == (None, 0.0, "row of zeros: no quota")
        assert rejected == [(2, "row of zeros: no quota")]

    def test_a_blank_quota_stays_blank_and_is_reported(self):
        rows, rejected = clean(line(quota=""))
        assert (rows[0]["quota"], rows[0]["net_worth"], rows[0]["flag"]) == (None, 1000.0, "blank quota")
        assert rejected == [(2, "blank quota")]

    def test_a_quota_of_zero_with_a_net_worth_is_kept(self):
        rows, rejected = clean(line(quota="0"))
        assert (rows[0]["quota"], rows[0]["flag"]) == (0.0, "")
        assert not rejected

    @pytest.mark.parametrize(
        ("quota", "net_worth", "flag"),
        [
            ("-569.90", "-16500000.00", "negative quota, negative net worth"),
            ("-1", "5", "negative quota"),
            ("1", "-5", "negative net worth"),
            ("1000000000.5", "5", ""),
        ],
    )
    def test_negative_and_huge_figures_are_kept_and_negative_ones_flagged(self, quota, net_worth, flag):
        rows, rejected = clean(line(quota=quota, net_worth=net_worth))
        assert (rows[0]["quota"], rows[0]["net_worth"], rows[0]["flag"]) == (float(quota), float(net_worth), flag)
        assert not rejected

    def test_a_row_without_figures_is_rejected(self):
        rows, rejected = clean(f"FI;{CNPJ};;2026-08-03;;;;;;", line(OTHER))
        assert [row["cnpj"] for row in rows] == [B_KEY]
        assert rejected == [(2, "no figures")]

    def test_negative_holders_are_kept_and_flagged_beside_other_negatives(self):
        rows, rejected = clean(line(holders="-3"), line(OTHER, quota="-1", net_worth="-5", holders="-3"))
        assert [row["holders"] for row in rows] == [-3, -3]
        assert [row["flag"] for row in rows] == [
            "negative holders",
            "negative quota, negative net worth, negative holders",
        ]
        assert not rejected


class TestSeries:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (line("00.017.024/0001-54"), "cnpj: '00.017.024/0001-54' is not valid"),
            (line(""), "cnpj: '' is not valid"),
            (line("00.000.000/0000-00"), "cnpj: '00.000.000/0000-00' is not valid"),
            (line(subclass="A:B"), "subclass: 'A:B' is not valid"),
            (line(subclass="A{B}"), "subclass: 'A{B}' is not valid"),
        ],
    )
    def test_an_invalid_series_is_rejected(self, text, reason):
        rows, rejected = clean(text, line(OTHER))
        assert [row["cnpj"] for row in rows] == [B_KEY]
        assert rejected == [(2, reason)]

    def test_subclasses_are_stored_in_upper_case(self):
        rows, rejected = clean(line(subclass="z2hfz1"), line(OTHER, subclass="A" * 40))
        assert [row["subclass"] for row in rows] == ["Z2HFZ1", "A" * 40]
        assert not rejected

    def test_bare_and_punctuated_cnpjs_are_one_series_and_may_have_letters(self):
        rows, _ = clean(line(CNPJ), line(A_KEY, day="2026-08-04"), line("12.abc.345/01de-35"))
        assert [row["cnpj"] for row in rows] == [A_KEY, A_KEY, "12ABC34501DE35"]

    @given(st.lists(st.text(st.sampled_from("0123456789AZaz./- x"), max_size=20), min_size=1, max_size=10), st.data())
    def test_cnpj_validity_agrees_with_stdnum(self, texts, data):
        bodies = data.draw(st.lists(st.text(st.sampled_from("0123456789ABZ"), min_size=12, max_size=12), max_size=10))
        texts += [body + stdnum_cnpj.calc_check_digits(body) for body in bodies]
        names, valid = valid_cnpjs(np.array(texts))
        assert valid.tolist() == [stdnum_cnpj.is_valid(text) for text in texts]
        for text, name, is_valid in zip(texts, names.tolist(), valid, strict=True):
            assert not is_valid or name == stdnum_cnpj.validate(text)

    @given(st.integers(0, 10_000), st.integers(1, 4))
    def test_the_order_of_lines_and_blocks_changes_nothing(self, seed, blocks):
        lines = [
            line(cnpj, f"2026-08-{day:02d}", subclass=sub)
            for cnpj in (CNPJ, OTHER)
            for day in (3, 4)
            for sub in ("", "A1")
        ]
        sorted_rows, _ = clean(*lines)
        random.Random(seed).shuffle(lines)
        size = -(-len(lines) // blocks)
        tables = [
            parse_lines(text_of(lines[at : at + size]).partition(b"\n")[2], C, 2 + at)[0]
            for at in range(0, len(lines), size)
        ]
        assert clean_month(tables, Month(2026, 8)).table.to_pylist() == sorted_rows
