"""An offline stand-in for the regulator's site, with its sample; imported by lessons, cli and users."""

from __future__ import annotations

from scraperkit.replica.server import Replica

__all__ = ["Replica"]
