"""``scraperkit work`` and ``scraperkit health``: workers as processes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from scraperkit.cli.exits import (
    EXIT_CODES,
    INCOMPLETE,
    STOP_SIGNALS,
    exit_codes,
    ignore_stops,
    stop_at_once,
    stop_by_all_means,
)
from scraperkit.cli.logs import log_to_stderr, told_in_logs
from scraperkit.cli.options import Namespace, SourceOption, Url
from scraperkit.cli.terminal import echo
from scraperkit.keys import Listen

if TYPE_CHECKING:
    from scraperkit.engine.worker import Worker

app = typer.Typer()
_ALIVE_EVERY = 1.0
# Seconds beyond the deadline after which a process that was asked to stop ends anyway; the parent waits longer.
_LAST_RESORT = 12.0
_OBJECTS_BETWEEN_COLLECTIONS = 50_000


@app.command(epilog=EXIT_CODES)
def work(
    threads: Annotated[
        int | None, typer.Option(help="Pages each process fetches at once; default: SCRAPERKIT_THREADS.")
    ] = None,
    delivery: Annotated[Listen, typer.Option(help="What to listen to.")] = "both",
    processes: Annotated[int, typer.Option(min=1, max=256, help="Worker processes; any that die are replaced.")] = 1,
    name: Annotated[str | None, typer.Option(help="Worker name; default: the machine's name and a number.")] = None,
    source: SourceOption = None,
    url: Url = None,
    namespace: Namespace = None,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Run a worker until SIGTERM or Ctrl-C; start as many as you like.

    Prints READY and the worker's name once it is listening. On exit, running jobs are finished or handed back.
    """
    log_to_stderr()
    stop_at_once()
    try:
        with exit_codes():
            if processes > 1:
                given = {"--threads": threads, "--delivery": delivery, "--source": source, "--url": url}
                given["--namespace"] = namespace
                options = [str(word) for option in given.items() if option[1] is not None for word in option]
                raise typer.Exit(_supervise(processes, options, name))
            _work(threads, delivery, name, source, url, namespace, supervised)
    finally:
        ignore_stops()


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
    threads: int | None,
    delivery: Listen,
    name: str | None,
    source_name: str | None,
    url: str | None,
    namespace: str | None,
    supervised: bool,
) -> None:
    from scraperkit.config import Settings
    from scraperkit.connection import connect
    from scraperkit.engine.worker import Worker
    from scraperkit.sources import named

    with connect() as redis, named(source_name or Settings.load().source, url) as source:
        worker = Worker(redis, source, threads=threads, delivery=delivery, name=name, namespace=namespace)
        with told_in_logs(lambda: worker.name):
            asyncio.run(run_worker(worker, supervised))


async def run_worker(worker: Worker, supervised: bool = False) -> None:
    """Run a worker as this process's only task, until SIGTERM or SIGINT."""
    from scraperkit.cli.supervisor import notify

    _look_for_garbage_less_often()
    asked = asyncio.Event()

    def stop() -> None:
        if not asked.is_set():
            asked.set()
            worker.request_stop()
            notify("STOPPING=1")
            stop_by_all_means(worker.settings.stop_deadline + _LAST_RESORT)

    _on_stop_signals(stop)
    if not await _started(worker, asked):
        return
    echo(f"READY {worker.name}")
    notify("READY=1")
    if supervised:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _when_the_parent_is_gone, stop)
    alive = asyncio.create_task(_say_alive(supervised))
    try:
        await worker.run()
    finally:
        alive.cancel()


def _on_stop_signals(stop: Callable[[], None]) -> None:
    """Call `stop` in this loop at each signal; ignore signals after the loop's end.

    ``add_signal_handler`` would restore the default when the loop ends, and a second signal would kill the process.
    """
    loop = asyncio.get_running_loop()

    def heed(*_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(stop)

    for number in STOP_SIGNALS:
        signal.signal(number, heed)


async def _started(worker: Worker, asked: asyncio.Event) -> bool:
    """Start a worker, and return whether it runs; a stop interrupts the start, no matter what it waits for."""
    from scraperkit.engine.redis_retry import FAREWELL, end

    starting, stopping = asyncio.create_task(worker.start()), asyncio.create_task(asked.wait())
    await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if asked.is_set():
        starting.cancel()
        await asyncio.wait([starting], timeout=FAREWELL)
        await end([starting])
        return starting.done() and not starting.cancelled() and starting.exception() is None
    await starting
    return True


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
    from scraperkit.cli.supervisor import workers_here_in_time
    from scraperkit.errors import RedisUnreachable

    with exit_codes():
        try:
            workers = workers_here_in_time(namespace)
        except RedisUnreachable as error:
            if not live:
                raise
            echo(f"Redis unreachable; assuming alive: {error}")
            return
        for worker in workers:
            echo(f"{worker.name} is alive: {worker.threads} threads, {worker.in_hand} in hand")
        if not workers:
            echo("no worker is alive here", err=True)
            raise typer.Exit(INCOMPLETE)
