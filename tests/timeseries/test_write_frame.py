"""Frames are stored like quotes, but faster; errors name the cell, and no month is half replaced."""

from __future__ import annotations

import datetime as dt
import io
import itertools
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import tqdm
import tqdm.std
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stdnum.br import cnpj as stdnum_cnpj

from scraperkit.cnpj import format_cnpj, normalize_cnpj
from scraperkit.errors import ConfigError, StoreError
from scraperkit.models import COLUMNS, METRICS, DailyQuote, Fund
from scraperkit.notebook import monitor
from scraperkit.timeseries import frame_writes, link
from scraperkit.timeseries.commands import unpack
from scraperkit.timeseries.reader import TimeSeriesReader
from scraperkit.timeseries.store import SeriesStore

A, B = "18993924000100", "12ABC34501DE35"


def frame(rows: list[tuple], *metrics: str) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["cnpj", "date", *metrics])
    return table.assign(date=pd.to_datetime(table["date"]))


numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
rows = st.lists(
    st.tuples(
        st.sampled_from([A, B, format_cnpj(A)]),
        st.sampled_from(["", "", "A1", "Z2HFZ1734468953"]),
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
def test_a_frame_is_stored_like_the_same_quotes(store, reader, rows, size, replace):
    quotes = [DailyQuote(cnpj, *figures, subclass=subclass) for cnpj, subclass, *figures in rows]
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
def test_replacing_removes_all_other_days_of_the_months_in_the_frame(store, reader, before, rows, size):
    table, old = as_frame(rows), as_frame(before)
    months = {(normalize_cnpj(cnpj), subclass, day.year, day.month) for cnpj, subclass, day, *_ in rows}
    try:
        store.write_frame(old)
        kept = reader.quotes()
        keep = [(row.cnpj, row.subclass, row.date.year, row.date.month) not in months for row in kept.itertuples()]
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


def test_a_frame_from_the_reader_can_be_written_to_another_namespace(store, reader, redis, namespace):
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
def test_the_time_of_day_is_ignored(store, reader, date):
    store.write_frame(pd.DataFrame({"cnpj": [A], "date": date, "quota": [1.5]}))
    assert reader.prices(A).index.tolist() == [pd.Timestamp("2022-01-03")]


@pytest.mark.parametrize(
    ("value", "dtype", "told"),
    [
        (np.inf, "float64", "inf cannot be stored"),
        (-np.inf, object, "-inf cannot be stored"),
        ("1.5", object, "'1.5' is text"),
        ("1.5", "str", "'1.5' is text"),
        (10**400, object, "cannot be stored"),
        (1 + 2j, "complex128", r"\(1\+2j\) cannot be stored"),
    ],
)
def test_a_bad_value_is_named_and_nothing_is_written(store, reader, value, dtype, told):
    table = frame([(A, "2022-01-03", 1.0, 1.0), (B, "2022-01-04", 1.0, None)], "quota", "inflow")
    table["inflow"] = pd.Series([None, value], dtype=dtype)
    with pytest.raises(StoreError, match=rf"\{{{B}\}}:inflow on 2022-01-04: .*{told}"):
        store.write_frame(table)
    assert reader.funds().empty


@pytest.mark.parametrize("holders", [2.0**63, 1e300, 2**63])
def test_a_count_that_could_not_be_read_back_is_refused(store, reader, holders):
    refused = rf"\{{{A}\}}:holders on 2022-01-03: .* cannot be stored"
    with pytest.raises(StoreError, match=refused):
        store.write_frame(frame([(A, "2022-01-03", holders)], "holders"))
    with pytest.raises(StoreError, match=refused):
        store.write([DailyQuote(A, dt.date(2022, 1, 3), net_worth=1e300, holders=holders)])
    store.write_frame(frame([(A, "2022-01-03", np.nextafter(2.0**63, 0))], "holders"))
    assert reader.quotes(A)["holders"].tolist() == [2**63 - 1024]


@pytest.mark.parametrize("date", [dt.date(1969, 12, 31), pd.NaT, None, "2022-01-03", 3])
def test_a_bad_day_is_named_with_its_series(store, date):
    table = pd.DataFrame({"cnpj": [A], "date": pd.Series([date], dtype=object), "quota": [1.5]})
    with pytest.raises(
        StoreError, match=rf"\{{{A}\}}:quota(: .* is not a day| on 1969-12-31: Redis cannot store days)"
    ):
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


def test_chunks_are_made_as_they_are_sent(store, monkeypatch):
    """At most two are in flight: the one that Redis works on, and the next."""
    monkeypatch.setattr(frame_writes, "ROWS_PER_CHUNK", 10)
    made, most = [], []
    checked = frame_writes._checked
    monkeypatch.setattr(frame_writes, "_checked", lambda *args: made.append(1) or checked(*args))
    monkeypatch.setattr(tqdm.std.tqdm, "update", lambda *_: most.append(len(made)))
    days = pd.date_range("2000-01-01", periods=100)
    store.write_frame(pd.DataFrame({"cnpj": A, "date": days, "quota": 1.0}))
    assert most == [10 + min(2 + done, 10) for done in range(10)]  # the check before made ten


def test_memory_does_not_grow_with_the_frame(store, monkeypatch):
    monkeypatch.setattr(frame_writes, "ROWS_PER_CHUNK", 1_000)

    def peak(rows: int) -> int:
        days = np.resize(pd.date_range("1970-01-01", periods=1_000), rows)
        table = pd.DataFrame({"cnpj": np.repeat([A, B], rows // 2), "date": days, "quota": 1.5})
        tracemalloc.start()
        try:
            assert store.write_frame(table) == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1_000)  # import and fill caches first
    assert peak(40_000) < 1.3 * peak(4_000)


@pytest.mark.parametrize(
    ("seconds", "is_terminal", "shown"), [(2.0, True, True), (0.0, True, False), (2.0, False, False)]
)
def test_a_progress_bar_is_shown_in_a_terminal_after_a_second(store, monkeypatch, seconds, is_terminal, shown):
    screen, clock = io.StringIO(), itertools.count()
    monkeypatch.setattr(screen, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(tqdm.std, "time", lambda: seconds * next(clock))  # between two looks at the clock
    monkeypatch.setattr(frame_writes, "ROWS_PER_CHUNK", 10)
    days = pd.date_range("2000-01-01", periods=30)
    store.write_frame(pd.DataFrame({"cnpj": A, "date": days, "quota": 1.0}))
    assert ("writing" in screen.getvalue() and "30/30" in screen.getvalue()) is shown
    assert shown or not screen.getvalue().strip()


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("there", ["none", "first", "last", "every second", "a metric of each"])
def test_series_are_created_whichever_are_missing(store, reader, redis, keys, monkeypatch, there, replace):
    monkeypatch.setattr(frame_writes, "ROWS_PER_CHUNK", 3)
    cnpjs = [made_up_cnpj(number) for number in range(12)]
    table = frame([(cnpj, f"2022-01-{day:02}", float(day)) for cnpj in cnpjs for day in (3, 4)], "quota")
    old = {"none": [], "first": cnpjs[:6], "last": cnpjs[6:], "every second": cnpjs[::2], "a metric of each": cnpjs}
    store.save_funds(Fund(cnpj, "1") for cnpj in old[there])
    if there == "a metric of each":
        redis.delete(*(keys.series(cnpj, "quota") for cnpj in cnpjs))
    assert store.write_frame(table, replace=replace) == 24
    assert reader.prices(cnpjs).to_numpy().tolist() == [[3.0] * 12, [4.0] * 12]
    assert redis.execute_command("TS.INFO", keys.series(cnpjs[5], "quota"))["labels"]["cnpj"] == cnpjs[5]
    assert redis.exists(*(keys.series(cnpj, metric) for cnpj in cnpjs for metric in METRICS)) == 72


def test_series_of_new_funds_travel_with_their_samples(store, redis, monkeypatch):
    """Beside one look at existing series, creating them takes no extra trip: a market month creates 156,000."""
    monkeypatch.setattr(frame_writes, "ROWS_PER_CHUNK", 2)
    write, written = store._link.write, []
    monkeypatch.setattr(store._link, "write", lambda commands: written.extend(commands) or write(commands))
    cnpjs = [made_up_cnpj(number) for number in range(6)]
    store.write_frame(frame([(cnpj, "2022-01-03", 1.0) for cnpj in cnpjs], "quota"))
    assert [unpack(command)[0] for command in written] == ["EXISTS"] * len(cnpjs)


@pytest.mark.parametrize("replace", [False, True])
def test_a_series_created_meanwhile_by_another_writer_counts_as_existing(store, redis, reader, replace):
    other, present = SeriesStore(redis, store._keys.namespace), store._present

    def look_and_lose_the_race(series):
        found = present(series)
        other.write_frame(frame([(A, "2022-01-04", 9.0)], "quota"))
        return found

    store._present = look_and_lose_the_race
    store.write_frame(frame([(A, "2022-01-03", 1.0), (B, "2022-01-03", 2.0)], "quota"), replace=replace)
    assert reader.prices(A)[A].tolist() == ([1.0] if replace else [1.0, 9.0])


def test_nothing_is_deleted_from_new_series(store, redis):
    with monitor(redis, namespace=store._keys.namespace) as seen:
        store.write_frame(frame([(A, "2022-01-03", 1.0)], "quota"), replace=True)
        store.write_frame(frame([(A, "2022-01-03", 1.0)], "quota"), replace=True)
    assert seen.table()["command"].tolist().count("TS.DEL") == 1


def test_without_a_socket_redis_py_reads_the_replies(store, reader, monkeypatch):
    monkeypatch.setattr(link, "_SOCKET", "_moved")
    monkeypatch.setattr(frame_writes, "ROWS_PER_CHUNK", 1)
    table = frame([(cnpj, "2022-01-03", 1.5) for cnpj in (A, B)], "quota")
    assert store.write_frame(table) == store.write_frame(table, replace=True) == 2
    monkeypatch.undo()
    assert reader.prices([A, B]).to_numpy().tolist() == [[1.5, 1.5]]


def made_up_cnpj(number: int) -> str:
    stem = f"{number:08d}0001"
    return stem + stdnum_cnpj.calc_check_digits(stem)
