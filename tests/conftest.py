"""Shared fixtures: one embedded Redis per test process, one namespace per test, both cleaned up afterwards."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Iterator

import hypothesis
import pytest
import tqdm
from support.redis8 import cache_with_redis8
from support.waiting import servers_below, wait_until

from scraperkit.connection import connect
from scraperkit.embedded import shared
from scraperkit.keys import Keys
from scraperkit.publisher import Publisher

# On a busy machine, examples may take long to generate and to run.
UNHURRIED = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("ci", **UNHURRIED, derandomize=True)
hypothesis.settings.register_profile("default", **UNHURRIED)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")

# Otherwise tqdm starts a monitor thread that lives until the process ends.
tqdm.tqdm.monitor_interval = 0

# A shell's background processes ignore SIGINT, and so would every command that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests ignore the developer's settings, except the cache, so that the binary is downloaded only once.
for _name in [name for name in os.environ if name.startswith("SCRAPERKIT_") or name == "REDIS_URL"]:
    if _name != "SCRAPERKIT_CACHE":
        del os.environ[_name]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--redis8", action="store_true", help="run every server of the tests as Redis 8.2")


@pytest.fixture(scope="session", autouse=True)
def _session(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[None]:
    """Keep this process's data in its own folder, and check that none of its servers outlives it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRAPERKIT_DATA", str(tmp_path_factory.mktemp("data")))
        if pytestconfig.getoption("redis8"):
            patch.setenv("SCRAPERKIT_CACHE", str(cache_with_redis8(tmp_path_factory.mktemp("redis8"))))
        yield
        shared.release()
    base = tmp_path_factory.getbasetemp().resolve()
    assert wait_until(lambda: not servers_below(base)), f"left running: {servers_below(base)}"


@pytest.fixture(scope="session")
def redis_url(_session: None) -> str:
    """Return the address of this test process's embedded server."""
    return shared.ensure()


@pytest.fixture
def redis(redis_url: str):
    """Yield a client for one test."""
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def namespace(redis_url: str) -> Iterator[str]:
    """Yield a namespace for one test; afterwards, delete its keys, and the state of sites, which has no namespace."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    with connect(redis_url) as client:
        for pattern in (Keys(name).pattern, f"{Keys.sites()}*", Keys.site("*")):
            for key in client.scan_iter(pattern, count=1000):
                client.unlink(key)


@pytest.fixture
def keys(namespace: str) -> Keys:
    """Return the key names of the test's namespace."""
    return Keys(namespace)


@pytest.fixture
def publisher(redis, namespace: str) -> Publisher:
    """Return a publisher to the stream of the test's namespace."""
    return Publisher(redis, namespace=namespace)


@pytest.fixture(autouse=True)
def _no_threads_left() -> Iterator[None]:
    """Fail a test that leaves a thread running, daemon or not."""
    before = set(threading.enumerate())
    yield
    assert wait_until(lambda: not set(threading.enumerate()) - before), (
        f"threads left running: {sorted(thread.name for thread in set(threading.enumerate()) - before)}"
    )
