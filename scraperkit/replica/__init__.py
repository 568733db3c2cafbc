"""Offline stand-ins for the regulator's site and portal; imported by the package root, lessons, research and cli."""

from __future__ import annotations

from scraperkit.replica.server import Replica

__all__ = ["Replica"]
