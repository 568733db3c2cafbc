"""The offline rate services, a namespace of its own for each test, and a clock that the test sets."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from scraperkit.replica import Replica
from scraperkit.replica.rate_services import RateServices


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, namespace: str) -> Iterator[Replica]:
    """Yield a replica that the settings of this process name."""
    with Replica.start() as replica:
        monkeypatch.setenv("SCRAPERKIT_SGS_URL", replica.sgs_url)
        monkeypatch.setenv("SCRAPERKIT_B3_URL", replica.b3_url)
        monkeypatch.setenv("SCRAPERKIT_NAMESPACE", namespace)
        yield replica


@pytest.fixture
def services(site: Replica) -> RateServices:
    """Return the replica's rate services."""
    return site.rates


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Set the clock of the kit, and of the replica with it, to a time in São Paulo."""

    def at(moment: str) -> None:
        seconds = dt.datetime.fromisoformat(f"{moment}-03:00").timestamp()
        monkeypatch.setattr("scraperkit.models.time", SimpleNamespace(time=lambda: seconds))

    return at
