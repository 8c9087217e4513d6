"""A channel in this process: the bus's topic plus who reads it here. Pure."""

from typing import TYPE_CHECKING

from hub.keys import Keys
from hub.position import Position
from hub.topic import Topic

if TYPE_CHECKING:
    from gateway.joins import Pending
    from gateway.subscriber import Subscriber

__all__ = ["Channel"]


class Channel(Topic):
    """Readers of one channel, by how they are served.

    `late`: joined ahead of the stream, they want only what is above the position; None: a book reader without a base,
    waits for a snapshot. `aside`: held readers, whose socket takes no more. `waiters`: joins that share one read.
    `clients` counts subscriptions, joined or not; `count` messages, to tell how many a held reader misses.
    """

    __slots__ = ("_readers", "aside", "clients", "count", "late", "members", "status", "waiters")

    def __init__(self, name: str, keys: Keys) -> None:
        super().__init__(name, keys)
        self.status = self.kind == "status"
        self.members: dict[Subscriber, None] = {}
        self.late: dict[Subscriber, Position | None] = {}
        self.aside: dict[Subscriber, None] = {}
        self.waiters: dict[Pending, None] = {}
        self.clients = self.count = 0
        self._readers: tuple[Subscriber, ...] | None = ()

    @property
    def readers(self) -> tuple["Subscriber", ...]:
        """The readers that get every message at once. A tuple, rebuilt after a change: a callback inside a loop over
        it may change who reads."""
        readers = self._readers
        if readers is None:
            readers = self._readers = tuple(self.members)
        return readers

    def everyone(self) -> set["Subscriber"]:
        """All who are joined, held or not."""
        return {*self.members, *self.late, *self.aside}

    def has(self, subscriber: "Subscriber") -> bool:
        return subscriber in self.members or subscriber in self.late or subscriber in self.aside

    def enter(self, subscriber: "Subscriber") -> None:
        """Serve `subscriber` from the next message on."""
        if subscriber.held is not None:
            subscriber.held.add(self)
            self.aside[subscriber] = None
        else:
            self.members[subscriber] = None
            self._readers = None

    def set_aside(self, subscriber: "Subscriber") -> bool:
        """Stop sending to `subscriber`; False where it was not among the readers."""
        if subscriber not in self.members:
            return False
        del self.members[subscriber]
        self._readers = None
        self.aside[subscriber] = None
        return True

    def leave(self, subscriber: "Subscriber") -> None:
        """Forget `subscriber`, however it was served."""
        if subscriber in self.members:
            del self.members[subscriber]
            self._readers = None
        self.late.pop(subscriber, None)
        self.aside.pop(subscriber, None)
