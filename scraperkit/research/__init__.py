"""The researcher's calls: prices by number or name; imported by the package root, notebook, api and cli."""

from scraperkit.research.calls import prices, quotes
from scraperkit.research.exports import export
from scraperkit.research.offline_mode import Offline, offline
from scraperkit.research.updating import update
from scraperkit.timeseries.csv_files import read_csv

__all__ = ["Offline", "export", "offline", "prices", "quotes", "read_csv", "update"]
