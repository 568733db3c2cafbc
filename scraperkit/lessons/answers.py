"""Checks that several lessons share."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from scraperkit.batch import Batch
from scraperkit.models import Month

# Without it, a second try would reuse the batch of the first.
AGAIN = "Publish with force=True when you try again: without it, the same months are the same batch, already done."


def batch_of(answer: Any, months: Set[str]) -> tuple[Batch, None] | tuple[None, str]:
    """Return the answer if it is a batch of exactly these months (``MM/YYYY``), else a hint."""
    if not isinstance(answer, Batch):
        return None, f"the answer is the batch that publish() returns; this is a {type(answer).__name__}."
    found = set(answer.jobs()["month"])
    if found != months:
        wrong = ", ".join(sorted(found ^ months, key=Month.parse)[:6])
        return None, f"these months are missing or unexpected: {wrong}."
    return answer, None


def unfinished(batch: Batch) -> str | None:
    """Return a hint unless all messages of a batch are done."""
    status = batch.status()
    if status.lost:
        return f"{status.lost} are lost: nobody listened when they were published. What has to come first?"
    if status.pending:
        return f"{status.pending} are pending: was a worker running, and did you wait for the batch?"
    if status.not_offered:
        return f"{status.not_offered} are not offered by the site: are these the right months?"
    return f"{status.failed} have failed; failures() shows why." if status.failed else None
