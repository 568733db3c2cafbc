"""A batch of published messages: its progress, its failures, and what each worker did."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self, cast

import pandas as pd
import redis as redis_py
from tqdm.auto import tqdm

from scraperkit.cnpj import format_cnpj
from scraperkit.config import Settings
from scraperkit.connection import check_client, redis_needed
from scraperkit.engine.hosting import raise_engine_error
from scraperkit.engine.ledger import GRACE, Ledger
from scraperkit.engine.redis_retry import is_away
from scraperkit.engine.registry import live_workers
from scraperkit.errors import BatchNotFound, BatchTimeout, RedisError
from scraperkit.keys import DEFAULT_SOURCE, Keys
from scraperkit.lua.state import COUNTERS
from scraperkit.models import END_OF_TIME, MONTH_YEAR, Month
from scraperkit.text import say as say_it
from scraperkit.view import STATE_COLOURS, Bar, NotebookRepr, Table, View

_COUNT_EVERY = 0.1
_LOOK_FOR_LOST = 1.0
_STILL = 5.0  # seconds without change, after which a wait searches the whole stream
_REST_PER_SEARCH = 20  # seconds without a search for each second that the last one took
_REST_STATES = ("not_offered", "failed", "lost", "cancelled")
_TIMES = ("published_at", "received_at", "started_at", "fetched_at", "stored_at")
_COUNTS = ("quotes", "changed", "withdrawn")
_EVENT_COLUMNS = {
    "message": "str",
    "cnpj": "str",
    "month": "str",
    "outcome": "str",
    "attempt": "int64",
    "delivery": "str",
    "worker": "str",
    "thread": "str",
    **dict.fromkeys(_TIMES, "datetime64[us, UTC]"),
    **dict.fromkeys(_COUNTS, "int64"),
    "taken_from": "str",
    "error": "str",
    "request_id": "str",
}


@dataclass(frozen=True, slots=True)
class BatchStatus(NotebookRepr):
    """Counts of a batch's messages by state.

    Attributes
    ----------
    published, done, failed, lost : int
        `failed` messages will not be retried. `lost` ones were published by Pub/Sub and had no subscriber, or their
        worker died; or they were deleted, trimmed or evicted from the stream.
    pending : int
        The rest: waiting, running, or waiting for a retry.
    cancelled : int
        Messages that :meth:`Batch.cancel` withdrew before a worker started them.
    not_offered : int
        Months that the site does not offer for the fund, or not yet. Not a failure: publish again to ask again.
    """

    published: int
    done: int
    failed: int
    pending: int
    lost: int = 0
    cancelled: int = 0
    not_offered: int = 0

    @property
    def finished(self) -> bool:
        """Whether nothing is pending."""
        return self.pending == 0

    def __str__(self) -> str:
        parts = [f"{self.published} published", f"{self.done} done"]
        parts += [f"{count} {_said(word)}" for word in _REST_STATES if (count := getattr(self, word))]
        return ", ".join(parts + ([f"{self.pending} pending"] if self.pending else []))

    def _view(self) -> View:
        return View("Finished:" if self.finished else "In progress:", str(self), bar=self.bar())

    def bar(self) -> Bar:
        """Return the counts as a bar, for a notebook."""
        return Bar(self.published, {name: getattr(self, name) for name in STATE_COLOURS})


class _Counts(NamedTuple):
    """A batch's counts at one moment, and how many messages of all batches are in the stream and the retries."""

    status: BatchStatus
    delivery: str
    waiting: float

    def may_hide_lost(self, search_up_to: float) -> bool:
        """Return whether pending messages may be lost, so that a search is worthwhile.

        Every open message is in the stream or among the retries: if those hold fewer, some have vanished.
        """
        few = self.waiting < self.status.pending or self.waiting <= search_up_to
        return self.status.pending > 0 and (self.delivery == "pubsub" or few)


