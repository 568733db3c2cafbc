"""The Redis users of deploy/redis/users.acl: `scraperkit` has the rights that the kit needs, and no more."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import limits
import pytest
import redis as redis_py
from support.compose import Stack
from support.fakes import FakeSite, months
from support.waiting import wait_until

import scraperkit as sk
from scraperkit.cli.exits import SOFTWARE, UNAVAILABLE
from scraperkit.config import Settings
from scraperkit.connection import async_client, sibling
from scraperkit.engine.worker import Worker
from scraperkit.errors import ConfigError, RedisUnreachable, SiteUnavailable
from scraperkit.health import Health
from scraperkit.sources.politeness import Politeness

CNPJ = "18.993.924/0001-00"
# What these commands want after a key.
_MORE = {"set": ["1"], "incrby": ["1"], "expire": ["1"], "pexpire": ["1"], "decrby": ["1"]}
# Commands that affect other clients or the server: Redis always allows the first four; users need the rest.
NEEDED = {
    *("auth", "hello", "quit", "reset"),
    *(
        "ping",
        "client|id",
        "client|setinfo",
        "client|setname",
        "client|unblock",
        "evalsha",
        "script|load",
        "info",
        "role",
        "wait",
    ),
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    """Only the Redis of docker-compose.yml."""
    with Stack(tmp_path_factory.mktemp("acl")) as running:
        running.up("redis")
        yield running


@pytest.fixture
def admin(stack) -> Iterator[redis_py.Redis]:
    """The administrator; each test begins with an empty ACL log and an empty Redis."""
    with sk.connect(stack.redis_url("default")) as client:
        client.flushall()
        client.acl_log_reset()
        yield client


@pytest.fixture
def redis(stack, admin) -> Iterator[redis_py.Redis]:
    """The user of pricer and queue."""
    with sk.connect(stack.redis_url("scraperkit")) as client:
        yield client


def belongs_to(client: redis_py.Redis, user: str) -> bool:
    """Return whether a client is this user, judging by the error for CLIENT LIST."""
    with pytest.raises(redis_py.exceptions.NoPermissionError) as caught:
        client.client_list()
    return f"User {user} has no permissions" in str(caught.value)


def refused(admin: redis_py.Redis) -> list[str]:
    """Return what Redis has refused, including refusals that the kit tolerates."""
    return [f"{entry['reason']} {entry['object']} ({entry['context']})" for entry in admin.acl_log()]


def demo(stack: Stack, service: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the demo in a service's container."""
    words = ["demo", "--funds", "1", "--chart", str(folder / "demo.png")]
    return subprocess.run(
        [Path(sys.executable).parent / "scraperkit", *words],
        env=stack.environment(service),
        capture_output=True,
        text=True,
    )


