"""Celery: acknowledges late, keeps no results; its workers do not communicate with each other."""

from celery import Celery
from counting import URL, job_done, payloads

app = Celery(
    "celery_jobs",
    broker=URL,
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=16,
    worker_disable_rate_limits=True,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)


@app.task
def noop(document: str, fund_pk: str, month_year: str) -> None:
    job_done(document, fund_pk, month_year)


def publish() -> None:
    with app.producer_or_acquire() as producer:
        for payload in payloads():
            noop.apply_async(payload, producer=producer)
