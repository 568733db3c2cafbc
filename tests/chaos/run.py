"""The chaos test: ``python tests/chaos/run.py --seconds 600 --workers 10 --publishers 5 --jobs 20000 --seed N``.

Publishes jobs and causes faults from a seed, waits until all jobs are settled, and compares the stored data with the
expected data. Exits with 0 if there are no problems.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from chaos.oracle import Record, Site
from chaos.storm import Storm
from chaos.verify import Verdict, verify
from chaos.world import Scale, World

CALM_SECONDS = 180.0
STANDSTILL_SECONDS = 90.0


class Run:
    """One run, from the first process to the verdict.

    Attributes
    ----------
    outcomes : collections.Counter
        Events so far, by outcome.
    problems : list of str
        Violations found.
    """

    def __init__(self, folder: Path, scale: Scale, *, live: bool = False) -> None:
        self.folder, self.scale, self.live = folder, scale, live
        self.outcomes: Counter[str] = Counter()
        self.history: list[str] = []
        self.problems: list[str] = []
        self.verdict = Verdict([])
        self.seconds = 0.0
        self.phases: list[str] = []
        self._last_event = "0"

    def go(self) -> list[str]:
        """Run everything; return the problems."""
        began = time.monotonic()
        with World(self.folder, self.scale) as world:
            self.world = world
            storm = Storm(world)
            self.history = storm.history
            while storm.age < self.scale.seconds:
                storm.step()
                world.reap()
                self._look()
                time.sleep(0.05)
            world.calm()
            self._took("storm", began)
            self._took("settling", time.monotonic(), self._settle)
            self._took("stopping workers", time.monotonic(), world.stop_workers)
            record = Record.read(self.folder)
            self.verdict = verify(world.redis, world.keys, record, Site.read(self.folder))
            if len(record.good) + len(record.bad) != self.scale.jobs:
                self.problems.append(f"{len(record.good) + len(record.bad)} jobs known to be published")
        self.problems += world.problems + self.verdict.problems
        self.seconds = time.monotonic() - began
        return self.problems

    def _took(self, what: str, began: float, action: Callable[[], None] = lambda: None) -> None:
        action()
        self.phases.append(f"{what} {time.monotonic() - began:.1f}")

    def _settle(self) -> None:
        """Wait until all jobs are settled, as long as outcomes still arrive."""
        ends_at = time.monotonic() + CALM_SECONDS
        moved_at, moved = time.monotonic(), self.outcomes.total()
        while not (self.world.published and self.world.settled([*Record.read(self.folder).batches])):
            self.world.reap()
            self._look()
            now = time.monotonic()
            if self.outcomes.total() != moved:
                moved_at, moved = now, self.outcomes.total()
            if now > ends_at or now - moved_at > STANDSTILL_SECONDS:
                self.problems.append("some jobs are not settled")
                return
            time.sleep(0.2)

    def _look(self) -> None:
        if self.world.servers.is_whole:
            self._last_event, outcomes = self.world.events(self._last_event)
            self.outcomes.update(outcomes)
        if self.live:
            said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
            happened = ", ".join(f"{count} {name}" for name, count in sorted(self.world.counts.items()))
            line = f"{said} | {happened} | {self.world.servers.lost.total()} lost"
            width = shutil.get_terminal_size((160, 24)).columns - 1
            print(f"\r{line[:width]:<{width}}" if sys.stdout.isatty() else "", end="", flush=True)

    def table(self) -> str:
        """Return the results as a table."""
        counts, lost = self.world.counts, self.world.servers.lost
        rows = {
            "seed": self.scale.seed,
            "jobs published": self.verdict.published,
            "done": self.verdict.done,
            "month not offered": self.verdict.not_offered,
            "dead (poison)": self.verdict.poison,
            "retried": self.outcomes["retry"],
            "superseded": self.outcomes["superseded"],
            "figures compared": self.verdict.samples,
            "months stored as restated": self.verdict.restated,
            **{name: counts[name] for name in sorted(counts)},
            "replies lost": f"{lost.total()} ({', '.join(f'{kind} {count}' for kind, count in sorted(lost.items()))})",
            "seconds": f"{self.seconds:.0f} ({', '.join(self.phases)})",
            "problems": len(self.problems),
        }
        return "\n".join(f"{name:<34}{value}" for name, value in rows.items())


def main() -> int:
    """Read the command line, run, and print the result."""
    parser = argparse.ArgumentParser(description="Cause faults everywhere at once, and verify the result.")
    parser.add_argument("--seconds", type=float, default=600.0)
    for name, default in (("workers", 10), ("publishers", 5), ("jobs", 20_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--alone", action="store_true", help="one Redis instead of a pair with sentinels")
    parser.add_argument("--keep", type=Path, help="folder in which to keep logs and data")
    options = parser.parse_args()
    scale = Scale(options.workers, options.publishers, options.jobs, options.seconds, options.seed, not options.alone)
    print(f"seed {scale.seed}", flush=True)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder, scale, live=True)
    problems = run.go()
    print()
    print(run.table())
    for problem in problems[:50]:
        print("PROBLEM", problem)
    if problems:
        print("\n".join(run.history))
        print(f"logs are in {folder}")
    elif not options.keep:
        shutil.rmtree(folder)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
