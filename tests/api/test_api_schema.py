"""The pricer conforms to its own OpenAPI document for any input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.pricer import CNPJ, command, pricer, service

import scraperkit as sk

TESTS = Path(__file__).parent
KEY = "schema-key-schema-key"
EXAMPLES = "12"


def test_no_input_causes_an_undocumented_response(redis_url, tmp_path):
    """All checks of schemathesis but one, on examples, boundary values, random input, and sequences of calls."""
    given = os.environ | {"REDIS_URL": redis_url}
    archive = tmp_path / "archive"
    with sk.Replica.start() as site, sk.OpenData(site.open_data_url, archive=archive) as market:
        site.portal.crawl_delay = 0
        market.update_registry()
    settings = {"SCRAPERKIT_API_KEYS": KEY, "SCRAPERKIT_API_RATE": "0", "SCRAPERKIT_ARCHIVE": str(archive)}
    with service(redis_url, **settings) as running:
        work = ("work", "--threads", "2", "--url", running.site_url, "--namespace", running.namespace)
        with command(*work, environment=given):
            ended = subprocess.run(
                [
                    *(Path(sys.executable).parent / "schemathesis", "--config-file", TESTS / "schemathesis.toml"),
                    *("run", f"{running.client.base_url}/openapi.json", "--header", f"X-API-Key: {KEY}"),
                    *("--max-examples", EXAMPLES, "--request-timeout", "60", "--warnings", "off", "--no-color"),
                    *("--generation-database", "none", *(["--seed", "1"] if os.environ.get("CI") else [])),
                ],
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(TESTS), "SCHEMATHESIS_HOOKS": "schema_hooks"},
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
    assert ended.returncode == 0, ended.stdout[-20_000:] + ended.stderr
    assert "Tested: 17" in ended.stdout


@pytest.fixture
def document(redis_url, namespace):
    with pricer(redis_url, namespace, api_keys=KEY) as api:
        return api.get("/openapi.json").json()


def test_every_operation_has_a_description_and_problem_documents(document):
    operations = [
        (method, path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    assert len(operations) == 18
    for method, path, operation in operations:
        assert operation["summary"], path
        assert operation["description"], path
        assert operation["tags"], path
        assert ("security" in operation) == (path not in ("/health", "/ready"))
        for status, response in operation["responses"].items():
            assert response["description"] not in ("", "Validation Error")
            if status[0] in "45":
                assert list(response["content"]) == ["application/problem+json"], (method, path, status)
        if path.startswith("/v1/"):
            assert {"401", "403", "422", "429", "503"} <= set(operation["responses"]), path
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_without_keys_the_document_requires_none(redis_url, namespace):
    with pricer(redis_url, namespace) as api:
        document = api.get("/openapi.json").json()
    assert "securitySchemes" not in document["components"]
    assert not any("security" in operation for path in document["paths"].values() for operation in path.values())


def test_an_unknown_method_returns_405_and_lists_those_allowed(redis_url, namespace):
    with pricer(redis_url, namespace) as api:
        for path, allowed in (
            ("/v1/funds", "GET, POST"),
            (f"/v1/funds/{CNPJ}", "GET"),
            ("/v1/batches/00000000-0000-0000-0000-000000000000", "GET, DELETE"),
            ("/v1/dead/1-1/retry", "POST"),
            ("/health", "GET"),
        ):
            response = api.request("PATCH", path)
            assert (response.status_code, response.headers["Allow"]) == (405, allowed)
            assert response.headers["Content-Type"] == "application/problem+json"
