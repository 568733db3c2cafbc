"""The id of each request, from the caller or made here; the response, the log, messages and events carry it."""

from __future__ import annotations

import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scraperkit.models import REQUEST_ID, current_request

REQUEST_HEADER = "X-Request-ID"


class RequestIds:
    """ASGI middleware that gives each request its id.

    An invalid id is replaced rather than refused: a proxy may have made it, which the caller cannot change.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add its id to the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = chosen(Headers(scope=scope).getlist(REQUEST_HEADER))

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_HEADER] = request_id
            await send(message)

        # Not reset: the server logs a bug only after this returns, and that line needs the id. Each request is a
        # separate task.
        current_request.set(request_id)
        await self._app(scope, receive, with_id)


def chosen(given: list[str]) -> str:
    """Return the id that the caller gave if it is valid, else a new one.

    Examples
    --------
    >>> chosen(["order-7"]), len(chosen(["order 7"])), len(chosen([]))
    ('order-7', 32, 32)
    """
    if len(given) == 1 and REQUEST_ID.fullmatch(given[0]):
        return given[0]
    return uuid.uuid4().hex
