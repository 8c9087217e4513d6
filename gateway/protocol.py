"""The WebSocket's own messages: what clients send, and what the gateway says besides market data.

Market data passes as it stands in Redis (hub/model.py). Everything here is a JSON object with `op` (from clients) or
`type` (to clients). `id` is the client's: it is repeated in every answer to that request.

A subscribe is answered per channel: `ack`, then the newest message (with `after`: the events since), then the stream.
With `since` stored events come first (`ack` with `replaying`), then `live`, then the stream.
A pattern (`quote:*:BTC-USDT`) is acknowledged itself, then each channel it stands for, then and later.

A connection made with the subprotocol `msgpack` or with `?format=msgpack` gets every message, these and market data,
as msgpack in a binary frame: the same fields in the same order. It may send either form.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.frames import text_frame
from hub.model import State

__all__ = [
    "OPS",
    "Ack",
    "Auth",
    "Authenticated",
    "CloseCode",
    "Closing",
    "Error",
    "Gap",
    "Lagging",
    "Live",
    "Op",
    "Ping",
    "Pong",
    "Request",
    "RequestId",
    "Subscribe",
    "Unsubscribe",
    "frame",
    "parse_op",
]  # fmt: skip

RequestId: TypeAlias = Annotated[int, Meta(ge=-(2**53), le=2**53)] | Annotated[str, Meta(max_length=128)] | None


class CloseCode:
    """Close codes; 4000 and up are ours."""

    NORMAL = 1000
    UNRESPONSIVE = 1011
    RESTART = 1012
    TRY_LATER = 1013
    TOO_SLOW = 4008
    UNAUTHORIZED = 4401
    TOO_MANY = 4429


class Op(Struct, tag_field="op", kw_only=True):
    """What all client messages have in common."""

    id: RequestId = None


class Subscribe(Op, tag="subscribe"):
    """Subscribe to channels and patterns.

    `after`: continue behind these message ids; a map channel -> id, or one id where there is one channel. Given for a
    pattern, it holds for its channels that are not subscribed yet and have no id of their own in the map; `0-0` is from
    the first event on. `max_rate`:
    messages per second and channel at most, the newest of what came; only for kinds of which the newest is enough
    (quote, depth, ticker, forming, mark). Subscribing again changes it; where several subscriptions of a client cover
    a channel, the highest rate holds. A message before a status that is about it may come before its time.

    `since`: begin in the past, only for kinds that have a log: at a time (ISO 8601, or a number since 1970 in s, ms, µs
    or ns) or, for one channel, at an id, that one included. The events of all channels of the request come in the order
    of their times (`ts_event`, else `ts_recv`), at `speed` times the pace at which they happened (0, "max" or nothing:
    as fast as they are read); then each channel goes on live. A book begins with the newest snapshot at or before that
    place. Where a log does not reach back so far there is one `gap`, then what there is. Channels that are
    subscribed already are not replayed, and what a pattern is given later begins live.
    """

    # Elements are checked one by one: a bad one must not spoil the others.
    channels: list[Any]
    after: dict[str, Any] | str | None = None
    max_rate: Annotated[float, Meta(ge=0.01, le=1000)] | None = None
    since: str | int | float | None = None
    speed: Annotated[float, Meta(ge=0, le=1_000_000)] | Literal["max"] | None = None


class Unsubscribe(Op, tag="unsubscribe"):
    """End subscriptions: the same names and patterns that were subscribed."""

    channels: list[Any]


class Ping(Op, tag="ping"):
    """Ask for a pong."""


class Auth(Op, tag="auth"):
    """Show a token: as the first message, and later to go on with a newer one of the same `sub` in place."""

    token: str


#: What parse_op makes of a client's message.
Request: TypeAlias = "Subscribe | Unsubscribe | Ping | Auth | Error"

OPS = ("subscribe", "unsubscribe", "ping", "auth")


class Ack(Struct, tag_field="type", tag="ack", kw_only=True, omit_defaults=True):
    """`channel` is subscribed (or no longer). `state` and `reason` say how its data is now.

    `pattern`: the channel was added by this pattern (taken away: nobody publishes it any more). `matched`: the channel
    is itself a pattern that stands for so many channels at the moment. `replaying`: stored events follow, until `live`.
    """

    op: Literal["subscribe", "unsubscribe"]
    id: RequestId = None
    channel: str
    state: State | UnsetType = UNSET
    reason: str = ""
    pattern: str | UnsetType = UNSET
    matched: int | UnsetType = UNSET
    replaying: bool = False


class Error(Struct, tag_field="type", tag="error", kw_only=True, omit_defaults=True):
    """Something could not be done; the connection goes on. `code` is a stable word."""

    code: str
    detail: str
    id: RequestId = None
    channel: str | UnsetType = UNSET
    allowed: Sequence[str] = ()


class Authenticated(Struct, tag_field="type", tag="auth", kw_only=True):
    """Answer to auth: who the client is here, and until when (unix s); null where nobody is asked."""

    id: RequestId
    sub: str | None
    exp: int | None


class Pong(Struct, tag_field="type", tag="pong", kw_only=True):
    """Answer to ping; `ts` is the gateway's time, int ns UTC."""

    id: RequestId
    ts: int


