"""A Redis server of one's own, downloaded, started and ended by the kit; imported by connection, lessons and cli."""
