"""An embedded Redis server that the kit installs, starts and stops; imported by connection, lessons and cli."""
