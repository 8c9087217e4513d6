"""How Binance writes its messages: which fields of which event are ids and times, how to move them, and candles.

Moving happens in the text, so that everything else stays as it was recorded, to the byte.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from feeds.dialects.base import Lap, Reading, noise
from feeds.dialects.klines import INTERVALS_MS, Kline, floor_ms

__all__ = ["HOLES", "kline_event", "kline_row", "read_frame", "rewrite", "stream_names", "told_ms"]

TIME: Final = ""
_TICKER: Final = {"E": TIME, "O": TIME, "C": TIME, "F": "trade", "L": "trade"}
_OTHER: Final = {"E": TIME, "T": TIME}

#: event -> field -> id space, or TIME. Best bid/ask shares the numbers of the book; on spot it has no name. `pu` and
#: two of the times are futures' alone.
FIELDS: Final[dict[str, dict[str, str]]] = {
    "aggTrade": {"E": TIME, "T": TIME, "a": "aggregate", "f": "trade", "l": "trade"},
    "trade": {"E": TIME, "T": TIME, "t": "trade", "a": "order", "b": "order"},
    "depthUpdate": {"E": TIME, "T": TIME, "U": "book", "u": "book", "pu": "book"},
    "bookTicker": {"E": TIME, "T": TIME, "u": "book"},
    "depth": {"lastUpdateId": "book"},
    "24hrTicker": _TICKER,
    "1hTicker": _TICKER,
    "4hTicker": _TICKER,
    "1dTicker": _TICKER,
}
#: Events whose ids are news. A ticker's first trade is a day old: counted, it would make laps a day's trades apart.
COUNTED: Final = frozenset({"aggTrade", "trade", "depthUpdate", "bookTicker", "depth"})

#: Between two laps trade numbers go on: nothing was traded. Book updates leave a hole, because the book at the start of
#: a lap does not follow from the one at its end, and nobody may take it for that.
HOLES: Final[Mapping[str, int]] = {"book": 1000}

#: event -> its stream's name after the `@`; raw frames do not say it.
_STREAMS: Final = {
    "aggTrade": ("aggTrade",),
    "trade": ("trade",),
    "depthUpdate": ("depth@100ms", "depth"),
    "bookTicker": ("bookTicker",),
    "24hrTicker": ("ticker",),
    "24hrMiniTicker": ("miniTicker",),
    "1hTicker": ("ticker_1h",),
    "4hTicker": ("ticker_4h",),
    "1dTicker": ("ticker_1d",),
    "avgPrice": ("avgPrice",),
    "markPriceUpdate": ("markPrice@1s", "markPrice"),
}
_STREAM_NAME = re.compile(rb"[^\s\"/=?&@]+@[A-Za-z0-9_@:+-]+|![A-Za-z0-9_@]+")
_PATTERNS = {
    kind: re.compile(rb'("(' + "|".join(fields).encode() + rb')"\s*:\s*)(\d+)')
    for kind, fields in [*FIELDS.items(), ("", _OTHER)]
}
#: Times are ms, or us where the recorder asked for them; no time in ms has this many digits before the year 5138.
_MICROSECONDS: Final = 10**14


class _Envelope(Struct):
    stream: str = ""
    data: Raw = Raw()


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode


def stream_names(payload: bytes) -> list[str]:
    """Return the streams that a request or URL names."""
    return [name.decode(errors="replace") for name in _STREAM_NAME.findall(payload)]


def _ns(number: int) -> int:
    return number * (1000 if number >= _MICROSECONDS else 1_000_000)


def told_ms(ms: int, lap: Lap) -> int:
    """Return a recorded time (unix ms) as it is told in `lap`."""
    return lap.time(ms * 1_000_000) // 1_000_000


def read_frame(payload: bytes, named: set[str]) -> Reading | None:
    """Read a recorded frame; `named` are streams known to be subscribed. None for what is no stream's data."""
    try:
        if payload[:1] == b"[":
            return _reading("!ticker@arr", payload, 0, len(payload), named)
        envelope = _decode_envelope(payload)
        data = bytes(envelope.data) if envelope.stream else payload
        start = payload.index(data) if envelope.stream else 0
        return _reading(envelope.stream, data, start, start + len(data), named)
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return noise(payload)


