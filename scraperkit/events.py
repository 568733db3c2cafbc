"""The event log: one row for each attempt at a message."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from scraperkit.keys import Keys

TIMES = ("published_at", "received_at", "started_at", "fetched_at", "stored_at")
COLUMNS = {
    "message": "str",
    "cnpj": "str",
    "month": "str",
    "outcome": "str",
    "attempt": "int64",
    "delivery": "str",
    "worker": "str",
    "thread": "str",
    **dict.fromkeys(TIMES, "datetime64[us, UTC]"),
    "quotes": "int64",
    "error": "str",
}


def events_of(client: Any, keys: Keys, batch_id: str) -> pd.DataFrame:
    """Return what was done for one batch, as :meth:`scraperkit.Batch.events` explains it."""
    rows = []
    for _, fields in client.xrange(keys.events):
        event = json.loads(fields["event"]) if batch_id in fields.get("event", "") else {}
        if event.get("batch") == batch_id:
            rows.append({"error": ""} | event | {"outcome": fields["outcome"], "attempt": int(fields["attempt"])})
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for column in TIMES:
        frame[column] = pd.to_datetime(frame[column].astype("float64"), unit="s", utc=True)
    return frame.astype(COLUMNS)
