"""Suspects, messages that may kill workers: a worker holds only one at a time."""

from __future__ import annotations

import asyncio

from support.fakes import months

from scraperkit.config import Settings
from scraperkit.connection import async_client
from scraperkit.engine.deliveries import StreamDelivery
from scraperkit.engine.registry import Session, enter


def test_only_one_of_two_suspects_is_in_hand_even_if_two_tasks_take_entries(publisher, redis, keys):
    publisher.publish(months(2))
    ((_, entries),) = redis.xreadgroup(keys.group, "anna", {keys.jobs: ">"}).items()
    ids = [entry_id for part in entries for entry_id, _ in part]
    redis.xclaim(keys.jobs, keys.group, "anna", 0, ids, idle=3_600_000)
    in_hand: set[str] = set()

    async def take(taking) -> None:
        in_hand.update(job.key for job in await taking)

    async def look() -> None:
        async with async_client(redis) as client:
            settings = Settings.load()
            card = await enter(client, keys, settings, "stream", "anna")
            stream = StreamDelivery(Session(client, keys, settings, card, True))
            await stream.open()
            inherits = asyncio.create_task(take(stream.receive(5, lambda: in_hand, 0)))
            while len(redis.xpending_range(keys.jobs, keys.group, "-", "+", 2, idle=60_000)) == 2:
                assert not inherits.done()
                await asyncio.sleep(0)
            # Redis has handed out one, but the task has not seen the reply yet.
            await take(stream.take_expired(5, lambda: in_hand, 60.0))
            await inherits
            await stream.close()

    asyncio.run(look())
    assert len(in_hand) == 1
