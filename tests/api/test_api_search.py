"""``/v1/search``: funds by name, from the archive's registry, or from the site if there is none."""

from __future__ import annotations

import pytest
from support.pricer import fields, pricer

import scraperkit as sk
from scraperkit.models import today

NAME = "ipê amarelo"
SERIES = "99101012000170"


@pytest.fixture
def site():
    with sk.Replica.start() as replica:
        replica.portal.crawl_delay = 0
        yield replica


@pytest.fixture
def settings(site, tmp_path):
    return {"open_data_url": site.open_data_url, "cvm_url": site.url, "archive": tmp_path / "archive"}


@pytest.fixture
def with_registry(settings):
    with sk.OpenData(settings["open_data_url"], archive=settings["archive"]) as market:
        market.update_registry()
    return settings


@pytest.fixture
def api(redis_url, namespace, with_registry):
    with pricer(redis_url, namespace, **with_registry) as client:
        yield client


class TestTheRegistry:
    def test_the_registry_is_searched_without_any_request(self, api, site):
        asked = site.portal.requests.total()
        told = api.get("/v1/search", params={"name": NAME}).json()
        assert told["found"] == 1
        (fund,) = told["funds"]
        assert (fund["document"], fund["formatted"]) == (SERIES, "99.101.012/0001-70")
        assert "AMARELO" in fund["name"].upper()
        assert fund["status"] == "EM FUNCIONAMENTO NORMAL"
        assert fund["started_on"]
        assert (told["source"], told["as_of"]) == ("open_data", str(today()))
        assert "ODbL" in told["attribution"]
        assert site.portal.requests.total() == asked
        assert not site.requests

    def test_hits_are_sorted_by_similarity_up_to_a_limit(self, api):
        told = api.get("/v1/search", params={"name": "exemplo", "limit": 3}).json()
        assert len(told["funds"]) == 3 < told["found"]
        more = api.get("/v1/search", params={"name": "exemplo", "limit": 50}).json()
        assert more["funds"][:3] == told["funds"]
        assert len(more["funds"]) == min(50, more["found"])
        near = api.get("/v1/search", params={"name": "fundo exemplo açaí", "limit": 50}).json()["funds"]
        assert "AÇAÍ" in near[0]["name"].upper()

    def test_a_name_without_hits_returns_similar_names(self, api):
        told = api.get("/v1/search", params={"name": "ipe amarello"}).json()
        assert told["found"] == 0
        assert SERIES in [fund["document"] for fund in told["funds"]]

    @pytest.mark.parametrize("name", ["99.101.012/0001-70", "9910101200"])
    def test_cnpjs_and_their_beginnings_are_found(self, api, name):
        told = api.get("/v1/search", params={"name": name}).json()
        assert [fund["document"] for fund in told["funds"]] == [SERIES]


class TestWithoutARegistry:
    def test_the_site_is_asked_once_for_each_name(self, redis_url, namespace, settings, site):
        with sk.CvmPages(settings["cvm_url"]) as source, pricer(redis_url, namespace, source, **settings) as api:
            told = api.get("/v1/search", params={"name": NAME}).json()
            asked = site.requests.total()
            again = api.get("/v1/search", params={"name": NAME, "limit": 1}).json()
            assert told == again
            assert site.requests.total() == asked > 0
        assert told["found"] == 1
        assert [fund["document"] for fund in told["funds"]] == [SERIES]
        assert (told["source"], told["as_of"]) == ("cvm_pages", None)
        assert "CVM" in told["attribution"]
        assert not site.portal.requests

    def test_a_name_unknown_to_the_site_returns_nothing(self, redis_url, namespace, settings):
        with sk.CvmPages(settings["cvm_url"]) as source, pricer(redis_url, namespace, source, **settings) as api:
            told = api.get("/v1/search", params={"name": "no such fund"}).json()
        assert (told["funds"], told["found"]) == ([], 0)

    def test_a_site_that_is_down_returns_502(self, redis_url, namespace, settings, site):
        site.outage(600)
        with (
            sk.CvmPages(settings["cvm_url"], settings=sk.Settings.load(http_retries=0, site_patience=2)) as source,
            pricer(redis_url, namespace, source, **settings) as api,
        ):
            assert api.get("/v1/search", params={"name": NAME}).status_code == 502

    def test_without_any_searchable_source_503_says_what_to_run(self, redis_url, namespace, settings, tmp_path):
        with pricer(redis_url, namespace, **settings) as api:
            response = api.get("/v1/search", params={"name": NAME})
        assert response.status_code == 503
        assert "`scraperkit market download` fetches it" in response.json()["detail"]
        assert str(tmp_path) not in response.text


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "FIC FIM"}, "name"),
        ({"name": "a" * 201}, "name"),
        ({"name": NAME, "limit": 51}, "limit"),
        ({"name": NAME, "text": "a"}, "text"),
    ],
)
def test_an_invalid_field_returns_422_and_is_named(api, params, field):
    response = api.get("/v1/search", params=params)
    assert response.status_code == 422
    assert fields(response) == [field]
