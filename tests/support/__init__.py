"""Shared test helpers: fakes, servers, processes, and waiting for conditions."""
