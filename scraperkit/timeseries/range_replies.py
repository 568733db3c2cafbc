r"""Read the replies to many ``TS.RANGE`` or ``TS.GET`` commands as arrays, without a Python object for each sample.

The commands travel in one transaction, so that the server responds as of one moment (`RESP
<https://redis.io/docs/latest/develop/reference/protocol-spec/>`_, version 3 or 2)::

    +OK\r\n
    +QUEUED\r\n               for each series
    *<series>\r\n
    *<samples>\r\n            for each series, followed by that many times
    *2\r\n:<milliseconds>\r\n,<value>\r\n

``TS.GET`` returns the sample alone, or with ``*0`` if there is none. A series that does not exist has an error in
place of its samples. A value is ``+<value>`` in version 2. Any other reply raises ``ReplyError``, and redis-py reads it
instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scraperkit.keys import Keys
from scraperkit.timeseries.commands import Command, for_series, pack

Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Values = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

MISSING = -1
_NOT_A_SERIES = re.compile(rb"-(?:ERR TSDB|WRONGTYPE|ERR WRONGTYPE)[^\r\n]*\r\n")
_VALUE = re.compile(rb"-?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|nan")
_LINE_END, _MINUS, _COMMA, _PLUS, _RETURN, _STAR, _COLON, _ZERO = b"\n-,+\r*:0"
_SAMPLE_START = np.uint64(int.from_bytes(b"*2\r\n:", "little"))
_FIVE_BYTES = np.uint64(2**40 - 1)
_MOST_EXACT = np.uint64(2**53)  # a float64 holds every integer up to here
_TENS = np.array([10.0**power for power in range(16)])
_LOWEST_BITS, _HIGHEST_BITS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_ASCII_ZEROS, _POINTS = np.uint64(_ZERO) * _LOWEST_BITS, np.uint64(ord(".") ^ _ZERO) * _LOWEST_BITS


class ReplyError(Exception):
    """A reply in a format that this module does not expect."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """The samples of several series, one series after another.

    Attributes
    ----------
    counts : numpy.ndarray
        The number of samples of each series, or ``MISSING``.
    timestamps : numpy.ndarray
        Milliseconds since 1970.
    values : numpy.ndarray
    """

    counts: Numbers
    timestamps: Numbers
    values: Values


def range_commands(keys: Keys, series: Sequence[str], metrics: Sequence[str], first: int, last: int) -> bytes:
    """Return the packed commands that read each metric of these series from one timestamp to another, both included."""
    return _transaction(
        series, lambda name: [("TS.RANGE", keys.series(name, metric), first, last) for metric in metrics]
    )


def newest_commands(keys: Keys, series: Sequence[str], metrics: Sequence[str]) -> bytes:
    """Return the packed commands that read the newest sample of each metric, at a third of the cost of a range."""
    return _transaction(series, lambda name: [("TS.GET", keys.series(name, metric)) for metric in metrics])


def _transaction(series: Sequence[str], commands: Callable[[str], Iterable[Command]]) -> bytes:
    reads = for_series(lambda name: b"".join(map(pack, commands(name))), series)
    return b"".join([pack(("MULTI",)), *reads, pack(("EXEC",))])


def parse_ranges(reply: bytes | bytearray, series: int, newest: bool = False) -> Ranges:
    r"""Return the samples in the reply to :func:`range_commands`, or to :func:`newest_commands`.

    Parameters
    ----------
    reply : bytes or bytearray
        The whole reply, and nothing after it.
    series : int
        How many series were requested.
    newest : bool
        Whether only the newest sample of each was requested.

    Raises
    ------
    ReplyError
        If the reply has another shape, ends early, or holds an error other than a missing series.

    Examples
    --------
    >>> reply = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n*1\r\n*2\r\n:86400000\r\n,1.5\r\n-ERR TSDB: no such key\r\n"
    >>> parse_ranges(reply, 2)
    Ranges(counts=array([ 1, -1]), timestamps=array([86400000]), values=array([1.5]))
    """
    head = b"".join([b"+OK\r\n", b"+QUEUED\r\n" * series, b"*%d\r\n" % series])
    if not reply.startswith(head):
        line = bytes(reply[:200]).partition(b"\r\n")[0]
        raise ReplyError(f"the reply begins with {line.decode(errors='replace')!r}")
    if not reply.endswith(b"\r\n"):
        raise ReplyError("the reply ends early")
    text = np.frombuffer(reply, dtype=np.uint8)
    # Eight bytes from any place, as one number.
    words = np.ndarray((text.size - 7,), dtype="<u8", buffer=reply, strides=(1,))
    ends = np.flatnonzero(text == _LINE_END)[series + 1 :]
    kinds = text[ends[:-1] + 1]
    is_sample = kinds == _STAR
    is_sample[:-1] &= kinds[1:] == _COLON
    is_sample[-1:] = False
    first = np.flatnonzero(is_sample)
    counts = _count_samples(reply, text, words, ends, kinds, is_sample, series, newest)
    if not first.size:
        return Ranges(counts, np.empty(0, dtype=np.int64), np.empty(0))
    start, stamp_end, value_end = ends[first] + 1, ends[first + 2] - 1, ends[first + 3] - 1
    marks = text[stamp_end + 2]
    if not (
        start[-1] < words.size
        and np.all(words[start] & _FIVE_BYTES == _SAMPLE_START)
        and np.all((marks == _COMMA) | (marks == _PLUS))
        and np.all(text[stamp_end] == _RETURN)
        and np.all(text[value_end] == _RETURN)
    ):
        raise ReplyError("a sample is not a timestamp and a value")
    timestamps, is_plain = _integers(words, start + 5, stamp_end)
    if not is_plain.all():
        raise ReplyError("a timestamp is not a number")
    return Ranges(counts, timestamps.astype(np.int64), _values(reply, text, words, stamp_end + 3, value_end))


def _count_samples(
    reply: bytes | bytearray,
    text: Bytes,
    words: Words,
    ends: Numbers,
    kinds: Bytes,
    is_sample: Flags,
    series: int,
    newest: bool,
) -> Numbers:
    """Return the number of samples that each series announces, and check it.

    Parameters
    ----------
    ends, kinds, is_sample : numpy.ndarray
        For each line, where the line before it ends, its first character, and whether it begins a sample.
    """
    is_error = kinds == _MINUS
    is_head = is_error | (kinds == _STAR if newest else (kinds == _STAR) & ~is_sample)
    heads = np.flatnonzero(is_head)
    if heads.size != series:
        raise ReplyError(f"{heads.size} series instead of {series}")
    if not series:
        if kinds.size:
            raise ReplyError("the reply has bytes after its end")
        return np.empty(0, dtype=np.int64)
    begin, end = ends[heads] + 1, ends[heads + 1] - 1
    is_missing = is_error[heads]
    for place in np.flatnonzero(is_missing).tolist():
        line = bytes(reply[begin[place] : end[place] + 2])
        if not _NOT_A_SERIES.fullmatch(line):
            raise ReplyError(f"a series begins with {line[:60]!r}")
    numbers, is_plain = _integers(words, begin + 1, end)
    if not np.all(is_missing | (is_plain & (text[end] == _RETURN))):
        raise ReplyError("a series does not begin with its number of samples")
    counts = np.where(is_missing, 0, numbers.astype(np.int64))
    if newest:  # a sample is an array of two without an outer array
        counts //= 2
        lines = np.where(is_sample[heads], 3, 1)
    else:
        lines = 1 + 3 * counts
    until = np.cumsum(lines)
    is_filled = counts.sum() == np.count_nonzero(is_sample)
    if not is_filled or heads[0] or until[-1] != kinds.size or not np.all(heads[1:] == until[:-1]):
        raise ReplyError("a series does not have the number of samples that it announces")
    return np.where(is_missing, MISSING, counts)


def _values(reply: bytes | bytearray, text: Bytes, words: Words, starts: Numbers, ends: Numbers) -> Values:
    """Return decimal numbers as floats, rounded as ``float`` rounds them.

    A number such as -12.25 is read as 1225 / 100. If both are small enough, they are exact, and their quotient is
    rounded correctly (Clinger 1990). ``float`` reads numbers with an exponent or more than 16 characters.
    """
    is_negative = text[starts] == _MINUS
    firsts = starts + is_negative
    lengths = ends - firsts
    # The last 16 characters as two words, later characters in higher bytes; the point is then shifted out.
    low = _blanked(words[ends - 8], np.minimum(lengths, 8))
    high = _blanked(words[ends - 16], np.minimum(np.maximum(lengths - 8, 0), 8))
    low_point = _point(low)
    high_point = _point(high)
    high_point[low_point != 0] = 0
    low_shift = (low_point != 0) * np.uint64(8)
    high_shift = np.maximum(low_shift, (high_point != 0) * np.uint64(8))
    carried = (high >> np.uint64(56)) * (low_point != 0)
    decimals = (np.bitwise_count(_after(low_point)) + np.bitwise_count(_after(high_point)) >> 3) + 8 * (high_point != 0)
    low, low_is_plain = _eight_digits(_without(low, low_point, low_shift) | carried)
    high, high_is_plain = _eight_digits(_without(high, high_point, high_shift))
    digits = np.uint64(100_000_000) * high + low
    is_plain = low_is_plain & high_is_plain & (text[firsts] - _ZERO < 10) & (lengths <= 16) & (digits <= _MOST_EXACT)
    values: Values = digits.astype(np.float64) / _TENS[decimals]
    np.negative(values, out=values, where=is_negative)
    for place in np.flatnonzero(~is_plain).tolist():
        number = bytes(reply[starts[place] : ends[place]])
        # float alone would accept spaces and underscores, and turn too large an exponent into infinity.
        if _VALUE.fullmatch(number) is None or math.isinf(value := float(number)):
            raise ReplyError(f"not a number: {number[:60]!r}")
        values[place] = value
    return values


def _point(digits: Words) -> Words:
    """Return the highest bit of the first byte that is a point, or 0."""
    found = digits ^ _POINTS
    found = (found - _LOWEST_BITS) & ~found & _HIGHEST_BITS
    return found & (np.uint64(0) - found)


def _after(point: Words) -> Words:
    """Return all bits of the bytes after a point; none if there is no point."""
    return np.uint64(0) - (point << np.uint64(1))


def _without(digits: Words, point: Words, shift: Words) -> Words:
    """Return digits with those before the point shifted over it."""
    return (digits & _after(point)) | ((digits & ((point >> np.uint64(7)) - np.uint64(1))) << shift)


def _integers(words: Words, starts: Numbers, ends: Numbers) -> tuple[Words, Flags]:
    """Return the integers in a text, and which of them consist of 1 to 16 digits."""
    lengths = ends - starts
    numbers, is_plain = _eight_digits(_blanked(words[ends - 8], np.minimum(lengths, 8)))
    if lengths.max() > 8:
        high, high_is_plain = _eight_digits(_blanked(words[ends - 16], np.minimum(np.maximum(lengths - 8, 0), 8)))
        numbers += np.uint64(100_000_000) * high
        is_plain &= high_is_plain & (lengths <= 16)
    return numbers, is_plain & (lengths > 0)


def _blanked(words: Words, lengths: Numbers) -> Words:
    """Return the last `lengths` of eight characters as digits, with zeros before them."""
    blank = ((8 - lengths) * 8).astype(np.uint64)
    return ((words ^ _ASCII_ZEROS) >> blank) << blank


def _eight_digits(digits: Words) -> tuple[Words, Flags]:
    """Return the value of eight digits, and whether all are digits.

    The characters of a word are added up in pairs, fours and eights at once; see D. Lemire, "Quickly parsing eight
    digits" (2018). The first character is the lowest byte.
    """
    is_plain = ((digits + np.uint64(0x7676767676767676)) | digits) & _HIGHEST_BITS == 0
    pairs = digits * np.uint64(10) + (digits >> np.uint64(8))
    mask = np.uint64(0x000000FF000000FF)
    low = (pairs & mask) * np.uint64(0x000F424000000064)
    high = ((pairs >> np.uint64(16)) & mask) * np.uint64(0x0000271000000001)
    return (low + high) >> np.uint64(32), is_plain
