"""One typed function for each script.

A function's signature is the contract of its script; its keys are in the script's order.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from itertools import chain
from typing import Any, Literal, NamedTuple, Self, overload

import redis as redis_py
from pydantic_core import to_json
from redis.exceptions import NoScriptError

from scraperkit.keys import DeliveryName, Keys, series_in

Waiting = DeliveryName | Literal["retries"]
_SHARED = ("prelude", "state")
# Attempts to load a script that Redis lacks; the scripts may be flushed again just then.
_LOADS = 10
_CHANGES_KEPT = 10_000


class Script(NamedTuple):
    """A script, preceded by the parts that all share, and its SHA-1, by which Redis knows it."""

    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """Return the script in a file of this folder."""
    folder = resources.files(__package__)
    text = "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in (*_SHARED, name))
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@cache
def names() -> dict[str, str]:
    """Return the name of each script by its SHA-1, the argument of ``EVALSHA``."""
    files = [file.name.removesuffix(".lua") for file in resources.files(__package__).iterdir()]
    return {script(name).sha: name for name in files if "." not in name and name not in ("__pycache__", *_SHARED)}


def _words(name: str, keys: Sequence[str], given: Mapping[str, Any], *lines: bytes) -> tuple[str | int | bytes, ...]:
    return (script(name).sha, len(keys), *keys, to_json(given), *lines)


def _run(client: Any, name: str, keys: Sequence[str], /, **given: Any) -> Any:
    words = _words(name, keys, given)
    for _ in range(_LOADS):
        with contextlib.suppress(NoScriptError):
            return client.evalsha(*words)
        client.script_load(script(name).text)
    return client.evalsha(*words)


async def _run_async(client: Any, name: str, keys: Sequence[str], /, *lines: bytes, **given: Any) -> Any:
    words = _words(name, keys, given, *lines)
    for _ in range(_LOADS):
        with contextlib.suppress(NoScriptError):
            return await client.evalsha(*words)
        await client.script_load(script(name).text)
    return await client.evalsha(*words)


class Outgoing(NamedTuple):
    """A message to publish: its id, its fund and month (``MM/YYYY``), and its text on the wire."""

    message_id: str
    cnpj: str
    month: str
    text: str


def publish(
    client: redis_py.Redis,
    keys: Keys,
    batch_id: str,
    messages: Sequence[Outgoing],
    *,
    delivery: DeliveryName,
    batch_ttl: int,
    claim_ttl: int,
) -> int | None:
    """Publish messages of a batch, each at most once; return the fewest receivers of any; None for the stream.

    Parameters
    ----------
    batch_ttl, claim_ttl : int
        Seconds until the batch expires, and until the claim on a finished message expires.
    """
    on_channel = delivery == "pubsub"
    claims = [keys.claim(message.message_id) for message in messages] if on_channel else []
    _, fewest = _run(
        client,
        "publish",
        [keys.batch(batch_id), keys.jobs, keys.channel, *claims],
        claims=len(claims),
        delivery=delivery,
        source=keys.source,
        batch_ttl=batch_ttl,
        claim_ms=claim_ttl * 1000,
        group=keys.group,
        message_id=[message.message_id for message in messages],
        cnpj=[message.cnpj for message in messages],
        month=[message.month for message in messages],
        message=[message.text for message in messages],
    )
    return int(fewest) if fewest >= 0 else None


async def claim(
    client: Any,
    keys: Keys,
    messages: Sequence[tuple[str, str | None]],
    *,
    instance: str,
    lease: float,
    silence: float,
    exclusive: bool,
) -> list[bool]:
    """Claim Pub/Sub messages, each given by its id and the id of its batch; return which are this worker's.

    Parameters
    ----------
    exclusive : bool
        Whether one worker is to process each message; otherwise every worker does.
    """
    batches = [keys.batch(batch_id) if batch_id else "" for _, batch_id in messages]
    won = await _run_async(
        client,
        "claim",
        [*(keys.claim(message_id) for message_id, _ in messages), *dict.fromkeys(filter(None, batches))],
        message_id=[message_id for message_id, _ in messages],
        batch=batches,
        instance=instance,
        lease_ms=int(lease * 1000),
        silence_ms=int(silence * 1000),
        exclusive=exclusive,
    )
    return [bool(mine) for mine in won]


async def _run_together(client: Any, names: Sequence[str], calls: Sequence[tuple[str | int | bytes, ...]]) -> list[Any]:
    """Run calls of these scripts in one round trip, in order; return the replies, including errors."""
    for attempt in range(_LOADS + 1):
        pipeline = client.pipeline(transaction=False)
        for words in calls:
            pipeline.evalsha(*words)
        replies = list(await pipeline.execute(raise_on_error=False))
        if attempt == _LOADS or not any(isinstance(reply, NoScriptError) for reply in replies):
            break
        for name in names:
            await client.script_load(script(name).text)
    return replies


# For longer input, hashlib releases the GIL, and gets it back only when no other thread wants it.
_HASHED_AT_ONCE = 2_000
# The digest of a month without samples.
_EMPTY = hashlib.blake2b(digest_size=8).hexdigest()


class MonthFetched(NamedTuple):
    """A fetched month of one fund, to replace its stored figures.

    Attributes
    ----------
    month : str
        As ``YYYY-MM``.
    first, last : int
        Its first and last millisecond since 1970.
    fetched_at : str
        When the fetch began, in seconds by the clock of Redis: a fetch that began earlier replaces nothing.
    words : list of bytes
        Name of the series, time and value of each sample.
    """

    month: str
    first: int
    last: int
    fetched_at: str
    words: list[bytes]

    @property
    def digest(self) -> str:
        """A hash of the words."""
        if not self.words:
            return _EMPTY
        found, text = hashlib.blake2b(digest_size=8), b" ".join(self.words)
        for start in range(0, len(text), _HASHED_AT_ONCE):
            found.update(text[start : start + _HASHED_AT_ONCE])
        return found.hexdigest()


class MonthStored(NamedTuple):
    """The outcome of storing a fetched month.

    Attributes
    ----------
    changed, withdrawn : int
        Stored samples that got another value, and stored samples that were deleted.
    refusal : str
        Why Redis refused it; names the series and the day.
    is_kept : bool
        Whether nothing was written because the same, or something newer, was already stored.
    """

    changed: int = 0
    withdrawn: int = 0
    refusal: str = ""
    is_kept: bool = False

    @classmethod
    def read(cls, reply: Sequence[Any]) -> Self:
        """Read the reply of ``replace_months.lua`` about a month."""
        if reply[0] == "refused":
            day = dt.datetime.fromtimestamp(int(reply[2]) / 1000, dt.UTC).date()
            return cls(refusal=f"{reply[1]} on {day}: {reply[3]}")
        return cls(*reply)


_NOTHING_TO_TELL = MonthStored()


class FundFetched(NamedTuple):
    """Fetched months of one fund.

    Attributes
    ----------
    cnpj, pk : str
        Of the fund; `pk` goes into a new fund card.
    is_known : bool
        Whether this worker knows that the fund has a card, and series with the right options.
    series : dict of str to None
        The fetched series in order, each as ``CNPJ`` or ``CNPJ:SUBCLASS``; empty means the class itself.
    months : list of MonthFetched
    """

    cnpj: str
    pk: str
    is_known: bool
    series: dict[str, None]
    months: list[MonthFetched]


async def replace_months(
    client: Any,
    keys: Keys,
    funds: Sequence[FundFetched],
    *,
    source: str,
    is_whole: bool,
    metrics: Sequence[str],
    options: Sequence[str | int],
) -> list[list[MonthStored] | Exception]:
    """Replace months with fetched ones, for all funds in one round trip; return the outcome of each.

    Parameters
    ----------
    source : str
        The source of the figures.
    is_whole : bool
        Whether the source has all subclasses of a fund, so that any other subclass has no figures. Then, funds with
        other stored subclasses take a second round trip.
    metrics, options : sequence
        The metrics of a fund, and the options with which a series is created.
    """
    given = {"source": source, "is_whole": is_whole, "changes_kept": _CHANGES_KEPT}
    calls = [_replacement(keys, fund, metrics, options, given) for fund in funds]
    replies: list[Any] = list(await _run_together(client, ["replace_months"], calls))
    again = {
        place: fund._replace(series=dict.fromkeys([*_names(fund), *map(series_in, reply[1:])]))
        for place, (fund, reply) in enumerate(zip(funds, replies, strict=True))
        if not isinstance(reply, Exception) and reply[:1] == ["others"]
    }
    stored = [
        reply if isinstance(reply, Exception) or place in again else _all_stored(len(fund.months), reply)
        for place, (fund, reply) in enumerate(zip(funds, replies, strict=True))
    ]
    if again:
        funds = list(again.values())
        replaced = await replace_months(
            client, keys, funds, source=source, is_whole=is_whole, metrics=metrics, options=options
        )
        for place, found in zip(again, replaced, strict=True):
            stored[place] = found
    return stored


def _names(fund: FundFetched) -> Sequence[str]:
    return tuple(fund.series) or (fund.cnpj,)


def _replacement(
    keys: Keys, fund: FundFetched, metrics: Sequence[str], options: Sequence[str | int], given: Mapping[str, Any]
) -> tuple[str | int | bytes, ...]:
    names = _names(fund)
    month, first, last, fetched_at, words_of_months = zip(*fund.months, strict=True) if fund.months else [()] * 5
    told = {
        **given,
        "cnpj": fund.cnpj,
        "pk": fund.pk,
        "is_known": fund.is_known,
        "month": month,
        "first": first,
        "last": last,
        "fetched_at": fetched_at,
        "samples": tuple(len(words) // 3 for words in words_of_months),
        "digest": tuple(fetched.digest for fetched in fund.months),
    }
    words = list(chain.from_iterable(words_of_months))
    if words or not fund.is_known or given["is_whole"]:
        told |= {
            "namespace": keys.namespace,
            "metrics": [*metrics] * len(names),
            "subclass": [name.partition(":")[2] for name in names for _ in metrics],
            "options": options,
        }
    own = (keys.fund(fund.cnpj), keys.months(fund.cnpj), keys.changes(fund.cnpj))
    series = [keys.series(name, metric) for name in names for metric in metrics]
    return _words("replace_months", [*own, *series], told, *words)


def _all_stored(months: int, told: Sequence[Sequence[Any]]) -> list[MonthStored]:
    """Return the outcome of each month; the script reports only those that changed."""
    found = [_NOTHING_TO_TELL] * months
    for number, *reply in told:
        found[number - 1] = MonthStored.read(reply)
    return found


class Settlement(NamedTuple):
    """The settlement of one job; text is empty where it does not apply.

    Attributes
    ----------
    entry, claim : str
        The origin of the message: its entry in the stream, or the key of its claim on the channel.
    message_id : str
    batch : str
        The key of its batch.
    outcome : str
        done, ignored, not_offered, failed, or fatal if no further attempt can help.
    error : str
    message : str
        The message itself, if it may be needed again.
    exclusive : bool
        Whether the claim must be this worker's.
    jitter : float
        Random share of the second half of the pause before the next attempt, from 0 to 1.
    """

    entry: str
    claim: str
    message_id: str
    batch: str
    outcome: str
    error: str
    message: str
    exclusive: bool
    jitter: float


async def commit(
    client: Any,
    keys: Keys,
    *,
    jobs: Sequence[Settlement],
    events: Sequence[bytes],
    news: bytes,
    consumer: str,
    instance: str,
    events_kept: int,
    claim_ttl: int,
    max_attempts: int,
    backoff: float,
    backoff_limit: float,
) -> tuple[list[str], str]:
    """Settle jobs, each with its event as JSON text; return the outcome of each, and why Redis refused the news."""
    if not jobs:
        return [], ""
    given = {
        **dict(zip(Settlement._fields, zip(*jobs, strict=True), strict=True)),
        "group": keys.group,
        "consumer": consumer,
        "instance": instance,
        "events_kept": events_kept,
        "claim_ms": claim_ttl * 1000,
        "max_attempts": max_attempts,
        "backoff_ms": int(backoff * 1000),
        "longest_backoff_ms": int(backoff_limit * 1000),
    }
    named = dict.fromkeys(name for job in jobs for name in (job.batch, job.claim) if name)
    own = (keys.jobs, keys.events, keys.dead, keys.retries, keys.history, keys.worker(consumer), keys.stored)
    outcomes, refused = await _run_async(client, "commit", [*own, *named], b"\n".join(events), news, **given)
    return outcomes, refused


async def renew(
    client: Any,
    keys: Keys,
    *,
    entries: Sequence[str],
    claims: Sequence[str],
    consumer: str,
    instance: str,
    lease: float,
) -> int:
    """Renew the leases of the stream entries and claims in hand; return how many are still this worker's."""
    return int(
        await _run_async(
            client,
            "renew",
            [keys.jobs, *claims],
            claims=len(claims),
            entry=entries,
            group=keys.group,
            consumer=consumer,
            instance=instance,
            lease_ms=int(lease * 1000),
        )
    )


