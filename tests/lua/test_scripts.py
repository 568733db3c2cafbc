"""Scripts are called by name, touch one kind of keys, and share one grammar with Python."""

from __future__ import annotations

import asyncio
import math
import re
import threading
import uuid
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic_core import to_json
from support.fakes import FUND, FakeSite, months, one_quote
from support.tree import ROOT

from scraperkit.connection import async_client, sibling
from scraperkit.deadletters import DeadLetters
from scraperkit.errors import PageChanged
from scraperkit.keys import Keys
from scraperkit.lua import scripts
from scraperkit.lua.state import BATCH_FIELDS, COUNTERS, Claim, MessageState, MonthRecord
from scraperkit.models import METRICS
from scraperkit.publisher import Publisher
from scraperkit.subscriber import Subscriber
from scraperkit.timeseries.commands import SERIES_OPTIONS

FOLDER = ROOT / "scraperkit" / "lua"
ONE_LINE = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=80)
PIECES = [
    "pending",
    "held",
    "finished",
    "ours",
    "1",
    "1.5",
    "1.",
    "1e9",
    "inf",
    "nan",
    "9" * 400,
    "a/1",
    "\t",
    "\n",
    "",
]
WRITTEN_BY_HAND = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=8).map(" ".join)
EXAMPLES = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def lua(redis, expression: str, *words: str) -> str | list[str] | None:
    """Evaluate an expression after the parts that all scripts share; ``given.words`` are the words."""
    shared = "\n".join((FOLDER / f"{part}.lua").read_text(encoding="utf-8") for part in ("prelude", "state"))
    return redis.eval(f"{shared}\nreturn {expression}", 0, to_json({"words": words}))


class TestTheGrammar:
    @EXAMPLES
    @given(st.sampled_from(["pending", "running", "done", "failed", "lost", "cancelled", "not_offered"]), ONE_LINE)
    def test_a_state_that_lua_writes_is_read_by_python_and_by_lua(self, redis, state, why):
        about = f"{FUND.cnpj} 12/2022"
        written = "state_text(given.words[1], label_of(given.words[2], given.words[3]), given.words[4])"
        text = lua(redis, written, state, FUND.cnpj, "12/2022", why)
        assert MessageState.read(text) == (state, FUND.cnpj, "12/2022", why)
        assert lua(redis, "{read_state(given.words[1])}", text) == [state, about]

    @EXAMPLES
    @given(st.from_regex(r"[A-Za-z0-9_.-]{1,100}/[0-9a-f]{8}", fullmatch=True), *[st.integers(0, 10**9)] * 2)
    def test_a_claim_that_lua_writes_is_read_by_python_and_by_lua(self, redis, instance, lease, silence):
        text = lua(redis, f"held_text(given.words[1], {lease}, {silence})", instance)
        assert Claim.read(text) == Claim(instance, lease / 1000, silence / 1000)
        assert lua(redis, "holder_of(given.words[1])", text) == instance
        assert lua(redis, "tostring(is_free(given.words[1], 'any'))", text) == "false"

    def test_a_finished_claim_is_free_for_other_batches_only(self, redis, keys):
        ours, other = keys.batch("ours"), keys.batch("other")
        text = lua(redis, "finished_text(given.words[1])", ours)
        assert Claim.read(text) == Claim(batch=ours)
        for batch, free in ((ours, "false"), (other, "true"), ("", "true")):
            assert lua(redis, "tostring(is_free(given.words[1], given.words[2]))", text, batch) == free

    def test_a_months_record_is_the_same_from_lua_and_python(self, redis):
        words = ["1700000003", "1700000001.250000", "cvm_pages", "8ab2c3d4e5f60718"]
        text = lua(redis, f"record_text({', '.join(f'given.words[{i}]' for i in range(1, 5))}, 0, 0)", *words)
        record = MonthRecord.read(text)
        assert record == (1700000003.0, 1700000001.25, *words[2:])
        assert record.text == text
        names = ("fetched_at", "source", "digest", "changed", "withdrawn")
        read = f"(function(known) return {{{', '.join(f'known.{name}' for name in names)}}} end)"
        assert lua(redis, f"{read}(read_record(given.words[1]))", record.text) == [*words[1:], "0", "0"]
        assert lua(redis, f"{read}(read_record(given.words[1]))", words[0]) == [], "version 1 wrote no more"

    @EXAMPLES
    @given(WRITTEN_BY_HAND)
    @example("pending")
    @example("pending 1")
    @example("held anna/1")
    @example("finished")
    @example("finished ")
    @example("5 inf s d 0 0")
    @example("5 1e400 s d 0 0")
    @example("5 0x7f s d 0 0")
    @example("5 8589934592 s d 0 0")
    @example("5 8589934591 s d 0 0")
    def test_lua_and_python_read_any_text_alike(self, redis, text):
        state, cnpj, month, _ = MessageState.read(text)
        assert lua(redis, "{read_state(given.words[1])}", text) == ([state, f"{cnpj} {month}"] if state else [])

        claim, ours = Claim.read(text), "ours"
        holder = lua(redis, "holder_of(given.words[1])", text)
        assert claim.instance == (holder or ("" if text.startswith("finished ") else text))
        is_free = not claim.instance and claim.batch != ours
        assert lua(redis, "tostring(is_free(given.words[1], given.words[2]))", text, ours) == str(is_free).lower()

        record = MonthRecord.read(text)
        known = lua(redis, "read_record(given.words[1]).fetched_at", text)
        assert (float(known) if known else None) == (None if math.isnan(record.fetched_at) else record.fetched_at)

    @pytest.mark.parametrize(
        ("card", "is_ours"),
        [('{"instance": "anna/1"}', "true"), ('{"instance": "anna/2"}', "false"), ("5", "true"), ("{", "true")],
    )
    def test_a_name_belongs_to_a_worker_unless_its_card_shows_another_life(self, redis, keys, card, is_ours):
        redis.set(keys.worker("anna"), card)
        name = "tostring(has_name(given.words[1], given.words[2]))"
        assert lua(redis, name, keys.worker("anna"), "anna/1") == is_ours

    def test_no_message_id_can_be_mistaken_for_a_count(self):
        assert set(COUNTERS) < BATCH_FIELDS
        assert not [field for field in BATCH_FIELDS if re.fullmatch(r"[0-9a-f-]{36}", field)]


