"""Publish requests to Redis, one message for each fund and month."""

from __future__ import annotations

import datetime as dt
import time
import uuid
import warnings
from collections.abc import Iterable
from typing import Any, get_args

import redis as redis_py

from scraperkit.batch import Batch
from scraperkit.config import Settings
from scraperkit.connection import check_client, redis_needed
from scraperkit.engine.ledger import Ledger
from scraperkit.errors import ConfigError, ScraperKitWarning
from scraperkit.keys import DeliveryName, Keys
from scraperkit.lua import scripts
from scraperkit.models import Month, ScrapeRequest
from scraperkit.timeseries.commands import card_command, first_card_commands
from scraperkit.view import NotebookRepr, View

_BATCH_IDS = uuid.UUID("6ba7b814-9dad-11d1-80b4-00c04fd430c8")
_PUBLISHED_AT_ONCE = 1_000


class Publisher(NotebookRepr):
    """Publisher of requests to the stream (kept until done) or the channel (not stored).

    Parameters
    ----------
    redis : redis.Redis
        From :func:`scraperkit.connect`.
    delivery : {"stream", "pubsub"}
        The stream keeps every message until it is done; Pub/Sub stores none.
    namespace : str, optional
        Default: ``SCRAPERKIT_NAMESPACE``.

    Examples
    --------
    >>> publisher = Publisher(redis, namespace=namespace)
    >>> fund = Fund("18993924000100", "132922", "Fundo A")
    >>> publisher.publish(fund.months("2022-01", "2022-12"))
    <Batch ...: 12 published, 0 done, 12 pending>
    """

    def __init__(
        self,
        redis: redis_py.Redis,
        *,
        delivery: DeliveryName = "stream",
        namespace: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        if delivery not in get_args(DeliveryName):
            raise ConfigError(f"delivery: {delivery!r} is neither 'stream' nor 'pubsub'")
        check_client(redis)
        self.settings = settings or Settings.load()
        self.keys = Keys(namespace or self.settings.namespace)
        self.delivery: DeliveryName = delivery
        self._redis: Any = redis

    @redis_needed()
    def publish(
        self, requests: Iterable[ScrapeRequest] | ScrapeRequest, *, force: bool = False, only_missing: bool = False
    ) -> Batch:
        """Publish `requests` as one batch.

        Safe to repeat: the same requests form the same batch, and only its failed, lost and cancelled messages are sent
        again. Requests for the current or the previous month, which the regulator may still revise, form a new batch
        each day.

        Parameters
        ----------
        requests : iterable of ScrapeRequest
            Usually ``fund.months(...)``. Requests marked ``acked`` are skipped.
        force : bool
            Always publish a new batch, and scrape again.
        only_missing : bool
            Skip months that had ended when they were last stored. The current month is never skipped.

        Returns
        -------
        Batch

        Raises
        ------
        ConfigError
            If an item of `requests` is not a :class:`ScrapeRequest`.

        Warns
        -----
        ScraperKitWarning
            If the channel had no subscribers: the messages are lost, and ``batch.receivers`` is 0.
        """
        wanted = _unique(_listed(requests), fresh=force)
        if only_missing:
            wanted = self._missing(wanted)
        batch_id = str(uuid.uuid4() if force else batch_id_of(wanted, dt.date.today()))
        now = time.time()
        messages = [request.model_copy(update={"batch_id": batch_id, "published_at": now}) for request in wanted]
        self._save_cards(wanted)
        if not force:
            Ledger(self._redis, self.keys, batch_id).note_lost()
        receivers = self._send(batch_id, messages)
        if receivers == 0:
            warnings.warn(
                f"no subscriber on {self.keys.channel}, so the messages are lost; start a Subscriber first, "
                "or use Publisher(redis, delivery='stream'), which keeps messages until they are done",
                ScraperKitWarning,
                stacklevel=3,
            )
        return Batch(self._redis, batch_id, namespace=self.keys.namespace, receivers=receivers)

    def batch(self, batch_id: str) -> Batch:
        """Return the batch with this id, from any process.

        Raises
        ------
        BatchNotFound
            If this namespace has no batch with that id, or it has expired.
        """
        return Batch.find(self._redis, batch_id, namespace=self.keys.namespace)

    def _missing(self, requests: list[ScrapeRequest]) -> list[ScrapeRequest]:
        """Return the requests whose month has not been stored since it ended."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for request in requests:
                pipeline.hget(self.keys.months(request.document), request.period.iso)
            stored = pipeline.execute()
        return [
            request
            for request, text in zip(requests, stored, strict=True)
            if text is None or scripts.MonthRecord.read(text).stored_at < _over_at(request.period)
        ]

    def _save_cards(self, requests: Iterable[ScrapeRequest]) -> None:
        funds = {request.fund for request in requests if request.fund is not None}
        with self._redis.pipeline(transaction=False) as pipeline:
            for fund in funds:
                # A fund created by hand, without a name, must not overwrite the card of one that was looked up.
                cards = (
                    [card_command(self.keys, fund)] if fund.name else first_card_commands(self.keys, fund.cnpj, fund.pk)
                )
                for command in cards:
                    pipeline.execute_command(*command)
            pipeline.execute()

    def _send(self, batch_id: str, messages: list[ScrapeRequest]) -> int | None:
        fewest = [
            scripts.publish(
                self._redis,
                self.keys,
                batch_id,
                messages[start : start + _PUBLISHED_AT_ONCE],
                delivery=self.delivery,
                batch_ttl=self.settings.batch_ttl,
                claim_ttl=self.settings.claim_ttl,
            )
            for start in range(0, max(1, len(messages)), _PUBLISHED_AT_ONCE)
        ]
        return min((receivers for receivers in fewest if receivers is not None), default=None)

    def __repr__(self) -> str:
        return f"<Publisher to the {self.delivery} of {self.keys.namespace!r}>"

    def _view(self) -> View:
        if self.delivery == "stream":
            where = ("stream", f"{self.keys.jobs}: each message is kept until done")
        else:
            where = ("channel", f"{self.keys.channel}: reaches current subscribers only; nothing is stored")
        return View("Publisher", f"in namespace {self.keys.namespace}", (where,))


def _over_at(month: Month) -> float:
    """Return when a month has ended everywhere in Brazil, in seconds since 1970."""
    return dt.datetime(*month.shift(1), 1, 6, tzinfo=dt.UTC).timestamp()


def _listed(requests: Iterable[ScrapeRequest] | ScrapeRequest) -> Iterable[ScrapeRequest]:
    if isinstance(requests, ScrapeRequest):
        return [requests]
    if not isinstance(requests, Iterable):
        raise ConfigError(
            f"requests: expected ScrapeRequests, got {type(requests).__name__}; "
            "make them with fund.months('2022-01', '2022-12')"
        )
    return requests


def _unique(requests: Iterable[ScrapeRequest], *, fresh: bool) -> list[ScrapeRequest]:
    unique: dict[str, ScrapeRequest] = {}
    for request in requests:
        if not isinstance(request, ScrapeRequest):
            raise ConfigError(
                f"requests: expected ScrapeRequests, got {type(request).__name__}; "
                "make them with fund.months('2022-01', '2022-12')"
            )
        if not request.acked:
            unique.setdefault(request.message_id, request)
    if fresh:
        return [request.model_copy(update={"message_id": str(uuid.uuid4())}) for request in unique.values()]
    return list(unique.values())


def batch_id_of(requests: Iterable[ScrapeRequest], today: dt.date) -> uuid.UUID:
    """Return the batch id of these requests: stable, except that recent months change it daily."""
    requests = list(requests)
    last_closed = Month.of(today).shift(-1)
    content = sorted(request.message_id for request in requests)
    if any(request.period >= last_closed for request in requests):
        content.append(today.isoformat())
    return uuid.uuid5(_BATCH_IDS, " ".join(content))
