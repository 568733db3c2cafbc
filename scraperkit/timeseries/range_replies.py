r"""Read the replies to many ``TS.RANGE`` commands as arrays, without a Python object for each sample.

The commands travel in one transaction, so that the server answers as of one moment (`RESP
<https://redis.io/docs/latest/develop/reference/protocol-spec/>`_, version 3 or 2)::

    +OK\r\n
    +QUEUED\r\n               for each series
    *<series>\r\n
    *<samples>\r\n            for each series, followed by that many times
    *2\r\n:<milliseconds>\r\n,<value>\r\n

A series that does not exist has an error in place of its samples. A value is ``+<value>`` in version 2. Whatever looks
different raises ``ReplyError``, and redis-py reads it instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scraperkit.timeseries.commands import pack, word

Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Values = npt.NDArray[np.float64]

MISSING = -1
_SAMPLES = re.compile(rb"\*([0-9]{1,9})\r\n")
_NOT_A_SERIES = re.compile(rb"-(?:ERR TSDB|WRONGTYPE|ERR WRONGTYPE)[^\r\n]*\r\n")
_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|nan")
_LINE_END, _POINT, _MINUS, _COMMA, _PLUS, _RETURN = b"\n.-,+\r"
_SAMPLE_START = np.uint64(int.from_bytes(b"*2\r\n:", "little"))
_FIVE_BYTES = np.uint64(2**40 - 1)
_MOST_EXACT = np.uint64(2**53)  # a float64 holds every integer up to here
_TENS = np.array([10**power for power in range(17)], dtype=np.uint64)


class ReplyError(Exception):
    """A reply that does not look as this module expects."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """The samples of several series, one series after another.

    Attributes
    ----------
    counts : numpy.ndarray
        For each series its number of samples, or ``MISSING``.
    timestamps : numpy.ndarray
        Milliseconds since 1970.
    values : numpy.ndarray
    """

    counts: Numbers
    timestamps: Numbers
    values: Values


def range_commands(series: Sequence[str], first: int, last: int) -> bytes:
    """Return the packed commands that read series from one timestamp to another, both included."""
    return _transaction(series, ("TS.RANGE", "", first, last))


def newest_commands(series: Sequence[str]) -> bytes:
    """Return the packed commands that read the newest sample of each series; their reply has the same shape."""
    return _transaction(series, ("TS.REVRANGE", "", "-", "+", "COUNT", 1))


def _transaction(series: Sequence[str], command: Sequence[str | int]) -> bytes:
    before, _, after = pack(command).partition(b"$0\r\n")
    reads = (b"%b%b%b" % (before, word(name.encode()), after) for name in series)
    return b"".join([pack(("MULTI",)), *reads, pack(("EXEC",))])


def parse_ranges(reply: bytes | bytearray, series: int) -> Ranges:
    r"""Return the samples in the reply to :func:`range_commands`.

    Parameters
    ----------
    reply : bytes or bytearray
        The whole reply, and nothing after it.
    series : int
        How many series were asked for.

    Raises
    ------
    ReplyError
        If the reply has another shape, ends early, or holds another error than that a series does not exist.

    Examples
    --------
    >>> reply = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n*1\r\n*2\r\n:86400000\r\n,1.5\r\n-ERR TSDB: no such key\r\n"
    >>> parse_ranges(reply, 2)
    Ranges(counts=array([ 1, -1]), timestamps=array([86400000]), values=array([1.5]))
    """
    text = np.frombuffer(reply, dtype=np.uint8)
    ends = np.flatnonzero(text == _LINE_END)
    firsts, counts = _find_series(reply, ends, series)
    present = np.maximum(counts, 0)
    total = int(present.sum())
    if not total:
        return Ranges(counts, np.empty(0, dtype=np.int64), np.empty(0))
    # The number of each sample's first line, of three.
    line = np.repeat(firsts - 3 * (np.cumsum(present) - present), present) + 3 * np.arange(total)
    start, stamp_end, value_end = ends[line - 1] + 1, ends[line + 1] - 1, ends[line + 2] - 1
    stamp_start, value_start = start + 5, stamp_end + 3
    # Eight bytes from any place, as one number.
    words = np.ndarray((text.size - 7,), dtype="<u8", buffer=reply, strides=(1,))
    marks = text[stamp_end + 2]
    if not (
        start[-1] < words.size
        and np.all(words[start] & _FIVE_BYTES == _SAMPLE_START)
        and np.all((marks == _COMMA) | (marks == _PLUS))
        and np.all(text[stamp_end] == _RETURN)
        and np.all(text[value_end] == _RETURN)
    ):
        raise ReplyError("a sample is not a timestamp and a value")
    timestamps, is_plain = _integers(words, stamp_start, stamp_end)
    if not is_plain.all():
        raise ReplyError("a timestamp is not a number")
    return Ranges(counts, timestamps.astype(np.int64), _values(reply, text, words, value_start, value_end))


def _find_series(reply: bytes | bytearray, ends: Numbers, series: int) -> tuple[Numbers, Numbers]:
    """Return for each series the line number of its first sample, and its number of samples."""
    head = b"".join([b"+OK\r\n", b"+QUEUED\r\n" * series, b"*%d\r\n" % series])
    if not reply.startswith(head):
        raise ReplyError(f"the reply begins with {bytes(reply[:60])!r}")
    firsts, counts = [], []
    at, line = len(head), series + 2
    try:
        for _ in range(series):
            end = ends[line]
            text = bytes(reply[at : end + 1])
            line += 1
            firsts.append(line)
            if (match := _SAMPLES.fullmatch(text)) is not None:
                counts.append(int(match[1]))
                line += 3 * counts[-1]
            elif _NOT_A_SERIES.fullmatch(text):
                counts.append(MISSING)
            else:
                raise ReplyError(f"a series begins with {text[:60]!r}")
            at = int(ends[line - 1]) + 1
    except IndexError:
        raise ReplyError("the reply ends early") from None
    if at != len(reply):
        raise ReplyError("the reply goes on after its end")
    return np.array(firsts, dtype=np.int64), np.array(counts, dtype=np.int64)


def _values(
    reply: bytes | bytearray, text: npt.NDArray[np.uint8], words: Words, starts: Numbers, ends: Numbers
) -> Values:
    """Return decimal numbers as floats, rounded as ``float`` rounds them.

    A number such as -12.25 is read as 1225 / 100. Both are exact if they are small enough, and then so is the rounding
    of their quotient (Clinger 1990). ``float`` itself reads the others: with an exponent, or more than 15 or 16 digits.
    """
    is_negative = text[starts] == _MINUS
    firsts = starts + is_negative
    points = np.append(np.flatnonzero(text == _POINT), text.size)
    point = np.minimum(points[np.searchsorted(points, starts)], ends)
    whole, whole_is_plain = _integers(words, firsts, point)
    after = np.minimum(point + 1, ends)
    decimals = ends - after
    part, part_is_plain = _integers(words, after, ends, may_be_empty=True)
    is_plain = whole_is_plain & part_is_plain & (point - firsts + decimals <= 18)
    scale = _TENS[np.where(is_plain, decimals, 0)]
    digits = whole * scale + part
    is_plain &= digits <= _MOST_EXACT
    values = digits.astype(np.float64) / scale.astype(np.float64)
    np.negative(values, out=values, where=is_negative)
    for place in np.flatnonzero(~is_plain).tolist():
        number = bytes(reply[starts[place] : ends[place]])
        # float itself would take spaces and underscores, too, and make infinity of too large an exponent.
        if _NUMBER.fullmatch(number) is None or math.isinf(float(number)):
            raise ReplyError(f"not a number: {number[:60]!r}")
        values[place] = float(number)
    return values


def _integers(
    words: Words, starts: Numbers, ends: Numbers, may_be_empty: bool = False
) -> tuple[Words, npt.NDArray[np.bool_]]:
    """Return the integers in a text, and which of them are at most 16 digits and nothing else."""
    lengths = ends - starts
    numbers, is_plain = _eight_digits(words[ends - 8], np.minimum(lengths, 8))
    if lengths.max() > 8:
        high, high_is_plain = _eight_digits(words[ends - 16], np.clip(lengths - 8, 0, 8))
        numbers += np.uint64(100_000_000) * high
        is_plain &= high_is_plain & (lengths <= 16)
    return numbers, is_plain if may_be_empty else is_plain & (lengths > 0)


def _eight_digits(words: Words, lengths: Numbers) -> tuple[Words, npt.NDArray[np.bool_]]:
    """Return what the last `lengths` of eight characters come to, and whether they are digits.

    The characters of a word are added up in pairs, fours and eights at once; see D. Lemire, "Quickly parsing eight
    digits" (2018). The first character is the lowest byte.
    """
    blank = ((8 - lengths) * 8).astype(np.uint64)
    digits = ((words ^ np.uint64(0x3030303030303030)) >> blank) << blank
    is_plain = ((digits + np.uint64(0x7676767676767676)) | digits) & np.uint64(0x8080808080808080) == 0
    pairs = digits * np.uint64(10) + (digits >> np.uint64(8))
    mask = np.uint64(0x000000FF000000FF)
    low = (pairs & mask) * np.uint64(0x000F424000000064)
    high = ((pairs >> np.uint64(16)) & mask) * np.uint64(0x0000271000000001)
    return (low + high) >> np.uint64(32), is_plain
