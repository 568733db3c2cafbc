"""A message in a worker's hands, and what a thread made of it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import NamedTuple, Self

from scraperkit.config import Settings
from scraperkit.errors import BadMessage, MonthNotOffered, SourceError
from scraperkit.keys import DeliveryName
from scraperkit.models import DailyQuote, ScrapeRequest
from scraperkit.text import printable

_ERROR_LENGTH = 2_000
_RAW_IDS = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
_KEPT_OF_OVERSIZE = 1_000
_LONGEST_CHARACTER = 4  # bytes in UTF-8


class Job(NamedTuple):
    """A message as a worker received it. A tuple, like `Result`: there is one for every job, and it is made quickest.

    Attributes
    ----------
    raw : str
        The message's own text.
    request : ScrapeRequest or None
        The message, if it validates; otherwise `problem` says why not.
    delivery : {"stream", "pubsub"}
    entry_id : str
        The stream entry, empty for Pub/Sub.
    message_id : str
    claiming : bool
        Whether only one worker is to do it (Pub/Sub).
    received_at : float
        Seconds since 1970.
    """

    raw: str
    request: ScrapeRequest | None
    delivery: DeliveryName
    entry_id: str
    message_id: str
    claiming: bool
    received_at: float
    problem: str = ""

    @property
    def key(self) -> str:
        """What tells it from the other jobs of its delivery."""
        return self.entry_id or self.message_id


def read_message(
    raw: str, delivery: DeliveryName, settings: Settings, entry_id: str = "", claiming: bool = False
) -> Job:
    """Return a job for a message as it came off the wire; one that does not validate becomes a job with a problem."""
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
    """What a thread made of a job: quotes, or an error.

    `started_at` and `fetched_at` are by this machine's clock; `token` is `started_at` by that of Redis, as it was known
    then, and the fencing token of what was fetched.
    """

    job: Job
    quotes: Sequence[DailyQuote]
    error: BaseException | None
    thread: str
    started_at: float
    fetched_at: float
    token: float

    def failed(self, error: Exception) -> Self:
        """Return the result as it is if its quotes cannot be stored."""
        return self._replace(quotes=(), error=error)

    @property
    def outcome(self) -> str:
        """``done``, ``ignored``, ``not_offered``, ``failed`` (may be tried again) or ``fatal`` (it cannot)."""
        if self.job.problem:
            return "fatal"
        if self.error is None:
            return "ignored" if self.job.request is not None and self.job.request.acked else "done"
        if isinstance(self.error, MonthNotOffered):
            return "not_offered"
        if isinstance(self.error, SourceError) and not self.error.retryable:
            # A Pub/Sub job that fails is only counted: dead letters are what the stream promises.
            return "fatal" if self.job.delivery == "stream" else "failed"
        return "failed"


def describe(error: BaseException | None) -> str:
    """Return an error as one line of printable UTF-8: its class and what it says."""
    if error is None:
        return ""
    text = printable(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text}"[:_ERROR_LENGTH] if text else type(error).__name__
