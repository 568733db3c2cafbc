"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Namespace = Annotated[str | None, typer.Option(help="Namespace; default: SCRAPERKIT_NAMESPACE.")]
Url = Annotated[str | None, typer.Option("--url", help="Site; default: SCRAPERKIT_CVM_URL, else the live one.")]
SourceName = Annotated[
    str | None, typer.Option("--source", help="cvm_pages or open_data; default: SCRAPERKIT_SOURCE, else cvm_pages.")
]
Cnpjs = Annotated[list[str], typer.Argument(metavar="CNPJ...", help="Funds, with or without punctuation.")]
