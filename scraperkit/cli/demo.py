"""The main job from end to end, offline: ten funds, two years, a table and a chart."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import redis as redis_py
from tqdm import tqdm

from scraperkit import metrics, plot
from scraperkit.batch import BatchStatus
from scraperkit.cli.terminal import echo
from scraperkit.cnpj import format_cnpj
from scraperkit.errors import RedisError
from scraperkit.keys import Keys
from scraperkit.models import Fund, Month, ScrapeRequest
from scraperkit.publisher import Publisher
from scraperkit.replica import Replica
from scraperkit.replica.sample import SampleFund
from scraperkit.sources import CvmPages
from scraperkit.subscriber import Subscriber
from scraperkit.timeseries.reader import TimeSeriesReader

log = logging.getLogger(__name__)
START, END = "2022-01", "2023-12"
NAMESPACE = "demo"


def run(redis: redis_py.Redis, chart: Path, *, funds: int = 10, threads: int = 8) -> pd.DataFrame:
    """Run the demo on `redis`, print its table, save its chart, and return the prices.

    Parameters
    ----------
    redis : redis.Redis
        Only the namespace ``demo`` is written to.
    chart : pathlib.Path
        Where to save the chart.
    funds, threads : int
        Numbers of funds to collect and of threads.

    Returns
    -------
    pandas.DataFrame
        As returned by :meth:`TimeSeriesReader.prices`.

    Raises
    ------
    RedisError
        If the Redis user may not use that namespace.
    """
    _check_rights(redis)
    with Replica.start() as site, CvmPages(site.url) as source:
        echo(f"site    {site.url} (offline replica)")
        found = _look_up(source, _choose(site.funds, funds))
        requests = [request for fund in found for request in fund.months(START, END)]
        echo(f"jobs    {len(found)} funds, {len(requests)} months, {threads} threads\n", lines=True)
        status = _scrape(redis, source, requests, threads)
    cnpjs = [fund.cnpj for fund in found]
    reader = TimeSeriesReader(redis, namespace=NAMESPACE)
    prices = reader.prices(cnpjs, start=START, end=END)
    echo(f"\n{status}; {int(prices.count().sum()):,} daily prices stored\n", lines=True)
    echo(table(prices), lines=True)
    for remark in remarks(reader.quotes(cnpjs, start=START, end=END)):
        echo(remark)
    _save_chart(prices, chart)
    echo(f"\nchart   {chart.resolve()}", lines=True)
    return prices


def _check_rights(redis: redis_py.Redis) -> None:
    try:
        redis.exists(Keys(NAMESPACE).jobs)
    except redis_py.exceptions.NoPermissionError:
        raise RedisError(
            f"this Redis user may not use the demo's namespace, {NAMESPACE!r}; run it as another user, as in "
            "`docker compose exec lab scraperkit demo`, or leave REDIS_URL unset for the embedded server"
        ) from None


def _choose(funds: Sequence[SampleFund], count: int) -> list[str]:
    """Return CNPJs of funds with figures for the whole period; the documented message names the first."""
    whole = dict.fromkeys(
        fund.cnpj for fund in funds if fund.active and Month.of(fund.started_on).iso <= START and fund.ended_on is None
    )
    return list(whole)[:count]


def _look_up(source: CvmPages, cnpjs: Sequence[str]) -> list[Fund]:
    return [source.find_fund(cnpj) for cnpj in tqdm(cnpjs, desc="looking up", unit=" funds", disable=None)]


def _scrape(redis: redis_py.Redis, source: CvmPages, requests: Sequence[ScrapeRequest], threads: int) -> BatchStatus:
    with Subscriber(redis, source, threads=threads, namespace=NAMESPACE):
        # Always scrape again, so there is something to watch; rewriting a day changes nothing.
        return Publisher(redis, namespace=NAMESPACE).publish(requests, force=True).wait()


def table(prices: pd.DataFrame) -> str:
    """Return the summary of `prices` as text, a line for each fund, with the names in ``attrs``."""
    summary, names = metrics.summary(prices), prices.attrs.get("names", {})
    shown = pd.DataFrame(
        {
            "fund": [names.get(str(cnpj), "") for cnpj in summary.index],
            "CNPJ": [format_cnpj(str(cnpj)) for cnpj in summary.index],
            "days": summary["days"].to_numpy(),
            "first R$": summary["first"].map("{:,.4f}".format).to_numpy(),
            "last R$": summary["last"].map("{:,.4f}".format).to_numpy(),
            "return": summary["cumulative_return"].map("{:+.1%}".format).to_numpy(),
            "volatility": summary["volatility"].map("{:.1%}".format).to_numpy(),
            "max drawdown": summary["max_drawdown"].map("{:.2%}".format).to_numpy(),
            "missing days": summary["missing_days"].to_numpy(),
        }
    )
    width = int(shown["fund"].str.len().max())
    return shown.to_string(index=False, formatters={"fund": lambda name: str(name).ljust(width)})


def remarks(quotes: pd.DataFrame) -> Iterator[str]:
    """Return a line for each fund that fell without redemptions: the table counts as a loss what may be a payout."""
    jumps, names = metrics.jumps(quotes), quotes.attrs.get("names", {})
    for cnpj, found in jumps[jumps["kind"] == "payout or write-down"].groupby("cnpj"):
        pairs = zip(found["date"], found["size"], strict=True)
        falls = " and ".join(f"{-size:.0%} on {day:%Y-%m-%d}" for day, size in pairs)
        yield f"{names.get(cnpj, cnpj)} fell by {falls} although nobody redeemed: a payout, or a write-down"


def _save_chart(prices: pd.DataFrame, chart: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    plot.prices(prices, ax=figure.subplots())
    chart.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(chart, dpi=150)
