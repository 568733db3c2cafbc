"""``/health``, ``/ready`` and ``/metrics``: for whoever runs the pricer."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from scraperkit.api.problems import ProblemError
from scraperkit.api.running import TheRunning
from scraperkit.api.schemas import Alive, Ready

router = APIRouter(tags=["service"])


@router.get("/health", summary="Whether the process is alive")
async def health() -> Alive:
    """Answer in any case: also without Redis, and while every thread is busy."""
    return Alive()


@router.get("/ready", summary="Whether there is all that it takes to work")
async def ready(running: TheRunning) -> Ready:
    """Look for Redis, its TimeSeries, and workers that are alive; 503, in 2 seconds at most, says what is missing."""
    missing, health = await running.probe()
    if missing or health is None:
        raise ProblemError("not-ready", "; ".join(missing), headers={"Retry-After": "2"})
    return Ready(workers=len(health.workers), waiting=health.lag)


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(running: TheRunning) -> Response:
    """Requests by route and status, durations, state of queue and archive; without Redis, ``scraperkit_up`` is 0."""
    (missing, health), age = await asyncio.gather(running.probe(), running.archive_age())
    return Response(running.metrics.text(missing, health, age), media_type=CONTENT_TYPE_LATEST)