class Batch(NotebookRepr):
    """A published batch. Get one from :meth:`Publisher.publish` or :meth:`Publisher.batch`.

    Attributes
    ----------
    id : str
        Any process can find the batch by this id, for a week by default.
    receivers : int or None
        Pub/Sub: the fewest subscribers that any message reached; ``None`` for the stream.
    """

    def __init__(
        self,
        redis: redis_py.Redis,
        batch_id: str,
        *,
        namespace: str | None = None,
        source: str = DEFAULT_SOURCE,
        receivers: int | None = None,
    ) -> None:
        self.id = batch_id
        self.receivers = receivers
        self.keys = Keys(namespace or Settings.load().namespace, source)
        self._redis: Any = check_client(redis)

    @classmethod
    def find(cls, redis: redis_py.Redis, batch_id: str, *, namespace: str | None = None) -> Self:
        """Find a batch by its id.

        Raises
        ------
        BatchNotFound
            If the namespace has no batch with that id, or it has expired.
        """
        keys, client = Keys(namespace or Settings.load().namespace), cast(Any, check_client(redis))
        with redis_needed():
            source = client.hget(keys.batch(batch_id), "source") or DEFAULT_SOURCE
        batch = cls(redis, batch_id, namespace=keys.namespace, source=source)
        batch.status()
        return batch

    @redis_needed()
    def status(self, *, search_up_to: float = 0) -> BatchStatus:
        """Return the current counts.

        Parameters
        ----------
        search_up_to : float
            Search for lost messages if stream and retries together hold at most this many messages of all batches, or
            fewer than this batch has pending; ``math.inf`` and Pub/Sub: always. Otherwise, lost messages count as
            pending. :meth:`jobs` and :meth:`wait` search.

        Raises
        ------
        BatchNotFound
            If the batch has expired or was deleted.
        """
        counts = self._counts()
        return self._with_lost(counts.status) if counts.may_hide_lost(search_up_to) else counts.status

    @redis_needed()
    def wait(self, timeout: float | None = None, *, progress: bool | None = None, report: bool = True) -> BatchStatus:
        """Wait with a progress bar until nothing is pending; then print what failed, and why.

        If no worker listens for this batch, print how to start one, and wait for it. If Redis is unreachable,
        wait for it, as the workers do.

        Parameters
        ----------
        timeout : float, optional
            Seconds; unlimited if omitted.
        progress : bool, optional
            Whether to show the bar; by default only in a terminal or notebook. ``False`` also prints nothing.
        report : bool
            Whether to print, at the end, what failed.

        Raises
        ------
        BatchTimeout
            If `timeout` passes first. Workers continue; if none listens, the message says so, and how to start one.
        WorkerError
            If the engine of a subscriber in this process fails.
        """
        raise_engine_error(self.keys.namespace)
        disable = None if progress is None else not progress
        say = say_it if progress is not False else _say_nothing
        with tqdm(unit=" jobs", desc="scraping", disable=disable, dynamic_ncols=True) as bar:
            status, text = self._until_finished(timeout, bar, say, report=report)
        if text:
            say(text)
        return status

    def _until_finished(
        self, timeout: float | None, bar: Any, say: Callable[[str], None], *, report: bool
    ) -> tuple[BatchStatus, str]:
        """Return the final status and, if `report`, why messages failed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        look_at, told = time.monotonic() + GRACE, ""
        search, status = _Search(self), None
        while True:
            raise_engine_error(self.keys.namespace)
            with _while_redis_is_away(bar):
                status = search.status()
                self._show(bar, status)
                if status.finished:
                    return status, self.explain(status) if report else ""
                if not told and time.monotonic() > look_at:
                    look_at, told = time.monotonic() + GRACE, self.lacks_worker()
                    say(told) if told else None
            if deadline is not None and time.monotonic() > deadline:
                known = status or "Redis is unreachable"
                raise BatchTimeout(f"not finished after {timeout:g} s: {known}; {self._way_on()}")
            time.sleep(_COUNT_EVERY)

    @redis_needed()
    def explain(self, status: BatchStatus | None = None) -> str:
        """Return why messages failed or were lost: each reason with its count, and how to see more; empty if none did.

        Parameters
        ----------
        status : BatchStatus, optional
            As :meth:`status` or :meth:`wait` returned it; read if omitted.
        """
        status = status or self.status(search_up_to=math.inf)
        if not status.failed and not status.lost:
            return ""
        command = _command("batch status", self.keys, self.id)
        return f"{self._reasons().text()}\n`{command}` or batch.failures() lists every job"

    @redis_needed()
    def lacks_worker(self) -> str:
        """Return a sentence saying that no worker listens for this batch, and how to start one; empty if one does."""
        delivery = self._redis.hget(self.keys.batch(self.id), "delivery")
        if any(worker.delivery in ("both", delivery) for worker in live_workers(self._redis, self.keys)):
            return ""
        more = () if self.keys.source == DEFAULT_SOURCE else ("--source", self.keys.source)
        return (
            f"no worker listens to the {delivery or 'stream'} of {self.keys.namespace!r}: start one with "
            f"`{_command('work', self.keys, *more)}`, or `with sk.Subscriber(redis, source, namespace="
            f"{self.keys.namespace!r}):` in Python"
        )

    def _way_on(self) -> str:
        """Return what to do after a wait that was too short."""
        again = "workers continue; wait again to keep waiting"
        try:
            return self.lacks_worker() or again
        except (RedisError, redis_py.RedisError):
            return again

    @redis_needed()
    def jobs(self) -> pd.DataFrame:
        """Return the state of every message.

        Returns
        -------
        pandas.DataFrame
            Indexed by ``message`` (message id); columns ``cnpj``, ``month`` (MM/YYYY), ``state`` (pending, running,
            done, failed, lost, cancelled, not_offered) and ``error``, all text; sorted by fund and month. Empty for an
            empty batch.
        """
        states = self._ledger.states()
        lost = self._ledger.lost(states)
        rows = []
        for message, (state, cnpj, month, error) in states.items():
            found_lost = message in lost
            rows.append((message, cnpj, month, "lost" if found_lost else state, lost[message] if found_lost else error))
        rows.sort(key=lambda row: (row[1], _month(row[2])))
        frame = pd.DataFrame(rows, columns=["message", "cnpj", "month", "state", "error"], dtype="str")
        return frame.set_index("message")

    def failures(self) -> pd.DataFrame:
        """Return the failed and lost messages with their errors: a subset of :meth:`jobs`."""
        jobs = self.jobs()
        return jobs[jobs["state"].isin(["failed", "lost"])]

    @redis_needed()
    def cancel(self) -> int:
        """Cancel the messages that no worker has started, and return how many; running ones are finished.

        To publish cancelled messages again, publish the same requests again. With Pub/Sub, you can only cancel messages
        that no worker has claimed, and none where workers do not claim them (``claim=False``).

        Raises
        ------
        BatchNotFound
            If the batch has expired or was deleted.

        Examples
        --------
        >>> batch = Publisher(redis, namespace=namespace).publish(fund.months("2022-01", "2022-12"))
        >>> batch.cancel(), str(batch.status())
        (12, '12 published, 0 done, 12 cancelled')
        """
        self._counts()
        return self._ledger.cancel()

    @redis_needed()
    def events(self) -> pd.DataFrame:
        """Return the batch's events, one row for each attempt at a message, oldest first.

        Returns
        -------
        pandas.DataFrame
            RangeIndex; columns ``message``, ``cnpj``, ``month``, ``outcome`` (done, not_offered, retry, failed,
            dead, ignored, superseded), ``attempt``, ``delivery``, ``worker``, ``thread``, the times ``published_at``,
            ``received_at``, ``started_at``, ``fetched_at``, ``stored_at`` (UTC), ``quotes`` (days found),
            ``changed`` and ``withdrawn`` (stored figures that were restated or withdrawn), ``taken_from`` (the
            worker from which the job was taken over; empty if it was not), ``error``, and ``request_id`` (the request
            to the pricer that published the message, empty if none did). Redis keeps only the newest 100,000 events of
            all batches, so old events may be missing.
        """
        return events_of(self._redis, self.keys, self.id)

    @property
    def _ledger(self) -> Ledger:
        return Ledger(self._redis, self.keys, self.id)

    def _counts(self) -> _Counts:
        with self._redis.pipeline(transaction=True) as look:
            look.hmget(self.keys.batch(self.id), [*COUNTERS, "delivery"])
            look.xlen(self.keys.jobs)
            look.zcard(self.keys.retries)
            found, *lengths = look.execute(raise_on_error=False)
        if isinstance(found, Exception):
            raise found
        if found[0] is None:
            raise BatchNotFound(
                f"no batch {self.id[:64]!r} in namespace {self.keys.namespace!r}; if it has expired, publish it again"
            )
        published, done, failed, lost, cancelled, not_offered = map(self._count, COUNTERS, found[:-1])
        pending = published - done - failed - lost - cancelled - not_offered
        status = BatchStatus(published, done, failed, pending, lost, cancelled, not_offered)
        # If a key has the wrong type, a search would fail. NaN is never few, so the counts can still be read.
        waiting = math.nan if any(isinstance(length, Exception) for length in lengths) else sum(lengths)
        return _Counts(status, str(found[-1]), waiting)

    def _count(self, name: str, text: str | None) -> int:
        try:
            return int(text or 0)
        except ValueError:
            where = f"{self.keys.batch(self.id)}: {name} is {str(text)[:40]!r}"
            raise RedisError(f"{where}, not a number: somebody else wrote it; publish again") from None

    def _with_lost(self, status: BatchStatus) -> BatchStatus:
        # Between the counts and the states, the batch may have been published again.
        lost = min(status.pending, len(self._ledger.lost(self._ledger.states())))
        return replace(status, pending=status.pending - lost, lost=status.lost + lost)

    def _show(self, bar: Any, status: BatchStatus) -> None:
        if bar.total is None:
            bar.reset(total=status.published)
        bar.update(status.published - status.pending - bar.n)
        rest = (f"{count} {_said(word)}" for word in _REST_STATES if (count := getattr(status, word)))
        bar.set_postfix_str(", ".join(rest), refresh=False)

    def __repr__(self) -> str:
        status = self._status_if_known()
        return f"<Batch {self.id}: {status}>" if status else f"<Batch {self.id}>"

    def _view(self) -> View:
        status = self._status_if_known()
        if status is None:
            return View("Batch", f"{self.id}: its counts cannot be read now")
        facts = [(name, str(getattr(status, name))) for name in ("published", "done")]
        rest = (*_REST_STATES, "pending")
        facts += [(_said(name), str(count)) for name in rest if (count := getattr(status, name))]
        tables = (self._reasons(),) if status.failed or status.lost else ()
        state = "finished" if status.finished else "in progress"
        return View("Batch", f"{self.id} {state}", tuple(facts), status.bar(), tables)

    def _reasons(self) -> Table:
        failures = self.failures()
        jobs = [f"{format_cnpj(cnpj)} {month}" for cnpj, month in zip(failures["cnpj"], failures["month"], strict=True)]
        return reasons(list(zip(jobs, failures["error"], strict=True)))

    def _status_if_known(self) -> BatchStatus | None:
        try:
            return self.status()
        except (BatchNotFound, RedisError, redis_py.RedisError):
            return None


class _Search:
    """When a wait searches for lost messages: if some must be lost, or nothing has moved for a while."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._before: BatchStatus | None = None
        self._moved_at = self._search_at = 0.0
        self._missing_since: float | None = None

    def status(self) -> BatchStatus:
        """Return the status, including the lost messages that a search finds if one is due."""
        counts, now = self._batch._counts(), time.monotonic()
        if counts.status != self._before:
            self._before, self._moved_at = counts.status, now
        if not counts.may_hide_lost(math.inf if now - self._moved_at >= _STILL else 0):
            self._missing_since = None
            return counts.status
        if now < self._search_at:
            return counts.status
        found = self._batch._with_lost(counts.status)
        self._search_at = time.monotonic() + max(_LOOK_FOR_LOST, (time.monotonic() - now) * _REST_PER_SEARCH)
        is_sure = counts.delivery == "pubsub" or self._is_sure(found.pending < counts.status.pending)
        return found if is_sure else counts.status

    def _is_sure(self, is_missing: bool) -> bool:
        """Return whether messages have been missing since before each living worker last reported its jobs."""
        ledger = self._batch._ledger
        if not is_missing:
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = ledger.redis_time()
        else:
            return ledger.have_beaten_since(self._missing_since)
        return False


