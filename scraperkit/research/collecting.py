"""Collect the due months of funds: look them up, publish, and work here unless workers are running."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import redis as redis_py
from tqdm.auto import tqdm

from scraperkit import sources
from scraperkit.batch import Batch
from scraperkit.config import Settings
from scraperkit.engine.jobs import describe, is_transient
from scraperkit.engine.registry import live_workers
from scraperkit.errors import FileRefused, FundNotFound, ScraperKitError, SourceError, notes_of
from scraperkit.keys import DEFAULT_SOURCE, Keys
from scraperkit.models import Fund, Month, ScrapeRequest
from scraperkit.publisher import Publisher
from scraperkit.research.planning import Plan, make_plan, renewed
from scraperkit.research.wanted import WantedFund
from scraperkit.sources.base import Source, name_of
from scraperkit.sources.cvm_pages import CvmPages
from scraperkit.sources.http import MOST_LOOK_UPS, ask_again
from scraperkit.sources.open_data import OpenData
from scraperkit.subscriber import Subscriber
from scraperkit.text import say
from scraperkit.timeseries.rows import RowReader

_PATIENCE_AT_SITE = 30.0  # seconds
_one_at_a_time = threading.Lock()


@dataclass(slots=True)
class FundsCollected:
    """The result of a collection.

    Attributes
    ----------
    wanted : list of WantedFund
        In the order requested; a name that was not found has no series.
    problems : dict
        By label or CNPJ, why a fund, or some of its months, could not be collected.
    absent : dict
        By CNPJ, which months the source has, if requested ones are missing.
    """

    wanted: list[WantedFund]
    problems: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


def collect(
    redis: redis_py.Redis,
    keys: Keys,
    wanted: Sequence[WantedFund],
    source: str | Source | None = None,
    told: Callable[[str], None] = say,
    *,
    is_free: bool | None = None,
) -> FundsCollected:
    """Collect the due months of these funds; send no request if none is due.

    Only one thread collects at a time; the others then check what is still missing.

    Raises
    ------
    ConfigError
        If the source does not exist.
    RedisUnreachable
        If Redis is unreachable.
    """
    plan = make_plan(redis, keys, wanted, source, is_free)
    if not plan.size:
        return FundsCollected(plan.wanted)
    with _one_at_a_time:
        plan = make_plan(redis, keys, wanted, source, is_free)
        return _collect(redis, plan, told) if plan.size else FundsCollected(plan.wanted)


def _collect(redis: redis_py.Redis, plan: Plan, told: Callable[[str], None]) -> FundsCollected:
    absent: dict[str, str] = {}
    with _opened(redis, plan.source) as opened:
        problems, funds = _find(plan, opened)
        plan = renewed(plan)
        requests = []
        for fund, months in _looked_up(redis, plan, opened, funds, problems):
            had = [month for month in months if (fund.first_month or month) <= month <= fund.last_month]
            plan.memory.note_not_offered((fund.cnpj, month) for month in months if month not in had)
            requests += [_request(fund, month) for month in had]
            if not had:
                absent[fund.cnpj] = fund.lacks_months()
        if requests:
            told(_plan_text(requests, opened))
            jobs = _scrape(redis, plan.keys, opened, requests)
            gone = jobs[jobs["state"] == "not_offered"]
            plan.memory.note_not_offered(zip(gone["cnpj"], map(Month.parse, gone["month"]), strict=True))
            problems |= _reasons(jobs, "failed", "lost", "cancelled")
            absent |= _reasons(jobs, "not_offered")
    return FundsCollected(plan.wanted, problems, absent)


def _request(fund: Fund, month: Month) -> ScrapeRequest:
    return ScrapeRequest(document=fund.cnpj, fund_pk=fund.pk, month_year=str(month), source=fund.source, fund=fund)


@contextlib.contextmanager
def _opened(redis: redis_py.Redis, source: str | Source) -> Iterator[Any]:
    """Open a source given by name; share its site's limits with the workers on this Redis."""
    with contextlib.ExitStack() as stack:
        opened: Any = source
        if isinstance(source, str):
            settings = Settings.load()
            # A user is waiting: better an incomplete result soon, with a warning.
            hasty = {"site_patience": settings.site_patience or _PATIENCE_AT_SITE}
            opened = stack.enter_context(sources.named(source, settings=settings.model_copy(update=hasty)))
        if (politeness := getattr(opened, "politeness", None)) is not None:
            politeness.share(redis)
            stack.callback(politeness.unshare, redis)
        yield opened


# ---------------------------------------------------------------------------- look up


def _find(plan: Plan, source: Any) -> tuple[dict[str, str], dict[str, Fund]]:
    """Look up names and remember the results; return the problems by name, and the funds by CNPJ."""
    problems: dict[str, str] = {}
    funds: dict[str, Fund] = {}
    means: dict[str, str] = {}
    for name in tqdm(plan.unknown, desc="looking up", unit=" funds", disable=None, leave=False, delay=1):
        try:
            fund = _find_fund(plan, source, name)
        except SourceError as error:
            problems[name] = _why(error)
        else:
            funds[fund.cnpj] = fund
            means[name] = fund.cnpj
    plan.memory.note_names(means)
    return problems, funds


