"""The regulator's open data: the whole market in files; imported by the front door, sources and cli."""
