"""The command that serves the replica, and the settings with which a shell uses it."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from scraperkit.cli.exits import stop_at_once
from scraperkit.cli.options import Port
from scraperkit.cli.terminal import echo
from scraperkit.errors import ConfigError

_LAST_PORT = 65_535


def replica(
    port: Port = 8765,
    latency: Annotated[float, typer.Option(min=0, help="Seconds before each response.")] = 0.0,
    error_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of responses that fail.")] = 0.0,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 admits other machines.")] = "127.0.0.1",
    open_data_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the portal; default: the one after --port.")
    ] = None,
    rates_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the rate services; default: the next one.")
    ] = None,
    exports: Annotated[
        bool, typer.Option("--exports", help="Start nothing; print the settings with which a shell uses it.")
    ] = False,
) -> None:
    """Serve the offline replica of the regulator's site and portal until Ctrl-C, by default on this machine only.

    To use it in a shell, run there: eval "$(scraperkit replica --exports)"
    """
    from scraperkit.replica import Replica
    from scraperkit.replica.server import addresses

    portal = open_data_port if open_data_port is not None else port and port + 1
    rates = rates_port if rates_port is not None else portal and portal + 1
    if max(port, portal, rates) > _LAST_PORT:
        raise ConfigError(f"--port: {max(portal, rates):,} is no port; name --open-data-port and --rates-port, too")
    if exports:
        if not all((port, portal, rates)):
            raise ConfigError("--exports: a free port is chosen at the start; name the ports, or leave them out")
        echo(_exports(addresses(*(f"http://127.0.0.1:{number}" for number in (port, portal, rates)))), lines=True)
        return
    stop_at_once()
    with Replica.start(port, latency, error_rate, host=host, open_data_port=portal, rates_port=rates) as site:
        site.portal.crawl_delay = 0
        echo(f"to use it in a shell:\n{_exports(site.settings)}", err=True, lines=True)
        echo(f"READY {site.url}")
        site.serve_forever()


def _exports(addresses: dict[str, str]) -> str:
    """Return lines for a shell, in which invented figures never mix with real ones.

    The embedded Redis and the archive get a folder of their own, and a Redis that REDIS_URL names gets a namespace.
    """
    from scraperkit.config import Settings
    from scraperkit.research.offline_mode import offline_namespace

    given = Settings.load()
    data = given.data if given.offline else given.data / "offline"
    settings = addresses | {"SCRAPERKIT_OFFLINE": "1", "SCRAPERKIT_DATA": str(data)}
    settings["SCRAPERKIT_ARCHIVE"] = str(data / "open_data")
    if given.redis_url:
        settings["SCRAPERKIT_NAMESPACE"] = offline_namespace(given.namespace)
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in settings.items())
