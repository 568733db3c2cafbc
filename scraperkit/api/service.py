"""``/health``, ``/ready`` and ``/metrics``: for operators of the pricer."""

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
    """Always respond, even without Redis or while every thread is busy."""
    return Alive()


@router.get("/ready", summary="Whether the service can work")
async def ready(running: TheRunning) -> Ready:
    """Check Redis, TimeSeries, and that workers are alive; 503, within 2 seconds, says what is missing."""
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
    """Return requests by route and status, durations, and the state of queue and archive.

    Without Redis, ``scraperkit_up`` is 0.
    """
    (missing, health), age = await asyncio.gather(running.probe(), running.archive_age())
    return Response(running.metrics.text(missing, health, age), media_type=CONTENT_TYPE_LATEST)
