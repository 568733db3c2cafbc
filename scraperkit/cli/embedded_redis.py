"""``scraperkit redis``: the embedded server."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from scraperkit.cli.terminal import echo
from scraperkit.errors import NothingThere

app = typer.Typer(help="The embedded Redis server.", no_args_is_help=True)


@app.command("start")
def start() -> None:
    """Start the embedded server; it runs until it is stopped."""
    from scraperkit.embedded import shared

    shared.start()
    echo(_status_line())


@app.command("stop")
def stop(force: Annotated[bool, typer.Option("--force", help="Even if it is in use.")] = False) -> None:
    """Stop the embedded server; its data is kept."""
    from scraperkit.embedded import shared

    if shared.stop(force=force):
        echo("stopped")
    else:
        echo("in use: it stops when its last user exits; to stop it now, use --force")


@app.command("status")
def status() -> None:
    """Show whether the embedded server is running, and where its data is."""
    echo(_status_line())


@app.command("url")
def url() -> None:
    """Print the running embedded server's address, with password, for REDIS_URL."""
    from scraperkit.embedded import shared

    url = shared.running_url()
    if url is None:
        raise NothingThere("the embedded server is not running; start it with `scraperkit redis start`")
    echo(url)


@app.command("cli", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def cli(context: typer.Context) -> None:
    """Open redis-cli on the embedded server, passing on arguments, as in `scraperkit redis cli PING`."""
    from scraperkit.embedded import shared

    command, environment = shared.redis_cli()
    sys.stdout.flush()
    os.execve(command[0], [*command, *context.args], environment)  # noqa: S606


def _status_line() -> str:
    from scraperkit.embedded import shared

    status = shared.status()
    if not status.running:
        return f"not running; data in {status.folder} ({status.size / 1e6:.1f} MB)"
    stays = "until stopped" if status.pinned else "while in use"
    return (
        f"Redis {status.version} at {status.url}, pid {status.pid}, runs {stays}; "
        f"data in {status.folder} ({status.size / 1e6:.1f} MB)"
    )
