"""The Banco Central's time series (SGS) and B3's index statistics without a socket: responses, and faults on demand."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import math
import re
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

from scraperkit.errors import ConfigError
from scraperkit.models import brazilian_date, today
from scraperkit.replica.faults import ServerFaults
from scraperkit.replica.portal import PortalResponse
from scraperkit.replica.rate_figures import DAILY_SERIES, ENDS, IBOVESPA, MONTHLY_SERIES, Figures, figures

SGS_PATH, B3_PATH = "/dados/serie/", "/indexStatisticsProxy/IndexCall/"
LONGEST_YEARS, MOST_NEWEST = 10, 20
_SERIES_OF = {
    "cdi": "12", "selic": "11", "ipca": "433", "igpm": "189", "dollar": "1", "ibovespa": IBOVESPA,
}  # fmt: skip
_SGS = re.compile(r"bcdata\.sgs\.([0-9]{1,6})/dados(?:/ultimos/([0-9]{1,9}))?/?")
_PAGE = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>{0}</h1><p>{1}</p></body></html>"
_BUSY = _PAGE.format("Banco Central do Brasil", "Servi&ccedil;o temporariamente indispon&iacute;vel.").encode()
_JSON = {"Content-Type": "application/json;charset=UTF-8"}
_PAGE_TYPE = {"Content-Type": "text/html;charset=UTF-8"}


class RateServices(ServerFaults):
    """Both services, with faults on demand; threads may share it.

    Name a series as ``sk.rates`` does (``cdi``), or by its number in SGS.

    Attributes
    ----------
    today : datetime.date or None
        The newest day that has values; today in São Paulo if None.
    in_session : bool
        Whether the exchange is open: if so, the newest Ibovespa value is not final, and differs.
    latency : float
        Seconds before each response.

    Examples
    --------
    >>> services = RateServices()
    >>> asked = "?formato=json&dataInicial=03/01/2022&dataFinal=03/01/2022"
    >>> services.respond(SGS_PATH + "bcdata.sgs.12/dados" + asked).body
    b'[{"data":"03/01/2022","valor":"0.049206"}]'
    """

    bytes_per_second = math.inf

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._made: dict[tuple[str, dt.date], Figures] = {}
        self._changed: dict[str, dict[dt.date, str | None]] = {}
        self._ends = dict(ENDS)
        self._bodies: dict[str, bytes] = {}
        self._faults: list[PortalResponse] = []
        self._counts: Counter[str] = Counter()
        self.today: dt.date | None = None
        self.in_session = False

    # --- responses

    def respond(self, target: str, headers: Mapping[str, str] | None = None) -> PortalResponse:  # noqa: ARG002
        """Return the response to one request.

        Parameters
        ----------
        target : str
            Path and query.
        headers : mapping of str to str, optional
            Ignored.
        """
        path, _, query = target.partition("?")
        path = unquote(path)
        with self._lock:
            kind, response = self._respond(path, parse_qs(query))
            self._counts[kind] += 1
        return response

    def _respond(self, path: str, query: Mapping[str, list[str]]) -> tuple[str, PortalResponse]:
        known = path.startswith((SGS_PATH, B3_PATH))
        if self._outage_left() > 0:
            return "fault", PortalResponse(504, _PAGE_TYPE, _PAGE.format("504 Gateway Time-out", "").encode())
        if known and self._faults:
            return "fault", self._faults.pop(0)
        if path.startswith(SGS_PATH):
            return self._sgs(path.removeprefix(SGS_PATH), query)
        if path.startswith(B3_PATH + "GetPortfolioDay/"):
            return self._b3(path.rpartition("/")[2])
        return "missing", PortalResponse(404, _PAGE_TYPE, _PAGE.format("404 Not Found", "").encode())

    def _sgs(self, name: str, query: Mapping[str, list[str]]) -> tuple[str, PortalResponse]:
        match = _SGS.fullmatch(name)
        if match is None:
            return "missing", PortalResponse(404, _PAGE_TYPE, _PAGE.format("404 Not Found", "").encode())
        series, newest = match[1], match[2]
        if series in self._bodies:
            return "sgs", PortalResponse(200, _JSON, self._bodies[series])
        values = self._values(series)
        if newest is not None:
            if int(newest) > MOST_NEWEST:
                return _sgs_error(400, f"SGSNegocioException: A quantidade máxima de valores deve ser {MOST_NEWEST}")
            return _sgs_values(dict([*values.items()][-int(newest) :]))
        given = [query.get(name, [""])[0] for name in ("dataInicial", "dataFinal")]
        try:
            first, last = (_date(text) for text in given)
        except ValueError:
            return _sgs_error(400, "SGSNegocioException: Data inválida")
        if series in DAILY_SERIES and (first is None or last is None or last > _years_later(first)):
            return "refused", PortalResponse(406, _JSON, _text(_too_long(series)))
        first, last = first or dt.date.min, last or dt.date.max
        return _sgs_values({day: value for day, value in values.items() if first <= day <= last})

    def _b3(self, word: str) -> tuple[str, PortalResponse]:
        try:
            asked = json.loads(base64.b64decode(word, validate=True))
            index, year = asked["index"], int(asked["year"])
        except (binascii.Error, UnicodeDecodeError, ValueError, KeyError, TypeError):
            return "refused", PortalResponse(400, _PAGE_TYPE, _PAGE.format("Bad Request", "").encode())
        if index in self._bodies:
            return "b3", PortalResponse(200, _JSON, self._bodies[index])
        values = self._values(index)
        rows = [_b3_row(day, year, values) for day in range(1, 32)] if index == IBOVESPA else []
        return "b3", PortalResponse(200, _JSON, _text({"results": rows}))

    def _values(self, series: str) -> Figures:
        last = min(self.today or today(), self._ends.get(series, dt.date.max))
        if (series, last) not in self._made:
            self._made[series, last] = figures(series, last)
        values = dict(self._made[series, last])
        if self.in_session and series == IBOVESPA and last in values:
            values[last] = f"{float(values[last]) * 0.995:.2f}"
        for day, value in self._changed.get(series, {}).items():
            if value is None:
                values.pop(day, None)
            else:
                values[day] = value
        return dict(sorted(values.items()))

    # --- faults

    @property
    def requests(self) -> Counter[str]:
        """Count of requests by outcome: ``sgs``, ``b3``, ``empty``, ``refused``, ``fault``, ``missing``; a copy."""
        with self._lock:
            return self._counts.copy()

    def fail(self, times: int = 1, status: int = 504) -> None:
        """Answer the next requests with an error page."""
        self._fault(times, PortalResponse(status, _PAGE_TYPE, _PAGE.format(f"{status}", "").encode()))

    def show_html(self, times: int = 1) -> None:
        """Answer the next requests with a web page, under status 200."""
        self._fault(times, PortalResponse(200, _PAGE_TYPE, _BUSY))

    def _fault(self, times: int, response: PortalResponse) -> None:
        with self._lock:
            self._faults += [response] * times

    def values(self, name: str) -> Figures:
        """Return a series' current values, as text by day."""
        with self._lock:
            return self._values(_series(name))

    def restate(self, name: str, day: dt.date, value: str) -> None:
        """Replace a day's value; text with a decimal point."""
        self._change(name, day, value)

    def withdraw(self, name: str, day: dt.date) -> None:
        """Remove a day's value, as if it had not been published yet."""
        self._change(name, day, None)

    def _change(self, name: str, day: dt.date, value: str | None) -> None:
        with self._lock:
            self._changed.setdefault(_series(name), {})[day] = value

    def end(self, name: str, day: dt.date) -> None:
        """End a series after a day."""
        with self._lock:
            self._ends[_series(name)] = day

    def put(self, name: str, body: bytes) -> None:
        """Answer every request for a series with these bytes, under status 200."""
        with self._lock:
            self._bodies[_series(name)] = body


