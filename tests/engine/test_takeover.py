"""Jobs of a worker whose heartbeat has stopped go to another, whatever their lease; a heartbeat keeps them."""

from __future__ import annotations

import json
import time
from collections import Counter

import pytest
from chaos.processes import HANDS, Child
from support.fakes import FakeSite, GatedSite, months
from support.waiting import wait_until

from scraperkit.config import Settings
from scraperkit.engine import registry
from scraperkit.engine.worker import Worker
from scraperkit.publisher import Publisher

# A lease that no test outlasts: only heartbeats count.
AN_HOUR = 3600.0
SIXTEEN = {"lease": AN_HOUR, "heartbeat": 0.3, "threads": 16}


def owners(redis, keys) -> Counter[str]:
    """Return the number of pending entries by consumer."""
    rows = redis.xpending_range(keys.jobs, keys.group, "-", "+", 1000) if redis.exists(keys.jobs) else []
    return Counter(row["consumer"] for row in rows)


class TestAWorkerThatIsKilled:
    @pytest.fixture
    def holding(self, process, publisher, redis, keys, tmp_path):
        """A worker process that holds sixteen jobs, and their batch."""

        def holding(*words: str, year: int = 2021) -> tuple[Child, object]:
            (tmp_path / "shut").touch()
            before = owners(redis, keys).total()
            worker = process(HANDS, str(tmp_path), "--delivery", "stream", *words, **SIXTEEN).ready()
            batch = publisher.publish(months(16, year=year))
            assert wait_until(lambda: owners(redis, keys).total() == before + 16)
            return worker, batch

        return holding

    def test_leaves_all_its_jobs_to_another(self, holding, subscriber):
        worker, batch = holding()
        other = subscriber(FakeSite(), **SIXTEEN)
        worker.kill()
        assert batch.wait(60).done == 16
        events = batch.events()
        assert events["worker"].str.startswith(f"{other.name}/").all()
        (owner,) = set(events["taken_from"])
        assert owner not in ("", other.name)

    def test_leaves_more_jobs_than_another_has_room_for(self, holding, subscriber):
        worker, batch = holding()
        subscriber(FakeSite(), **SIXTEEN | {"threads": 1, "prefetch": 0})
        worker.kill()
        assert batch.wait(60).done == 16

    def test_and_restarted_at_once_loses_no_job(self, holding, process, subscriber, tmp_path):
        worker, batch = holding()
        subscriber(FakeSite(), **SIXTEEN)
        worker.kill()
        (tmp_path / "shut").unlink()
        process(HANDS, str(tmp_path), "--delivery", "stream", **SIXTEEN).ready()
        assert batch.wait(60).done == 16
        assert Counter(batch.events()["outcome"])["done"] == 16

    def test_and_restarted_alone_under_its_name_does_its_jobs(self, holding, process, tmp_path):
        worker, batch = holding("--name", "anna")
        worker.kill()
        (tmp_path / "shut").unlink()
        process(HANDS, str(tmp_path), "--delivery", "stream", "--name", "anna", **SIXTEEN).ready()
        assert batch.wait(60).done == 16

    def test_with_all_others_of_its_machine_leaves_its_jobs_to_another_machine(self, holding, subscriber, monkeypatch):
        machine = [holding(year=2019), holding(year=2021)]
        monkeypatch.setattr(registry.socket, "gethostname", lambda: "elsewhere")
        subscriber(FakeSite(), **SIXTEEN)
        for worker, _ in machine:
            worker.kill()
        for _, batch in machine:
            assert batch.wait(60).done == 16
            assert batch.events()["worker"].str.startswith("elsewhere-1/").all()

    def test_leaves_its_channel_messages_reported_as_lost(self, redis, namespace, process, tmp_path):
        (tmp_path / "shut").touch()
        worker = process(HANDS, str(tmp_path), "--delivery", "pubsub", **SIXTEEN).ready()
        batch = Publisher(redis, namespace=namespace, delivery="pubsub").publish(months(2))
        assert wait_until(lambda: (tmp_path / "asked").exists())
        worker.kill()
        assert batch.wait(60).lost == 2


