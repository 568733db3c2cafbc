"""Several sources in one namespace: each does its own requests and no others."""

from __future__ import annotations

import threading
import warnings

import pytest
from support.fakes import FUND, FakeSite, GatedSite, months
from support.waiting import wait_until

from scraperkit.batch import Batch
from scraperkit.config import Settings
from scraperkit.deadletters import DeadLetters
from scraperkit.errors import ConfigError, WorkerError
from scraperkit.health import Health
from scraperkit.keys import Keys
from scraperkit.models import DailyQuote, Fund, ScrapeRequest
from scraperkit.publisher import Publisher
from scraperkit.replica import Replica
from scraperkit.sources import CvmPages
from scraperkit.subscriber import Subscriber
from scraperkit.timeseries.reader import TimeSeriesReader

IN_FILES = Fund(FUND.cnpj, source="files")


class Files(FakeSite):
    """A source with another name."""

    name = "files"


class GatedFiles(Files, GatedSite):
    """The same, blocked until a test opens its gate."""


def of_files(count: int) -> list[ScrapeRequest]:
    return IN_FILES.months("2021-01", f"2021-{count:02d}")


@pytest.fixture
def files(keys) -> Keys:
    return keys.of("files")


class TestTheWire:
    def test_omits_the_default_source_and_an_unknown_number(self):
        request = ScrapeRequest(document=FUND.cnpj, month_year="12/2022")
        assert request.source == "cvm_pages"
        assert "source" not in request.to_json()
        assert "fund_pk" not in request.to_json()

    def test_names_another_source_and_makes_it_another_job(self):
        one, other = months(1)[0], of_files(1)[0]
        assert '"source":"files"' in other.to_json()
        assert ScrapeRequest.parse(other.to_json()) == other
        assert other.message_id not in {
            one.message_id,
            ScrapeRequest(document=FUND.cnpj, month_year="01/2021").message_id,
        }


class TestTwoSourcesInOneSubscriber:
    """Its workers are one process: they crash, fail and start together."""

    @pytest.fixture
    def sites(self):
        sites = GatedSite(), GatedFiles()
        yield sites
        for site in sites:
            site.gate.set()

    @pytest.fixture
    def both(self, redis, namespace, sites):
        settings = {"lease": 0.4, "heartbeat": 0.1, "threads": 1, "prefetch": 0, "stop_deadline": 0.5}
        return Subscriber(redis, sites, settings=Settings.load(namespace=namespace, **settings))

    @pytest.mark.parametrize("next_job", [months(1, year=2022), IN_FILES.months("2022-01", "2022-01")])
    def test_both_crash_on_the_next_job_of_either(self, redis, keys, files, publisher, both, sites, next_job):
        """Even if the other has earlier jobs in hand; started again, both work."""
        pages, own = sites
        both.start()
        held = [publisher.publish(months(1)), publisher.publish(of_files(1))]
        assert pages.inside.acquire(timeout=60)
        assert own.inside.acquire(timeout=60)
        both.crash_next()
        of = 0 if next_job[0].source == "cvm_pages" else 1
        sites[of].gate.set()
        last = publisher.publish(next_job)
        assert wait_until(lambda: both.crashed)
        sites[1 - of].gate.set()
        both._ended.wait(60)
        assert [worker.crashed_as for worker in both.workers] != ["", ""]
        assert all(worker.crashed_as for worker in both.workers)
        assert held[1 - of].status().done == 0
        assert redis.xpending((keys, files)[1 - of].jobs, keys.group)["pending"] == 1
        with both:
            assert [batch.wait(60).done for batch in (*held, last)] == [1, 1, 1]
            assert not both.crashed

    def test_both_wind_up_if_the_engine_of_one_fails(self, redis, namespace, keys, files, publisher, both, sites):
        before = threading.active_count()
        both.start()
        batches = [publisher.publish(months(2)), publisher.publish(of_files(2))]
        assert all(site.inside.acquire(timeout=60) for site in sites)
        redis.set(files.retries, "no sorted set")
        with pytest.raises(WorkerError, match="WRONGTYPE"):
            both._ended.wait(60)
            both.stop()
        assert redis.xpending(keys.jobs, keys.group)["pending"] == 0
        assert redis.xpending(files.jobs, keys.group)["pending"] == 0
        assert not redis.exists(keys.workers, files.workers)
        for site in sites:
            site.gate.set()
        assert wait_until(lambda: threading.active_count() == before)
        redis.delete(files.retries)
        with both:
            assert [batch.wait(60).done for batch in batches] == [2, 2]


