"""Settings come from the environment; errors name the setting and never show its value."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from scraperkit.config import Settings
from scraperkit.errors import ConfigError
from scraperkit.keys import Keys


def test_every_setting_can_be_set_by_its_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("SCRAPERKIT_THREADS", "3")
    monkeypatch.setenv("SCRAPERKIT_NAMESPACE", "lesson")
    monkeypatch.setenv("SCRAPERKIT_DATA", str(tmp_path))
    settings = Settings.load()
    assert (settings.threads, settings.namespace, settings.data) == (3, "lesson", Path(tmp_path))


def test_redis_url_is_read_and_never_shown(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@127.0.0.1:6379")
    settings = Settings.load()
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value().endswith("6379")
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings)


def test_arguments_win_over_the_environment(monkeypatch):
    monkeypatch.setenv("SCRAPERKIT_THREADS", "3")
    assert Settings.load(threads=5).threads == 5
    assert Settings.load(threads=None).threads == 3


@pytest.mark.parametrize("value", ["many", "0", "-1", "1.5"])
def test_the_error_for_an_invalid_value_names_its_variable_and_not_the_value(monkeypatch, value):
    monkeypatch.setenv("SCRAPERKIT_THREADS", value)
    with pytest.raises(ConfigError, match="^SCRAPERKIT_THREADS: "):
        Settings.load()


def test_the_error_for_an_invalid_argument_names_the_argument(monkeypatch):
    monkeypatch.setenv("SCRAPERKIT_THREADS", "3")
    with pytest.raises(ConfigError, match="^threads: must be at least 1; SCRAPERKIT_PREFETCH: "):
        monkeypatch.setenv("SCRAPERKIT_PREFETCH", "many")
        Settings.load(threads=0)


def test_every_setting_has_a_description():
    assert all(field.description for field in Settings.model_fields.values())


class TestKeys:
    def test_all_names_are_as_documented(self):
        keys = Keys()
        assert keys.channel == "fund_parser"
        assert (keys.jobs, keys.dead, keys.group) == ("scraperkit:jobs", "scraperkit:dead", "scraperkit")
        assert keys.batch("b") == "scraperkit:batch:b"
        assert keys.events == "scraperkit:events"
        assert keys.claim("m") == "scraperkit:claim:m"
        assert keys.fund("18993924000100") == "scraperkit:{18993924000100}:fund"
        assert keys.series("18993924000100", "quota") == "scraperkit:{18993924000100}:quota"

    def test_another_namespace_has_its_own_channel(self):
        assert Keys("lesson").channel == "lesson:fund_parser"

    @pytest.mark.parametrize("namespace", ["", "a b", "a:b", "a*", "{a}", "a(b)", "a,b", "é", "x" * 101, "a\n"])
    def test_a_namespace_that_would_break_keys_or_labels_is_refused(self, namespace):
        with pytest.raises(ConfigError, match="^namespace "):
            Keys(namespace)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("backoff", "backoff_limit", "heartbeat", "lease") for value in (math.inf, 1e300)),
        *((name, math.inf) for name in ("stop_deadline", "read_timeout", "breaker_pause", "breaker_limit")),
        ("heartbeat", 0.0001),
        ("lease", 0.0001),
        ("batch_ttl", 10**18),
        ("claim_ttl", 10**18),
    ],
)
def test_durations_that_redis_or_a_timer_would_refuse_are_refused_at_once(name, value):
    with pytest.raises(ConfigError, match=f"^{name}: must be "):
        Settings.load(**{name: value})
