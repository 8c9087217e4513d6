"""From a subscription to a place among the readers: acknowledgement with the state, then the newest message (with
`after`: the events since then), then the stream.

What is known here is answered at once, everything else by a read over the bus, shared by those who wait for the same.
One client has a bounded number of reads in flight, and none is begun while it does not read its socket.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from gateway.channel import Channel
from gateway.fanout import Fanout
from gateway.frames import text_frame
from gateway.protocol import Ack, Gap, Live, RequestId, frame
from gateway.subscriber import Subscriber
from hub.bus import Bus
from hub.join import Join, Joined
from hub.model import State
from hub.position import Position, format_position, position_in

__all__ = ["Joins", "Pending", "StateOf"]

#: Weight of reads in flight per client. A book's answer is large, and so may a replay be.
IN_FLIGHT = 128
HEAVY = 16

StateOf: TypeAlias = Callable[[str, str, str, bool], tuple[State, str]]
"""(kind, venue, symbol, present) -> state and reason"""


class Pending:
    """One channel being joined by one client."""

    __slots__ = ("acked", "after", "channel", "join", "others", "pattern", "replayed", "request", "subscriber",
                 "weight")  # fmt: skip

    def __init__(
        self, subscriber: Subscriber, channel: Channel, request: RequestId, pattern: str | None, after: Position | None
    ) -> None:
        self.subscriber, self.channel, self.request, self.pattern = subscriber, channel, request, pattern
        self.after = after
        self.weight = HEAVY if channel.book or after is not None else 1
        self.acked = False
        self.others: tuple[RequestId, ...] = ()  # requests that named the channel meanwhile
        self.replayed = False  # what is joined here is the end of a replay
        self.join: Join | None = None  # its own read, where it does not share one


class Joins:
    """Joins of all clients of this process."""

    def __init__(self, bus: Bus[Channel], fanout: Fanout, state_of: StateOf) -> None:
        self.bus, self.fanout, self.state_of = bus, fanout, state_of
        self.gaps = 0
        self._shared: dict[Channel, Join] = {}

    def add(
        self,
        subscriber: Subscriber,
        channel: Channel,
        request: RequestId = None,
        pattern: str | None = None,
        after: Position | None = None,
    ) -> Pending:
        """Note that `subscriber` waits for `channel`; `pump` begins."""
        pending = Pending(subscriber, channel, request, pattern, after)
        if subscriber.pending is None or subscriber.waiting is None:
            subscriber.pending, subscriber.waiting = {}, deque()
        subscriber.pending[channel] = pending
        subscriber.waiting.append(pending)
        return pending

    def again(self, subscriber: Subscriber, channels: list[Channel]) -> None:
        """Give books from their beginning to a client that missed part of them."""
        for channel in channels:
            if channel in subscriber.channels:
                self.add(subscriber, channel).acked = True
        self.pump(subscriber)

    def drop(self, subscriber: Subscriber, channel: Channel) -> None:
        """Forget a join that is no longer wanted."""
        pending = subscriber.pending.pop(channel, None) if subscriber.pending else None
        if pending is None:
            return
        if pending in channel.waiters:
            subscriber.started -= pending.weight
            del channel.waiters[pending]
            if not channel.waiters and (shared := self._shared.pop(channel, None)):
                self.bus.cancel(shared)
        elif pending.join is not None:
            subscriber.started -= pending.weight
            self.bus.cancel(pending.join)

    def ack(
        self, channel: Channel, request: RequestId, pattern: str | None, *, present: bool, replaying: bool = False
    ) -> bytes:
        """Return the acknowledgement of a channel, with its state at this moment; `present`: there is a value."""
        state, reason = self.state_of(channel.kind, channel.venue, channel.symbol, present)
        ack = Ack(op="subscribe", id=request, channel=channel.name, state=state, reason=reason, replaying=replaying)
        if pattern is not None:
            ack.pattern = pattern
        return frame(ack)

    def acknowledge(self, subscriber: Subscriber, channel: Channel, request: RequestId) -> None:
        """Answer one more request for a channel that the client has; while it is being joined, together with that."""
        pending = subscriber.pending.get(channel) if subscriber.pending else None
        if pending is not None and not pending.acked:
            pending.others = (*pending.others, request)
            return
        present = channel.newest is not None or (channel.event and channel.last is not None)
        self.fanout.send(subscriber, self.ack(channel, request, None, present=present))

    def _acks(self, pending: Pending, *, present: bool) -> bytes:
        pending.acked = True
        data = self.ack(pending.channel, pending.request, pending.pattern, present=present)
        return data + b"".join(self.ack(pending.channel, other, None, present=present) for other in pending.others)

    def pump(self, subscriber: Subscriber) -> None:
        """Begin as many waiting joins as the client may have in flight."""
        waiting = subscriber.waiting
        while waiting and subscriber.started < IN_FLIGHT and subscriber.held is None:
            pending = waiting.popleft()
            if subscriber.pending and subscriber.pending.get(pending.channel) is pending:
                self._begin(pending)
        if waiting and not self.bus.connected:
            # They stay in the queue, but the client need not wait to learn why.
            for pending in waiting:
                self._ack_once(pending)
        if not waiting and not subscriber.pending:
            subscriber.pending = subscriber.waiting = None

    def _ack_once(self, pending: Pending) -> None:
        if not pending.acked:
            self.fanout.send(pending.subscriber, self._acks(pending, present=False))

    def _begin(self, pending: Pending) -> None:
        channel = pending.channel
        known = channel.newest is not None and channel.last is not None and not (channel.joining or channel.book)
        if known and pending.after is None and channel.newest is not None:
            self._finish(pending, Joined(payloads=[channel.newest], upto=channel.last))
            return
        pending.subscriber.started += pending.weight
        if not self.bus.connected:
            self._ack_once(pending)
        if pending.after is not None:
            pending.join = self.bus.join(channel, partial(self._read, pending), pending.after)
            return
        channel.waiters[pending] = None
        if channel not in self._shared:
            self._shared[channel] = self.bus.join(channel, partial(self._read_shared, channel))

    def _read_shared(self, channel: Channel, joined: Joined) -> None:
        self._shared.pop(channel, None)
        waiters, channel.waiters = channel.waiters, {}
        if channel.last is None and joined.upto is not None and joined.payloads and not channel.book:
            channel.newest = joined.payloads[-1]
        for pending in waiters:
            self._read(pending, joined)

    def _read(self, pending: Pending, joined: Joined) -> None:
        subscriber = pending.subscriber
        subscriber.started -= pending.weight
        if subscriber.pending and subscriber.pending.get(pending.channel) is pending:
            self._finish(pending, joined)
            self.pump(subscriber)

    def _finish(self, pending: Pending, joined: Joined) -> None:
        """Write acknowledgement and messages, and let the client read on."""
        subscriber, channel = pending.subscriber, pending.channel
        if not self.fanout.enter(subscriber, channel, joined):
            # The stream is ahead of what was read: read again, from there.
            if subscriber.waiting is not None:
                if pending.after is None and channel.event and not channel.book:
                    pending.after = joined.upto
                pending.join = None
                subscriber.waiting.append(pending)
            return
        if subscriber.pending is not None:
            subscriber.pending.pop(channel, None)
        data: list[bytes] = []
        if not pending.acked:
            present = bool(joined.payloads) or (pending.after is not None and joined.upto is not None)
            data.append(self._acks(pending, present=present))
        if joined.gap and pending.after is not None:
            self.gaps += 1
            data.append(self._gap(channel, pending.after, joined))
        data += [text_frame(payload) for payload in joined.payloads]
        if pending.replayed:
            data.append(self._live(pending, joined))
        if data:
            self.fanout.send(subscriber, b"".join(data))

    def _live(self, pending: Pending, joined: Joined) -> bytes:
        channel, last = pending.channel, joined.upto
        state, reason = self.state_of(channel.kind, channel.venue, channel.symbol, last is not None)
        place = format_position(last) if last is not None else None
        return frame(Live(id=pending.request, channel=channel.name, state=state, reason=reason, last=place))

    def _gap(self, channel: Channel, after: Position, joined: Joined) -> bytes:
        following = format_position(position_in(joined.payloads[0], channel.head)) if joined.payloads else None
        return frame(Gap(channel=channel.name, last=format_position(after), next=following))
