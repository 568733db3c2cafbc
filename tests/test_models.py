"""The wire message, the months of a fund, and the figures of a day."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fakes import FUND

from scraperkit import models
from scraperkit.cnpj import format_cnpj, normalize_cnpj
from scraperkit.errors import BadMessage, ConfigError, ScraperKitWarning
from scraperkit.models import COLUMNS, METRICS, DailyQuote, Fund, Month, ScrapeRequest, brazilian_date
from scraperkit.research.wanted import read_wanted

EXAMPLE = (
    '{"document": "18993924000100", "fund_pk": "132922", "month_year": "12/2022",\n'
    ' "message_id": "6db8704d-5b97-4c95-bb53-b052b48ed531", "acked": false}'
)


def message(**changes: object) -> str:
    return json.dumps({"document": "18993924000100", "fund_pk": "132922", "month_year": "12/2022"} | changes)


class TestTheWireMessage:
    def test_the_example_of_the_documentation_is_read(self):
        request = ScrapeRequest.parse(EXAMPLE)
        assert request.document == "18993924000100"
        assert request.fund_pk == "132922"
        assert (request.year, request.month) == (2022, 12)
        assert request.message_id == "6db8704d-5b97-4c95-bb53-b052b48ed531"
        assert not request.acked

    @pytest.mark.parametrize("text", ["18.993.924/0001-00", "18993924000100", "18993924/0001-00"])
    def test_punctuation_of_a_cnpj_does_not_matter(self, text):
        assert ScrapeRequest.parse(message(document=text)).document == "18993924000100"

    def test_a_cnpj_may_hold_letters_and_is_kept_in_upper_case(self):
        assert ScrapeRequest.parse(message(document="12.abc.345/01de-35")).document == "12ABC34501DE35"

    def test_a_missing_id_is_derived_from_the_content(self):
        first, again = ScrapeRequest.parse(message()), ScrapeRequest.parse(message(document="18.993.924/0001-00"))
        other = ScrapeRequest.parse(message(month_year="11/2022"))
        assert first.message_id == again.message_id != other.message_id
        assert str(uuid.UUID(first.message_id)) == first.message_id

    def test_unknown_fields_are_ignored(self):
        assert ScrapeRequest.parse(message(colour="blue", fund={"x": 1})) == ScrapeRequest.parse(message())

    def test_a_pk_may_be_typed_as_a_number(self):
        assert ScrapeRequest.parse(message(fund_pk=132922)).fund_pk == "132922"

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"document": "18993924000101"}, "document"),
            ({"document": 18993924000100}, "document"),
            ({"document": ""}, "document"),
            ({"fund_pk": "13a"}, "fund_pk"),
            ({"fund_pk": "1" * 13}, "fund_pk"),
            ({"fund_pk": "١٢"}, "fund_pk"),
            ({"month_year": "13/2022"}, "month_year"),
            ({"month_year": "2022-12"}, "month_year"),
            ({"month_year": "12/2022\n"}, "month_year"),
            ({"message_id": "yesterday"}, "message_id"),
            ({"acked": "perhaps"}, "acked"),
            ({"batch_id": "a b"}, "batch_id"),
            ({"published_at": "soon"}, "published_at"),
            ({"published_at": 1_700_000_000_000}, "published_at"),
            ({"published_at": 4_102_444_800}, "published_at"),
            ({"published_at": -0.001}, "published_at"),
            ({"published_at": 1e300}, "published_at"),
            ({"published_at": 10**400}, "published_at"),
            ({"published_at": float("nan")}, "published_at"),
            ({"published_at": float("inf")}, "published_at"),
        ],
    )
    def test_an_invalid_field_is_named(self, changes, field):
        with pytest.raises(BadMessage, match=rf"^{field}: "):
            ScrapeRequest.parse(message(**changes))

    def test_the_error_for_a_time_in_milliseconds_says_so(self):
        with pytest.raises(BadMessage, match="^published_at: must be a time in seconds since 1970, not milliseconds"):
            ScrapeRequest.parse(message(published_at=1_700_000_000_000))

    @pytest.mark.parametrize("moment", [0, 1.5, 1_700_000_000, 4_102_444_799.9])
    def test_any_time_from_1970_to_2099_is_read(self, moment):
        assert ScrapeRequest.parse(message(published_at=moment)).published_at == moment

    def test_every_invalid_field_is_named(self):
        with pytest.raises(BadMessage, match=r"document: .*; month_year: "):
            ScrapeRequest.parse("{}")

    def test_a_missing_id_is_not_an_error_of_its_own(self):
        with pytest.raises(BadMessage) as caught:
            ScrapeRequest.parse('{"document": "18993924000100"}')
        assert str(caught.value) == "month_year: is missing"

    @pytest.mark.parametrize("raw", ["", "{", "[]", "1", '"x"', b"\xff\xfe", "\udcff", "[" * 100_000])
    def test_anything_but_a_json_object_is_refused(self, raw):
        with pytest.raises(BadMessage):
            ScrapeRequest.parse(raw)

    @given(st.text() | st.binary())
    def test_random_input_always_raises_bad_message(self, raw):
        with pytest.raises(BadMessage):
            ScrapeRequest.parse(raw)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
            max_leaves=8,
        ),
        st.sampled_from(["document", "fund_pk", "month_year", "message_id", "acked", "batch_id", "published_at"]),
    )
    def test_a_field_of_any_shape_is_read_or_refused(self, value, field):
        try:
            request = ScrapeRequest.parse(message(**{field: value}))
        except BadMessage as error:
            assert field in str(error)
        else:
            assert ScrapeRequest.parse(request.to_json()) == request

    @given(
        year=st.integers(1900, 2099),
        month=st.integers(1, 12),
        pk=st.integers(1, 10**12 - 1),
        message_id=st.none() | st.uuids(),
        acked=st.booleans(),
    )
    def test_a_request_reads_back_the_same(self, year, month, pk, message_id, acked):
        request = ScrapeRequest(
            document="18.993.924/0001-00",
            fund_pk=str(pk),
            month_year=f"{month:02d}/{year}",
            message_id=str(message_id or ""),
            acked=acked,
        )
        assert ScrapeRequest.parse(request.to_json()) == request
        assert request.first_day == dt.date(year, month, 1)

    def test_the_wire_form_has_the_documented_fields(self):
        request = ScrapeRequest.parse(EXAMPLE)
        assert json.loads(request.to_json()) == json.loads(EXAMPLE)


class TestCnpj:
    @pytest.mark.parametrize("text", ["18.993.924/0001-01", "1", "", "18.993.924/0001-00X", "AB.CDE.FGH/0001-0X"])
    def test_an_invalid_cnpj_is_refused(self, text):
        with pytest.raises(ConfigError, match="is not a CNPJ"):
            normalize_cnpj(text)

    def test_a_number_is_refused_since_it_may_have_lost_zeros(self):
        with pytest.raises(ConfigError, match="in quotes"):
            normalize_cnpj(18993924000100)  # type: ignore[arg-type]

    @pytest.mark.parametrize("number", ["360305000104", 360305000104, 360305000104.0, "360305/0001-04"])
    def test_the_error_for_lost_leading_zeros_suggests_the_whole_number(self, number):
        with pytest.raises(ConfigError, match="leading zeros: if so, write '00360305000104'$"):
            normalize_cnpj(number)  # type: ignore[arg-type]

    @pytest.mark.parametrize("number", ["360305000105", "18993924000101", "3603050001A4", 360305000105, 1.5, None])
    def test_zeros_are_not_suggested_if_they_make_no_valid_cnpj(self, number):
        with pytest.raises(ConfigError, match="CNPJ") as caught:
            normalize_cnpj(number)  # type: ignore[arg-type]
        assert "spreadsheet" not in str(caught.value)

    def test_normalizing_undoes_formatting(self):
        assert normalize_cnpj(format_cnpj("12ABC34501DE35")) == "12ABC34501DE35"


class TestAMonth:
    @given(st.dates())
    def test_is_the_same_in_every_notation(self, day):
        month = Month.of(day)
        assert Month.parse_iso(month.iso) == Month.parse_iso(day.isoformat()) == month
        assert month.first_day <= day <= month.last_day
        if 1900 <= day.year < 2100:
            assert Month.parse(str(month)) == month

    @pytest.mark.parametrize(
        "text", ["13/2022", "1/2022", "12/1899", "12/2100", "2022-12", "12/2022 ", "１２/2022", ""]
    )
    def test_in_a_message_is_two_digits_a_slash_and_a_year_from_1900_to_2099(self, text):
        with pytest.raises(ValueError, match="MM/YYYY"):
            Month.parse(text)

    @pytest.mark.parametrize(
        "text", ["2022-13", "2022-1", "12/2022", "2022-02-30", "20220101", "0000-01", "2022-01-01T"]
    )
    def test_in_iso_8601_is_an_existing_month_or_day(self, text):
        with pytest.raises(ValueError):
            Month.parse_iso(text)


@pytest.mark.parametrize("text", ["30/02/2022", "1/2/2022", "2022-12-30", "30/12/2022 ", ""])
def test_a_brazilian_date_is_an_existing_day(text):
    with pytest.raises(ValueError):
        brazilian_date(text)


class TestTheMonthsOfAFund:
    def test_both_ends_are_included(self):
        requests = FUND.months("2021-11", "2022-02")
        assert [request.month_year for request in requests] == ["11/2021", "12/2021", "01/2022", "02/2022"]
        assert {request.fund for request in requests} == {FUND}

    def test_they_begin_with_the_fund(self):
        assert FUND.months("2018-01", "2019-02")[0].month_year == "01/2019"
        assert FUND.months(end="2019-02")[0].month_year == "01/2019"

    def test_they_end_today(self):
        today = models.today()
        assert FUND.months("2019-01", "2099-12")[-1].month_year == f"{today:%m/%Y}"
        assert FUND.months()[-1].month_year == f"{today:%m/%Y}"

    def test_they_end_with_the_fund(self):
        ended = replace(FUND, status="CANCELADA", ended_on=dt.date(2022, 8, 31))
        assert ended.months("2022-07")[-1].month_year == "08/2022"
        assert [request.month_year for request in ended.months("2022-08", "2023-01")] == ["08/2022"]
        assert len(ended.months()) == 44

    @pytest.mark.parametrize(
        ("start", "end"), [("1999-01", "1999-02"), (None, "1999-02"), ("2022-09", "2022-10"), ("2022-09", None)]
    )
    def test_a_period_without_months_gets_a_warning(self, start, end):
        ended = replace(FUND, ended_on=dt.date(2022, 8, 31))
        told = r"18\.993\.924/0001-00 has no month in this period: it has months from 2019-01 to 2022-08"
        with pytest.warns(ScraperKitWarning, match=told):
            assert ended.months(start, end) == []

    @pytest.mark.parametrize(
        "january",
        [
            pd.Period("2022-01"),
            pd.Period("2022-01-17"),
            pd.Timestamp("2022-01-17 12:00"),
            pd.Timestamp("2022-01-17", tz="UTC"),
            np.datetime64("2022-01"),
            np.datetime64("2022-01-17T00:00:00", "ns"),
        ],
    )
    def test_a_month_of_pandas_or_numpy_is_accepted(self, january):
        assert [request.month_year for request in FUND.months(january, january)] == ["01/2022"]

    @pytest.mark.parametrize(
        "none",
        [pd.NaT, np.datetime64("NaT"), float("nan"), pd.NA, pd.Period("2022Q1"), pd.Period("2022"), 2022],
    )
    def test_an_invalid_month_of_pandas_is_refused_by_name(self, none):
        for start, end, field in ((none, None, "start"), ("2022-01", none, "end")):
            with pytest.raises(ConfigError, match=f"^{field}: '.*' is not a month; write it as '2022-01'$"):
                FUND.months(start, end)

    def test_dates_are_accepted_like_text(self):
        assert FUND.months(dt.date(2022, 1, 15), dt.date(2022, 1, 16)) == FUND.months("2022-01", "2022-01-31")

    @pytest.mark.parametrize("month", ["2022", "2022-13", "01/2022", "22-01", "", "2022-01-01x", "2022-01-45"])
    def test_an_invalid_month_is_refused_by_name(self, month):
        with pytest.raises(ConfigError, match="^start: "):
            FUND.months(month)

    def test_an_end_before_the_start_is_refused(self):
        with pytest.raises(ConfigError, match="^end: "):
            FUND.months("2022-02", "2022-01")

    def test_a_fund_with_an_unknown_start_needs_a_start(self):
        with pytest.raises(ConfigError, match="^start: "):
            Fund("18993924000100", "132922").months()


def test_a_quote_yields_the_metrics_that_the_page_showed():
    quote = DailyQuote("18993924000100", dt.date(2022, 1, 3), quota=1.5, holders=0)
    assert list(quote.metrics()) == [("quota", 1.5), ("holders", 0)]


def test_every_metric_has_a_column_with_type_and_unit():
    assert set(METRICS) < set(COLUMNS)
    assert all(COLUMNS[metric].unit for metric in METRICS)


@pytest.mark.parametrize(
    ("ruined", "told"),
    [
        (18993924000100.0, "write '18993924000100'"),
        (360305000104, "write '00360305000104'"),
        (360305000104.0, "write '00360305000104'"),
        ("360305000104.0", "write '00360305000104'"),
        ("18993924000100,0", "write '18993924000100'"),
        ("1.89939240001E+13", "write '18993924000100'"),
        ("1,89939E+13", "its last digits are lost"),
        ("3.60E+11", "its last digits are lost"),
    ],
)
def test_the_error_for_a_cnpj_damaged_by_a_spreadsheet_explains_the_damage(ruined, told):
    for refuse in (normalize_cnpj, read_wanted):
        with pytest.raises(ConfigError, match=told):
            refuse([ruined] if refuse is read_wanted else ruined)


def test_a_request_with_invalid_arguments_is_refused_in_plain_words():
    with pytest.raises(ConfigError, match=r"^document: '1' is not a CNPJ: .*; month_year: must be a month \(MM/YYYY\)"):
        ScrapeRequest(document="1", month_year="13/2022")