class TestEachSource:
    def test_does_its_own_requests(self, redis, namespace, publisher, keys, files):
        pages, own = FakeSite(), Files()
        with Subscriber(redis, [pages, own], namespace=namespace, threads=2) as subscriber:
            batches = [publisher.publish(months(3)), publisher.publish(of_files(4))]
            assert [str(batch.wait(60)) for batch in batches] == ["3 published, 3 done", "4 published, 4 done"]
            assert subscriber.outcomes == {"done": 7}
            health = Health.read(redis, namespace=namespace)
            assert [worker.source for worker in health.workers] == ["cvm_pages", "files"]
            assert str(health).count("(2 threads)") == str(health).count("(2 threads, files)") == 1
        assert (pages.asked.total(), own.asked.total()) == (3, 4)
        assert redis.exists(keys.jobs, files.jobs) == 2
        stored = TimeSeriesReader(redis, namespace).months()
        assert dict(zip(stored["month"], stored["source"], strict=True))["2021-04"] == "files"

    def test_leaves_the_requests_of_others_in_their_stream(self, redis, namespace, publisher, files):
        waiting = publisher.publish(of_files(2))
        with Subscriber(redis, FakeSite(), namespace=namespace):
            assert str(publisher.publish(months(2)).wait(60)) == "2 published, 2 done"
            assert redis.xlen(files.jobs) == 2
        assert Health.read(redis, namespace=namespace).lag == 2
        with Subscriber(redis, Files(), namespace=namespace):
            assert str(Batch.find(redis, waiting.id, namespace=namespace).wait(60)) == "2 published, 2 done"

    def test_ignores_the_messages_of_others_on_the_channel(self, redis, namespace, channel):
        pages, own = FakeSite(), Files()
        with (
            Subscriber(redis, pages, namespace=namespace, delivery="pubsub"),
            Subscriber(redis, own, namespace=namespace, delivery="pubsub"),
        ):
            assert str(channel.publish(of_files(3)).wait(60)) == "3 published, 3 done"
            assert str(channel.publish(months(2)).wait(60)) == "2 published, 2 done"
        assert (pages.asked.total(), own.asked.total()) == (2, 3)

    def test_without_a_worker_is_named_with_the_command_to_start_one(self, redis, namespace, publisher):
        batch = publisher.publish(of_files(1))
        with Subscriber(redis, FakeSite(), namespace=namespace):
            assert f"scraperkit work --source files --namespace {namespace}" in batch.lacks_worker()

    def test_gets_its_retries_and_dead_letters_back_in_its_own_stream(self, redis, namespace, publisher, files):
        failing = Files(lambda request: 1 / 0)
        hasty = Settings.load(namespace=namespace, backoff=0.01, max_attempts=2)
        with Subscriber(redis, failing, settings=hasty), warnings.catch_warnings():
            batch = publisher.publish(of_files(1))
            assert batch.wait(60, progress=False).failed == 1
        assert failing.asked.total() == 2
        letters = DeadLetters(redis, namespace=namespace)
        assert letters.retry() == 1
        assert redis.xlen(files.jobs) == 1
        with Subscriber(redis, Files(), namespace=namespace):
            assert batch.wait(60).done == 1

    def test_takes_over_only_jobs_of_its_own_dead_workers(self, redis, namespace, publisher):
        hasty = Settings.load(namespace=namespace, heartbeat=0.1, lease=3600)
        doomed = Subscriber(redis, Files(), threads=1, settings=hasty).start()
        doomed.crash_next()
        batch = publisher.publish(of_files(2))
        assert wait_until(lambda: doomed.crashed)
        pages = FakeSite()
        with Subscriber(redis, pages, settings=hasty), Subscriber(redis, Files(), settings=hasty):
            assert str(batch.wait(60)) == "2 published, 2 done"
        assert not pages.asked
        doomed.stop()

    def test_refuses_a_message_in_the_wrong_stream_and_names_the_right_one(self, redis, namespace, keys, files):
        with Subscriber(redis, FakeSite(), namespace=namespace):
            redis.xadd(keys.jobs, {"message": of_files(1)[0].to_json()})
            assert wait_until(lambda: redis.xlen(keys.dead) == 1)
        (letter,) = DeadLetters(redis, namespace=namespace).list()["error"]
        assert letter == f"BadMessage: source: this is the stream of cvm_pages, not of files; publish to {files.jobs}"


class TestABatch:
    def test_of_several_sources_is_refused(self, publisher):
        with pytest.raises(ConfigError, match="a batch has one source, but these have cvm_pages and files"):
            publisher.publish([*months(1), *of_files(1)])

    def test_is_cancelled_in_the_stream_of_its_source(self, redis, namespace, publisher, files):
        batch = publisher.publish(of_files(3))
        assert Batch.find(redis, batch.id, namespace=namespace).cancel() == 3
        assert redis.xlen(files.jobs) == 0

    def test_whose_stream_vanished_is_lost_even_if_another_stream_has_messages(
        self, redis, namespace, publisher, files
    ):
        publisher.publish(months(5))
        batch = publisher.publish(of_files(3))
        redis.delete(files.jobs)
        assert batch.jobs()["state"].tolist() == ["lost"] * 3


