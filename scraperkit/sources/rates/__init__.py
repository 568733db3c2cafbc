"""Reference rates: CDI, Selic, IPCA, IGP-M, dollar, Ibovespa; imported by the package root, sources, api and cli."""

from scraperkit.sources.rates.series import rates

__all__ = ["rates"]
