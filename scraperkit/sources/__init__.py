"""Where figures come from: pages, files, rates; imported by subscriber, engine, lessons, research, api and cli."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from scraperkit.errors import ConfigError
from scraperkit.sources.base import BuiltIn, Source
from scraperkit.sources.cvm_pages import CvmPages

if TYPE_CHECKING:
    from scraperkit.config import Settings
    from scraperkit.sources.open_data import OpenData

__all__ = ["CvmPages", "Source", "named"]


def named(name: str, url: str | None = None, settings: Settings | None = None) -> CvmPages | OpenData:
    """Return a source of the kit by its name; address and settings default to the environment's.

    Raises
    ------
    ConfigError
        If there is no such source.
    """
    if name == "cvm_pages":
        return CvmPages(url, settings=settings)
    if name == "open_data":
        from scraperkit.sources.open_data import OpenData  # pyarrow is slow to import

        return OpenData(url, settings=settings)
    raise ConfigError(f"source: unknown source {name[:40]!r}; choose one of {', '.join(get_args(BuiltIn))}")
