"""``/v1/batches``: a batch's progress, once or as a stream, and its cancellation."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import partial
from typing import Any

import anyio
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event

from scraperkit.api.backend import Backend
from scraperkit.api.fields import BatchId
from scraperkit.api.problems import KNOWN_ERRORS, ProblemError, problem_of
from scraperkit.api.running import Running, TheRunning
from scraperkit.api.schemas import BatchReport, Cancelled, Failure, Progress
from scraperkit.batch import Batch, BatchStatus

router = APIRouter(prefix="/v1/batches", tags=["batches"])
SHOWN_FAILURES = 100
LOOK_EVERY = 0.25  # seconds between looks at a watched batch
WATCHERS = 100  # each asks Redis several times a second
HEARTBEAT = 15.0  # seconds of silence after which a comment line is sent, so that no proxy hangs up
SEARCHED = 10_000  # messages in the stream that a report may read to find lost ones
LATER = {"Retry-After": "10"}
_EVENT = {
    "type": "object",
    "description": "One event of the stream",
    "required": ["event", "data"],
    "properties": {
        "event": {"type": "string", "enum": ["progress", "finished", "error"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
_EVENT_STREAM_EXAMPLE = """event: progress
data: {"batch_id":"0778e977-c9d1-5645-97ce-d1f8dcc5e752","published":12,"done":4,"failed":0,"lost":0,"cancelled":0,\
"not_offered":0,"pending":8,"finished":false}

event: finished
data: {"batch_id":"0778e977-c9d1-5645-97ce-d1f8dcc5e752","published":12,"done":12,"failed":0,"lost":0,"cancelled":0,\
"not_offered":0,"pending":0,"finished":true}

"""


@router.get("/{batch_id}", summary="A batch's progress and failures")
async def report(batch_id: BatchId, running: TheRunning) -> BatchReport:
    """Return how many messages are in each state, and the first 100 that failed or were lost, each with its reason.

    If messages wait and no worker of the batch's source listens, `lacks_worker` says so, and what to start.
    """
    return await running.read(lambda: _report(running.backend, batch_id))


def _report(backend: Backend, batch_id: str) -> BatchReport:
    batch = _find(backend, batch_id)
    status = batch.status(search_up_to=SEARCHED)
    failures = batch.failures().head(SHOWN_FAILURES).itertuples() if status.failed or status.lost else ()
    return BatchReport(
        **_figures(batch_id, status),
        source=batch.keys.source,
        lacks_worker=batch.lacks_worker() if status.pending else "",
        explanation=batch.explain(status),
        failures=[
            Failure(message_id=str(row.Index), document=row.cnpj, month=row.month, state=row.state, error=row.error)
            for row in failures
        ],
    )


@router.delete("/{batch_id}", summary="Cancel the messages that no worker has begun")
async def cancel(batch_id: BatchId, running: TheRunning) -> Cancelled:
    """Cancel the messages that no worker has begun; running jobs are finished. Safe to repeat."""

    def work() -> Cancelled:
        batch = _find(running.backend, batch_id)
        cancelled = batch.cancel()
        return Cancelled(**_figures(batch_id, batch.status()), now_cancelled=cancelled)

    return await running.read(work)


@router.get(
    "/{batch_id}/events",
    summary="A batch's progress as server-sent events",
    response_class=StreamingResponse,  # FastAPI would take EventSourceResponse to mean a generator
    responses={
        200: {
            "content": {"text/event-stream": {"schema": _EVENT, "example": _EVENT_STREAM_EXAMPLE}},
            "description": "Events `progress`, and at the end `finished`; the data of each are a Progress, in JSON",
        }
    },
)
async def events(batch_id: BatchId, running: TheRunning) -> EventSourceResponse:
    """Send an event when a count changes, until nothing is pending; comments keep the connection open.

    An event `error` holds a problem document, and is the last one. If the stream ends without `finished` or `error`,
    the pricer is stopping: connect again.
    """
    if running.watchers >= WATCHERS:
        raise ProblemError("busy", "too many open event streams; poll the batch instead", headers=LATER)
    first = await running.read(lambda: _progress(running.backend, batch_id))
    headers = {"X-Accel-Buffering": "no"}
    return EventSourceResponse(_stream(running, first), headers=headers)


async def _stream(running: Running, progress: Progress) -> AsyncIterator[bytes]:
    running.watchers += 1
    try:
        async for event in _watch(running, progress):
            yield event
    finally:
        running.watchers -= 1


async def _watch(running: Running, progress: Progress) -> AsyncIterator[bytes]:
    yield _event_of(progress)
    sent_at = time.monotonic()
    while not progress.finished:
        with anyio.move_on_after(LOOK_EVERY):
            await running.stopping.wait()
            return
        is_still = time.monotonic() - sent_at > HEARTBEAT
        search = is_still or progress.lost > 0  # a lost message stays lost
        try:
            now = await running.read(partial(_progress, running.backend, progress.batch_id, search=search))
        except KNOWN_ERRORS as error:
            yield format_sse_event(event="error", data_str=problem_of(error).problem.model_dump_json())
            return
        if now != progress:
            yield _event_of(now)
        elif is_still:
            yield KEEPALIVE_COMMENT
        else:
            continue
        progress, sent_at = now, time.monotonic()


def _event_of(progress: Progress) -> bytes:
    name = "finished" if progress.finished else "progress"
    return format_sse_event(event=name, data_str=progress.model_dump_json())


def _find(backend: Backend, batch_id: str) -> Batch:
    return Batch.find(backend.redis, batch_id, namespace=backend.keys.namespace)


def _progress(backend: Backend, batch_id: str, *, search: bool = False) -> Progress:
    batch = Batch(backend.redis, batch_id, namespace=backend.keys.namespace)
    return Progress(**_figures(batch_id, batch.status(search_up_to=SEARCHED if search else 0)))


def _figures(batch_id: str, status: BatchStatus) -> dict[str, Any]:
    return {"batch_id": batch_id, "finished": status.finished, **asdict(status)}
