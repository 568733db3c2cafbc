"""Daily reports for tests: lines to zips, and an archive that a replica's portal fills."""

from __future__ import annotations

import datetime as dt
import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from scraperkit.models import Month
from scraperkit.sources.open_data.folder import Folder
from scraperkit.sources.open_data.importing import Imported, import_zip

HEADERS = {
    "A": "CNPJ_FUNDO;DT_COMPTC;VL_TOTAL;VL_QUOTA;VL_PATRIM_LIQ;CAPTC_DIA;RESG_DIA;NR_COTST",
    "B": "TP_FUNDO;CNPJ_FUNDO;DT_COMPTC;VL_TOTAL;VL_QUOTA;VL_PATRIM_LIQ;CAPTC_DIA;RESG_DIA;NR_COTST",
    "C": "TP_FUNDO_CLASSE;CNPJ_FUNDO_CLASSE;ID_SUBCLASSE;DT_COMPTC;VL_TOTAL;VL_QUOTA;VL_PATRIM_LIQ;CAPTC_DIA;RESG_DIA;"
    "NR_COTST",
}
CNPJ, OTHER = "00.017.024/0001-53", "00.068.305/0001-35"


def line(
    cnpj: str = CNPJ,
    day: str = "2026-08-03",
    quota: str = "1.500000000000",
    net_worth: str = "1000.00",
    holders: str = "7",
    *,
    kind: str = "CLASSES - FIF",
    subclass: str = "",
) -> str:
    """Return a line in layout C."""
    return f"{kind};{cnpj};{subclass};{day};1001.00;{quota};{net_worth};0.00;0.00;{holders}"


def text_of(lines: Iterable[str], layout: str = "C") -> bytes:
    """Return a file with its header, as the portal writes it."""
    return "".join(f"{each}\r\n" for each in (HEADERS[layout], *lines)).encode("latin-1")


def zip_of(members: Mapping[str, bytes]) -> bytes:
    """Return a zip of these members."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def month_zip(lines: Iterable[str], layout: str = "C", month: str = "202608") -> bytes:
    """Return the zip of a month."""
    return zip_of({f"inf_diario_fi_{month}.csv": text_of(lines, layout)})


def bring_in(
    folder: Folder, content: bytes, first: str = "2026-08", last: str = "", seen_at: dt.datetime | None = None
) -> Imported:
    """Import a zip into an archive, as a download does."""
    path = Path(f"{folder.path}.zip")
    path.write_bytes(content)
    period = (Month.parse_iso(first), Month.parse_iso(last or first))
    with folder.writing("file") as stage:
        return import_zip(folder, stage, path, "file.zip", period, seen_at or dt.datetime.now(dt.UTC))
