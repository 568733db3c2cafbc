"""Logs of the commands that run as services, on stderr: a line of text or a JSON object per record."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TypeAlias

from scraperkit.text import printable

_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
log = logging.getLogger("scraperkit")


def log_to_stderr() -> None:
    """Log to stderr at level INFO, in the format of ``SCRAPERKIT_LOG_FORMAT``.

    JSON covers everything, including errors, warnings and uncaught exceptions.
    """
    # Not from Settings: these may be invalid, and that error has this format, too.
    is_json = os.environ.get("SCRAPERKIT_LOG_FORMAT") == "json"
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if is_json else _Escaping("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if is_json:
        _log_what_python_prints()


def are_json() -> bool:
    """Return whether this process logs JSON to stderr, so that nothing else may be written there."""
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.root.handlers)


@contextlib.contextmanager
def told_in_logs(worker: Callable[[], str]) -> Iterator[None]:
    """Add the name of this process's worker to each line of a JSON log; empty while it has none."""
    lines = [handler.formatter for handler in logging.root.handlers if isinstance(handler.formatter, JsonLines)]
    for each in lines:
        each.worker = worker
    try:
        yield
    finally:
        for each in lines:
            each.worker = str


class JsonLines(logging.Formatter):
    r"""One JSON object per record, in ASCII: ``time`` (ISO 8601, UTC), ``level``, ``logger``, ``message``.

    ``worker``, ``request_id`` and ``exception`` (a traceback as text) are added where known.

    Examples
    --------
    >>> record = logging.LogRecord("scraperkit", logging.INFO, "", 0, "%s\n", ("Ações",), None)
    >>> record.created = 1_767_225_600.5
    >>> print(JsonLines().format(record))
    {"time": "2026-01-01T00:00:00.500Z", "level": "INFO", "logger": "scraperkit", "message": "A\u00e7\u00f5es\n"}
    """

    def __init__(self) -> None:
        super().__init__()
        self.worker: Callable[[], str] = str

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line."""
        time = dt.datetime.fromtimestamp(record.created, dt.UTC).replace(tzinfo=None)
        known = {"worker": self.worker(), "request_id": _request_id()}
        known["exception"] = self.formatException(record.exc_info) if record.exc_info else ""
        line = {
            "time": f"{time.isoformat(timespec='milliseconds')}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        return json.dumps(line | {name: text for name, text in known.items() if text})


class _Escaping(logging.Formatter):
    """One line of text a record, with the request's id at its end if known, and the traceback below."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        request_id = _request_id()
        return printable(super().formatMessage(record)) + (f" [request {request_id}]" if request_id else "")

    def formatException(self, ei: _ExcInfo) -> str:
        return printable(super().formatException(ei), keep="\n\t")


def _request_id() -> str:
    """Return the id of the request that is being processed."""
    from scraperkit.models import current_request  # a process that logs has it loaded; --help must not load it

    return current_request.get()


def _log_what_python_prints() -> None:
    """Log warnings and uncaught errors, which Python would print."""

    def warning(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object, **__: object
    ) -> None:
        log.warning("%s: %s (%s:%d)", category.__name__, message, filename, lineno)

    def lost(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        log.critical("this process failed", exc_info=(kind, error, traceback))

    def lost_in_thread(found: threading.ExceptHookArgs) -> None:
        if found.exc_value is not None:
            error = (found.exc_type, found.exc_value, found.exc_traceback)
            log.error("a thread failed: %s", found.thread and found.thread.name, exc_info=error)

    def ignored(found: sys.UnraisableHookArgs) -> None:
        error = found.exc_value
        log.error("ignored: %s", found.err_msg or "an error", exc_info=error)

    warnings.showwarning = warning
    sys.excepthook = lost
    threading.excepthook = lost_in_thread
    sys.unraisablehook = ignored
