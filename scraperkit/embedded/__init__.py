"""A Redis of this machine, from installing to stopping; imported by connection, failover, sources, lessons and cli."""