class TestTheKeys:
    def test_a_script_touches_keys_of_one_kind_only(self, redis, namespace):
        kinds: dict[str, set[str]] = {}
        for name, named, touched in calls_during(redis, namespace, lambda: use_scripts(redis, namespace)):
            found = {kind_of(key) for key in touched}
            assert len(found) == 1, f"{name} touches {touched}"
            assert touched <= named, f"{name} touches keys that it was not given: {touched - named}"
            kinds.setdefault(name, set()).update(found)
        assert kinds.keys() == {*scripts.names().values()}
        assert kinds.pop("replace_months") == {FUND.cnpj}
        assert kinds.pop("agree_on_site") == kinds.pop("take_turn") == {"site"}
        assert set().union(*kinds.values()) == {"control"}

    def test_every_file_has_one_function_that_calls_it(self):
        source = (FOLDER / "scripts.py").read_text(encoding="utf-8")
        for name in scripts.names().values():
            assert len(re.findall(rf'(?:_run|_run_async|_words)\(\s*(?:client,\s*)?"{name}"', source)) == 1, name

    def test_a_script_that_redis_has_forgotten_is_loaded_again(self, redis, publisher, namespace):
        with Subscriber(redis, FakeSite(), threads=1, namespace=namespace):
            for month in range(1, 4):
                redis.script_flush()
                batch = publisher.publish(FUND.months(f"2021-{month:02d}", f"2021-{month:02d}"))
                assert batch.wait(30).done == 1

    def test_repeated_script_flushes_do_no_harm(self, redis, publisher, namespace):
        stop = threading.Event()

        def flush() -> None:
            with sibling(redis) as client:
                while not stop.wait(0.002):
                    client.script_flush()

        flushing = threading.Thread(target=flush)
        flushing.start()
        try:
            with Subscriber(redis, FakeSite(), threads=2, namespace=namespace):
                batches = [
                    publisher.publish(FUND.months(f"2021-{month:02d}", f"2021-{month:02d}")) for month in range(1, 13)
                ]
                assert [batch.wait(60).done for batch in batches] == [1] * 12
        finally:
            stop.set()
            flushing.join()


