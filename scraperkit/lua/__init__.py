"""Lua that Redis runs; imported by publisher, batch, deadletters, engine, timeseries, sources, notebook, lessons."""
