"""Taskiq: the stream broker, which acknowledges; with orjson and uvloop."""

import asyncio
import os

from counting import URL, job_done, payloads
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(URL, consumer_id="0", xread_count=1_000).with_serializer(ORJSONSerializer())


@broker.task
def noop(document: str, fund_pk: str, month_year: str) -> None:
    job_done(document, fund_pk, month_year)


@broker.task
async def async_noop(document: str, fund_pk: str, month_year: str) -> None:
    job_done(document, fund_pk, month_year)


def publish() -> None:
    asyncio.run(_publish(async_noop if os.environ.get("BENCH_ASYNC") else noop))


async def _publish(task) -> None:
    await broker.startup()
    for payload in payloads():
        await task.kiq(*payload)
    await broker.shutdown()
