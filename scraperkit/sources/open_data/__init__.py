"""The regulator's open data: the whole market in files; imported by the package root, sources and cli."""

from scraperkit.sources.open_data.source import OpenData

__all__ = ["OpenData"]