def use_scripts(redis, namespace: str) -> None:
    def respond(request):
        if request.month == 2:
            raise PageChanged("no table")
        return one_quote(request)

    stream, channel = (Publisher(redis, delivery=delivery, namespace=namespace) for delivery in ("stream", "pubsub"))
    with Subscriber(redis, FakeSite(respond), threads=1, namespace=namespace):
        stream.publish(months(3)).wait(30)
        channel.publish(months(1, year=2022)).wait(30)
    stream.publish(months(1, year=2023)).cancel()
    DeadLetters(redis, namespace=namespace).retry()
    keys, worker = Keys(namespace), {"consumer": "gone", "instance": "gone/1"}
    with redis.pubsub() as deaf:
        deaf.subscribe(keys.channel)
        assert deaf.get_message(timeout=5)["type"] == "subscribe"
        lost, cancelled = (channel.publish(months(1, year=year)) for year in (2024, 2025))
    cancelled.cancel()
    (message_id,) = lost.jobs().index
    scripts.pending_entries(redis, keys)
    scripts.note_lost(redis, keys, lost.id, [(message_id, "a trial", "")])
    scripts.pending_entries(redis, keys)

    async def keep_house() -> None:
        async with async_client(redis) as client:
            claims = [keys.claim(message_id)]
            await scripts.claim(
                client, keys, [(message_id, lost.id)], instance="gone/1", lease=9, silence=9, exclusive=True
            )
            await scripts.renew(client, keys, entries=["1-1"], claims=claims, lease=9, **worker)
            await scripts.hand_back(client, keys, entries=["1-1"], from_channel=[(message_id, "{}")], **worker)
            await scripts.forget(client, keys, ["gone"])
            await scripts.take_over(client, keys, {"1-1": "gone"}, consumer="heir")

    asyncio.run(keep_house())
    site = f"{namespace}.example"
    scripts.take_turn(redis, site, apart=0.0, ahead=1.0, longest=1.0)
    scripts.agree_on_site(redis, site, "pause", pause_ms=1, reason="a trial")
    scripts.agree_on_site(redis, site, "succeeded")


def calls_during(redis, namespace: str, use: Callable[[], None]) -> list[tuple[str, set[str], set[str]]]:
    """Return the name of each script that Redis ran meanwhile, the keys it was given, and those that it touched."""
    end = uuid.uuid4().hex
    lines: list[dict] = []

    def listen(monitor) -> None:
        for line in monitor.listen():
            if end in line["command"]:
                return
            lines.append(line)

    with sibling(redis).monitor() as monitor:
        thread = threading.Thread(target=listen, args=(monitor,))
        thread.start()
        use()
        redis.echo(end)
        thread.join()
    calls: list[tuple[str, set[str], set[str]]] = []
    for line in lines:
        words = line["command"].split()
        if words[0].upper() == "EVALSHA":
            named = {*words[3 : 3 + int(words[2])]}
            calls.append((scripts.names()[words[1]], named, set()))
        elif line["client_type"] == "lua":
            calls[-1][2].update(word for word in words if word.startswith((f"{namespace}:", "scraperkit:")))
    return [call for call in calls if call[2]]


def kind_of(key: str) -> str:
    """Return a key's fund, or ``site`` for the state of a site, or ``control`` for the namespace's own keys."""
    if key.startswith("scraperkit:"):
        return "site"
    return key.partition("{")[2].partition("}")[0] or "control"


