"""A Redis server of one's own, from installing to stopping; imported by connection, failover, sources, lessons and cli."""
