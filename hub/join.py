"""What a new reader of a channel must be given before the stream: which reads, and how their answers fit. Pure.

State kinds: the newest message. Event kinds: the newest, or everything after an id out of the log. `book`: the newest
full snapshot and the log's tail after it, or the log after an id. Where the log does not hold what follows the id,
that is a gap, answered with the newest (of a book: a snapshot) instead.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from msgspec import Struct

from hub.link import pack
from hub.position import Position, follows, format_position, parse_position, position_in

__all__ = ["NOTHING", "REPLAY_MAX", "Join", "Joined", "Source", "events_in", "is_snapshot"]

#: Events one replay reads at most; what is further back counts as beyond the log.
REPLAY_MAX = 10_000
_SNAPSHOT: Final = b'"action":"snapshot"'
#: The position of a reader who knows that there was nothing before.
NOTHING: Final[Position] = (0, 0)
#: A snapshot may be replaced and the log trimmed between the two reads of a book; then both are made again.
BOOK_ATTEMPTS = 3


class Source(Protocol):
    """The part of a topic that reads need."""

    @property
    def event(self) -> bool: ...
    @property
    def book(self) -> bool: ...
    @property
    def key(self) -> bytes: ...
    @property
    def log(self) -> bytes: ...
    @property
    def head(self) -> bytes: ...


class Joined(Struct):
    """What the reader gets, oldest first.

    `upto` is the position it stands at afterwards: of the stream, only what is above it is new. None: there is
    nothing yet. `gap`: events after the given id are lost, `payloads` is not their continuation. `based` False: a
    book without a usable snapshot, updates make no sense before the next one. `newest`: what the reader has already,
    where it is the newest of a state kind.
    """

    payloads: list[bytes] = []
    upto: Position | None = None
    gap: bool = False
    based: bool = True
    newest: bytes | None = None


class Join:
    """One reader's reads: `command` says what to ask next, `reply` takes the answer; then `finish` calls `done`."""

    __slots__ = ("after", "attempts", "cancelled", "done", "joined", "source", "step")

    def __init__(self, source: Source, done: Callable[[Joined], None], after: Position | None = None) -> None:
        self.source, self.done, self.after = source, done, after
        self.cancelled = False
        self.restart()

    def restart(self) -> None:
        """Begin again from the first read."""
        self.joined = Joined()
        self.attempts = 0
        self.step = self._range if self.source.event and self.after is not None else self._newest

    def cancel(self) -> None:
        self.cancelled = True

    def finish(self) -> None:
        if not self.cancelled:
            self.done(self.joined)

    step: Callable[[Any], None] | None

    def command(self) -> bytes | None:
        """Return the next command as RESP, None when everything is read."""
        if self.step is None:
            return None
        if self.step == self._newest:
            return pack(b"GET", self.source.key)
        if self.step == self._tail:
            assert self.joined.upto is not None
            start = "(" + format_position(self.joined.upto)
        else:
            assert self.after is not None
            start = format_position(self.after)
        # One more than is taken, and the event at `after`, which is read with it: what is cut off must show.
        return pack(b"XRANGE", self.source.log, start, b"+", b"COUNT", REPLAY_MAX + 2)

    def reply(self, value: Any) -> None:
        """Take the answer to the last command; an error reply counts as nothing there."""
        assert self.step is not None
        step, self.step = self.step, None
        step(None if isinstance(value, Exception) else value)

    def _newest(self, payload: bytes | None) -> None:
        position = self._position(payload)
        if payload is None or position is None:
            self.joined.based = not self.source.book
            return
        if self.source.book:
            self.joined.payloads, self.joined.upto = [payload], position
            self.step = self._tail
            return
        if self.after == position or (self.after is not None and not self.source.event and self.after > position):
            # The reader has it already; with the log gone that is all there is to know.
            self.joined.upto, self.joined.gap = position, False
            if not self.source.event:
                self.joined.newest = payload
            return
        self.joined.payloads, self.joined.upto = [payload], position

    def _range(self, entries: list[Any] | None) -> None:
        assert self.after is not None
        events = events_in(entries)
        if events and events[0][0] == self.after:
            events = events[1:]
            fits = True
        else:
            # Another epoch proves nothing here: the rest of the reader's own may have been trimmed away.
            first = events[0][0] if events else self.after
            fits = first[1] == self.after[1] + 1 and (first[0] == self.after[0] or self.after == NOTHING)
        if not fits or len(events) > REPLAY_MAX:
            self.joined.gap = True
            self.step = self._newest
            return
        self.joined.payloads = [payload for _, payload in events]
        self.joined.upto = events[-1][0] if events else self.after

    def _tail(self, entries: list[Any] | None) -> None:
        assert self.joined.upto is not None
        events = events_in(entries)
        if events and (len(events) > REPLAY_MAX or not follows(self.joined.upto, events[0][0])):
            self.attempts += 1
            self.joined = Joined(gap=self.joined.gap, based=False)
            self.step = self._newest if self.attempts < BOOK_ATTEMPTS else None
            return
        self.joined.based = True
        self.joined.payloads += [payload for _, payload in events]
        if events:
            self.joined.upto = events[-1][0]

    def _position(self, payload: bytes | None) -> Position | None:
        if payload is None:
            return None
        try:
            return position_in(payload, self.source.head)
        except ValueError:
            return None


def is_snapshot(payload: bytes, head: bytes) -> bool:
    """Tell, without decoding, whether a message of the book with this `head` is a snapshot."""
    return _SNAPSHOT in payload[: len(head) + 160]


def events_in(entries: Sequence[Any] | None) -> list[tuple[Position, bytes]]:
    """Return (position, payload) of Stream entries; an entry without payload is no message of ours."""
    found = []
    for entry, fields in entries or ():
        # Fields come as a flat list of names and values (RESP2 and RESP3 alike for Streams).
        if len(fields) >= 2 and fields[0] == b"payload":
            found.append((parse_position(entry.decode()), fields[1]))
    return found
