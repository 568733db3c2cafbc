"""``/v1/stored/events``: news of prices as any worker stores them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from pydantic import BaseModel, ConfigDict, Field

from scraperkit.api import batches
from scraperkit.api.fields import SeriesText
from scraperkit.api.newsroom import Watcher
from scraperkit.api.problems import ProblemError
from scraperkit.api.running import Running, TheRunning
from scraperkit.models import Stored, news

router = APIRouter(prefix="/v1/stored", tags=["prices"])
_EVENT_STREAM_EXAMPLE = """event: listening
data: []

event: stored
data: [{"cnpj":"18993924000100","subclass":"","month":"2022-01","days":21,"changed":0}]

"""
_EVENT = {
    "type": "object",
    "description": "One event of the stream",
    "required": ["event", "data"],
    "properties": {
        "event": {"type": "string", "enum": ["listening", "stored"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}


class Watched(BaseModel):
    """The series to watch."""

    model_config = ConfigDict(extra="forbid")

    fund: list[SeriesText] = Field([], max_length=100, description="CNPJs, or CNPJ:SUBCLASS; default: all")


@router.get(
    "/events",
    summary="Stream notifications of stored prices as server-sent events",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"text/event-stream": {"schema": _EVENT, "example": _EVENT_STREAM_EXAMPLE}},
            "description": "Events `listening` and `stored`; the data of the latter are a JSON list, with `cnpj`, "
            "`subclass`, `month`, `days` written, and how many stored figures `changed` (null: unknown)",
        }
    },
)
async def events(asked: Annotated[Watched, Query()], running: TheRunning) -> EventSourceResponse:
    """Send an event `stored` for months of these funds as they are stored; comments keep the connection open.

    The first event is `listening`: news is sent from then on, so read now what you need. A later `listening` means that
    news may have been missed: read again. A month may be reported twice. If the stream ends, the pricer is stopping:
    connect again.
    """
    if running.watchers >= batches.WATCHERS:
        raise ProblemError("busy", "too many open event streams; poll the prices instead", headers=batches.LATER)
    watcher = Watcher(asked.fund)
    await running.newsroom.add(watcher, running.read)
    return EventSourceResponse(_stream(running, watcher), headers={"X-Accel-Buffering": "no"})


async def _stream(running: Running, watcher: Watcher) -> AsyncIterator[bytes]:
    running.watchers += 1
    try:
        while True:
            try:
                told = await watcher.next(batches.HEARTBEAT)
            except TimeoutError:
                yield KEEPALIVE_COMMENT
                continue
            if told is None:
                return
            yield _event_of(told)
    finally:
        running.watchers -= 1
        running.newsroom.remove(watcher)


def _event_of(told: list[Stored]) -> bytes:
    return format_sse_event(event="stored" if told else "listening", data_str=news(told).decode() or "[]")
