"""Dead letters: list, retry or drop the messages that failed permanently."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import redis as redis_py

from scraperkit.config import Settings
from scraperkit.connection import check_client, redis_needed
from scraperkit.errors import BadMessage, ConfigError, RedisError
from scraperkit.keys import Keys
from scraperkit.lua import scripts
from scraperkit.models import ScrapeRequest

_LETTER_COLUMNS = ["cnpj", "month", "error", "attempts", "worker", "died_at", "message"]


class DeadLetters:
    """The messages that failed permanently, each with its last error and its history.

    Parameters
    ----------
    redis : redis.Redis
        From :func:`scraperkit.connect`.
    namespace : str, optional
        Default: ``SCRAPERKIT_NAMESPACE``.

    Examples
    --------
    >>> DeadLetters(redis, namespace=namespace).list().empty
    True
    """

    def __init__(self, redis: redis_py.Redis, *, namespace: str | None = None) -> None:
        self.keys = Keys(namespace or Settings.load().namespace)
        self._redis: Any = check_client(redis)

    @redis_needed()
    def __len__(self) -> int:
        return int(self._redis.xlen(self.keys.dead))

    @redis_needed()
    def list(self, *, after: str | None = None, count: int | None = None) -> pd.DataFrame:
        """Return all dead letters, oldest first.

        Parameters
        ----------
        after : str, optional
            Only letters after this id.
        count : int, optional
            Maximum number of letters.

        Returns
        -------
        pandas.DataFrame
            Indexed by ``id`` (text, for :meth:`retry` and :meth:`drop`); columns ``cnpj`` and ``month`` (empty if
            the message is invalid), ``error``, ``attempts`` (int64), ``worker``, ``died_at`` (UTC) and
            ``message``, the text as published.
        """
        found = self._redis.xrange(self.keys.dead, f"({after}" if after else "-", count=count)
        rows = [(entry_id, *_row(entry_id, fields)) for entry_id, fields in found]
        frame = pd.DataFrame(rows, columns=["id", *_LETTER_COLUMNS]).set_index("id")
        frame["died_at"] = pd.to_datetime(frame["died_at"].astype("int64"), unit="ms", utc=True)
        text = dict.fromkeys(["cnpj", "month", "error", "worker", "message"], "str")
        return frame.astype({**text, "attempts": "int64"})

    @redis_needed()
    def history(self, letter_id: str) -> Sequence[str]:
        """Return one JSON line for each attempt, oldest first.

        Raises
        ------
        ConfigError
            If the dead letter does not exist.
        """
        return str(self._one(letter_id).get("history", "")).splitlines()

    @redis_needed()
    def retry(self, ids: Iterable[str] | str | None = None) -> int:
        """Put dead letters (all by default) back into the job stream, and return how many.

        Their attempts are counted from zero, and their batches are pending again.

        Raises
        ------
        ConfigError
            If an id is not a dead letter's; then nothing is put back.
        """
        back = 0
        for entry_id, fields in self._wanted(ids):
            request = _request(fields)
            keys = self.keys.of(request.source) if request is not None else self.keys
            message_id, batch_id = (request.message_id, request.batch_id) if request is not None else ("", None)
            back += scripts.retry_dead(self._redis, keys, entry_id, message_id=message_id, batch_id=batch_id)
        return back

    @redis_needed()
    def drop(self, ids: Iterable[str] | str | None = None) -> int:
        """Delete dead letters (all by default), and return how many.

        Raises
        ------
        ConfigError
            If an id is not a dead letter's; then nothing is dropped.
        """
        wanted = [entry_id for entry_id, _ in self._wanted(ids)]
        return int(self._redis.xdel(self.keys.dead, *wanted)) if wanted else 0

    def _wanted(self, ids: Iterable[str] | str | None) -> Sequence[tuple[str, dict[str, str]]]:
        if ids is None:
            return [*self._redis.xrange(self.keys.dead)]
        return [(entry_id, self._one(entry_id)) for entry_id in ([ids] if isinstance(ids, str) else ids)]

    def _one(self, letter_id: str) -> dict[str, str]:
        try:
            found = self._redis.xrange(self.keys.dead, letter_id, letter_id)
        except redis_py.ResponseError as error:
            if "Invalid stream ID" not in str(error):
                raise
            found = []
        if not found:
            raise ConfigError(
                f"id: no dead letter {str(letter_id)[:40]!r} in {self.keys.dead}; "
                "list() or `scraperkit dead list` shows the ids"
            )
        fields: dict[str, str] = found[0][1]
        return fields

    def __repr__(self) -> str:
        try:
            return f"<DeadLetters of {self.keys.namespace!r}: {len(self)}>"
        except RedisError:
            return f"<DeadLetters of {self.keys.namespace!r}>"


def _request(fields: dict[str, str]) -> ScrapeRequest | None:
    try:
        return ScrapeRequest.parse(fields.get("message", ""))
    except BadMessage:
        return None


def _row(entry_id: str, fields: dict[str, str]) -> tuple[str, str, str, int, str, int, str]:
    request = _request(fields)
    cnpj, month = (request.document, request.month_year) if request is not None else ("", "")
    attempts = fields.get("attempts", "0")
    return (
        cnpj,
        month,
        fields.get("error", ""),
        int(attempts) if attempts.isdecimal() else 0,
        fields.get("worker", ""),
        int(entry_id.split("-")[0]),
        fields.get("message", ""),
    )
