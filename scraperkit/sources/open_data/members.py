"""Read the lines of a zip of daily reports, which is not trusted."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from scraperkit.errors import FileRefused

MOST_MEMBERS = 64
MOST_UNZIPPED = 4_000_000_000  # the largest year has about 600 MB
HIGHEST_RATIO = 200  # the regulator's files shrink to a fifth or a tenth
BLOCK_BYTES = 1 << 24
LONGEST_LINE = 65_536
_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*<(!doctype|html|head|body|\?xml)", re.IGNORECASE | re.DOTALL
)


@contextmanager
def opened(path: Path, most: int = MOST_UNZIPPED) -> Iterator[zipfile.ZipFile]:
    """Open a zip file.

    Raises
    ------
    FileRefused
        If it is not a zip, is damaged, has a forbidden member, or would unpack to more than `most` bytes.
    """
    with _distrusted(path):
        archive = zipfile.ZipFile(path)
    with archive:
        _check(archive, most)
        yield archive


@contextmanager
def _distrusted(path: Path) -> Iterator[None]:
    """Refuse a file on any error in reading it: a zip from outside can make its reader raise anything."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        with path.open("rb") as file:
            start = file.read(LONGEST_LINE)
        why = str(error) or type(error).__name__
        what = "a web page instead of a zip" if _HTML.match(start) else f"not a zip, or damaged: {why}"
        raise FileRefused(what) from None


def _check(archive: zipfile.ZipFile, most: int) -> None:
    members = archive.infolist()
    if not members or len(members) > MOST_MEMBERS:
        raise FileRefused(f"the zip has {len(members)} members; expected 1 to {MOST_MEMBERS}")
    for member in members:
        if re.search(r"[/\\:\0]", member.filename) or member.filename.startswith("."):
            raise FileRefused(f"the zip has a member with a path: {member.filename[:80]!r}")
        if member.flag_bits & 1:
            raise FileRefused(f"the zip has an encrypted member: {member.filename[:80]!r}")
    size = sum(member.file_size for member in members)
    if size > most or any(each.file_size > HIGHEST_RATIO * max(each.compress_size, 512) for each in members):
        raise FileRefused(f"the zip would unpack to {size:,} bytes, which is not plausible")


def header_and_blocks(archive: zipfile.ZipFile, name: str) -> tuple[bytes, Iterator[bytes]]:
    """Return the first line of a member, and an iterator over the rest of it in blocks of whole lines."""
    path = Path(str(archive.filename))
    with _distrusted(path):
        file = archive.open(name)
        header = file.readline(LONGEST_LINE)
    return header, _blocks(file, path)


def whole_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a member, unpacked."""
    with _distrusted(Path(str(archive.filename))):
        return archive.read(name)


def _blocks(file: IO[bytes], path: Path) -> Iterator[bytes]:
    rest = b""
    with file:
        while more := _read(file, path):
            whole, line_feed, tail = more.rpartition(b"\n")
            if line_feed:
                yield b"".join((rest, whole, line_feed))
                rest = tail
            else:
                rest += more
                if len(rest) > BLOCK_BYTES:
                    raise FileRefused(f"it has a line of more than {BLOCK_BYTES:,} bytes")
    if rest:
        yield rest + b"\n"


def _read(file: IO[bytes], path: Path) -> bytes:
    with _distrusted(path):
        return file.read(BLOCK_BYTES)


def texts_of(blocks: Iterable[bytes], lines: Collection[int]) -> dict[int, str]:
    r"""Return the text of some lines of a member, by number; the header is line 1.

    Examples
    --------
    >>> texts_of([b"a\r\nb\r\n", b"c\n"], {3, 4})
    {3: 'b', 4: 'c'}
    """
    wanted = sorted(set(lines), reverse=True)
    texts: dict[int, str] = {}
    if not wanted:
        return texts
    first = 2
    for block in blocks:
        following = first + block.count(b"\n")
        if wanted[-1] < following:
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
            while wanted and wanted[-1] < following:
                place = wanted.pop()
                start = ends[place - first - 1] + 1 if place > first else 0
                texts[place] = block[start : ends[place - first]].decode("latin-1").rstrip("\r")
        if not wanted:
            break
        first = following
    return texts
