"""``/v1/search``: funds by name."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from scraperkit.api.backend import MOST_HITS, Backend
from scraperkit.api.fields import FundName
from scraperkit.api.running import TheRunning
from scraperkit.api.schemas import FoundFund, FoundFunds
from scraperkit.cnpj import format_series
from scraperkit.research.provenance import licence_of

router = APIRouter(prefix="/v1/search", tags=["funds"])


class Searched(BaseModel):
    """What to search for."""

    model_config = ConfigDict(extra="forbid")

    name: FundName = Field(description="words of a name, or their beginnings; case and accents do not count")
    limit: int = Field(10, ge=1, le=MOST_HITS, description="maximum number of items")


@router.get("", summary="Search funds by name, closest match first")
async def search(asked: Annotated[Searched, Query()], running: TheRunning) -> FoundFunds:
    """Search the newest registry in the open-data archive, or, if there is none, the regulator's site.

    If nothing matches, `found` is 0, and the registry returns the most similar names. The site finds names that contain
    the text as it is, and shows only a fund's name and, usually, its CNPJ.
    """
    return await running.look_up(lambda: _found(running.backend, asked))


def _found(backend: Backend, asked: Searched) -> FoundFunds:
    source, hits = backend.search(asked.name)
    return FoundFunds(
        funds=[
            FoundFund(
                document=hit.series or None,
                formatted=format_series(hit.series) if hit.series else None,
                name=hit.name,
                kind=hit.kind,
                status=hit.status,
                started_on=hit.started_on,
            )
            for hit in hits.hits[: asked.limit]
        ],
        found=hits.found,
        source=source,
        as_of=hits.as_of,
        attribution=licence_of(source),
    )