def _reading(stream: str, data: bytes, start: int, end: int, named: set[str]) -> Reading | None:
    rows: list[dict[str, Any]] = msgspec.json.decode(data) if data[:1] == b"[" else [msgspec.json.decode(data)]
    if not rows or rows[0].get("e") == "serverShutdown":
        return None
    first = rows[0]
    kind = _kind(first)
    symbol = first.get("s") or stream.partition("@")[0].upper()
    topics = (stream,) if stream else _topics(first, kind, named)
    if not topics or not isinstance(symbol, str):
        return None
    ids = []
    if kind in COUNTED:
        spaces = [(key, space) for key, space in FIELDS[kind].items() if space]
        ids = [(f"{symbol} {space}", int(first[key])) for key, space in spaces if key in first]
    event_time = first.get("E")
    ts_event = _ns(event_time) if isinstance(event_time, int) else None
    return Reading(topics, symbol if len(rows) == 1 else "", kind, ts_event, tuple(ids), start, end)


def _kind(row: Mapping[str, Any]) -> str:
    if "e" in row:
        return str(row["e"])
    if "lastUpdateId" in row:
        return "depth"
    return "bookTicker" if "u" in row and "b" in row else ""


def _topics(row: Mapping[str, Any], kind: str, named: set[str]) -> tuple[str, ...]:
    """Return the streams a raw frame may have come by: those known to be subscribed, else all that fit."""
    if "s" not in row:
        return ()
    symbol = str(row["s"]).lower()
    suffixes = (f"kline_{row['k']['i']}",) if kind == "kline" else _STREAMS.get(kind, ())
    names = [f"{symbol}@{suffix}" for suffix in suffixes]
    return tuple(name for name in names if name in named) or tuple(names)


def rewrite(data: bytes, kind: str, symbol: str, lap: Lap) -> bytes:
    """Return `data` with its ids and times as told in `lap`, all other bytes as they were."""
    if data[:1] == b"[":
        rows = [bytes(row) for row in _decode_list(data)]
        symbols = [str(msgspec.json.decode(row).get("s", "")) for row in rows]
        return b"[" + b",".join(rewrite(row, kind, name, lap) for row, name in zip(rows, symbols, strict=True)) + b"]"
    fields = FIELDS.get(kind, _OTHER)

    def told(match: re.Match[bytes]) -> bytes:
        number = int(match[3])
        space = fields[match[2].decode()]
        if space:
            return match[1] + b"%d" % lap.id(f"{symbol} {space}", number)
        if not number:
            return match[0]  # no time: dated futures are never funded
        unit = 1000 if number >= _MICROSECONDS else 1_000_000
        return match[1] + b"%d" % (lap.time(number * unit) // unit)

    return _PATTERNS[kind if kind in FIELDS else ""].sub(told, data)


def _kline_end(start: int, interval: str) -> int:
    return floor_ms(start + INTERVALS_MS[interval], interval) - 1


def kline_row(row: Kline, interval: str) -> list[int | str]:
    """Return a candle as REST tells it."""
    return [
        row.start, row.open, row.high, row.low, row.close, f"{row.volume:.8f}", _kline_end(row.start, interval),
        f"{row.notional:.8f}", row.trades, f"{row.bought:.8f}", f"{row.bought_notional:.8f}", "0",
    ]  # fmt: skip


def kline_event(symbol: str, interval: str, now: int, row: Kline, *, closed: bool) -> bytes:
    """Return a candle as the stream tells it; `now` unix ms."""
    kline = {
        "t": row.start, "T": _kline_end(row.start, interval), "s": symbol, "i": interval,
        "f": row.first_id, "L": row.last_id, "o": row.open, "c": row.close, "h": row.high, "l": row.low,
        "v": f"{row.volume:.8f}", "n": row.trades, "x": closed, "q": f"{row.notional:.8f}",
        "V": f"{row.bought:.8f}", "Q": f"{row.bought_notional:.8f}", "B": "0",
    }  # fmt: skip
    return msgspec.json.encode({"e": "kline", "E": now, "s": symbol, "k": kline})
