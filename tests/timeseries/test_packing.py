"""Packed commands are the bytes that redis-py would send, and numbers read back to the last bit."""

from __future__ import annotations

import math

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraperkit.timeseries.commands import cut_commands, float_texts, pack, sample_lines, unpack, word

finite = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63)
samples = st.lists(st.tuples(st.text(min_size=1), st.integers(0, 10**13), finite), min_size=1)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.integers(), min_size=1))
def test_a_packed_command_is_what_hiredis_packs(command):
    assert pack(command) == hiredis.pack_command(tuple(command))


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), min_size=1))
def test_unpacking_undoes_packing(command):
    assert unpack(pack(command)) == command


@given(st.lists(finite))
def test_numbers_read_back_to_the_last_bit(values):
    assert [float(text).hex() for text in float_texts(values)] == [float(value).hex() for value in values]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_number_needs_more_than_24_characters(value):
    assert len(float_texts([value])[0]) <= 24


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, "1.5", None, b"1"])
def test_what_is_not_a_finite_number_is_refused(value):
    with pytest.raises((TypeError, OverflowError, ValueError)):
        float_texts([1.0, value])


@given(samples)
def test_samples_are_packed_as_hiredis_packs_them(samples):
    names, stamps, values = zip(*samples, strict=True)
    keys = [word(name.encode()) for name in names]
    lines = sample_lines(keys, [word(b"%d" % stamp) for stamp in stamps], values)
    (command,) = cut_commands(lines, [len(samples)])
    texts = [text.decode() for text in float_texts(values)]
    words = [part for sample in zip(names, stamps, texts, strict=True) for part in sample]
    assert command == hiredis.pack_command(("TS.MADD", *words))


@given(st.integers(0, 3_000), st.integers(0, 3_000))
def test_commands_end_at_the_given_places_and_after_1000_samples(first, second):
    count = first + second
    lines = sample_lines([word(b"a")] * first + [word(b"b")] * second, [word(b"0")] * count, [1.0] * count)
    words = [unpack(command) for command in cut_commands(lines, [first, count])]
    assert all(len(each) <= 3_001 and len(set(each[1::3])) == 1 for each in words)
    assert [name for each in words for name in each[1::3]] == ["a"] * first + ["b"] * second
