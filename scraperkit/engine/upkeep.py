"""What a worker does besides jobs: signs of life, leases, retries that are due, handing back."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scraperkit.config import Settings
from scraperkit.engine.jobs import Job
from scraperkit.engine.registry import MISSED, NameTaken, Registry, WorkerCard, redis_time
from scraperkit.keys import Keys
from scraperkit.lua import script

log = logging.getLogger(__name__)
_DUE_AT_ONCE = 500


class Upkeep:
    """One worker's standing with Redis. Every call is safe to repeat."""

    def __init__(
        self,
        client: Any,
        keys: Keys,
        settings: Settings,
        registry: Registry,
        card: WorkerCard,
        outcomes: Counter[str],
    ) -> None:
        self._keys = keys
        self._lease_ms = int(settings.lease * 1000)
        self._registry = registry
        self._card = card
        self._due = script(client, "due")
        self._renew = script(client, "renew")
        self._handback = script(client, "handback")
        self._forget = script(client, "forget")
        self._client = client
        self._silence = settings.lease + settings.heartbeat * MISSED
        self._outcomes = outcomes
        self._told = Counter(outcomes)

    async def beat(self, *, subscribed_at: float, in_hand: int, errors: int) -> None:
        """Give a sign of life.

        Raises
        ------
        NameTaken
            If this worker fell silent for so long that another has taken its name.
        """
        card = replace(
            self._card,
            subscribed_at=subscribed_at,
            in_hand=in_hand,
            settled=self._outcomes.total(),
            errors=errors,
        )
        if not await self._registry.beat(card):
            raise NameTaken(f"another worker is called {card.name!r} now; this one fell silent for too long")

    def tell(self) -> None:
        """Write to the log what has been settled since the last time: a line for each job would be too many."""
        news = self._outcomes - self._told
        if news:
            log.info("%s: %s", self._card.name, ", ".join(f"{count} {outcome}" for outcome, count in news.items()))
            self._told = Counter(self._outcomes)

    async def leave(self) -> None:
        """Give the name back."""
        await self._registry.leave()

    async def forget_the_dead(self) -> None:
        """Forget workers that have been silent for long, once nothing of theirs is pending."""
        now = await redis_time(self._client)
        names = await self._client.zrangebyscore(self._keys.workers, "-inf", now - self._silence)
        if names:
            gone = await self._forget(
                keys=[self._keys.jobs, self._keys.workers, *(self._keys.worker(name) for name in names)],
                args=[self._keys.group, *names],
            )
            if gone:
                log.info("forgot dead workers: %s", ", ".join(gone))

    async def renew(self, jobs: Sequence[Job]) -> None:
        """Renew the leases of the jobs in hand."""
        claims = [self._keys.claim(job.message_id) for job in jobs if not job.entry_id]
        entries = [job.entry_id for job in jobs if job.entry_id]
        if claims or entries:
            await self._renew(
                keys=[self._keys.jobs, *claims],
                args=[self._keys.group, self._card.name, self._card.instance, self._lease_ms, *entries],
            )

    async def feed_retries(self) -> None:
        """Put retries that are due back into the stream."""
        await self._due(keys=[self._keys.retries, self._keys.jobs], args=[_DUE_AT_ONCE])

    async def hand_back(self, jobs: Sequence[Job]) -> None:
        """Give jobs to the other workers: into the stream again, or out on the channel again.

        A message that every worker does for itself (fan-out) is nobody else's, and is dropped.
        """
        entries = [job.entry_id for job in jobs if job.entry_id]
        spoken = [job for job in jobs if not job.entry_id and job.claiming]
        if not entries and not spoken:
            return
        back = await self._handback(
            keys=[self._keys.jobs, self._keys.channel, *(self._keys.claim(job.message_id) for job in spoken)],
            args=[
                *(self._keys.group, self._card.name, self._card.instance, len(entries)),
                *entries,
                *(job.raw for job in spoken),
            ],
        )
        log.info("handed back %d jobs", back)
