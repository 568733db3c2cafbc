"""Puts the app together."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import AsyncIterator

import anyio.to_thread
from fastapi import FastAPI

from scraperkit.api import (
    batches,
    dead,
    figures,
    funds,
    market,
    openapi,
    prices,
    problems,
    quotes,
    rates,
    search,
    service,
    stored,
)
from scraperkit.api.backend import Backend, FundSource
from scraperkit.api.guard import BodyLimit, Guard
from scraperkit.api.keyring import Keyring
from scraperkit.api.metrics import Measured, Metrics
from scraperkit.api.ratelimit import RateLimit
from scraperkit.api.request_ids import RequestIds
from scraperkit.api.running import Running
from scraperkit.config import Settings, __version__
from scraperkit.errors import ScraperKitWarning


def create_app(
    settings: Settings | None = None, *, redis_url: str | None = None, source: FundSource | None = None
) -> FastAPI:
    """Make the pricer. It opens no connection before it is served; one app is served once.

    Parameters
    ----------
    settings : Settings, optional
        From the environment if left out.
    redis_url : str, optional
        As for :func:`scraperkit.connect`: ``REDIS_URL`` if left out, or the embedded server.
    source : object with ``find_fund``, optional
        Where funds are looked up that an order names no other source for; what ``SCRAPERKIT_SOURCE`` says if left out:
        the regulator's pages, or its open data. If it has a ``name``, its months go to the workers of that name.

    Raises
    ------
    ConfigError
        If a setting does not fit, such as a file of API keys that cannot be read, or the name of a source.
    """
    settings = settings or Settings.load()
    backend = Backend(settings, redis_url, source)
    keyring = Keyring(settings)
    metrics = Metrics()
    limit = RateLimit(settings.api_rate, lambda: backend.connected, backend.keys.namespace)
    # `receivers` tells the caller; the warning would only tell the log, and once. Its line is that which calls the kit:
    # the one that runs a route's work in a thread.
    warnings.filterwarnings("ignore", "no subscriber on", ScraperKitWarning, r"anyio\.")

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.running = Running(settings, backend, metrics)
        try:
            yield
        finally:
            app.state.running.stop()
            await limit.close()
            await anyio.to_thread.run_sync(app.state.running.newsroom.close)
            await anyio.to_thread.run_sync(backend.close)

    app = FastAPI(
        title="scraperkit pricer",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.keyring, app.state.backend = keyring, backend
    problems.install(app)
    # Before the cards: a CNPJ in a path may hold a slash of its own.
    for part in (prices, figures, quotes, funds, search, market, batches, stored, dead, rates, service):
        app.include_router(part.router)
    openapi.install(app, with_keys=keyring.configured)
    app.add_middleware(BodyLimit, most=settings.api_max_body)
    app.add_middleware(Guard, settings=settings, keyring=keyring, limit=limit)
    app.add_middleware(openapi.CarefulHeaders)
    app.add_middleware(Measured, metrics=metrics)
    app.add_middleware(RequestIds)
    return app
