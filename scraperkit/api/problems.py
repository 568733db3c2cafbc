"""Errors as RFC 9457 problem documents: a status for each error of the kit, and a text that names the field."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import redis as redis_py
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from scraperkit.api.request_ids import REQUEST_HEADER
from scraperkit.errors import (
    ArchiveError,
    BatchNotFound,
    ConfigError,
    FundNotFound,
    RedisError,
    SiteUnavailable,
    SourceError,
    UnknownFund,
)
from scraperkit.models import current_request
from scraperkit.text import in_words

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
# The type of each problem is a URN: it identifies the problem, and is no page to fetch.
TYPE = "urn:scraperkit:problem:"
TITLES = {
    "bad-input": (422, "Invalid request"),
    "no-key": (401, "API key required"),
    "not-allowed": (403, "Forbidden"),
    "unknown-fund": (404, "No such fund"),
    "unknown-batch": (404, "No such batch"),
    "unknown-dead-letter": (404, "No such dead letter"),
    "no-month": (404, "No data for that month"),
    "no-quote": (404, "No quote for that day"),
    "no-page": (404, "No such page"),
    "wrong-method": (405, "Method not allowed"),
    "too-long": (413, "Request body too large"),
    "too-many": (429, "Too many requests"),
    "http": (400, "Bad request"),
    "bug": (500, "Internal error"),
    "site": (502, "The source site is unavailable or has changed"),
    "redis-away": (503, "Redis does not respond"),
    "not-ready": (503, "Not ready"),
    "busy": (503, "Service busy"),
}
_FIELD = re.compile(r"([a-z_]+): ")
_ODD = {
    "model_attributes_type": "must be a JSON object, sent as Content-Type: application/json",
    "extra_forbidden": "unknown field",
}


class FieldError(BaseModel):
    """One invalid field."""

    field: str = Field(description="name of the parameter, header or body field")
    detail: str = Field(description="what is wrong with it")


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: str = Field(description="identifies the kind of problem", examples=["urn:scraperkit:problem:unknown-fund"])
    title: str = Field(description="the kind of problem in words", examples=["No such fund"])
    status: int = Field(description="the HTTP status", examples=[404])
    detail: str = Field(description="what went wrong, and what to do")
    errors: list[FieldError] = Field(default=[], description="the invalid fields, if any")


class ProblemError(HTTPException):
    """An error that is answered with its problem document."""

    def __init__(
        self, kind: str, detail: str, *, field: str = "", headers: Mapping[str, str] | None = None, status: int = 0
    ) -> None:
        number, title = TITLES[kind]
        super().__init__(status or number, detail, dict(headers or {}))
        errors = [FieldError(field=field, detail=detail)] if field else []
        self.problem = Problem(type=TYPE + kind, title=title, status=self.status_code, detail=detail, errors=errors)


def problem_of(error: Exception) -> ProblemError:
    """Return the problem document's error for an error of the kit or of Redis.

    Examples
    --------
    >>> problem_of(UnknownFund("nothing is stored for 18.993.924/0001-00")).problem.status
    404
    """
    match error:
        case ProblemError():
            return error
        case UnknownFund() | FundNotFound():
            return ProblemError("unknown-fund", str(error), field="document")
        case BatchNotFound():
            return ProblemError("unknown-batch", str(error), field="batch_id")
        case SiteUnavailable():
            return ProblemError("site", str(error), headers={"Retry-After": "10"})
        case SourceError():
            return ProblemError("site", str(error))
        case ArchiveError():
            # The archive's path is for the pricer's operator only.
            log.warning("the archive: %s", error)
            text = "the pricer has no registry of the open data yet: `scraperkit market download` fetches it"
            return ProblemError("not-ready", text, headers={"Retry-After": "60"})
        case ConfigError():
            found = _FIELD.match(str(error))
            return ProblemError("bad-input", str(error), field=found[1] if found else "")
        case RedisError() | redis_py.RedisError():
            # Redis's address and message are for the pricer's operator only.
            log.warning("Redis: %s", error)
            return ProblemError("redis-away", "Redis does not respond; try again in a moment", headers=_SOON)
    return ProblemError("bug", "internal error; see the log of the pricer")


_SOON = {"Retry-After": "2"}
KNOWN_ERRORS: tuple[type[Exception], ...] = (
    ProblemError,
    UnknownFund,
    BatchNotFound,
    SourceError,
    ArchiveError,
    ConfigError,
    RedisError,
    redis_py.RedisError,
)


def respond(error: ProblemError) -> Response:
    """Return the problem document as a response."""
    return Response(error.problem.model_dump_json(), error.status_code, error.headers, MEDIA_TYPE)


async def refuse(error: ProblemError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the problem, from a middleware."""
    await respond(error)(scope, receive, send)


def install(app: FastAPI) -> None:
    """Answer every error of an app with a problem document."""

    async def known(_: Request, error: Exception) -> Response:
        return respond(problem_of(error))

    async def bug(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.scope["path"].encode("unicode_escape").decode()[:200])
        found = respond(problem_of(error))
        found.headers[REQUEST_HEADER] = current_request.get()  # this response bypasses all middleware
        return found

    for kind in KNOWN_ERRORS:
        app.add_exception_handler(kind, known)
    app.add_exception_handler(RequestValidationError, _unfit)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, bug)


async def _unfit(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    return respond(unfit(error.errors()))


def unfit(errors: Sequence[Mapping[str, Any]], field: str = "") -> ProblemError:
    """Return the problem for a validation's errors; `field` names what was validated if they do not."""
    fields = [_field_error(item, field) for item in errors[:20]]
    found = ProblemError("bad-input", "; ".join(f"{item.field}: {item.detail}" for item in fields))
    found.problem.errors = fields
    return found


def _field_error(item: Mapping[str, Any], field: str) -> FieldError:
    detail = in_words(item)[:300]
    if item["type"] in _ODD:
        detail = _ODD[item["type"]]
    elif named := _FIELD.match(detail):  # an error between two fields names the one to change
        return FieldError(field=named[1], detail=detail[named.end() :])
    return FieldError(field=field or ("body" if item["type"] == "json_invalid" else _place(item["loc"])), detail=detail)


def _place(location: tuple[Any, ...]) -> str:
    """Return a field's name without FastAPI's prefixes: its place in the request, and the kind of order."""
    steps = [str(step)[:60] for step in location[1:] if step not in ("one", "many")]
    return ".".join(steps) or str(location[0])


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    match error.status_code:
        case 404:
            found = ProblemError("no-page", "unknown address; /docs lists all addresses")
        case 405:
            allowed = ", ".join(_allowed(request))
            found = ProblemError("wrong-method", f"this address allows {allowed}", headers={"Allow": allowed})
        case 400:  # FastAPI's response to a body that it cannot decode
            found = ProblemError("bad-input", "body: must be JSON in UTF-8", field="body")
        case status:
            found = ProblemError("http", str(error.detail), status=status, headers=error.headers)
    return respond(found)


def _allowed(request: Request) -> list[str]:
    """Return the methods of an address; Starlette gives only those of its first route."""
    routes: list[BaseRoute] = request.app.routes
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    return [
        method
        for method in methods
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
