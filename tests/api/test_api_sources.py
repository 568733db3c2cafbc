"""Sources in the pricer: the source of an order, and whether it has workers."""

from __future__ import annotations

import os

import httpx
import pytest
from support.fakes import FUND, FakeSite
from support.pricer import CNPJ, FORMATTED, FakeSearch, command, fields, pricer

import scraperkit as sk
from scraperkit.api import create_app
from scraperkit.config import Settings
from scraperkit.errors import ConfigError
from scraperkit.keys import Keys
from scraperkit.models import Fund, Month
from scraperkit.subscriber import Subscriber

SPLIT = "99101035000184"
ORDER = {"document": SPLIT, "from_date": "09/2024", "to_date": "10/2024", "source": "open_data"}


@pytest.fixture
def archive(tmp_path):
    """A folder, and settings for the portal of an offline site."""
    with sk.Replica.start() as site:
        site.portal.crawl_delay = 0
        yield {"open_data_url": site.open_data_url, "archive": tmp_path / "archive", "cvm_url": site.url}


@pytest.fixture
def api(redis_url, namespace, archive):
    with pricer(redis_url, namespace, FakeSearch({CNPJ: FUND}), **archive) as client:
        yield client


class TestAnOrder:
    def test_an_order_uses_the_regulators_pages_unless_it_names_a_source(self, api, redis, namespace):
        told = api.post("/v1/funds", json={"document": CNPJ, "from_date": "01/2022", "to_date": "02/2022"}).json()
        assert told["source"] == "cvm_pages"
        other = api.post("/v1/funds", json=ORDER).json()
        assert other["source"] == "open_data"
        assert other["fund"]["name"], "the registry of the open data has the name"
        assert other["fund"]["document"] == SPLIT
        assert other["count"] == 2
        keys = Keys(namespace)
        assert (redis.xlen(keys.jobs), redis.xlen(keys.of("open_data").jobs)) == (2, 2)

    def test_an_order_without_dates_covers_all_months_in_the_registry(self, api):
        told = api.post("/v1/funds", json={"document": SPLIT, "source": "open_data"}).json()
        card = told["fund"]
        start = Fund(SPLIT, started_on=Month.parse_iso(card["started_on"]).first_day).months()
        assert told["count"] == len(start)

    def test_an_order_of_several_funds_has_one_source(self, api):
        told = api.post("/v1/funds", json=ORDER | {"documents": [SPLIT, "18993924000100"], "document": None})
        assert told.status_code == 422
        order = {name: value for name, value in ORDER.items() if name != "document"}
        told = api.post("/v1/funds", json=order | {"documents": [SPLIT, FORMATTED]}).json()
        assert [result["published"]["source"] for result in told["results"]] == ["open_data"] * 2

    @pytest.mark.parametrize(
        ("source", "told"), [("cvm", "choose one of cvm_pages, open_data"), ("a b", "invalid form")]
    )
    def test_an_order_that_names_an_unknown_source_returns_422(self, api, source, told):
        response = api.post("/v1/funds", json=ORDER | {"source": source})
        assert response.status_code == 422
        assert fields(response) == ["source"]
        assert told in response.json()["detail"]

    def test_an_order_of_a_fund_missing_from_the_registry_returns_404(self, api):
        response = api.post("/v1/funds", json=ORDER | {"document": "11.222.333/0001-81"})
        assert (response.status_code, fields(response)) == (404, ["document"])

    def test_a_read_only_archive_without_a_registry_returns_503(self, redis_url, namespace, archive, tmp_path):
        blocked = tmp_path / "a file"
        blocked.touch()
        with pricer(redis_url, namespace, **archive | {"archive": blocked / "below"}) as client:
            response = client.post("/v1/funds", json=ORDER)
        assert response.status_code == 503
        assert "`scraperkit market download` fetches it" in response.json()["detail"]
        assert str(blocked) not in response.text


