"""The OpenAPI document, its page, and security headers for browsers."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scraperkit.api.problems import MEDIA_TYPE, FieldError, Problem

STATIC = "/static-offline-docs"
_STATIC = Path(fastapi_offline.__file__).parent / "static"
DESCRIPTION = """
Publishes the months of Brazilian investment funds to be scraped from the regulator's site (CVM) or taken from its open
data, reports their progress, and serves the stored daily figures.

`POST /v1/funds` returns as soon as the messages are published; workers of their `source` process them
(`scraperkit work`, or `scraperkit work --source open_data`). Figures of all sources are read in the same way.

CNPJs may be written in any punctuation; in a path the slash may be sent as it is or as `%2F`. Where figures are read, a
subclass may follow: `CNPJ:SUBCLASS`. A CNPJ alone is the class's own series; if only its subclasses have figures on the
requested days, it stands for all of them, and the response has `stands_for`. Every error is a problem document
(RFC 9457) whose `errors` name the invalid fields.
"""
TAGS = [
    {"name": "funds", "description": "Request months; what is known and stored about each fund."},
    {"name": "prices", "description": "The daily figures."},
    {"name": "market", "description": "All funds on one day, from the open-data archive."},
    {"name": "rates", "description": "Reference rates of the Banco Central and of B3."},
    {"name": "batches", "description": "Messages published together, and their progress."},
    {"name": "dead letters", "description": "Jobs that failed permanently."},
    {"name": "service", "description": "For operators of the pricer."},
]
_MEANINGS = {
    401: "API key missing or unknown; only if keys are configured",
    403: "Unknown host name, a request from another site's page, or a proxied request while no keys are set",
    404: "Not found",
    413: "Request body too large",
    422: "Invalid request; `errors` names the fields",
    429: "Too many requests with this key; `Retry-After` says when to try again",
    502: "The source site does not respond or has changed",
    503: "Redis does not respond, or the service is busy; try again",
}
_V1 = (401, 403, 422, 429, 503)
_MORE = {
    ("post", "/v1/funds"): (404, 413, 502),
    ("get", "/v1/funds/{document}"): (404,),
    ("get", "/v1/funds/{document}/prices"): (404,),
    ("get", "/v1/funds/{document}/metrics"): (404, 502),
    ("get", "/v1/funds/quotes/{document}"): (404,),
    ("get", "/v1/search"): (502,),
    ("get", "/v1/market/{day}"): (404,),
    ("get", "/v1/rates/{name}"): (502,),
    ("get", "/v1/batches/{batch_id}"): (404,),
    ("delete", "/v1/batches/{batch_id}"): (404,),
    ("get", "/v1/batches/{batch_id}/events"): (404,),
    ("post", "/v1/dead/{letter_id}/retry"): (404,),
    ("get", "/health"): (403,),
    ("get", "/ready"): (403, 503),
    ("get", "/metrics"): (401, 403, 429),
}
_SCHEMES = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}


def install(app: FastAPI, *, with_keys: bool) -> None:
    """Serve an app's OpenAPI document at ``/openapi.json``, and a page of it that needs no other host."""
    document: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not document:
            document.update(_document(app, with_keys))
        return document

    app.openapi = openapi  # type: ignore[method-assign]
    app.mount(STATIC, StaticFiles(directory=_STATIC), name="static-offline-docs")
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        swagger_js_url=f"{STATIC}/swagger-ui-bundle.js".lstrip("/"),
        swagger_css_url=f"{STATIC}/swagger-ui.css".lstrip("/"),
        swagger_favicon_url=f"{STATIC}/favicon.png".lstrip("/"),
    )
    policy = _policy(bytes(page.body).decode())

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(page.body, headers={"Content-Security-Policy": policy})


def _policy(html: str) -> str:
    """Return a policy that allows the page's own scripts, by their hashes, and nothing from elsewhere."""
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src 'self' {allowed}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _document(app: FastAPI, with_keys: bool) -> dict[str, Any]:
    found = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes, tags=TAGS)
    schemas = found["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for model in (FieldError, Problem):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schema.pop("$defs", None)
        schemas[model.__name__] = schema
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            _finish(operation, method, path, with_keys)
    if with_keys:
        found["components"]["securitySchemes"] = _SCHEMES
    return found


def _finish(operation: dict[str, Any], method: str, path: str, with_keys: bool) -> None:
    statuses = {*(_V1 if path.startswith("/v1/") else ()), *_MORE.get((method, path), ())}
    operation["responses"].pop("422", None)
    for status in sorted(statuses):
        response: dict[str, Any] = {
            "description": _MEANINGS[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        if status in (429, 503):
            response["headers"] = {"Retry-After": {"schema": {"type": "string"}, "description": "seconds"}}
        operation["responses"][str(status)] = response
    if with_keys and path not in ("/health", "/ready"):
        operation["security"] = [{name: []} for name in _SCHEMES]


class CarefulHeaders:
    """ASGI middleware that forbids browsers to sniff, frame, run or store responses."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add the headers to its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["X-Frame-Options"] = "DENY"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
                if not scope["path"].startswith(STATIC):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, with_headers)
