"""Where prices come from."""

from scraperkit.sources.base import Source

__all__ = ["Source"]
