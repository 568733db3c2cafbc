"""Publish news of stored prices, and listen to it."""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import redis as redis_py
from pydantic_core import from_json
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.retry import Retry

from scraperkit.connection import SOCKET_TIMEOUT, check_client, redis_needed, sibling
from scraperkit.errors import ConfigError, ScraperKitError
from scraperkit.keys import Keys
from scraperkit.models import YEAR_MONTH, Stored
from scraperkit.text import printable
from scraperkit.timeseries.commands import news_commands
from scraperkit.timeseries.link import keys_of

log = logging.getLogger(__name__)
_CUT_OFF = (redis_py.RedisError, OSError, ScraperKitError)
_CLOSE_WITHIN = 0.1
_PAUSES = ExponentialWithJitterBackoff(base=0.05, cap=2.0)
_SHOWN = 80


class Announcer:
    """Makes the commands that publish news; a user without that permission loses only the news."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._is_refused = False

    def commands(self, months: Iterable[Stored]) -> list[bytes]:
        """Return the command that publishes the news of these months, if there are any."""
        return news_commands(self._keys, months)

    def hear(self, replies: Iterable[Any]) -> None:
        """Log the first refusal among the replies, once."""
        for refusal in replies:
            if isinstance(refusal, Exception) and not self._is_refused:
                self._is_refused = True
                log.warning(
                    "cannot publish news of stored prices: Redis refused it on %s: %s", self._keys.stored, refusal
                )


def on_stored(
    redis: redis_py.Redis,
    callback: Callable[[list[Stored]], object],
    *,
    on_gap: Callable[[], object] | None = None,
    namespace: str | None = None,
) -> StoredListener:
    """Call a function whenever any worker or program has stored prices.

    The news travels by Pub/Sub: it is delivered to current listeners only, not stored. Each message is about one commit
    of a worker, or one chunk of a bulk load; it may come twice, and the prices that it names can be read. While Redis
    is unreachable, the listener retries; news from that time is lost. To catch up, read the prices again
    (:meth:`TimeSeriesReader.prices`) after this function has returned, and whenever `on_gap` is called.

    Parameters
    ----------
    redis : redis.Redis
        From :func:`scraperkit.connect`; the listener opens its own connection.
    callback : callable
        Takes a list of :class:`Stored`, one for each series and month. It is called in a background thread, one call
        after another, so do not print from it in a notebook. An exception that it raises is logged.
    on_gap : callable, optional
        Called in the same thread, without arguments, when the listener has reconnected after losing Redis.
    namespace : str, optional
        The namespace to listen to; default ``SCRAPERKIT_NAMESPACE``.

    Returns
    -------
    StoredListener
        Close it, or use it in a ``with`` block. The server has confirmed the subscription: nothing stored from now on
        is missed.

    Raises
    ------
    ConfigError
        If the client or the namespace is invalid.
    RedisUnreachable
        If Redis is unreachable.
    RedisRefused
        If this user may not subscribe to the channel.

    Examples
    --------
    >>> heard = []
    >>> with on_stored(redis, heard.extend, namespace=namespace), Subscriber(redis, source, namespace=namespace):
    ...     status = Publisher(redis, namespace=namespace).publish(fund.months("2022-01", "2022-02")).wait(60)
    >>> sorted((stored.month, stored.days) for stored in heard)
    [('2022-01', 1), ('2022-02', 1)]
    """
    return StoredListener(redis, callback, on_gap, keys_of(namespace))


class StoredListener:
    """Listener for news of stored prices, in a background thread. Get one from :func:`on_stored`."""

    def __init__(
        self,
        redis: redis_py.Redis,
        callback: Callable[[list[Stored]], object],
        on_gap: Callable[[], object] | None,
        keys: Keys,
    ) -> None:
        for name, given in (("callback", callback), ("on_gap", on_gap)):
            if not callable(given) and not (name == "on_gap" and given is None):
                raise ConfigError(f"{name}: expected a function, got {type(given).__name__}")
            if inspect.iscoroutinefunction(given):
                raise ConfigError(f"{name}: a coroutine function, which would never be awaited; give a plain function")
        self.channel = keys.stored
        self._callback, self._on_gap = callback, on_gap
        # The thread itself waits for Redis, so that it ends in time when it is closed.
        # Anyone may publish anything: a message that is not UTF-8 must not end the listener.
        self._redis = sibling(check_client(redis), retry=Retry(NoBackoff(), 0), encoding_errors="replace")
        self._allowed = self._redis.get_connection_kwargs().get("socket_timeout") or SOCKET_TIMEOUT
        self._ending = threading.Event()
        try:
            with redis_needed():
                pubsub = self._subscribe()
        except BaseException:
            self._redis.close()
            raise
        self._thread = threading.Thread(target=self._run, args=(pubsub,), name="scraperkit-stored", daemon=True)
        self._thread.start()

    @property
    def listening(self) -> bool:
        """Whether it has not been closed; it may be waiting for Redis."""
        return not self._ending.is_set()

    def close(self) -> None:
        """Stop listening. It returns once a call in progress has ended; no further one follows."""
        self._ending.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _subscribe(self) -> Any:
        """Return a subscription that the server has confirmed."""
        pubsub = self._redis.pubsub()  # type: ignore[no-untyped-call]
        try:
            pubsub.subscribe(self.channel)
            if pubsub.get_message(timeout=self._allowed) is None:
                raise redis_py.TimeoutError(f"the subscription to {self.channel} was not confirmed")
        except BaseException:
            pubsub.close()
            raise
        return pubsub

    def _run(self, pubsub: Any) -> None:
        try:
            while not self._ending.is_set():
                try:
                    self._listen(pubsub)
                except _CUT_OFF as error:
                    log.warning("no news on %s: Redis unreachable (%s); retrying until it is back", self.channel, error)
                    pubsub.close()
                    pubsub = self._subscribe_again()
        finally:
            if pubsub is not None:
                pubsub.close()
            self._redis.close()

    def _listen(self, pubsub: Any) -> None:
        """Pass on messages until closed; ping the server when silent, since a dead connection is silent too."""
        heard_at, asked_at = time.monotonic(), 0.0
        while not self._ending.is_set():
            message = pubsub.get_message(timeout=_CLOSE_WITHIN)
            now = time.monotonic()
            if message is not None:
                heard_at, asked_at = now, 0.0
                if message["type"] == "message":
                    self._tell(message["data"])
            elif asked_at and now - asked_at > self._allowed:
                raise redis_py.TimeoutError(f"nothing arrived for {self._allowed:g} s")
            elif not asked_at and now - heard_at > self._allowed / 3:
                asked_at = now
                pubsub.ping()

    def _subscribe_again(self) -> Any:
        """Return a new subscription once Redis is back; ``None`` if the listener is closed first."""
        failures = 0
        while not self._ending.wait(_PAUSES.compute(failures)):
            try:
                pubsub = self._subscribe()
            except _CUT_OFF:
                failures += 1
                continue
            log.warning("receiving news on %s again; news from the gap is lost", self.channel)
            if self._on_gap is not None:
                self._call(self._on_gap)
            return pubsub
        return None

    def _tell(self, text: str) -> None:
        try:
            told = read_news(text)
        except ValueError as error:
            log.warning("%s: ignored %s: %s", self.channel, printable(repr(text[:_SHOWN])), printable(str(error)))
            return
        self._call(self._callback, told)

    @staticmethod
    def _call(function: Callable[..., object], *arguments: Sequence[Stored]) -> None:
        try:
            function(*arguments)
        except Exception:
            log.exception("the callback of on_stored failed; the next message will call it again")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<StoredListener to {self.channel}: {'listening' if self.listening else 'closed'}>"


def read_news(text: str) -> list[Stored]:
    """Return the months that a message announces; other fields are ignored.

    Raises
    ------
    ValueError
        If it is not such a message.

    Examples
    --------
    >>> read_news('[{"cnpj": "18993924000100", "subclass": "", "month": "2022-01", "days": 21, "changed": null}]')
    [Stored(cnpj='18993924000100', subclass='', month='2022-01', days=21, changed=None)]
    """
    items = from_json(text)
    if not isinstance(items, list):
        raise ValueError("it is not a list")
    return [_read_item(item) for item in items]


def _read_item(item: Any) -> Stored:
    try:
        stored = Stored(*(item[name] for name in Stored._fields))
    except (KeyError, TypeError):
        raise ValueError(f"an item lacks one of {', '.join(Stored._fields)}") from None
    texts = (stored.cnpj, stored.subclass, stored.month)
    counts = (stored.days, 0 if stored.changed is None else stored.changed)
    is_text = all(isinstance(text, str) for text in texts)
    if not is_text or len(stored.month) > len("YYYY-MM") or not YEAR_MONTH.fullmatch(stored.month):
        raise ValueError("cnpj and subclass are text, and month is YYYY-MM")
    if not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("days and changed are counts")
    return stored
