"""Both ways of reading return the same frames to the last bit, and no failure leaves a half-read connection."""

from __future__ import annotations

import datetime as dt
import signal
import threading
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
import redis as redis_py
import trustme
from chaos.proxy import Proxy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.backoff import NoBackoff
from redis.retry import Retry
from stdnum.br import cnpj as stdnum_cnpj
from support.ports import unused_port
from support.servers import redis_server

from scraperkit.connection import connect, sibling
from scraperkit.errors import RedisUnreachable, ScraperKitWarning, StoreError
from scraperkit.models import METRICS, DailyQuote
from scraperkit.timeseries import frames, link
from scraperkit.timeseries import reader as reading
from scraperkit.timeseries.range_replies import ReplyError
from scraperkit.timeseries.reader import TimeSeriesReader
from scraperkit.timeseries.store import SeriesStore

A, B, C = "18993924000100", "12ABC34501DE35", "00000000000191"


@pytest.fixture
def proxy(redis_url):
    with Proxy(redis_url) as running:
        yield running


def january(cnpj: str = A) -> list[DailyQuote]:
    return [DailyQuote(cnpj, dt.date(2022, 1, day), day + 0.1, holders=day) for day in range(1, 29)]


def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(*_: object) -> None:
        raise ReplyError("on purpose")

    monkeypatch.setattr(reading, "parse_ranges", parse)


def connections_in_use(client: redis_py.Redis) -> int:
    return len(client.connection_pool._in_use_connections)


finite = st.floats(allow_nan=False, allow_infinity=False)
odd = st.sampled_from([1e-300, -1e300, 0.1 + 0.2, -0.0, 5e-324, 12345678901234567.0, 7, -3])
numbers = st.none() | odd | finite
quotes = st.builds(
    DailyQuote,
    cnpj=st.sampled_from([A, B, C]),
    date=st.dates(dt.date(2022, 1, 1), dt.date(2022, 3, 1)) | st.dates(dt.date(1970, 1, 1), dt.date(9999, 12, 31)),
    holders=st.none() | st.integers(0, 2**53),
    **dict.fromkeys([metric for metric in METRICS if metric != "holders"], numbers),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=st.lists(quotes, max_size=30), series=st.integers(1, 18))
def test_both_ways_return_the_same_frames(store, reader, written, series):
    def read() -> list[pd.DataFrame]:
        february = reader.quotes(start="2022-02", end="2022-02")
        return [reader.quotes(), february, reader.last(), *(reader.prices(metric=metric) for metric in METRICS)]

    try:
        store.write(written)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reading, "SERIES_PER_READ", series)
            fast = read()
            slow(patch)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ScraperKitWarning)
                other = read()
    finally:
        store.delete([A, B, C])
    for one, two in zip(fast, other, strict=True):
        pd.testing.assert_frame_equal(one, two, check_exact=True)
        for name in one.select_dtypes("float64"):
            assert [value.hex() for value in one[name]] == [value.hex() for value in two[name]]


def test_reading_falls_back_to_the_slow_way_with_a_warning(store, reader, monkeypatch):
    store.write(january())
    fast = reader.quotes()
    slow(monkeypatch)
    with pytest.warns(ScraperKitWarning, match="reading slowly, through redis-py, since .*: on purpose"):
        pd.testing.assert_frame_equal(reader.quotes(), fast)


def test_the_slow_way_continues_where_the_fast_one_stopped(store, reader, monkeypatch):
    for cnpj in (A, B, C):
        store.write(january(cnpj))
    whole = reader.prices([C, A, B])
    monkeypatch.setattr(reading, "SERIES_PER_READ", 1)
    monkeypatch.setattr(reading, "SAMPLES_PER_READ", 1)
    parse, calls = reading.parse_ranges, []

    def parse_twice(*args):
        calls.append(1)
        if len(calls) > 2:
            raise ReplyError("on purpose")
        return parse(*args)

    monkeypatch.setattr(reading, "parse_ranges", parse_twice)
    with pytest.warns(ScraperKitWarning):
        pd.testing.assert_frame_equal(reader.prices([C, A, B]), whole)
    assert len(calls) == 3


