"""SeriesStore: writes daily quotes and fund cards to Redis."""

from __future__ import annotations

from collections.abc import Iterable

import redis as redis_py

from scraperkit.models import METRICS, DailyQuote, Fund
from scraperkit.timeseries.commands import (
    Command,
    add_commands,
    card_command,
    check_replies,
    create_commands,
    fund_of,
    refused_funds,
    repair_commands,
    sample_count,
)
from scraperkit.timeseries.frames import Funds, wanted_cnpjs
from scraperkit.timeseries.link import Link, batched, keys_of
from scraperkit.timeseries.rows import FUNDS_PER_PIPELINE

QUOTES_PER_PIPELINE = 5_000


class SeriesStore:
    """Writes daily quotes and fund cards.

    Writing is idempotent: a day written twice holds what was written last.

    Parameters
    ----------
    redis : redis.Redis
        A client made by :func:`scraperkit.connect`; only its connections are used.
    namespace : str, optional
        The start of every key; ``Settings.namespace`` if left out.

    Raises
    ------
    ConfigError
        If the client was not made for this (RESP3, decoded replies), or `namespace` does not fit.

    Examples
    --------
    >>> store = SeriesStore(connect(), namespace="lesson")  # doctest: +SKIP
    >>> store.write([DailyQuote("18993924000100", date(2022, 1, 3), quota=1.25)])  # doctest: +SKIP
    1
    """

    def __init__(self, redis: redis_py.Redis, namespace: str | None = None) -> None:
        self._link = Link(redis)
        self._keys = keys_of(namespace)

    def __repr__(self) -> str:
        return f"SeriesStore(namespace={self._keys.namespace!r})"

    def write(self, quotes: Iterable[DailyQuote]) -> int:
        """Write quotes, creating the series that are missing, and return the number of samples written.

        A metric that is ``None`` is left as it was. Quotes are sent 5,000 at a time, so an error may leave earlier
        ones written; writing all again is safe.

        Raises
        ------
        StoreError
            If a value is not finite, a day is before 1970, or Redis refuses a sample; names series and day.
        ConfigError
            If a quote's CNPJ is none.
        RedisUnreachable
            If Redis goes away.
        """
        return sum(self._write_some(some) for some in batched(quotes, QUOTES_PER_PIPELINE))

    def _write_some(self, quotes: Iterable[DailyQuote]) -> int:
        commands = add_commands(self._keys, quotes)
        refused = refused_funds(commands, self._link.pipeline(commands))
        if refused:
            again = repair_commands(self._keys, commands, refused)
            check_replies(again, self._link.pipeline(again))
        return sample_count(commands)

    def save_fund(self, fund: Fund) -> None:
        """Write the card of one fund; see :meth:`save_funds`."""
        self.save_funds([fund])

    def save_funds(self, funds: Iterable[Fund]) -> None:
        """Write the cards of funds, in place of what they held, and create their series where missing.

        From then on the reader knows these funds, with or without quotes.

        Raises
        ------
        StoreError
            If Redis refuses a key; names it.
        ConfigError
            If a fund's CNPJ is none.
        RedisUnreachable
            If Redis goes away.
        """
        for some in batched(funds, FUNDS_PER_PIPELINE):
            cards = [card_command(self._keys, fund) for fund in some]
            creates = [create for card in cards for create in create_commands(self._keys, fund_of(str(card[1])))]
            check_replies(cards + creates, self._link.pipeline(cards + creates))

    def delete(self, cnpjs: Funds) -> int:
        """Delete all series and the card of these funds; return how many of the funds had any.

        Raises
        ------
        ConfigError
            If a CNPJ is none.
        RedisUnreachable
            If Redis goes away.
        """
        commands: list[Command] = [
            (
                *("UNLINK", self._keys.fund(cnpj), self._keys.months(cnpj)),
                *(self._keys.series(cnpj, metric) for metric in METRICS),
            )
            for cnpj in wanted_cnpjs(cnpjs)
        ]
        replies = self._link.pipeline(commands)
        check_replies(commands, replies)
        return sum(1 for removed in replies if removed)