async def feed_due(client: Any, keys: Keys, most: int) -> float:
    """Put at most `most` due retries back into the stream; return the seconds until the next is due."""
    milliseconds = int(await _run_async(client, "feed_due", [keys.retries, keys.jobs], most=most))
    return math.inf if milliseconds < 0 else milliseconds / 1000


async def take_over(
    client: Any, keys: Keys, owners: Mapping[str, str], *, consumer: str
) -> list[tuple[str, dict[str, str]]]:
    """Take over stream entries from their owners, which are dead workers or `consumer` itself; return those taken."""
    names = list(owners.values())
    taken = await _run_async(
        client,
        "take_over",
        [keys.jobs, *map(keys.worker, names)],
        entry=list(owners),
        owner=names,
        group=keys.group,
        consumer=consumer,
    )
    return [(entry_id, dict(zip(words[::2], words[1::2], strict=True))) for entry_id, words in taken]


async def hand_back(
    client: Any,
    keys: Keys,
    *,
    entries: Sequence[str],
    from_channel: Sequence[tuple[str, str]],
    consumer: str,
    instance: str,
) -> int:
    """Hand back stream entries, and Pub/Sub messages given by id and text; return how many.

    A message may be in hand for several batches, under one claim.
    """
    texts: dict[str, list[str]] = {}
    for message_id, text in from_channel:
        texts.setdefault(message_id, []).append(text)
    return int(
        await _run_async(
            client,
            "hand_back",
            [keys.jobs, keys.channel, keys.worker(consumer), *map(keys.claim, texts)],
            entry=entries,
            messages=list(texts.values()),
            group=keys.group,
            consumer=consumer,
            instance=instance,
        )
    )


