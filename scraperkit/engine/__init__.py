"""The parts of a worker."""
