"""Replies are read to the last bit as hiredis and Python read them; truncated or corrupted ones are refused."""

from __future__ import annotations

import re
from dataclasses import astuple

import hiredis
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scraperkit.keys import Keys
from scraperkit.timeseries.commands import pack
from scraperkit.timeseries.range_replies import MISSING, ReplyError, newest_commands, parse_ranges, range_commands

MISSING_LINE = b"-ERR TSDB: the key does not exist\r\n"


def reply_of(series: list[list[tuple[int, str]] | None], mark: bytes = b",") -> bytes:
    """Return the reply of a server with these texts as values."""
    parts = [b"+OK\r\n", b"+QUEUED\r\n" * len(series), b"*%d\r\n" % len(series)]
    for samples in series:
        parts.append(MISSING_LINE if samples is None else b"*%d\r\n" % len(samples))
        parts += [b"*2\r\n:%d\r\n%b%b\r\n" % (stamp, mark, text.encode()) for stamp, text in samples or ()]
    return b"".join(parts)


floats = st.floats(allow_nan=False, allow_infinity=False)
plain = st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{1,20})?", fullmatch=True)
exponents = st.sampled_from(["1e-300", "1E300", "5e-324", "3.0000000000000004E-1", "-2.5E-1", "1e+16", "-0", "-0.0"])
texts = (
    floats.map(repr) | floats.map(lambda value: f"{value:.17g}") | st.integers(-(2**70), 2**70).map(str)
    | st.decimals(-(10**9), 10**9, places=8, allow_nan=False).map(lambda value: f"{value:f}") | plain | exponents
)  # fmt: skip
stamps = st.integers(0, 10**16 - 1) | st.integers(0, 30_000).map(lambda day: day * 86_400_000)
replies = st.lists(st.none() | st.lists(st.tuples(stamps, texts), max_size=12), max_size=6)


@settings(max_examples=300)
@given(replies, st.sampled_from([b",", b"+"]))
def test_numbers_are_read_to_the_last_bit(series, mark):
    found = parse_ranges(bytearray(reply_of(series, mark)), len(series))
    samples = [sample for samples in series for sample in samples or ()]
    assert found.counts.tolist() == [MISSING if each is None else len(each) for each in series]
    assert found.timestamps.tolist() == [stamp for stamp, _ in samples]
    assert [value.hex() for value in found.values.tolist()] == [float(text).hex() for _, text in samples]


@given(replies)
def test_a_reply_is_read_as_hiredis_reads_it(series):
    reply = reply_of(series)
    reader = hiredis.Reader()
    reader.feed(reply)
    *_, executed = [reader.gets() for _ in range(len(series) + 2)]
    found = parse_ranges(reply, len(series))
    wanted = [sample for samples in executed if isinstance(samples, list) for sample in samples]
    assert list(zip(found.timestamps.tolist(), found.values.tolist(), strict=True)) == list(map(tuple, wanted))


@given(replies, st.data())
def test_a_reply_that_is_too_short_or_too_long_is_refused(series, data):
    reply = reply_of(series)
    for wrong in (reply[: data.draw(st.integers(0, len(reply) - 1))], reply + b"\n", reply + b"*0\r\n"):
        with pytest.raises(ReplyError):
            parse_ranges(wrong, len(series))


def hiredis_refuses(reply: bytes | bytearray) -> bool:
    reader = hiredis.Reader()
    reader.feed(bytes(reply))
    try:
        while reader.has_data() and reader.gets() is not False:
            pass
    except hiredis.ProtocolError:
        return True
    return False


def assert_float_reads_it(reply: bytearray) -> None:
    """Check that the reply has numbers that only hiredis refuses: float reads 5e-3249 as 0 and 007 as 7."""
    assert b"e-" in reply.lower() or re.search(rb"[:*]-?0[0-9]", reply)


@settings(max_examples=300)
@given(replies, st.data())
def test_a_corrupted_reply_is_refused_or_read_as_hiredis_reads_it(series, data):
    reply = bytearray(reply_of(series))
    for _ in range(data.draw(st.integers(1, 3))):
        reply[data.draw(st.integers(0, len(reply) - 1))] = data.draw(st.sampled_from(b"0159*:,+-.\r\n eQ\x00\xff"))
    try:
        found = parse_ranges(reply, len(series))
    except ReplyError:
        return
    reader = hiredis.Reader()
    reader.feed(bytes(reply))
    if hiredis_refuses(reply):
        assert_float_reads_it(reply)
        return
    *_, executed = [reader.gets() for _ in range(len(series) + 2)]
    assert [len(each) if isinstance(each, list) else MISSING for each in executed] == found.counts.tolist()
    samples = [sample for each in executed if isinstance(each, list) for sample in each]
    assert found.timestamps.tolist() == [stamp for stamp, _ in samples]
    np.testing.assert_array_equal(found.values, [float(value) for _, value in samples])


