"""connect(): what it accepts, what it refuses, and in which words."""

from __future__ import annotations


def test_a_client_speaks_timeseries(redis, namespace):
    redis.execute_command("TS.ADD", f"{namespace}:x", 1, 2.5)
    assert redis.execute_command("TS.GET", f"{namespace}:x") == [1, 2.5]
