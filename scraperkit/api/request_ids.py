"""The id of each request: given by the caller or made here, told in the answer, the log, the messages and events."""

from __future__ import annotations

import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scraperkit.models import REQUEST_ID, current_request

REQUEST_HEADER = "X-Request-ID"


class RequestIds:
    """ASGI middleware: a request is known by its id from here on.

    An id that does not fit is replaced rather than refused: a proxy may have made it, which its caller cannot change.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and put its id on what comes back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = chosen(Headers(scope=scope).getlist(REQUEST_HEADER))

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_HEADER] = request_id
            await send(message)

        # Not reset: what the server logs of the request once this has returned, such as a bug, is about it, too. Every
        # request is a task of its own, and sets it.
        current_request.set(request_id)
        await self._app(scope, receive, with_id)


def chosen(given: list[str]) -> str:
    """Return the id that a caller gave if it gave one that fits, else a new one.

    Examples
    --------
    >>> chosen(["order-7"]), len(chosen(["order 7"])), len(chosen([]))
    ('order-7', 32, 32)
    """
    if len(given) == 1 and REQUEST_ID.fullmatch(given[0]):
        return given[0]
    return uuid.uuid4().hex
