"""Which messages of a batch are lost with the worker that had them, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from scraperkit.config import Settings
from scraperkit.engine.registry import MISSED, live_workers
from scraperkit.keys import Keys
from scraperkit.lua import script

GRACE = 3.0


class State(NamedTuple):
    """What a batch knows of one message."""

    word: str
    cnpj: str
    month: str
    error: str


def states_of(redis: Any, keys: Keys, batch_id: str) -> dict[str, State]:
    """Return the state of each message, by its id."""
    states = {}
    for field, text in redis.hgetall(keys.batch(batch_id)).items():
        if "-" in field:
            states[field] = State(*[*text.split(" ", 3), "", "", ""][:4])
    return states


def find_lost(redis: Any, keys: Keys, batch_id: str, states: Mapping[str, State]) -> dict[str, str]:
    """Return the Pub/Sub messages that are open though nobody alive has them or can still receive them, and why."""
    delivery, published_at = redis.hmget(keys.batch(batch_id), ["delivery", "published_at"])
    now = float(redis.time()[0])
    opened = {message: state.word for message, state in states.items() if state.word in ("pending", "running")}
    if delivery != "pubsub" or not opened:
        return {}
    workers = live_workers(redis, keys)
    instances = {worker.instance for worker in workers}
    published = float(published_at or 0)
    # A worker that listened in time may have messages unread, unless it has long been idle.
    heard = now < published + GRACE and redis.pubsub_numsub(keys.channel)[0][1] > 0
    may_come = heard or any(
        0 < worker.subscribed_at <= published + 1 and (worker.in_hand or worker.beat_at < published + GRACE)
        for worker in workers
    )
    holders = dict(zip(opened, redis.mget([keys.claim(message) for message in opened]), strict=True))
    finished = "finished "  # and for which batch
    lost = {}
    for message, word in opened.items():
        holder = holders[message]
        if holder in instances or holder == finished + keys.batch(batch_id):
            continue
        if holder is not None and holder.startswith(finished):
            holder = None
        if holder is not None and _renewed_lately(redis, keys, message):
            continue  # its card may have gone with a restart of Redis, and come back with its next heartbeat
        if holder is not None or word == "running":
            lost[message] = f"the worker {holder} died with it" if holder else "the worker that had it died with it"
        elif not may_come:
            lost[message] = "no worker that received it is alive"
    return lost


def note_lost(redis: Any, keys: Keys, batch_id: str) -> int:
    """Write down what is lost with its worker, so that it may be published again; return how many there are.

    The dead worker's claims go with it: they would keep everybody else from the message until their lease is over.
    """
    if redis.hget(keys.batch(batch_id), "delivery") != "pubsub":
        return 0
    lost = find_lost(redis, keys, batch_id, states_of(redis, keys, batch_id))
    if not lost:
        return 0
    holders = redis.mget([keys.claim(message) for message in lost])
    words = [
        word
        for (message, why), holder in zip(lost.items(), holders, strict=True)
        for word in (message, why, holder or "")
    ]
    claims = [keys.claim(message) for message in lost]
    return int(script(redis, "lost")(keys=[keys.batch(batch_id), *claims], args=words))


def _renewed_lately(redis: Any, keys: Keys, message: str) -> bool:
    settings = Settings.load()
    remaining = redis.pttl(keys.claim(message)) / 1000
    return bool(remaining > settings.lease - MISSED * settings.heartbeat)
