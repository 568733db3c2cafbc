"""A Redis server of one's own, from installing to stopping; imported by connection, sources, lessons and cli."""
