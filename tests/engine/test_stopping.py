"""A worker stops in time, whatever it waits for."""

from __future__ import annotations

import asyncio
import contextlib
import gc

from support.fakes import FakeSite

from scraperkit.engine.redis_retry import all_of, first_error
from scraperkit.engine.registry import Housekeeping

AN_HOUR = 3600.0


class TestStopping:
    def test_survives_a_lost_cancellation(self):
        """Python 3.11's ``asyncio.wait_for``, used by redis-py, loses a cancellation that arrives as a send ends."""

        async def deaf_once() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(AN_HOUR)
            await asyncio.sleep(AN_HOUR)

        async def go() -> None:
            async with asyncio.timeout(60), all_of(deaf_once()):
                await asyncio.sleep(0)

        asyncio.run(go())

    def test_leaves_no_card_even_if_heartbeats_continue(self, subscriber, redis, keys, monkeypatch):
        leave = Housekeeping.leave

        async def leave_and_linger(housekeeping: Housekeeping) -> None:
            await leave(housekeeping)
            await asyncio.sleep(0.5)

        monkeypatch.setattr(Housekeeping, "leave", leave_and_linger)
        one = subscriber(FakeSite(), heartbeat=0.1)
        name = one.name
        one.stop()
        assert not redis.exists(keys.worker(name), keys.workers)


def test_errors_of_several_tasks_are_reported_once_without_a_traceback_in_the_log():
    told: list[object] = []

    async def fail() -> None:
        raise ConnectionError("Redis is away")

    async def go() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with all_of(fail(), fail()) as tasks:
            await asyncio.wait(tasks)
            assert isinstance(first_error(tasks), ConnectionError)
        del tasks
        gc.collect()

    asyncio.run(go())
    assert told == []
