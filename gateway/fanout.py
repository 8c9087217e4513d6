"""One bus, many clients: each message is framed once and the same bytes go to everyone who reads its channel.

A single message is written at once. A batch is joined per channel, then per client (`Subscriber.out`), and each client
gets one write. Writes happen in slices, so that a burst to thousands of clients lets REST and joins in between; where
a flush takes long, the next one waits a few ms, so that messages meet and share writes. Order is kept per channel, and
a status keeps its place among the messages around it.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from gateway.channel import Channel
from gateway.frames import text_frame
from gateway.protocol import Gap, frame
from gateway.subscriber import Subscriber
from gateway.vitals import Stopwatch
from hub.join import Joined, is_snapshot
from hub.position import Position, format_position, position_in

__all__ = ["Fanout", "StatusKeeper"]

#: Writes in a row before the loop may do something else.
SLICE = 256
#: Writing may take this share of the time; what goes beyond it adds up, and from TIRED_S on (never more than twice
#: that) a flush begins no earlier than FLUSH_EVERY_S after the one before.
SHARE = 0.3
TIRED_S = 0.002
FLUSH_EVERY_S = 0.008
#: Fewer writes than this are not worth measuring.
FEW = 16


class StatusKeeper(Protocol):
    """Who wants to know what the gateway's own subscriptions bring."""

    def status(self, channel: Channel, payload: bytes) -> Iterable[Subscriber]:
        """Note a status; returns everyone who must be told, besides the channel's own readers."""

    def channels_added(self, names: Iterable[str]) -> None: ...

    def channels_are(self, names: Iterable[str]) -> None: ...

    def connected(self) -> None: ...

    def disconnected(self, reason: str) -> None: ...


