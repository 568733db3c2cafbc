"""Live views for notebooks: a dashboard, a chart, and Redis's MONITOR; imported by the package root."""

from scraperkit.notebook.dashboard import Dashboard
from scraperkit.notebook.live_chart import LivePrices, live_prices
from scraperkit.notebook.monitoring import Monitor, monitor

__all__ = ["Dashboard", "LivePrices", "Monitor", "live_prices", "monitor"]
