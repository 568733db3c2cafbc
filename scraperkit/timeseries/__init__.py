"""Quotes in, frames and rows out of RedisTimeSeries; imported by publisher, engine, sources, lessons, api and cli."""