def _said(state: str) -> str:
    """Return the name of a state or a count in words."""
    return state.replace("_", " ")


def _say_nothing(text: str) -> None:
    """Discard what would be printed."""


def _command(words: str, keys: Keys, *more: str) -> str:
    """Return a command for this namespace, ready to type."""
    namespace = () if keys.namespace == Settings.model_fields["namespace"].default else ("--namespace", keys.namespace)
    return " ".join(["scraperkit", words, *more, *namespace])


def _month(text: str) -> Month:
    """Return a month to sort by; text that is not a month sorts first."""
    try:
        return Month.parse(text)
    except ValueError:
        return Month(0, 0)


@contextmanager
def _while_redis_is_away(bar: Any) -> Iterator[None]:
    """Show beside the bar that Redis is unreachable, and continue."""
    try:
        yield
    except Exception as error:
        if not is_away(error):
            raise
        bar.set_postfix_str("Redis is unreachable; waiting")


def events_of(client: Any, keys: Keys, batch_id: str) -> pd.DataFrame:
    """Return the events of one batch; see :meth:`scraperkit.Batch.events`."""
    found = (_event(fields) for _, fields in client.xrange(keys.events) if batch_id in fields.get("event", ""))
    rows = [event for event in found if event.get("batch") == batch_id]
    frame = pd.DataFrame(rows, columns=list(_EVENT_COLUMNS))
    for column in _TIMES:
        seconds = pd.Series([_seconds(value) for value in frame[column]], dtype="float64")
        frame[column] = pd.to_datetime(seconds, unit="s", utc=True)
    return frame.astype(_EVENT_COLUMNS)


