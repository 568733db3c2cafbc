"""What Redis does at once; imported by publisher, batch, deadletters, engine, timeseries, sources, notebook, lessons."""
