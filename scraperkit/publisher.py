"""Publish requests to Redis, one message for each fund and month."""

from __future__ import annotations

import datetime as dt
import hashlib
import time
import uuid
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, get_args

import redis as redis_py

from scraperkit.batch import Batch
from scraperkit.config import Settings
from scraperkit.connection import check_client, redis_needed
from scraperkit.engine.ledger import Ledger
from scraperkit.errors import ConfigError, warn
from scraperkit.failover.confirmation import Confirmation, Confirming
from scraperkit.keys import DEFAULT_SOURCE, DeliveryName, Keys
from scraperkit.lua import scripts
from scraperkit.lua.state import MonthRecord
from scraperkit.models import Fund, Month, ScrapeRequest, iso_month, today
from scraperkit.timeseries.commands import Command, card_command, first_card_commands
from scraperkit.timeseries.link import batched
from scraperkit.view import NotebookRepr, View

_BATCH_IDS = uuid.UUID("6ba7b814-9dad-11d1-80b4-00c04fd430c8")
_SENT_AT_ONCE = 1_000


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
        again, and those for months that were not offered. Requests for the current or the previous month, which
        the regulator may still revise, form a new batch each day in Brazil.

        Parameters
        ----------
        requests : iterable of ScrapeRequest
            Usually ``fund.months(...)``, all of one source. Requests marked ``acked`` are skipped.
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
            If an item of `requests` is not a :class:`ScrapeRequest`, or they are of several sources.

        Warns
        -----
        ScraperKitWarning
            If the channel had no subscribers: the messages are lost, and ``batch.receivers`` is 0.
        """
        wanted = _unique(_listed(requests))
        if only_missing:
            wanted = [request for some in batched(wanted, _SENT_AT_ONCE) for request in self._missing(some)]
        keys = self.keys.of(_source_of(wanted))
        batch_id = str(uuid.uuid4() if force else batch_id_of(wanted, today()))
        if keys.source != DEFAULT_SOURCE:
            self._redis.sadd(keys.sources, keys.source)
        self._save_cards(wanted)
        if not force and self._redis.exists(keys.batch(batch_id)):  # published before
            Ledger(self._redis, keys, batch_id).note_lost(request.message_id for request in wanted)
        receivers = self._send(batch_id, wanted, keys, fresh=force)
        if receivers == 0:
            warn(
                f"no subscriber on {self.keys.channel}, so the messages are lost; start a Subscriber first, "
                "or use Publisher(redis, delivery='stream'), which keeps messages until they are done"
            )
        return Batch(self._redis, batch_id, namespace=keys.namespace, source=keys.source, receivers=receivers)

    def batch(self, batch_id: str) -> Batch:
        """Return the batch with this id, from any process.

        Raises
        ------
        BatchNotFound
            If this namespace has no batch with that id, or it has expired.
        """
        return Batch.find(self._redis, batch_id, namespace=self.keys.namespace)

    def _missing(self, requests: Sequence[ScrapeRequest]) -> list[ScrapeRequest]:
        """Return the requests whose month has not been stored since it ended."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for request in requests:
                pipeline.hget(self.keys.months(request.document), request.period.iso)
            stored = pipeline.execute()
        return [
            request
            for request, text in zip(requests, stored, strict=True)
            if not MonthRecord.read(text or "").stored_at >= _over_at(request.period)
        ]

    def _save_cards(self, requests: Iterable[ScrapeRequest]) -> None:
        funds = {request.fund for request in requests if request.fund is not None}
        for some in batched(funds, _SENT_AT_ONCE):
            with self._redis.pipeline(transaction=False) as pipeline:
                for command in chain.from_iterable(map(self._card_commands, some)):
                    pipeline.execute_command(*command)
                pipeline.execute()

    def _card_commands(self, fund: Fund) -> Sequence[Command]:
        # A fund created by hand, without a name, must not overwrite the card of one that was looked up.
        return [card_command(self.keys, fund)] if fund.name else first_card_commands(self.keys, fund.cnpj, fund.pk)

    def _send(self, batch_id: str, requests: Sequence[ScrapeRequest], keys: Keys, *, fresh: bool) -> int | None:
        """Make the wire messages and send them in portions; `fresh` ones get new ids."""
        now = time.time()
        fewest = []
        client = self._redis
        if self.settings.confirmations:
            wanted = Confirmation(self.settings.confirmations, self.settings.confirmation_timeout)
            client = Confirming(self._redis, wanted)
        for some in batched(requests, _SENT_AT_ONCE) if requests else [()]:
            messages = [_outgoing(request, batch_id, now, fresh=fresh) for request in some]
            receivers = scripts.publish(
                client,
                keys,
                batch_id,
                messages,
                delivery=self.delivery,
                batch_ttl=self.settings.batch_ttl,
                claim_ttl=self.settings.claim_ttl,
            )
            fewest += [receivers] if receivers is not None else []
        return min(fewest, default=None)

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


def _unique(requests: Iterable[ScrapeRequest]) -> list[ScrapeRequest]:
    unique: dict[str, ScrapeRequest] = {}
    for request in requests:
        if not isinstance(request, ScrapeRequest):
            raise ConfigError(
                f"requests: expected ScrapeRequests, got {type(request).__name__}; "
                "make them with fund.months('2022-01', '2022-12')"
            )
        if not request.acked:
            unique.setdefault(request.message_id, request)
    return list(unique.values())


def _source_of(requests: Iterable[ScrapeRequest]) -> str:
    sources = sorted({request.source for request in requests})
    if len(sources) > 1:
        raise ConfigError(f"requests: a batch has one source, but these have {' and '.join(sources)}; split them")
    return sources[0] if sources else DEFAULT_SOURCE


def _outgoing(request: ScrapeRequest, batch_id: str, now: float, *, fresh: bool) -> scripts.Outgoing:
    message_id = str(uuid.uuid4()) if fresh else request.message_id
    text = request.to_json(message_id=message_id, batch_id=batch_id, published_at=now)
    return scripts.Outgoing(message_id, request.document, request.month_year, text)


def batch_id_of(requests: Iterable[ScrapeRequest], day: dt.date) -> uuid.UUID:
    """Return the batch id of these requests: stable, but new each day in Brazil if they include recent months.

    It is ``uuid5`` of the sorted message ids, computed without joining them into one string.
    """
    last_closed = Month.of(day).shift(-1).iso
    content, is_recent = [], False
    for request in requests:
        content.append(request.message_id)
        is_recent = is_recent or iso_month(request.month_year) >= last_closed
    content.sort()
    if is_recent:
        content.append(day.isoformat())
    digest = hashlib.sha1(_BATCH_IDS.bytes, usedforsecurity=False)
    for place, word in enumerate(content):
        digest.update(f" {word}".encode() if place else word.encode())
    return uuid.UUID(bytes=digest.digest()[:16], version=5)
