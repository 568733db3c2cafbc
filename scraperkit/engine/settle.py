"""Results become stored series, and then settled jobs: in that order, many at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from itertools import chain
from typing import Any

from scraperkit.config import Settings
from scraperkit.engine.jobs import Result, commit_words, describe
from scraperkit.engine.outage import is_away
from scraperkit.engine.registry import WorkerCard
from scraperkit.errors import ConfigError, StoreError
from scraperkit.keys import Keys
from scraperkit.lua import script
from scraperkit.timeseries.commands import (
    Command,
    add_commands,
    check_replies,
    refused_funds,
    repair_commands,
)

log = logging.getLogger(__name__)


class Settler:
    """Writes what threads brought, then acknowledges it."""

    def __init__(self, client: Any, keys: Keys, settings: Settings, card: WorkerCard) -> None:
        self._client = client
        self._keys = keys
        self._settings = settings
        self._card = card
        self._known: set[str] = set()
        self._commit = script(client, "commit")

    async def settle(self, results: Sequence[Result]) -> list[str]:
        """Store and settle `results`; safe to repeat after a lost connection.

        Returns
        -------
        list of str
            What became of each: done, retry, failed, dead, ignored or superseded.
        """
        stored = await self._store(results)
        keys, settings = self._keys, self._settings
        answers: list[str] = await self._commit(
            keys=[keys.jobs, keys.events, keys.dead, keys.retries, keys.history],
            args=[
                keys.group,
                self._card.name,
                self._card.instance,
                settings.events_kept,
                settings.claim_ttl * 1000,
                settings.max_attempts,
                int(settings.backoff * 1000),
                int(settings.backoff_limit * 1000),
                *commit_words(keys, stored, time.time(), self._card.instance, self._known),
            ],
        )
        for result, answer in zip(stored, answers, strict=True):
            if answer == "done" and result.job.request is not None:
                self._known.add(result.job.request.document)
            if answer in ("retry", "failed", "dead"):
                request = result.job.request
                about = f"{request.document} {request.month_year}" if request else "a message"
                log.warning("%s: %s: %s", about, answer, result.job.problem or describe(result.error))
        return answers

    async def _store(self, results: Sequence[Result]) -> list[Result]:
        good = [result for result in results if result.outcome == "done"]
        if not any(result.quotes for result in good):
            return list(results)
        try:
            await self._write(good)
        except (StoreError, ConfigError):
            # One bad sample must not fail the jobs it happened to be written with.
            return [await self._store_alone(result) for result in results]
        return list(results)

    async def _store_alone(self, result: Result) -> Result:
        if result.outcome != "done":
            return result
        try:
            await self._write([result])
        except (StoreError, ConfigError) as error:
            return result._replace(quotes=(), error=error)
        return result

    async def _write(self, results: Sequence[Result]) -> None:
        adds = add_commands(self._keys, chain.from_iterable(result.quotes for result in results))
        refused = refused_funds(adds, await self._send(adds))
        if refused:
            again = repair_commands(self._keys, adds, refused)
            check_replies(again, await self._send(again))

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies = list(await pipeline.execute(raise_on_error=False))
        for reply in replies:
            if is_away(reply):
                raise reply
        return replies
