"""A message that a worker holds: its result, its settlement, and handing it back."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import random
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple, Self

from pydantic_core import to_json

from scraperkit.config import Settings
from scraperkit.engine.redis_retry import is_away
from scraperkit.engine.registry import Session
from scraperkit.errors import BadMessage, MonthNotOffered, ScraperKitError, SourceError, StoreError
from scraperkit.failover.confirmation import Confirmation, check_right_to_wait, confirmed
from scraperkit.keys import DeliveryName
from scraperkit.lua import scripts
from scraperkit.models import METRICS, DailyQuote, Month, ScrapeRequest, Stored, current_request, news
from scraperkit.sources.base import Source, name_of
from scraperkit.text import printable
from scraperkit.timeseries.commands import DAY_MS, SERIES_OPTIONS, by_series, day_number, words_of

log = logging.getLogger(__name__)
_ERROR_LENGTH = 2_000
# Mistakes in a source's code, which recur each time. A ValueError may come from a page that is broken only this time.
_PROGRAMMING = (
    TypeError, AttributeError, NameError, KeyError, IndexError, ImportError, SyntaxError, NotImplementedError,
)  # fmt: skip
_KIT = Path(__file__).parents[1]
_RAW_IDS = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
_KEPT_OF_OVERSIZE = 1_000
_LONGEST_CHARACTER = 4  # bytes in UTF-8
# These are never tried again, so their message is not needed.
_SETTLED = ("done", "ignored", "not_offered")
# Redis refuses more than about a million words in a command, and does nothing else while a script writes them.
_WORDS_AT_ONCE = 100_000


class Job(NamedTuple):
    """A message as a worker received it. A tuple, like `Result`, because tuples are the quickest to create.

    Attributes
    ----------
    raw : str
        The text of the message.
    request : ScrapeRequest or None
        The message if it is valid; otherwise `problem` says why not.
    delivery : {"stream", "pubsub"}
    entry_id : str
        The stream entry, empty for Pub/Sub.
    message_id : str
    claiming : bool
        Whether only one worker is to process it (Pub/Sub).
    received_at : float
        Seconds since 1970.
    problem : str
        Why the message is invalid; empty if it is valid.
    taken_from : str
        The worker that held it before, perhaps an earlier life of this one; empty if Redis delivered it.
    """

    raw: str
    request: ScrapeRequest | None
    delivery: DeliveryName
    entry_id: str
    message_id: str
    claiming: bool
    received_at: float
    problem: str = ""
    taken_from: str = ""

    @property
    def key(self) -> str:
        """What identifies it among the jobs of its delivery."""
        return self.entry_id or self.message_id

    @property
    def request_id(self) -> str:
        """The request to the pricer behind it; empty if its message names none."""
        return (self.request.request_id or "") if self.request is not None else ""


def read_message(
    raw: str, delivery: DeliveryName, settings: Settings, entry_id: str = "", claiming: bool = False
) -> Job:
    """Return a job for a message as it came off the wire; an invalid message becomes a job with a problem."""
    now = time.time()
    most = settings.max_message_bytes
    fits = len(raw) * _LONGEST_CHARACTER <= most or len(raw.encode("utf-8", "surrogateescape")) <= most
    try:
        if not fits:
            size = len(raw.encode("utf-8", "surrogateescape"))
            raise BadMessage(f"the message has {size} bytes; at most {most} are accepted")
        request = ScrapeRequest.parse(raw)
    except BadMessage as error:
        kept = raw if fits else raw[:_KEPT_OF_OVERSIZE]
        readable = kept.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        message_id = str(uuid.uuid5(_RAW_IDS, repr(raw)))
        return Job(readable, None, delivery, entry_id, message_id, claiming, now, describe(error))
    return Job(raw, request, delivery, entry_id, request.message_id, claiming, now)


class Result(NamedTuple):
    """The result of a job in a thread: quotes, or an error.

    `started_at` and `fetched_at` are by this machine's clock. `token` is `started_at` by the clock of Redis as then
    known; it is the fencing token of the quotes.
    """

    job: Job
    quotes: Sequence[DailyQuote]
    error: BaseException | None
    thread: str
    started_at: float
    fetched_at: float
    token: float

    def failed(self, error: Exception) -> Self:
        """Return the result without quotes and with this error, since the quotes cannot be stored."""
        return self._replace(quotes=(), error=error)

    @property
    def outcome(self) -> str:
        """``done``, ``ignored``, ``not_offered``, ``failed`` (may be retried) or ``fatal`` (may not)."""
        if self.job.problem:
            return "fatal"
        if self.error is None:
            return "ignored" if self.job.request is not None and self.job.request.acked else "done"
        if isinstance(self.error, MonthNotOffered):
            return "not_offered"
        if not is_transient(self.error):
            # A Pub/Sub job that fails is only counted: only the stream has dead letters.
            return "fatal" if self.job.delivery == "stream" else "failed"
        return "failed"


def is_transient(error: BaseException) -> bool:
    """Return whether a retry can help.

    Examples
    --------
    >>> is_transient(OSError("reset")), is_transient(KeyError("quota"))
    (True, False)
    """
    if isinstance(error, SourceError):
        return error.retryable
    return isinstance(error, ScraperKitError) or not isinstance(error, _PROGRAMMING)


def describe(error: BaseException | None) -> str:
    """Return an error as one line of printable UTF-8: class, message and, for a mistake in code, its place."""
    if error is None:
        return ""
    text = printable(" ".join(str(error).split()))
    told = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{told[:_ERROR_LENGTH]}{_place(error)}"


def _place(error: BaseException) -> str:
    """Return where a mistake in code was made, from the traceback's last line; empty if in the kit's code."""
    if isinstance(error, ScraperKitError) or is_transient(error):
        return ""
    last = next(reversed(traceback.extract_tb(error.__traceback__)), None)
    if last is None or Path(last.filename).is_relative_to(_KIT):
        return ""
    line = f": {printable(last.line)[:200]}" if last.line else ""
    return f" ({printable(Path(last.filename).name)}, line {last.lineno}, in {last.name}{line})"


class Committer:
    """Replace the months that threads fetched, then settle the jobs."""

    def __init__(self, session: Session, source: Source) -> None:
        self._client, self._keys, self._settings = session.client, session.keys, session.settings
        self._card = session.card
        self._source = name_of(source)
        self._is_whole = bool(getattr(source, "has_subclasses", False))
        replicas = session.settings.confirmations
        self._wanted = Confirmation(replicas, session.settings.confirmation_timeout) if replicas else None
        self._known_funds: set[str] = set()
        self._news_refused = False

    async def open(self) -> None:
        """Check that Redis allows this user to wait for replicas, if a commit has to."""
        if self._wanted is not None:
            await check_right_to_wait(self._client)

    async def commit(self, results: Sequence[Result]) -> list[str]:
        """Store and settle `results`; safe to repeat after a lost connection.

        Returns
        -------
        list of str
            The outcome of each: done, not_offered, retry, failed, dead, ignored or superseded.
        """
        stored, months, days = await self._store(results)
        errors = [result.job.problem or describe(result.error) for result in stored]
        settings = self._settings
        settle = partial(
            scripts.commit,
            keys=self._keys,
            jobs=list(map(self._settlement, stored, errors)),
            events=_events(stored, months, errors, self._card.instance),
            news=_news(stored, months, days),
            consumer=self._card.name,
            instance=self._card.instance,
            events_kept=settings.events_kept,
            claim_ttl=settings.claim_ttl,
            max_attempts=settings.max_attempts,
            backoff=settings.backoff,
            backoff_limit=settings.backoff_limit,
        )
        settled = confirmed(self._client, self._wanted, settle) if self._wanted is not None else settle(self._client)
        outcomes, refused = await settled
        _log(stored, outcomes, errors)
        if refused and not self._news_refused:
            self._news_refused = True
            log.warning("cannot publish news of stored prices: Redis refused it on %s: %s", self._keys.stored, refused)
        return outcomes

    def _settlement(self, result: Result, error: str) -> scripts.Settlement:
        job, request, outcome = result.job, result.job.request, result.outcome
        is_over = outcome in _SETTLED
        return scripts.Settlement(
            job.entry_id,
            "" if job.entry_id else self._keys.claim(job.message_id),
            job.message_id,
            self._keys.batch(request.batch_id) if request and request.batch_id else "",
            outcome,
            error,
            "" if is_over else job.raw,
            job.claiming,
            0.0 if is_over else random.random(),
        )

    async def _store(
        self, results: Sequence[Result]
    ) -> tuple[list[Result], list[scripts.MonthStored], list[dict[str, int]]]:
        """Replace the months of jobs that are done.

        Return the results, failed where Redis refused; what became of each month; and for each result the days by
        series.
        """
        stored, months = list(results), [scripts.MonthStored()] * len(results)
        days: list[dict[str, int]] = [{}] * len(results)
        funds: list[scripts.FundFetched] = []
        places: list[list[int]] = []
        latest: dict[str, int] = {}
        words: Counter[str] = Counter()
        for place, result in enumerate(results):
            request = result.job.request
            if request is None or result.outcome != "done":
                continue
            cnpj = request.document
            found = by_series(result.quotes)
            try:
                month = self._month(request, result, found)
            except StoreError as error:
                stored[place] = result.failed(error)
                continue
            words[cnpj] += len(month.words)
            if cnpj not in latest or words[cnpj] > _WORDS_AT_ONCE:
                latest[cnpj], words[cnpj] = len(funds), len(month.words)
                funds.append(scripts.FundFetched(cnpj, request.fund_pk, cnpj in self._known_funds, {}, []))
                places.append([])
            fund = funds[latest[cnpj]]
            fund.months.append(month)
            if result.quotes:
                days[place] = {series: len(by_day) for series, by_day in found.items()}
                fund.series.update(dict.fromkeys(found))
            places[latest[cnpj]].append(place)
        replies = await self._replace_months(funds)
        self._known_funds.update(latest)
        for fund, found_at, stored_months in zip(funds, places, replies, strict=True):
            for place, month_stored in zip(found_at, stored_months, strict=True):
                months[place] = month_stored
                if month_stored.refusal:
                    stored[place] = results[place].failed(StoreError(f"Redis refused {month_stored.refusal}"))
                    self._known_funds.discard(fund.cnpj)  # the next attempt checks its series again
        return stored, months, days

    def _month(
        self, request: ScrapeRequest, result: Result, quotes: Mapping[str, Mapping[dt.date, DailyQuote]]
    ) -> scripts.MonthFetched:
        words = words_of(self._keys, quotes)
        return scripts.MonthFetched(*_bounds(request.month_year), f"{result.token:.6f}", words)

    async def _replace_months(self, funds: Sequence[scripts.FundFetched]) -> list[list[scripts.MonthStored]]:
        """Replace the months of funds; if Redis refuses those of a fund together, try each alone."""
        stored_months = []
        for fund, reply in zip(funds, await self._replies(funds), strict=True):
            if isinstance(reply, Exception):
                alone = await self._replies([fund._replace(months=[month]) for month in fund.months])
                reply = [_month_stored(month, found) for month, found in zip(fund.months, alone, strict=True)]
            stored_months.append(reply)
        return stored_months

    async def _replies(self, funds: Sequence[scripts.FundFetched]) -> list[list[scripts.MonthStored] | Exception]:
        if not funds:
            return []
        replies = await scripts.replace_months(
            self._client,
            self._keys,
            funds,
            source=self._source,
            is_whole=self._is_whole,
            metrics=METRICS,
            options=SERIES_OPTIONS,
        )
        for reply in replies:
            if isinstance(reply, Exception) and is_away(reply):
                raise reply
        return replies


def _log(results: Sequence[Result], outcomes: Sequence[str], errors: Sequence[str]) -> None:
    """Log each failed job, and one line for each request of the pricer with the outcomes of its jobs."""
    of_requests: dict[str, Counter[str]] = {}
    for result, outcome, error in zip(results, outcomes, errors, strict=True):
        request = result.job.request
        if request is not None and request.request_id is not None:
            of_requests.setdefault(request.request_id, Counter())[outcome] += 1
        if outcome in ("retry", "failed", "dead"):
            about = f"{request.document} {request.month_year}" if request else "a message"
            with _working_for(result.job.request_id):
                log.warning("%s: %s: %s", about, outcome, error)
    for request_id, counts in of_requests.items():
        with _working_for(request_id):
            log.info("settled: %s", ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))


@contextlib.contextmanager
def _working_for(request_id: str) -> Iterator[None]:
    token = current_request.set(request_id)
    try:
        yield
    finally:
        current_request.reset(token)


def _month_stored(month: scripts.MonthFetched, reply: list[scripts.MonthStored] | Exception) -> scripts.MonthStored:
    return scripts.MonthStored(refusal=f"{month.month}: {reply}") if isinstance(reply, Exception) else reply[0]


@lru_cache(maxsize=10_000)
def _bounds(month_year: str) -> tuple[str, int, int]:
    """Return a month as ``YYYY-MM``, with its first and last millisecond."""
    month = Month.parse(month_year)
    first, after = (day_number(each.first_day) * DAY_MS for each in (month, month.shift(1)))
    return month.iso, first, after - 1


def _news(results: Sequence[Result], months: Sequence[scripts.MonthStored], days: Sequence[Mapping[str, int]]) -> bytes:
    """Return the news of the months stored now, one item for each series; none for months that changed nothing."""
    told = []
    for result, month, found in zip(results, months, days, strict=True):
        request, changed = result.job.request, month.changed + month.withdrawn
        # The worker that held the job before may have stored the month and died before it could publish the news.
        is_told = month.is_kept and not result.job.taken_from
        if request is None or result.error is not None or is_told or not (found or changed):
            continue
        iso = _bounds(request.month_year)[0]
        told += [Stored.of(series, iso, count, changed) for series, count in (found or {request.document: 0}).items()]
    return news(told)


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
        if request.request_id:
            event["request_id"] = request.request_id
    if job.taken_from not in ("", worker.partition("/")[0]):
        event["taken_from"] = job.taken_from
    if error:
        event["error"] = error
    return to_json(event)


async def renew(session: Session, jobs: Sequence[Job]) -> None:
    """Renew the leases of jobs in hand."""
    if jobs:
        await scripts.renew(
            session.client,
            session.keys,
            entries=[job.entry_id for job in jobs if job.entry_id],
            claims=[session.keys.claim(job.message_id) for job in jobs if not job.entry_id],
            consumer=session.card.name,
            instance=session.card.instance,
            lease=session.settings.lease,
        )


async def hand_back(session: Session, jobs: Sequence[Job]) -> None:
    """Hand jobs to other workers: return them to the stream, or publish them to the channel again.

    A message that every worker processes (fan-out) is dropped: no other worker needs it.
    """
    entries = [job.entry_id for job in jobs if job.entry_id]
    from_channel = [(job.message_id, job.raw) for job in jobs if not job.entry_id and job.claiming]
    if entries or from_channel:
        back = await scripts.hand_back(
            session.client,
            session.keys,
            entries=entries,
            from_channel=from_channel,
            consumer=session.card.name,
            instance=session.card.instance,
        )
        log.info("handed back %d jobs", back)
