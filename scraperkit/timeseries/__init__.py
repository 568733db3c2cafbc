"""Quotes in, frames and rows out; imported by publisher, engine, sources, lessons, research, api and cli."""