def _event(fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of an event; empty if no worker wrote the entry."""
    try:
        event: dict[str, Any] = {"taken_from": "", "error": "", "request_id": ""} | json.loads(fields["event"])
        event |= {name: _whole(event.get(name)) for name in _COUNTS}
        return event | {"outcome": fields["outcome"], "attempt": int(fields["attempt"])}
    except (ValueError, TypeError, KeyError):
        return {}


def _whole(value: Any) -> int:
    """Return a count; 0 for anything else, which no worker wrote."""
    return value if isinstance(value, int) and abs(value) < 2**53 else 0


def _seconds(value: Any) -> float:
    """Return a time in seconds since 1970; NaN for anything else, since older versions accepted milliseconds."""
    return value if isinstance(value, int | float) and 0 <= value < END_OF_TIME else math.nan


def reasons(failures: Sequence[tuple[str, str]]) -> Table:
    """Return failures grouped by reason, most frequent first.

    Parameters
    ----------
    failures : sequence of (str, str)
        The job and its error message.

    Examples
    --------
    >>> print(reasons([("fund 01/2022", "OSError: reset"), ("fund 02/2022", "OSError: reset")]).text())
      jobs  reason          for example
      2     OSError: reset  fund 01/2022
    """
    groups: dict[str, list[str]] = {}
    for job, error in failures:
        groups.setdefault(_reason(error), []).append(job)
    frequent = sorted(groups.items(), key=lambda group: -len(group[1]))
    return Table(("jobs", "reason", "for example"), [(str(len(jobs)), reason, jobs[0]) for reason, jobs in frequent])


def _reason(error: str) -> str:
    """Return an error without what varies by page: the URL, months and ids."""
    return (
        re.sub(rf"\b({MONTH_YEAR.pattern}|[0-9a-f]{{8,}})\b", "…", error.split(" [http")[0]).strip()
        or "no reason given"
    )
