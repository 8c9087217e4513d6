"""How Deribit writes its messages: frames, book changes, trades, and which fields are ids and times.

Moving happens in the text, so that everything else stays as it was recorded, to the byte.
"""

import re
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from feeds.dialects.base import Lap

__all__ = [
    "Book",
    "decode_any",
    "decode_change",
    "decode_frame",
    "decode_listed",
    "decode_notice",
    "decode_trades",
    "frame_of",
    "moved",
    "rows_of",
]

_NS_PER_MS: Final = 1_000_000
_HEAD: Final = b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":'
#: Fields that move from lap to lap: times, and numbers by their id space. Nothing is left out between two laps' trades.
_SPACES: Final = {"change_id": "book", "prev_change_id": "book", "trade_seq": "seq", "trade_id": "trade"}
_MOVING = re.compile(rb'("(timestamp|change_id|prev_change_id|trade_seq|trade_id)"\s*:\s*"?(?:[A-Z_]+-)?)(\d+)')

_encode = msgspec.json.encode


class Notice(Struct):
    channel: str
    data: Raw


class Frame(Struct):
    method: str = ""
    params: Raw = Raw()


class Change(Struct):
    instrument_name: str
    timestamp: int
    change_id: int
    bids: list[tuple[str, float, float]] = []
    asks: list[tuple[str, float, float]] = []
    prev_change_id: int | None = None
    type: str | None = None

    @property
    def whole(self) -> bool:
        return self.type == "snapshot" or (self.type is None and self.prev_change_id is None)


class Trade(Struct):
    instrument_name: str
    timestamp: int
    trade_seq: int
    trade_id: str
    price: Raw
    amount: Raw
    direction: str


class Listed(Struct):
    instrument_name: str
    base_currency: str = ""
    settlement_currency: str = ""
    quote_currency: str = ""
    kind: str = ""


decode_frame = msgspec.json.Decoder(Frame).decode
decode_notice = msgspec.json.Decoder(Notice).decode
decode_change = msgspec.json.Decoder(Change).decode
decode_trades = msgspec.json.Decoder(list[Trade]).decode
decode_any = msgspec.json.Decoder(dict[str, Any]).decode
decode_listed = msgspec.json.Decoder(Listed).decode
_decode_rows = msgspec.json.Decoder(dict[str, Raw]).decode


class Book:
    """A book at this moment of its track; `last` None before its first snapshot."""

    def __init__(self) -> None:
        self.last: int | None = None
        self.timestamp = 0
        self.sides: tuple[dict[float, float], dict[float, float]] = ({}, {})

    def play(self, change: Change) -> None:
        if change.whole:
            self.sides = ({}, {})
        elif change.prev_change_id != self.last:
            self.last = None
            return
        self.last, self.timestamp = change.change_id, change.timestamp
        for side, levels in zip(self.sides, (change.bids, change.asks), strict=True):
            for action, price, amount in levels:
                if action == "delete":
                    side.pop(price, None)
                else:
                    side[price] = amount


def frame_of(channel: str, data: bytes) -> bytes:
    """Return a notification."""
    return (
        b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":' + _encode(channel) + b',"data":' + data + b"}}"
    )


def rows_of(body: bytes) -> dict[str, Raw]:
    rows = msgspec.json.decode(_decode_rows(body)["result"], type=list[Raw])
    return {decode_listed(row).instrument_name: row for row in rows}


def moved(data: bytes, symbol: str, lap: Lap) -> bytes:
    """Return `data` with its ids and times as told in `lap`, all other bytes as they were."""

    def told(match: re.Match[bytes]) -> bytes:
        name, number = match[2].decode(), int(match[3])
        if name == "timestamp":
            return match[1] + b"%d" % (lap.time(number * _NS_PER_MS) // _NS_PER_MS)
        return match[1] + b"%d" % lap.id(f"{symbol} {_SPACES[name]}", number)

    return _MOVING.sub(told, data)
