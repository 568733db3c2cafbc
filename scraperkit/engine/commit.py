"""Results become stored series, and then settled jobs: in that order, many at a time."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping, Sequence

from pydantic_core import to_json

from scraperkit.engine.jobs import Result, describe
from scraperkit.engine.redis_retry import is_away
from scraperkit.engine.registry import Session
from scraperkit.errors import StoreError
from scraperkit.lua import scripts
from scraperkit.models import METRICS, ScrapeRequest, iso_month
from scraperkit.timeseries.commands import DAY_MS, SERIES_OPTIONS, day_number, month_words

log = logging.getLogger(__name__)
# Nothing of these is ever tried again, so nothing needs their message.
_SETTLED = ("done", "ignored")


class Committer:
    """Replaces the months that threads brought, then settles the jobs."""

    def __init__(self, session: Session, source: str) -> None:
        self._client, self._keys, self._settings = session.client, session.keys, session.settings
        self._card = session.card
        self._source = source
        self._known_funds: set[str] = set()

    async def commit(self, results: Sequence[Result]) -> list[str]:
        """Store and settle `results`; safe to repeat after a lost connection.

        Returns
        -------
        list of str
            What became of each: done, retry, failed, dead, ignored or superseded.
        """
        stored, months = await self._store(results)
        errors = [result.job.problem or describe(result.error) for result in stored]
        settings = self._settings
        answers = await scripts.commit(
            self._client,
            self._keys,
            jobs=list(map(self._settlement, stored, errors)),
            events=_events(stored, months, errors, self._card.instance),
            consumer=self._card.name,
            instance=self._card.instance,
            events_kept=settings.events_kept,
            claim_ttl=settings.claim_ttl,
            max_attempts=settings.max_attempts,
            backoff=settings.backoff,
            backoff_limit=settings.backoff_limit,
        )
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

    async def _store(self, results: Sequence[Result]) -> tuple[list[Result], list[scripts.MonthStored]]:
        """Replace the months of what is done; return the results, failed where Redis refused, and what became of each.

        Months of one fund go together. If Redis refuses them all, for one is not as it should be, each goes alone.
        """
        stored = list(results)
        months = [scripts.MonthStored()] * len(stored)
        fetched: dict[int, scripts.MonthFetched] = {}
        cnpjs: dict[int, str] = {}
        by_fund: dict[str, list[int]] = {}
        for place, result in enumerate(stored):
            request = result.job.request
            if result.outcome == "done" and request is not None:
                try:
                    fetched[place] = self._month(request, result)
                    cnpjs[place] = request.document
                    by_fund.setdefault(request.document, []).append(place)
                except StoreError as error:
                    stored[place] = result.failed(error)
        together = list(by_fund.values())
        while together:
            alone: list[list[int]] = []
            for places, reply in zip(together, await self._replace(results, together, fetched), strict=True):
                if isinstance(reply, Exception) and len(places) > 1:
                    alone += [[place] for place in places]
                    continue
                for at, place in enumerate(places):
                    months[place] = reply[at] if not isinstance(reply, Exception) else _refused(fetched[place], reply)
                    if months[place].refusal:
                        stored[place] = stored[place].failed(StoreError(f"Redis refused {months[place].refusal}"))
                        # The next attempt sees to its series again.
                        self._known_funds.discard(cnpjs[place])
            together = alone
        return stored, months

    def _month(self, request: ScrapeRequest, result: Result) -> scripts.MonthFetched:
        period = request.period
        first, after = (day_number(month.first_day) * DAY_MS for month in (period, period.shift(1)))
        return scripts.MonthFetched(
            iso_month(request.month_year),
            first,
            after - 1,
            f"{result.token:.6f}",
            month_words(self._keys, request.document, result.quotes),
        )

    async def _replace(
        self, results: Sequence[Result], together: Sequence[Sequence[int]], fetched: Mapping[int, scripts.MonthFetched]
    ) -> Sequence[list[scripts.MonthStored] | Exception]:
        funds = []
        for places in together:
            request = results[places[0]].job.request
            assert request is not None  # noqa: S101
            cnpj = request.document
            months = [fetched[place] for place in places]
            funds.append(scripts.FundFetched(cnpj, request.fund_pk, cnpj in self._known_funds, months))
        replies = await scripts.replace_months(
            self._client, self._keys, funds, source=self._source, metrics=METRICS, options=SERIES_OPTIONS
        )
        for fund, reply in zip(funds, replies, strict=True):
            if not isinstance(reply, Exception):
                self._known_funds.add(fund.cnpj)
            elif is_away(reply):
                raise reply
        return replies


def _refused(month: scripts.MonthFetched, error: Exception) -> scripts.MonthStored:
    return scripts.MonthStored(refusal=f"{month.month}: {error}")


def _events(
    results: Sequence[Result], months: Sequence[scripts.MonthStored], errors: Sequence[str], worker: str
) -> list[bytes]:
    stored_at = time.time()
    return [
        _event(result, month, stored_at, worker, error)
        for result, month, error in zip(results, months, errors, strict=True)
    ]


def _event(result: Result, month: scripts.MonthStored, stored_at: float, worker: str, error: str) -> bytes:
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
        "changed": month.changed,
        "withdrawn": month.withdrawn,
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
