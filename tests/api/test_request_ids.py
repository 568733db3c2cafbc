"""A request is known by one id: in the pricer's response, in the message, in the event and in the worker's log."""

from __future__ import annotations

import json
import logging
import os
import socket

import pytest
from support.fakes import FakeSite
from support.pricer import CNPJ, FakeSearch, command, pricer, service

import scraperkit as sk
from scraperkit.cli.logs import JsonLines
from scraperkit.errors import PageChanged
from scraperkit.keys import Keys
from scraperkit.models import REQUEST_ID, ScrapeRequest

HEADER = "X-Request-ID"
QUARTER = {"document": CNPJ, "from_date": "2022-01", "to_date": "2022-03"}
JSON = {"SCRAPERKIT_LOG_FORMAT": "json"}


def lines(log: str) -> list[dict[str, str]]:
    """Read a log: every line is an object."""
    return [json.loads(line) for line in log.splitlines()]


def test_one_id_goes_from_the_pricer_to_the_log_of_the_worker(redis, redis_url):
    with service(redis_url, **JSON) as running:
        responses = [running.client.post("/v1/funds", json=QUARTER, headers={HEADER: "order-7"})]
        other = QUARTER | {"from_date": "2022-04", "to_date": "2022-05"}
        responses.append(running.client.post("/v1/funds", json=other))
        assert [response.status_code for response in responses] == [202, 202]
        given, made = (response.headers[HEADER] for response in responses)
        assert given == "order-7"
        assert REQUEST_ID.fullmatch(made)

        keys = Keys(running.namespace)
        messages = [json.loads(entry["message"]) for _, entry in redis.xrange(keys.jobs)]
        assert [message["request_id"] for message in messages] == [given] * 3 + [made] * 2

        environment = os.environ | JSON | {"REDIS_URL": redis_url, "SCRAPERKIT_NAMESPACE": running.namespace}
        with command("work", "--url", running.site_url, environment=environment) as (worker, name):
            batches = [
                sk.Batch.find(redis, response.json()["batch_id"], namespace=running.namespace) for response in responses
            ]
            for batch in batches:
                assert batch.wait(60, progress=False).failed == 0
            for batch, expected in zip(batches, (given, made), strict=True):
                assert set(batch.events()["request_id"]) == {expected}
    told = [line for line in lines(worker.said) if "request_id" in line]
    for expected, jobs in ((given, 3), (made, 2)):
        settled = [line["message"] for line in told if line["request_id"] == expected]
        assert sum(int(text.removeprefix("settled: ").split()[0]) for text in settled) == jobs, told
    assert {line["worker"] for line in told} == {name}
    of_pricer = [line for line in lines(running.process.said) if line.get("request_id") == "order-7"]
    assert any("POST /v1/funds" in line["message"] for line in of_pricer), running.process.said