@given(st.binary(max_size=200), st.integers(0, 3))
def test_rubbish_is_refused(rubbish, series):
    for reply in (rubbish, reply_of([[]] * series)[:-4] + rubbish, b"+OK\r\n+QUEUED\r\n*1\r\n*1\r\n" + rubbish):
        try:
            found = parse_ranges(reply, series)
        except ReplyError:
            continue
        assert len(found.counts) == series


@pytest.mark.parametrize(
    "line", [b"-NOPERM no permission", b"-ERR unknown command", b"*x", b"*-1", b"$1", b"_", b"%1", b">1", b""]
)
def test_other_responses_of_the_server_are_refused(line):
    with pytest.raises(ReplyError):
        parse_ranges(b"+OK\r\n+QUEUED\r\n*1\r\n" + line + b"\r\n", 1)


def test_the_commands_are_those_of_redis_py():
    keys, funds, metrics = Keys("lesson"), ["18993924000100", "12ABC34501DE35"], ["quota", "holders"]
    series = [keys.series(cnpj, metric) for cnpj in funds for metric in metrics]
    ranges = [("MULTI",), *(("TS.RANGE", name, 0, 9) for name in series), ("EXEC",)]
    assert range_commands(keys, funds, metrics, 0, 9) == b"".join(map(pack, ranges))
    newest = [("MULTI",), *(("TS.GET", name) for name in series), ("EXEC",)]
    assert newest_commands(keys, funds, metrics) == b"".join(map(pack, newest))


def as_newest(reply: bytes) -> bytes:
    """Convert a reply to TS.RANGE with at most one sample for each series to the reply to TS.GET."""
    head, mark, body = reply.partition(b"\r\n*")
    count, _, body = body.partition(b"\r\n")
    return head + mark + count + b"\r\n" + body.replace(b"*1\r\n*2\r\n", b"*2\r\n")


newest_replies = st.lists(st.none() | st.lists(st.tuples(stamps, texts), max_size=1), min_size=1, max_size=8)


@given(newest_replies, st.sampled_from([b",", b"+"]))
def test_newest_samples_are_the_same_as_ranges_of_one_sample(series, mark):
    reply = reply_of(series, mark)
    found, wanted = parse_ranges(as_newest(reply), len(series), newest=True), parse_ranges(reply, len(series))
    for one, two in zip(astuple(found), astuple(wanted), strict=True):
        np.testing.assert_array_equal(one, two)


@settings(max_examples=300)
@given(newest_replies, st.data())
def test_a_corrupted_reply_with_the_newest_is_refused_or_read_as_hiredis_reads_it(series, data):
    reply = bytearray(as_newest(reply_of(series)))
    for _ in range(data.draw(st.integers(1, 3))):
        reply[data.draw(st.integers(0, len(reply) - 1))] = data.draw(st.sampled_from(b"0159*:,+-.\r\n eQ\x00\xff"))
    try:
        found = parse_ranges(reply, len(series), newest=True)
    except ReplyError:
        return
    if hiredis_refuses(reply):
        assert_float_reads_it(reply)
        return
    reader = hiredis.Reader()
    reader.feed(bytes(reply))
    *_, executed = [reader.gets() for _ in range(len(series) + 2)]
    assert [len(each) // 2 if isinstance(each, list) else MISSING for each in executed] == found.counts.tolist()
    samples = [sample for sample in executed if isinstance(sample, list) and sample]
    assert found.timestamps.tolist() == [stamp for stamp, _ in samples]
    np.testing.assert_array_equal(found.values, [float(value) for _, value in samples])


@given(newest_replies, st.data())
def test_newest_samples_that_are_too_short_or_too_long_are_refused(series, data):
    reply = as_newest(reply_of(series))
    for wrong in (reply[: data.draw(st.integers(0, len(reply) - 1))], reply + b"\n", reply + b"*0\r\n"):
        with pytest.raises(ReplyError):
            parse_ranges(wrong, len(series), newest=True)
