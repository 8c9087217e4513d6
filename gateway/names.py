"""The names in a client's request: parsed, allowed, where to continue; and the errors they give."""

from gateway.fanout import Fanout
from gateway.protocol import Error, RequestId, Subscribe, frame
from gateway.subscriber import Subscriber
from hub import keys
from hub.directory import is_pattern
from hub.errors import Refused, RequestError
from hub.log import mask_tokens
from hub.model import EVENT_KINDS, KINDS, is_event
from hub.position import Position, parse_position
from hub.replay import Since, parse_since

__all__ = [
    "Errors",
    "check_allowed",
    "check_rate",
    "check_since",
    "forbidden",
    "parse_name",
    "place_of",
    "since_of",
    "speed_of",
]

#: Errors spelled out per request; the rest is summed up.
ERRORS_MAX = 100


class Errors:
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
        # A token in the wrong place is not repeated.
        told = Error(code=error.code, detail=mask_tokens(error.detail)[:300], id=self._request)
        if isinstance(name, str):
            told.channel = mask_tokens(name)[: keys.MAX_CHANNEL_CHARS]
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


def parse_name(name: object) -> keys.Channel:
    if not isinstance(name, str):
        raise RequestError("bad_channel", "a channel is a text such as quote:binance:BTC-USDT")
    return keys.parse_channel(name, wildcards=True)


def check_allowed(subscriber: Subscriber, channel: keys.Channel) -> None:
    grant = subscriber.grant
    if grant.everything:
        return
    allowed = (
        grant.overlaps(channel) if is_pattern(channel) else grant.allows(channel.kind, channel.venue, channel.symbol)
    )
    if not allowed:
        raise forbidden(channel.name)


def forbidden(name: str) -> Refused:
    return Refused(403, "forbidden", f"the token does not allow {name}")


def place_of(after: dict[str, object] | str | None, name: str, single: bool) -> Position | None:
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


def check_rate(channel: keys.Channel, max_rate: float | None) -> None:
    """Raise RequestError where `max_rate` would leave out events."""
    if max_rate is not None and is_event(channel.kind):
        states = sorted(kind for kind in KINDS if not is_event(kind))
        raise RequestError(
            "bad_max_rate", f"max_rate is for kinds of which the newest is enough, not {channel.kind}", states
        )


def since_of(op: Subscribe) -> Since | None:
    """Return where the replay begins that `op` asks for, None where it asks for none. Raises RequestError."""
    if op.since is None:
        if op.speed is not None:
            raise RequestError("bad_speed", "speed is how fast what is stored comes; it needs since")
        return None
    if op.after is not None:
        raise RequestError("bad_since", "since begins at a place, after behind one: one of them")
    return parse_since(op.since)


def speed_of(op: Subscribe) -> float:
    """Return how many times faster than it happened a replay is to be; 0: as fast as possible."""
    return op.speed if isinstance(op.speed, int | float) else 0.0


def check_since(channel: keys.Channel, since: Since, single: bool) -> None:
    """Raise RequestError where a channel has no log, or where an id is no place in it."""
    if not is_event(channel.kind):
        raise RequestError("bad_since", f"since is for kinds that have a log, not {channel.kind}", sorted(EVENT_KINDS))
    if not isinstance(since, int) and (not single or is_pattern(channel)):
        raise RequestError("bad_since", "an id is a place in one channel; for several give a time")
