"""Where prices come from, page by page; imported by the front door, subscriber, engine, lessons, api and cli."""

from scraperkit.sources.base import Source
from scraperkit.sources.cvm_pages import CvmPages

__all__ = ["CvmPages", "Source"]
