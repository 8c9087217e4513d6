"""One client: its subscriptions, and what happens while it does not read. Pure; it writes through what it is given.

While the socket's buffer is full the client is held: taken out of its channels, so that it costs nothing there. State
kinds then need no queue, the newest message is enough afterwards. Events wait in a bounded queue; what does not fit
costs the books their continuity (they begin anew with a snapshot), and after that the connection (4008).
"""

from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from gateway.channel import Channel
from gateway.frames import split_frames, text_frame
from gateway.protocol import CloseCode, Closing, Lagging, frame
from hub.access import OPEN, Grant
from hub.join import NOTHING
from hub.position import Position, format_position, position_in

if TYPE_CHECKING:
    from gateway.joins import Pending
    from gateway.rates import Rated

__all__ = ["DIRECT", "PATTERN", "Held", "Sink", "Subscriber", "Writer"]

#: Reasons for which a client reads a channel (Subscriber.channels).
DIRECT, PATTERN = 1, 2
NONE: Final[Mapping[Channel, int]] = MappingProxyType({})

#: Bytes of queued events per write after a pause; each write may fill the socket's buffer again.
DRAIN_BYTES = 65_536


class Writer(Protocol):
    """Where a subscriber's frames go: its transport, or what puts them into another form first."""

    def write(self, data: bytes) -> None:
        """Send whole frames; may call back into `Subscriber.hold`."""


class Sink(Protocol):
    """The connection below a subscriber."""

    def close(self, code: int, reason: str) -> None:
        """Send a close frame and end the connection."""

    def unsent(self) -> int:
        """Return how many bytes the socket has not taken yet."""


class Held:
    """What a client that does not read will need: events in order, and where each channel stood.

    `since` is the loop's time in s. `marks`: position of what was written last, per event channel. `counts`: messages
    of each channel up to the pause. `books`: messages left out of books that begin anew. `skipped`: messages of state
    kinds, known at the end.
    """

    __slots__ = ("books", "counts", "full", "marks", "queue", "since", "size", "skipped")

    def __init__(self, since: float) -> None:
        self.since = since
        self.full = True  # the socket's buffer is; False while the queue is being written
        self.queue: deque[tuple[Channel, bytes]] = deque()
        self.size = 0
        self.marks: dict[Channel, Position] = {}
        self.counts: dict[Channel, int] = {}
        self.books: dict[Channel, int] = {}
        self.skipped = 0

    def add(self, channel: Channel, owed: int) -> None:
        """Note where a channel stands; `owed` of its messages were still to be sent."""
        self.counts[channel] = channel.count - owed
        if channel.event and channel.last is not None:
            # Whoever was late has a mark already where some of what came up to now waits in the queue.
            self.marks.setdefault(channel, channel.last)

    def remove(self, channel: Channel) -> None:
        self.counts.pop(channel, None)
        self.marks.pop(channel, None)
        self.books.pop(channel, None)
        if channel.event and self.queue:
            self.queue = deque(entry for entry in self.queue if entry[0] is not channel)
            self.size = sum(len(data) for _, data in self.queue)

    def last_ids(self) -> dict[str, str]:
        """Return the id of the newest event written per channel: where to continue."""
        return {channel.name: format_position(mark) for channel, mark in self.marks.items()}