def test_redis_py_still_shows_its_sockets(redis, store, reader):
    """The only private name in use; if this fails, read redis-py's changes and `link.socket_of`."""
    connection = redis.connection_pool.get_connection()
    try:
        assert link.socket_of(connection).recv_into
    finally:
        redis.connection_pool.release(connection)


def test_without_a_socket_reading_falls_back_to_the_slow_way(redis, store, reader, monkeypatch):
    store.write(january())
    whole = reader.quotes()
    monkeypatch.setattr(link, "_SOCKET", "_elsewhere")
    with pytest.warns(ScraperKitWarning, match="Connection does not show its socket"):
        pd.testing.assert_frame_equal(reader.quotes(), whole)
    assert connections_in_use(redis) == 0
    assert redis.ping() is True


# ---------------------------------------------------------------- failures


def test_a_lost_reply_is_requested_again(proxy, namespace, store, reader):
    store.write(january())
    with connect(proxy.url) as client:
        fault = proxy.lose_reply("EXEC")
        pd.testing.assert_frame_equal(TimeSeriesReader(client, namespace).quotes(), reader.quotes())
        assert fault.struck()
        assert connections_in_use(client) == 0


@pytest.mark.parametrize("kind", ["MULTI", "TS.RANGE", "EXEC", "PING"])
def test_a_lost_connection_is_an_error_of_the_kit_and_leaves_nothing_half_read(proxy, namespace, store, kind):
    store.write(january())
    with connect(proxy.url) as shared, sibling(shared, retry=Retry(NoBackoff(), 0)) as client:
        reader = TimeSeriesReader(client, namespace)
        whole = reader.quotes([A])
        fault = proxy.lose_request(kind)
        with pytest.raises(RedisUnreachable):
            reader.quotes([A])
        assert fault.struck()
        assert connections_in_use(client) == 0
        pd.testing.assert_frame_equal(reader.quotes([A]), whole)
        assert client.ping() is True


def test_an_interrupted_write_is_sent_again(proxy, namespace, reader, store):
    store.write(january())
    whole = reader.quotes()
    store.delete([A])
    with connect(proxy.url) as client:
        for fault in (proxy.lose_reply("TS.MADD"), proxy.lose_request("TS.MADD")):
            SeriesStore(client, namespace).write_frame(whole, replace=fault.what == "request")
            assert fault.struck()
            pd.testing.assert_frame_equal(reader.quotes(), whole)
        assert connections_in_use(client) == 0


def test_a_missing_key_or_a_key_of_another_type_reads_as_missing(redis, namespace, store, reader):
    for cnpj in (A, B):
        store.write(january(cnpj))
    redis.delete(f"{namespace}:{{{A}}}:holders")
    redis.set(f"{namespace}:{{{A}}}:inflow", "no series")
    found = reader.quotes()
    assert found.loc[found["cnpj"] == A, ["holders", "inflow"]].isna().all(axis=None)
    assert found["quota"].tolist() == [one.quota for cnpj in (B, A) for one in january(cnpj)]


@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_an_interrupt_leaves_no_half_read_connection(proxy, namespace, store, reader, write):
    """The interrupt comes like a user's, while the main thread waits for a silent server."""
    store.write(january())
    whole = reader.quotes()
    with connect(proxy.url) as client:
        there, slow_store = TimeSeriesReader(client, namespace), SeriesStore(client, namespace)
        there.quotes([A])

        def interrupt() -> None:
            for conversation in proxy._conversations:
                conversation.mute()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        fault = proxy.before("TS.MADD" if write else "TS.RANGE", interrupt)
        with pytest.raises(KeyboardInterrupt):
            slow_store.write_frame(whole) if write else there.quotes([A])
        assert fault.struck()
        assert connections_in_use(client) == 0
        pd.testing.assert_frame_equal(there.quotes([A]), whole)
        assert client.ping() is True


def test_leaving_early_leaves_no_half_read_connection(redis, namespace, store, reader, monkeypatch):
    for cnpj in (A, B, C):
        store.write(january(cnpj))
    monkeypatch.setattr(reading, "SERIES_PER_READ", 1)
    monkeypatch.setattr(reading, "SAMPLES_PER_READ", 1)
    reads = reading.read_ranges(reader._rows, [A, B, C], ("quota",), 0, 2**42)
    next(reads)
    assert connections_in_use(redis) == 1
    reads.close()
    assert connections_in_use(redis) == 0
    assert redis.ping() is True


