"""Check what is installed and reachable, and say how to fix problems."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from scraperkit.cli.terminal import how_to_install
from scraperkit.config import CVM_URL, Settings
from scraperkit.connection import connect, redis_needed
from scraperkit.errors import ScraperKitError
from scraperkit.health import Health
from scraperkit.sources.http import probe, without_credentials
from scraperkit.timeseries.rows import RowReader, forgetful

_PACKAGES = ("redis", "hiredis", "pandas", "requests", "beautifulsoup4", "lxml", "matplotlib")
_WRITES = ("rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status")
_NEARLY_FULL = 0.9
_OPTIONAL = {"jupyterlab": ("notebooks", "lab"), "fastapi": ("the pricer", "api")}


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check: whether it passed, and what was found."""

    good: bool
    what: str
    seen: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.good else 'FAIL'}  {self.what:<10}  {self.seen}"


def examine() -> list[Finding]:
    """Run all checks; expected errors become findings."""
    return [finding for look in (_python, _packages, _settings, _redis, _site) for finding in _safely(look)]


def _safely(look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except (ScraperKitError, OSError) as error:
        yield Finding(False, look.__name__.strip("_"), str(error))


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    good = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Finding(good, "python", f"{version} on {platform.system()} {platform.machine()}")


def _packages() -> Iterator[Finding]:
    found = ", ".join(f"{name} {metadata.version(name)}" for name in ("scraperkit", *_PACKAGES))
    yield Finding(True, "packages", found)
    for name, (use, extra) in _OPTIONAL.items():
        try:
            yield Finding(True, "packages", f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            yield Finding(True, "packages", f"{name} is not installed; for {use}, {how_to_install(extra)}")


def _settings() -> Iterator[Finding]:
    settings = Settings.load()
    yield Finding(
        True, "settings", f"namespace {settings.namespace!r}, {settings.threads} threads, data in {settings.data}"
    )


def _redis() -> Iterator[Finding]:
    settings = Settings.load()
    with connect() as redis, redis_needed():
        kind = "REDIS_URL" if settings.redis_url else "embedded"
        yield Finding(True, "redis", f"{redis.info('server')['redis_version']} with TimeSeries ({kind})")
        yield from _memory(redis.info("memory"))
        yield from _disk(redis.info("persistence"))
        if redis.info("replication")["role"] != "master":
            yield Finding(False, "redis", "this is a replica, which accepts no writes: connect to its primary")
        rows = RowReader(redis, settings.namespace, advice="")
        if told := forgetful(rows.keys, rows.funds(sorted(rows.stored()))):
            yield Finding(False, "series", told)
        yield from _jobs(Health.read(redis))


def _memory(info: Mapping[str, Any]) -> Iterator[Finding]:
    used, most, policy = info["used_memory"], info["maxmemory"], info["maxmemory_policy"]
    if not most:
        yield Finding(True, "memory", f"{used / 2**20:,.0f} MB used, no limit")
        return
    seen = f"{used / 2**20:,.0f} of {most / 2**20:,.0f} MB used"
    if policy != "noeviction":
        seen += f"; maxmemory-policy {policy} deletes jobs and prices once it is full: set it to noeviction"
    elif used > _NEARLY_FULL * most:
        seen += ": workers will wait until there is room; raise maxmemory, or delete what is no longer needed"
    yield Finding(policy == "noeviction" and used <= _NEARLY_FULL * most, "memory", seen)


def _disk(info: Mapping[str, Any]) -> Iterator[Finding]:
    wrong = [f"{name} is {info[name]}" for name in _WRITES if info.get(name, "ok") != "ok"]
    if wrong:
        yield Finding(False, "disk", f"Redis cannot write ({', '.join(wrong)}): free space on its disk, see its log")
    elif not info["aof_enabled"]:
        yield Finding(False, "disk", "a restart loses all changes since the last snapshot: set appendonly yes")
    else:
        yield Finding(True, "disk", "every change is logged (appendonly)")


def _jobs(health: Health) -> Iterator[Finding]:
    now = time.time()
    for worker in health.workers:
        seen = f"{worker.name} ({worker.threads} threads) on {worker.host}, pid {worker.pid}: {worker.in_hand} in hand"
        yield Finding(True, "worker", f"{seen}, last heartbeat {max(0.0, now - worker.beat_at):.0f} s ago")
    if not health.workers:
        yield Finding(True, "worker", "none now; start one with `scraperkit work` or a Subscriber")
    for name in health.stale:
        yield Finding(True, "worker", f"{name} is stale: its heartbeat stopped; another worker takes over its jobs")
    oldest = f", oldest {health.oldest:.0f} s" if health.oldest is not None else ""
    yield Finding(True, "jobs", f"{health.lag} waiting, {health.pending} pending{oldest}, {health.retries} to retry")
    for site, seconds in health.open_circuits.items():
        yield Finding(True, "site", f"{site} kept failing or sent Retry-After: circuit open for {seconds:.0f} s")
    advice = "; see `scraperkit dead list`" if health.dead else ""
    yield Finding(True, "jobs", f"{health.dead} dead letters{advice}")


def _site() -> Iterator[Finding]:
    settings = Settings.load()
    shown = without_credentials(settings.cvm_url)
    try:
        status = probe(settings.cvm_url, settings)
    except ScraperKitError as error:
        offline = "to work offline, see `scraperkit replica --help`"
        advice = offline if settings.cvm_url == CVM_URL else "start it first"
        yield Finding(False, "site", f"{shown}: {error}; {advice}")
    else:
        yield Finding(status < 500, "site", f"{shown} returned HTTP {status}")