class Fanout:
    """The bus's listener: who reads what, and the writes that follow from a message."""

    def __init__(self, keeper: StatusKeeper, clock: Callable[[], float] = time.perf_counter) -> None:
        self.keeper = keeper
        self.messages = self.writes = self.conflated = 0
        self.stopwatch = Stopwatch()
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dirty: list[Subscriber] = []  # those with something in `out`, in the order of their first frame
        self._batch: list[Subscriber] = []  # those of the flush that is going on
        self._at = 0
        self._handle: asyncio.Handle | None = None
        self._took = self._effort = 0.0
        self._first = self._began = self._not_before = 0.0

    # hub.bus.Listener

    def received(self, batch: list[tuple[Channel, bytes]]) -> None:
        self.messages += len(batch)
        stopwatch = self.stopwatch
        if stopwatch.armed:
            stopwatch.begin(batch[0][1])
        if len(batch) == 1 and not self._dirty and not self._batch and self._send_at_once(*batch[0]):
            if stopwatch.running:
                stopwatch.end()
            return
        self._spread(batch)
        if self._handle is not None:
            return
        if self._dirty:
            self._begin()
        else:
            stopwatch.running = False  # nobody reads it

    def _send_at_once(self, channel: Channel, payload: bytes) -> bool:
        """Write a single message, unless something speaks against it (then False, and nothing is done)."""
        readers = channel.readers
        count = len(readers)
        if count > SLICE or channel.late or channel.aside or channel.status:
            return False
        began = self._clock()
        if began < self._not_before:
            return False
        channel.count += 1
        data = text_frame(payload)
        for subscriber in readers:
            subscriber.writer.write(data)
        self.writes += count
        if count > FEW:
            self._wrote(began, self._clock() - began)
        return True

    def _wrote(self, began: float, took_s: float) -> None:
        """Account for a flush, and decide when the next one may begin."""
        effort = max(0.0, self._effort - SHARE * (began - self._began)) + took_s
        self._effort = min(effort, 2 * TIRED_S)
        self._began = began
        if self._effort >= TIRED_S:
            self._not_before = began + FLUSH_EVERY_S

    def gap(self, topic: Channel, last: Position, joined: Joined) -> None:
        """Tell all readers what is lost, and give them what there is instead."""
        positions = [position_in(payload, topic.head) for payload in joined.payloads[:1]]
        told = Gap(
            channel=topic.name,
            last=format_position(last),
            next=format_position(positions[0]) if positions else None,
        )
        topic.count += len(joined.payloads)
        frames = [frame(told), *(text_frame(payload) for payload in joined.payloads)]
        data = b"".join(frames)
        for subscriber in topic.everyone():
            own = topic.late.get(subscriber)
            if own is not None and joined.upto is not None and own >= joined.upto:
                continue  # joined behind all that: nothing is lost to it
            self.send(subscriber, data, topic)
            if not joined.based:
                if subscriber.held is not None:
                    subscriber.held.remove(topic)
                topic.leave(subscriber)
                topic.late[subscriber] = None
        if topic.status and joined.payloads:
            for subscriber in {*self.keeper.status(topic, joined.payloads[-1])} - topic.everyone():
                self.send(subscriber, frames[-1], topic)

    def channels_added(self, names: Iterable[str]) -> None:
        self.keeper.channels_added(names)

    def channels_are(self, names: Iterable[str]) -> None:
        self.keeper.channels_are(names)

    def connected(self) -> None:
        self.keeper.connected()

    def disconnected(self, reason: str) -> None:
        self.keeper.disconnected(reason)

    # readers

    def enter(self, subscriber: Subscriber, channel: Channel, joined: Joined) -> bool:
        """Let `subscriber`, who has what `joined` says, read on. False where the stream is ahead of that by now."""
        last = channel.last
        if not joined.based:
            channel.late[subscriber] = None
        elif last is None or joined.upto is None:
            if joined.upto is not None:
                channel.last = joined.upto
            channel.enter(subscriber)
        elif joined.upto > last:
            channel.late[subscriber] = joined.upto
        elif joined.upto < last:
            return False
        else:
            channel.enter(subscriber)
        return True

    def send(self, subscriber: Subscriber, data: bytes, channel: Channel | None = None) -> None:
        """Write frames to one client, in order with what it is being sent; events of `channel` wait while it is held.

        Answers to the client itself (no `channel`) are written in any case: it asked, so it reads.
        """
        if subscriber.closed:
            return
        if channel is not None and subscriber.held is not None:
            subscriber.take(channel, data, time.monotonic())
            return
        self._put(subscriber, data)
        if self._handle is None:
            self._handle = self._soon(self._flush)

    def cast(self, subscribers: Iterable[Subscriber], data: bytes) -> None:
        """Write the same frame to many."""
        for subscriber in subscribers:
            self._put(subscriber, data)
        if self._handle is None and self._dirty:
            self._handle = self._soon(self._flush)

    def settle(self, subscriber: Subscriber) -> None:
        """Write at once what `subscriber` still has to get."""
        out = subscriber.out
        if out is not None:
            subscriber.out = None
            subscriber.writer.write(out)

    # batches

    def _spread(self, batch: list[tuple[Channel, bytes]]) -> None:
        """Put all messages into the `out` of all readers."""
        joined: dict[Channel, bytes] = {}
        late: list[Channel] = []
        for channel, payload in batch:
            channel.count += 1
            data = text_frame(payload)
            if channel.status:
                self._assign(joined)
                joined = {}
                self._status(channel, payload, data)
                continue
            before = joined.get(channel)
            joined[channel] = data if before is None else before + data
            if channel.late:
                late.append(channel)
                self._to_late(channel, payload, data)
            if channel.aside and channel.event:
                self._to_aside(channel, data)
        self._assign(joined)
        for channel in late:
            # Only now: who enters earlier would get the batch again.
            for subscriber in [
                s for s, upto in channel.late.items() if upto is not None and upto <= (channel.last or upto)
            ]:
                del channel.late[subscriber]
                channel.enter(subscriber)

    def _assign(self, joined: dict[Channel, bytes]) -> None:
        add = self._dirty.append
        for channel, data in joined.items():
            for subscriber in channel.readers:
                out = subscriber.out
                if out is None:
                    subscriber.out = data
                    add(subscriber)
                else:
                    subscriber.out = out + data

    def _put(self, subscriber: Subscriber, data: bytes) -> None:
        out = subscriber.out
        if out is None:
            subscriber.out = data
            self._dirty.append(subscriber)
        else:
            subscriber.out = out + data

    def _to_late(self, channel: Channel, payload: bytes, data: bytes) -> None:
        position = position_in(payload, channel.head)
        for subscriber, upto in list(channel.late.items()):
            if upto is None and is_snapshot(payload, channel.head):
                upto = (position[0], position[1] - 1)
                channel.late[subscriber] = upto
            if upto is not None and position > upto:
                if subscriber.held is not None:
                    subscriber.held.marks.setdefault(channel, upto)
                    subscriber.take(channel, data, time.monotonic())
                else:
                    self._put(subscriber, data)

    def _to_aside(self, channel: Channel, data: bytes) -> None:
        now = time.monotonic()
        for subscriber in list(channel.aside):
            subscriber.take(channel, data, now)

    def _status(self, channel: Channel, payload: bytes, data: bytes) -> None:
        for subscriber in {*self.keeper.status(channel, payload), *channel.everyone()}:
            if subscriber.held is not None:
                subscriber.take(channel, data, time.monotonic())
            else:
                self._put(subscriber, data)

    # writes

    def _begin(self) -> None:
        now = self._clock()
        if now >= self._not_before:
            self._flush()
        else:
            self._handle = self._get_loop().call_later(self._not_before - now, self._flush)

    def _flush(self) -> None:
        """Write the next slice. What comes during a flush is written by it where its readers' turn is still to come,
        else by the next: a flush that went on with it would never end under load, and never wait."""
        began = self._clock()
        if not self._batch:
            self._batch, self._dirty = self._dirty, []
            self._at, self._first, self._took = 0, began, 0.0
        batch, at = self._batch, self._at
        end = min(at + SLICE, len(batch))
        for subscriber in batch[at:end]:
            out = subscriber.out
            if out is not None:
                subscriber.out = None
                subscriber.writer.write(out)
        self.writes += end - at
        now = self._clock()
        self._took += now - began
        if end < len(batch):
            self._at = end
            self._handle = self._soon(self._flush)
            return
        self._batch = []
        self._handle = None
        if self.stopwatch.running:
            self.stopwatch.end()
        self._wrote(self._first, self._took)
        if self._dirty:
            wait_s = self._not_before - now
            loop = self._get_loop()
            self._handle = loop.call_later(wait_s, self._flush) if wait_s > 0 else loop.call_soon(self._flush)

    def _soon(self, call: Callable[[], None]) -> asyncio.Handle:
        return self._get_loop().call_soon(call)

    def _get_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop
