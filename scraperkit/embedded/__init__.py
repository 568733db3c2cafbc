"""A Redis server of one's own, installed, started and stopped by the kit; imported by connection, lessons and cli."""
