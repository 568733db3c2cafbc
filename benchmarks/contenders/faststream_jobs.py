"""FastStream: a stream subscriber with a group, eight handlers at once."""

import asyncio

from counting import THREADS, URL, job_done, payloads
from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub

broker = RedisBroker(URL, logger=None)
app = FastStream(broker, logger=None)
jobs = StreamSub("jobs", group="workers", consumer="one", last_id="0", max_records=1_000)


@broker.subscriber(stream=jobs, max_workers=THREADS)
def noop(message: dict[str, str]) -> None:
    job_done(message)


def publish() -> None:
    asyncio.run(_publish())


async def _publish() -> None:
    async with RedisBroker(URL, logger=None) as publisher:
        for document, fund_pk, month_year in payloads():
            message = {"document": document, "fund_pk": fund_pk, "month_year": month_year}
            await publisher.publish(message, stream=jobs.name)
