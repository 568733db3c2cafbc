"""Check what is installed and reachable, and say how to fix problems."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata

import requests

from scraperkit.config import CVM_URL, Settings
from scraperkit.connection import connect
from scraperkit.errors import ScraperKitError
from scraperkit.health import Health

_PACKAGES = ("redis", "hiredis", "pandas", "requests", "beautifulsoup4", "lxml", "matplotlib")
_OPTIONAL = {
    "jupyterlab": "notebooks: install scraperkit[lab]",
    "pyarrow": "Parquet files: install scraperkit[parquet]",
}


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
    for name, use in _OPTIONAL.items():
        try:
            yield Finding(True, "packages", f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            yield Finding(True, "packages", f"{name} is not installed; for {use}")


def _settings() -> Iterator[Finding]:
    settings = Settings.load()
    yield Finding(
        True, "settings", f"namespace {settings.namespace!r}, {settings.threads} threads, data in {settings.data}"
    )


def _redis() -> Iterator[Finding]:
    settings = Settings.load()
    with connect() as redis:
        kind = "REDIS_URL" if settings.redis_url else "embedded"
        yield Finding(True, "redis", f"{redis.info('server')['redis_version']} with TimeSeries ({kind})")
        yield from _jobs(Health.read(redis))


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
    try:
        status = requests.get(settings.cvm_url, timeout=settings.connect_timeout).status_code
    except requests.RequestException as error:
        advice = "to work offline, run `scraperkit replica`" if settings.cvm_url == CVM_URL else "start it first"
        yield Finding(False, "site", f"{settings.cvm_url} does not answer ({type(error).__name__}); {advice}")
    else:
        yield Finding(status < 500, "site", f"{settings.cvm_url} returned HTTP {status}")