class TestAWorkerThatIsFrozen:
    def test_finds_its_jobs_gone_and_overwrites_nothing(self, redis, keys, publisher, process, subscriber, tmp_path):
        (tmp_path / "shut").touch()
        (tmp_path / "quota").write_text("1.5")  # the older figure
        worker = process(HANDS, str(tmp_path), "--delivery", "stream", **SIXTEEN).ready()
        batch = publisher.publish(months(1))
        assert wait_until(lambda: (tmp_path / "asked").exists())
        worker.pause()
        subscriber(FakeSite(), **SIXTEEN)
        assert batch.wait(60).done == 1
        (tmp_path / "shut").unlink()
        worker.resume()
        assert wait_until(lambda: Counter(batch.events()["outcome"]) == {"done": 1, "superseded": 1})
        assert redis.execute_command("TS.GET", keys.series(months(1)[0].document, "quota"))[1] == 2021.01
        assert not redis.exists(keys.changes(months(1)[0].document))
        assert worker.stop() == 0

    def test_fails_no_job_of_the_worker_that_has_its_name_now(self, redis, keys, publisher, process, tmp_path):
        (tmp_path / "shut").touch()
        given = {**SIXTEEN, "max_attempts": 1}
        worker = process(HANDS, str(tmp_path), "--delivery", "stream", **given).ready()
        batch = publisher.publish(months(1))
        assert wait_until(lambda: owners(redis, keys).total() == 1)
        (name,) = owners(redis, keys)
        assert wait_until(lambda: (tmp_path / "asked").exists())
        worker.pause()
        assert wait_until(lambda: not redis.exists(keys.worker(name)))
        heir = process(HANDS, str(tmp_path), "--delivery", "stream", **given).ready()
        assert heir.last_words == f"READY {name}"
        assert wait_until(lambda: len((tmp_path / "asked").read_text().splitlines()) == 2)
        (tmp_path / "fails").write_text(str(worker.pid))
        worker.resume()
        assert wait_until(lambda: "taking another name" in worker.output or redis.zscore(keys.workers, name))
        (tmp_path / "shut").unlink()
        assert batch.wait(60).done == 1
        assert wait_until(lambda: Counter(batch.events()["outcome"]) == {"done": 1, "superseded": 1})
        assert redis.xlen(keys.dead) == 0


class TestNothingIsTaken:
    def test_from_a_worker_whose_job_is_long(self, redis, keys, publisher, subscriber):
        slow = GatedSite()
        subscriber(slow, **SIXTEEN)
        batch = publisher.publish(months(3))
        assert all(slow.inside.acquire(timeout=60) for _ in range(3))
        other = subscriber(FakeSite(), **SIXTEEN)
        keeps_house(redis, keys, other.name, times=8)
        slow.gate.set()
        assert batch.wait(60).done == 3
        assert slow.asked.total() == 3

    def test_from_a_consumer_that_is_not_a_worker(self, redis, keys, publisher, subscriber):
        """Such as redis-cli or a lesson, which has no heartbeat to stop."""
        publisher.publish(months(1))
        redis.xreadgroup(keys.group, "by hand", {keys.jobs: ">"})
        other = subscriber(FakeSite(), **SIXTEEN)
        keeps_house(redis, keys, other.name, times=8)
        assert owners(redis, keys) == {"by hand": 1}

    def test_by_a_worker_whose_own_heartbeat_paused(self, redis, namespace, keys, publisher, monkeypatch):
        """After a break that all workers had, the others seem dead until their next heartbeat."""
        import asyncio

        settings = Settings.load(namespace=namespace, **SIXTEEN)

        async def live() -> None:
            worker = Worker(redis, FakeSite(), delivery="stream", settings=settings)
            await worker.start()
            publisher.publish(months(1))
            redis.xreadgroup(keys.group, "ghost", {keys.jobs: ">"})
            redis.zadd(keys.workers, {"ghost": time.time()})
            clock = time.monotonic
            monkeypatch.setattr(registry.time, "monotonic", lambda: clock() + 10)
            await worker.step()
            assert owners(redis, keys) == {"ghost": 1}
            for seconds in (10.2, 10.4, 10.6, 10.8, 11.0):
                monkeypatch.setattr(registry.time, "monotonic", lambda seconds=seconds: clock() + seconds)
                await worker.step()
            assert worker.outcomes == {"done": 1}
            await worker.close()

        asyncio.run(live())


def keeps_house(redis, keys, name: str, times: int) -> None:
    """Wait until a worker has sent so many heartbeats."""
    seen = set()

    def beaten() -> bool:
        seen.add(json.loads(redis.get(keys.worker(name)) or "{}").get("beat_at"))
        return len(seen) > times

    assert wait_until(beaten)


def test_a_retry_is_fed_when_it_is_due_not_with_the_next_heartbeat(subscriber, publisher, redis, keys):
    """Make eleven attempts, 10 ms apart, within the time between two heartbeats."""

    def fails(request):
        raise OSError("reset")

    worker = subscriber(
        FakeSite(fails), delivery="stream", backoff=0.01, backoff_limit=0.01, max_attempts=12, lease=60.0
    )
    keeps_house(redis, keys, worker.name, times=1)  # a heartbeat has just been sent
    before = json.loads(redis.get(keys.worker(worker.name)))["beat_at"]
    batch = publisher.publish(months(1))
    assert batch.wait(60, progress=False).failed == 1
    beats = round(json.loads(redis.get(keys.worker(worker.name)))["beat_at"] - before)
    assert beats < 11, "each attempt waited for a heartbeat"
