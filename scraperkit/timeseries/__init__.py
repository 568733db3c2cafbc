"""Quotes in, frames and rows out of RedisTimeSeries; imported by publisher, engine, sources, lessons, research, api and cli."""
