"""The service: docker-compose.yml and deploy/, and the service that they start."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis as redis_py
import yaml
from support.compose import FILE, GUARDED, RATES, REPLICA, ROOT, SENTINELS, Stack, services
from support.waiting import wait_until

import scraperkit as sk
from scraperkit.cli.supervisor import SLACK
from scraperkit.config import CVM_URL, Settings
from scraperkit.models import ScrapeRequest
from scraperkit.replica.sample import load_sample

EXAMPLE = (
    '{"document": "18993924000100", "fund_pk": "132922", "month_year": "12/2022",'
    ' "message_id": "6db8704d-5b97-4c95-bb53-b052b48ed531", "acked": false}'
)
SERVICES = services()
LASTING = [name for name in SERVICES if name != "secrets"]


class TestFiles:
    def test_docker_compose_accepts_the_file(self):
        if shutil.which("docker-compose") is None:
            pytest.skip("docker-compose is not installed here")
        for words in (
            [],
            ["--profile", "replica"],
            ["--profile", "market"],
            ["--profile", "update"],
            ["--profile", "ha"],
        ):
            told = subprocess.run(
                ["docker-compose", "--file", FILE, *words, "config"], capture_output=True, text=True, cwd=ROOT
            )
            assert (told.returncode, told.stderr) == (0, "")
            assert set(yaml.safe_load(told.stdout)["services"]) >= {"redis", "pricer", "queue", "lab"}

    def test_only_what_is_needed_runs_by_default(self):
        assert {name for name, service in SERVICES.items() if "profiles" not in service} == {
            *("secrets", "redis", "pricer", "queue", "lab")
        }

    @pytest.mark.parametrize("name", SERVICES)
    def test_every_container_is_locked_down(self, name):
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["pids_limit"] <= 512
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}
        assert not {"container_name", "privileged", "pid", "ipc", "devices"} & set(service)
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
        for volume in service.get("volumes", []):
            source, target, *mode = volume.split(":")
            assert mode == ["ro"] or not source.startswith(".")
            assert mode == ["ro"] or not target.startswith("/run/secrets") or name == "secrets"

    @pytest.mark.parametrize("name", LASTING)
    def test_every_long_running_container_has_a_health_check_and_limits(self, name):
        service = SERVICES[name]
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert service["mem_limit"]
        assert service["restart"] == "unless-stopped"

    @pytest.mark.parametrize("name", ["pricer", "lab"])
    def test_health_checks_bypass_the_proxy(self, name):
        """Docker passes its proxy settings on to containers."""
        python, flag, code = SERVICES[name]["healthcheck"]["test"][1:]
        assert (python, flag) == ("python", "-c")
        with sk.Replica.start() as replica:
            code = re.sub(r"http://127.0.0.1:\d+/\w+", replica.url, code)
            proxies = {"http_proxy": "http://127.0.0.1:9/", "HTTP_PROXY": "http://127.0.0.1:9/", "no_proxy": ""}
            done = subprocess.run([sys.executable, flag, code], env=os.environ | proxies, timeout=60, check=False)
            assert done.returncode == 0
            assert sum(replica.requests.values()) == 1

    def test_only_the_maker_of_secrets_runs_as_root(self):
        for name in LASTING:
            assert "build" in SERVICES[name] or SERVICES[name]["user"] == "999:999"
        assert SERVICES["secrets"]["cap_add"] == ["CHOWN"]
        assert SERVICES["secrets"]["network_mode"] == "none"

    def test_docker_inspect_shows_no_secret(self):
        for name, service in SERVICES.items():
            for variable, value in service.get("environment", {}).items():
                assert variable.endswith("_FILE") or not re.search("PASSWORD|TOKEN|KEY|SECRET", variable), name
                assert not re.search(r"://[^/]*:[^/]*@", str(value)), name
            assert not re.search("--requirepass|token=|password", " ".join(service["command"])), name

    def test_redis_keeps_what_it_stores_and_loads_timeseries(self):
        redis = SERVICES["redis"]
        assert redis["image"] == "redis:8"
        assert redis["command"][0] == "redis-server", "else the image loads no modules"
        options = dict(zip(redis["command"][1::2], redis["command"][2::2], strict=True))
        assert (options["--appendonly"], options["--maxmemory-policy"]) == ("yes", "noeviction")
        assert f"redis:{options['--dir']}" in redis["volumes"]
        assert options["--aclfile"].startswith("/run/secrets/")

    @pytest.mark.parametrize("name", ["pricer", "queue", "lab"])
    def test_the_live_site_is_the_default_and_local_ones_are_not_throttled(self, name, monkeypatch):
        given = {"SCRAPERKIT_CVM_URL": REPLICA, "SCRAPERKIT_RATE": "60"}
        for variable in given:
            monkeypatch.delenv(variable, raising=False)
        for variables, settings in (({}, (CVM_URL, None)), (given, (REPLICA, 60.0))):
            environment = services(**variables)[name]["environment"]
            for variable in set(given) & set(environment):
                monkeypatch.setenv(variable, environment[variable])
            loaded = Settings.load()
            assert (loaded.cvm_url, loaded.rate) == settings

    def test_each_service_has_only_its_own_secrets(self):
        def secrets_of(name: str) -> dict[str, str]:
            volumes = [volume.split(":") for volume in SERVICES[name].get("volumes", [])]
            return {source: target for source, target, *_ in volumes if target.startswith("/run/secrets")}

        # Both servers have the same secrets, and so have all sentinels.
        alike = {"redis-replica": "redis"} | dict.fromkeys(SENTINELS, "sentinel")
        readers = {name: alike.get(name, name) for name in LASTING if secrets_of(name)}
        assert set(readers.values()) == {"redis", "sentinel", "pricer", "queue", "lab", "update", "market-queue"}
        for name, lot in readers.items():
            assert secrets_of(name) == {f"secrets-{lot}": "/run/secrets"}
        assert secrets_of("secrets") == {f"secrets-{lot}": f"/run/secrets/{lot}" for lot in readers.values()}
        assert not [name for name in LASTING if "group_add" in SERVICES[name]]

    def test_only_downloaders_may_write_the_archive(self):
        mounted = {
            name: volume
            for name, service in SERVICES.items()
            for volume in service.get("volumes", [])
            if "/archive" in volume
        }
        assert {mounted.pop(name) for name in ("market", "update")} == {"archive:/archive"}
        assert mounted == dict.fromkeys(("pricer", "queue", "lab", "market-queue"), "archive:/archive:ro")
        for name in ("market", "update", *mounted):
            assert SERVICES[name]["environment"]["SCRAPERKIT_ARCHIVE"] == "/archive"
        assert "--owner scraperkit --group scraperkit /archive" in (ROOT / "Dockerfile").read_text()

    def test_each_source_has_workers_and_downloaders_have_no_rights_in_redis(self):
        assert SERVICES["queue"]["command"][:4] == ["scraperkit", "work", "--source", "cvm_pages"]
        assert SERVICES["market-queue"]["command"][:4] == ["scraperkit", "work", "--source", "open_data"]
        assert SERVICES["market"]["command"] == ["scraperkit", "market", "download", "--every", "24"]
        assert "REDIS_URL" not in SERVICES["market"]["environment"]
        assert services(SCRAPERKIT_SOURCE="open_data")["pricer"]["environment"]["SCRAPERKIT_SOURCE"] == "open_data"

    def test_every_setting_exists(self):
        for service in SERVICES.values():
            for variable in service.get("environment", {}):
                if variable.startswith("SCRAPERKIT_"):
                    assert variable.removeprefix("SCRAPERKIT_").lower() in Settings.model_fields

    def test_the_stop_timeout_exceeds_that_of_a_worker(self):
        grace = float(SERVICES["queue"]["stop_grace_period"].removesuffix("s"))
        assert grace >= Settings.load().stop_deadline + SLACK

    @pytest.mark.parametrize(
        "script", ["redis/make-secrets.sh", "redis/redis-cli", "redis/sentinel.sh", "lab/start.sh"]
    )
    def test_scripts_are_valid_sh_and_executable(self, script):
        path = ROOT / "deploy" / script
        assert os.access(path, os.X_OK)
        assert subprocess.run(["/bin/sh", "-n", path]).returncode == 0
        told = subprocess.run(["git", "ls-files", "--stage", path], cwd=ROOT, capture_output=True, text=True).stdout
        assert told == "" or told.startswith("100755"), "a clone must have it so"


class TestSecrets:
    def make(self, folder: Path) -> dict[str, str]:
        subprocess.run([ROOT / "deploy/redis/make-secrets.sh", folder], check=True, cwd="/")
        return {str(path.relative_to(folder)): path.read_text() for path in folder.glob("*/*")}

    def test_secrets_are_made_once_and_all_differ(self, tmp_path):
        made = self.make(tmp_path)
        secret = {name: text for name, text in made.items() if not name.endswith((".acl", ".conf"))}
        assert set(secret) == {
            *("redis/admin-password", "pricer/redis-password", "pricer/api-keys"),
            *("queue/redis-password", "market-queue/redis-password", "update/redis-password"),
            *("lab/redis-password", "lab/lab-token"),
            *("redis/replica-password", "sentinel/redis-password", "sentinel/peer-password"),
        }
        assert len(set(secret.values())) == len(secret)
        assert all(re.fullmatch("[0-9a-f]{64}", text) for text in secret.values())
        assert self.make(tmp_path) == made
        assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*/*")} == {0o440}
        if os.geteuid() == 0:
            for path in tmp_path.glob("*/*"):
                assert path.stat().st_gid == (999 if path.parent.name in ("redis", "sentinel") else 10001)

    def test_the_user_file_has_hashes_only_and_follows_a_new_password(self, tmp_path):
        made = self.make(tmp_path)
        users = made["redis/users.acl"]
        assert "@" not in re.sub(r"[+-]@\w+", "", users)
        assert "#" not in re.sub(r" #[0-9a-f]{64}\b", "", users)
        for name in (name for name in made if name.endswith("-password") and name != "sentinel/peer-password"):
            assert f" #{hashlib.sha256(made[name].encode()).hexdigest()} " in users
        (tmp_path / "queue" / "redis-password").unlink()
        again = self.make(tmp_path)
        assert again["queue/redis-password"] != made["queue/redis-password"]
        assert again["redis/users.acl"] != users
        assert again["lab/lab-token"] == made["lab/lab-token"]


class TestGuarded:
    """The profile `ha`: a second server, and sentinels that make it the primary."""

    @pytest.fixture
    def guarded(self, tmp_path) -> Iterator[Stack]:
        given = {"SCRAPERKIT_CVM_URL": REPLICA, "SCRAPERKIT_RATE": "60", "SCRAPERKIT_CONFIRMATIONS": "1"} | GUARDED
        with Stack(tmp_path, **given) as running:
            running.up("replica", "redis-replica", *SENTINELS)
            assert wait_until(lambda: all(others(running, name) == (1, 2) for name in SENTINELS)), told(running)
            running.up("pricer", "queue")
            yield running

    def test_the_service_continues_after_a_failover(self, guarded):
        (first,) = guarded.children("redis")
        first.kill()
        order = {"document": "18.993.924/0001-00", "from_date": "01/2022", "to_date": "03/2022"}
        primary = [str(guarded.ports["redis-replica"])]
        assert wait_until(lambda: sentinel(guarded, "sentinel-1", "GET-MASTER-ADDR-BY-NAME", "prices")[1:] == primary)
        guarded.up("redis")  # without it, no replica could confirm
        assert wait_until(lambda: others(guarded, "sentinel-2", "REPLICAS") == ("ok",), 120), told(guarded)

        orders: list[Any] = []

        def is_taken() -> bool:
            try:
                orders.append(ask(guarded, "/v1/funds", order))
            except urllib.error.HTTPError as error:
                assert error.code == 503
            return bool(orders)

        assert wait_until(is_taken), guarded.logs("pricer")
        batch = orders[0]["batch_id"]
        assert wait_until(lambda: ask(guarded, f"/v1/batches/{batch}")["done"] == 3), guarded.logs("queue")
        for name in ("redis", "redis-replica"):
            with redis_py.Redis(
                port=guarded.ports[name], password=guarded.secrets()["redis/admin-password"], decode_responses=True
            ) as server:
                assert server.exists("scraperkit:{18993924000100}:quota"), name
                assert server.acl_log() == [], "nothing that replica, sentinels and services do is refused"

    def test_only_sentinels_may_configure_a_sentinel(self, guarded):
        for words in (
            ["MONITOR", "mine", "127.0.0.1", "1", "1"],
            ["SET", "prices", "quorum", "1"],
            ["REMOVE", "prices"],
        ):
            with pytest.raises(redis_py.exceptions.NoPermissionError):
                sentinel(guarded, "sentinel-1", *words)
        for line in ("sentinel-password", guarded.secrets()["sentinel/redis-password"]):
            assert line not in "".join(guarded.logs(name) for name in SENTINELS)


def sentinel(stack: Stack, name: str, *words: str, **options: Any) -> Any:
    with redis_py.Redis(port=stack.ports[name], decode_responses=True, protocol=2, **options) as client:
        return client.execute_command("SENTINEL", *words)


def others(stack: Stack, name: str, what: str = "MASTER") -> tuple[Any, ...]:
    """Return how many replicas and other sentinels a sentinel knows, or whether each replica follows the primary."""
    known = {"username": "sentinel", "password": stack.secrets()["sentinel/peer-password"]}
    found = sentinel(stack, name, what, "prices", **known)
    if what == "MASTER":
        fields = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
        return int(fields["num-slaves"]), int(fields["num-other-sentinels"])
    rows = [row if isinstance(row, dict) else dict(zip(row[::2], row[1::2], strict=True)) for row in found]
    return tuple(row["master-link-status"] for row in rows)


def told(stack: Stack) -> str:
    return "".join(stack.logs(name) for name in SENTINELS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Iterator[Stack]:
    """The service on the offline site."""
    given = {"SCRAPERKIT_CVM_URL": REPLICA, "SCRAPERKIT_RATE": "60"} | RATES
    with Stack(tmp_path_factory.mktemp("stack"), **given) as running:
        yield running


@pytest.fixture
def stack(whole) -> Stack:
    """The service with one pricer and at least one queue, whatever the previous test did."""
    if not whole.children("replica"):
        whole.up("replica")
        whole.up("pricer", "queue", queue=3)
    return whole


def ask(stack: Stack, path: str, body: Any = None, **headers: str) -> Any:
    """Send a request to the pricer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{stack.ports['pricer']}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"X-API-Key": stack.secrets()["pricer/api-keys"], "Content-Type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        error.close()
        raise


