"""An offline stand-in for the regulator's site, with its sample; imported by the front door, lessons and cli."""

from __future__ import annotations

from scraperkit.replica.server import Replica

__all__ = ["Replica"]
