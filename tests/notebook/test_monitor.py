"""The monitor records every command of a namespace, none of others, and no password."""

from __future__ import annotations

import json
import threading

import pytest
import redis as redis_py
from hypothesis import given
from hypothesis import strategies as st
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.fakes import FakeSite, months
from support.servers import connections
from support.views import EVIL, shown
from support.waiting import wait_until
from support.workers import subscriber

import scraperkit as sk
from scraperkit.keys import Keys
from scraperkit.notebook.monitoring import Monitor, read_line
from scraperkit.publisher import Publisher


class TestABlock:
    def test_a_block_records_the_commands_of_publishing_and_scraping(self, redis, namespace, keys):
        with sk.monitor(redis, namespace=namespace) as seen:
            with subscriber(redis, namespace, FakeSite(), threads=1):
                Publisher(redis, namespace=namespace).publish(months(2)).wait(60)
        table = seen.table()
        assert {column: str(dtype) for column, dtype in table.dtypes.items()} == {
            "time": "datetime64[us, UTC]",
            **dict.fromkeys(("client", "command", "key", "arguments"), "str"),
        }
        assert table["time"].is_monotonic_increasing
        by_script = table[table["client"] == "lua"]
        assert list(by_script[by_script["command"] == "XADD"]["key"]).count(keys.jobs) == 2
        assert {"XREADGROUP", "SUBSCRIBE", "EVALSHA"} <= set(table["command"])
        assert table["arguments"].str.contains("commit.lua").any()

    def test_a_block_records_its_last_command(self, redis, namespace):
        for number in range(20):
            with sk.monitor(redis, namespace=namespace) as seen:
                redis.set(f"{namespace}:key", str(number))
            row = seen.table().iloc[-1]
            assert (row["command"], row["key"], row["arguments"]) == ("SET", f"{namespace}:key", str(number))

    def test_a_block_ignores_other_namespaces(self, redis, namespace):
        with sk.monitor(redis, namespace=namespace) as seen:
            redis.set(f"{namespace}2:key", "x")
            redis.publish("fund_parser", "x")
            redis.delete(f"{namespace}2:key")
        assert seen.table().empty
        assert list(seen.table().columns) == ["time", "client", "command", "key", "arguments"]

    def test_a_block_leaves_no_thread_and_no_connection(self, redis, namespace):
        threads, before = threading.active_count(), connections(redis)
        with pytest.raises(ZeroDivisionError), sk.monitor(redis, namespace=namespace) as seen:
            raise ZeroDivisionError
        assert wait_until(lambda: threading.active_count() == threads and not connections(redis) - before)
        assert "stopped" in repr(seen)

    def test_a_block_keeps_a_bounded_number_and_counts_the_dropped(self, redis, namespace):
        with Monitor(redis, namespace=namespace, most=10) as seen:
            for number in range(25):
                redis.set(f"{namespace}:key", str(number))
        assert list(seen.table()["arguments"]) == [str(number) for number in range(15, 25)]
        assert seen.dropped == 15
        assert "15 older ones dropped" in repr(seen)

    def test_the_table_can_be_read_while_recording(self, redis, namespace):
        with sk.monitor(redis, namespace=namespace) as seen:
            redis.set(f"{namespace}:key", "x")
            assert wait_until(lambda: len(seen.table()) == 1)
            assert "recording" in repr(seen)

    def test_the_notebook_view_is_escaped(self, redis, namespace):
        with sk.monitor(redis, namespace=namespace) as seen:
            redis.set(f"{namespace}:key", EVIL)
        text, html = shown(seen)
        assert EVIL in text
        assert "<script" not in html

    def test_a_lost_connection_warns(self, redis, namespace):
        with pytest.warns(sk.errors.ScraperKitWarning, match="connection lost"):  # noqa: PT031  # noqa: PT031
            with sk.monitor(redis, namespace=namespace) as seen:
                redis.set(f"{namespace}:key", "x")
                assert wait_until(lambda: len(seen.table()) == 1)
                monitors = [client["id"] for client in redis.client_list() if client["cmd"] == "monitor"]
                for client_id in monitors:
                    redis.client_kill_filter(_id=client_id)
                thread = seen._thread
                assert wait_until(lambda: not thread.is_alive())
        assert len(seen.table()) == 1


