"""What the gateway says besides market data: the fields the client uses (gateway/protocol.py has all)."""

from typing import TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

from hub.client.items import Gap
from hub.model import Message, State, decode

__all__ = ["Ack", "CaughtUp", "Closing", "Error", "Lagging", "parse"]


class Ack(Struct, tag_field="type", tag="ack"):
    """`id` is missing where a pattern was given a channel that is new."""

    channel: str
    op: str
    id: int | None = None
    state: State | UnsetType = UNSET
    reason: str = ""
    pattern: str = ""
    matched: int | UnsetType = UNSET
    replaying: bool = False


class Error(Struct, tag_field="type", tag="error"):
    code: str
    detail: str
    channel: str = ""
    allowed: list[str] = []


class Lagging(Struct, tag_field="type", tag="lagging"):
    action: str
    channels: dict[str, int]


class Closing(Struct, tag_field="type", tag="closing"):
    last: dict[str, str]


class CaughtUp(Struct, tag_field="type", tag="live"):
    channel: str
    last: str | None
    state: State
    reason: str = ""


class _Gap(Struct, tag_field="type", tag="gap"):
    channel: str
    last: str | None
    next: str | None


class _Other(Struct, tag_field="type", tag="pong"):
    pass


class _Auth(Struct, tag_field="type", tag="auth"):
    pass


Control: TypeAlias = Ack | Error | Lagging | Closing | CaughtUp | Gap

_decoder = msgspec.json.Decoder(Ack | Error | Lagging | Closing | CaughtUp | _Gap | _Other | _Auth)
_TAGS = (b'{"type":"ack"', b'{"type":"error"', b'{"type":"gap"', b'{"type":"lagging"', b'{"type":"closing"',
         b'{"type":"pong"', b'{"type":"auth"', b'{"type":"live"')  # fmt: skip


def parse(frame: bytes) -> Message | Control | None:
    """Parse one frame of the gateway; None for what the client did not ask about. msgspec.DecodeError where it is none
    of the gateway's."""
    if not frame.startswith(_TAGS):
        return decode(frame)
    control = _decoder.decode(frame)
    if isinstance(control, _Gap):
        return Gap(control.channel, control.last or "0-0", control.next)
    return None if isinstance(control, _Other | _Auth) else control