async def forget(client: Any, keys: Keys, names: Sequence[str]) -> list[str]:
    """Forget the workers among these that are dead and have nothing pending; return their names."""
    cards = [keys.worker(name) for name in names]
    gone: list[str] = await _run_async(
        client, "forget", [keys.jobs, keys.workers, *cards], name=names, group=keys.group
    )
    return gone


def pending_entries(client: redis_py.Redis, keys: Keys) -> dict[str, tuple[int, int]]:
    """Return how many entries each consumer has pending: those in the stream, and those gone from it."""
    counts = _run(client, "pending_entries", [keys.jobs], group=keys.group)
    return {name: (there, gone) for name, there, gone in counts}


def note_lost(client: redis_py.Redis, keys: Keys, batch_id: str, lost: Sequence[tuple[str, str, str | None]]) -> int:
    """Record lost messages, each given by id, reason and claim (None in the stream); return how many still were."""
    claims = [keys.claim(message_id) for message_id, _, text in lost if text is not None]
    return int(
        _run(
            client,
            "note_lost",
            [keys.batch(batch_id), keys.history, *claims],
            claims=len(claims),
            message_id=[message_id for message_id, _, _ in lost],
            why=[why for _, why, _ in lost],
            claim=[text for _, _, text in lost],
        )
    )


