"""RQ: keeps no results; a SimpleWorker runs one job at a time, without threads or forks."""

from counting import URL, job_done, payloads
from redis import Redis
from rq import Queue

CHUNK = 1_000


def noop(document: str, fund_pk: str, month_year: str) -> None:
    job_done(document, fund_pk, month_year)


def publish() -> None:
    queue = Queue("default", connection=Redis.from_url(URL))
    jobs = [Queue.prepare_data("rq_jobs.noop", payload, result_ttl=0) for payload in payloads()]
    for start in range(0, len(jobs), CHUNK):
        queue.enqueue_many(jobs[start : start + CHUNK])
