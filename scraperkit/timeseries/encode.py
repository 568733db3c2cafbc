"""Encode samples as the bytes of ``TS.MADD`` commands; nothing here talks to a server or needs pandas.

redis-py encodes each word of a command by itself, which costs more than the server needs to store the sample. Here all
words of many samples are made at once.
"""

from __future__ import annotations

import array
from collections.abc import Iterable, Sequence

from pydantic_core import to_json

SAMPLES_PER_COMMAND = 1_000
_HEAD = b"$7\r\nTS.MADD"
_LENGTHS = [b"$%d" % length for length in range(32)]  # no float needs more than 24 characters


def word(text: bytes) -> bytes:
    r"""Return one word of a command, without its last line break.

    Examples
    --------
    >>> word(b"quota")
    b'$5\r\nquota'
    """
    return b"$%d\r\n%b" % (len(text), text)


def pack(command: Sequence[str | int]) -> bytes:
    r"""Return a whole command as redis-py would send it.

    Examples
    --------
    >>> pack(("TS.DEL", "quota", 0, 86400000))
    b'*4\r\n$6\r\nTS.DEL\r\n$5\r\nquota\r\n$1\r\n0\r\n$8\r\n86400000\r\n'
    """
    words = (word(str(part).encode()) for part in command)
    return b"\r\n".join([b"*%d" % len(command), *words, b""])


def unpack(command: bytes) -> list[str]:
    """Return the words of a packed command; no word may hold a line break.

    Examples
    --------
    >>> unpack(pack(("TS.DEL", "quota", 0, 86400000)))
    ['TS.DEL', 'quota', '0', '86400000']
    """
    return command.decode().split("\r\n")[2::2]


def float_texts(values: Sequence[float]) -> list[bytes]:
    """Return for each finite number the shortest text that reads back as the same ``float64``.

    Raises
    ------
    TypeError
        If one is not a number.
    OverflowError, ValueError
        If one is an integer beyond every float, infinite, or NaN.

    Examples
    --------
    >>> float_texts([1.25, 7, 1e300])
    [b'1.25', b'7.0', b'1e+300']
    """
    # The array turns everything into floats, or raises; to_json formats them in Rust, in a tenth of the time of repr.
    text = to_json(array.array("d", values).tolist())[1:-1]
    if b"N" in text or b"I" in text:
        raise ValueError("NaN and infinite values cannot be stored")
    return text.split(b",") if text else []


def sample_lines(keys: Iterable[bytes], stamps: Iterable[bytes], values: Sequence[float]) -> list[bytes]:
    r"""Return the lines of the words that write samples, four for each: name, time, and two of the value.

    Parameters
    ----------
    keys, stamps : iterable of bytes
        For each sample, the name of its series and its time in milliseconds, both made by :func:`word`.
    values : sequence of float
        Finite numbers.

    Raises
    ------
    TypeError, OverflowError, ValueError
        If a value cannot be stored; see :func:`float_texts`.

    Examples
    --------
    >>> sample_lines([word(b"quota")], [word(b"86400000")], [1.5])
    [b'$5\r\nquota', b'$8\r\n86400000', b'$3', b'1.5']
    """
    texts = float_texts(values)
    lines = [b""] * (4 * len(texts))
    lines[0::4] = keys
    lines[1::4] = stamps
    lines[2::4] = map(_LENGTHS.__getitem__, map(len, texts))
    lines[3::4] = texts
    return lines


def cut_commands(lines: Sequence[bytes], ends: Iterable[int]) -> list[bytes]:
    r"""Return the ``TS.MADD`` that write the samples of :func:`sample_lines`, at most 1,000 each.

    Parameters
    ----------
    lines : sequence of bytes
    ends : iterable of int
        Sample numbers, ascending, at which a command must end; the last is the number of samples.

    Examples
    --------
    >>> cut_commands(sample_lines([word(b"quota")], [word(b"86400000")], [1.5]), [1])
    [b'*4\r\n$7\r\nTS.MADD\r\n$5\r\nquota\r\n$8\r\n86400000\r\n$3\r\n1.5\r\n']
    """
    commands, start = [], 0
    for end in ends:
        for at in range(start, end, SAMPLES_PER_COMMAND):
            count = min(end - at, SAMPLES_PER_COMMAND)
            head = (b"*%d" % (1 + 3 * count), _HEAD)
            commands.append(b"\r\n".join((*head, *lines[4 * at : 4 * (at + count)], b"")))
        start = end
    return commands
