"""Lines of daily reports become columns: every layout, exact figures, and each bad line reported by number."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.daily_files import CNPJ, HEADERS, OTHER, line, text_of

from scraperkit.errors import FileRefused
from scraperkit.sources.open_data.layouts import LAYOUTS, layout_of
from scraperkit.sources.open_data.parsing import parse_lines

BY_NAME = {layout.name: layout for layout in LAYOUTS}
ORDER = ("portfolio", "quota", "net_worth", "inflow", "outflow", "holders")  # of the figures in a file


def parse(lines: list[str], layout: str = "C"):
    block = text_of(lines, layout).partition(b"\n")[2]
    return parse_lines(block, BY_NAME[layout], 2)


class TestLayouts:
    @pytest.mark.parametrize("name", HEADERS)
    def test_each_is_recognised_by_its_header(self, name):
        assert layout_of(HEADERS[name].encode() + b"\r\n").name == name
        assert layout_of(b"\xef\xbb\xbf" + HEADERS[name].encode()).name == name

    @pytest.mark.parametrize(
        "header", ["", "<html>", "CNPJ_FUNDO;DT_COMPTC", HEADERS["A"].replace(";", ","), HEADERS["C"] + ";MORE"]
    )
    def test_any_other_header_is_refused_and_shown(self, header):
        with pytest.raises(FileRefused, match="unknown header"):
            layout_of(header.encode())

    def test_all_layouts_yield_the_same_columns(self):
        rest = "2020-01-02;1.00;2.5;3.00;4.00;5.00;6"
        lines = {"A": f"{CNPJ};{rest}", "B": f"FI;{CNPJ};{rest}", "C": f"FI;{CNPJ};;{rest}"}
        tables = {name: parse([text], name)[0].to_pylist()[0] for name, text in lines.items()}
        assert tables["B"] == tables["C"] == {**tables["A"], "kind": "FI"}
        assert [tables["A"][metric] for metric in ORDER] == [1.0, 2.5, 3.0, 4.0, 5.0, 6.0]
        assert tables["A"]["kind"] == tables["A"]["subclass"] == ""


class TestBadLines:
    GOOD = line(OTHER)

    @pytest.mark.parametrize(
        ("bad", "reason"),
        [
            (line(day="2026-02-30"), "date: '2026-02-30' is not a day"),
            (line(day="03/08/2026"), "date: '03/08/2026' is not a day"),
            (line(day=""), "date: '' is not a day"),
            (line(quota="1,5"), "quota: '1,5' is not a number"),
            (line(quota="nan"), "quota: 'nan' is not a number"),
            (line(quota="inf"), "quota: 'inf' is not a number"),
            (line(quota="1e999"), "quota: '1e999' is not a number"),
            (line(net_worth="0x10"), "net_worth: '0x10' is not a number"),
            (line(net_worth="R$ 5"), "net_worth: 'R$ 5' is not a number"),
            (line(holders="7.5"), "holders: '7.5' is not a number of holders"),
            (line(holders="1e300"), "holders: '1e300' is not a number of holders"),
            (line() + ";1", "line: 11 fields instead of 10"),
            ("x", "line: 1 fields instead of 10"),
            ("", "line: 1 fields instead of 10"),
            (line().replace("FIF", "F\rIF"), "line: it holds a carriage return or a NUL"),
            (line(f"{CNPJ}\0"), "line: it holds a carriage return or a NUL"),
        ],
    )
    def test_a_bad_line_costs_only_itself(self, bad, reason):
        table, rejected = parse([self.GOOD, bad, self.GOOD])
        assert [tuple(each) for each in rejected] == [(3, reason)]
        assert table["line"].to_pylist() == [2, 4]
        assert table["cnpj"].to_pylist() == [OTHER, OTHER]

    def test_quotes_are_plain_characters(self):
        table, rejected = parse([line(kind='A "B'), line(kind='"C')])
        assert table["kind"].to_pylist() == ['A "B', '"C']
        assert not rejected

    def test_blank_figures_are_none_and_latin_letters_stay(self):
        table, rejected = parse([line(quota="", holders="", kind="Ações")])
        assert table["quota"].to_pylist() == table["holders"].to_pylist() == [None]
        assert table["kind"].to_pylist() == ["Ações"]
        assert not rejected


@st.composite
def decimals(draw):
    """Return the text of a number as the files have it, up to 17 digits before the point."""
    whole = draw(st.integers(0, 10 ** draw(st.integers(0, 17))))
    digits = draw(st.integers(0, 14))
    fraction = f".{draw(st.integers(0, 10**digits - 1)):0{digits}d}" if digits else ""
    return f"{draw(st.sampled_from(['', '-']))}{whole}{fraction}"


FIGURES = st.lists(st.one_of(decimals(), st.just("")), min_size=5, max_size=5)


DAYS = st.one_of(
    st.text(st.sampled_from("0123456789-/T: "), max_size=11),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["", " ", "\t", "\xa0"]),
        st.sampled_from(["2026-08-03", "2026-W32-1", "20260803", "0000-01-01", "2026-02-30", "9999-12-31", ""]),
        st.sampled_from(["", " ", "\t ", "T00"]),
    ),
)


class TestExactness:
    @given(st.lists(FIGURES, min_size=1, max_size=20), st.booleans())
    def test_every_figure_is_the_float64_of_its_text(self, rows, beside_a_bad_line):
        lines = [f"FI;{CNPJ};;2026-08-03;{';'.join(figures)};12" for figures in rows]
        table, _ = parse(lines + ["bad"] * beside_a_bad_line)
        for place, metric in enumerate(ORDER[:5]):
            exact = [float(Decimal(figures[place])) if figures[place] else None for figures in rows]
            assert table[metric].to_pylist() == exact

    @given(st.lists(st.text(st.sampled_from("0123456789.,-+eE xnaif\t"), max_size=8), min_size=1, max_size=8))
    def test_a_line_means_the_same_beside_a_bad_one(self, texts):
        """Blocks with a bad line are parsed in another way: both must agree on each line."""
        lines = [line(quota=text) for text in texts]
        alone = [parse([each]) for each in lines]
        together, rejected = parse([*lines, "bad"])
        assert together["quota"].to_pylist() == [value for table, _ in alone for value in table["quota"].to_pylist()]
        assert len(rejected) == 1 + sum(len(told) for _, told in alone)

    @given(st.lists(DAYS, min_size=1, max_size=8))
    def test_a_day_means_the_same_beside_a_bad_line(self, texts):
        lines = [line(day=text) for text in [*texts, "2026-08-03"]]
        alone = [parse([each]) for each in lines]
        together, _ = parse([*lines, "bad"])
        assert together["date"].to_pylist() == [value for table, _ in alone for value in table["date"].to_pylist()]
        for text, (table, _) in zip(texts, alone, strict=False):
            assert not table.num_rows or re.fullmatch("[ \t]*[0-9]{4}-[0-9]{2}-[0-9]{2}[ \t]*", text)

    @pytest.mark.parametrize("pair", [["", f"{line(kind='a')}\r{line(kind='b')}"], ["", f"{line()}\r"]])
    def test_a_blank_line_and_a_stray_carriage_return_do_not_cancel_out(self, pair):
        table, rejected = parse([line(OTHER), *pair, line()])
        assert table["line"].to_pylist() == [2, 5]
        assert [told.line for told in rejected] == [3, 4]
