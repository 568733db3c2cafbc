"""``/v1/dead``: the jobs that failed permanently."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from scraperkit.api.backend import Backend
from scraperkit.api.fields import LETTER_ID, LetterId
from scraperkit.api.problems import ProblemError
from scraperkit.api.running import TheRunning
from scraperkit.api.schemas import DeadLetter, DeadLetterPage, Retried
from scraperkit.deadletters import DeadLetters
from scraperkit.errors import ConfigError

router = APIRouter(prefix="/v1/dead", tags=["dead letters"])


class Page(BaseModel):
    """Which part of the list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(100, ge=1, le=1000, description="maximum number of items")
    after: str | None = Field(
        None, pattern=LETTER_ID, description="only letters after this id; the `next` link of a page contains it"
    )


@router.get("", summary="Jobs that failed permanently")
async def letters(page: Annotated[Page, Query()], running: TheRunning) -> DeadLetterPage:
    """Return the dead letters, the oldest first, each with its last error and the message itself."""
    return await running.read(lambda: _page(running.backend, page))


def _page(backend: Backend, page: Page) -> DeadLetterPage:
    found = _letters(backend).list(after=page.after, count=page.limit + 1)
    rows = found.head(page.limit).reset_index().rename(columns={"cnpj": "document"}).to_dict("records")
    shown = [DeadLetter.model_validate(row) for row in rows]
    more = f"/v1/dead?{urlencode({'limit': page.limit, 'after': shown[-1].id})}" if len(found) > len(shown) else None
    return DeadLetterPage(dead=shown, next=more)


@router.post("/{letter_id}/retry", status_code=202, summary="Retry a dead letter")
async def retry(letter_id: LetterId, running: TheRunning) -> Retried:
    """Put a dead letter back into the job stream with its attempts reset; its batch waits for it again."""

    def work() -> Retried:
        try:
            return Retried(retried=_letters(running.backend).retry(letter_id))
        except ConfigError:
            problem = f"there is no dead letter {letter_id}; GET /v1/dead lists them"
            raise ProblemError("unknown-dead-letter", problem, field="letter_id") from None

    return await running.read(work)


def _letters(backend: Backend) -> DeadLetters:
    return DeadLetters(backend.redis, namespace=backend.keys.namespace)
