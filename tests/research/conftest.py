"""An offline kit for one test, with its own replica, archive and namespace."""

from __future__ import annotations

import pytest

import scraperkit as sk
from scraperkit.keys import Keys
from scraperkit.replica.sample import load_sample


@pytest.fixture
def offline(redis, redis_url, namespace, monkeypatch):
    """Yield what `sk.offline()` returns; its namespace is emptied afterwards."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("SCRAPERKIT_NAMESPACE", namespace)
    with sk.offline() as found:
        yield found
    for key in redis.scan_iter(Keys(f"{namespace}-offline").pattern, count=1000):
        redis.unlink(key)


@pytest.fixture
def requests(offline):
    """Return a function that counts the requests to pages and portal so far."""
    return lambda: (sum(offline.replica.requests.values()), sum(offline.replica.portal.requests.values()))


@pytest.fixture
def oracle():
    """Return a function that returns the quotas of a fund in the sample."""
    quotes = load_sample().quotes

    def quotas(cnpj: str, start: str, end: str) -> dict[str, float]:
        of_fund = quotes[(quotes["cnpj"] == cnpj) & quotes["date"].between(start, end)]
        return {
            f"{day:%Y-%m-%d}": value
            for day, value in zip(of_fund["date"], of_fund["quota"], strict=True)
            if value == value
        }

    return quotas
