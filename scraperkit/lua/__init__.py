"""What Redis does at once (Lua); imported by publisher, batch, deadletters, engine, sources, notebook and lessons."""