class TestScraperkit:
    def test_the_one_call_and_its_update_work(self, redis, admin, monkeypatch):
        monkeypatch.setenv("SCRAPERKIT_RATE", "500")
        with sk.Replica.start() as site, sk.CvmPages(site.url) as source:
            assert len(sk.prices(CNPJ, "2023-11", "2023-11", source=source, redis=redis)) == 20
            assert sk.update(source=source, redis=redis)["new_days"].tolist() == [20]
        assert refused(admin) == []

    def test_publishing_scraping_and_reading_work(self, redis, admin, monkeypatch, tmp_path):
        monkeypatch.setenv("SCRAPERKIT_RATE", "500")
        archive = tmp_path / "archive"
        with sk.Replica.start() as site, sk.CvmPages(site.url) as source:
            site.portal.crawl_delay = 0
            with sk.OpenData(site.open_data_url, archive=archive) as market:
                market.download("2022-01", "2022-01")
            fund = source.find_fund(CNPJ)
            heard: list[sk.Stored] = []
            with sk.on_stored(redis, heard.extend), sk.Subscriber(redis, source, threads=2) as subscriber:
                for delivery, year in (("stream", 2022), ("pubsub", 2023)):
                    batch = sk.Publisher(redis, delivery=delivery).publish(fund.months(f"{year}-01", f"{year}-03"))
                    assert batch.wait(60).done == 3
                assert sk.Publisher(redis).publish(fund.months("2022-01", "2022-04"), only_missing=True).wait(60).done
                assert len(batch.events()) == 3
                assert subscriber.health().alive
                assert wait_until(lambda: len({stored.month for stored in heard}) == 7)
        reader = sk.TimeSeriesReader(redis)
        assert len(reader.prices([CNPJ])) > 100
        assert not reader.quotes([CNPJ]).empty
        assert len(reader.last()) == len(reader.funds()) == 1
        with sk.Replica.start() as site:
            monkeypatch.setenv("SCRAPERKIT_SGS_URL", site.sgs_url)
            for _ in range(2):
                assert len(sk.rates("cdi", "2022-01", "2022-01", redis=redis)) == 21
        for replace in (False, True):
            assert sk.SeriesStore(redis).write_frame(reader.quotes(), replace=replace)
        with sk.OpenData("http://127.0.0.1:9/", archive=archive) as market:
            with sk.Subscriber(redis, market):
                months = sk.Fund(reader.funds().index[0], source="open_data").months("2022-01", "2022-01")
                assert sk.Publisher(redis).publish(months).wait(60).done == 1
            assert market.load(redis, "99.101.011/0001-25")
        assert str(Health.read(redis)).startswith("workers: none")
        assert refused(admin) == []

    def test_waiting_for_replicas_is_allowed(self, redis, admin):
        settings = Settings.load(confirmations=1, confirmation_timeout=0.05)
        with pytest.raises(RedisUnreachable, match="0 of 1 replicas confirmed the write"):
            sk.Publisher(redis, settings=settings).publish(months(1))
        with sk.Subscriber(redis, FakeSite(), settings=settings):
            pass
        assert refused(admin) == []

    def test_the_rate_limit_can_begin_a_new_minute(self, stack, admin):
        """The scripts belong to a library, and run one of their commands only when a window ends."""
        scripts = Path(limits.__file__).parent.glob("resources/redis/lua_scripts/*sliding_window*.lua")
        used = {word for script in scripts for word in re.findall(r"redis\.call\(['\"](\w+)", script.read_text())}
        assert "rename" in used
        for command in used:
            words = ["scraperkit:rate:a", "scraperkit:rate:b"] if command == "rename" else ["scraperkit:rate:a"]
            told = admin.execute_command("ACL", "DRYRUN", "scraperkit", command, *words, *_MORE.get(command, ()))
            assert told == "OK", command

    def test_workers_can_share_politeness(self, redis, admin):
        politeness = Politeness(
            "https://site.example/", Settings.load(rate=100, breaker_failures=1, breaker_pause=0.01)
        )
        politeness.share(redis)
        politeness.heed(0.01)
        assert politeness.known_crawl_delay() == 0.01
        politeness.failed("as it happens")
        politeness.pause(0.01)
        assert politeness.wait(threading.Event())
        politeness.succeeded()
        assert refused(admin) == []

    def test_failures_retries_dead_letters_and_lost_messages_work(self, redis, admin):
        def fail(request):
            raise SiteUnavailable("away")

        settings = Settings.load(backoff=0.01, max_attempts=2)
        batch = sk.Publisher(redis).publish(months(2))
        with sk.Subscriber(redis, FakeSite(fail), threads=1, settings=settings):
            assert batch.wait(60).failed == 2
        letters = sk.DeadLetters(redis)
        assert (len(letters), len(letters.list())) == (2, 2)
        assert letters.retry() == 2
        assert sk.Batch.find(redis, batch.id).cancel() == 2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert sk.Publisher(redis, delivery="pubsub").publish(months(1, year=2019)).status().lost == 1
        assert not letters.drop()
        assert refused(admin) == []

    def test_dead_workers_jobs_are_taken_over_and_a_stop_hands_jobs_back(self, redis, admin):
        settings = Settings.load(lease=0.2, heartbeat=0.05)
        keys = sk.Publisher(redis).keys
        batch = sk.Publisher(redis).publish(months(3))

        async def die_and_inherit() -> None:
            redis.xreadgroup(keys.group, "dead", {keys.jobs: ">"}, count=2)
            worker = Worker(redis, FakeSite(), threads=1, settings=settings)
            await worker.start()
            while batch.status().done < 3:
                await worker.step(0.05)
            await worker.close()

        asyncio.run(die_and_inherit())
        assert refused(admin) == []

    def test_the_command_line_works(self, stack, admin, tmp_path):
        secret = tmp_path / "password"
        secret.write_text(stack.secrets()["queue/redis-password"] + "\n")
        with sk.Replica.start() as site:
            around = stack.environment("queue") | {
                "SCRAPERKIT_CVM_URL": site.url,
                "SCRAPERKIT_REDIS_PASSWORD_FILE": str(secret),
            }
            for words in (["doctor"], ["publish", CNPJ, "--from", "2022-01", "--to", "2022-01"], ["dead", "list"]):
                told = subprocess.run(
                    [Path(sys.executable).parent / "scraperkit", *words], env=around, capture_output=True, text=True
                )
                assert told.returncode == 0, told.stdout + told.stderr
        assert refused(admin) == []

    def test_a_refused_demo_says_where_it_may_run(self, stack, admin, tmp_path):
        told = demo(stack, "queue", tmp_path)
        assert (told.returncode, told.stdout) == (UNAVAILABLE, "")
        assert re.fullmatch(
            r"scraperkit: this Redis user .* `docker compose exec lab scraperkit demo`.*\n", told.stderr
        )

    def test_a_worker_without_a_right_fails_with_its_own_exit_code(self, stack, admin):
        secret = stack.secrets()["queue/redis-password"]
        admin.execute_command("ACL", "SETUSER", "crippled", "on", f">{secret}", "~*", "&*", "+@all", "-xreadgroup")
        around = stack.environment("queue")
        around["REDIS_URL"] = around["REDIS_URL"].replace("scraperkit@", "crippled@")
        told = subprocess.run(
            [Path(sys.executable).parent / "scraperkit", "work"],
            env=around,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert told.returncode == SOFTWARE
        assert "xreadgroup" in told.stderr.splitlines()[-1]
        assert secret not in told.stderr

    @pytest.mark.parametrize(
        "command",
        [
            *("FLUSHALL", "FLUSHDB", "CONFIG GET requirepass", "SHUTDOWN NOSAVE", "MONITOR", "KEYS *"),
            *(
                "ACL LIST",
                "ACL SETUSER x",
                "MODULE LIST",
                "SAVE",
                "REPLICAOF NO ONE",
                "CLIENT KILL ID 1",
                "SCRIPT FLUSH",
            ),
            *("GET other", "SET other 1", "HGETALL other:{18993924000100}:fund", "XADD other:jobs * a b", "DEL other"),
            *("TS.CREATE other:x", "TS.MADD other:x 1 1", "TS.RANGE other:x - +", "SORT scraperkit:x BY other"),
            *("PUBLISH other x", "SUBSCRIBE other", "PSUBSCRIBE *", "EVAL return(1) 0", "SCRIPT FLUSH"),
        ],
    )
    def test_keys_and_commands_of_others_are_refused(self, redis, command):
        with pytest.raises(redis_py.exceptions.NoPermissionError):
            redis.execute_command(*command.split())

    def test_scripts_have_no_further_rights(self, redis, admin):
        admin.set("other", "secret")
        script = redis.register_script("return redis.call('GET', ARGV[1])")
        with pytest.raises(redis_py.ResponseError, match="No permissions"):
            script(args=["other"])
        with pytest.raises(redis_py.ResponseError, match="No permissions"):
            redis.register_script("return redis.call('PUBLISH', 'other', 'x')")()


class TestOthers:
    @pytest.mark.parametrize(("user", "needed"), [("scraperkit", NEEDED), ("lab", NEEDED | {"monitor"})])
    def test_no_unneeded_command_that_affects_others_is_allowed(self, stack, admin, user, needed):
        kinds = ("admin", "dangerous", "connection", "scripting")
        commands = {command for kind in kinds for command in admin.acl_cat(kind)}
        assert {"client|pause", "client|kill", "script|flush", "function|flush", "flushall"} < commands - needed
        with sk.connect(stack.redis_url(user)) as client:
            for command in sorted(commands - needed):
                ((_, arity, *_),) = admin.execute_command("COMMAND INFO", command)
                words = command.split("|")
                words += ["1"] * (abs(arity) - len(words))
                # Redis refuses DEBUG and MODULE before it checks the user.
                with pytest.raises(redis_py.ResponseError, match=r"no permissions to run|command not allowed"):
                    client.execute_command(*words)

    def test_the_demo_runs_in_the_lab(self, stack, admin, tmp_path):
        told = demo(stack, "lab", tmp_path)
        assert told.returncode == 0, told.stderr
        assert (tmp_path / "demo.png").exists()
        assert refused(admin) == []

    def test_the_lab_may_monitor(self, stack, admin):
        with sk.connect(stack.redis_url("lab")) as client:
            with sk.monitor(client, namespace="lesson-1") as seen:
                client.set("lesson-1:x", 1)
        assert "SET" in set(seen.table()["command"])

    def test_no_user_connects_without_a_password(self, stack, admin):
        url = f"redis://127.0.0.1:{stack.ports['redis']}"
        for address in (url, url.replace("://", "://:wrong@"), url.replace("://", "://scraperkit:wrong@")):
            with pytest.raises(RedisUnreachable):
                sk.connect(address)

    def test_the_lab_may_use_any_namespace_but_not_administer(self, stack, admin):
        with sk.connect(stack.redis_url("lab")) as client:
            with sk.Subscriber(client, FakeSite(), threads=1, namespace="lesson-1"):
                batch = sk.Publisher(client, namespace="lesson-1").publish(months(2))
                assert batch.wait(60).done == 2
            assert refused(admin) == []
            for key in client.scan_iter("lesson-1:*"):
                client.unlink(key)
            for command in ("FLUSHALL", "CONFIG GET dir", "SHUTDOWN", "ACL LIST", "MODULE LIST"):
                with pytest.raises(redis_py.exceptions.NoPermissionError):
                    client.execute_command(*command.split())


class TestPasswordFile:
    @pytest.fixture
    def file(self, stack, admin, monkeypatch, tmp_path) -> Path:
        path = tmp_path / "password"
        path.write_text(stack.secrets()["queue/redis-password"] + "\n")
        monkeypatch.setenv("REDIS_URL", f"redis://scraperkit@127.0.0.1:{stack.ports['redis']}")
        monkeypatch.setenv("SCRAPERKIT_REDIS_PASSWORD_FILE", str(path))
        return path

    def test_the_password_file_serves_all_clients_and_is_never_shown(self, file, stack):
        with sk.connect() as client:
            assert belongs_to(client, "scraperkit")
            with sibling(client) as other:
                assert belongs_to(other, "scraperkit")

            async def user() -> str:
                async with async_client(client) as third:
                    with pytest.raises(redis_py.exceptions.NoPermissionError) as caught:
                        await third.client_list()
                    return str(caught.value)

            assert "User scraperkit has no permissions" in asyncio.run(user())
            shown = f"{client!r} {client.connection_pool!r} {client.get_connection_kwargs()} {Settings.load()!r}"
            assert file.read_text().strip() not in shown

    def test_a_new_password_needs_no_restart(self, file, admin):
        old = file.read_text().strip()
        with sk.connect() as client:
            file.write_text("another-password")
            admin.execute_command("ACL", "SETUSER", "scraperkit", ">another-password", f"<{old}")
            try:
                admin.client_kill_filter(user="scraperkit", skipme=True)
                assert belongs_to(client, "scraperkit")
                file.unlink()  # as during a replacement
                admin.client_kill_filter(user="scraperkit", skipme=True)
                assert belongs_to(client, "scraperkit")
            finally:
                admin.execute_command("ACL", "SETUSER", "scraperkit", f">{old}", "<another-password")

    def test_an_explicit_address_does_not_use_the_password_file(self, file, stack, monkeypatch):
        file.write_text("wrong")
        monkeypatch.setenv("REDIS_URL", stack.redis_url())
        sk.connect().close()
        monkeypatch.delenv("REDIS_URL")
        with pytest.raises(RedisUnreachable, match="requires a password"):
            sk.connect(f"redis://127.0.0.1:{stack.ports['redis']}")

    def test_a_wrong_password_is_reported_by_its_file_only(self, file):
        file.write_text("hunter2")
        with pytest.raises(RedisUnreachable, match="rejected the password from PasswordFile") as caught:
            sk.connect()
        assert str(file) in str(caught.value)
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("content", [b"", b"\n", b"one\ntwo\n", b"\xff", b"x" * 5000])
    def test_an_invalid_password_file_is_refused_without_its_content(self, file, content):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match="SCRAPERKIT_REDIS_PASSWORD_FILE") as caught:
            sk.connect()
        assert "one" not in str(caught.value).replace("one line", "")

    def test_a_missing_password_file_is_an_error(self, file):
        file.unlink()
        with pytest.raises(ConfigError, match=r"SCRAPERKIT_REDIS_PASSWORD_FILE: cannot read .*No such file"):
            sk.connect()
