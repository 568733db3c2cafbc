"""Connections that follow a Redis whose primary changes; imported by connection, engine, publisher and timeseries."""
