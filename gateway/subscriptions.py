"""What clients ask for: channels and patterns, counted per client, every name answered by an ack or an error."""

from typing import TypeVar

from gateway.channel import Channel
from gateway.directory import Directory, is_pattern, patterns_of
from gateway.fanout import Fanout
from gateway.joins import Joins
from gateway.protocol import Ack, Error, RequestId, frame
from gateway.subscriber import Subscriber
from hub import keys
from hub.bus import Bus
from hub.errors import Refused, RequestError
from hub.position import Position, parse_position

__all__ = ["Subscriptions"]

#: Errors spelled out per request; the rest is summed up.
ERRORS_MAX = 100

#: Reasons for which a client reads a channel (Subscriber.channels).
DIRECT, PATTERN = 1, 2


class _Errors:
    """Errors of one request, a bounded number of them; what would be allowed is said once per code."""

    def __init__(self, request: RequestId) -> None:
        self._request = request
        self._frames: list[bytes] = []
        self._codes: set[str] = set()
        self._more = 0

    def add(self, error: RequestError, name: object) -> None:
        if len(self._frames) >= ERRORS_MAX:
            self._more += 1
            return
        told = Error(code=error.code, detail=error.detail[:300], id=self._request)
        if isinstance(name, str):
            told.channel = name[: keys.MAX_CHANNEL_CHARS]
        if error.code not in self._codes:
            self._codes.add(error.code)
            told.allowed = error.allowed
        self._frames.append(frame(told))

    def send(self, fanout: Fanout, subscriber: Subscriber) -> None:
        if self._more:
            detail = f"{self._more} further channels could not be served"
            self._frames.append(frame(Error(code="more_errors", detail=detail, id=self._request)))
        if self._frames:
            fanout.send(subscriber, b"".join(self._frames))


