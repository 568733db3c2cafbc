"""A publisher as a process: ``python publishing.py JOURNAL --number 1 --jobs 1000 --seconds 60 --seed 7``.

Killed and started anew, it goes on where its journal ends, and publishes again what it does not know to be published.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).parent.parent))

from chaos.oracle import NOT_OFFERED, Journal, Sample
from redis.exceptions import ConnectionError as Away
from redis.exceptions import TimeoutError as Slow

from scraperkit.connection import connect
from scraperkit.errors import RedisUnreachable
from scraperkit.models import ScrapeRequest
from scraperkit.publisher import Publisher

Answer = TypeVar("Answer")
_AT_MOST = 120
_NOT_OFFERED_SHARE = 0.01
_IDS = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")


def orders(number: int, jobs: int, seed: int) -> Iterator[list[list[str]]]:
    """Yield the batches of one publisher, the same for the same seed: of each message id, CNPJ, pk and month."""
    chance, months, left = random.Random(f"{seed}/{number}"), Sample.read().months, jobs
    while left:
        order: list[list[str]] = []
        for _ in range(min(left, chance.randint(_AT_MOST // 6, _AT_MOST))):
            wanted = chance.choice(months)
            month = NOT_OFFERED if chance.random() < _NOT_OFFERED_SHARE else wanted.month
            message = str(uuid.uuid5(_IDS, f"{seed}/{number}/{left}/{len(order)}"))
            order.append([message, wanted.cnpj, wanted.pk, month])
        left -= len(order)
        yield order


def poison(number: int, order: int) -> list[str]:
    """Messages that are none: no JSON, and JSON with the wrong fields."""
    mark = f"{number}-{order}"
    return [f"poison {mark}", f'{{"document": "11111111111111", "fund_pk": "x", "note": "{mark}"}}']


def patiently(call: Callable[[], Answer]) -> Answer:
    """Return what `call` returns, once Redis answers."""
    while True:
        try:
            return call()
        except (Away, Slow, RedisUnreachable):
            time.sleep(0.2)


def publish(journal: Journal, redis: Any, number: int, order: int, requests: list[list[str]]) -> None:
    """Publish one batch and its poison, each noted before and after."""
    publisher = Publisher(redis)
    messages = [
        ScrapeRequest(message_id=message, document=cnpj, fund_pk=pk, month_year=month)
        for message, cnpj, pk, month in requests
    ]
    journal.note(order=order, requests=requests)
    journal.note(order=order, batch=patiently(lambda: publisher.publish(messages)).id)
    for text in poison(number, order):
        journal.note(poison=text, sent=False)
        patiently(partial(redis.xadd, publisher.keys.jobs, {"message": text}))
        journal.note(poison=text, sent=True)


def main() -> None:
    """Read the command line, and publish."""
    parser = argparse.ArgumentParser()
    parser.add_argument("journal", type=Path)
    for name in ("number", "jobs", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    journal = Journal(options.journal)
    known = journal.lines()
    published = {line["order"] for line in known if "batch" in line}
    began = known[0]["began"] if known else time.time()
    if not known:
        journal.note(began=began)
    todo = list(orders(options.number, options.jobs, options.seed))
    with patiently(connect) as redis:
        for order, requests in enumerate(todo):
            time.sleep(max(0.0, began + options.seconds * order / len(todo) - time.time()))
            if order not in published:
                publish(journal, redis, options.number, order, requests)
    journal.note(ended=time.time())


if __name__ == "__main__":
    main()
