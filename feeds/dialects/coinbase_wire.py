"""Coinbase frames as a recording has them: what they are about, and how they are told again at another time."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import Struct

from feeds.dialects.base import Lap, Reading, noise

__all__ = ["ADVANCED", "EXCHANGE", "ns_of", "read_frame", "rewrite", "text_of", "with_number"]

#: First word of a topic: which of the two protocols it belongs to.
ADVANCED: Final = "advanced"
EXCHANGE: Final = "exchange"

#: A frame's own word -> the channel that brings it.
_ADVANCED_CHANNELS: Final = {
    "l2_data": "level2", "market_trades": "market_trades", "ticker": "ticker", "ticker_batch": "ticker_batch",
}  # fmt: skip
_EXCHANGE_CHANNELS: Final = {
    "snapshot": "level2", "l2update": "level2", "match": "matches", "ticker": "ticker", "heartbeat": "heartbeat",
}  # fmt: skip

_TIME: Final = re.compile(rb'("(?:timestamp|event_time|time)"\s*:\s*")([^"]*)(")')
_TRADE_ID: Final = re.compile(rb'("(?:last_)?trade_id"\s*:\s*"?)(\d+)')
_NUMBER: Final = re.compile(rb'("sequence_num"\s*:\s*)\d+')
_NS: Final = 1_000_000_000


class _Trade(Struct):
    product_id: str = ""
    trade_id: str | int = ""


class _Event(Struct):
    type: str = ""
    product_id: str = ""
    trades: list[_Trade] = []
    tickers: list[_Trade] = []


class _Frame(Struct):
    channel: str = ""
    type: str = ""
    product_id: str = ""
    timestamp: str = ""
    time: str = ""
    trade_id: int | None = None
    events: list[_Event] = []


_decode = msgspec.json.Decoder(_Frame).decode


def read_frame(payload: bytes) -> Reading | None:
    """Read a recorded frame; None for answers, and for trades from before the recorder's subscription."""
    try:
        frame = _decode(payload)
    except (ValueError, RecursionError):
        try:
            known = isinstance(msgspec.json.decode(payload), dict)
        except (ValueError, RecursionError):
            known = False
        return None if known else noise(payload)
    text = frame.timestamp or frame.time
    try:
        ts = ns_of(text) if text else None
    except ValueError:
        ts = None
    if frame.channel == "heartbeats":
        return Reading((f"{ADVANCED} heartbeats heartbeats",), "", frame.channel, ts, (), 0, len(payload))
    if frame.channel:
        return _advanced(frame, ts, len(payload))
    channel = _EXCHANGE_CHANNELS.get(frame.type)
    if channel is None or not frame.product_id:
        return None
    ids = ((f"{frame.product_id} trade", frame.trade_id),) if frame.type == "match" and frame.trade_id else ()
    topic = f"{EXCHANGE} {channel} {frame.product_id}"
    return Reading((topic,), frame.product_id, frame.type, ts, ids, 0, len(payload))


def _advanced(frame: _Frame, ts: int | None, length: int) -> Reading | None:
    channel = _ADVANCED_CHANNELS.get(frame.channel)
    if channel is None or not frame.events:
        return None
    event = frame.events[0]
    if channel == "market_trades" and event.type == "snapshot":
        return None
    items = event.trades or event.tickers
    product = event.product_id or (items[0].product_id if items else "")
    if not product:
        return None
    trades = [trade for each in frame.events for trade in each.trades]
    ids = tuple(
        (f"{trade.product_id} trade", int(trade.trade_id)) for trade in trades if str(trade.trade_id).isdecimal()
    )
    return Reading((f"{ADVANCED} {channel} {product}",), product, frame.channel, ts, ids, 0, length)


def rewrite(data: bytes, symbol: str, lap: Lap) -> bytes:
    """Return a frame as it is told in this lap: times and numbers of trades moved."""
    space = f"{symbol} trade"
    told = _memo(lambda text: _moved(text, lap))
    data = _TIME.sub(lambda match: match[1] + told(match[2]) + match[3], data)
    return _TRADE_ID.sub(lambda match: match[1] + b"%d" % lap.id(space, int(match[2])), data)


def _memo(make: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Thousands of levels of a snapshot share one time."""
    known: dict[bytes, bytes] = {}

    def told(text: bytes) -> bytes:
        if text not in known:
            known[text] = make(text)
        return known[text]

    return told


def _moved(text: bytes, lap: Lap) -> bytes:
    try:
        ns = ns_of(text.decode())
    except ValueError:
        return text
    return text_of(lap.time(ns), len(text.partition(b".")[2]) - 1).encode() if ns > 0 else text


def with_number(data: bytes, number: int) -> bytes:
    """Return a frame of Advanced Trade with the number that it has on one client's connection."""
    return _NUMBER.sub(rb"\g<1>%d" % number, data, count=1)


def ns_of(text: str) -> int:
    """Return int ns UTC; ValueError where `text` is no RFC 3339 time in UTC."""
    head, _, tail = text.removesuffix("Z").partition(".")
    whole = datetime.fromisoformat(head)
    fraction = int(tail.ljust(9, "0")[:9]) if tail else 0
    return int(whole.replace(tzinfo=UTC).timestamp()) * _NS + fraction


def text_of(ns: int, digits: int = 9) -> str:
    """Return RFC 3339 with so many decimals."""
    whole = datetime.fromtimestamp(ns // _NS, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{ns % _NS:09d}"[: 20 + digits] + "Z" if digits > 0 else whole + "Z"
