"""Quotes in, frames and rows out; imported by publisher, engine, sources, notebook, lessons, research, api, cli."""
