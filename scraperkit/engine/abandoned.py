"""Entries of the job stream whose worker died, and what to do about those that it may have died of."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

from redis.exceptions import ResponseError

from scraperkit.config import Settings
from scraperkit.engine.jobs import Job, read_message
from scraperkit.keys import Keys

log = logging.getLogger(__name__)
_LOOKED_AT = 10_000
_SUSPECT_AFTER = 2
_FEWEST_LIVES = 3


async def make_group(client: Any, keys: Keys) -> None:
    """Make the job stream and its group, reading from the start, unless they are there."""
    try:
        await client.xgroup_create(keys.jobs, keys.group, id="0", mkstream=True)
    except ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


class Abandoned:
    """What dead workers left, one of them perhaps an earlier life of this one.

    Redis counts how often an entry has been handed out. One that was handed out twice, and lost its worker twice, is
    suspected to be what kills them: from then on it is worked on with no other suspect beside it, so that the innocent
    that shared a dying worker's hand get done. After as many lives as a job has attempts, it becomes a dead letter.
    """

    def __init__(self, client: Any, keys: Keys, consumer: str, settings: Settings) -> None:
        self._client = client
        self._keys = keys
        self._consumer = consumer
        self._settings = settings
        self._lives = max(_FEWEST_LIVES, settings.max_attempts)
        self._suspect = ""
        self._looked = False
        self.waiting: dict[str, int] = {}

    async def pending(self, count: int = _LOOKED_AT, **which: Any) -> list[dict[str, Any]]:
        """Return what the group has pending: none, if there is no group."""
        try:
            rows: list[dict[str, Any]] = await self._client.xpending_range(
                self._keys.jobs, self._keys.group, "-", "+", count, **which
            )
        except ResponseError as error:
            if str(error).startswith("NOGROUP"):
                return []
            raise
        return rows

    async def look_for_inherited(self) -> None:
        """Once, at the start: what an earlier life of this worker had in hand."""
        if not self._looked:
            rows = await self.pending(consumername=self._consumer)
            self.waiting = {row["message_id"]: row["times_delivered"] for row in rows}
            self._looked = True

    async def inherited(self, room: int, held: Collection[str]) -> list[Job]:
        """Take up what an earlier life left, as far as there is room."""
        if not self.waiting:
            return []
        # What waited its turn may have been taken over by another meanwhile.
        mine = {row["message_id"] for row in await self.pending(consumername=self._consumer)}
        self.waiting = {entry_id: times for entry_id, times in self.waiting.items() if entry_id in mine}
        chosen = self._choose(self.waiting, room, held)
        jobs = await self._claim(chosen, 0.0)
        for entry_id in chosen:
            del self.waiting[entry_id]
        return jobs

    async def of_others(self, room: int, held: Collection[str], idle: float) -> list[Job]:
        """Take over what others have let lie for `idle` seconds, as far as there is room."""
        rows = await self.pending(count=room + len(held) + 1, idle=int(idle * 1000))
        times = {row["message_id"]: row["times_delivered"] for row in rows if row["message_id"] not in held}
        jobs = await self._claim(self._choose(times, room, held), idle)
        if jobs:
            log.info("took over %d jobs that lay idle for %.1f s", len(jobs), idle)
        return jobs

    def _choose(self, times: dict[str, int], room: int, held: Collection[str]) -> dict[str, int]:
        """All that are above suspicion; of the suspects one, unless one is in hand."""
        chosen = {entry_id: count for entry_id, count in times.items() if count < _SUSPECT_AFTER}
        if self._suspect not in held:
            suspects = [entry_id for entry_id in times if entry_id not in chosen][:1]
            chosen = {entry_id: times[entry_id] for entry_id in suspects} | chosen
            self._suspect = suspects[0] if suspects else ""
        return dict(list(chosen.items())[:room])

    async def _claim(self, chosen: dict[str, int], idle: float) -> list[Job]:
        if not chosen:
            return []
        try:
            entries: Sequence[tuple[str, dict[str, str]]] = await self._client.xclaim(
                self._keys.jobs, self._keys.group, self._consumer, int(idle * 1000), list(chosen)
            )
        except ResponseError as error:
            if str(error).startswith("NOGROUP"):
                return []
            raise
        return [self._job(entry_id, fields, chosen[entry_id] + 1) for entry_id, fields in entries if fields]

    def _job(self, entry_id: str, fields: dict[str, str], times: int) -> Job:
        job = read_message(fields.get("message", ""), "stream", self._settings, entry_id)
        if times <= self._lives or job.problem:
            return job
        return job._replace(problem=f"WorkerDied: handed out {times - 1} times, and each time the worker fell silent")