def cli(stack: Stack, *words: str) -> str:
    told = stack.exec("redis", "redis-cli", *words)
    assert told.returncode == 0, told.stderr
    return told.stdout.strip()


class TestService:
    def test_a_message_typed_by_hand_starts_a_scrape(self, stack):
        with subprocess.Popen(
            [stack.folder / "bin" / "docker", "compose", "exec", "redis", "redis-cli", "MONITOR"],
            stdout=subprocess.PIPE,
            text=True,
        ) as monitor:
            assert monitor.stdout.readline() == "OK\n"
            heard = cli(stack, "PUBLISH", "fund_parser", EXAMPLE)
            assert int(heard) == len(stack.children("queue")), "each queue hears it"
            assert any('"PUBLISH" "fund_parser"' in line for line in monitor.stdout)
            monitor.kill()
        day = "/v1/funds/18993924000100/prices?start=2022-12-01&end=2022-12-31&format=json"

        def stored() -> bool:
            try:
                return bool(ask(stack, day)["prices"])
            except urllib.error.HTTPError as error:
                assert error.code == 404
                return False

        assert wait_until(stored), stack.logs("queue")
        assert cli(stack, "HLEN", "scraperkit:{18993924000100}:months") == "1", "one of them has done it"

    def test_rates_come_from_the_replica_and_stay_in_redis(self, stack):
        told = ask(stack, "/v1/rates/cdi?start=2022-01&end=2022-01")
        assert [value["value"] for value in told["values"]] == [0.049206] * 21
        assert cli(stack, "EXISTS", "scraperkit:index:cdi") == "1"

    def test_scaling_under_load_and_a_killed_queue_lose_nothing(self, stack):
        sample = load_sample()
        funds = [fund.cnpj for fund in sample.funds if fund.active and fund.started_on.year == 2021][-8:]
        order = {"documents": funds, "from_date": "01/2022", "to_date": "12/2023"}
        # The queues are paused until everything is published, and the site until one queue is killed and others have
        # started, so all this happens under load, however fast or slow the machine is.
        (site,) = stack.children("replica")
        for queue in stack.children("queue"):
            queue.pause()
        results = ask(stack, "/v1/funds", order)["results"]
        site.pause()
        for queue in stack.children("queue"):
            queue.resume()
        batches = [result["published"]["batch_id"] for result in results]

        with sk.connect(stack.redis_url()) as redis:
            watched = [sk.Batch.find(redis, batch) for batch in batches]

            def done() -> int:
                return sum(batch.status().done for batch in watched)

            stack.up("queue", queue=5)

            def holders() -> int:
                consumers = redis.xinfo_consumers("scraperkit:jobs", "scraperkit")
                return sum(consumer["pending"] > 0 for consumer in consumers)

            assert wait_until(lambda: holders() >= 5), "each queue has jobs in hand"
            stack.children("queue")[0].kill()
            assert done() == 0
            site.resume()
            stack.up("queue", queue=1)
            assert len(stack.children("queue")) == 1
            settled = wait_until(lambda: done() == 8 * 24, 120)
            assert settled, f"{[str(batch.status()) for batch in watched]}\n{stack.logs('queue')}"

            stored = sk.TimeSeriesReader(redis).prices(funds, start="2022-01-01", end="2023-12-31")
        expected = sample.quotes.pivot(index="date", columns="cnpj", values="quota").loc["2022":"2023", funds]
        assert expected.dropna(how="all").compare(stored[funds], result_names=("expected", "stored")).empty
        for batch in batches:
            report = ask(stack, f"/v1/batches/{batch}")
            assert (report["published"], report["done"], report["failed"], report["lost"]) == (24, 24, 0, 0)
        assert not ask(stack, "/v1/dead")["dead"]
        assert cli(stack, "XLEN", "scraperkit:jobs") == "0"

    def test_open_data_workers_read_the_archive_of_another_service(self, stack):
        with sk.Replica.start() as site, sk.OpenData(site.open_data_url, archive=stack.folder / "fresh") as market:
            site.portal.crawl_delay = 0
            market.download("2024-09", "2024-10")
            market.update_registry()
        shutil.copytree(stack.folder / "fresh", stack.container("market") / "archive", dirs_exist_ok=True)
        order = {"document": "99.101.035/0001-84", "from_date": "09/2024", "to_date": "10/2024", "source": "open_data"}
        told = ask(stack, "/v1/funds", order)
        assert "scraperkit work --source open_data" in told["lacks_worker"]
        stack.up("market-queue")
        assert stack.healthy("market-queue")
        with sk.connect(stack.redis_url()) as redis:
            assert sk.Batch.find(redis, told["batch_id"]).wait(60, progress=False).done == 2
        assert len(ask(stack, f"{told['links']['prices']}?start=2024-10")["stands_for"]) > 1
        assert not (log := cli(stack, "ACL", "LOG")), log

    def test_update_makes_the_queues_fetch_only_what_is_new(self, stack):
        with (
            sk.connect(stack.redis_url()) as redis,
            sk.CvmPages(stack.environment("queue")["SCRAPERKIT_CVM_URL"]) as site,
        ):
            assert (
                sk.Publisher(redis).publish(site.find_fund("18.993.924/0001-00").months("2023-10", "2023-10")).wait(60)
            )
        assert stack.healthy("update")
        words = [word for word in SERVICES["update"]["command"] if word not in ("--every", "24")]
        told = stack.exec("update", *words, "18.993.924/0001-00")
        assert (told.returncode, told.stdout) == (0, "18.993.924/0001-00: 40 new days, the newest 2023-12-29\n"), (
            told.stderr
        )
        again = stack.exec("update", *words, "--quiet", "18.993.924/0001-00")
        assert (again.returncode, again.stdout) == (0, ""), again.stderr

    def test_health_checks_fail_for_an_unhealthy_service(self, stack):
        for name in ("redis", "pricer", "queue", "replica"):
            assert wait_until(lambda name=name: stack.healthy(name))
        for child in stack.children("pricer"):
            child.pause()
        assert not stack.healthy("pricer")
        for child in stack.children("pricer"):
            child.resume()
        assert wait_until(lambda: stack.healthy("pricer"))

    def test_requests_without_a_key_are_refused(self, stack):
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(stack, "/v1/funds", **{"X-API-Key": "wrong-wrong-wrong-wrong"})
        assert refused.value.code == 401

    def test_prometheus_sends_its_key_as_a_bearer(self, stack):
        request = urllib.request.Request(
            f"http://127.0.0.1:{stack.ports['pricer']}/metrics",
            headers={"Authorization": f"Bearer {stack.secrets()['pricer/api-keys']}"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            assert b'\nscraperkit_queue_lag{source="cvm_pages"} ' in response.read()

    def test_each_service_finds_its_own_secrets_and_no_others(self, stack):
        seen = {name: stack.exec(name, "ls", "/run/secrets").stdout.split() for name in ("redis", "pricer", "queue")}
        assert seen == {
            "redis": ["admin-password", "replica-password", "replication.conf", "users.acl"],
            "pricer": ["api-keys", "redis-password"],
            "queue": ["redis-password"],
        }

    def test_no_secret_is_visible(self, stack):
        secrets = stack.secrets()
        seen = "".join(stack.logs(name) for name in LASTING)
        for name in ("redis", "pricer", "queue", "replica"):
            for child in stack.children(name):
                process = psutil.Process(child.pid)
                seen += "\n".join([*process.cmdline(), *process.environ().values()])
        assert len(seen) > 1000
        for name, secret in secrets.items():
            assert secret not in seen, name

    def test_jupyterlab_requires_the_token_and_reaches_redis(self, stack):
        notebooks = stack.container("lab") / "home" / "scraperkit" / "notebooks"
        notebooks.mkdir()
        shutil.copy(ROOT / "notebooks" / "00_tour.ipynb", notebooks)
        stack.up("lab")
        address = f"http://127.0.0.1:{stack.ports['lab']}/api/contents"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address, timeout=60)
        refused.value.close()
        assert refused.value.code == 403
        token = {"Authorization": f"token {stack.secrets()['lab/lab-token']}"}
        with urllib.request.urlopen(urllib.request.Request(address, headers=token), timeout=60) as response:
            assert "00_tour.ipynb" in {entry["name"] for entry in json.load(response)["content"]}
        assert stack.secrets()["lab/lab-token"] not in stack.logs("lab")
        script = "import scraperkit as sk; r = sk.connect(); print(r.set('lesson-1:x', 1), r.unlink('lesson-1:x'), r)"
        told = stack.exec("lab", "python", "-c", script)
        assert told.stdout.startswith("True 1 <redis"), told.stderr
        assert stack.secrets()["lab/redis-password"] not in told.stdout

    def test_all_services_stop_cleanly(self, stack):
        running = [psutil.Process(child.pid) for name in stack.services for child in stack.children(name)]
        running += [child for process in running for child in process.children(recursive=True)]
        assert len(running) >= 4
        assert cli(stack, "ACL", "LOG") == "", "nothing that the services do is refused"
        stack.down()
        assert not [process for process in running if process.is_running()]
        assert "goodbye" in stack.logs("redis") or "bye bye" in stack.logs("redis")


def test_the_replica_listens_on_the_given_host():
    with sk.Replica.start(host="127.0.0.1") as replica:
        assert replica.url.startswith("http://127.0.0.1:")
    if sys.platform == "linux":  # where all of 127.0.0.0/8 is loopback
        with sk.Replica.start(host="127.0.0.2") as replica, urllib.request.urlopen(replica.url, timeout=60) as response:
            assert replica.url.startswith("http://127.0.0.2:")
            assert response.status == 200


def test_the_documented_message_is_valid():
    assert ScrapeRequest.parse(EXAMPLE).month_year == "12/2022"
