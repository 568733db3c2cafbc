"""Moments in frames: seconds since 1970 in Redis, UTC in pandas."""

from __future__ import annotations

import datetime as dt

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from scraperkit.timeseries.frames import changes_frame
from scraperkit.timeseries.rows import Change


@given(st.integers(0, 4_102_444_800_000))
def test_a_change_shows_the_millisecond_at_which_redis_logged_it(milliseconds):
    change = Change("18993924000100", "", dt.date(2022, 1, 3), "quota", 1.0, 2.0, "cvm_pages", milliseconds / 1000)
    (shown,) = changes_frame([change])["changed_at"]
    assert shown == pd.Timestamp(milliseconds, unit="ms", tz="UTC")