def cancel(
    client: redis_py.Redis,
    keys: Keys,
    batch_id: str,
    where: Waiting,
    messages: Sequence[tuple[str, str]],
) -> int:
    """Cancel messages that no worker has started, each given by its id and its handle; return how many.

    The handle is a stream entry's id, or the text among the retries; empty on the channel.
    """
    claims = [keys.claim(message_id) for message_id, _ in messages] if where == "pubsub" else []
    return int(
        _run(
            client,
            "cancel",
            [keys.batch(batch_id), keys.jobs, keys.retries, keys.history, *claims],
            claims=len(claims),
            where=where,
            message_id=[message_id for message_id, _ in messages],
            handle=[handle for _, handle in messages],
            group=keys.group,
        )
    )


def retry_dead(client: redis_py.Redis, keys: Keys, letter: str, *, message_id: str, batch_id: str | None) -> bool:
    """Put a dead letter back into the stream, once; return whether this call did."""
    batch = [keys.batch(batch_id)] if batch_id else []
    return bool(
        _run(
            client,
            "retry_dead",
            [keys.dead, keys.jobs, *batch],
            letter=letter,
            message_id=message_id,
            group=keys.group,
        )
    )


@overload
def agree_on_site(client: redis_py.Redis, site: str, action: Literal["ask"], *, who: str, trial_ms: int) -> int: ...
@overload
def agree_on_site(client: Any, site: str, action: Literal["pause"], *, pause_ms: int, reason: str) -> int: ...
@overload
def agree_on_site(client: redis_py.Redis, site: str, action: Literal["succeeded"]) -> int: ...
@overload
def agree_on_site(
    client: Any, site: str, action: Literal["failed"], *, failures: int, pause_ms: int, longest_ms: int, reason: str
) -> int: ...
def agree_on_site(client: redis_py.Redis, site: str, action: str, **terms: str | int) -> int:
    """Read or change the state that all readers of a site share; return the reply of ``agree_on_site.lua``."""
    return int(_run(client, "agree_on_site", [Keys.site(site), Keys.sites()], site=site, action=action, **terms))


class Turn(NamedTuple):
    """The next turn at a site.

    Attributes
    ----------
    is_promised : bool
        Whether the caller has it; otherwise, ask again.
    seconds : float
        Until the turn, or until it is worth asking again.
    """

    is_promised: bool
    seconds: float


def take_turn(client: redis_py.Redis, site: str, *, apart: float, ahead: float, longest: float) -> Turn:
    """Take the next turn at a site, `apart` seconds after the last, if it is at most `ahead` seconds away.

    Parameters
    ----------
    longest : float
        Seconds for which others may need to know this turn.
    """
    given = {"apart_us": int(apart * 1e6), "ahead_us": int(ahead * 1e6), "longest_us": int(longest * 1e6)}
    promised, microseconds = _run(client, "take_turn", [Keys.turn(site)], **given)
    return Turn(bool(promised), microseconds / 1e6)
