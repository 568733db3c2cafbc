"""Dashboard and alert rules: a service on which everything has happened exports every name in their PromQL."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.fakes import FUND, FakeSite
from support.pricer import CNPJ, FakeSearch, pricer
from support.tree import ROOT
from support.waiting import wait_until

import scraperkit as sk
from scraperkit.embedded.server import EmbeddedServer
from scraperkit.errors import PageChanged, SiteUnavailable
from scraperkit.health import Health

RULES = yaml.safe_load((ROOT / "deploy/prometheus/scraperkit.rules.yaml").read_text(encoding="utf-8"))
SCRAPING = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yaml").read_text(encoding="utf-8"))
BOARD = json.loads((ROOT / "deploy/grafana/scraperkit.json").read_text(encoding="utf-8"))
ALERTS = RULES["groups"][0]["rules"]
PANELS = BOARD["panels"]
# What Prometheus adds to each sample that it reads.
ADDED = {"job", "instance"}
WORDS = {"sum", "rate", "absent", "deriv", "delta", "avg_over_time", "histogram_quantile", "and"}
LIMIT = 256 * 2**20

Told = Mapping[str, set[str]]


def queries() -> list[str]:
    """Return all PromQL of dashboard and rules."""
    variables = [each["definition"] for each in BOARD["templating"]["list"] if "definition" in each]
    asked = [re.fullmatch(r"label_values\((\w+), (\w+)\)", each).expand(r"sum by (\2) (\1)") for each in variables]
    return [*asked, *(rule["expr"] for rule in ALERTS), *(one["expr"] for each in PANELS for one in each["targets"])]


def wrong(query: str, told: Told) -> list[str]:
    """Return the names in a query that do not exist."""
    plain = re.sub(r"\[[^\]]*\]", "", re.sub(r'"(?:[^"\\]|\\.)*"', '""', query))
    grouped = {label for some in re.findall(r"\bby \(([^)]*)\)", plain) for label in re.findall(r"\w+", some)}
    rest = re.sub(r"\bby \([^)]*\)", "", plain)
    found = []
    for name, matchers in re.findall(r"(\w+_\w+)(?:\{([^}]*)\})?(?!\w*\()", rest):
        labels = grouped | set(re.findall(r"(\w+)\s*[=!]", matchers))
        found += [name] if name not in told else sorted(labels - told[name] - ADDED)
        rest = re.sub(rf"\b{name}\b(?:\{{[^}}]*\}})?", "", rest)
    return found + sorted(set(re.findall(r"[A-Za-z_]\w*", rest)) - WORDS)


@pytest.fixture(scope="module")
def response(tmp_path_factory) -> Iterator[str]:
    """Return ``/metrics`` of a service with a lag, a dead letter, an open circuit, an archive and errors."""
    folder, namespace = tmp_path_factory.mktemp("observed"), "observed"
    with EmbeddedServer(folder / "redis") as server, sk.connect(server.url) as redis, sk.Replica.start() as site:
        redis.config_set("maxmemory", LIMIT)
        site.portal.crawl_delay = 0
        with sk.OpenData(site.open_data_url, archive=folder / "archive") as market:
            market.download("2024-12", "2024-12")

        def fails(request):
            raise PageChanged("the page has changed", "http://site.example/page")

        with sk.Subscriber(redis, FakeSite(fails), threads=1, namespace=namespace):
            sk.Publisher(redis, namespace=namespace).publish(FUND.months("2022-01", "2022-01")).wait(60, progress=False)
        site.error_rate = 1.0
        with sk.CvmPages(
            site.url, settings=sk.config.Settings.load(http_retries=0, breaker_failures=1, breaker_pause=600)
        ) as pages:
            pages.politeness.share(redis)
            with pytest.raises(SiteUnavailable):
                pages.fetch(FUND.months("2022-01", "2022-01")[0])
        source = FakeSearch()
        with (
            pricer(server.url, namespace, source, archive=folder / "archive") as api,
            sk.Subscriber(redis, FakeSite(), threads=1, namespace=namespace, delivery="pubsub"),
        ):
            assert api.post(
                "/v1/funds", json={"document": CNPJ, "from_date": "2022-02", "to_date": "2022-03"}
            ).is_success
            source.error = ZeroDivisionError("a bug")
            asked = {"document": "99101011000125", "from_date": "2022-02"}
            # The server closes the connection after a bug: the next request needs another.
            assert api.post("/v1/funds", json=asked, headers={"Connection": "close"}).is_server_error
            assert wait_until(lambda: Health.read(redis, namespace=namespace).alive)
            yield api.get("/metrics").text


@pytest.fixture(scope="module")
def told(response) -> Told:
    """The names of its samples, each with its labels."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(response):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def value(response: str, name: str) -> float:
    return max(
        sample.value
        for family in text_string_to_metric_families(response)
        for sample in family.samples
        if sample.name == name
    )


