"""Look into a zip of daily reports with distrust, and hand out its lines."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from scraperkit.errors import FileRefused

MOST_MEMBERS = 64
MOST_UNZIPPED = 4_000_000_000  # unzipped; the largest year has about 600 MB
HIGHEST_RATIO = 200  # the regulator's files shrink to a fifth or a tenth
BLOCK_BYTES = 1 << 24
LONGEST_LINE = 65_536
_HTML = re.compile(rb"\s*<(!doctype|html|head|body|\?xml)", re.IGNORECASE)


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file.

    Raises
    ------
    FileRefused
        If it is none, is damaged, holds what it should not, or would unpack to more than is plausible; also for what
        comes to light while its members are read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive)
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        with path.open("rb") as file:
            start = file.read(LONGEST_LINE)
        what = "a web page instead of a zip" if _HTML.match(start) else f"not a zip, or damaged: {error}"
        raise FileRefused(what) from None


def _check(archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    if not members or len(members) > MOST_MEMBERS:
        raise FileRefused(f"the zip has {len(members)} members; expected 1 to {MOST_MEMBERS}")
    for member in members:
        if re.search(r"[/\\:\0]", member.filename) or member.filename.startswith("."):
            raise FileRefused(f"the zip has a member with a path: {member.filename[:80]!r}")
        if member.flag_bits & 1:
            raise FileRefused(f"the zip has an encrypted member: {member.filename[:80]!r}")
    size = sum(member.file_size for member in members)
    if size > MOST_UNZIPPED or any(each.file_size > HIGHEST_RATIO * max(each.compress_size, 512) for each in members):
        raise FileRefused(f"the zip would unpack to {size:,} bytes, which is not plausible")


def header_and_blocks(archive: zipfile.ZipFile, name: str) -> tuple[bytes, Iterator[bytes]]:
    """Return the first line of a member, and an iterator over the rest of it in blocks of whole lines."""
    file = archive.open(name)
    header = file.readline(LONGEST_LINE)
    return header, _blocks(file)


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    with file:
        while more := file.read(BLOCK_BYTES):
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


def texts_of(blocks: Iterable[bytes], lines: Collection[int]) -> dict[int, str]:
    r"""Return the text of some lines of a member, by their numbers; the header, line 1, is none of them.

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
