"""The layouts of the daily reports, recognised by each file's header, and the schema of the archive."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from scraperkit.errors import FileRefused
from scraperkit.models import METRICS

_FIGURE_COLUMNS = {
    "VL_TOTAL": "portfolio",
    "VL_QUOTA": "quota",
    "VL_PATRIM_LIQ": "net_worth",
    "CAPTC_DIA": "inflow",
    "RESG_DIA": "outflow",
    "NR_COTST": "holders",
}
_NAMES = {
    "TP_FUNDO": "kind",
    "TP_FUNDO_CLASSE": "kind",
    "CNPJ_FUNDO": "cnpj",
    "CNPJ_FUNDO_CLASSE": "cnpj",
    "ID_SUBCLASSE": "subclass",
    "DT_COMPTC": "date",
    **_FIGURE_COLUMNS,
}
_A = ("CNPJ_FUNDO", "DT_COMPTC", *_FIGURE_COLUMNS)
_HEADERS = {
    "A": _A,
    "B": ("TP_FUNDO", *_A),
    "C": ("TP_FUNDO_CLASSE", "CNPJ_FUNDO_CLASSE", "ID_SUBCLASSE", "DT_COMPTC", *_FIGURE_COLUMNS),
}

TEXTS = ("cnpj", "subclass", "kind", "flag")
SCHEMA = pa.schema(
    [
        ("cnpj", pa.string()),
        ("subclass", pa.string()),
        ("date", pa.timestamp("ms")),
        *((metric, pa.int64() if metric == "holders" else pa.float64()) for metric in METRICS),
        ("kind", pa.string()),
        ("flag", pa.string()),
        ("seen_at", pa.timestamp("us", "UTC")),
    ]
)


class Layout(NamedTuple):
    """A layout of the daily reports, with the archive's names for its columns."""

    name: str
    columns: tuple[str, ...]


LAYOUTS = tuple(Layout(name, tuple(_NAMES[column] for column in header)) for name, header in _HEADERS.items())
_BY_HEADER = dict(zip(_HEADERS.values(), LAYOUTS, strict=True))
_LONGEST_SHOWN = 120


def layout_of(header: bytes) -> Layout:
    r"""Return the layout that the first line of a file names.

    Raises
    ------
    FileRefused
        If it is unknown.

    Examples
    --------
    >>> layout_of(b"CNPJ_FUNDO;DT_COMPTC;VL_TOTAL;VL_QUOTA;VL_PATRIM_LIQ;CAPTC_DIA;RESG_DIA;NR_COTST\r\n").name
    'A'
    """
    text = header.removeprefix(b"\xef\xbb\xbf").decode("latin-1").strip()
    layout = _BY_HEADER.get(tuple(text.split(";")))
    if layout is None:
        raise FileRefused(f"unknown header {text[:_LONGEST_SHOWN]!r}; the known layouts are {', '.join(_HEADERS)}")
    return layout