class Subscriptions:
    """Who wants what in this process. `by_venue` and `by_symbol` hold the channels that clients subscribed to."""

    def __init__(
        self, bus: Bus[Channel], fanout: Fanout, joins: Joins, directory: Directory, max_subscriptions: int
    ) -> None:
        self.bus, self.fanout, self.joins, self.directory = bus, fanout, joins, directory
        self.max_subscriptions = max_subscriptions
        self.by_venue: dict[str, dict[Channel, None]] = {}
        self.by_symbol: dict[tuple[str, str], dict[Channel, None]] = {}
        self.count = 0
        self._patterns: dict[str, dict[Subscriber, None]] = {}

    def subscribe(
        self,
        subscriber: Subscriber,
        names: list[object],
        after: dict[str, object] | str | None = None,
        request: RequestId = None,
    ) -> None:
        """Add channels and patterns."""
        errors = _Errors(request)
        single = len(names) == 1
        for name in names:
            try:
                channel = _parse(name)
                _check_allowed(subscriber, channel)
                place = _place(after, channel.name, single)
                if is_pattern(channel):
                    self._add_pattern(subscriber, channel.name, request, errors)
                else:
                    self._add(subscriber, channel.name, request, None, place)
            except RequestError as error:
                errors.add(error, name)
        errors.send(self.fanout, subscriber)
        self.joins.pump(subscriber)

    def unsubscribe(self, subscriber: Subscriber, names: list[object], request: RequestId = None) -> None:
        """Take back channels and patterns, spelled as they were subscribed."""
        errors = _Errors(request)
        acks: list[bytes] = []
        for name in names:
            try:
                channel = _parse(name)
                if is_pattern(channel):
                    self._remove_pattern(subscriber, channel.name)
                else:
                    self._remove(subscriber, channel.name)
                acks.append(frame(Ack(op="unsubscribe", id=request, channel=channel.name)))
            except RequestError as error:
                errors.add(error, name)
        if acks:
            self.fanout.send(subscriber, b"".join(acks))
        errors.send(self.fanout, subscriber)

    def regrant(self, subscriber: Subscriber) -> None:
        """The client's grant is another one: take away what it does not cover, add what patterns now stand for."""
        errors = _Errors(None)
        for pattern in [p for p in subscriber.patterns or () if not subscriber.grant.overlaps(_parse(p))]:
            self._remove_pattern(subscriber, pattern)
            errors.add(_forbidden(pattern), pattern)
        for channel in list(subscriber.channels):
            if not subscriber.grant.allows(channel.kind, channel.venue, channel.symbol):
                self.fanout.settle(subscriber)
                self._leave(subscriber, channel)
                errors.add(_forbidden(channel.name), channel.name)
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
                errors = _Errors(None)
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
    ) -> None:
        channel = self.bus.topics.get(self.bus.keys.newest(name).encode())
        have = subscriber.channels.get(channel, 0) if channel is not None else 0
        if channel is not None and have:
            subscriber.channels[channel] = have | (PATTERN if pattern else DIRECT)
            if not pattern:
                present = channel.newest is not None or (channel.book and channel.last is not None)
                self.fanout.send(subscriber, self.joins.ack(channel, request, None, present=present))
            return
        self._check_limit(subscriber)
        channel = self.bus.acquire(name)
        subscriber.channels[channel] = PATTERN if pattern else DIRECT
        self.count += 1
        channel.clients += 1
        if channel.clients == 1:
            self.by_venue.setdefault(channel.venue, {})[channel] = None
            self.by_symbol.setdefault((channel.venue, channel.symbol), {})[channel] = None
        self.joins.add(subscriber, channel, request, pattern, after)

    def _add_pattern(self, subscriber: Subscriber, pattern: str, request: RequestId, errors: _Errors) -> None:
        known = subscriber.patterns is not None and pattern in subscriber.patterns
        if not known:
            self._check_limit(subscriber)
        names = self._readable(subscriber, self.directory.match(pattern))
        self.fanout.send(subscriber, frame(Ack(op="subscribe", id=request, channel=pattern, matched=len(names))))
        if known:
            return
        if subscriber.patterns is None:
            subscriber.patterns = set()
        subscriber.patterns.add(pattern)
        self._patterns.setdefault(pattern, {})[subscriber] = None
        self._add_matches(subscriber, pattern, names, request, errors)

    def _readable(self, subscriber: Subscriber, names: list[str]) -> list[str]:
        grant = subscriber.grant
        if grant.everything:
            return names
        channels = ((name, self.directory.names[name]) for name in names)
        return [name for name, channel in channels if grant.allows(channel.kind, channel.venue, channel.symbol)]

    def _add_matches(
        self, subscriber: Subscriber, pattern: str, names: list[str], request: RequestId, errors: _Errors
    ) -> None:
        for name in names:
            try:
                self._add(subscriber, name, request, pattern, None)
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
            return
        self.fanout.settle(subscriber)  # nothing of the channel may follow the acknowledgement
        self._leave(subscriber, channel)

    def _leave(self, subscriber: Subscriber, channel: Channel) -> None:
        del subscriber.channels[channel]
        self.joins.drop(subscriber, channel)
        if subscriber.held is not None:
            subscriber.held.remove(channel)
        channel.leave(subscriber)
        self.count -= 1
        channel.clients -= 1
        if not channel.clients:
            _remove_from(self.by_venue, channel.venue, channel)
            _remove_from(self.by_symbol, (channel.venue, channel.symbol), channel)
        self.bus.release(channel)


K = TypeVar("K")


def _remove_from(index: dict[K, dict[Channel, None]], key: K, channel: Channel) -> None:
    found = index[key]
    del found[channel]
    if not found:
        del index[key]


def _parse(name: object) -> keys.Channel:
    if not isinstance(name, str):
        raise RequestError("bad_channel", "a channel is a text such as quote:binance:BTC-USDT")
    return keys.parse_channel(name, wildcards=True)


def _check_allowed(subscriber: Subscriber, channel: keys.Channel) -> None:
    grant = subscriber.grant
    if grant.everything:
        return
    allowed = (
        grant.overlaps(channel) if is_pattern(channel) else grant.allows(channel.kind, channel.venue, channel.symbol)
    )
    if not allowed:
        raise _forbidden(channel.name)


def _forbidden(name: str) -> Refused:
    return Refused(403, "forbidden", f"the token does not allow {name}")


def _place(after: dict[str, object] | str | None, name: str, single: bool) -> Position | None:
    """Return where the client wants to continue in channel `name`."""
    if isinstance(after, str) and not single:
        raise RequestError("bad_after", "one id is for one channel; use a map of channel to id")
    text = after.get(name) if isinstance(after, dict) else after
    if text is None:
        return None
    try:
        return parse_position(str(text))
    except ValueError as error:
        raise RequestError("bad_after", str(error)[:200]) from error
