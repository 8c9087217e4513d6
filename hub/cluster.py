"""Many nodes behind the interface of one Link: commands go where their keys live, replies come back in order.

Pub/sub is sharded: SUBSCRIBE and PUBLISH become SSUBSCRIBE and SPUBLISH on the node of the channel. So a channel, its
key and its log are on one connection, and the order that joins rely on (hub/link.py) holds here too. Between nodes
there is no order.

The connections live and break together. Whoever owns this reconnects, which finds the nodes anew; a slot that moved
breaks it too, because a redirect is an error (hub/link.py) and Redis takes back the subscriptions of such a slot.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import hiredis
from redis.crc import key_slot

from hub.link import Link, Push, PushHandler, RedisReplyError, ReplyHandler, pack
from hub.topology import Nodes

__all__ = ["ClusterLink"]

logger = logging.getLogger(__name__)

#: Names whose node is remembered; clients choose some of them.
KNOWN_MAX: Final = 200_000
#: Commands without a key: every node answers.
EVERYWHERE: Final = {b"PING", b"INFO"}

Merge: TypeAlias = Callable[[list[Any]], Any]


def _flat(parts: list[Any]) -> list[Any]:
    return [item for part in parts for item in part]


_MERGES: Final[dict[bytes, Merge]] = {
    b"MGET": list,
    b"TS.MADD": _flat,
    b"INFO": b"\r\n".join,
    b"PING": lambda parts: parts[0],
}


class _Gather:
    """Replies of one `send`, put back in order as the nodes answer."""

    __slots__ = ("done", "merges", "missing", "parts")

    def __init__(self, count: int, done: ReplyHandler) -> None:
        self.parts: list[list[Any]] = [[] for _ in range(count)]
        self.merges: dict[int, Merge] = {}
        self.missing = 0
        self.done: ReplyHandler | None = done

    def took(self, places: list[tuple[int, int]], outcome: list[Any] | ConnectionError) -> None:
        """Note the replies of one node; each belongs to (command, part)."""
        if self.done is None:
            return
        done = self.done
        if isinstance(outcome, ConnectionError):
            self.done = None
            done(outcome)
            return
        for (command, part), reply in zip(places, outcome, strict=True):
            self.parts[command][part] = reply
        self.missing -= 1
        if not self.missing:
            self.done = None
            done([self._whole(number) for number in range(len(self.parts))])

    def _whole(self, number: int) -> Any:
        parts, merge = self.parts[number], self.merges.get(number)
        if merge is None:
            return parts[0]
        return next((part for part in parts if isinstance(part, RedisReplyError)), None) or merge(parts)


class ClusterLink:
    """A Link to each master. Made by hub.connect.connect."""

    def __init__(self, nodes: Nodes, on_push: PushHandler | None) -> None:
        self.nodes = nodes
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_push = on_push
        self._links: list[Link] = []
        self._known: dict[bytes, int] = {}
        self._given_up: set[bytes] = set()  # channels whose end of subscription is our own wish

    @classmethod
    async def open(cls, nodes: Nodes, on_push: PushHandler | None, *, name: str, timeout_s: float) -> "ClusterLink":
        """Connect to all nodes. Raises RedisUnavailable."""
        made = cls(nodes, on_push)
        try:
            for url in nodes.urls:
                link = await Link.connect(url, made._pushed, name=name, timeout_s=timeout_s)
                made._links.append(link)
                link.closed.add_done_callback(lambda _: made.close())
        except BaseException:
            made.close()
            raise
        return made

    def close(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        for link in self._links:
            link.close()

    async def drained(self) -> None:
        for link in self._links:
            await link.drained()

    def call(self, commands: Sequence[bytes]) -> "asyncio.Future[list[Any]]":
        """As Link.call."""
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        def done(outcome: list[Any] | ConnectionError) -> None:
            if future.done():
                return
            if isinstance(outcome, ConnectionError):
                future.set_exception(outcome)
                future.exception()
            else:
                future.set_result(outcome)

        self.send(b"".join(commands), len(commands), done)
        return future

    def send(self, data: bytes, count: int, done: ReplyHandler) -> None:
        """As Link.send, for commands of several nodes: `done` is called once all have answered."""
        gather = _Gather(count, done)
        batches: dict[int, tuple[list[bytes], list[tuple[int, int]]]] = {}
        for number, command in enumerate(_commands(data)):
            targets = self._targets(command)
            gather.parts[number] = [None] * len(targets)
            if command[0] in _MERGES:
                gather.merges[number] = _MERGES[command[0]]
            for part, (node, words) in enumerate(targets):
                packed, places = batches.setdefault(node, ([], []))
                packed.append(pack(*words))
                places.append((number, part))
        gather.missing = len(batches)
        for node, (packed, places) in batches.items():
            self._links[node].send(b"".join(packed), len(packed), partial(gather.took, places))

    def write(self, data: bytes) -> None:
        """As Link.write: SUBSCRIBE and UNSUBSCRIBE, each channel at its node."""
        batches: dict[int, list[bytes]] = {}
        for verb, *channels in _commands(data):
            ends = verb == b"UNSUBSCRIBE"
            for channel in channels:
                if ends:
                    self._given_up.add(channel)
                batches.setdefault(self._node(channel), []).append(pack(b"S" + verb, channel))
        for node, packed in batches.items():
            self._links[node].write(b"".join(packed))

    def _targets(self, command: list[bytes]) -> list[tuple[int, list[bytes]]]:
        """Return the commands that stand for `command`, each with its node."""
        verb = command[0]
        if verb in EVERYWHERE:
            return [(node, command) for node in range(len(self._links))]
        if verb == b"MGET":
            return [(self._node(key), [b"GET", key]) for key in command[1:]]
        if verb == b"TS.MADD":
            # Keys of one command must share a slot.
            slots: dict[int, list[bytes]] = {}
            for at in range(1, len(command), 3):
                slots.setdefault(key_slot(command[at]), []).extend(command[at : at + 3])
            return [(self.nodes.slots[slot], [verb, *words]) for slot, words in slots.items()]
        if verb == b"PUBLISH":
            command[0] = b"SPUBLISH"
        return [(self._node(command[1]), command)]

    def _node(self, key: bytes) -> int:
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            known = self._known[key] = self.nodes.slots[key_slot(key)]
        return known

    def _pushed(self, pushes: list[Push]) -> None:
        for push in pushes:
            if push[0] == b"sunsubscribe":
                if push[1] not in self._given_up:
                    logger.warning("redis took a subscription back: its slot moved")
                    self.close()
                    return
                self._given_up.discard(push[1])
        if self._on_push is not None:
            self._on_push(pushes)


def _commands(data: bytes) -> "list[list[bytes]]":
    reader = hiredis.Reader()
    reader.feed(data)
    found = []
    while (command := reader.gets()) is not False:
        found.append(command)
    return found
