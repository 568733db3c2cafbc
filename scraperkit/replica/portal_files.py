"""The portal's daily reports as bytes: each layout, and the zips."""

from __future__ import annotations

import datetime as dt
import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

from scraperkit.replica.open_data import DailyRow

_FIGURE_NAMES = "VL_TOTAL;VL_QUOTA;VL_PATRIM_LIQ;CAPTC_DIA;RESG_DIA;NR_COTST"
FIRST_SPLIT_YEAR, FIRST_MONTHLY_YEAR = 2005, 2021


class ReportLayout(Enum):
    """The columns of a daily report; a file has the layout of the day on which it was written.

    Examples
    --------
    >>> ReportLayout.written_on(dt.date(2024, 4, 10)).name, ReportLayout.written_on(dt.date(2024, 7, 7)).name
    ('B', 'C')
    """

    A = f"CNPJ_FUNDO;DT_COMPTC;{_FIGURE_NAMES}"
    B = f"TP_FUNDO;CNPJ_FUNDO;DT_COMPTC;{_FIGURE_NAMES}"
    C = f"TP_FUNDO_CLASSE;CNPJ_FUNDO_CLASSE;ID_SUBCLASSE;DT_COMPTC;{_FIGURE_NAMES}"

    @classmethod
    def written_on(cls, day: dt.date) -> ReportLayout:
        """Return the layout of files written on a day."""
        if day < dt.date(2021, 2, 1):
            return cls.A
        return cls.B if day < dt.date(2024, 6, 1) else cls.C


def render_report(rows: Iterable[DailyRow], layout: ReportLayout) -> bytes:
    """Render a daily report: Latin-1, CRLF, semicolons, no quoting.

    Layouts A and B have no column for subclasses, so they omit rows of subclasses.
    """
    if layout is ReportLayout.C:
        lines = [";".join(row) for row in rows]
    else:
        first = 1 if layout is ReportLayout.A else 0
        lines = [";".join((row.kind, row.cnpj, *row[3:])[first:]) for row in rows if not row.subclass]
    return as_csv(layout.value, lines)


def as_csv(header: str, lines: Iterable[str]) -> bytes:
    """Return a header and lines in Latin-1, with CRLF."""
    return "".join(f"{line}\r\n" for line in (header, *lines)).encode("iso-8859-1")


def zipped(members: Mapping[str, bytes], written: dt.datetime) -> bytes:
    """Return a zip of named members; equal arguments give equal bytes."""
    buffer = io.BytesIO()
    stamp = (written.year, written.month, written.day, written.hour, written.minute, written.second)
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, stamp)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content, compresslevel=6)
    return buffer.getvalue()


def daily_members(name: str, months: Mapping[str, Sequence[DailyRow]], layout: ReportLayout) -> dict[str, bytes]:
    """Return the members of one daily zip: one CSV for a year before 2005, else a CSV for each month.

    Parameters
    ----------
    name : str
        The zip's name without its folder, as ``inf_diario_fi_2004.zip``.
    months : mapping of str to sequence of DailyRow
        The zip's rows, by month (``YYYY-MM``).
    layout : ReportLayout
        The columns.
    """
    stem = name.removesuffix(".zip")
    prefix, _, period = stem.rpartition("_")
    if len(period) == 4 and int(period) < FIRST_SPLIT_YEAR:
        every = sorted((row for rows in months.values() for row in rows), key=lambda row: (row.cnpj, row.date))
        return {f"{stem}.csv": render_report(every, layout)}
    return {f"{prefix}_{month.replace('-', '')}.csv": render_report(rows, layout) for month, rows in months.items()}
