"""A publisher process: ``python publishing.py JOURNAL --number 1 --jobs 1000 --seconds 60 --seed 7``.

Restarted after a kill, it continues where its journal ends, and repeats any batch not known to be published.
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
from typing import Any, NamedTuple, TypeVar

sys.path.insert(0, str(Path(__file__).parent.parent))

from chaos.oracle import NOT_OFFERED, OPEN_DATA, PAGES, Journal, Sample
from redis.exceptions import ConnectionError as Away
from redis.exceptions import RedisError

from scraperkit.connection import connect
from scraperkit.engine.redis_retry import is_away
from scraperkit.errors import RedisRefused, RedisUnreachable
from scraperkit.models import ScrapeRequest
from scraperkit.publisher import Publisher

Response = TypeVar("Response")
_AT_MOST = 120
_NOT_OFFERED_SHARE = 0.01
_OPEN_DATA_SHARE = 0.25
_IDS = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")


class Order(NamedTuple):
    """A batch to publish: its source, and the id, CNPJ, pk and month of each message."""

    source: str
    requests: list[list[str]]


def orders(number: int, jobs: int, seed: int) -> Iterator[Order]:
    """Yield the batches of one publisher, the same for the same seed."""
    chance, left = random.Random(f"{seed}/{number}"), jobs
    months = {PAGES: Sample.read().months, OPEN_DATA: Sample.open_data()}
    while left:
        source = OPEN_DATA if chance.random() < _OPEN_DATA_SHARE else PAGES
        order = Order(source, [])
        for _ in range(min(left, chance.randint(_AT_MOST // 6, _AT_MOST))):
            wanted = chance.choice(months[source])
            missing = source == PAGES and chance.random() < _NOT_OFFERED_SHARE
            message = str(uuid.uuid5(_IDS, f"{seed}/{number}/{left}/{len(order.requests)}"))
            order.requests.append([message, wanted.cnpj, wanted.pk, NOT_OFFERED if missing else wanted.month])
        left -= len(order.requests)
        yield order


def poison(number: int, order: int) -> list[str]:
    """Return invalid messages: text that is not JSON, and JSON with the wrong fields."""
    mark = f"{number}-{order}"
    return [f"poison {mark}", f'{{"document": "11111111111111", "fund_pk": "x", "note": "{mark}"}}']


def patiently(call: Callable[[], Response]) -> Response:
    """Return the result of `call` once Redis responds and is neither full nor failing over."""
    while True:
        try:
            return call()
        except (RedisUnreachable, RedisRefused, RedisError) as error:
            if not (is_away(error) or is_away(error.__cause__) or isinstance(error, RedisUnreachable)):
                raise
            time.sleep(0.2)


def add(redis: Any, stream: str, text: str, replicas: int) -> None:
    """Add a text to a stream unchanged, and check that `replicas` replicas have it."""
    with redis.pipeline(transaction=False) as both:
        both.xadd(stream, {"message": text})
        both.execute_command("WAIT", replicas, 1000)
        if both.execute()[1] < replicas:
            raise Away("no replica has it")


def publish(journal: Journal, redis: Any, number: int, order: int, wanted: Order) -> None:
    """Publish one batch and its poison; write to the journal before and after each."""
    publisher = Publisher(redis)
    messages = [
        ScrapeRequest(message_id=message, document=cnpj, fund_pk=pk, month_year=month, source=wanted.source)
        for message, cnpj, pk, month in wanted.requests
    ]
    journal.note(order=order, **wanted._asdict(), at=time.time())
    journal.note(order=order, batch=patiently(lambda: publisher.publish(messages)).id)
    for text in poison(number, order):
        journal.note(poison=text, sent=False)
        patiently(partial(add, redis, publisher.keys.jobs, text, publisher.settings.confirmations))
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
        for order, wanted in enumerate(todo):
            time.sleep(max(0.0, began + options.seconds * order / len(todo) - time.time()))
            if order not in published:
                publish(journal, redis, options.number, order, wanted)
    journal.note(ended=time.time())


if __name__ == "__main__":
    main()
