"""A proxy before Redis that loses requests and replies, and cuts and mutes connections, as a test orders.

A lost reply is the hard case: the server has done what was requested, and the client cannot know. So the proxy parses
the traffic: requests by name, and replies only to match them to their requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

import hiredis
from support.waiting import PATIENCE

from scraperkit.lua import scripts

ADDRESS = "127.0.0.1"
Response = TypeVar("Response")
What = Literal["request", "reply"]
Who = Literal["nobody", "peers", "all"]
_TICK = 1e-6  # seconds; keeps chunks in order
_CHUNK = 65_536
_NOTHING_YET = object()
# In RESP3 these are answered by push messages alone, which belong to no request.
_ANSWERED_BY_PUSH = {"SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE"}
# After these, a replica receives a stream that is not replies.
_REPLICATION = {"PSYNC", "SYNC"}
# An empty reply to these means success.
_SILENT = {"replace_months"}


class Fault:
    """One fault, which strikes once: a command or its reply is lost, or an action precedes the command."""

    def __init__(self, kind: str, what: What, action: Callable[[], object] | None = None) -> None:
        self.kind = kind
        self.what = what
        self.action = action
        self._struck = threading.Event()

    def struck(self, seconds: float = PATIENCE) -> bool:
        """Wait until it has struck; return whether it did."""
        return self._struck.wait(seconds)

    def strike(self) -> None:
        """Record that it has struck."""
        self._struck.set()

    def __repr__(self) -> str:
        return f"<{self.what} of {self.kind}: {'struck' if self._struck.is_set() else 'armed'}>"


class Proxy:
    """Forwards connections to the Redis at `url`; its own address is :attr:`url`.

    A *kind* is the name of a command, such as ``"XREADGROUP"``, or of one of the kit's scripts, such as ``"commit"``.

    Attributes
    ----------
    chances : dict
        Kind to the probability, 0 to 1, with which a reply of that kind is lost from now on.
    lost : collections.Counter
        Replies and requests lost so far, by kind.
    replication_delay : float
        Seconds by which data to a replica is delayed.
    """

    def __init__(self, url: str, *, seed: int = 0) -> None:
        self.chances: dict[str, float] = {}
        self.lost: Counter[str] = Counter()
        self.replication_delay = 0.0
        self._upstream = url
        self._random = random.Random(seed)
        self._faults: list[Fault] = []
        self._cut_off: Who = "nobody"
        self._scripts = {digest.encode(): name for digest, name in scripts.names().items()}
        self._conversations: set[_Conversation] = set()
        self._port = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(60), "the proxy is not listening"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    @property
    def url(self) -> str:
        """The address of the proxy, with the password of its upstream server."""
        parts = urlsplit(self._upstream)
        host = f"{parts.netloc.rpartition('@')[0]}@{ADDRESS}:{self._port}"
        return urlunsplit(parts._replace(netloc=host))

    def lead_to(self, url: str) -> None:
        """Forward new connections to another address."""
        self._upstream = url

    def lose_reply(self, kind: str) -> Fault:
        """Cut the connection at the next reply to such a command that is neither empty nor an error."""
        return self._arm(Fault(kind, "reply"))

    def lose_request(self, kind: str) -> Fault:
        """Cut the connection when the next such command arrives, so that the server never sees it."""
        return self._arm(Fault(kind, "request"))

    def before(self, kind: str, action: Callable[[], object]) -> Fault:
        """Call `action` when the next such command arrives, before the server sees it; lose nothing."""
        return self._arm(Fault(kind, "request", action))

    def _arm(self, fault: Fault) -> Fault:
        self._do(lambda: self._faults.append(fault))
        return fault

    def cut_all(self) -> int:
        """Cut every connection; return how many there were."""
        return self._do(lambda: self._cut_all("all"))

    def shut(self, who: Who = "all") -> None:
        """Cut every connection, now and later; or only those of the server's peers.

        Peers are its replicas and sentinels: unlike the kit, they do not say HELLO.
        """
        self._cut_off = who
        self._do(self._cut_all)

    def open(self) -> None:
        """Accept connections again."""
        self._cut_off = "nobody"

    def mute_all(self) -> int:
        """Forward nothing more on the present connections, without closing them; new ones work."""
        return self._do(lambda: sum(conversation.mute() for conversation in self._conversations))

    def calm(self) -> None:
        """Forward everything from now on."""
        self._do(self._faults.clear)
        self.chances = {}
        self.open()

    # ---------------------------------------------------------------- in the proxy's own thread

    def _do(self, action: Callable[[], Response]) -> Response:
        """Call `action` in the proxy's thread, and return its result."""

        async def act() -> Response:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(60)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        server = await asyncio.start_server(self._converse, ADDRESS, self._port)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ending.wait()
        self._cut_off = "all"
        # A server that is closed drops connections that it has just accepted, without closing them.
        for listening in server.sockets:
            self._loop.remove_reader(listening.fileno())
        while self._conversations or len(asyncio.all_tasks()) > 1:
            self._cut_all("all")
            await asyncio.sleep(0.005)
        server.close()

    def _cut_all(self, who: Who | None = None) -> int:
        cut = [each for each in self._conversations if (who or self._cut_off) == "all" or each.is_of_a_peer]
        for conversation in cut:
            conversation.cut()
        return len(cut)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = _Conversation(self, reader, writer)
        self._conversations.add(conversation)
        try:
            if self._cut_off != "all":
                address = urlsplit(self._upstream)
                await conversation.run(str(address.hostname), int(address.port or 6379))
        finally:
            conversation.cut()
            self._conversations.discard(conversation)

    def kinds(self, command: Sequence[bytes]) -> tuple[str, ...]:
        """Return the names of a command: its own, and its script's."""
        name = command[0].decode().upper()
        if name not in ("EVALSHA", "EVAL"):
            return (name,)
        sha = command[1] if name == "EVALSHA" else hashlib.sha1(command[1]).hexdigest().encode()
        return (name, self._scripts[sha]) if sha in self._scripts else (name,)

    @property
    def cuts_off_peers(self) -> bool:
        """Whether replicas and sentinels are cut off."""
        return self._cut_off != "nobody"

    def loses(self, what: What, kinds: Sequence[str]) -> bool:
        """Return whether this request or reply is lost, and count it if so."""
        for fault in self._faults:
            if fault.what == what and fault.kind in kinds:
                self._faults.remove(fault)
                if fault.action is not None:
                    fault.action()
                else:
                    self.lost[fault.kind] += 1
                fault.strike()
                return fault.action is None
        for kind in kinds if what == "reply" else ():
            if self._random.random() < self.chances.get(kind, 0.0):
                self.lost[kind] += 1
                return True
        return False


