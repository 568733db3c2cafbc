"""A server with the replies that a test chooses, and pages like those of the regulator's site."""

from __future__ import annotations

import contextlib
import http.server
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from scraperkit.cnpj import format_cnpj
from scraperkit.config import Settings
from scraperkit.sources import CvmPages
from scraperkit.sources.cvm_parser import HEADINGS

CNPJ = "18993924000100"
ONCE = Settings(http_retries=0, read_timeout=60, connect_timeout=60, breaker_failures=1000)


@dataclass
class Asked:
    """One request, as the server saw it."""

    method: str
    path: str
    form: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def query(self) -> dict[str, str]:
        return _flat(urlsplit(self.path).query)


@dataclass
class Reply:
    body: bytes | str = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    reset: bool = False
    endless: bool = False


def _flat(query: str) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}


class Odd:
    """An HTTP server on a free port; `respond` makes its replies, `asked` records its requests.

    It has no robots.txt, and does not record requests for it.
    """

    def __init__(self, respond: Callable[[Asked], Reply | str]) -> None:
        self.respond = respond
        self.asked: list[Asked] = []
        self.ended = threading.Semaphore(0)
        self.leaving = threading.Event()
        odd = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            counted = False

            def do_GET(self) -> None:
                if self.path == "/robots.txt":
                    self.send_error(404)
                    return
                self.counted = True
                odd._reply(self)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

            def finish(self) -> None:
                with contextlib.suppress(OSError):
                    super().finish()
                if self.counted:
                    odd.ended.release()

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # so that server_close() waits for them
        self._server.handle_error = lambda *_: None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/CPublica/"

    def __enter__(self) -> Odd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leaving.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _reply(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        form = handler.rfile.read(int(handler.headers.get("Content-Length", 0))).decode("ascii")
        asked = Asked(handler.command, handler.path, _flat(form), dict(handler.headers))
        self.asked.append(asked)
        reply = self.respond(asked)
        if isinstance(reply, str):
            reply = Reply(reply)
        if reply.reset:
            # With a linger of 0 seconds, closing sends RST.
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.close_connection = True
            handler.connection.close()
            return
        if reply.endless:
            handler.close_connection = True
            handler.send_response(200)
            handler.end_headers()
            with contextlib.suppress(OSError):
                while not self.leaving.is_set():
                    handler.wfile.write(reply.body)
            return
        body = reply.body.encode("latin-1") if isinstance(reply.body, str) else reply.body
        handler.send_response(reply.status)
        for name, value in {"Content-Type": "text/html; charset=iso-8859-1", **reply.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body) if reply.length is None else reply.length))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = reply.length is not None

    @property
    def kinds(self) -> list[str]:
        """The requests in order, each as method and page name."""
        return [f"{asked.method} {urlsplit(asked.path).path.rpartition('/')[2]}" for asked in self.asked]


@contextlib.contextmanager
def served(respond: Callable[[Asked], Reply | str], settings: Settings = ONCE) -> Iterator[tuple[Odd, CvmPages]]:
    """Yield an odd server, and a source that uses it."""
    with Odd(respond) as odd, CvmPages(odd.url, settings=settings) as source:
        yield odd, source


def daily(months=("01/2022",), selected=None, *, cnpj=CNPJ, state="s", quota="1,5") -> str:
    """Return a daily page with this quota, by which a test recognises it."""
    selected = months[0] if selected is None else selected
    options = "".join(f'<option value="{m}"{" selected" * (m == selected)}>{m}</option>' for m in (*months, ""))
    row = ["3", quota, "0,00", "0,00", "1,00", "1,00", "1", ""]
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for cells in (HEADINGS.values(), row))
    return (
        f'<html><body><form><input type="hidden" name="__VIEWSTATE" value="{state}">Nome do Fundo: X CNPJ: '
        f'{format_cnpj(cnpj)} <select id="ddComptc">{options}</select><table id="dgDocDiario">{rows}</table></form>'
    )


def search(*targets: str) -> str:
    links = "".join(f"<a id=\"ddlFundos_\" href=\"javascript:__doPostBack('{name}','')\">X</a>" for name in targets)
    return f'<html><form><input type="hidden" name="__VIEWSTATE" value="v"><table id="ddlFundos">{links}</table></form>'


def fund_page(*, pk="", status="EM FUNCIONAMENTO NORMAL", cnpj=CNPJ) -> str:
    link = f'<a id="Hyperlink2" href="../x.aspx?PK_PARTIC={pk}">Dados</a>' if pk else ""
    return (
        f'<html><form><span id="lbNmDenomSocial">FUNDO {pk}</span><span id="lbNrPfPj">{format_cnpj(cnpj)}</span>'
        f'<span id="lbSitDesc">{status}</span>{link}</form>'
    )
