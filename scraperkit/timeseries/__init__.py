"""Quotes in, frames and rows out of RedisTimeSeries; imported by engine, publisher, api, cli and users."""