class TestABatchWithoutWorkers:
    def test_response_and_report_say_which_worker_to_start(self, api, redis, namespace):
        with Subscriber(redis, FakeSite(), namespace=namespace):  # a worker of another source
            told = api.post("/v1/funds", json=ORDER).json()
            report = api.get(told["links"]["batch"]).json()
        start = f"scraperkit work --source open_data --namespace {namespace}"
        assert start in told["lacks_worker"]
        assert start in report["lacks_worker"]
        assert (report["source"], report["pending"], report["explanation"]) == ("open_data", 2, "")

    def test_with_a_worker_nothing_is_said_and_its_prices_are_readable(self, api, redis, namespace, archive):
        with (
            sk.OpenData(archive["open_data_url"], archive=archive["archive"]) as market,
            Subscriber(redis, market, namespace=namespace),
        ):
            told = api.post("/v1/funds", json=ORDER).json()
            assert told["lacks_worker"] == ""
            assert sk.Batch.find(redis, told["batch_id"], namespace=namespace).wait(60).done == 2
        report = api.get(told["links"]["batch"]).json()
        assert (report["done"], report["lacks_worker"], report["explanation"]) == (2, "", "")
        card = api.get(told["links"]["fund"]).json()
        assert card["last_day"] == "2024-09-13", "the class ends there, and its subclasses begin"
        prices = api.get(f"{told['links']['prices']}?start=2024-10").json()
        assert len(prices["stands_for"]) == len({price["subclass"] for price in prices["prices"]}) > 1

    def test_a_failed_batch_has_the_command_lines_explanation(self, api, redis, namespace):
        hasty = Settings.load(namespace=namespace, max_attempts=1)
        with Subscriber(redis, FakeSite(lambda request: 1 / 0), settings=hasty):
            order = {"document": CNPJ, "from_date": "01/2022", "to_date": "02/2022"}
            told = api.post("/v1/funds", json=order).json()
            batch = sk.Batch.find(redis, told["batch_id"], namespace=namespace)
            assert batch.wait(60, progress=False).failed == 2
        report = api.get(told["links"]["batch"]).json()
        assert report["explanation"] == batch.explain()
        assert "ZeroDivisionError" in report["explanation"]


class TestTheDefault:
    def test_the_setting_chooses_the_default_source(self, redis_url, namespace, archive):
        app = create_app(Settings.load(namespace=namespace, source="open_data", **archive), redis_url=redis_url)
        assert app.state.backend.default_source == "open_data"
        app.state.backend.close()
        with pytest.raises(ConfigError, match="source: unknown source 'cvm'; choose one of cvm_pages, open_data"):
            create_app(Settings.load(namespace=namespace, source="cvm"), redis_url=redis_url)

    def test_a_custom_source_is_the_default_under_its_name(self, redis, redis_url, namespace):
        own = FakeSearch({CNPJ: FUND})
        own.name = "files"
        with pricer(redis_url, namespace, own) as client:
            told = client.post(
                "/v1/funds", json={"document": CNPJ, "from_date": "01/2022", "to_date": "01/2022"}
            ).json()
        assert told["source"] == "files"
        assert redis.xlen(Keys(namespace).of("files").jobs) == 1

    @pytest.mark.parametrize("words", [["--source", "open_data"], []])
    def test_the_commands_option_or_the_variable_chooses_the_default_source(self, redis_url, namespace, archive, words):
        given = {"REDIS_URL": redis_url, "SCRAPERKIT_NAMESPACE": namespace}
        given |= {"SCRAPERKIT_ARCHIVE": str(archive["archive"])}
        given |= {} if words else {"SCRAPERKIT_SOURCE": "open_data"}
        order = {name: value for name, value in ORDER.items() if name != "source"}
        said = ("api", "--port", "0", "--url", archive["open_data_url"], *words)
        with command(*said, environment=os.environ | given) as (_, url):
            assert httpx.post(f"{url}/v1/funds", json=order, timeout=60).json()["source"] == "open_data"
