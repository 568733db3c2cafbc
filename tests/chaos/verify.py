"""Verify the result of a run: compare Redis with the oracle."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chaos.oracle import OPEN_DATA, PAGES, Figures, Record, Site, Version

from scraperkit.batch import Batch
from scraperkit.keys import Keys

# Every key that may exist at the end, and whether it must have an expiry.
ALLOWED = {
    "{ns}:jobs": False,
    "{ns}:jobs:open_data": False,
    "{ns}:sources": False,
    "{ns}:dead": False,
    "{ns}:events": False,
    "{ns}:batch:*": True,
    "{ns}:{cnpj}:*": False,
    "scraperkit:site:*": True,
    "scraperkit:sites": True,
    "scraperkit:robots:*": True,
}


@dataclass
class Verdict:
    """The findings.

    Attributes
    ----------
    problems : list of str
        Violations; empty if all is well.
    published, done, not_offered, poison : int
        Jobs published, done and not offered according to their batches, and dead letters, which are not jobs.
    samples : int
        Figures compared.
    restated : int
        Months whose stored figures differ from the initial ones.
    """

    problems: list[str]
    published: int = 0
    done: int = 0
    not_offered: int = 0
    poison: int = 0
    samples: int = 0
    restated: int = 0


def verify(redis: Any, keys: Keys, record: Record, site: Site) -> Verdict:
    """Compare everything, once all workers have ended."""
    verdict = Verdict([])
    verdict.problems += _batches(redis, keys, record, verdict)
    verdict.problems += _dead_letters(redis, keys, record, verdict)
    verdict.problems += _effects(redis, keys, record)
    verdict.problems += _series(redis, keys, record, site, verdict)
    for source in (PAGES, OPEN_DATA):
        verdict.problems += _stream(redis, keys.of(source))
    verdict.problems += _connections(redis)
    verdict.problems += _keys_left(redis, keys)
    return verdict


def _batches(redis: Any, keys: Keys, record: Record, verdict: Verdict) -> Iterator[str]:
    """Every message of every batch is done, or its month is not offered; the counts agree."""
    for batch_id, messages in record.batches.items():
        batch = Batch(redis, batch_id, namespace=keys.namespace)
        jobs, status = batch.jobs(), batch.status()
        verdict.published += status.published
        verdict.done += status.done
        verdict.not_offered += status.not_offered
        if set(jobs.index) != set(messages):
            yield f"batch {batch_id}: its messages are not the published ones"
        for message, row in jobs.iterrows():
            good = message in record.good
            is_right = row["state"] == ("done" if good else "not_offered") and (row["error"] == "") == good
            if not is_right or not (good or row["error"].startswith("MonthNotOffered: ")):
                yield f"batch {batch_id}: {message} {row['month']} is {row['state']} {row['error']}"
        counted = Counter(jobs["state"])
        counts = (status.published, status.done, status.not_offered, status.failed, status.pending)
        if counts != (len(messages), counted["done"], counted["not_offered"], counted["failed"], 0):
            yield f"batch {batch_id}: counts {status}, but its messages are {dict(counted)}"


def _dead_letters(redis: Any, keys: Keys, record: Record, verdict: Verdict) -> Iterator[str]:
    """Every poison message has a dead letter, and nothing else has.

    Poison may have two, since it is sent with a bare XADD, whose reply may be lost.
    """
    letters: Counter[str] = Counter()
    for entry_id, fields in redis.xrange(keys.dead):
        text, error = fields["message"], fields["error"]
        if not error.startswith("BadMessage: ") or text not in record.meant:
            yield f"dead letter {entry_id}: {text[:200]}: {error}"
        letters[text] += 1
    verdict.poison = letters.total()
    for wanted in record.poison:
        if not letters[wanted]:
            yield f"no dead letter: {wanted}"


def _effects(redis: Any, keys: Keys, record: Record) -> Iterator[str]:
    """Every good job is counted once, even if several workers did it."""
    done: Counter[str] = Counter()
    for _, fields in redis.xrange(keys.events):
        if fields["outcome"] == "done":
            done[json.loads(fields["event"])["message"]] += 1
    for message in record.good:
        if done[message] != 1:
            yield f"{message} was done {done[message]} times"
    if extra := set(done) - set(record.good):
        yield f"{len(extra)} jobs done that were never published, such as {min(extra)}"


def _series(redis: Any, keys: Keys, record: Record, site: Site, verdict: Verdict) -> Iterator[str]:
    """Every month that is done is stored completely, as the site showed it, and not older than its request.

    Nor is it older than any stored fetch: events have the start of each, which narrows the acceptable versions.
    """
    done = set(record.good.values())
    begun = _begun(redis, keys)
    cnpjs = {cnpj for _, cnpj, _ in done}
    stored = _stored(redis, keys, cnpjs)
    verdict.samples = sum(len(days) for figures in stored.values() for days in figures.values())
    for source, cnpj, month in sorted(done):
        since = max(record.asked_at[source, cnpj, month], begun.get((cnpj, month), 0.0))
        versions = site.acceptable((source, cnpj, month), since)
        found = stored.pop((cnpj, month), {})
        if found not in versions:
            verdict.problems.append(f"{source} {cnpj} {month}: {_difference(found, versions, source)}")
        verdict.restated += found != site.versions.get((source, cnpj, month), [Version(0.0, {})])[0].figures
    for cnpj, month in stored:
        yield f"{cnpj} {month}: stored, but never requested"
    for cnpj in cnpjs:
        if redis.hget(keys.fund(cnpj), "cnpj") != cnpj:
            yield f"{cnpj}: no card"


def _begun(redis: Any, keys: Keys) -> dict[tuple[str, str], float]:
    """Return when the latest stored fetch of each month began, in seconds since 1970."""
    begun: dict[tuple[str, str], float] = {}
    for _, fields in redis.xrange(keys.events):
        event = json.loads(fields["event"])
        if fields["outcome"] in ("done", "superseded") and "error" not in event and "cnpj" in event:
            month = event["cnpj"], event["month"]
            begun[month] = max(event["started_at"], begun.get(month, 0.0))
    return begun


def _stored(redis: Any, keys: Keys, cnpjs: set[str]) -> dict[tuple[str, str], Figures]:
    """Return all that is stored, by fund and month."""
    stored: dict[tuple[str, str], Figures] = {}
    for name in redis.scan_iter(f"{keys.namespace}:{{*}}:*", count=1_000, _type="TSDB-TYPE"):
        cnpj, *subclass, metric = name.removeprefix(f"{keys.namespace}:").replace("{", "").replace("}", "").split(":")
        for timestamp, value in redis.execute_command("TS.RANGE", name, "-", "+"):
            day = dt.datetime.fromtimestamp(timestamp / 1000, dt.UTC).date()
            month = stored.setdefault((cnpj, f"{day:%m/%Y}"), {})
            month.setdefault((":".join([cnpj, *subclass]), metric), {})[str(day)] = float(value)
    return {key: figures for key, figures in stored.items() if key[0] in cnpjs}


def _difference(found: Figures, versions: list[Figures], source: str) -> str:
    """Describe how the stored figures differ from the newest acceptable version."""
    if not versions:
        return "stored, but never served"
    odd = sum(found.get(name) != versions[0].get(name) for name in found.keys() | versions[0].keys())
    return f"{odd} series of {len(versions[0])} differ from the newest of {len(versions)} versions of {source}"


def _stream(redis: Any, keys: Keys) -> Iterator[str]:
    """The stream has no entries, no pending entries and no consumers."""
    if left := redis.xlen(keys.jobs):
        yield f"{left} entries left in the stream"
    if pending := redis.xpending(keys.jobs, keys.group)["pending"]:
        yield f"{pending} entries pending"
    if consumers := redis.xinfo_consumers(keys.jobs, keys.group):
        yield f"consumers left: {', '.join(str(entry['name']) for entry in consumers)}"


def _connections(redis: Any) -> Iterator[str]:
    """Only sentinels are connected."""
    others = [
        client
        for client in redis.client_list()
        if client["name"] and not client["name"].startswith("sentinel-") and client["id"] != str(redis.client_id())
    ]
    if others:
        yield f"connections left: {others}"


def _keys_left(redis: Any, keys: Keys) -> Iterator[str]:
    """No unexpected key is left."""
    expiries = {_pattern(text, keys.namespace): expires for text, expires in ALLOWED.items()}
    for key in redis.scan_iter(count=1_000):
        matching = [expires for pattern, expires in expiries.items() if pattern.fullmatch(key)]
        if not matching:
            yield f"key left: {key}"
        elif matching[0] and redis.ttl(key) == -1:
            yield f"key without an expiry: {key}"


def _pattern(text: str, namespace: str) -> re.Pattern[str]:
    words = text.replace("{ns}", namespace).replace("{cnpj}", "{??????????????}")
    return re.compile(re.escape(words).replace(r"\*", ".+").replace(r"\?", "[0-9A-Z]"))
