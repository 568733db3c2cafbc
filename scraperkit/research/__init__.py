"""The researcher's calls: prices in one call, by number or by name; imported by the front door."""

from scraperkit.research.calls import prices, quotes
from scraperkit.research.offline_mode import Offline, offline
from scraperkit.research.updating import update

__all__ = ["Offline", "offline", "prices", "quotes", "update"]