# ---------------------------------------------------------------- other connections


@pytest.mark.parametrize("road", ["unix", "tls"])
def test_a_unix_socket_and_tls_read_and_write_the_same(tmp_path, redis, namespace, store, reader, road):
    store.write([one for cnpj in (A, B, C) for one in january(cnpj)])
    whole = reader.quotes()
    options: tuple[str, ...] = ()
    url = f"unix://{tmp_path}/ready.sock"
    if road == "tls":
        authority, port = trustme.CA(), unused_port()
        certificate = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        options = (
            *("--tls-port", str(port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", str(tmp_path / "cert.pem"), "--tls-key-file", str(tmp_path / "key.pem")),
        )
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={tmp_path}/ca.pem"
    with redis_server(tmp_path, "--port", "0", *options), connect(url) as client:
        SeriesStore(client, namespace).write_frame(whole)
        pd.testing.assert_frame_equal(TimeSeriesReader(client, namespace).quotes(), whole)


@pytest.fixture
def limited(redis, redis_url, namespace) -> Iterator[redis_py.Redis]:
    """A client whose user may not use transactions."""
    redis.acl_setuser(
        namespace, enabled=True, passwords=["+word"], keys=["*"], categories=["+@all"], commands=["-multi", "-exec"]
    )
    address = urlsplit(redis_url)
    with connect(f"redis://{namespace}:word@{address.hostname}:{address.port}") as client:
        yield client
    redis.acl_deluser(namespace)


def test_without_transactions_reads_take_the_slow_way_and_warn_why(limited, namespace, store, reader):
    store.write(january())
    mine = TimeSeriesReader(limited, namespace)
    for read in ("prices", "quotes", "last"):
        with pytest.warns(ScraperKitWarning, match="reading slowly, through redis-py, .*NOPERM .* 'multi' command"):
            found = getattr(mine, read)()
        pd.testing.assert_frame_equal(found, getattr(reader, read)())
    pd.testing.assert_frame_equal(mine.funds(), reader.funds())


def test_without_transactions_frames_are_written_but_cannot_replace(limited, namespace, store, reader):
    mine = SeriesStore(limited, namespace)
    store.write(january())
    table = reader.quotes()
    assert mine.write_frame(table) == mine.write_frame(table) == 56
    with pytest.raises(StoreError, match="the transaction that replace=True needs: NOPERM .* 'multi'"):
        mine.write_frame(table[:1], replace=True)
    pd.testing.assert_frame_equal(reader.quotes(), table)


def test_each_additional_fund_takes_at_most_two_and_a_half_times_its_share_of_the_frame(store, reader, monkeypatch):
    """A single read takes a constant amount in addition."""
    monkeypatch.setattr(frames, "_TEXT_DTYPE", object)  # whose memory tracemalloc sees
    monkeypatch.setattr(reading, "SAMPLES_PER_READ", 1_000)
    monkeypatch.setattr(reading, "SERIES_PER_READ", 1)
    stems = [f"{number:08d}0001" for number in range(40)]
    funds = [stem + stdnum_cnpj.calc_check_digits(stem) for stem in stems]
    days = pd.date_range("2015-01-01", periods=300)
    cnpjs = pd.array(funds, dtype="str").take(np.repeat(range(len(funds)), days.size))
    values = {metric: np.arange(cnpjs.size) for metric in METRICS}
    store.write_frame(pd.DataFrame({"cnpj": cnpjs, "date": np.tile(days, len(funds)), **values}))

    def peak_and_size(read: Callable[..., pd.DataFrame], cnpjs: list[str]) -> np.ndarray:
        tracemalloc.start()
        try:
            frame = read(cnpjs)
            return np.array([tracemalloc.get_traced_memory()[1], frame.memory_usage().sum()])
        finally:
            tracemalloc.stop()

    for read in (reader.quotes, reader.prices):
        read(funds)
        peak, size = peak_and_size(read, funds) - peak_and_size(read, funds[:10])
        assert size > 50_000
        assert peak <= 2.5 * size
