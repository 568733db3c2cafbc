"""Another site for ``06_bring_your_own_source``, and the checks of its exercises."""

from __future__ import annotations

import datetime as dt
import json
import re
import socketserver
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from scraperkit.errors import MonthNotOffered, SourceError
from scraperkit.lessons.lesson import Lesson
from scraperkit.models import DailyQuote, Month, ScrapeRequest
from scraperkit.replica.sample import Sample, load_sample
from scraperkit.replica.server import LOOPBACK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BASE = "/prices/"
_PATH = re.compile(_BASE + r"([0-9A-Z]{14})/([0-9-]{7})\.json")
_SLIP = dt.date(2022, 6, 15)
_COMMAS, _LAST_MONTH = Month(2023, 5), Month(2023, 12)


class PriceSite:
    """A made-up site that serves JSON on 127.0.0.1: ``<url><cnpj>/<YYYY-MM>.json`` is one month of a fund.

    It has the offline site's funds. Prices have four decimals. A month before the fund's start has
    ``null`` for its days; a future month is 404. And it makes mistakes: in June 2022 one price is ten times
    too high, and in May 2023 one is text with a comma.

    Attributes
    ----------
    url : str
        Where it is.
    asked : list of float
        Time of each request, in seconds of a monotonic clock.
    busy : int
        How many of the next requests get 503: ``{"days": [], "error": "busy"}``.

    Examples
    --------
    >>> import requests
    >>> with PriceSite() as site:
    ...     month = requests.get(site.url + "18993924000100/2022-01.json", timeout=10).json()
    >>> month["days"][0]
    {'day': '2022-01-03', 'price': 3.3965, 'holders': 1301, 'worth': 94006523.79}
    """

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.busy = 0
        self._lock = threading.Lock()
        self._sample = load_sample()
        self._server = _SmallSite(self._respond)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="price site", daemon=True)
        self.url = f"http://{LOOPBACK}:{self._server.server_port}{_BASE}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __repr__(self) -> str:
        return f"<PriceSite {self.url}: asked {len(self.asked)} times>"

    def _respond(self, path: str) -> tuple[int, dict[str, Any]]:
        with self._lock:
            self.asked.append(time.monotonic())
            if self.busy > 0:
                self.busy -= 1
                return 503, {"days": [], "error": "busy"}
        return respond(self._sample, path)


def respond(sample: Sample, path: str) -> tuple[int, dict[str, Any]]:
    """Return the status and the JSON that the site returns for a path.

    Examples
    --------
    >>> respond(load_sample(), "/prices/18993924000100/2019-01.json")
    (200, {'days': None})
    >>> respond(load_sample(), "/prices/18993924000100/2099-01.json")
    (404, {'error': 'no such month'})
    """
    match = _PATH.fullmatch(path)
    if match is None or not any(fund.cnpj == match[1] for fund in sample.funds):
        return 404, {"error": "no such fund"}
    try:
        month = Month.parse_iso(match[2])
    except ValueError:
        return 404, {"error": "no such month"}
    if month > _LAST_MONTH:
        return 404, {"error": "no such month"}
    rows = [_row(quote) for quote in sample.month(match[1], str(month)) if quote.quota is not None]
    if rows and month == _COMMAS:
        rows[-1]["price"] = str(rows[-1]["price"]).replace(".", ",")
    return 200, {"days": rows or None}


def _row(quote: DailyQuote) -> dict[str, Any]:
    factor = 10 if quote.date == _SLIP else 1
    price = round((quote.quota or 0.0) * factor, 4)
    return {"day": quote.date.isoformat(), "price": price, "holders": quote.holders, "worth": quote.net_worth}