class TestSeconds:
    def test_recording_for_seconds_returns_the_table(self, redis, namespace):
        with subscriber(redis, namespace, FakeSite(), heartbeat=0.05):
            table = sk.monitor(redis, seconds=2.0, namespace=namespace)
        assert Keys(namespace).workers in set(table["key"])

    @pytest.mark.parametrize("seconds", [0, -1, 601, float("nan")])
    def test_invalid_seconds_are_refused(self, redis, namespace, seconds):
        with pytest.raises(sk.errors.ConfigError, match="^seconds: "):
            sk.monitor(redis, seconds=seconds, namespace=namespace)


class TestErrors:
    def test_an_unreachable_redis_is_an_error(self, namespace):
        away = redis_py.Redis(port=1, protocol=3, decode_responses=True, retry=Retry(NoBackoff(), 0))
        with pytest.raises(sk.errors.RedisUnreachable, match="monitor: "):
            sk.monitor(away, seconds=1, namespace=namespace)

    def test_entering_a_recording_monitor_again_is_an_error(self, redis, namespace):
        with sk.monitor(redis, namespace=namespace) as seen:
            with pytest.raises(sk.errors.ConfigError, match="already recording"):
                seen.__enter__()

    def test_a_user_without_the_right_is_refused(self, redis, redis_url, namespace):
        redis.acl_setuser("pupil", enabled=True, passwords=["+s3cret"], commands=["+@all", "-monitor"], keys=["*"])
        try:
            address = redis_url.split("@")[1]
            with sk.connect(f"redis://pupil:s3cret@{address}") as pupil:
                with pytest.raises(sk.errors.RedisError, match="monitor: "):
                    sk.monitor(pupil, seconds=1, namespace=namespace)
        finally:
            redis.acl_deluser("pupil")


class TestALine:
    @given(st.lists(st.text(max_size=30), max_size=4))
    def test_a_line_is_parsed_without_losing_a_word(self, words):
        line = f"1.5 [0 127.0.0.1:1] {' '.join(_quoted(word) for word in ['xadd', 'ns:jobs', *words])}"
        command = read_line(line, Keys("ns"))
        assert command is not None
        assert (command.command, command.key, command.arguments) == ("XADD", "ns:jobs", " ".join(words)[:160])

    @pytest.mark.parametrize("name", ["AUTH", "auth", "HELLO", "ACL", "CONFIG", "MIGRATE"])
    def test_a_line_that_may_contain_a_password_is_left_out(self, name):
        assert read_line(f'1.5 [0 127.0.0.1:1] "{name}" "ns:user" "hunter2"', Keys("ns")) is None

    def test_a_line_about_the_channel_belongs_to_its_namespace(self):
        line = '1.5 [0 127.0.0.1:1] "PUBLISH" "fund_parser" "x"'
        assert read_line(line, Keys()) is not None
        assert read_line(line, Keys("ns")) is None

    def test_long_arguments_are_shortened(self):
        command = read_line(f'1.5 [0 lua] "XADD" "ns:jobs" {" ".join([_quoted("x" * 500)] * 50)}', Keys("ns"))
        assert command is not None
        assert len(command.arguments) == 160

    @pytest.mark.parametrize("line", ["", "OK", "1.5 [0 127.0.0.1:1]", "\x00"])
    def test_an_invalid_line_is_left_out(self, line):
        assert read_line(line, Keys("ns")) is None


def _quoted(word: str) -> str:
    """Return a word as MONITOR prints it: byte by byte."""
    plain = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\a": "\\a", "\b": "\\b"}
    signs = [chr(byte) for byte in word.encode()]
    shown = [plain.get(sign, sign if " " <= sign <= "~" else f"\\x{ord(sign):02x}") for sign in signs]
    return f'"{"".join(shown)}"'


def test_json_survives_parsing():
    text = json.dumps({"a": 'quo"te', "b": "ção"}, ensure_ascii=False)
    command = read_line(f'1.5 [0 unix:/tmp/a] "XADD" "ns:jobs" {_quoted(text)}', Keys("ns"))
    assert command is not None
    assert json.loads(command.arguments) == {"a": 'quo"te', "b": "ção"}
