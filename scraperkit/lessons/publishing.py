"""Checks of the exercises of ``01_publish_batches``."""