class _SmallSite(ThreadingHTTPServer):
    """A thread for each request, all of them ended when the server is closed."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, respond: Callable[[str], tuple[int, dict[str, Any]]]) -> None:
        self.respond = respond
        super().__init__((LOOPBACK, 0), _Handler)

    def server_bind(self) -> None:
        # HTTPServer looks its own name up here, which takes seconds without a network.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    """One request for each connection."""

    timeout = 10
    server: _SmallSite

    def do_GET(self) -> None:
        status, content = self.server.respond(self.path)
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def arrivals(moments: Mapping[str, Sequence[float]], ax: Axes | None = None) -> Axes:
    """Draw the cumulative number of requests to a site over time, as steps.

    Parameters
    ----------
    moments : mapping of str to sequence of float
        Name of each run, and the times of its requests: a slice of :attr:`PriceSite.asked`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if left out.
    """
    from scraperkit.plot.style import COLOURS, FAINT, STYLES, entitle, new_axes, unbox

    ax = new_axes(3.5) if ax is None else ax
    longest = max((run[-1] - run[0] for run in moments.values() if run), default=0.0) + 0.3
    for (name, run), colour, style in zip(moments.items(), COLOURS, STYLES, strict=False):
        seconds = [moment - run[0] for moment in run]
        counts = range(1, len(run) + 1)
        ax.step([*seconds, longest], [*counts, len(run)], where="post", label=name, color=colour, linestyle=style)
        ax.plot(seconds, counts, ".", color=colour)
    ax.set_xlabel("seconds since the first request")
    ax.set_ylabel("requests so far")
    ax.set_ylim(bottom=0)
    ax.grid(visible=True, color=FAINT, linewidth=0.7)
    ax.legend(loc="lower right", frameon=False)
    entitle(ax, "Requests received by the site")
    unbox(ax)
    return ax


# --------------------------------------------------------------------------- the exercises

_REQUEST = ScrapeRequest(document="18993924000100", fund_pk="132922", month_year="01/2022")


def check_1(lesson: Lesson, answer: Any) -> str | None:  # noqa: ARG001
    """Check a function that turns a row into a quote, with holders and net worth."""
    if not callable(answer):
        return f"the answer is your function, without parentheses; this is a {type(answer).__name__}."
    row = {"day": "2022-01-04", "price": 1.5, "holders": 7, "worth": 1234.5}
    quote = answer(_REQUEST, row)
    if not isinstance(quote, DailyQuote):
        return f"the function returns a {type(quote).__name__}, not a DailyQuote; does it say `return`?"
    wanted = DailyQuote(_REQUEST.document, dt.date(2022, 1, 4), quota=1.5, net_worth=1234.5, holders=7)
    for field in ("cnpj", "date", "quota", "holders", "net_worth"):
        found = getattr(quote, field)
        if found != getattr(wanted, field):
            return f"for the row {row} your quote has {field}={found!r}."
    if quote != wanted:
        return "it fills a field that the site does not report."
    try:
        comma = answer(_REQUEST, row | {"price": "1,5"})
    except ValueError:
        return "a price with a comma, such as '1,5', is refused now; it was read before."
    return None if comma.quota == 1.5 else "a price with a comma, such as '1,5', has to become a number as before."


def check_2(lesson: Lesson, answer: Any) -> str | None:  # noqa: ARG001
    """Check a function that raises a retryable error for a busy site and a final one for a missing month."""
    if not callable(answer):
        return f"the answer is your function, without parentheses; this is a {type(answer).__name__}."
    with PriceSite() as site:
        site.busy = 1
        error, rows = _outcome(answer, site.url + "18993924000100/2022-01.json")
        if error is None:
            return f"the site was busy (503), and your function returned {str(rows)[:40]} as if that were the month."
        if not isinstance(error, SourceError):
            return f"for 503 it raises {type(error).__name__}; one of the kit's own errors says more."
        if not error.retryable:
            return f"for 503 it raises {type(error).__name__}, which is final; which error says: try later?"
        return _keeps_the_rest(answer, site)


def check_3(lesson: Lesson, answer: Any) -> str | None:  # noqa: ARG001
    """Check a function that returns an empty list for a month without days."""
    if not callable(answer):
        return f"the answer is your function, without parentheses; this is a {type(answer).__name__}."
    with PriceSite() as site:
        error, rows = _outcome(answer, site.url + "18993924000100/2020-12.json")
        if error is not None:
            return f"for a month with `null` it raises {type(error).__name__}, so the job fails; this is not a failure."
        if rows is None:
            return "for a month with `null` it returns None; which value can be looped over and is empty?"
        if list(rows):
            return f"a month without days has no figures; your function found {str(rows)[:40]}."
        return _keeps_the_rest(answer, site)


def _keeps_the_rest(answer: Any, site: PriceSite) -> str | None:
    """Return a hint unless the function still does what the lesson's did."""
    error, rows = _outcome(answer, site.url + "18993924000100/2022-01.json")
    if error is not None or not rows:
        return f"a month that exists is no longer returned: {error or rows!r}"
    error, _ = _outcome(answer, site.url + "18993924000100/2099-01.json")
    if not isinstance(error, MonthNotOffered):
        return "a month that the site does not have (404) must still raise sk.errors.MonthNotOffered."
    return None


def _outcome(function: Callable[[str], Any], address: str) -> tuple[Exception | None, Any]:
    try:
        return None, function(address)
    except Exception as error:  # noqa: BLE001 - the checks inspect it
        return error, None