class _Conversation:
    """A client's connection, with its connection to the server."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = (reader, writer)
        self._writers = [writer]
        self._asked: deque[tuple[str, ...]] = deque()
        self._requests = hiredis.Reader(notEnoughData=_NOTHING_YET)
        self._replies = hiredis.Reader(notEnoughData=_NOTHING_YET)
        self._muted = False
        self._over = asyncio.Event()
        self._uses_resp3 = False
        self._is_read = True
        self.is_of_a_peer = False

    async def run(self, host: str, port: int) -> None:
        """Forward in both directions until one side, or a fault, ends the connection."""
        try:
            reader, writer = await asyncio.open_connection(host, port)
        except OSError:
            return
        self._writers.append(writer)
        if self._over.is_set():
            return
        directions = [
            asyncio.create_task(self._forward(self._client[0], writer, self._lets_requests_pass)),
            asyncio.create_task(self._forward(reader, self._client[1], self._lets_replies_pass)),
        ]
        over = asyncio.create_task(self._over.wait())
        await asyncio.wait([over, *directions], return_when=asyncio.FIRST_COMPLETED)
        if self._muted:  # one side must not learn that the other has ended
            await self._over.wait()
        self.cut()
        await asyncio.gather(*directions, over)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: Callable[[bytes], bool]
    ) -> None:
        loop, due = asyncio.get_running_loop(), 0.0
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self._muted:
                    continue
                if not passes(data):
                    return
                if not self._is_read and self._proxy.replication_delay:
                    # As on a long-distance link: later data need not wait for earlier data to arrive.
                    due = max(loop.time() + self._proxy.replication_delay, due + _TICK)
                    loop.call_at(due, self._deliver, writer, data)
                    continue
                writer.write(data)
                await writer.drain()

    def _deliver(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if not (self._over.is_set() or self._muted):
            writer.write(data)

    def _lets_requests_pass(self, data: bytes) -> bool:
        for command in _complete(self._requests, data) if self._is_read else ():
            kinds = self._proxy.kinds(command)
            if kinds[0] == "HELLO":
                self._uses_resp3 = command[1:2] == [b"3"]
                self.is_of_a_peer = False
            elif not self._uses_resp3:
                self.is_of_a_peer = True
                if self._proxy.cuts_off_peers:
                    return False
                if kinds[0] in _REPLICATION | _ANSWERED_BY_PUSH:
                    self._is_read = False
                    break
            if self._proxy.loses("request", kinds):
                return False
            if kinds[0] not in _ANSWERED_BY_PUSH:
                self._asked.append(kinds)
        return True

    def _lets_replies_pass(self, data: bytes) -> bool:
        for reply in _complete(self._replies, data) if self._is_read else ():
            if isinstance(reply, hiredis.PushNotification):
                continue
            kinds = self._asked.popleft()
            if (_is_worth_losing(reply) or not _SILENT.isdisjoint(kinds)) and self._proxy.loses("reply", kinds):
                return False
        return True

    def mute(self) -> bool:
        """Discard everything from now on."""
        self._muted = True
        return True

    def cut(self) -> None:
        """End the connection on both sides at once."""
        self._over.set()
        for writer in self._writers:
            writer.transport.abort()


def _complete(reader: Any, data: bytes) -> Iterator[Any]:
    """Feed a parser, and yield what is complete."""
    reader.feed(data)
    while (item := reader.gets()) is not _NOTHING_YET:
        yield item


def _is_worth_losing(reply: Any) -> bool:
    """Return whether a reply is worth losing: after an error or an empty reply, the server is unchanged."""
    if isinstance(reply, dict):
        return any(_is_worth_losing(value) for value in reply.values())
    return not isinstance(reply, hiredis.ReplyError) and reply is not None and reply != []