def _series(name: str) -> str:
    series = _SERIES_OF.get(name, name)
    if series != IBOVESPA and series not in DAILY_SERIES | MONTHLY_SERIES:
        raise ConfigError(f"name: {name[:40]!r} is not a series of the replica; choose one of {', '.join(_SERIES_OF)}")
    return series


def _sgs_values(values: Figures) -> tuple[str, PortalResponse]:
    if not values:
        _, response = _sgs_error(404, "SGSNegocioException: Value(s) not found")
        return "empty", response
    return "sgs", PortalResponse(
        200, _JSON, _text([{"data": f"{day:%d/%m/%Y}", "valor": values[day]} for day in values])
    )


def _sgs_error(status: int, detail: str) -> tuple[str, PortalResponse]:
    body = {"erro": {"statusCode": status, "detail": f"br.gov.bcb.pec.sgs.comum.excecoes.{detail}"}}
    return "refused", PortalResponse(status, _JSON, _text(body))


def _too_long(series: str) -> dict[str, str]:
    return {
        "error": f"O sistema aceita uma janela de consulta de, no máximo, {LONGEST_YEARS} anos em séries de "
        "periodicidade diária",
        "message": "Para acessar uma série de periodicidade diária, informe dataInicial e dataFinal (dd/mm/aaaa)",
        "syntax": f"/dados/serie/bcdata.sgs.{series}/dados?dataInicial=29/03/2015&dataFinal=29/03/2025",
    }


def _b3_row(day: int, year: int, values: Figures) -> dict[str, Any]:
    row: dict[str, Any] = {"day": day}
    for month in range(1, 13):
        try:
            text = values.get(dt.date(year, month, day))
        except ValueError:
            text = None
        row[f"rateValue{month}"] = None if text is None else _in_portuguese(text)
    return row


def _in_portuguese(text: str) -> str:
    return f"{float(text):,.2f}".translate(str.maketrans(",.", ".,"))


def _date(text: str) -> dt.date | None:
    return brazilian_date(text) if text else None


def _years_later(day: dt.date) -> dt.date:
    try:
        return day.replace(year=day.year + LONGEST_YEARS)
    except ValueError:
        return day.replace(year=day.year + LONGEST_YEARS, day=28)


def _text(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