@pytest.mark.parametrize("query", queries())
def test_every_metric_and_label_in_the_queries_exists(query, told):
    assert wrong(query, told) == []


@pytest.mark.parametrize(
    ("query", "missing"),
    [
        ("scraperkit_queue_lags > 1", ["scraperkit_queue_lags"]),
        ('scraperkit_queue_lag{origin="x"} > 1', ["origin"]),
        ("sum by (origin) (rate(scraperkit_requests_total[5m]))", ["origin"]),
        ("summe(scraperkit_up)", ["summe"]),
        ("avg_over_times(scraperkit_up[5m])", ["avg_over_times"]),
        ("queue_lag > 1", ["queue_lag"]),
    ],
)
def test_a_wrong_metric_name_is_found(query, missing, told):
    assert wrong(query, told) == missing


def test_metrics_report_what_happened(response):
    for name in ("up", "workers", "queue_lag", "queue_oldest_seconds", "dead_letters", "open_circuits"):
        assert value(response, f"scraperkit_{name}") > 0, name
    assert value(response, "scraperkit_queue_lag") == 2
    assert value(response, "scraperkit_redis_memory_limit_bytes") == LIMIT
    assert 100_000 < value(response, "scraperkit_redis_memory_bytes") < LIMIT
    assert 0 < value(response, "scraperkit_archive_age_seconds") < 600
    assert 'scraperkit_requests_total{method="POST",route="/v1/funds",status="500"} 1.0' in response


def test_without_an_archive_its_age_is_absent(redis_url, namespace, tmp_path):
    with pricer(redis_url, namespace, archive=tmp_path) as api:
        assert "scraperkit_archive_age" not in api.get("/metrics").text


def test_every_kind_of_failure_has_an_alert():
    watched = " ".join(rule["expr"] for rule in ALERTS)
    shown = " ".join(one["expr"] for each in PANELS for one in each["targets"])
    for name in ("queue_lag", "queue_oldest_seconds", "dead_letters", "open_circuits", "redis_memory", "archive_age"):
        assert f"scraperkit_{name}" in watched, name
        assert f"scraperkit_{name}" in shown, name


def test_rules_have_the_format_of_prometheus(told):
    assert set(RULES) == {"groups"}
    names = [rule["alert"] for rule in ALERTS]
    assert len(set(names)) == len(names)
    for rule in ALERTS:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "0s"))
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= set.union(set(), *told.values())
    (job,) = SCRAPING["scrape_configs"]
    assert SCRAPING["rule_files"] == ["scraperkit.rules.yaml"]
    assert job["static_configs"] == [{"targets": ["127.0.0.1:8000"]}]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus's own check is not installed")
def test_prometheus_accepts_the_rules():
    rules = ROOT / "deploy/prometheus/scraperkit.rules.yaml"
    checked = subprocess.run(["promtool", "check", "rules", rules], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_dashboard_fits_its_grid_and_any_data_source(told):
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
        assert panel["datasource"]["uid"] == "${datasource}"
        legends = " ".join(one["legendFormat"] for one in panel["targets"])
        assert set(re.findall(r"{{(\w+)}}", legends)) <= set.union(set(), *told.values())