class TestSubscriber:
    @pytest.mark.parametrize(
        ("sources", "told"), [([], "none given"), ([FakeSite(), FakeSite()], "two are called cvm_pages")]
    )
    def test_refuses_no_sources_and_sources_of_one_name(self, redis, namespace, sources, told):
        with pytest.raises(ConfigError, match=told):
            Subscriber(redis, sources, namespace=namespace)

    def test_pauses_and_resumes_all_of_them(self, redis, namespace):
        publisher = Publisher(redis, namespace=namespace)
        with Subscriber(redis, [FakeSite(), Files()], namespace=namespace) as subscriber:
            subscriber.pause()
            assert subscriber.paused
            batches = [publisher.publish(months(1)), publisher.publish(of_files(1))]
            subscriber.resume()
            assert all(batch.wait(60).done == 1 for batch in batches)


def test_the_regulators_pages_look_up_the_number_that_a_message_lacks():
    with Replica.start() as site, CvmPages(site.url) as source:
        request = ScrapeRequest(document="18993924000100", month_year="12/2022")
        found = source.fetch(request)
        fund = source.find_fund("18993924000100")
        assert found == source.fetch(fund.months("2022-12", "2022-12")[0])
        assert found


class Market(FakeSite):
    """A source that reports by subclass: `told` are the subclasses and their quotas, by month."""

    name = "market"
    has_subclasses = True

    def __init__(self, told: dict[str, dict[str, float]]) -> None:
        super().__init__(self._quotes)
        self.told = told

    def _quotes(self, request: ScrapeRequest) -> list[DailyQuote]:
        told = self.told[request.month_year]
        return [DailyQuote(request.document, request.first_day, told[name], subclass=name) for name in told]


class TestSubclasses:
    @pytest.fixture
    def bring(self, redis, namespace, publisher):
        def bring(told: dict[str, dict[str, float]]) -> None:
            fund = Fund(FUND.cnpj, source="market")
            requests = [fund.months(month, month)[0] for month in (f"{text[3:]}-{text[:2]}" for text in told)]
            with Subscriber(redis, Market(told), namespace=namespace):
                assert publisher.publish(requests, force=True).wait(60).done == len(told)

        return bring

    @pytest.fixture
    def reader(self, redis, namespace):
        return TimeSeriesReader(redis, namespace)

    def test_of_one_message_are_all_stored_without_an_empty_series_for_the_class(self, bring, reader):
        bring({"01/2024": {"A1": 1.0, "B2": 2.0}})
        assert reader.funds()["days"].to_dict() == {f"{FUND.cnpj}:A1": 1, f"{FUND.cnpj}:B2": 1}
        assert reader.quotes([f"{FUND.cnpj}:B2"])["quota"].tolist() == [2.0]

    def test_missing_from_a_newer_fetch_are_withdrawn_and_logged(self, bring, reader):
        bring({"01/2024": {"A1": 1.0, "B2": 2.0}, "02/2024": {"A1": 3.0, "B2": 4.0}})
        bring({"01/2024": {"A1": 1.0}})
        assert reader.prices([f"{FUND.cnpj}:A1", f"{FUND.cnpj}:B2"]).to_dict("list") == {
            f"{FUND.cnpj}:A1": [1.0, 3.0],
            f"{FUND.cnpj}:B2": pytest.approx([float("nan"), 4.0], nan_ok=True),
        }
        (change,) = reader.changes().to_dict("records")
        assert (change["subclass"], change["old"], change["source"]) == ("B2", 2.0, "market")

    def test_replace_the_class_when_it_is_split(self, bring, reader):
        bring({"01/2024": {"": 1.0}})
        bring({"01/2024": {"A1": 1.0}})
        assert reader.quotes()[["subclass", "quota"]].to_numpy().tolist() == [["A1", 1.0]]

    def test_are_not_changed_by_the_regulators_pages(self, redis, namespace, publisher, bring, reader):
        bring({"01/2021": {"A1": 1.0}})
        with Subscriber(redis, FakeSite(), namespace=namespace):
            assert publisher.publish(months(1)).wait(60).done == 1
        assert reader.quotes()[["subclass", "quota"]].to_numpy().tolist() == [["", 2021.01], ["A1", 1.0]]

    def test_are_stored_beside_foreign_series_with_the_same_labels(self, redis, namespace, bring, reader):
        labels = ("LABELS", "kit", namespace, "metric", "quota", "cnpj", FUND.cnpj)
        for name in (f"{namespace}:mine", f"{namespace}:{{{FUND.cnpj}}}:mine", f"{namespace}:{{{FUND.cnpj}}}:A1:mine"):
            redis.execute_command("TS.CREATE", name, *labels)
        bring({"01/2024": {"A1": 1.0}})
        assert reader.prices(f"{FUND.cnpj}:A1")[f"{FUND.cnpj}:A1"].tolist() == [1.0]

    def test_that_cannot_be_a_key_fail_the_job_by_name(self, redis, namespace, publisher):
        market = Market({"01/2024": {"a{b": 1.0}})
        hasty = Settings.load(namespace=namespace, max_attempts=1)
        with Subscriber(redis, market, settings=hasty):
            batch = publisher.publish(Fund(FUND.cnpj, source="market").months("2024-01", "2024-01"))
            assert batch.wait(60, progress=False).failed == 1
        assert "subclass 'a{b'" in batch.failures()["error"].iloc[0]
