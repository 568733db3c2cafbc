"""What a batch knows of its messages: which are lost with the worker that had them, and which can be cancelled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from scraperkit.connection import sibling
from scraperkit.engine.registry import live_workers
from scraperkit.errors import BadMessage
from scraperkit.keys import Keys
from scraperkit.lua import scripts
from scraperkit.lua.scripts import BATCH_FIELDS, Claim, MessageState
from scraperkit.models import ScrapeRequest
from scraperkit.timeseries.link import batched

GRACE = 3.0
_CANCELLED_AT_ONCE = 500
_OPEN = ("pending", "running")


class Ledger:
    """The messages of one batch, as Redis knows them. `client` is a plain redis-py client."""

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
        """Return the Pub/Sub messages that are open though no living worker has or can still receive them, and why."""
        return {message_id: why for message_id, why, _ in self._lost(states)}

    def note_lost(self) -> int:
        """Write down what is lost with its worker, so that it may be published again; return how many there are."""
        lost = self._lost(self.states())
        return scripts.note_lost(self._client, self._keys, self._batch_id, lost) if lost else 0

    def _lost(self, states: Mapping[str, MessageState]) -> list[tuple[str, str, str]]:
        """Return id, reason and claim of each message that is lost."""
        keys, client = self._keys, self._client
        delivery, published_at = client.hmget(keys.batch(self._batch_id), ["delivery", "published_at"])
        opened = {
            message_id: found.state for message_id, found in states.items() if found.state in ("pending", "running")
        }
        if delivery != "pubsub" or not opened:
            return []
        now, published = float(client.time()[0]), float(published_at or 0)
        workers = live_workers(client, keys)
        instances = {worker.instance for worker in workers}
        # A worker that listened in time may have unread messages, unless it has long been idle.
        heard = now < published + GRACE and client.pubsub_numsub(keys.channel)[0][1] > 0
        may_come = heard or any(
            0 < worker.subscribed_at <= published + 1 and (worker.in_hand or worker.beat_at < published + GRACE)
            for worker in workers
        )
        lost = []
        texts = client.mget([keys.claim(message_id) for message_id in opened])
        for (message_id, state), text in zip(opened.items(), texts, strict=True):
            claim = Claim.read(text or "")
            if claim.instance in instances or claim.batch == keys.batch(self._batch_id):
                continue
            # A card may have gone with a restart of Redis: it comes back with its worker's next heartbeat.
            if claim.instance and self._was_renewed(message_id, claim):
                continue
            if claim.instance or state == "running":
                who = f"the worker {claim.instance}" if claim.instance else "the worker that had it"
                lost.append((message_id, f"{who} died with it", text or ""))
            elif not may_come:
                lost.append((message_id, "no worker that received it is alive", text or ""))
        return lost

    def _was_renewed(self, message_id: str, claim: Claim) -> bool:
        """Return whether the claim was renewed within the time in which its holder must have sent a heartbeat."""
        remaining = self._client.pttl(self._keys.claim(message_id)) / 1000
        return bool(remaining > claim.lease - claim.silence)

    # --------------------------------------------------------------------- cancel

    def cancel(self) -> int:
        """Cancel what no worker has begun; return how many.

        Of the stream, that is what waits for another attempt, then what no worker has received: what is handed back or
        fed meanwhile goes to the stream's end, and is met there. Of the channel, it is what no worker has claimed.
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
        """Return the id of a message of this batch; nothing for any other."""
        if self._batch_id not in text:
            return ""
        try:
            request = ScrapeRequest.parse(text)
        except BadMessage:
            return ""
        return request.message_id if request.batch_id == self._batch_id else ""

    def _entries(self, reader: Any) -> Iterator[tuple[str, dict[str, str]]]:
        start = "-"
        while entries := reader.xrange(self._keys.jobs, start, count=_CANCELLED_AT_ONCE):
            yield from entries
            start = f"({entries[-1][0]}"

    def _withdraw(self, where: scripts.Waiting, messages: Iterable[tuple[str, str]]) -> int:
        return sum(
            scripts.cancel(self._client, self._keys, self._batch_id, where, some)
            for some in batched(messages, _CANCELLED_AT_ONCE)
        )
