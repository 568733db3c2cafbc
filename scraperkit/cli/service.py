"""``scraperkit api``: the REST pricer."""

from __future__ import annotations

from typing import Annotated

import typer

from scraperkit.cli.exits import exit_codes, stop_at_once
from scraperkit.cli.logs import log_to_stderr
from scraperkit.cli.options import Namespace, Port, SourceOption, Url
from scraperkit.cli.terminal import echo, how_to_install
from scraperkit.errors import ConfigError


def api(
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback needs API keys.")] = "127.0.0.1",
    port: Port = 8000,
    source: SourceOption = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Serve the REST pricer until SIGTERM or Ctrl-C; its documentation is at /docs."""
    log_to_stderr()
    stop_at_once()
    with exit_codes():
        try:
            from scraperkit.api.application import create_app
            from scraperkit.api.server import serve
        except ModuleNotFoundError as error:
            raise ConfigError(f"the pricer needs {error.name}; {how_to_install('api')}") from None
        from scraperkit.config import Settings

        settings = Settings.load(source=source, namespace=namespace)
        if url is not None:
            address = "open_data_url" if settings.source == "open_data" else "cvm_url"
            settings = settings.model_copy(update={address: url})
        serve(create_app(settings), host, port, ready=lambda address: echo(f"READY {address}"))
