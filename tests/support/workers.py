"""Workers and subscribers with settings chosen by a test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from scraperkit.config import Settings
from scraperkit.engine.worker import Worker
from scraperkit.subscriber import Subscriber

# A short lease makes upkeep frequent; with a longer heartbeat, a worker that starves for a second keeps its name.
QUICK = {"lease": 1.0, "heartbeat": 2.0, "backoff": 0.05, "threads": 2, "max_attempts": 5}
AT_ONCE = {"backoff": 0.0, "max_attempts": 3, "threads": 2}
# The lease sets the pace of upkeep, the heartbeat the life of a card: ten heartbeats a second, each valid for 60 s.
LIVELY = {"lease": 0.4, "heartbeat": 20.0}


def subscriber(redis, namespace, site, **options) -> Subscriber:
    given = {key: options.pop(key) for key in list(options) if key in Settings.model_fields}
    settings = Settings.load(namespace=namespace, **given)
    return Subscriber(redis, site, settings=settings, **options)


def step(worker: Worker, before: Callable[[], object] = lambda: None, *, times: int = 1, block: float = 0.0) -> dict:
    """Start a worker, call `before`, step it, and close it; return the outcomes."""

    async def go() -> dict:
        await worker.start()
        try:
            before()
            for _ in range(times):
                await worker.step(block)
        finally:
            await worker.close()
        return dict(worker.outcomes)

    return asyncio.run(go())
