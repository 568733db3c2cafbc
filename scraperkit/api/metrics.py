"""The pricer's figures for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scraperkit.health import Health

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """The figures of one app, in its own registry."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "scraperkit_requests", "Requests answered", ["method", "route", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "scraperkit_request_seconds", "Time to the end of the response", ["route"], registry=self._registry
        )

    def text(self, missing: list[str], health: Health | None, archive_age: float | None) -> bytes:
        """Return all figures in Prometheus's text format, with those given of queue and archive."""
        queue = CollectorRegistry()
        queue.register(_Queue(missing, health, archive_age))
        return generate_latest(queue) + generate_latest(self._registry)


class _Queue(Collector):
    """Figures of the queue and the archive as they were seen; unknown ones are left out."""

    def __init__(self, missing: list[str], health: Health | None, archive_age: float | None) -> None:
        self._missing = missing
        self._health = health
        self._archive_age = archive_age

    def collect(self) -> Iterator[Metric]:
        missing, health = self._missing, self._health
        if self._archive_age is not None:
            help_text = "Time since the portal last confirmed a daily file of the archive"
            yield GaugeMetricFamily("scraperkit_archive_age_seconds", help_text, self._archive_age)
        yield GaugeMetricFamily("scraperkit_up", "Whether Redis with TimeSeries responds", float(health is not None))
        if health is None:
            return
        yield GaugeMetricFamily("scraperkit_ready", "Whether Redis responds and workers are alive", float(not missing))
        figures = {
            "workers": ("Workers alive", len(health.workers)),
            "queue_pending": ("Messages delivered and not acknowledged", health.pending),
            "queue_retries": ("Jobs that wait for their next attempt", health.retries),
            "queue_oldest_seconds": ("Age of the oldest open job, 0 without any", health.oldest or 0.0),
            "dead_letters": ("Jobs that failed permanently", health.dead),
            "open_circuits": ("Sites whose circuit is open", len(health.open_circuits)),
            "redis_memory_bytes": ("Memory that Redis uses", health.memory),
            "redis_memory_limit_bytes": ("Memory that Redis may use, 0 without a limit", health.memory_limit),
        }
        for name, (help_text, value) in figures.items():
            if value is not None:
                yield GaugeMetricFamily(f"scraperkit_{name}", help_text, float(value))
        # By source: a worker receives the messages of its own source only.
        lag = GaugeMetricFamily("scraperkit_queue_lag", "Messages that no worker has received yet", labels=["source"])
        for source, count in health.lags.items():
            lag.add_metric([source], count)
        yield lag


class Measured:
    """ASGI middleware that counts and times requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and record its status and duration."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        began = time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            # The pattern, never the path: a client could make up endless labels.
            route = getattr(scope.get("route"), "path_format", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - began)
