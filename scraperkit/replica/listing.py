"""A folder listing in the format of nginx."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from html import escape
from urllib.parse import quote

from scraperkit.models import MONTH_NAMES

_NAME_WIDTH = 50


def render_listing(path: str, files: Iterable[tuple[str, dt.datetime, int]]) -> bytes:
    """Render a folder: subfolders first, then files, each with time and size.

    Parameters
    ----------
    path : str
        The requested folder.
    files : iterable of tuple of str, datetime.datetime and int
        Relative name, time of writing and size of every file below the folder; sizes in subfolders are not shown.
    """
    folders: dict[str, dt.datetime] = {}
    lines = []
    for name, written, size in files:
        folder, mark, _ = name.partition("/")
        if mark:
            folders[folder + mark] = max(written, folders.get(folder + mark, written))
        else:
            lines.append(_line(name, written, str(size)))
    above = [_line(name, written, "-") for name, written in sorted(folders.items())]
    title = f"Index of {escape(path)}"
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<h1>{title}</h1><hr><pre>"
        f'<a href="../">../</a>\r\n{"".join(above)}{"".join(sorted(lines))}</pre><hr></body>\r\n</html>\r\n'
    ).encode()


def _line(name: str, written: dt.datetime, size: str) -> str:
    shown = name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 3]}..>"
    when = f"{written:%d}-{MONTH_NAMES[written.month - 1]}-{written:%Y %H:%M}"
    gap = " " * (_NAME_WIDTH - len(shown) + 1)
    return f'<a href="{quote(name)}">{escape(shown)}</a>{gap}{when}{size:>20}\r\n'
