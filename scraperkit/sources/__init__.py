"""Where prices come from: sites read politely, pages parsed strictly; imported by engine, api, cli and users."""

from scraperkit.sources.base import Source
from scraperkit.sources.cvm_pages import CvmPages

__all__ = ["CvmPages", "Source"]