class Subscriber:
    """A client as the fan-out sees it.

    `writer` takes whole frames; an object and not its bound method, because there are many of us. `out` holds frames
    of the batch being sent. `channels` are the reasons for each channel: DIRECT its own name, PATTERN one that covers
    it, or both. `grant` says what it may subscribe to, `said` when (monotonic, s) it has made up for what it said.
    """

    __slots__ = ("channels", "closed", "grant", "held", "out", "patterns", "pending", "queue_bytes", "rated", "rates",
                 "said", "sink", "started", "waiting", "writer")  # fmt: skip

    def __init__(self, sink: Sink, writer: Writer, queue_bytes: int) -> None:
        self.sink, self.writer, self.queue_bytes = sink, writer, queue_bytes
        self.out: bytes | None = None
        self.channels: Mapping[Channel, int] = NONE
        self.patterns: set[str] | None = None
        self.rates: dict[str, float] | None = None  # by name or pattern as subscribed, where one was asked for
        self.rated: dict[Channel, Rated] | None = None  # channels that do not come message by message
        self.pending: dict[Channel, Pending] | None = None  # joins that are not done
        self.waiting: deque[Pending] | None = None  # those of them that are not begun
        self.started = 0
        self.held: Held | None = None
        self.closed = False
        self.grant: Grant = OPEN
        self.said = 0.0

    def note(self, channel: Channel, reasons: int) -> None:
        """Note why the client reads `channel`. Most read one by its name: they share the mapping that says so."""
        known = self.channels
        if isinstance(known, dict):
            known[channel] = reasons
        elif reasons == DIRECT and not known:
            if channel.alone is None:
                channel.alone = MappingProxyType({channel: DIRECT})
            self.channels = channel.alone
        else:
            self.channels = {**known, channel: reasons}

    def forget(self, channel: Channel) -> None:
        """The client no longer reads `channel`."""
        if isinstance(self.channels, dict):
            del self.channels[channel]
        else:
            self.channels = NONE

    def hold(self, now: float) -> None:
        """The socket takes no more: leave the channels until `drain`."""
        if self.held is not None:
            self.held.full = True
            return
        held = self.held = Held(now)
        for channel in self.channels:
            owed = channel.set_aside(self)
            if owed is not None:
                held.add(channel, owed)

    def take(self, channel: Channel, data: bytes, now: float) -> None:
        """While held: keep the frame of one event for later. `now` is the loop's time in s."""
        held = self.held
        if held is None or self.closed:
            return
        if channel in held.books:
            held.books[channel] += 1
        else:
            held.queue.append((channel, data))
            held.size += len(data)
            if held.size > self.queue_bytes:
                self._overflow(held, now)

    def _overflow(self, held: Held, now: float) -> None:
        for channel, _ in held.queue:
            if channel.book:
                held.books[channel] = held.books.get(channel, 0) + 1
        held.queue = deque(entry for entry in held.queue if not entry[0].book)
        held.size = sum(len(data) for _, data in held.queue)
        if held.size > self.queue_bytes:
            self.cut("the queue of unread events is full", now)

    def cut(self, reason: str, now: float) -> None:
        """Give the client up, telling it where it can continue. `now` is the loop's time in s."""
        held = self.held
        if held is None or self.closed:
            return
        lost: dict[str, int] = {}
        for channel, _ in held.queue:
            lost[channel.name] = lost.get(channel.name, 0) + 1
        lagging = Lagging(action="close", channels=lost, paused_ms=int((now - held.since) * 1000))
        closing = Closing(code=CloseCode.TOO_SLOW, reason=reason, last=held.last_ids())
        held.queue.clear()
        self.writer.write((self.out or b"") + frame(lagging) + frame(closing))
        self.out = None
        self.sink.close(CloseCode.TOO_SLOW, reason)

    def drain(self, now: float) -> list[Channel]:
        """The socket takes data again: write what waited, oldest first, and return to the channels.

        Returns the books that must be joined anew. Where the socket fills up again, the rest waits for the next call.
        """
        held = self.held
        if held is None:
            return []
        held.full = False
        if self.out is not None:
            data, self.out = self.out, None
            self.writer.write(data)
        while held.queue and not held.full:
            self.writer.write(self._next_events(held))
        if held.full:
            return []
        return self._return(held, int((now - held.since) * 1000))

    def _next_events(self, held: Held) -> bytes:
        frames: list[bytes] = []
        size = 0
        while held.queue and size < DRAIN_BYTES:
            channel, data = held.queue.popleft()
            held.size -= len(data)
            if channel in held.counts or channel in held.marks:
                _mark(held, channel, data)
            frames.append(data)
            size += len(data)
        return b"".join(frames)

    def _return(self, held: Held, paused_ms: int) -> list[Channel]:
        self.held = None
        newest: list[bytes] = []
        skipped: dict[str, int] = {}
        for channel, count in held.counts.items():
            channel.aside.pop(self, None)
            if channel in held.books:
                continue
            missed = channel.count - count
            if missed and not channel.event and channel.newest is not None:
                newest.append(text_frame(channel.newest))
                if missed > 1:
                    skipped[channel.name] = missed - 1
            channel.enter(self)
        if skipped:
            held.skipped = sum(skipped.values())
            newest.insert(0, frame(Lagging(action="conflated", channels=skipped, paused_ms=paused_ms)))
        if held.books:
            lost = {channel.name: count for channel, count in held.books.items()}
            newest.append(frame(Lagging(action="snapshot", channels=lost, paused_ms=paused_ms)))
        if newest:
            self.writer.write(b"".join(newest))
        return list(held.books)


def _mark(held: Held, channel: Channel, data: bytes) -> None:
    """Note the position of the last message in `data`. A gap has none, a status that the gateway made is in no log."""
    for _, payload in split_frames(data):
        with suppress(ValueError):
            held.marks[channel] = max(held.marks.get(channel, NOTHING), position_in(payload, channel.head))
