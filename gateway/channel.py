"""A channel in this process: the bus's topic plus who reads it here. Pure."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hub.keys import Keys
from hub.position import Position
from hub.topic import Topic

if TYPE_CHECKING:
    from gateway.joins import Pending
    from gateway.rates import Rated
    from gateway.subscriber import Subscriber

__all__ = ["Channel"]


class Channel(Topic):
    """Readers of one channel, by how they are served.

    `late`: joined ahead of the stream, they want only what is above the position; None: a book reader without a base,
    waits for a snapshot. `groups`: readers at a rate of their own (gateway/rates.py); a group that has readers is
    itself a member. `aside`: held readers, whose socket takes no more. `waiters`: joins that share one read.
    `clients` counts subscriptions, joined or not; `count` messages, to tell how many a held reader misses. `alone`: the
    mapping shared by those who read nothing else (Subscriber.channels).
    """

    __slots__ = ("_readers", "alone", "aside", "clients", "count", "groups", "late", "members", "status", "waiters")

    def __init__(self, name: str, keys: Keys) -> None:
        super().__init__(name, keys)
        self.status = self.kind == "status"
        self.members: dict[Subscriber, None] = {}
        self.late: dict[Subscriber, Position | None] = {}
        self.aside: dict[Subscriber, None] = {}
        self.waiters: dict[Pending, None] = {}
        self.groups: tuple[Rated, ...] = ()
        self.alone: Mapping[Channel, int] | None = None
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
        found = {*self.members, *self.late, *self.aside}
        for group in self.groups:
            found.discard(group)
            found.update(group.readers)
        return found

    def enter(self, subscriber: "Subscriber") -> None:
        """Serve `subscriber` from the next message on."""
        group = subscriber.rated.get(self) if subscriber.rated else None
        if subscriber.held is not None:
            subscriber.held.add(self, 0)
            self.aside[subscriber] = None
        elif group is not None:
            group.join(subscriber)
            if group not in self.groups:
                self.groups = (*self.groups, group)
                self._add(group)
        else:
            self._add(subscriber)

    def set_aside(self, subscriber: "Subscriber") -> int | None:
        """Stop sending to `subscriber`; returns how many messages it was still to get, None where it was no reader."""
        served, owed = self.stop(subscriber)
        if not served:
            return None
        self.aside[subscriber] = None
        return int(owed is not None)

    def leave(self, subscriber: "Subscriber") -> None:
        """Forget `subscriber`, however it was served."""
        self.stop(subscriber)
        self.late.pop(subscriber, None)
        self.aside.pop(subscriber, None)

    def _add(self, reader: "Subscriber") -> None:
        self.members[reader] = None
        self._readers = None

    def stop(self, subscriber: "Subscriber") -> tuple[bool, bytes | None]:
        """Send nothing more to `subscriber`; returns whether it was served, and the frame its group still owed it."""
        if subscriber in self.members:
            del self.members[subscriber]
            self._readers = None
            return True, None
        group = subscriber.rated.get(self) if subscriber.rated else None
        if group is None or subscriber not in group.readers:
            return False, None
        owed = group.part(subscriber)
        if not group.readers:
            self.groups = tuple(other for other in self.groups if other is not group)
            del self.members[group]
            self._readers = None
        return True, owed
