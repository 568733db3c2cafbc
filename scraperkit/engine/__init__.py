"""A worker's life, from message to stored quotes; imported by publisher, subscriber, batch, health, lessons, research and cli."""
