"""Frames are written as quotes are, faster; what cannot be written is named, and nothing is half replaced."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scraperkit.cnpj import format_cnpj
from scraperkit.errors import ConfigError, StoreError
from scraperkit.models import COLUMNS, METRICS, DailyQuote
from scraperkit.timeseries import frame_writes
from scraperkit.timeseries.reader import TimeSeriesReader
from scraperkit.timeseries.store import SeriesStore

A, B = "18993924000100", "12ABC34501DE35"


@pytest.fixture
def store(redis, namespace) -> SeriesStore:
    return SeriesStore(redis, namespace)


@pytest.fixture
def reader(redis, namespace) -> TimeSeriesReader:
    return TimeSeriesReader(redis, namespace)


def frame(rows: list[tuple], *metrics: str) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["cnpj", "date", *metrics])
    return table.assign(date=pd.to_datetime(table["date"]))


numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
rows = st.lists(
    st.tuples(
        st.sampled_from([A, B, format_cnpj(A)]),
        st.dates(dt.date(1970, 1, 1), dt.date(1970, 3, 31)) | st.dates(dt.date(1970, 1, 1), dt.date(9999, 12, 31)),
        *([numbers] * 2),
        st.none() | st.integers(0, 2**53),
        *([numbers] * 3),
    ),
    max_size=30,
)
with_redis = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def as_frame(rows: list[tuple]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    days = np.array(table["date"].to_list(), dtype="datetime64[ms]")
    return table.assign(date=days).astype({name: column.dtype for name, column in COLUMNS.items()})


@with_redis
@given(rows=rows, size=st.integers(1, 40), replace=st.booleans())
def test_a_frame_is_stored_as_the_same_quotes_are(store, reader, rows, size, replace):
    quotes = [DailyQuote(*row) for row in rows]
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(frame_writes, "ROWS_PER_CHUNK", size)
            count = store.write_frame(as_frame(rows), replace=replace)
        found = reader.quotes()
        store.delete([A, B])
        assert count == store.write(quotes)
        pd.testing.assert_frame_equal(found, reader.quotes(), check_exact=True)
    finally:
        store.delete([A, B])


@with_redis
@given(before=rows, rows=rows, size=st.integers(1, 40))
def test_replacing_leaves_of_the_months_in_the_frame_only_the_frame(store, reader, before, rows, size):
    table, old = as_frame(rows), as_frame(before)
    months = {(row[0].replace(".", "").replace("/", "").replace("-", ""), row[1].year, row[1].month) for row in rows}
    try:
        store.write_frame(old)
        kept = reader.quotes()
        keep = [(row.cnpj, row.date.year, row.date.month) not in months for row in kept.itertuples()]
        store.delete([A, B])
        store.write_frame(pd.concat([kept[np.array(keep, dtype=bool)], table], ignore_index=True))
        wanted = reader.quotes()
        store.delete([A, B])
        store.write_frame(old)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(frame_writes, "ROWS_PER_CHUNK", size)
            store.write_frame(table, replace=True)
        pd.testing.assert_frame_equal(reader.quotes(), wanted, check_exact=True)
    finally:
        store.delete([A, B])


def test_what_the_reader_gives_can_be_written_elsewhere(store, reader, redis, namespace):
    store.write([DailyQuote(A, dt.date(2022, 1, 3), 1.5, holders=7), DailyQuote(B, dt.date(2022, 1, 4), None, 2.5)])
    copied = f"{namespace}-copy"
    copy = SeriesStore(redis, copied)
    try:
        assert copy.write_frame(reader.quotes()) == 3
        pd.testing.assert_frame_equal(TimeSeriesReader(redis, copied).quotes(), reader.quotes())
    finally:
        copy.delete([A, B])


def test_columns_may_be_missing_and_in_any_order(store, reader):
    table = frame([(A, "2022-01-03", 1.5, 7)], "quota", "holders")[["holders", "date", "cnpj", "quota"]]
    assert store.write_frame(table) == 2
    assert reader.quotes().loc[0, ["quota", "holders"]].tolist() == [1.5, 7]


def test_metrics_without_a_column_survive_a_replacement(store, reader):
    store.write([DailyQuote(A, dt.date(2022, 1, day), day, holders=day) for day in (3, 4)])
    store.write_frame(frame([(A, "2022-01-03", 9.0)], "quota"), replace=True)
    assert reader.quotes()["quota"].tolist()[:1] == [9.0]
    assert reader.quotes()["quota"].isna().tolist() == [False, True]
    assert reader.quotes()["holders"].tolist() == [3, 4]


@pytest.mark.parametrize(
    "date",
    [
        pd.Series([dt.date(2022, 1, 3)], dtype=object),
        pd.Series([pd.Timestamp("2022-01-03 23:59")]),
        pd.Series([pd.Timestamp("2022-01-03 23:59", tz="America/Sao_Paulo")]),
        pd.Series(np.array(["2022-01-03"], dtype="datetime64[s]")),
    ],
    ids=["date", "time", "zone", "seconds"],
)
def test_of_a_point_in_time_only_the_day_counts(store, reader, date):
    store.write_frame(pd.DataFrame({"cnpj": [A], "date": date, "quota": [1.5]}))
    assert reader.prices(A).index.tolist() == [pd.Timestamp("2022-01-03")]


@pytest.mark.parametrize(
    ("value", "dtype", "told"),
    [
        (np.inf, "float64", "inf is no value to keep"),
        (-np.inf, object, "-inf is no value to keep"),
        ("1.5", object, "'1.5' is text"),
        ("1.5", "str", "'1.5' is text"),
        (10**400, object, "is no value to keep"),
    ],
)
def test_a_bad_value_is_named_and_nothing_is_written(store, reader, value, dtype, told):
    table = frame([(A, "2022-01-03", 1.0, 1.0), (B, "2022-01-04", 1.0, None)], "quota", "inflow")
    table["inflow"] = pd.Series([None, value], dtype=dtype)
    with pytest.raises(StoreError, match=rf"\{{{B}\}}:inflow on 2022-01-04: .*{told}"):
        store.write_frame(table)
    assert reader.funds().empty


@pytest.mark.parametrize("date", [dt.date(1969, 12, 31), pd.NaT, None, "2022-01-03", 3])
def test_a_bad_day_is_named_with_its_series(store, date):
    table = pd.DataFrame({"cnpj": [A], "date": pd.Series([date], dtype=object), "quota": [1.5]})
    with pytest.raises(StoreError, match=rf"\{{{A}\}}:quota(: .* is not a day| on 1969-12-31: Redis keeps no day)"):
        store.write_frame(table)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ([1, 2], "expected a pandas.DataFrame, got list"),
        (pd.DataFrame({"cnpj": [A], "quota": [1.0]}), "no column date"),
        (pd.DataFrame({"cnpj": [A], "date": [pd.NaT]}), f"no column {' or '.join(METRICS)}"),
        (pd.DataFrame({"cnpj": [A], "date": [pd.NaT], "quota": [1.0], "Quota": [1.0]}), "column 'Quota'"),
        (pd.DataFrame([[A, pd.NaT, 1.0, 1.0]], columns=["cnpj", "date", "quota", "quota"]), "repeated column 'quota'"),
        (pd.DataFrame({"cnpj": ["123"], "date": [pd.NaT], "quota": [1.0]}), "123"),
    ],
)
def test_a_frame_of_another_shape_is_refused(store, table, told):
    with pytest.raises(ConfigError, match=told):
        store.write_frame(table)


def test_a_refusal_of_redis_names_series_and_day(store, redis, namespace):
    redis.set(f"{namespace}:{{{A}}}:inflow", "no series")
    with pytest.raises(StoreError, match=rf"\{{{A}\}}:inflow on 2022-01-03: .*\(and 1 more\)"):
        store.write_frame(frame([(A, "2022-01-03", 1.0, 2.0), (A, "2022-01-04", 1.0, 2.0)], "quota", "inflow"))


def test_an_empty_frame_writes_nothing(store, reader):
    assert store.write_frame(reader.quotes()) == 0
    assert store.write_frame(reader.quotes(), replace=True) == 0
    assert reader.funds().empty


def test_only_a_chunk_is_in_memory(store, monkeypatch):
    """Chunks are made as they are sent: at most the one on its way and the next."""
    monkeypatch.setattr(frame_writes, "ROWS_PER_CHUNK", 10)
    made, most = [], []
    checked = frame_writes._checked
    monkeypatch.setattr(frame_writes, "_checked", lambda *args: made.append(1) or checked(*args))
    settle = store._settle
    monkeypatch.setattr(store, "_settle", lambda *args: most.append(len(made)) or settle(*args))
    days = pd.date_range("2000-01-01", periods=100)
    store.write_frame(pd.DataFrame({"cnpj": A, "date": days, "quota": 1.0}))
    assert most == [10 + min(2 + done, 10) for done in range(10)]  # ten of the check before
