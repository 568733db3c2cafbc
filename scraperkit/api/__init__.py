"""The REST pricer: publishes months to scrape and serves what is stored; imported by cli.

``scraperkit api`` runs it; ``scraperkit.api:app`` is the same app for any other ASGI server, with the settings of the
environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

    from scraperkit.api.application import create_app

    app: FastAPI

__all__ = ["app", "create_app"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'scraperkit.api' has no attribute {name!r}")
    from scraperkit.api.application import create_app

    # Importing this reads no setting and opens no file; only using `app` does.
    value = create_app if name == "create_app" else create_app()
    globals()[name] = value
    return value
