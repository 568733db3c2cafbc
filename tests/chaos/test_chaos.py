"""The small chaos test: all faults at once, and a correct result; chaos/run.py is the large one."""

from __future__ import annotations

import os
import random

import psutil
import pytest
from chaos.run import Run
from chaos.world import Scale
from support.waiting import wait_until

# Fixed on a build server; elsewhere random, and printed if the test fails.
SEED = int(os.environ.get("CHAOS_SEED", 0)) or (20_261 if os.environ.get("CI") else random.randrange(1, 1_000_000))
HAPPENED = {"kill worker": 2, "site outage": 1, "restate pages": 4, "rewrite open data": 2}


@pytest.mark.parametrize("guarded", [False, True], ids=["alone", "under sentinels"])
def test_every_job_is_done_once_or_reported_whatever_goes_wrong(tmp_path, guarded):
    before = set(psutil.Process().children(recursive=True))
    run = Run(tmp_path, Scale(workers=4, publishers=2, jobs=600, seconds=18.0, seed=SEED, guarded=guarded))
    problems = run.go()
    report = "\n".join([f"CHAOS_SEED={SEED}", *problems[:20], run.table(), *run.history])
    assert not problems, report
    assert all(run.world.counts[name] >= count for name, count in HAPPENED.items()), report
    assert run.world.servers.lost.total() > 0, report
    # No process is left: no worker, publisher, server or site.
    assert wait_until(lambda: not set(psutil.Process().children(recursive=True)) - before)
