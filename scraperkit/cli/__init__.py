"""The command line: commands, doctor, demo and supervisor; imported by __main__."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scraperkit.cli import (
    batches,
    dead_letters,
    embedded_redis,
    exporting,
    figures,
    market,
    offline_site,
    rates,
    service,
    updates,
    work,
)
from scraperkit.cli.exits import EXIT_CODES, INCOMPLETE, INTERRUPTED, exit_codes
from scraperkit.cli.options import (
    Cnpjs,
    End,
    ExcelBr,
    Namespace,
    Out,
    SourceOption,
    Start,
    Url,
    option_name,
    tell_if_invented,
    with_names,
)
from scraperkit.cli.refusals import Refusals, check_period
from scraperkit.cli.terminal import echo
from scraperkit.errors import NothingThere, ScraperKitWarning
from scraperkit.keys import DeliveryName

if TYPE_CHECKING:
    import pandas as pd


def _show_version(wanted: bool) -> None:
    if wanted:
        from scraperkit import __version__

        echo(f"scraperkit {__version__}")
        raise typer.Exit


app = typer.Typer(
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"token_normalize_func": option_name},
)
app.add_typer(embedded_redis.app, name="redis")
app.add_typer(batches.app, name="batch")
app.add_typer(dead_letters.app, name="dead")
app.add_typer(market.app, name="market")
app.command()(service.api)
app.command("rates")(rates.show_rates)
app.add_typer(figures.app)
app.command()(exporting.export)
app.command(epilog=updates.UPDATE_CODES)(updates.update)
app.command()(offline_site.replica)
app.add_typer(work.app)
# In the order in which a newcomer needs them.
ORDER = (
    *("demo", "doctor", "redis", "work", "publish", "batch", "dead", "update", "export", "prices", "summary", "jumps"),
    *("rates", "market", "api", "health", "replica"),
)


@app.callback()
def scraperkit(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Collect and study the daily prices of Brazilian investment funds."""


@app.command("demo")  # a function of that name would hide the module
def run_demo(
    chart: Annotated[Path, typer.Option(help="Where to save the chart.")] = Path("scraperkit-demo.png"),
    funds: Annotated[int, typer.Option(min=1, max=15, help="Number of funds.")] = 10,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Number of worker threads.")] = 8,
) -> None:
    """Run the main job offline: ten funds, two years, a table and a chart."""
    from scraperkit.cli.demo import run
    from scraperkit.connection import connect

    with connect() as redis:
        run(redis, chart, funds=funds, threads=threads)


@app.command()
def publish(
    cnpjs: Cnpjs,
    start: Annotated[str | None, typer.Option("--start", help="First month, YYYY-MM; default: the fund's.")] = None,
    end: Annotated[str | None, typer.Option("--end", help="Last month, YYYY-MM; default: this month.")] = None,
    delivery: Annotated[DeliveryName, typer.Option(help="stream stores messages, pubsub does not.")] = "stream",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all jobs are finished.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Scrape finished months again.")] = False,
    only_missing: Annotated[bool, typer.Option("--only-missing", help="Skip months stored after their end.")] = False,
    source_name: SourceOption = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Look up funds, and publish a message for each month; it covers the fund's subclasses, too.

    A fund that cannot be looked up does not stop the others: it is reported at the end, with an exit code.
    """
    from scraperkit.config import Settings
    from scraperkit.connection import connect
    from scraperkit.publisher import Publisher
    from scraperkit.sources import named

    check_period(start, end)
    refusals = Refusals()
    with connect() as redis, named(source_name or Settings.load().source, url) as source:
        requests = refusals.months_of(refusals.look_up(source, cnpjs), start, end)
        good = bool(requests)
        if requests:
            batch = Publisher(redis, delivery=delivery, namespace=namespace).publish(
                requests, force=force, only_missing=only_missing
            )
            status = batch.status()
            echo(f"batch {batch.id}: {status}" + ("" if status.published else "; every month is stored already"))
            good = not wait or batches.wait_for(batch)
    refusals.tell(len(cnpjs))
    if refusals or not good:
        raise typer.Exit(refusals.code)


@app.command()
def prices(
    cnpjs: Annotated[
        list[str] | None, typer.Argument(metavar="FUND", help="CNPJs, series or names; default: all.")
    ] = None,
    start: Start = None,
    end: End = None,
    metric: Annotated[str, typer.Option(help="quota, net_worth, holders, inflow, outflow or portfolio.")] = "quota",
    inherit: Annotated[
        bool, typer.Option("--inherit", help="Begin a subclass with the earlier prices of its class.")
    ] = False,
    out: Out = None,
    excel_br: ExcelBr = False,
    namespace: Namespace = None,
) -> None:
    """Show stored prices, or write them to a file; `scraperkit export` also fetches missing ones.

    A fund without stored prices does not stop the others: it is reported at the end, with an exit code.
    """
    from scraperkit.connection import connect
    from scraperkit.timeseries.reader import TimeSeriesReader

    refusals = Refusals()
    with connect() as redis:
        reader = TimeSeriesReader(redis, namespace=namespace)
        wanted = refusals.stored(redis, reader, cnpjs, namespace) if cnpjs else None
        if wanted != []:
            _show(reader.prices(wanted, start=start, end=end, metric=metric, inherit=inherit), out, excel_br)
    refusals.tell(len(cnpjs or ()))
    if refusals:
        raise typer.Exit(refusals.code)


def _show(frame: pd.DataFrame, out: Path | None, excel_br: bool) -> None:
    if out is None:
        if frame.empty:
            raise NothingThere("no prices stored")
        echo(with_names(frame).to_string(), lines=True)
    else:
        from scraperkit.research import export

        export(frame, out, excel_br=excel_br)
        echo(f"{len(frame)} days of {frame.shape[1]} funds in {out}")
        tell_if_invented()


@app.command("doctor")
def run_doctor() -> None:
    """Check what is installed and reachable, and say how to fix problems."""
    from scraperkit.cli.doctor import examine

    findings = examine()
    for finding in findings:
        echo(str(finding))
    if any(not finding.good for finding in findings):
        raise typer.Exit(INCOMPLETE)


def commands() -> Any:
    """Return the commands, sorted; their help shows no type for an option that takes no value."""
    whole: Any = typer.main.get_command(app)
    whole.commands = {name: whole.commands[name] for name in sorted(whole.commands, key=ORDER.index)}
    waiting = [whole]
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        for option in [*command.params, command.get_help_option(typer.Context(command))]:
            if getattr(option, "is_flag", False):
                option.metavar = ""
    return whole


def _warn(others: Callable[..., None], message: Warning | str, category: type[Warning], *where: Any) -> None:
    if issubclass(category, ScraperKitWarning):
        echo(f"scraperkit: {message}", err=True, lines=True)
    else:
        others(message, category, *where)


def main() -> None:
    """Run the command line; print warnings and expected errors as one sentence on stderr; see `cli/exits.py`."""
    warnings.showwarning = partial(_warn, warnings.showwarning)
    try:
        with exit_codes():
            commands()()
    except KeyboardInterrupt:
        echo("interrupted", err=True)
        raise SystemExit(INTERRUPTED) from None
