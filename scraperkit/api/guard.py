"""Checks before a request is read: who may send it, how often, and how long it may be."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scraperkit.api.keyring import Keyring
from scraperkit.api.problems import ProblemError, refuse
from scraperkit.api.ratelimit import RateLimit
from scraperkit.config import Settings

# Probes and the docs page need no key: they reveal nothing that is stored.
OPEN = frozenset({"/health", "/ready", "/docs", "/openapi.json"})
OPEN_BELOW = ("/static-offline-docs/",)
# Headers that proxies add, besides all that begin with X-Forwarded or X-Envoy.
_FORWARDED = frozenset(
    {"forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-original-forwarded-for"}
    | {"true-client-ip", "cf-connecting-ip", "cf-ray", "fastly-client-ip", "x-proxyuser-ip", "x-remote-ip"}
    | {"forwarded-for", "x-forward-for", "client-ip", "x-remote-addr", "x-originating-ip", "x-azure-clientip"}
    | {"x-appengine-user-ip", "x-amzn-trace-id", "x-cloud-trace-context", "x-original-host", "x-scheme"}
)
_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """ASGI middleware that checks host, key and rate.

    Without keys the pricer serves this machine only: it responds on loopback addresses, and only requests that use a
    loopback name, so that no web page can reach it through its own name (DNS rebinding). A request that a proxy has
    forwarded is refused: the proxy is on this machine, but its caller may not be.
    """

    def __init__(self, app: ASGIApp, settings: Settings, keyring: Keyring, limit: RateLimit) -> None:
        self._app = app
        self._keyring = keyring
        self._limit = limit
        self._hosts = frozenset(name.strip().lower() for name in (settings.api_hosts or "").split(",") if name.strip())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await self._check(scope)
        except ProblemError as error:
            await refuse(error, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        self._check_host(scope, headers)
        if not self._keyring.configured:
            _check_not_forwarded(headers)
        _check_origin(scope, headers)
        path = scope["path"]
        if path in OPEN or path.startswith(OPEN_BELOW) or not self._keyring.configured:
            return
        owner = self._keyring.owner(_key_of(headers))
        if owner is None:
            raise ProblemError(
                "no-key",
                "send an API key of this pricer, as X-API-Key or as Authorization: Bearer",
                field="X-API-Key",
                headers={"WWW-Authenticate": 'Bearer realm="scraperkit"'},
            )
        await self._limit.count(owner)

    def _check_host(self, scope: Scope, headers: Headers) -> None:
        name = _host_of(headers.get("host", ""))
        here = is_loopback((scope.get("server") or ("localhost", None))[0])
        if not self._keyring.configured and not (here and (self._hosts or is_loopback(name))):
            why = "without API keys the pricer serves only this machine, as 127.0.0.1 or localhost"
            raise ProblemError("not-allowed", why, field="Host")
        # A probe uses the container's address, not its name.
        if self._hosts and name not in self._hosts and scope["path"] not in ("/health", "/ready"):
            why = "unknown host name; SCRAPERKIT_API_HOSTS lists the names that the pricer accepts"
            raise ProblemError("not-allowed", why, field="Host")


def _check_not_forwarded(headers: Headers) -> None:
    for name in headers:
        # Some proxies write an underscore for a hyphen.
        plain = name.replace("_", "-")
        if plain in _FORWARDED or plain.startswith(("x-forwarded", "x-envoy-")):
            why = "without API keys the pricer refuses requests that came through a proxy; set SCRAPERKIT_API_KEYS_FILE"
            raise ProblemError("not-allowed", why, field=name.title())


def _check_origin(scope: Scope, headers: Headers) -> None:
    """Refuse changes that a page of another site makes through a browser."""
    if scope["method"] in _HARMLESS:
        return
    origin = headers.get("origin")
    foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
    if foreign or (origin is not None and urlsplit_host(origin) != headers.get("host", "").lower()):
        raise ProblemError("not-allowed", "requests from web pages of other sites are refused", field="Origin")


def urlsplit_host(origin: str) -> str:
    """Return host and port of an origin; empty if there is none.

    Examples
    --------
    >>> urlsplit_host("http://127.0.0.1:8000"), urlsplit_host("null")
    ('127.0.0.1:8000', '')
    """
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _host_of(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Return whether a name or an address can be reached from this machine only.

    Examples
    --------
    >>> is_loopback("localhost"), is_loopback("127.0.0.5"), is_loopback("0.0.0.0"), is_loopback("example.org")
    (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # On a socket file, uvicorn gives its path as the host.
        return host == "localhost" or host.startswith("/")


def _key_of(headers: Headers) -> str:
    key = headers.get("x-api-key")
    if key is not None:
        return key
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


class BodyLimit:
    """ASGI middleware that refuses a body that is too long, whether or not it declares its length."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on; count the bytes of chunks."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        too_long = ProblemError(
            "too-long", f"the body has more than {self._most:,} bytes", headers={"Connection": "close"}
        )
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._most:
            await refuse(too_long, scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most:
                # The app's error handlers respond, since the body is read inside them.
                raise too_long
            return message

        await self._app(scope, counted, send)
