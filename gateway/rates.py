"""Conflation: at most so many messages a second of a state channel, for clients that asked for that.

Clients of one channel with the same rate form a group. To the fan-out the group is one more reader of the channel, so
that nobody else pays for it; its timer then sends the newest message, one frame for all.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.channel import Channel
from gateway.frames import payload_of, whole_frames
from gateway.subscriber import DIRECT, Subscriber
from hub.directory import patterns_of
from hub.keys import parse_channel
from hub.position import Position, position_in

if TYPE_CHECKING:
    from gateway.fanout import Fanout

__all__ = ["Rated", "Rates"]


class Rated(Subscriber):
    """Readers of one channel at one rate. `due` holds frames that they were not sent; the last one is what counts.

    The first message after a pause goes out at once, the next no sooner than a period later.
    """

    __slots__ = ("_clock", "_fanout", "_fresh", "_sent_at", "_timer", "channel", "due", "rate", "readers", "users")

    def __init__(self, channel: Channel, rate: float, fanout: "Fanout", clock: Callable[[], float]) -> None:
        super().__init__(self, self, 0)
        self.channel, self.rate = channel, rate
        self.readers: dict[Subscriber, None] = {}
        self.users = 0
        self.due: bytes | None = None
        self._fanout, self._clock = fanout, clock
        self._fresh: dict[Subscriber, Position | None] = {}  # who came since the last frame, and what they had then
        self._sent_at = -1 / rate
        self._timer: asyncio.Handle | None = None

    def join(self, subscriber: Subscriber) -> None:
        """Serve `subscriber`, who has everything up to now."""
        self._absorb()
        self.readers[subscriber] = None
        if self.due is not None:
            self._fresh[subscriber] = self.channel.last

    def part(self, subscriber: Subscriber) -> bytes | None:
        """Serve `subscriber` no longer; returns the frame that it was still to get."""
        self._absorb()
        owed = self._frame_for(subscriber)
        self.readers.pop(subscriber, None)
        self._fresh.pop(subscriber, None)
        if not self.readers:
            self._rest()
        return owed

    def settle(self) -> None:
        """Send what is due before its time: something follows that it must not follow."""
        self._absorb()
        if self.due is not None:
            self._send()

    def close(self, code: int, reason: str) -> None:
        """Sink: nothing can be closed here."""

    def unsent(self) -> int:
        """Sink: nothing waits here."""
        return 0

    def write(self, data: bytes) -> None:
        """Take the channel's frames."""
        if not self.readers:
            return
        waiting, self.due = self.due is not None, data
        if waiting:
            self._fanout.conflated += len(self.readers)
            return
        wait_s = self._sent_at + 1 / self.rate - self._clock()
        loop = asyncio.get_running_loop()
        # Never at once: this is called in the middle of a flush.
        self._timer = loop.call_later(wait_s, self._send) if wait_s > 0 else loop.call_soon(self._send)

    def _absorb(self) -> None:
        """Take what the fan-out holds ready for the group."""
        if self.out is not None:
            data, self.out = self.out, None
            self.write(data)

    def _frame_for(self, subscriber: Subscriber) -> bytes | None:
        if self.due is None or subscriber not in self.readers:
            return None
        frame = whole_frames(self.due)[-1]
        had = self._fresh.get(subscriber)
        return frame if had is None or position_in(payload_of(frame), self.channel.head) > had else None

    def _send(self) -> None:
        if self.due is None:
            return
        self._sent_at = self._clock()
        if self._fresh:
            readers = [subscriber for subscriber in self.readers if self._frame_for(subscriber) is not None]
        else:
            readers = list(self.readers)
        self._fanout.cast(readers, whole_frames(self.due)[-1])
        self._rest()

    def _rest(self) -> None:
        self.due = None
        self._fresh.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Rates:
    """All groups of this worker."""

    def __init__(self, fanout: "Fanout", clock: Callable[[], float] = time.monotonic) -> None:
        self.groups: dict[tuple[Channel, float], Rated] = {}
        self._fanout, self._clock = fanout, clock

    def note(self, subscriber: Subscriber, name: str, rate: float | None) -> None:
        """Note how often the client wants what it subscribed as `name`; None: every message."""
        if rate is not None:
            if subscriber.rates is None:
                subscriber.rates = {}
            subscriber.rates[name] = rate
        elif subscriber.rates is not None:
            subscriber.rates.pop(name, None)
            subscriber.rates = subscriber.rates or None

    def choose(self, subscriber: Subscriber, channel: Channel) -> None:
        """Let the client's subscriptions that cover a channel decide how often it comes."""
        if subscriber.rates is None and subscriber.rated is None:
            return
        own = subscriber.patterns or ()
        names = [pattern for pattern in patterns_of(parse_channel(channel.name)) if pattern in own]
        if subscriber.channels[channel] & DIRECT:
            names.append(channel.name)
        known = subscriber.rates or {}
        rates = [known[name] for name in names if name in known]
        self.assign(subscriber, channel, max(rates) if rates and len(rates) == len(names) else None)

    def assign(self, subscriber: Subscriber, channel: Channel, rate: float | None) -> None:
        """Serve `subscriber` on `channel` at `rate` per second from now on; None: with every message."""
        old = subscriber.rated.get(channel) if subscriber.rated else None
        if (old.rate if old is not None else None) == rate:
            return
        served, owed = channel.stop(subscriber)
        self._release(subscriber, channel, old)
        if rate is not None:
            group = self.groups.get((channel, rate))
            if group is None:
                group = self.groups[channel, rate] = Rated(channel, rate, self._fanout, self._clock)
            group.users += 1
            if subscriber.rated is None:
                subscriber.rated = {}
            subscriber.rated[channel] = group
        if served:
            if owed is not None:
                self._fanout.send(subscriber, owed, channel)
            channel.enter(subscriber)

    def forget(self, subscriber: Subscriber, channel: Channel) -> None:
        """`subscriber` left `channel`."""
        old = subscriber.rated.get(channel) if subscriber.rated else None
        self._release(subscriber, channel, old)

    def _release(self, subscriber: Subscriber, channel: Channel, group: Rated | None) -> None:
        if group is None or subscriber.rated is None:
            return
        del subscriber.rated[channel]
        if not subscriber.rated:
            subscriber.rated = None
        group.users -= 1
        if not group.users:
            del self.groups[channel, group.rate]
