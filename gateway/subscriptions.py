"""What clients ask for: channels and patterns, counted per client, every name answered by an ack or an error."""

from typing import TypeAlias, TypeVar

from gateway.channel import Channel
from gateway.fanout import Fanout
from gateway.joins import Joins
from gateway.names import (
    Errors,
    check_allowed,
    check_rate,
    check_since,
    forbidden,
    parse_name,
    place_of,
    since_of,
    speed_of,
)
from gateway.protocol import Ack, RequestId, Subscribe, frame
from gateway.rates import Rates
from gateway.replays import Replay, Replays
from gateway.subscriber import DIRECT, PATTERN, Subscriber
from hub import keys
from hub.bus import Bus
from hub.directory import Directory, is_pattern, patterns_of
from hub.errors import RequestError
from hub.position import Position

__all__ = ["Subscriptions"]

Start: TypeAlias = Position | Replay | None
"""Where a channel begins: behind an event, with what is stored, or with the newest."""


class Subscriptions:
    """Who wants what in this process. `by_venue` and `by_symbol` hold the channels that clients subscribed to."""

    def __init__(
        self,
        bus: Bus[Channel],
        fanout: Fanout,
        joins: Joins,
        directory: Directory,
        max_subscriptions: int,
        queue_bytes: int,
    ) -> None:
        self.bus, self.fanout, self.joins, self.directory = bus, fanout, joins, directory
        self.max_subscriptions = max_subscriptions
        self.by_venue: dict[str, dict[Channel, None]] = {}
        self.by_symbol: dict[tuple[str, str], dict[Channel, None]] = {}
        self.rates = Rates(fanout)
        self.replays = Replays(bus, fanout, joins, queue_bytes)
        self.count = 0
        self._patterns: dict[str, dict[Subscriber, None]] = {}

    def subscribe(self, subscriber: Subscriber, op: Subscribe) -> None:
        """Add channels and patterns, as `op` says (gateway/protocol.py)."""
        errors = Errors(op.id)
        try:
            since = since_of(op)
            replay = None if since is None else self.replays.open(subscriber, op.id, since, speed_of(op))
        except RequestError as error:
            errors.add(error, None)
            errors.send(self.fanout, subscriber)
            return
        single = len(op.channels) == 1
        for name in op.channels:
            try:
                channel = parse_name(name)
                check_allowed(subscriber, channel)
                check_rate(channel, op.max_rate)
                if since is not None:
                    check_since(channel, since, single)
                start: Start = replay or place_of(op.after, channel.name, single)
                if is_pattern(channel):
                    self._add_pattern(subscriber, channel.name, op, errors, start)
                else:
                    topic = self._add(subscriber, channel.name, op.id, None, start)
                    self.rates.note(subscriber, channel.name, op.max_rate)
                    self.rates.choose(subscriber, topic)
            except RequestError as error:
                errors.add(error, name)
        errors.send(self.fanout, subscriber)
        if replay is not None:
            self.replays.begin(replay)
        self.joins.pump(subscriber)

    def unsubscribe(self, subscriber: Subscriber, names: list[object], request: RequestId = None) -> None:
        """Take back channels and patterns, spelled as they were subscribed."""
        errors = Errors(request)
        acks: list[bytes] = []
        for name in names:
            try:
                channel = parse_name(name)
                if is_pattern(channel):
                    self._remove_pattern(subscriber, channel.name)
                else:
                    self._remove(subscriber, channel.name)
                self.rates.note(subscriber, channel.name, None)
                acks.append(frame(Ack(op="unsubscribe", id=request, channel=channel.name)))
            except RequestError as error:
                errors.add(error, name)
        if acks:
            self.fanout.send(subscriber, b"".join(acks))
        errors.send(self.fanout, subscriber)

    def regrant(self, subscriber: Subscriber) -> None:
        """The client's grant is another one: take away what it does not cover, add what patterns now stand for."""
        errors = Errors(None)
        for pattern in [p for p in subscriber.patterns or () if not subscriber.grant.overlaps(parse_name(p))]:
            self._remove_pattern(subscriber, pattern)
            errors.add(forbidden(pattern), pattern)
        for channel in list(subscriber.channels):
            if not subscriber.grant.allows(channel.kind, channel.venue, channel.symbol):
                self.fanout.settle(subscriber)
                self._leave(subscriber, channel)
                errors.add(forbidden(channel.name), channel.name)
        for pattern in subscriber.patterns or ():
            names = self._readable(subscriber, self.directory.match(pattern))
            self._add_matches(subscriber, pattern, names, None, errors)
        self.joins.pump(subscriber)
        errors.send(self.fanout, subscriber)

    def close(self, subscriber: Subscriber) -> None:
        """Forget a client that is gone."""
        subscriber.closed = True
        subscriber.out = None
        for channel in list(subscriber.channels):
            self._leave(subscriber, channel)
        for pattern in subscriber.patterns or ():
            self._forget_pattern(subscriber, pattern)
        subscriber.patterns = subscriber.held = subscriber.pending = subscriber.waiting = None

    def channel_added(self, name: str, channel: keys.Channel) -> None:
        """A new name: whoever subscribed to a pattern for it gets it."""
        for pattern in patterns_of(channel):
            for subscriber in list(self._patterns.get(pattern, ())):
                if not subscriber.grant.allows(channel.kind, channel.venue, channel.symbol):
                    continue
                errors = Errors(None)
                self._add_matches(subscriber, pattern, [name], None, errors)
                errors.send(self.fanout, subscriber)
                self.joins.pump(subscriber)

    def channel_removed(self, name: str, channel: keys.Channel) -> None:
        """A name that is published no more: whoever has it by a pattern alone is told that it is gone."""
        topic = self.bus.topics.get(self.bus.keys.newest(name).encode())
        if topic is None:
            return
        for pattern in patterns_of(channel):
            for subscriber in list(self._patterns.get(pattern, ())):
                have = subscriber.channels.get(topic, 0)
                if have & PATTERN:
                    self._reconsider(subscriber, topic, have)
                    if topic not in subscriber.channels:
                        gone = Ack(op="unsubscribe", channel=name, pattern=pattern)
                        self.fanout.send(subscriber, frame(gone))

    # adding

    def _check_limit(self, subscriber: Subscriber) -> None:
        most = min(subscriber.grant.max_subscriptions or self.max_subscriptions, self.max_subscriptions)
        if len(subscriber.channels) + len(subscriber.patterns or ()) >= most:
            detail = f"a connection may have {most} subscriptions"
            raise RequestError("too_many_subscriptions", detail)

    def _add(self, subscriber: Subscriber, name: str, request: RequestId, pattern: str | None, start: Start) -> Channel:
        channel = self.bus.topics.get(self.bus.keys.newest(name).encode())
        have = subscriber.channels.get(channel, 0) if channel is not None else 0
        if channel is not None and have:
            if isinstance(start, Replay) and not pattern:
                raise _already(name)
            subscriber.note(channel, have | (PATTERN if pattern else DIRECT))
            self.rates.choose(subscriber, channel)
            if not pattern:
                self.joins.acknowledge(subscriber, channel, request)
            return channel
        self._check_limit(subscriber)
        if isinstance(start, Replay):
            self.replays.check(start)
        channel = self.bus.acquire(name)
        subscriber.note(channel, PATTERN if pattern else DIRECT)
        self.count += 1
        channel.clients += 1
        if channel.clients == 1:
            self.by_venue.setdefault(channel.venue, {})[channel] = None
            self.by_symbol.setdefault((channel.venue, channel.symbol), {})[channel] = None
        self.rates.choose(subscriber, channel)
        if isinstance(start, Replay):
            self.replays.add(start, channel, pattern)
        else:
            self.joins.add(subscriber, channel, request, pattern, start)
        return channel

    def _add_pattern(self, subscriber: Subscriber, pattern: str, op: Subscribe, errors: Errors, start: Start) -> None:
        known = subscriber.patterns is not None and pattern in subscriber.patterns
        if known and isinstance(start, Replay):
            raise _already(pattern)
        if not known:
            self._check_limit(subscriber)
        names = self._readable(subscriber, self.directory.match(pattern))
        self.fanout.send(subscriber, frame(Ack(op="subscribe", id=op.id, channel=pattern, matched=len(names))))
        self.rates.note(subscriber, pattern, op.max_rate)
        if known:
            for channel in list(subscriber.channels):
                self.rates.choose(subscriber, channel)
            return
        if subscriber.patterns is None:
            subscriber.patterns = set()
        subscriber.patterns.add(pattern)
        self._patterns.setdefault(pattern, {})[subscriber] = None
        after = op.after if isinstance(op.after, dict) else None
        self._add_matches(subscriber, pattern, names, op.id, errors, start, after)

    def _readable(self, subscriber: Subscriber, names: list[str]) -> list[str]:
        grant = subscriber.grant
        if grant.everything:
            return names
        channels = ((name, self.directory.names[name]) for name in names)
        return [name for name, channel in channels if grant.allows(channel.kind, channel.venue, channel.symbol)]

    def _add_matches(
        self,
        subscriber: Subscriber,
        pattern: str,
        names: list[str],
        request: RequestId,
        errors: Errors,
        start: Start = None,
        after: dict[str, object] | None = None,
    ) -> None:
        """Add channels that `pattern` stands for; what `after` says of one of them goes before `start`."""
        for name in names:
            try:
                own = place_of(after, name, single=False)
            except RequestError as error:
                errors.add(error, name)
                continue
            try:
                self._add(subscriber, name, request, pattern, own or start)
            except RequestError as error:
                # Every further one would fail as well: one error says so.
                errors.add(error, pattern)
                return

    # removing

    def _remove(self, subscriber: Subscriber, name: str) -> None:
        channel = self.bus.topics.get(self.bus.keys.newest(name).encode())
        if channel is None or not subscriber.channels.get(channel, 0) & DIRECT:
            raise RequestError("not_subscribed", f"{name} is not subscribed")
        self._reconsider(subscriber, channel, subscriber.channels[channel] & ~DIRECT)

    def _remove_pattern(self, subscriber: Subscriber, pattern: str) -> None:
        if subscriber.patterns is None or pattern not in subscriber.patterns:
            raise RequestError("not_subscribed", f"{pattern} is not subscribed")
        subscriber.patterns.discard(pattern)
        self._forget_pattern(subscriber, pattern)
        for name in self.directory.match(pattern):
            channel = self.bus.topics.get(self.bus.keys.newest(name).encode())
            # Channels beyond the limit were never added.
            if channel is not None and (have := subscriber.channels.get(channel)) is not None:
                self._reconsider(subscriber, channel, have)

    def _forget_pattern(self, subscriber: Subscriber, pattern: str) -> None:
        readers = self._patterns.get(pattern)
        if readers is not None:
            readers.pop(subscriber, None)
            if not readers:
                del self._patterns[pattern]

    def _reconsider(self, subscriber: Subscriber, channel: Channel, have: int) -> None:
        """Keep a channel as long as there is a reason for it, a pattern or its own name."""
        known = self.directory.names.get(channel.name)
        covered = known is not None and any(p in (subscriber.patterns or ()) for p in patterns_of(known))
        have = have | PATTERN if covered else have & ~PATTERN
        if have:
            subscriber.note(channel, have)
            self.rates.choose(subscriber, channel)
            return
        self.fanout.settle(subscriber)  # nothing of the channel may follow the acknowledgement
        self._leave(subscriber, channel)

    def _leave(self, subscriber: Subscriber, channel: Channel) -> None:
        subscriber.forget(channel)
        self.joins.drop(subscriber, channel)
        self.replays.drop(subscriber, channel)
        if subscriber.held is not None:
            subscriber.held.remove(channel)
        channel.leave(subscriber)
        self.rates.forget(subscriber, channel)
        self.count -= 1
        channel.clients -= 1
        if not channel.clients:
            channel.alone = None
            _remove_from(self.by_venue, channel.venue, channel)
            _remove_from(self.by_symbol, (channel.venue, channel.symbol), channel)
        self.bus.release(channel)


def _already(name: str) -> RequestError:
    return RequestError("already_subscribed", f"{name} is subscribed; unsubscribe it to have what is stored")


K = TypeVar("K")


def _remove_from(index: dict[K, dict[Channel, None]], key: K, channel: Channel) -> None:
    found = index[key]
    del found[channel]
    if not found:
        del index[key]
