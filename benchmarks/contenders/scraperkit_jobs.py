"""scraperkit: a worker in its default settings, as ``scraperkit work`` runs it, but for the source."""

from __future__ import annotations

import asyncio
import signal
import time

from counting import THREADS, URL, job_done, payloads

from scraperkit import DailyQuote, Publisher, ScrapeRequest, connect
from scraperkit.worker import Worker


class Nothing:
    """A source without pages."""

    def fetch(self, request: ScrapeRequest) -> list[DailyQuote]:
        job_done(request)
        return []


def publish() -> float:
    requests = [ScrapeRequest(document=cnpj, fund_pk=pk, month_year=month) for cnpj, pk, month in payloads()]
    with connect(URL) as redis:
        began = time.perf_counter()
        Publisher(redis).publish(requests)
        return time.perf_counter() - began


async def work() -> None:
    with connect(URL) as redis:
        worker = Worker(redis, Nothing(), threads=THREADS)
        await worker.start()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.request_stop)
        await worker.run()


if __name__ == "__main__":
    asyncio.run(work())