class TestWhatACallerGives:
    @pytest.mark.parametrize("unfit", ["", "two words", "x" * 65, 'a"b', "a\\n", "ação".encode(), "<b>", "a/b"])
    def test_an_invalid_id_is_replaced(self, redis_url, namespace, unfit):
        with pricer(redis_url, namespace) as api:
            made = api.get("/health", headers={HEADER: unfit}).headers[HEADER]
        assert REQUEST_ID.fullmatch(made)
        assert made != unfit

    def test_an_id_sent_twice_is_replaced(self, redis_url, namespace):
        with pricer(redis_url, namespace) as api:
            response = api.get("/health", headers=[(HEADER, "one"), (HEADER, "two")])
        assert response.headers.get_list(HEADER) not in (["one"], ["two"], ["one", "two"])
        assert REQUEST_ID.fullmatch(response.headers[HEADER])

    def test_requests_on_one_connection_have_different_ids(self, redis_url, namespace):
        with pricer(redis_url, namespace) as api:
            made = [api.get("/health").headers[HEADER] for _ in range(3)]
        assert len(set(made)) == 3

    def test_pipelined_requests_keep_their_own_ids(self, redis_url, namespace):
        asked = "".join(f"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}\r\n" for more in (f"{HEADER}: one\r\n", ""))
        with pricer(redis_url, namespace) as api:
            with socket.create_connection((api.base_url.host, api.base_url.port), timeout=60) as client:
                client.sendall(asked.encode())
                heard = b""
                while heard.lower().count(HEADER.lower().encode()) < 2 or not heard.endswith(b"}"):
                    heard += client.recv(65_536)
        one, other = (
            line.split()[1] for line in heard.decode().splitlines() if line.lower().startswith(HEADER.lower())
        )
        assert one == "one"
        assert other != "one"

    @pytest.mark.parametrize(
        ("path", "status"), [("/no/such/page", 404), ("/v1/funds?limit=0", 422), ("/v1/funds/9Z8Y7X6W01DE54", 404)]
    )
    def test_error_responses_carry_the_id(self, redis_url, namespace, path, status):
        with pricer(redis_url, namespace) as api:
            response = api.get(path, headers={HEADER: "mine"})
        assert (response.status_code, response.headers[HEADER]) == (status, "mine")

    def test_a_refusal_for_lack_of_a_key_carries_the_id(self, redis_url, namespace):
        with pricer(redis_url, namespace, api_keys="k" * 32) as api:
            response = api.get("/v1/funds", headers={HEADER: "mine"})
        assert (response.status_code, response.headers[HEADER]) == (401, "mine")

    def test_the_response_to_a_bug_and_its_log_carry_the_id(self, redis_url, namespace, caplog, monkeypatch):
        monkeypatch.setattr(caplog.handler, "formatter", JsonLines())  # all tests share the handler
        source = FakeSearch(error=ZeroDivisionError("a bug"))
        with pricer(redis_url, namespace, source) as api:
            response = api.post("/v1/funds", json=QUARTER, headers={HEADER: "mine"})
        assert (response.status_code, response.headers[HEADER]) == (500, "mine")
        failed = [line for line in lines(caplog.text) if line["level"] == "ERROR"]
        assert {line["request_id"] for line in failed} == {"mine"}
        assert any("ZeroDivisionError: a bug" in line.get("exception", "") for line in failed)


class Talking(FakeSite):
    """A source that logs while it fetches, and fails."""

    def fetch(self, request):
        logging.getLogger("a.source").warning("fetching %s", request.month_year)
        raise PageChanged("there is no such page", "http://site.example/page")


def test_every_log_line_of_a_failing_job_carries_the_id(redis, namespace, caplog, monkeypatch):
    monkeypatch.setattr(caplog.handler, "formatter", JsonLines())  # all tests share the handler
    requests = [
        ScrapeRequest(document=CNPJ, month_year="01/2022", request_id="one"),
        ScrapeRequest(document=CNPJ, month_year="02/2022"),
    ]
    with sk.Subscriber(redis, Talking(), threads=1, namespace=namespace):
        batch = sk.Publisher(redis, namespace=namespace).publish(requests)
        assert batch.wait(60, progress=False).failed == 2
    assert dict(zip(batch.events()["month"], batch.events()["request_id"], strict=True)) == {
        "01/2022": "one",
        "02/2022": "",
    }
    of_jobs = {line["message"]: line.get("request_id", "") for line in lines(caplog.text) if "/2022" in line["message"]}
    assert len(of_jobs) == 4, of_jobs
    assert all((told == "one") == ("01/2022" in message) for message, told in of_jobs.items()), of_jobs


class TestOnTheWire:
    def test_a_message_without_an_id_lacks_the_field(self):
        request = ScrapeRequest(document=CNPJ, fund_pk="132922", month_year="12/2022")
        assert "request_id" not in json.loads(request.to_json())

    def test_the_id_changes_neither_job_nor_batch(self, publisher):
        plain = ScrapeRequest(document=CNPJ, fund_pk="132922", month_year="12/2022")
        asked = ScrapeRequest(document=CNPJ, fund_pk="132922", month_year="12/2022", request_id="one")
        assert asked.message_id == plain.message_id
        assert publisher.publish(asked).id == publisher.publish(plain).id
        assert ScrapeRequest.parse(asked.to_json()) == asked

    @pytest.mark.parametrize("unfit", ["", "two words", "x" * 65, 7])
    def test_an_invalid_id_in_a_message_is_named(self, unfit):
        with pytest.raises(sk.errors.BadMessage, match="request_id"):
            ScrapeRequest.parse(json.dumps({"document": CNPJ, "month_year": "12/2022", "request_id": unfit}))
