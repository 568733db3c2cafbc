"""Taking back what was published and nobody has begun."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from scraperkit.errors import BadMessage
from scraperkit.keys import Keys
from scraperkit.lua import script
from scraperkit.models import ScrapeRequest
from scraperkit.timeseries.link import batched

_AT_ONCE = 500


class Cancelling:
    """Withdraws the messages of one batch, wherever they wait. `client` is a plain redis-py client."""

    def __init__(self, client: Any, keys: Keys, batch_id: str, claim_ttl: int) -> None:
        self._client = client
        self._keys = keys
        self._batch_id = batch_id
        self._claim_ms = claim_ttl * 1000
        self._script = script(client, "cancel")

    def waiting_again(self) -> int:
        """Cancel what waits for another attempt; return how many."""
        texts: Iterable[str] = self._client.zrange(self._keys.retries, 0, -1)
        return self._withdraw("retries", ((message_id, text) for text in texts if (message_id := self._mine(text))))

    def in_stream(self) -> int:
        """Cancel what no worker has received from the stream; return how many.

        What is handed back or put in meanwhile goes to the stream's end, and is met there.
        """
        entries = ((entry_id, self._mine(fields.get("message", ""))) for entry_id, fields in self._entries())
        return self._withdraw("stream", ((message_id, entry_id) for entry_id, message_id in entries if message_id))

    def spoken(self, message_ids: Iterable[str]) -> int:
        """Cancel Pub/Sub messages that nobody has claimed; return how many."""
        return self._withdraw("pubsub", ((message_id, "") for message_id in message_ids))

    def _mine(self, text: str) -> str:
        """Return the message's id if it is of this batch, else nothing."""
        if self._batch_id not in text:
            return ""
        try:
            request = ScrapeRequest.parse(text)
        except BadMessage:
            return ""
        return request.message_id if request.batch_id == self._batch_id else ""

    def _entries(self) -> Iterator[tuple[str, dict[str, str]]]:
        start = "-"
        while entries := self._client.xrange(self._keys.jobs, start, count=_AT_ONCE):
            yield from entries
            start = f"({entries[-1][0]}"

    def _withdraw(self, where: str, messages: Iterable[tuple[str, str]]) -> int:
        return sum(self._withdraw_some(where, some) for some in batched(messages, _AT_ONCE))

    def _withdraw_some(self, where: str, messages: Sequence[tuple[str, str]]) -> int:
        keys = self._keys
        claims = [keys.claim(message_id) for message_id, _ in messages]
        return int(
            self._script(
                keys=[keys.batch(self._batch_id), keys.jobs, keys.retries, keys.history, *claims],
                args=[where, keys.group, self._claim_ms, *(word for message in messages for word in message)],
            )
        )
