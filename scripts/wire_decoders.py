"""Bare msgspec typed decoders of venues' frames, one per channel: what adapters are measured against.

Each reads a whole frame in one pass into the venue's wire Structs, and nothing else. Frames of other channels, answers
and heartbeats have none. HTX's are unpacked first: no decoder reads gzip.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec
from msgspec import Raw, Struct

from feeds.venues import (
    alpaca_wire,
    binance_futures_wire,
    binance_wire,
    bybit_wire,
    coinbase_wire,
    deribit_wire,
    htx_wire,
    hyperliquid_wire,
    kraken_v1,
    kraken_wire,
    okx_wire,
)
from hub.model import Size

__all__ = ["Decode", "decoder_of"]

Decode: TypeAlias = Callable[[bytes], object]
T = TypeVar("T")


class Stream(Struct, Generic[T], gc=False):
    """Binance's combined form."""

    stream: str
    data: T


class Push(Struct, Generic[T], gc=False):
    """OKX."""

    arg: okx_wire.Arg
    data: list[T]
    action: str = ""


class Topic(Struct, Generic[T], gc=False):
    """Bybit."""

    topic: str
    type: str
    data: T
    ts: bybit_wire.Millis | None = None


def _of(kind: Any) -> Decode:
    decode: Decode = msgspec.json.Decoder(kind, strict=False).decode
    return decode


def _unpacked(decode: Decode) -> Decode:
    return lambda payload: decode(htx_wire.unpacked(payload))


_spot = {
    "aggTrade": _of(Stream[binance_wire.AggTrade]),
    "trade": _of(Stream[binance_wire.Trade]),
    "bookTicker": _of(Stream[binance_wire.BookTicker]),
    "ticker": _of(Stream[binance_wire.Ticker]),
    "depth": _of(Stream[binance_wire.Diff]),
}
_okx_book = _of(Push[okx_wire.BookOf[okx_wire.Row]])
_htx_day, _htx_book = _unpacked(htx_wire.decode_ticker), _unpacked(htx_wire.decode_book)
_bybit_book = _of(Topic[bybit_wire.BookPush])

#: venue -> channel as `_channel` names it -> decoder of a whole frame
DECODERS: dict[str, dict[str, Decode]] = {
    "binance": _spot,
    "binance_futures": {
        **_spot,
        "trade": _of(Stream[binance_futures_wire.Trade]),
        "depth": _of(Stream[binance_futures_wire.Diff]),
        "markPrice": _of(Stream[binance_futures_wire.MarkPrice]),
    },
    "coinbase": {
        **dict.fromkeys(("l2_data", "market_trades", "ticker", "ticker_batch"), coinbase_wire.decode_advanced),
        **dict.fromkeys(("snapshot", "l2update", "match", "exchange ticker"), coinbase_wire.decode_exchange),
    },
    "deribit": {
        "book": deribit_wire.decode_book,
        "grouped book": deribit_wire.decode_grouped,
        "trades": deribit_wire.decode_trades,
        "quote": deribit_wire.decode_quote,
        "ticker": deribit_wire.decode_ticker,
    },
    "hyperliquid": dict.fromkeys(
        ("l2Book", "trades", "bbo", "activeAssetCtx", "activeSpotAssetCtx"), hyperliquid_wire.decode_frame
    ),
    "kraken": {
        **dict.fromkeys(("book", "trade", "ticker"), kraken_wire.decode_frame),
        "v1 book": _of(tuple[int, kraken_v1._Book, str, str]),
        "v1 books": _of(tuple[int, kraken_v1._Book, kraken_v1._Book, str, str]),
        "v1 trade": _of(tuple[int, list[kraken_v1._Trade], str, str]),
        "v1 ticker": _of(tuple[int, kraken_v1._Ticker, str, str]),
    },
    "okx": {
        "trades": _of(Push[okx_wire.TradeOf[Size]]),
        "bbo-tbt": _of(Push[okx_wire.QuotePush]),
        "tickers": _of(Push[okx_wire.TickerPush]),
        "books": _okx_book,
        "books-l2-tbt": _okx_book,
        "books50-l2-tbt": _okx_book,
    },
    "bybit": {
        "publicTrade": _of(Topic[list[bybit_wire.TradePush]]),
        "orderbook": _bybit_book,
        "tickers": _of(Topic[dict[str, str | int | float | bool | None]]),
    },
    "htx": {
        "trade.detail": _unpacked(htx_wire.decode_trades),
        "bbo": _unpacked(htx_wire.decode_bbo),
        "ticker": _htx_day,
        "detail": _htx_day,
        "depth": _htx_book,
        "mbp": _htx_book,
    },
    "alpaca": {"items": alpaca_wire.items_of},
}


class _Params(Struct):
    channel: str = ""


class _Arg(Struct):
    channel: str = ""


class _Named(Struct):
    """The fields by which frames say what they are, of all venues."""

    stream: str = ""
    channel: str = ""
    type: str = ""
    topic: str = ""
    ch: str = ""
    event: str = ""
    params: _Params | None = None
    arg: _Arg | None = None


_decode_named = msgspec.json.Decoder(_Named).decode
_decode_parts = msgspec.json.Decoder(list[Raw]).decode


def decoder_of(venue: str, payload: bytes) -> tuple[str, Decode] | None:
    """Return the channel of a frame and its decoder; None for what has none."""
    try:
        channel = _channel(venue, payload)
        decode = DECODERS[venue][channel]
        decode(payload)
    except (KeyError, *htx_wire.UNREADABLE):
        return None
    return channel, decode


def _channel(venue: str, payload: bytes) -> str:
    if venue == "alpaca":
        return "items"
    if venue == "htx":
        payload = htx_wire.unpacked(payload)
    if payload[:1] == b"[":
        parts = _decode_parts(payload)
        name = str(msgspec.json.decode(parts[-2])).partition("-")[0]
        return f"v1 {name}s" if len(parts) == 5 else f"v1 {name}"
    named = _decode_named(payload)
    if named.stream:
        return named.stream.partition("@")[2].partition("@")[0]
    if named.ch:
        name = named.ch.split(".", 2)[2]
        return name.partition(".")[0] if name.startswith(("depth", "mbp")) else name
    if named.topic:
        return named.topic.partition(".")[0]
    if named.params is not None:
        parts_of_name = named.params.channel.split(".")
        return "grouped book" if parts_of_name[0] == "book" and len(parts_of_name) == 5 else parts_of_name[0]
    if named.arg is not None:
        return "" if named.event else named.arg.channel
    if venue == "coinbase" and not named.channel:
        return "exchange ticker" if named.type == "ticker" else named.type
    return named.channel