class Gap(Struct, tag_field="type", tag="gap", kw_only=True):
    """Events of `channel` after `last` are lost to this reader; `next` is the id that follows here, null: none yet.

    For a replay `last` is the id that was asked for, null where it was a time: the log begins later.
    """

    channel: str
    last: str | None
    next: str | None


class Live(Struct, tag_field="type", tag="live", kw_only=True, omit_defaults=True):
    """The replay of `channel` has caught up: what follows is the stream, after the event `last` (null: there is none).
    `state` and `reason` say how its data is now."""

    id: RequestId = None
    channel: str
    last: str | None
    state: State
    reason: str = ""


class Lagging(Struct, tag_field="type", tag="lagging", kw_only=True):
    """The reader is slow. `action` says what follows from it, `channels` how many messages are left out in each.

    conflated: only the newest of each state channel follows. snapshot: books begin anew with a snapshot. close: the
    connection ends with code 4008.
    """

    action: Literal["conflated", "snapshot", "close"]
    channels: dict[str, int]
    paused_ms: int


class Closing(Struct, tag_field="type", tag="closing", kw_only=True):
    """The last message before a close by the gateway; `last` is, per event channel, where to continue (`after`)."""

    code: int
    reason: str
    last: dict[str, str]


_encode = msgspec.json.Encoder().encode
_Ops: TypeAlias = Subscribe | Unsubscribe | Ping | Auth
_decoder: msgspec.json.Decoder[_Ops] = msgspec.json.Decoder(_Ops)
_unpacker: msgspec.msgpack.Decoder[_Ops] = msgspec.msgpack.Decoder(_Ops)


class _Loose(Struct):
    op: Any = None
    id: Any = None


def frame(message: Struct) -> bytes:
    """Return the whole WebSocket frame of a control message."""
    return text_frame(_encode(message))


def parse_op(payload: bytes, *, packed: bool = False) -> Request:
    """Parse a client's message, JSON or `packed` in msgpack; an Error to be sent back where it is none."""
    try:
        return _unpacker.decode(payload) if packed else _decoder.decode(payload)
    except msgspec.ValidationError as error:
        detail = str(error)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return Error(code="bad_msgpack" if packed else "bad_json", detail=str(error)[:200])
    try:
        loose = (msgspec.msgpack if packed else msgspec.json).decode(payload, type=_Loose)
    except (msgspec.DecodeError, RecursionError):
        return Error(code="bad_message", detail='a message is an object such as {"op":"ping"}', allowed=OPS)
    request = _request_id(loose.id)
    if loose.op not in OPS:
        return Error(code="unknown_op", detail=f"there is no op {str(loose.op)[:40]!r}", id=request, allowed=OPS)
    return Error(code="bad_message", detail=detail[:200], id=request)


def _request_id(value: Any) -> RequestId:
    try:
        return cast(RequestId, msgspec.convert(value, RequestId))
    except msgspec.ValidationError:
        return None
