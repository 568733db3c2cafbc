"""Dramatiq: default middleware; dramatiq_queue_prefetch sets the prefetch."""

import dramatiq
from counting import URL, job_done, payloads
from dramatiq.brokers.redis import RedisBroker

broker = RedisBroker(url=URL)
dramatiq.set_broker(broker)


@dramatiq.actor
def noop(document: str, fund_pk: str, month_year: str) -> None:
    job_done(document, fund_pk, month_year)


def publish() -> None:
    for payload in payloads():
        noop.send(*payload)
