"""Keys of the wrong type and missing rights: no job is lost, and no single message ends a worker."""

from __future__ import annotations

import pytest
from support.fakes import FakeSite, GatedSite, months, one_quote
from support.waiting import wait_until

from scraperkit.config import Settings
from scraperkit.connection import sibling
from scraperkit.deadletters import DeadLetters
from scraperkit.errors import PageChanged, RedisError, RedisRefused, WorkerError
from scraperkit.lua import scripts
from scraperkit.publisher import Publisher
from scraperkit.subscriber import Subscriber

# A short deadline, since a worker that cannot settle a job waits for it at its end.
QUICK = Settings.load(heartbeat=0.1, stop_deadline=0.5, backoff=0.01)


def raising(error: Exception):
    def respond(request):
        raise error

    return respond


@pytest.fixture
def limited(redis, namespace):
    """A client of a separate user, and a function that changes that user's rights."""
    with sibling(redis, username=namespace, password="secret") as client:

        def may(*rights: str) -> None:
            redis.acl_setuser(
                namespace, enabled=True, passwords=["+secret"], keys=["*"], channels=["*"], commands=[*rights]
            )

        may("+@all")
        yield client, may
    redis.acl_deluser(namespace)


class TestAWriteThatIsRefused:
    """Redis rolls nothing back: what a script has deleted before stays deleted."""

    @pytest.mark.parametrize(
        ("key", "response", "second"),
        [
            ("dead", raising(PageChanged("no table")), "failed"),
            ("events", one_quote, "done"),
            ("retries", raising(OSError("reset")), "done"),
            ("history", raising(OSError("reset")), "done"),
        ],
    )
    def test_does_not_remove_the_job_from_the_stream(self, redis, namespace, keys, publisher, key, response, second):
        site = GatedSite(response)
        with (
            pytest.raises(WorkerError, match="WRONGTYPE"),
            Subscriber(redis, site, threads=1, namespace=namespace, settings=QUICK) as one,
        ):
            batch = publisher.publish(months(5))
            assert site.inside.acquire(timeout=60)
            redis.set(getattr(keys, key), "another thing")
            site.gate.set()
            assert wait_until(lambda: not one.running)
        assert redis.xlen(keys.jobs) == 5
        redis.delete(getattr(keys, key))
        site = FakeSite(response if second == "failed" else one_quote)
        with Subscriber(redis, site, threads=1, namespace=namespace):
            status = batch.wait(60)
        assert getattr(status, second) == 5
        assert len(DeadLetters(redis, namespace=namespace)) == status.failed
        assert redis.xlen(keys.jobs) == 0

    def test_because_of_a_users_rights_leaves_the_job_to_the_next_worker(
        self, redis, namespace, keys, publisher, limited
    ):
        client, may = limited
        site = GatedSite()
        with (
            pytest.raises(WorkerError, match="xadd"),
            Subscriber(client, site, threads=1, namespace=namespace, settings=QUICK) as one,
        ):
            batch = publisher.publish(months(3))
            assert site.inside.acquire(timeout=60)
            may("-xadd")
            site.gate.set()
            assert wait_until(lambda: not one.running)
        assert redis.xlen(keys.jobs) == 3
        with Subscriber(redis, FakeSite(), threads=1, settings=QUICK, namespace=namespace):
            assert batch.wait(60).done == 3

    def test_does_not_lose_the_dead_letter_of_a_failed_retry(self, redis, namespace, keys, publisher):
        with Subscriber(redis, FakeSite(raising(PageChanged("no table"))), threads=1, namespace=namespace):
            batch = publisher.publish(months(1))
            assert batch.wait(60).failed == 1
        letters = DeadLetters(redis, namespace=namespace)
        redis.delete(keys.jobs)
        redis.set(keys.jobs, "another thing")
        with pytest.raises(RedisError):
            letters.retry()
        assert (len(letters), batch.status().failed) == (1, 1)
        redis.delete(keys.jobs)
        with Subscriber(redis, FakeSite(), threads=1, namespace=namespace):
            assert letters.retry() == 1
            assert batch.wait(60).done == 1
        assert len(letters) == 0

    def test_allows_the_messages_to_be_published_again(self, redis, namespace, limited):
        client, may = limited
        publisher = Publisher(client, namespace=namespace)
        may("-xadd")
        with pytest.raises(RedisRefused):
            publisher.publish(months(2))
        may("+xadd")
        with Subscriber(redis, FakeSite(), threads=1, namespace=namespace):
            status = publisher.publish(months(2)).wait(60)
        assert (status.published, status.done) == (2, 2)


class TestABatchWithWrongKeys:
    @pytest.mark.parametrize("delivery", ["stream", "pubsub"])
    @pytest.mark.parametrize("response", [one_quote, raising(PageChanged("no table"))])
    def test_ends_no_worker(self, redis, namespace, keys, delivery, response):
        """A key of the wrong type, a count that is not a number, and a claim of the wrong type."""
        publisher = Publisher(redis, namespace=namespace, delivery=delivery)
        requests = months(4)
        redis.set(keys.batch("poison"), "another thing")
        redis.hset(keys.batch("odd"), mapping=dict.fromkeys(("published", "done", "failed"), "x"))
        with Subscriber(redis, FakeSite(response), threads=1, namespace=namespace, delivery=delivery) as one:
            for request, batch in zip(requests, ("poison", "odd", "poison"), strict=False):
                redis.hset(keys.batch("odd"), request.message_id, f"pending {request.document} {request.month_year}")
                text = request.to_json(batch_id=batch)
                redis.rpush(keys.claim(request.message_id), "another thing")
                if delivery == "stream":
                    redis.xadd(keys.jobs, {"message": text})
                else:
                    redis.publish(keys.channel, text)
            assert wait_until(lambda: sum(one.outcomes.values()) == 3)
            assert not {"superseded", "ignored"} & one.outcomes.keys()
            batch = publisher.publish(requests[3:])
            assert batch.wait(60).pending == 0
            assert one.running
        assert redis.xlen(keys.jobs) == 0


def test_a_batch_with_open_stream_messages_stays_a_stream_batch(redis, namespace, keys, publisher):
    """As a channel batch, it would count its open messages as lost, since they have no claims."""
    channel = Publisher(redis, namespace=namespace, delivery="pubsub")
    batch = publisher.publish(months(3))
    entry, _ = redis.xrange(keys.jobs, count=1)[0]
    assert scripts.cancel(redis, keys, batch.id, "stream", [(batch.jobs().index[0], entry)]) == 1
    assert channel.publish(months(3)).id == batch.id
    assert (batch.status().pending, batch.status().lost, redis.xlen(keys.jobs)) == (3, 0, 3)
    assert batch.cancel() == 3
    with Subscriber(redis, FakeSite(), threads=1, namespace=namespace, delivery="pubsub"):
        assert channel.publish(months(3)).wait(60).done == 3, "now nothing of it is in the stream"


def test_a_count_that_is_not_a_number_is_reported_by_name(redis, namespace, keys, publisher):
    batch = publisher.publish(months(1))
    redis.hset(keys.batch(batch.id), "failed", "x")
    with pytest.raises(RedisError, match=f"{keys.batch(batch.id)}: failed is 'x', not a number"):
        batch.status()
