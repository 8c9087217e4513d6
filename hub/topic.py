"""One channel as the bus knows it, and who listens to the bus. No I/O."""

import asyncio
from collections.abc import Iterable
from typing import Protocol, TypeVar

from hub.join import Joined
from hub.keys import Keys
from hub.model import is_event
from hub.position import Position, head_of

__all__ = ["Listener", "T", "Topic"]


class Topic:
    """One channel. `last` is the newest position seen, None before the first; `newest` its payload where that is known
    to be what Redis holds as newest."""

    __slots__ = ("book", "event", "head", "joining", "key", "kind", "last", "log", "name", "newest", "symbol", "timer",
                 "users", "venue")  # fmt: skip

    def __init__(self, name: str, keys: Keys) -> None:
        self.name = name
        self.kind, self.venue, self.symbol = name.split(":", 2)
        self.event = is_event(self.kind)
        self.book = self.kind == "book"
        self.key = keys.newest(name).encode()
        self.log = keys.log(name).encode()
        self.head = head_of(self.kind, self.venue, self.symbol)
        self.last: Position | None = None
        self.newest: bytes | None = None
        self.users = 0
        self.joining = False
        self.timer: asyncio.TimerHandle | None = None


T = TypeVar("T", bound=Topic)


class Listener(Protocol[T]):
    """Who gets the messages. All calls come from the event loop and must not block."""

    def received(self, batch: list[tuple[T, bytes]]) -> None:
        """Take messages of one socket read: in order, per topic without repeat."""

    def gap(self, topic: T, last: Position, joined: Joined) -> None:
        """Messages after `last` are lost; `joined` is what there is instead (for a book, a new snapshot)."""

    def channels_added(self, names: Iterable[str]) -> None:
        """Names that md:channels was just given."""

    def channels_are(self, names: Iterable[str]) -> None:
        """All names that md:channels holds: what is not among them is published no more."""

    def connected(self) -> None:
        """The bus is usable; every topic is joined again."""

    def disconnected(self, reason: str) -> None:
        """Nothing arrives until `connected`."""
