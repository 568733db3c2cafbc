"""Assembles the app."""

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
    """Make the pricer. It opens no connection before it is served; serve each app only once.

    Parameters
    ----------
    settings : Settings, optional
        Read from the environment if omitted.
    redis_url : str, optional
        As for :func:`scraperkit.connect`: if omitted, ``REDIS_URL`` or the embedded server.
    source : object with ``find_fund``, optional
        Where to look up the funds of an order that names no source; default ``SCRAPERKIT_SOURCE``: the regulator's
        pages or its open data. If it has a ``name``, its months go to the workers of that name.

    Raises
    ------
    ConfigError
        If a setting is invalid, such as an unreadable file of API keys, or an unknown source.
    """
    settings = settings or Settings.load()
    backend = Backend(settings, redis_url, source)
    keyring = Keyring(settings)
    metrics = Metrics()
    limit = RateLimit(settings.api_rate, lambda: backend.connected, backend.keys.namespace)
    # The caller reads `receivers`; the warning would reach only the log, and once. Python attributes it to the line in
    # anyio that runs a route's work in a thread.
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
    # Before the cards: a CNPJ in a path may contain a slash.
    for part in (prices, figures, quotes, funds, search, market, batches, stored, dead, rates, service):
        app.include_router(part.router)
    openapi.install(app, with_keys=keyring.configured)
    app.add_middleware(BodyLimit, most=settings.api_max_body)
    app.add_middleware(Guard, settings=settings, keyring=keyring, limit=limit)
    app.add_middleware(openapi.CarefulHeaders)
    app.add_middleware(Measured, metrics=metrics)
    app.add_middleware(RequestIds)
    return app
