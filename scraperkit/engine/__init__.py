"""A worker's life, from receiving a message to storing its quotes; imported by the front door, notebook and above."""
