"""FastStream: a stream subscriber in a consumer group, with eight concurrent handlers."""

import asyncio
import os

from counting import THREADS, URL, job_done, payloads
from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub

broker = RedisBroker(URL, logger=None)
app = FastStream(broker, logger=None)
jobs = StreamSub("jobs", group="workers", consumer="one", last_id="0", max_records=1_000)


def noop(message: dict[str, str]) -> None:
    job_done(message)


async def async_noop(message: dict[str, str]) -> None:
    job_done(message)


broker.subscriber(stream=jobs, max_workers=THREADS)(async_noop if os.environ.get("BENCH_ASYNC") else noop)


def publish() -> None:
    asyncio.run(_publish())


async def _publish() -> None:
    async with RedisBroker(URL, logger=None) as publisher:
        for document, fund_pk, month_year in payloads():
            message = {"document": document, "fund_pk": fund_pk, "month_year": month_year}
            await publisher.publish(message, stream=jobs.name)
