"""``scraperkit work`` and ``scraperkit health``: workers as processes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from scraperkit.cli.exits import EXIT_CODES, exit_codes
from scraperkit.cli.options import Namespace, Url
from scraperkit.keys import Listen

if TYPE_CHECKING:
    from scraperkit.engine.worker import Worker

app = typer.Typer()
_ALIVE_EVERY = 1.0
_OBJECTS_BETWEEN_COLLECTIONS = 50_000


@app.command(epilog=EXIT_CODES)
def work(
    threads: Annotated[
        int | None, typer.Option(help="Pages each process fetches at once; default: SCRAPERKIT_THREADS.")
    ] = None,
    delivery: Annotated[Listen, typer.Option(help="What to listen to.")] = "both",
    processes: Annotated[int, typer.Option(min=1, max=256, help="Worker processes; any that die are replaced.")] = 1,
    name: Annotated[str | None, typer.Option(help="Worker name; default: the machine's name and a number.")] = None,
    url: Url = None,
    namespace: Namespace = None,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Run a worker until SIGTERM or Ctrl-C; start as many as you like.

    Prints READY and the worker's name once it is listening. On exit, running jobs are finished or handed back.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # Exit at once until the worker installs its own handler: there is nothing to finish yet.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with exit_codes():
        if processes > 1:
            given = {"--threads": threads, "--delivery": delivery, "--url": url, "--namespace": namespace}
            options = [word for option, value in given.items() if value is not None for word in (option, str(value))]
            raise typer.Exit(_supervise(processes, options, name))
        _work(threads, delivery, name, url, namespace, supervised)


def _supervise(processes: int, options: list[str], name: str | None) -> int:
    from scraperkit.cli.supervisor import Supervisor
    from scraperkit.config import Settings

    settings = Settings.load()
    # Without -P, -m would also import modules from the current folder.
    start = [sys.executable, "-P", "-m", "scraperkit", "work", "--supervised", *options]
    commands = [[*start, *(["--name", f"{name}-{number + 1}"] if name else [])] for number in range(processes)]
    supervisor = Supervisor(commands, stop_deadline=settings.stop_deadline, hung_after=settings.lease)
    return supervisor.run()


def _work(
    threads: int | None, delivery: Listen, name: str | None, url: str | None, namespace: str | None, supervised: bool
) -> None:
    from scraperkit.connection import connect
    from scraperkit.engine.worker import Worker
    from scraperkit.sources import CvmPages

    with connect() as redis, CvmPages(url) as source:
        worker = Worker(redis, source, threads=threads, delivery=delivery, name=name, namespace=namespace)
        asyncio.run(run_worker(worker, supervised))


async def run_worker(worker: Worker, supervised: bool = False) -> None:
    """Run a worker as this process's only task, until SIGTERM or SIGINT."""
    from scraperkit.cli.supervisor import notify

    _look_for_garbage_less_often()
    loop = asyncio.get_running_loop()
    starting = asyncio.ensure_future(worker.start())

    def stop() -> None:
        starting.cancel()
        worker.request_stop()
        notify("STOPPING=1")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await starting
    except asyncio.CancelledError:
        return
    typer.echo(f"READY {worker.name}")
    notify("READY=1")
    if supervised:
        loop.add_reader(sys.stdin.fileno(), _when_the_parent_is_gone, stop)
    alive = asyncio.create_task(_say_alive(supervised))
    try:
        await worker.run()
    finally:
        alive.cancel()


def _look_for_garbage_less_often() -> None:
    """Collect garbage rarely: jobs leave no cycles, and searching for them is a quarter of a job's cost."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)


def _when_the_parent_is_gone(stop: Callable[[], None]) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stop()


async def _say_alive(supervised: bool) -> None:
    """Report regularly that this event loop runs: it also does all the worker's Redis traffic."""
    from scraperkit.cli.supervisor import ALIVE, notify

    while True:
        notify("WATCHDOG=1")
        if supervised:
            with contextlib.suppress(OSError):
                os.write(sys.stdout.fileno(), ALIVE)
        await asyncio.sleep(_ALIVE_EVERY)


@app.command()
def health(
    live: Annotated[
        bool, typer.Option("--live", help="Succeed even if Redis is unreachable; a restart would not help.")
    ] = False,
    namespace: Namespace = None,
) -> None:
    """Check that a worker on this machine or in this container is alive: exit code 0 if so, else 1.

    Exit code 69 means that Redis is unreachable. For health checks: it starts nothing, and ignores other machines.
    """
    from scraperkit.cli.supervisor import workers_here
    from scraperkit.errors import RedisUnreachable

    with exit_codes():
        try:
            workers = workers_here(namespace)
        except RedisUnreachable as error:
            if not live:
                raise
            typer.echo(f"Redis unreachable; assuming alive: {error}")
            return
        for worker in workers:
            typer.echo(f"{worker.name} is alive: {worker.threads} threads, {worker.in_hand} in hand")
        if not workers:
            typer.echo("no worker is alive here", err=True)
            raise typer.Exit(1)
