"""Where prices come from."""

from scraperkit.sources.base import Source
from scraperkit.sources.cvm_pages import CvmPages

__all__ = ["CvmPages", "Source"]
