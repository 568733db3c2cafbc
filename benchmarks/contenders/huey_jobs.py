"""huey: takes jobs from a list; keeps no results."""

from counting import URL, job_done, payloads
from huey import RedisHuey

huey = RedisHuey("bench", url=URL, results=False)


@huey.task()
def noop(document: str, fund_pk: str, month_year: str) -> None:
    job_done(document, fund_pk, month_year)


def publish() -> None:
    for payload in payloads():
        noop(*payload)
