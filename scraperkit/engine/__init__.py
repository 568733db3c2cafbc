"""From message to stored quotes; imported by publisher, subscriber, batch, health, lessons, research and cli."""