def _looked_up(
    redis: redis_py.Redis, plan: Plan, source: Any, funds: Mapping[str, Fund], problems: dict[str, str]
) -> Iterator[tuple[Fund, list[Month]]]:
    """Yield each fund to request, with its months; add the reason to `problems` if a look-up fails."""
    stored = RowReader(redis, plan.keys.namespace, advice="").funds(plan.due)
    cards = {each.series: each.card for each in stored if each.card}
    given = {each.cnpj: each.fund for each in plan.wanted if each.fund is not None}
    by_page = plan.keys.source == DEFAULT_SOURCE
    for cnpj, months in tqdm(plan.due.items(), desc="looking up", unit=" funds", disable=None, leave=False, delay=1):
        fund = funds.get(cnpj) or given.get(cnpj) or _of_card(cards.get(cnpj))
        if not hasattr(source, "find_fund"):
            fund = fund or Fund(cnpj)
        elif fund is None or (by_page and not fund.pk):
            try:
                fund = _find_fund(plan, source, cnpj)
            except SourceError as error:
                if by_page or not isinstance(error, FundNotFound | FileRefused):
                    problems[cnpj] = _why(error)
                    continue
                fund = Fund(cnpj)  # it may have figures even if no registry or search knows it
        yield replace(fund, cnpj=cnpj, source=plan.keys.source), months


def _find_fund(plan: Plan, source: Any, text: str) -> Fund:
    """Look up a fund, unless the source recently said that it does not exist."""
    if not isinstance(plan.source, str):
        return _ask_for_fund(source, text)  # a user's own source may have changed
    plan.memory.refuse_not_found(text)
    try:
        return _ask_for_fund(source, text)
    except FundNotFound as error:
        plan.memory.note_not_found(text, str(error))
        raise


def _ask_for_fund(source: Any, text: str) -> Fund:
    find = getattr(source, "find_fund", None)
    if find is None:
        raise FundNotFound(f"{name_of(source)} has no find_fund(text): give CNPJs or Funds", "")
    fund: Fund
    if isinstance(getattr(find, "__self__", None), CvmPages | OpenData):  # these retry by themselves
        fund = find(text)
        return fund
    try:
        fund = ask_again(lambda: find(text), is_transient, Settings.load())
    except ScraperKitError:
        raise
    except Exception as error:
        raise SourceError(f"{name_of(source)}.find_fund: {describe(error)}") from error
    return fund


def _of_card(card: Mapping[str, str] | None) -> Fund | None:
    """Return the fund on a card; ``None`` if it was never looked up."""
    if not card or not card.get("name"):
        return None
    days = {name: card.get(name) for name in ("started_on", "ended_on")}
    began, ended = (dt.date.fromisoformat(day) if day else None for day in days.values())
    return Fund(card["cnpj"], card.get("pk", ""), card["name"], card.get("status", ""), began, ended)


# ---------------------------------------------------------------------------- scrape


def _plan_text(requests: Sequence[ScrapeRequest], source: Any) -> str:
    """Describe what will be fetched, and how long that takes."""
    funds, months = {request.document for request in requests}, {request.period for request in requests}
    what = f"{_count(len(requests), 'month')} of {_count(len(funds), 'fund')}"
    if hasattr(source, "plan"):
        return f"fetching {what} from the open data: {source.plan(months)}"
    politeness = getattr(source, "politeness", None)
    rate = politeness.rate if politeness is not None else math.inf
    seconds = (len(requests) + len(funds)) / rate
    time = f", about {_duration(seconds)}" if seconds >= 1 else ""
    return f"fetching {what} from {politeness.site if politeness is not None else type(source).__name__}{time}"


def _scrape(redis: redis_py.Redis, keys: Keys, source: Any, requests: Sequence[ScrapeRequest]) -> pd.DataFrame:
    """Publish the requests, wait, and return their states; cancel them if interrupted."""
    publisher = Publisher(redis, namespace=keys.namespace)
    publishing: Future[Batch] | None = None
    with ThreadPoolExecutor(1, "scraperkit-publish") as thread:
        try:
            with _at_work(redis, keys, source):
                # In a thread, so that an interrupt does not lose the batch. `force`, since a month that may have been
                # revised is the same request as before.
                publishing = thread.submit(publisher.publish, requests, force=True)
                batch = publishing.result()
                batch.wait(report=False)
        except BaseException:
            if publishing is not None:
                with contextlib.suppress(ScraperKitError, redis_py.RedisError):
                    publishing.result().cancel()
            raise
    return batch.jobs()


def _reasons(jobs: pd.DataFrame, *states: str) -> dict[str, str]:
    """Return by CNPJ why months are in one of these states: the first reason, and how many more there are."""
    found: dict[str, str] = {}
    for cnpj, some in jobs[jobs["state"].isin(states)].groupby("cnpj"):
        month, state, error = some.iloc[0][["month", "state", "error"]]
        more = f" (and {_count(len(some) - 1, 'month')} more)" if len(some) > 1 else ""
        found[str(cnpj)] = f"{Month.parse(month).iso}: {error or state}{more}"
    return found


@contextlib.contextmanager
def _at_work(redis: redis_py.Redis, keys: Keys, source: Any) -> Iterator[None]:
    """Ensure that workers are running: existing ones, or a subscriber in this process."""
    if any(worker.delivery in ("both", "stream") for worker in live_workers(redis, keys)):
        yield
        return
    settings = Settings.load()
    hasty = settings.model_copy(update={"max_attempts": min(settings.max_attempts, MOST_LOOK_UPS)})
    subscriber = Subscriber(redis, source, delivery="stream", namespace=keys.namespace, settings=hasty).start()
    try:
        yield
    except BaseException:
        subscriber.stop(0)
        raise
    subscriber.stop()


def _why(error: SourceError) -> str:
    return "; ".join([str(error), *notes_of(error)])


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + "s" * (number != 1)


def _duration(seconds: float) -> str:
    return _count(round(seconds), "second") if seconds < 90 else _count(round(seconds / 60), "minute")
