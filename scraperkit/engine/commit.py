"""Results become stored series, and then settled jobs: in that order, many at a time."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from itertools import chain
from typing import Any

from pydantic_core import to_json

from scraperkit.engine.jobs import Result, describe
from scraperkit.engine.redis_retry import is_away
from scraperkit.engine.registry import Session
from scraperkit.errors import ConfigError, StoreError
from scraperkit.lua import scripts
from scraperkit.models import iso_month
from scraperkit.timeseries.commands import (
    add_commands,
    check_replies,
    refused_funds,
    repair_commands,
)
from scraperkit.timeseries.link import send_packed

log = logging.getLogger(__name__)
# Nothing of these is ever tried again, so nothing needs their message.
_SETTLED = ("done", "ignored")


class Committer:
    """Writes the quotes that threads brought, notes their months, then settles the jobs."""

    def __init__(self, session: Session) -> None:
        self._client, self._keys, self._settings = session.client, session.keys, session.settings
        self._card = session.card
        self._funds_noted: set[str] = set()

    async def commit(self, results: Sequence[Result]) -> list[str]:
        """Store and settle `results`; safe to repeat after a lost connection.

        Returns
        -------
        list of str
            What became of each: done, retry, failed, dead, ignored or superseded.
        """
        stored = await self._store(results)
        notes = self._months_stored(stored)
        errors = [result.job.problem or describe(result.error) for result in stored]
        settings = self._settings
        noted, answers = await scripts.commit(
            self._client,
            self._keys,
            jobs=list(map(self._settlement, stored, errors)),
            events=_events(stored, errors, self._card.instance),
            notes=notes,
            consumer=self._card.name,
            instance=self._card.instance,
            events_kept=settings.events_kept,
            claim_ttl=settings.claim_ttl,
            max_attempts=settings.max_attempts,
            backoff=settings.backoff,
            backoff_limit=settings.backoff_limit,
        )
        self._look_at(notes, noted)
        for result, answer, error in zip(stored, answers, errors, strict=True):
            if answer in ("retry", "failed", "dead"):
                request = result.job.request
                about = f"{request.document} {request.month_year}" if request else "a message"
                log.warning("%s: %s: %s", about, answer, error)
        return answers

    def _settlement(self, result: Result, error: str) -> scripts.Settlement:
        job, request, outcome = result.job, result.job.request, result.outcome
        is_over = outcome in _SETTLED
        return scripts.Settlement(
            job.entry_id,
            "" if job.entry_id else self._keys.claim(job.message_id),
            job.message_id,
            self._keys.batch(request.batch_id) if request and request.batch_id else "",
            scripts.label(request.document, request.month_year) if request else "- -",
            outcome,
            error,
            "" if is_over else job.raw,
            job.claiming,
            0.0 if is_over else random.random(),
        )

    async def _store(self, results: Sequence[Result]) -> Sequence[Result]:
        if any(result.quotes for result in results):
            good = [result for result in results if result.outcome == "done"]
            try:
                await self._write(good)
            except (StoreError, ConfigError):
                # One bad sample must not fail the jobs it happened to be written with.
                results = [await self._store_alone(result) for result in results]
        return results

    async def _store_alone(self, result: Result) -> Result:
        if result.outcome == "done" and result.quotes:
            try:
                await self._write([result])
            except (StoreError, ConfigError) as error:
                return result.failed(error)
        return result

    def _months_stored(self, results: Sequence[Result]) -> list[scripts.MonthsStored]:
        """Return what is to be noted of each fund: it goes ahead of the settlement, in the same round trip."""
        funds: dict[str, scripts.MonthsStored] = {}
        for request in [result.job.request for result in results if result.outcome == "done"]:
            if request is not None:
                cnpj = request.document
                if cnpj not in funds:
                    funds[cnpj] = scripts.MonthsStored(cnpj, request.fund_pk, [], cnpj in self._funds_noted)
                funds[cnpj].months.append(iso_month(request.month_year))
        return list(funds.values())

    def _look_at(self, notes: Sequence[scripts.MonthsStored], replies: Sequence[Any]) -> None:
        """Log what could not be noted: the quotes are stored, but ``only_missing`` will publish those months again."""
        for note, reply in zip(notes, _answered(replies), strict=True):
            if isinstance(reply, Exception):
                log.warning("Redis refused to note which months of %s are stored: %s", note.cnpj, reply)
            else:
                self._funds_noted.add(note.cnpj)

    async def _write(self, results: Sequence[Result]) -> None:
        adds = add_commands(self._keys, chain.from_iterable(result.quotes for result in results))
        refused = refused_funds(adds, await self._send(adds))
        if refused:
            again = repair_commands(self._keys, adds, refused)
            check_replies(again, await self._send(again))

    async def _send(self, commands: Sequence[bytes]) -> list[Any]:
        return _answered(await send_packed(self._client.connection_pool, commands))


def _answered(replies: Sequence[Any]) -> list[Any]:
    """Return the replies, unless one says that Redis is away."""
    for reply in replies:
        if is_away(reply):
            raise reply
    return list(replies)


def _events(results: Sequence[Result], errors: Sequence[str], worker: str) -> list[bytes]:
    stored_at = time.time()
    return [_event(result, stored_at, worker, error) for result, error in zip(results, errors, strict=True)]


def _event(result: Result, stored_at: float, worker: str, error: str) -> bytes:
    job, request = result.job, result.job.request
    event = {
        "message": job.message_id,
        "delivery": job.delivery,
        "worker": worker,
        "thread": result.thread,
        "received_at": job.received_at,
        "started_at": result.started_at,
        "fetched_at": result.fetched_at,
        "stored_at": stored_at,
        "quotes": len(result.quotes),
    }
    if request is not None:
        event |= {
            "batch": request.batch_id,
            "cnpj": request.document,
            "month": request.month_year,
            "published_at": request.published_at,
        }
    if error:
        event["error"] = error
    return to_json(event)
