"""Live views for notebooks: a subscriber's dashboard and Redis's MONITOR; imported by the front door."""

from scraperkit.notebook.dashboard import Dashboard
from scraperkit.notebook.monitoring import Monitor, monitor

__all__ = ["Dashboard", "Monitor", "monitor"]
