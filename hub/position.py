"""Positions of messages: reading the `id` without decoding the payload, and comparing ids. Pure.

A position is `(epoch, seq)`; its text form `"<epoch>-<seq>"` is the message id and the Stream entry id in one.
"""

import re
from typing import Final, TypeAlias

import msgspec

__all__ = ["Position", "follows", "format_position", "head_of", "parse_position", "position_in"]

Position: TypeAlias = tuple[int, int]

_ID: Final = re.compile(r"(\d{1,20})-(\d{1,20})", re.ASCII)
_LIMIT: Final = 2**64
_encode = msgspec.json.Encoder().encode


class _Id(msgspec.Struct, gc=False):
    id: str


_decoder = msgspec.json.Decoder(_Id)


def parse_position(text: str) -> Position:
    """Parse `"<epoch>-<seq>"`; ValueError where it is none (each part fits 64 bits, as in Redis)."""
    match = _ID.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an id of the form <epoch>-<seq>")
    epoch, seq = int(match[1]), int(match[2])
    if epoch >= _LIMIT or seq >= _LIMIT:
        raise ValueError(f"{text!r} is beyond 64 bits")
    return epoch, seq


def format_position(position: Position) -> str:
    return f"{position[0]}-{position[1]}"


def head_of(kind: str, venue: str, symbol: str) -> bytes:
    """Return the bytes every payload of the channel begins with; the id starts right after them."""
    fields = (f'"type":{_text(kind)}', f'"venue":{_text(venue)}', f'"symbol":{_text(symbol)}', '"id":"')
    return b"{" + ",".join(fields).encode()


def _text(value: str) -> str:
    return _encode(value).decode()


def position_in(payload: bytes, head: bytes) -> Position:
    """Return the position of a message of the channel with this `head`; ValueError where the payload has no id."""
    start = len(head)
    end = payload.find(b'"', start)
    if payload.startswith(head) and start < end <= start + 41:
        epoch, dash, seq = payload[start:end].partition(b"-")
        if dash and epoch.isdigit() and seq.isdigit():
            return int(epoch), int(seq)
    try:  # another writer, other spacing: slower, just as good
        return parse_position(_decoder.decode(payload).id)
    except msgspec.DecodeError as error:
        raise ValueError(f"no message: {error}") from error


def follows(last: Position, new: Position) -> bool:
    """Tell whether `new` is the event right after `last`: the next number, or the first of a later epoch."""
    return new[1] == last[1] + 1 if new[0] == last[0] else new[0] > last[0] and new[1] == 1
