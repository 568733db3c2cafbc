"""An offline stand-in for the regulator's site: the same addresses, forms and pages, filled with the sample."""

from __future__ import annotations

from scraperkit.replica.server import Replica

__all__ = ["Replica"]
