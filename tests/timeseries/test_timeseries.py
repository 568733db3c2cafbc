"""Series read back as they were written, and errors name what cannot be written or read."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import re

import numpy as np
import pandas as pd
import pytest
import redis as redis_py
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.backoff import NoBackoff
from redis.retry import Retry
from stdnum.br import cnpj as stdnum_cnpj

from scraperkit.cnpj import format_cnpj
from scraperkit.errors import ConfigError, RedisUnreachable, StoreError, UnknownFund
from scraperkit.keys import Keys
from scraperkit.models import COLUMNS, METRICS, DailyQuote, Fund
from scraperkit.timeseries import frames
from scraperkit.timeseries.commands import (
    add_commands,
    check_replies,
    create_all,
    first_card_commands,
    refused_series,
    sample_count,
    unpack,
)
from scraperkit.timeseries.link import Link
from scraperkit.timeseries.reader import TimeSeriesReader
from scraperkit.timeseries.store import SeriesStore

A, B, C = "18993924000100", "12ABC34501DE35", "00000000000191"
KEYS = Keys("lesson")


def made_up_cnpj(stem: str) -> str:
    return stem + stdnum_cnpj.calc_check_digits(stem)


def quote(cnpj: str, date: str, quota: float | None = 1.5, **others) -> DailyQuote:
    return DailyQuote(cnpj, dt.date.fromisoformat(date), quota, **others)


# ---------------------------------------------------------------- round trips

values = st.none() | st.floats(allow_nan=False, allow_infinity=False)
quotes_of_any_kind = st.builds(
    DailyQuote,
    cnpj=st.sampled_from([A, B, C, made_up_cnpj("ZZZZZZZZZZZZ")]),
    date=st.dates(dt.date(1970, 1, 1), dt.date(1970, 1, 20)) | st.dates(dt.date(1970, 1, 1), dt.date(9999, 12, 31)),
    quota=values,
    net_worth=values,
    holders=st.none() | st.integers(0, 2**53),
    inflow=values,
    outflow=values,
    portfolio=values,
    subclass=st.sampled_from(["", "", "A1", "B2", "Z2HFZ1734468953"]),
)


def expected(quotes: list[DailyQuote]) -> pd.DataFrame:
    """Return the tidy frame of these quotes, made cell by cell: later values win, and None changes nothing."""
    cells: dict[tuple[str, str, dt.date], dict[str, float]] = {}
    for one in quotes:
        for metric, value in one.metrics():
            cells.setdefault((one.cnpj, one.subclass, one.date), {})[metric] = value
    rows = [{"cnpj": row[0], "subclass": row[1], "date": row[2], **found} for row, found in sorted(cells.items())]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    days = np.array(frame["date"].to_list(), dtype="datetime64[ms]")
    return frame.assign(date=days).astype({name: column.dtype for name, column in COLUMNS.items()})


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(months=st.lists(st.lists(quotes_of_any_kind, max_size=25), max_size=3))
def test_any_quotes_come_back_equal(store, reader, months):
    written = [one for month in months for one in month]
    try:
        counts = [store.write(month) for month in months]
        tidy = reader.quotes()
        wide = {metric: reader.prices(metric=metric) for metric in METRICS}
    finally:
        store.delete([A, B, C, *{one.cnpj for one in written}])
    assert counts == [sum(1 for one in month for _ in one.metrics()) for month in months]
    pd.testing.assert_frame_equal(tidy, expected(written), check_exact=True)
    for metric, frame in wide.items():
        cells = tidy.dropna(subset=metric).astype({metric: "float64"})
        names = cells["cnpj"].where(cells["subclass"] == "", cells["cnpj"] + ":" + cells["subclass"])
        pivoted = cells.assign(series=names).pivot(index="date", columns="series", values=metric)
        assert frame.columns.tolist() == sorted({one.series for one in written if any(one.metrics())})
        present = frame.dropna(axis="columns", how="all")
        assert np.array_equal(present.to_numpy(), pivoted.to_numpy().reshape(present.shape), equal_nan=True)
        assert present.index.tolist() == pivoted.index.tolist()


def test_months_in_any_order_come_back_sorted(store, reader):
    for month in ("2022-12", "2022-01", "2022-06"):
        store.write([quote(A, f"{month}-{day:02d}", quota=day) for day in (20, 3, 11)])
    prices = reader.prices(A)
    assert prices.index.is_monotonic_increasing
    assert prices[A].tolist() == [3, 11, 20] * 3


def test_the_last_value_of_a_day_wins(store, reader):
    assert store.write([quote(A, "2022-01-03", 1.0), quote(A, "2022-01-03", 2.0)]) == 2
    assert reader.prices(A)[A].tolist() == [2.0]
    store.write([quote(A, "2022-01-03", 3.0)])
    assert reader.prices(A)[A].tolist() == [3.0]


def test_the_last_value_wins_with_any_punctuation_of_the_cnpj(store, reader):
    store.write([quote(A, "2022-01-03", 1.0), quote(format_cnpj(A), "2022-01-03", 2.0), quote(A, "2022-01-03", 3.0)])
    assert reader.prices()[A].tolist() == [3.0]


def test_writing_twice_is_harmless(store, reader):
    quotes = [quote(A, "2022-01-03", 1.25, holders=7), quote(A, "2022-01-04", 1.5)]
    assert store.write(quotes) == 3
    once = reader.quotes()
    assert store.write(quotes) == 3
    pd.testing.assert_frame_equal(reader.quotes(), once)


def test_none_keeps_the_stored_value(store, reader):
    store.write([quote(A, "2022-01-03", 1.25, holders=7)])
    store.write([quote(A, "2022-01-03", None, holders=8)])
    assert reader.quotes().loc[0, ["quota", "holders"]].tolist() == [1.25, 8]


def test_writing_nothing_writes_nothing(store, reader):
    assert store.write([]) == 0
    assert store.write([DailyQuote(A, dt.date(2022, 1, 3))]) == 0
    assert reader.prices().shape == (0, 0)


@pytest.mark.parametrize("gone", [METRICS, ("quota",), ("holders", "portfolio")])
def test_series_deleted_meanwhile_are_created_again(store, reader, redis, namespace, gone):
    store.write([quote(A, "2022-01-03", 1.0, holders=7)])
    redis.delete(*(Keys(namespace).series(A, metric) for metric in gone))
    store.write([quote(A, "2022-01-04", 2.0, holders=8, portfolio=9.0)])
    assert reader.quotes(A).set_index("date").loc["2022-01-04", ["quota", "holders", "portfolio"]].tolist() == [2, 8, 9]
    labels = redis_py.Redis(connection_pool=redis.connection_pool).execute_command(
        "TS.INFO", Keys(namespace).series(A, gone[0])
    )
    assert labels["labels"] == {"kit": namespace, "metric": gone[0], "cnpj": A}
    assert (labels["chunkSize"], labels["duplicatePolicy"]) == (512, "last")


def test_writes_and_reads_may_take_several_pipelines(store, reader, monkeypatch):
    monkeypatch.setattr("scraperkit.timeseries.store.QUOTES_PER_PIPELINE", 7)
    monkeypatch.setattr("scraperkit.timeseries.reader.SERIES_PER_READ", 4)
    monkeypatch.setattr("scraperkit.timeseries.reader.FUNDS_PER_PIPELINE", 3)
    cnpjs = [made_up_cnpj(f"{number:08d}0001") for number in range(11)]
    quotes = [quote(cnpj, f"2022-01-{day:02d}", float(day)) for cnpj in cnpjs for day in range(1, 6)]
    assert store.write(iter(quotes)) == 55
    assert reader.prices(cnpjs[::-1]).columns.tolist() == cnpjs[::-1]
    assert reader.prices().notna().to_numpy().sum() == 55
    assert reader.quotes()["cnpj"].tolist() == [cnpj for cnpj in cnpjs for _ in range(5)]
    assert reader.last()["quota"].tolist() == [5.0] * 11
    assert reader.funds()["days"].tolist() == [5] * 11


# ---------------------------------------------------------------- refused writes


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, "12,34", "1.5"])
def test_a_value_that_is_not_a_number_is_refused_before_anything_is_written(store, reader, namespace, value):
    bad = quote(A, "2022-01-05", None, net_worth=value)
    with pytest.raises(StoreError, match=re.escape(f"{namespace}:{{{A}}}:net_worth on 2022-01-05")):
        store.write([quote(A, "2022-01-04"), bad])
    assert reader.prices().empty


def test_a_day_before_1970_is_refused(store):
    with pytest.raises(StoreError, match=r":quota on 1969-12-31.*1970"):
        store.write([quote(A, "1969-12-31")])


def test_a_day_that_is_text_is_refused(store):
    with pytest.raises(StoreError, match=r"'2022-01-03' is not a datetime.date"):
        store.write([dataclasses.replace(quote(A, "2022-01-03"), date="2022-01-03")])


def test_an_invalid_cnpj_is_refused(store):
    with pytest.raises(ConfigError, match="not a CNPJ"):
        store.write([quote("18993924000101", "2022-01-03")])


def test_a_key_of_another_type_is_named(store, redis, namespace):
    key = Keys(namespace).series(A, "inflow")
    redis.set(key, "not a series")
    with pytest.raises(StoreError, match=re.escape(f"{key} on 2022-01-03")):
        store.write([quote(A, "2022-01-03", 1.0, inflow=2.0)])


def test_a_refused_sample_is_named_with_its_day_and_the_others_are_counted(store, redis, namespace):
    key = Keys(namespace).series(A, "quota")
    redis.execute_command("TS.CREATE", key, "DUPLICATE_POLICY", "BLOCK")
    store.write([quote(A, f"2022-01-{day:02d}", 1.0) for day in (3, 4, 5)])
    with pytest.raises(StoreError, match=re.escape(f"{key} on 2022-01-04") + r".*\(and \d more\)"):
        store.write([quote(A, "2022-01-04", 2.0), quote(A, "2022-01-05", 2.0), quote(A, "2022-01-06", 2.0)])


def test_a_command_refused_as_a_whole_is_named():
    commands = add_commands(KEYS, [quote(A, "2022-01-03")])
    refusal = redis_py.ResponseError("OOM command not allowed")
    for check in (refused_series, check_replies):
        with pytest.raises(StoreError, match=r"TS.MADD lesson:\{18993924000100\}:quota on 2022-01-03: OOM"):
            check(commands, [refusal])


def test_a_series_that_cannot_be_created_is_named_unless_it_exists():
    creates = create_all(KEYS, [A])[:1]
    check_replies(creates, [redis_py.ResponseError("TSDB: key already exists")])
    with pytest.raises(StoreError, match=r"TS.CREATE lesson:\{18993924000100\}:quota: NOPERM"):
        check_replies(creates, [redis_py.ResponseError("NOPERM this user has no permissions")])


def test_a_series_is_created_with_its_labels():
    words = unpack(create_all(KEYS, [A])[5])
    assert words[:2] == ["TS.CREATE", KEYS.series(A, "portfolio")]
    assert words[-7:] == ["LABELS", "kit", "lesson", "metric", "portfolio", "cnpj", A]


def test_no_command_mixes_funds_or_grows_beyond_1000_samples():
    quotes = [quote(cnpj, f"20{year}-01-{day:02d}", 1.0, net_worth=2.0, holders=3) for year in range(10, 60)
              for day in range(1, 11) for cnpj in (A, B)]  # fmt: skip
    commands = add_commands(KEYS, quotes)
    assert sample_count(commands) == 3_000
    assert all(sample_count([command]) <= 1_000 for command in commands)
    for command in commands:
        assert len({key.partition("}")[0] for key in unpack(command)[1::3]}) == 1


# ---------------------------------------------------------------- choosing what to read


@pytest.fixture
def january(store) -> None:
    store.write([quote(A, f"2022-{month:02d}-{day:02d}", month + day / 100) for month in (1, 2, 3) for day in (1, 28)])


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        (None, None, ["01-01", "01-28", "02-01", "02-28", "03-01", "03-28"]),
        ("2022-02", "2022-02", ["02-01", "02-28"]),
        ("2022-01-28", "2022-02-01", ["01-28", "02-01"]),
        (dt.date(2022, 2, 1), dt.datetime(2022, 2, 28, 15, 30), ["02-01", "02-28"]),
        (pd.Timestamp("2022-02-01 23:59"), pd.Timestamp("2022-02-28", tz="America/Sao_Paulo"), ["02-01", "02-28"]),
        (np.datetime64("2022-03-28"), None, ["03-28"]),
        (pd.Period("2022-02"), pd.Period("2022-03-01"), ["02-01", "02-28", "03-01"]),
        (None, "2022-01-01", ["01-01"]),
        ("1960-01", "2022-01-27", ["01-01"]),
        ("2022-01-02", "2022-01-27", []),
        (None, "1969-12", []),
        ("1950-01", "1960-01", []),
        ("9999-12", "9999-12", []),
    ],
)
@pytest.mark.usefixtures("january")
def test_both_ends_are_included(reader, start, end, days):
    prices = reader.prices(A, start, end)
    assert [day.strftime("%m-%d") for day in prices.index] == days
    assert reader.quotes(A, start, end)["date"].tolist() == prices.index.tolist()


@pytest.mark.parametrize(
    "day",
    [
        *("01/02/2022", "2022-1", "2022-1-5", "20220105", "2022-13", "2022-02-30", "0000-01", "2022", "", "yesterday"),
        *("٢٠٢٢-٠١", 2022, 1.5, [], pd.NaT, np.datetime64("NaT"), pd.Period("2022Q1")),
    ],
)
def test_the_error_for_an_invalid_day_names_the_argument(reader, day):
    with pytest.raises(ConfigError, match=r"^start: .* is not a day; write it as '2022-01-31'"):
        reader.prices(start=day)
    with pytest.raises(ConfigError, match=r"^end: "):
        reader.quotes(end=day)


def test_an_end_before_the_start_is_refused(reader):
    with pytest.raises(ConfigError, match="end: 2022-01-31 is before start, 2022-02-01"):
        reader.prices(start="2022-02", end="2022-01")


def test_an_unknown_metric_is_refused(reader):
    with pytest.raises(ConfigError, match="metric: unknown metric 'price'; choose one of quota, net_worth, holders"):
        reader.prices(metric="price")


@pytest.mark.parametrize(
    "cnpjs",
    [
        [B, A],
        [format_cnpj(B), A, B.lower()],
        (Fund(B, "1"), Fund(A, "2"), A),
        iter([B, A]),
        pd.Series([B, A]),
        {B: "b", A: "a"},
    ],
)
def test_funds_come_in_the_order_requested_without_duplicates(store, reader, cnpjs):
    store.write([quote(A, "2022-01-03", 1.0), quote(B, "2022-01-03", 2.0), quote(C, "2022-01-03", 3.0)])
    prices = reader.prices(cnpjs)
    assert prices.columns.tolist() == [B, A]
    assert prices.iloc[0].tolist() == [2.0, 1.0]


@pytest.mark.parametrize("cnpj", [A, format_cnpj(A), Fund(A, "132922")])
def test_one_fund_needs_no_list(store, reader, cnpj):
    store.write([quote(A, "2022-01-03"), quote(B, "2022-01-03")])
    assert reader.prices(cnpj).columns.tolist() == [A]
    assert reader.quotes(cnpj)["cnpj"].tolist() == [A]
    assert reader.last(cnpj).index.tolist() == [A]


@pytest.mark.parametrize("cnpjs", [5, [18993924000100], "18993924000101", [None], [""]])
def test_anything_but_a_cnpj_is_refused(reader, cnpjs):
    for read in (reader.prices, reader.quotes, reader.last):
        with pytest.raises(ConfigError, match="CNPJ"):
            read(cnpjs)


def test_unknown_funds_are_all_named(store, reader):
    store.write([quote(A, "2022-01-03")])
    for read in (reader.prices, reader.quotes, reader.last):
        with pytest.raises(UnknownFund) as caught:
            read([B, A, C])
        message = str(caught.value)
        assert format_cnpj(B) in message
        assert format_cnpj(C) in message
        assert format_cnpj(A) not in message
        assert "publish" in message


def test_a_fund_of_another_namespace_is_unknown(store, reader, redis, namespace):
    store.write([quote(A, "2022-01-03")])
    with pytest.raises(UnknownFund):
        TimeSeriesReader(redis, f"{namespace}-other").prices(A)


def test_a_fund_without_the_metric_is_known(store, reader, redis, namespace):
    store.write([quote(A, "2022-01-03")])
    redis.delete(Keys(namespace).series(A, "inflow"))
    assert reader.prices(A, metric="inflow").shape == (0, 1)


def test_foreign_series_with_our_labels_are_ignored(store, reader, redis, namespace):
    store.write([quote(A, "2022-01-03")])
    labels = ("LABELS", "kit", namespace, "metric", "quota", "cnpj", A)
    redis.execute_command("TS.CREATE", f"{namespace}:weekly", *labels)
    redis.execute_command("TS.MADD", f"{namespace}:weekly", 0, 9)
    assert reader.prices()[A].tolist() == [1.5]
    assert reader.funds().index.tolist() == [A]


# ---------------------------------------------------------------- the shapes of frames


def check_wide(frame: pd.DataFrame) -> None:
    assert isinstance(frame.index, pd.DatetimeIndex)
    assert (frame.index.name, frame.index.dtype, frame.index.tz) == ("date", "datetime64[ms]", None)
    assert (frame.columns.name, frame.columns.dtype) == ("cnpj", "str")
    assert all(dtype == "float64" for dtype in frame.dtypes)


def check_dtypes(frame: pd.DataFrame, columns: list[str]) -> None:
    assert frame.columns.tolist() == columns
    assert {name: str(frame[name].dtype) for name in columns} == {name: COLUMNS[name].dtype for name in columns}


def check_funds(frame: pd.DataFrame) -> None:
    assert (frame.index.name, frame.index.dtype) == ("cnpj", "str")
    text, date = "str", "datetime64[ms]"
    assert frame.dtypes.astype(str).to_dict() == {
        "name": text, "pk": text, "status": text, "started_on": date, "ended_on": date, "first": date, "last": date,
        "days": "int64",
    }  # fmt: skip


def test_an_empty_store_returns_empty_frames(reader):
    for frame in (reader.prices(), reader.prices([])):
        assert frame.shape == (0, 0)
        check_wide(frame)
    assert reader.quotes().shape == (0, 9)
    check_dtypes(reader.quotes(), list(COLUMNS))
    assert isinstance(reader.quotes().index, pd.RangeIndex)
    assert reader.last().shape == (0, 7)
    check_dtypes(reader.last(), ["date", *METRICS])
    assert reader.funds().shape == (0, 8)
    check_funds(reader.funds())


def test_an_empty_range_keeps_columns_and_dtypes(store, reader):
    store.write([quote(A, "2022-01-03", holders=3), quote(B, "2022-01-04")])
    frame = reader.prices([B, A], start="2023-01")
    assert (frame.shape, frame.columns.tolist()) == ((0, 2), [B, A])
    check_wide(frame)
    tidy = reader.quotes([B, A], start="2023-01")
    assert tidy.shape == (0, 9)
    check_dtypes(tidy, list(COLUMNS))


def test_a_day_that_a_fund_lacks_is_nan(store, reader):
    store.write([quote(A, "2022-01-03", 1.0), quote(A, "2022-01-05", 2.0), quote(B, "2022-01-04", 3.0)])
    frame = reader.prices()
    check_wide(frame)
    days = pd.DatetimeIndex(["2022-01-03", "2022-01-04", "2022-01-05"], name="date").as_unit("ms")
    columns = pd.Index([B, A], dtype="str", name="cnpj")
    cells = [[math.nan, 1.0], [3.0, math.nan], [math.nan, 2.0]]
    pd.testing.assert_frame_equal(frame, pd.DataFrame(cells, index=days, columns=columns), check_freq=False)


def test_quotes_are_sorted_and_typed_whatever_order_is_requested(store, reader):
    store.write(
        [quote(A, "2022-01-04", 1.0, holders=3), quote(B, "2022-01-03", 2.0), quote(A, "2022-01-03", None, inflow=0)]
    )
    tidy = reader.quotes([A, B])
    check_dtypes(tidy, list(COLUMNS))
    assert tidy["cnpj"].tolist() == [B, A, A]
    assert tidy["date"].dt.day.tolist() == [3, 3, 4]
    assert tidy["holders"].tolist() == [pd.NA, pd.NA, 3]
    assert math.isnan(tidy["quota"][1])
    assert isinstance(tidy.index, pd.RangeIndex)


def test_returned_frames_are_writable(store, reader):
    store.write([quote(A, "2022-01-03", 1.0, holders=3)])
    wide, tidy = reader.prices(), reader.quotes()
    wide.loc[:, A] = 5.0
    tidy.loc[0, ["quota", "holders"]] = [5.0, 6]
    assert wide.iloc[0, 0] == 5.0
    assert tidy.loc[0, ["quota", "holders", "inflow"]].tolist()[:2] == [5.0, 6]


def test_last_is_the_newest_day_whatever_was_written_last(store, reader):
    store.write([quote(A, "2022-03-01", 3.0, holders=30), quote(B, "2022-01-01", 9.0)])
    store.write([quote(A, "2022-02-01", 2.0, holders=20, inflow=5.0)])
    store.save_fund(Fund(C, "9"))
    last = reader.last([B, C, A])
    check_dtypes(last, ["date", *METRICS])
    assert (last.index.name, last.index.tolist()) == ("cnpj", [B, C, A])
    assert last["date"].tolist() == [pd.Timestamp("2022-01-01"), pd.NaT, pd.Timestamp("2022-03-01")]
    assert last.loc[A, ["quota", "holders"]].tolist() == [3.0, 30]
    assert math.isnan(last.loc[A, "inflow"])  # its newest value is older
    assert last.loc[C].isna().all()


# ---------------------------------------------------------------- fund cards


def test_funds_lists_cards_and_stored_days(store, reader):
    store.save_funds([Fund(A, "132922", "Fundo Ação", "EM FUNCIONAMENTO NORMAL", dt.date(2013, 10, 31)), Fund(C, "7")])
    store.write([quote(A, "2022-01-05"), quote(A, "2022-01-03"), quote(A, "2022-01-03"), quote(A, "2022-01-07", None)])
    store.write([quote(B, "1970-01-01")])
    funds = reader.funds()
    check_funds(funds)
    assert funds.index.tolist() == [C, B, A]
    assert funds.loc[A].tolist() == [
        "Fundo Ação", "132922", "EM FUNCIONAMENTO NORMAL", pd.Timestamp("2013-10-31"), pd.NaT,
        pd.Timestamp("2022-01-03"), pd.Timestamp("2022-01-05"), 2,
    ]  # fmt: skip
    assert funds.loc[B, ["name", "pk", "status", "days"]].tolist() == ["", "", "", 1]
    assert funds.loc[B, ["first", "last"]].tolist() == [pd.Timestamp("1970-01-01")] * 2
    assert funds.loc[C, ["started_on", "first", "last", "days"]].tolist() == [pd.NaT, pd.NaT, pd.NaT, 0]


def test_a_fund_that_ended_has_its_last_day(store, reader):
    end = dt.date(2022, 1, 31)
    store.save_funds([Fund(cnpj, "1", "Fundo", "CANCELADA", None, end) for cnpj in (A, B, C)])
    store.write([quote(A, "2022-01-05"), quote(B, "2021-12-30")])
    ended_on = reader.funds()["ended_on"].to_dict()
    assert ended_on == {A: pd.Timestamp("2022-01-05"), B: pd.Timestamp(end), C: pd.Timestamp(end)}


def test_a_saved_fund_is_known_before_it_has_quotes(store, reader):
    store.save_fund(Fund(format_cnpj(A), "132922"))
    assert reader.prices(A).shape == (0, 1)
    assert reader.prices().columns.tolist() == [A]
    assert reader.quotes(A).empty


def test_saving_again_replaces_the_card_and_keeps_the_series(store, reader, redis, namespace):
    store.save_fund(Fund(A, "132922", "Old", "EM LIQUIDAÇÃO", dt.date(2013, 10, 31)))
    store.write([quote(A, "2022-01-03")])
    store.save_fund(Fund(A, "132922", "New"))
    card = {"cnpj": A, "pk": "132922", "name": "New", "status": "", "started_on": "", "ended_on": ""}
    assert redis.hgetall(Keys(namespace).fund(A)) == card
    assert reader.prices(A)[A].tolist() == [1.5]


def test_the_card_of_a_request_does_not_change_a_full_one(store, redis, namespace):
    keys = Keys(namespace)
    store.save_fund(Fund(A, "132922", "Fundo A"))
    for cnpj, pk in ((A, "1"), (B, "2")):
        for command in first_card_commands(keys, cnpj, pk):
            redis.execute_command(*command)
    assert redis.hmget(keys.fund(A), "pk", "name") == ["132922", "Fundo A"]
    assert redis.hgetall(keys.fund(B)) == {"cnpj": B, "pk": "2"}


def test_a_card_that_cannot_be_written_is_named(store, redis, namespace):
    redis.set(Keys(namespace).fund(A), "not a card")
    with pytest.raises(StoreError, match=re.escape(f"HSET {namespace}:{{{A}}}:fund")):
        store.save_fund(Fund(A, "132922"))
    store.write([quote(A, "2022-01-03")])
    assert TimeSeriesReader(redis, namespace).funds().loc[A, ["name", "days"]].tolist() == ["", 1]


def test_delete_leaves_no_key(store, reader, redis, namespace):
    store.save_fund(Fund(A, "132922"))
    store.write([quote(A, "2022-01-03"), quote(B, "2022-01-03")])
    assert store.delete([A, C]) == 1
    assert list(redis.scan_iter(f"{namespace}:{{{A}}}:*")) == []
    assert reader.prices().columns.tolist() == [B]
    with pytest.raises(UnknownFund):
        reader.prices(A)


# ---------------------------------------------------------------- the client


def test_a_client_whose_ts_was_called_reads_the_same(store, redis, namespace):
    store.write([quote(A, "2022-01-03", 1.0, holders=3)])
    before = TimeSeriesReader(redis, namespace).quotes()
    redis.ts()
    reader = TimeSeriesReader(redis, namespace)
    pd.testing.assert_frame_equal(reader.quotes(), before)
    assert reader.last()["quota"].tolist() == [1.0]
    assert reader.funds()["days"].tolist() == [1]


@pytest.mark.parametrize("options", [{"protocol": 2, "decode_responses": True}, {"protocol": 3}])
def test_a_client_of_another_kind_is_refused(options):
    with redis_py.Redis(**options) as client:
        for kind in (SeriesStore, TimeSeriesReader):
            with pytest.raises(ConfigError, match=r"scraperkit\.connect"):
                kind(client, "lesson")


def test_losing_redis_is_an_error_of_the_kit():
    client = redis_py.Redis(port=1, protocol=3, decode_responses=True, retry=Retry(NoBackoff(), 0))
    with client, pytest.raises(RedisUnreachable, match="Redis went away"):
        TimeSeriesReader(client, "lesson").prices()
    with client, pytest.raises(RedisUnreachable, match="Redis went away"):
        SeriesStore(client, "lesson").write([quote(A, "2022-01-03")])


def test_a_read_that_redis_refuses_is_an_error_of_the_kit(redis, namespace):
    with pytest.raises(StoreError, match=r"Redis refused: .*not exist"):
        Link(redis).send("TS.INFO", f"{namespace}:nothing")


def test_the_namespace_is_that_of_the_settings_unless_given(redis, monkeypatch):
    monkeypatch.setenv("SCRAPERKIT_NAMESPACE", "from-settings")
    assert repr(SeriesStore(redis)) == "SeriesStore(namespace='from-settings')"
    assert repr(TimeSeriesReader(redis, "given")) == "TimeSeriesReader(namespace='given')"
    with pytest.raises(ConfigError, match="namespace"):
        SeriesStore(redis, "not a name")


@given(
    st.lists(
        st.dictionaries(st.integers(0, 40), st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=5
    )
)
def test_align_puts_every_value_on_its_day(columns):
    samples = [(day, column[day]) for column in columns for day in sorted(column)]
    flat = np.array([day for day, _ in samples], dtype=np.int64), np.array([value for _, value in samples], dtype=float)
    days, table = frames.align([len(column) for column in columns], *flat)
    assert days.tolist() == sorted({day for column in columns for day in column})
    for place, column in enumerate(columns):
        for row, day in enumerate(days.tolist()):
            assert table[row, place] == column[day] if day in column else math.isnan(table[row, place])
