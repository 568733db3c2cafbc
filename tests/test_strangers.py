"""Mistakes of new users: each gets an error of one sentence, and an interrupt leaves nothing behind."""

from __future__ import annotations

import threading

import pytest
from chaos.proxy import Proxy
from support.fakes import FUND, FakeSite, GatedSite, months
from support.waiting import wait_until

from scraperkit.batch import Batch
from scraperkit.config import Settings
from scraperkit.connection import connect
from scraperkit.deadletters import DeadLetters
from scraperkit.engine.registry import live_workers
from scraperkit.errors import ConfigError, RedisUnreachable
from scraperkit.health import Health
from scraperkit.keys import Keys
from scraperkit.models import today
from scraperkit.publisher import Publisher
from scraperkit.sources import CvmPages
from scraperkit.subscriber import Subscriber
from scraperkit.timeseries.reader import TimeSeriesReader


class TestArguments:
    @pytest.mark.parametrize("url", ["", 5, "foo", "http://", "javascript:alert(1)"])
    def test_an_invalid_address_is_refused_and_does_not_mean_the_live_site(self, url):
        with pytest.raises(ConfigError, match=r"^url: '.*' is not an http:// or https:// address"):
            CvmPages(url)

    def test_a_class_instead_of_a_source_is_refused(self, redis):
        with pytest.raises(ConfigError, match=r"CvmPages is a class; give an instance: CvmPages\(...\)"):
            Subscriber(redis, CvmPages)

    def test_a_dictionary_instead_of_settings_is_refused(self, redis):
        with pytest.raises(ConfigError, match="settings: expected Settings, got dict"):
            Subscriber(redis, FakeSite(), settings={"threads": 2})

    def test_a_misspelled_setting_gets_a_suggestion(self):
        with pytest.raises(ConfigError, match="unknown setting 'thread'; did you mean threads?"):
            Settings.load(thread=2)
        with pytest.raises(ConfigError, match=r"unknown setting 'zzz'; help\(sk.Settings\) lists all"):
            Settings.load(zzz=2)

    @pytest.mark.parametrize("namespace", [5, "", "a b", "a:b", "ü", "*", "x\n"])
    def test_an_invalid_namespace_is_refused(self, namespace):
        with pytest.raises(ConfigError, match="^namespace '.*' is invalid"):
            Keys(namespace)

    def test_a_start_in_the_future_is_refused(self):
        start = f"{today().year + 1}-01"
        with pytest.raises(ConfigError, match=f"^start: {start} is after the current month"):
            FUND.months(start)


class _Interrupted(threading.Event):
    """An event on which a wait raises Ctrl-C."""

    def wait(self, timeout: float | None = None) -> bool:
        raise KeyboardInterrupt


class TestCtrlC:
    def test_during_a_start_leaves_no_worker_that_begins_later(self, redis, namespace):
        one = Subscriber(redis, FakeSite(), threads=2, namespace=namespace)
        one._ready = _Interrupted()
        with pytest.raises(KeyboardInterrupt):
            one.start()
        assert wait_until(lambda: not one.running)
        assert live_workers(redis, Keys(namespace)) == []
        one._ready = threading.Event()
        with one:
            assert Publisher(redis, namespace=namespace).publish(months(1)).wait(60).done == 1

    def test_during_a_stop_can_be_followed_by_another_stop(self, redis, namespace, monkeypatch):
        site = GatedSite()
        one = Subscriber(redis, site, threads=1, namespace=namespace).start()
        batch = Publisher(redis, namespace=namespace).publish(months(1))
        assert site.inside.acquire(timeout=60)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(one, "_ended", _Interrupted())
            one.stop()
        assert one.running
        site.gate.set()
        one.stop()
        assert not one.running
        assert batch.status().done == 1


class TestALostRedis:
    """A proxy closes the client's connection to Redis."""

    @pytest.mark.parametrize(
        "call",
        [
            Health.read,
            lambda redis: DeadLetters(redis).list(),
            lambda redis: DeadLetters(redis).retry(),
            lambda redis: len(DeadLetters(redis)),
            lambda redis: TimeSeriesReader(redis).prices(),
            lambda redis: Publisher(redis).publish(months(2)),
            lambda redis: Batch(redis, "some").status(),
            lambda redis: Batch(redis, "some").failures(),
            lambda redis: Batch(redis, "some").events(),
            lambda redis: Batch(redis, "some").cancel(),
            lambda redis: Subscriber(redis, FakeSite()).start(),
        ],
    )
    def test_raises_an_error_of_one_sentence(self, redis_url, namespace, monkeypatch, call):
        monkeypatch.setenv("SCRAPERKIT_NAMESPACE", namespace)
        with Proxy(redis_url) as proxy, connect(proxy.url) as client:
            proxy.shut()
            with pytest.raises(RedisUnreachable, match="Redis (went away|does not respond): .*[^.]$"):
                call(client)