def test_a_claims_renewal_is_judged_by_its_holders_settings(redis, namespace, keys, monkeypatch):
    """With any settings, a reader counts a dead worker's job as lost, and a living worker's as pending."""
    publisher = Publisher(redis, delivery="pubsub", namespace=namespace)
    with redis.pubsub() as deaf:
        deaf.subscribe(keys.channel)
        assert deaf.get_message(timeout=5)["type"] == "subscribe"
        batch = publisher.publish(months(1))
    (message_id,) = batch.jobs().index
    asyncio.run(claim_as(redis, keys, message_id, batch.id, lease=1000.0, silence=400.0))

    for reader in ({"LEASE": "1", "HEARTBEAT": "0.01"}, {"LEASE": "9000", "HEARTBEAT": "0.01"}):
        for name, value in reader.items():
            monkeypatch.setenv(f"SCRAPERKIT_{name}", value)
        redis.pexpire(keys.claim(message_id), 700_000)
        assert batch.status().lost == 0, "renewed 300 s ago, which is less than the silence of its holder"
        redis.pexpire(keys.claim(message_id), 500_000)
        assert batch.status().lost == 1, "renewed 500 s ago: its holder is dead"


def test_a_sites_state_is_kept_as_long_as_it_applies(redis, namespace):
    site, day = f"{namespace}.example", 86_400_000
    scripts.agree_on_site(redis, site, "pause", pause_ms=3 * day, reason="Retry-After")
    for each in (site, f"{namespace}.other"):
        scripts.agree_on_site(redis, each, "failed", failures=1, pause_ms=1, longest_ms=1, reason="HTTP 500")
    assert min(redis.pttl(Keys.site(site)), redis.pttl(Keys.sites())) > 3 * day
    for each in (site, f"{namespace}.other"):
        scripts.agree_on_site(redis, each, "succeeded")
    scripts.take_turn(redis, site, apart=200.0, ahead=1.0, longest=60.0)
    assert redis.pttl(Keys.turn(site)) > 199_000
    redis.delete(Keys.turn(site))
    assert scripts.take_turn(redis, site, apart=0.0, ahead=1.0, longest=0.0).is_promised


def test_a_message_handed_back_for_several_batches_is_sent_for_each(redis, keys):
    first, second = "a-message", "another"
    copies = [(first, "for one batch"), (first, "for the other"), (second, "a third")]

    async def hand_back() -> int:
        async with async_client(redis) as client:
            worker = {"instance": "gone/1"}
            claimed = [(message_id, None) for message_id, _ in copies]
            await scripts.claim(client, keys, claimed, lease=9, silence=9, exclusive=True, **worker)
            return await scripts.hand_back(client, keys, entries=[], from_channel=copies, consumer="gone", **worker)

    with redis.pubsub() as others:
        others.subscribe(keys.channel)
        assert others.get_message(timeout=5)["type"] == "subscribe"
        assert asyncio.run(hand_back()) == 3
        assert [others.get_message(timeout=5)["data"] for _ in copies] == [text for _, text in copies]
    assert not redis.exists(keys.claim(first), keys.claim(second))


def test_a_script_with_nothing_to_do_does_nothing(redis, keys):
    worker = {"consumer": "anna", "instance": "anna/1"}
    limits = {"events_kept": 1, "claim_ttl": 1, "max_attempts": 1, "backoff": 1.0, "backoff_limit": 1.0}
    fund = scripts.FundFetched(FUND.cnpj, FUND.pk, False, {}, [])

    async def do_nothing() -> tuple[object, object]:
        async with async_client(redis) as client:
            settled = await scripts.commit(client, keys, jobs=[], events=[], news=b"", **worker, **limits)
            source = {"source": "s", "is_whole": True, "metrics": METRICS, "options": SERIES_OPTIONS}
            return settled, await scripts.replace_months(client, keys, [fund], **source)

    assert asyncio.run(do_nothing()) == (([], ""), [[]])


async def claim_as(redis, keys, message_id: str, batch_id: str, *, lease: float, silence: float) -> None:
    client = async_client(redis)
    won = await scripts.claim(
        client, keys, [(message_id, batch_id)], instance="gone/1", lease=lease, silence=silence, exclusive=True
    )
    await client.aclose()
    assert won == [True]
