"""The messages of a batch: their states, which are lost, and which can be cancelled."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from scraperkit.connection import sibling
from scraperkit.engine.registry import live_workers
from scraperkit.errors import BadMessage
from scraperkit.keys import Keys
from scraperkit.lua import scripts
from scraperkit.lua.state import BATCH_FIELDS, Claim, MessageState
from scraperkit.models import ScrapeRequest
from scraperkit.timeseries.link import batched

GRACE = 3.0
_ASKED_AT_ONCE = 1_000
_JUDGED_AT_ONCE = 10_000
_READ_AT_ONCE = 500
_VANISHED = "it vanished from the stream: deleted, trimmed or evicted"
_OPEN_STATES = ("pending", "running")


class Ledger:
    """The messages of one batch in Redis. `client` is a plain redis-py client."""

    def __init__(self, client: Any, keys: Keys, batch_id: str) -> None:
        self._client = client
        self._keys = keys
        self._batch_id = batch_id

    def states(self) -> dict[str, MessageState]:
        """Return the state of each message, by its id."""
        fields = self._client.hgetall(self._keys.batch(self._batch_id))
        return {field: MessageState.read(text) for field, text in fields.items() if field not in BATCH_FIELDS}

    # ----------------------------------------------------------------------- lost

    def lost(self, states: Mapping[str, MessageState]) -> dict[str, str]:
        """Return the open messages that no worker holds or can still receive, and why."""
        opened = {message_id: found.state for message_id, found in states.items() if found.state in _OPEN_STATES}
        return {message_id: why for message_id, why, _ in self._lost(opened)}

    def note_lost(self, message_ids: Iterable[str]) -> int:
        """Record which of these are lost, so that they may be published again; return how many."""
        opened: dict[str, str] = {}
        for some in batched(message_ids, _ASKED_AT_ONCE):
            texts = self._client.hmget(self._keys.batch(self._batch_id), some)
            states = (sys.intern(MessageState.read(text or "").state) for text in texts)
            opened |= {
                message_id: state for message_id, state in zip(some, states, strict=True) if state in _OPEN_STATES
            }
        lost = batched(self._lost(opened), _ASKED_AT_ONCE)
        return sum(scripts.note_lost(self._client, self._keys, self._batch_id, some) for some in lost)

    def _lost(self, opened: Mapping[str, str]) -> list[tuple[str, str, str | None]]:
        """Return id, reason and claim of each open message that is lost; those of the stream have no claim."""
        keys, client = self._keys, self._client
        delivery, published_at = client.hmget(keys.batch(self._batch_id), ["delivery", "published_at"])
        if delivery != "pubsub":
            return [(message_id, _VANISHED, None) for message_id in self._vanished(opened)]
        if not opened:
            return []
        now, published = float(client.time()[0]), float(published_at or 0)
        workers = live_workers(client, keys)
        instances = {worker.instance for worker in workers}
        # A worker that was listening then may have unread messages, unless it has been idle for long.
        heard = now < published + GRACE and client.pubsub_numsub(keys.channel)[0][1] > 0
        may_come = heard or any(
            0 < worker.subscribed_at <= published + 1 and (worker.in_hand or worker.beat_at < published + GRACE)
            for worker in workers
        )
        lost: list[tuple[str, str, str | None]] = []
        texts = client.mget([keys.claim(message_id) for message_id in opened])
        for (message_id, state), text in zip(opened.items(), texts, strict=True):
            claim = Claim.read(text or "")
            if claim.instance in instances or claim.batch == keys.batch(self._batch_id):
                continue
            # A restart of Redis may have lost the card: it returns with its worker's next heartbeat.
            if claim.instance and self._was_renewed(message_id, claim):
                continue
            if claim.instance or state == "running":
                who = f"the worker {claim.instance}" if claim.instance else "the worker that had it"
                lost.append((message_id, f"{who} died before it was done", text or ""))
            elif not may_come:
                lost.append((message_id, "no worker that received it is alive", text or ""))
        return lost

    def _was_renewed(self, message_id: str, claim: Claim) -> bool:
        """Return whether the claim was renewed so recently that its holder still counts as alive."""
        remaining = self._client.pttl(self._keys.claim(message_id)) / 1000
        return bool(remaining > claim.lease - claim.silence)

    def _vanished(self, opened: Iterable[str]) -> list[str]:
        """Return the open messages that are not in the stream, not among the retries, and cannot be in hand.

        Messages move while the stream is read, but atomically, and only to the retries and the end of the stream.
        """
        unseen = set(opened)
        if not unseen:
            return []
        with sibling(self._client, encoding_errors="surrogateescape") as reader:  # any text may be in the stream
            last = "-"
            for entry_id, fields in self._entries(reader):
                last = f"({entry_id}"
                unseen.discard(self._mine(fields.get("message", "")))
                if not unseen:
                    return []
            if self._may_be_in_hand():
                return []
            return [
                message_id
                for some in batched(unseen, _JUDGED_AT_ONCE)
                for message_id in self._nowhere(reader, last, some)
            ]

    def _may_be_in_hand(self) -> bool:
        """Return whether a living worker holds a message whose entry is gone; nothing shows which message it is.

        The pending list shows it, unless the whole stream is gone: then only the worker's card does.
        """
        workers = live_workers(self._client, self._keys)
        pending = scripts.pending_entries(self._client, self._keys)
        counts = [(worker, *pending.get(worker.name, (0, 0))) for worker in workers if worker.delivery != "pubsub"]
        return any(gone or worker.in_hand > there for worker, there, gone in counts)

    def have_beaten_since(self, moment: float) -> bool:
        """Return whether each living worker has sent a heartbeat since then, which says how many jobs it holds."""
        return all(worker.beat_at > moment for worker in live_workers(self._client, self._keys))

    def redis_time(self) -> float:
        """Return the time by the server's clock, which dates heartbeats."""
        seconds, microseconds = self._client.time()
        return float(seconds) + float(microseconds) / 1e6

    def _nowhere(self, reader: Any, start: str, message_ids: Sequence[str]) -> list[str]:
        """Return which of these are open, and neither in the stream from `start` on nor among the retries; atomic."""
        with reader.pipeline(transaction=True) as look:
            look.xrange(self._keys.jobs, start)
            look.zrange(self._keys.retries, 0, -1)
            look.hmget(self._keys.batch(self._batch_id), message_ids)
            entries, retries, states = look.execute()
        texts = chain((fields.get("message", "") for _, fields in entries), retries)
        waiting = {self._mine(text) for text in texts}
        return [
            message_id
            for message_id, text in zip(message_ids, states, strict=True)
            if message_id not in waiting and MessageState.read(text or "").state in _OPEN_STATES
        ]

    # --------------------------------------------------------------------- cancel

    def cancel(self) -> int:
        """Cancel the messages that no worker has started; return how many.

        For the stream, cancel first the retries, then the messages that no worker has received: those handed back or
        fed meanwhile go to the end of the stream, where they are found. For the channel, cancel the unclaimed ones.
        """
        if self._client.hget(self._keys.batch(self._batch_id), "delivery") == "pubsub":
            pending = (message_id for message_id, found in self.states().items() if found.state == "pending")
            return self._withdraw("pubsub", ((message_id, "") for message_id in pending))
        with sibling(self._client, encoding_errors="surrogateescape") as reader:  # any text may be in the stream
            texts: Iterable[str] = reader.zrange(self._keys.retries, 0, -1)
            retries = [(message_id, text) for text in texts if (message_id := self._mine(text))]
            entries = ((self._mine(fields.get("message", "")), entry_id) for entry_id, fields in self._entries(reader))
            cancelled = self._withdraw("retries", retries)
            return cancelled + self._withdraw("stream", (pair for pair in entries if pair[0]))

    def _mine(self, text: str) -> str:
        """Return the id of a message of this batch; empty for any other."""
        if self._batch_id not in text:
            return ""
        try:
            request = ScrapeRequest.parse(text)
        except BadMessage:
            return ""
        return request.message_id if request.batch_id == self._batch_id else ""

    def _entries(self, reader: Any) -> Iterator[tuple[str, dict[str, str]]]:
        start = "-"
        while entries := reader.xrange(self._keys.jobs, start, count=_READ_AT_ONCE):
            yield from entries
            start = f"({entries[-1][0]}"

    def _withdraw(self, where: scripts.Waiting, messages: Iterable[tuple[str, str]]) -> int:
        return sum(
            scripts.cancel(self._client, self._keys, self._batch_id, where, some)
            for some in batched(messages, _READ_AT_ONCE)
        )
