"""Quotes in, frames and rows out of RedisTimeSeries; imported by publisher, engine, lessons, api and cli."""
