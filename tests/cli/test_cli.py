"""The command line: what a person types, and its errors."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import urllib.request

import pandas as pd
import pytest
from chaos.processes import COMMAND
from support.servers import redis_server
from support.tree import ROOT

import scraperkit as sk
from scraperkit.keys import Keys

CNPJ = "18.993.924/0001-00"
EXAMPLE = (
    '{"document": "18993924000100", "fund_pk": "132922", "month_year": "12/2022",'
    ' "message_id": "6db8704d-5b97-4c95-bb53-b052b48ed531", "acked": false}'
)


@pytest.fixture
def run(end):
    def run(*words: str, ok: bool = True, **changes: str) -> str:
        ended = end(*words, **changes)
        assert (ended.returncode == 0) == ok, ended.stdout + ended.stderr
        return ended.stdout if ok else ended.stderr

    return run


def test_the_demo_shows_a_table_and_saves_a_chart(run, tmp_path):
    told = run("demo", "--funds", "2", "--threads", "2", "--chart", "chart.png")
    assert len([line for line in told.splitlines() if line.startswith("Exemplo")]) == 2
    assert "fell by" not in told
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_the_demo_says_which_falls_may_be_payouts(run):
    told = run("demo", "--chart", "chart.png")
    assert [line for line in told.splitlines() if "fell by" in line] == [
        "Exemplo Canela-de-Ema… fell by 38% on 2022-06-15 and 10% on 2023-06-15 although nobody redeemed: "
        "a payout, or a write-down"
    ]


def exported(text: str) -> dict[str, str]:
    """The variables that lines for a shell export."""
    return dict(line.removeprefix("export ").split("=", 1) for line in text.splitlines() if line.startswith("export "))


def test_the_replica_prints_the_addresses_of_pages_portal_and_rates(environment):
    words = [COMMAND, "replica", "--port", "0"]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        ready = process.stdout.readline()
        process.stderr.readline()
        told = exported("".join(process.stderr.readline() for _ in range(5)))
        assert ready == f"READY {told['SCRAPERKIT_CVM_URL']}\n"
        for address, shown in (
            (told["SCRAPERKIT_OPEN_DATA_URL"], b"Index of /dados/FI/"),
            (told["SCRAPERKIT_SGS_URL"] + "bcdata.sgs.433/dados", b"valor"),
        ):
            with urllib.request.urlopen(address, timeout=60) as response:
                assert shown in response.read()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_the_exports_are_a_replicas_addresses_and_keep_invented_figures_apart(run, tmp_path):
    at_home = {"SCRAPERKIT_DATA": str(tmp_path), "SCRAPERKIT_ARCHIVE": "/real"}
    told = exported(run("replica", "--exports", "--port", "1234", "--rates-port", "99", REDIS_URL="", **at_home))
    assert told == {
        "SCRAPERKIT_CVM_URL": "http://127.0.0.1:1234/SWB/Sistemas/SCW/CPublica/",
        "SCRAPERKIT_OPEN_DATA_URL": "http://127.0.0.1:1235/dados/FI/",
        "SCRAPERKIT_SGS_URL": "http://127.0.0.1:99/dados/serie/",
        "SCRAPERKIT_B3_URL": "http://127.0.0.1:99/indexStatisticsProxy/IndexCall/",
        "SCRAPERKIT_OFFLINE": "1",
        "SCRAPERKIT_DATA": f"{tmp_path}/offline",
        "SCRAPERKIT_ARCHIVE": f"{tmp_path}/offline/open_data",
    }
    again = exported(run("replica", "--exports", "--port", "1234", "--rates-port", "99", REDIS_URL="", **told))
    assert again == told


def test_the_exports_name_a_namespace_if_redis_is_shared(run):
    told = exported(run("replica", "--exports", REDIS_URL="redis://127.0.0.1:1", SCRAPERKIT_NAMESPACE="team"))
    assert told["SCRAPERKIT_NAMESPACE"] == "team-offline"


def test_ports_that_no_shell_could_use_are_refused(run):
    assert "name the ports" in run("replica", "--exports", "--port", "0", ok=False)
    assert "65,537" in run("replica", "--exports", "--port", "65535", ok=False)


def test_the_version_is_shown(run):
    assert run("--version") == f"scraperkit {sk.__version__}\n"


def test_no_option_without_a_value_shows_a_type(run):
    for words in ([], ["export"], ["publish"], ["market", "load"], ["redis", "start"]):
        assert "bool" not in run(*words, "--help")


class TestPublishingAndWorking:
    def test_published_months_are_scraped_and_read_as_table_csv_and_parquet(self, run, worker, tmp_path):
        out = run("publish", CNPJ, "--from", "2022-01", "--to", "2022-03", "--wait")
        assert "3 published, 3 done" in out
        assert "2022-01-03" in run("prices", CNPJ, "--start", "2022-01-01", "--end", "2022-01-31")
        run("prices", CNPJ, "--out", "prices.csv")
        run("prices", "--out", "prices.parquet")
        read = pd.read_csv(tmp_path / "prices.csv", parse_dates=["date"], index_col="date")
        assert list(read.columns) == ["18993924000100"]
        assert len(read) == 62
        parquet = pd.read_parquet(tmp_path / "prices.parquet")
        assert (parquet["18993924000100"].to_numpy() == read["18993924000100"].to_numpy()).all()

    def test_the_documented_message_typed_into_redis_cli_starts_a_scrape(
        self, worker, redis, namespace, run, tmp_path, redis_url
    ):
        channel = Keys(namespace).channel
        argv, environment = _redis_cli(redis_url)
        heard = subprocess.run(
            [*argv, "PUBLISH", channel, EXAMPLE], env=environment, capture_output=True, text=True, check=True
        )
        assert heard.stdout.strip() == "1"
        for _ in range(200):
            if "2022-12-01" in run("prices"):
                break
        assert "2022-12-30" in run("prices")

    def test_publishing_without_waiting_prints_the_batch_id(self, run, redis, namespace):
        out = run("publish", CNPJ, "--from", "2022-01", "--to", "2022-02")
        batch_id = re.search(r"batch (\S+):", out)[1]
        assert sk.Batch.find(redis, batch_id, namespace=namespace).status().pending == 2

    def test_a_month_that_is_not_offered_is_not_an_error(self, run, worker):
        told = run("publish", CNPJ, "--from", "2023-12", "--to", "2024-02", "--wait")
        assert told.splitlines()[-1] == "3 published, 1 done, 2 not offered"
        assert "no dead letters" in run("dead", "list")


class TestSaying:
    def test_every_command_has_help_with_its_options_explained(self, run):
        names = re.findall(r"^[│ ]+([a-z]+)  ", run("--help"), flags=re.MULTILINE)
        assert {"demo", "publish", "work", "prices", "redis", "replica", "doctor"} <= set(names)
        for name in names:
            assert "Usage:" in run(name, "--help")

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["publish", "18.993.924/0001-01"], "is not a CNPJ"),
            (["publish", "33.000.167/0001-01"], "33000167000101"),
            (["publish", CNPJ, "--from", "yesterday"], "'yesterday' is not a month"),
            (["prices", "33000167000101"], "33.000.167/0001-01"),
            (["prices", "--metric", "price"], "quota"),
            (["prices", "--out", "prices.xls"], ".csv or .parquet"),
            (["prices", "--start", "soon"], "start"),
        ],
    )
    def test_a_mistake_is_reported_in_one_sentence(self, run, words, said):
        told = run(*words, ok=False)
        assert said in told
        assert len(told.strip().splitlines()) == 1

    def test_an_empty_store_is_reported(self, end):
        ended = end("prices")
        assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "scraperkit: no prices stored\n")

    def test_an_unreachable_site_is_named(self, run):
        assert "127.0.0.1:9" in run(
            "publish", CNPJ, ok=False, SCRAPERKIT_CVM_URL="http://127.0.0.1:9/", SCRAPERKIT_HTTP_RETRIES="0"
        )

    def test_an_unreachable_redis_is_named_with_the_ways_out(self, run):
        told = run("prices", ok=False, REDIS_URL="redis://:hunter2@127.0.0.1:9")
        assert "127.0.0.1:9" in told
        assert "REDIS_URL" in told
        assert "hunter2" not in told


class TestDoctor:
    def test_doctor_lists_what_works(self, run):
        out = run("doctor")
        assert "FAIL" not in out
        assert "TimeSeries" in out
        assert "none now" in out

    def test_doctor_names_the_workers(self, run, worker):
        assert "(4 threads)" in run("doctor")

    def test_doctor_says_what_is_missing_and_what_to_do(self, environment):
        changed = environment | {"SCRAPERKIT_CVM_URL": "http://127.0.0.1:9/", "REDIS_URL": "redis://127.0.0.1:9"}
        ended = subprocess.run(
            [COMMAND, "doctor"], env=changed, capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 1
        failed = [line for line in ended.stdout.splitlines() if line.startswith("FAIL")]
        assert len(failed) == 2
        assert "docker compose up redis" in failed[0]


class TestDoctorOfAServer:
    """A server that could lose data is a FAIL, with what to do."""

    @pytest.fixture
    def doctor(self, environment, tmp_path):
        def doctor(*options: str, before=lambda redis: None) -> list[str]:
            with redis_server(tmp_path, "--port", "0", *options), sk.connect(f"unix://{tmp_path}/ready.sock") as redis:
                before(redis)
                changed = environment | {
                    "REDIS_URL": f"unix://{tmp_path}/ready.sock",
                    "SCRAPERKIT_NAMESPACE": "scraperkit",
                }
                ended = subprocess.run([COMMAND, "doctor"], env=changed, capture_output=True, text=True, check=False)
            return [line for line in ended.stdout.splitlines() if line.startswith("FAIL") and " site " not in line]

        return doctor

    def test_a_well_configured_server_passes(self, doctor):
        assert doctor("--appendonly", "yes") == []

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            (("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"), "set it to noeviction"),
            (("--maxmemory", "1mb", "--maxmemory-policy", "noeviction"), "raise maxmemory"),
            (("--replicaof", "127.0.0.1 1"), "connect to its primary"),
            (("--appendonly", "no"), "set appendonly yes"),
        ],
        ids=["evicts", "full", "replica", "forgets"],
    )
    def test_a_badly_configured_server_fails(self, doctor, options, told):
        appending = () if "--appendonly" in options else ("--appendonly", "yes")
        (line,) = doctor(*options, *appending)
        assert told in line

    def test_series_with_a_retention_fail(self, doctor):
        series = "scraperkit:{18993924000100}:quota"

        def make(redis):
            labels = ("LABELS", "kit", "scraperkit", "metric", "quota", "cnpj", "18993924000100")
            redis.execute_command("TS.CREATE", series, "RETENTION", 86_400_000, *labels)
            with pytest.warns(sk.ScraperKitWarning, match="Redis deletes old samples of 1 series"):
                assert len(sk.TimeSeriesReader(redis).funds()) == 1
            for read in (sk.TimeSeriesReader(redis).prices, sk.TimeSeriesReader(redis).quotes):
                with pytest.warns(sk.ScraperKitWarning, match="Redis deletes old samples of 1 series"):
                    assert read().empty

        (line,) = doctor("--appendonly", "yes", before=make)
        assert f"`TS.ALTER {series} RETENTION 0`" in line


class TestReplica:
    def test_the_replica_serves_until_it_is_stopped(self, environment):
        command = [COMMAND, "replica", "--port", "0"]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            url = process.stdout.readline().removeprefix("READY ").strip()
            with sk.CvmPages(url) as source:
                assert source.find_fund(CNPJ).pk == "132922"
            process.send_signal(signal.SIGTERM)
            _, told = process.communicate(timeout=60)
        assert process.returncode == 0
        assert f"SCRAPERKIT_CVM_URL={url}" in told


class TestTheEmbeddedServer:
    def test_the_embedded_server_starts_prints_its_url_and_stops(self, environment, tmp_path):
        alone = {key: value for key, value in environment.items() if key != "REDIS_URL"} | {
            "SCRAPERKIT_DATA": str(tmp_path)
        }

        def redis(*words):
            ended = subprocess.run(
                [COMMAND, "redis", *words], env=alone, capture_output=True, text=True, timeout=60, check=False
            )
            return ended.returncode, ended.stdout + ended.stderr

        assert "not running" in redis("status")[1]
        assert redis("url")[0] == 1
        try:
            assert "runs until stopped" in redis("start")[1]
            assert "runs until stopped" in redis("status")[1]
            with sk.connect(redis("url")[1].strip()) as client:
                assert client.set("a", "b")
            assert redis("cli", "GET", "a") == (0, "b\n")
        finally:
            assert redis("stop") == (0, "stopped\n")
        assert "not running" in redis("status")[1]


def _redis_cli(url: str) -> tuple[list[str], dict[str, str]]:
    from urllib.parse import urlsplit

    from scraperkit.embedded import install

    parts = urlsplit(url)
    home = install.install(sk.Settings.load().cache)
    return [str(home / "bin" / "redis-cli"), "-p", str(parts.port)], os.environ | {
        "REDISCLI_AUTH": parts.password or ""
    }


def test_ctrl_c_stops_a_worker_as_cleanly_as_sigterm(environment, redis, namespace):
    with subprocess.Popen(
        [COMMAND, "work"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().startswith("READY ")
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert not redis.exists(Keys(namespace).workers)


def test_importing_the_package_starts_nothing():
    code = textwrap.dedent("""
        import threading, sys
        import scraperkit as sk
        assert threading.active_count() == 1
        assert not {"matplotlib", "jupyter_client", "typer"} & set(sys.modules), "heavy imports"
        assert set(sk.__all__) == set(dir(sk))
        assert all(hasattr(sk, name) for name in sk.__all__)
    """)
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(("extra", "words"), [("api", ["api"]), ("lab", ["doctor"])])
def test_a_missing_extra_is_named_with_a_command_that_installs_it(environment, extra, words):
    """One process does not see the packages; the command it prints then runs as a dry run, without a network."""
    hide = f"""
        import sys
        from importlib import metadata
        found = metadata.version
        def version(name):
            if name == "jupyterlab":
                raise metadata.PackageNotFoundError(name)
            return found(name)
        metadata.version = version
        sys.modules["fastapi"] = None
        sys.argv = ["scraperkit", *{words}]
        from scraperkit.cli import main
        main()
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(hide)], env=environment, capture_output=True, text=True, timeout=120
    )
    (command,) = re.findall(rf"run in the project's folder: (.*'\.\[{extra}\]')", told.stdout + told.stderr)
    rehearsal = {"PIP_DRY_RUN": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    typed = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment | rehearsal, capture_output=True, text=True, timeout=240
    )
    assert typed.returncode == 0, typed.stderr
    assert "does not provide the extra" not in typed.stderr
