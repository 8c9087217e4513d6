"""What clients ask for: channels and patterns, counted per client, every name answered by an ack or an error."""

from typing import TypeVar

from gateway.channel import Channel
from gateway.fanout import Fanout
from gateway.joins import Joins
from gateway.names import Errors, check_allowed, check_rate, forbidden, parse_name, place_of
from gateway.protocol import Ack, RequestId, frame
from gateway.rates import Rates
from gateway.subscriber import Subscriber
from hub import keys
from hub.bus import Bus
from hub.directory import Directory, is_pattern, patterns_of
from hub.errors import RequestError
from hub.position import Position

__all__ = ["Subscriptions"]

#: Reasons for which a client reads a channel (Subscriber.channels).
DIRECT, PATTERN = 1, 2


class Subscriptions:
    """Who wants what in this process. `by_venue` and `by_symbol` hold the channels that clients subscribed to."""

    def __init__(
        self, bus: Bus[Channel], fanout: Fanout, joins: Joins, directory: Directory, max_subscriptions: int
    ) -> None:
        self.bus, self.fanout, self.joins, self.directory = bus, fanout, joins, directory
        self.max_subscriptions = max_subscriptions
        self.by_venue: dict[str, dict[Channel, None]] = {}
        self.by_symbol: dict[tuple[str, str], dict[Channel, None]] = {}
        self.rates = Rates(fanout)
        self.count = 0
        self._patterns: dict[str, dict[Subscriber, None]] = {}

    def subscribe(
        self,
        subscriber: Subscriber,
        names: list[object],
        after: dict[str, object] | str | None = None,
        request: RequestId = None,
        max_rate: float | None = None,
    ) -> None:
        """Add channels and patterns, each at `max_rate` messages per second at most (None: all of them).

        A channel that several of a client's subscriptions cover comes at the highest of their rates.
        """
        errors = Errors(request)
        single = len(names) == 1
        for name in names:
            try:
                channel = parse_name(name)
                check_allowed(subscriber, channel)
                check_rate(channel, max_rate)
                place = place_of(after, channel.name, single)
                if is_pattern(channel):
                    self._add_pattern(subscriber, channel.name, request, errors, max_rate, place)
                else:
                    topic = self._add(subscriber, channel.name, request, None, place)
                    _note_rate(subscriber, channel.name, max_rate)
                    self._set_rate(subscriber, topic)
            except RequestError as error:
                errors.add(error, name)
        errors.send(self.fanout, subscriber)
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
                _note_rate(subscriber, channel.name, None)
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

    # adding

    def _check_limit(self, subscriber: Subscriber) -> None:
        most = min(subscriber.grant.max_subscriptions or self.max_subscriptions, self.max_subscriptions)
        if len(subscriber.channels) + len(subscriber.patterns or ()) >= most:
            detail = f"a connection may have {most} subscriptions"
            raise RequestError("too_many_subscriptions", detail)

    def _add(
        self, subscriber: Subscriber, name: str, request: RequestId, pattern: str | None, after: Position | None
    ) -> Channel:
        channel = self.bus.topics.get(self.bus.keys.newest(name).encode())
        have = subscriber.channels.get(channel, 0) if channel is not None else 0
        if channel is not None and have:
            subscriber.channels[channel] = have | (PATTERN if pattern else DIRECT)
            self._set_rate(subscriber, channel)
            if not pattern:
                present = channel.newest is not None or (channel.book and channel.last is not None)
                self.fanout.send(subscriber, self.joins.ack(channel, request, None, present=present))
            return channel
        self._check_limit(subscriber)
        channel = self.bus.acquire(name)
        subscriber.channels[channel] = PATTERN if pattern else DIRECT
        self.count += 1
        channel.clients += 1
        if channel.clients == 1:
            self.by_venue.setdefault(channel.venue, {})[channel] = None
            self.by_symbol.setdefault((channel.venue, channel.symbol), {})[channel] = None
        self._set_rate(subscriber, channel)
        self.joins.add(subscriber, channel, request, pattern, after)
        return channel

    def _set_rate(self, subscriber: Subscriber, channel: Channel) -> None:
        """Let the client's subscriptions that cover a channel decide how often it comes."""
        if subscriber.rates is None and subscriber.rated is None:
            return
        own = subscriber.patterns or ()
        names = [pattern for pattern in patterns_of(keys.parse_channel(channel.name)) if pattern in own]
        if subscriber.channels[channel] & DIRECT:
            names.append(channel.name)
        known = subscriber.rates or {}
        rates = [known[name] for name in names if name in known]
        self.rates.assign(subscriber, channel, max(rates) if rates and len(rates) == len(names) else None)

    def _add_pattern(
        self,
        subscriber: Subscriber,
        pattern: str,
        request: RequestId,
        errors: Errors,
        max_rate: float | None,
        after: Position | None,
    ) -> None:
        known = subscriber.patterns is not None and pattern in subscriber.patterns
        if not known:
            self._check_limit(subscriber)
        names = self._readable(subscriber, self.directory.match(pattern))
        self.fanout.send(subscriber, frame(Ack(op="subscribe", id=request, channel=pattern, matched=len(names))))
        _note_rate(subscriber, pattern, max_rate)
        if known:
            for channel in list(subscriber.channels):
                self._set_rate(subscriber, channel)
            return
        if subscriber.patterns is None:
            subscriber.patterns = set()
        subscriber.patterns.add(pattern)
        self._patterns.setdefault(pattern, {})[subscriber] = None
        self._add_matches(subscriber, pattern, names, request, errors, after)

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
        after: Position | None = None,
    ) -> None:
        for name in names:
            try:
                self._add(subscriber, name, request, pattern, after)
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
            subscriber.channels[channel] = have
            self._set_rate(subscriber, channel)
            return
        self.fanout.settle(subscriber)  # nothing of the channel may follow the acknowledgement
        self._leave(subscriber, channel)

    def _leave(self, subscriber: Subscriber, channel: Channel) -> None:
        del subscriber.channels[channel]
        self.joins.drop(subscriber, channel)
        if subscriber.held is not None:
            subscriber.held.remove(channel)
        channel.leave(subscriber)
        self.rates.forget(subscriber, channel)
        self.count -= 1
        channel.clients -= 1
        if not channel.clients:
            _remove_from(self.by_venue, channel.venue, channel)
            _remove_from(self.by_symbol, (channel.venue, channel.symbol), channel)
        self.bus.release(channel)


def _note_rate(subscriber: Subscriber, name: str, rate: float | None) -> None:
    """Note how often the client wants what it subscribed as `name`."""
    if rate is not None:
        if subscriber.rates is None:
            subscriber.rates = {}
        subscriber.rates[name] = rate
    elif subscriber.rates is not None:
        subscriber.rates.pop(name, None)
        subscriber.rates = subscriber.rates or None


K = TypeVar("K")


def _remove_from(index: dict[K, dict[Channel, None]], key: K, channel: Channel) -> None:
    found = index[key]
    del found[channel]
    if not found:
        del index[key]
