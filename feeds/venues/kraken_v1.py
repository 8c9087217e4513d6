"""Kraken's WebSocket v1, for recordings: array frames, XBT names, prices as text. No feed subscribes to it.

Documentation: https://docs.kraken.com/api/docs/websocket-v1/book (frozen)

Quirks: trades have no id, so that only a frame like the one before is a repeated one; the depth stands in the channel's
name (`book-1000`); only updates have a checksum (`c`), made as v2's; one update may come as two objects in one frame; a
level sent again because it moved up is marked `r` and has its old time, those of all others never go back.
"""

import re
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from feeds.adapter import Acked, BookGap, BookUpdate, Event, Fetch, Peek, Refused, Skipped
from feeds.units import PositivePrice
from feeds.venues.kraken_rest import v2_name
from feeds.venues.kraken_wire import UNREADABLE, TextLevel, read_levels
from hub.instruments import Instrument
from hub.intervals import NS_PER_S
from hub.model import Price, Quote, Side, Size, Ticker, Trade

__all__ = ["KrakenV1", "peek_v1"]

_VENUE = "kraken"
_NS_MAX = 9_000_000_000 * NS_PER_S
_TENS: list[int] = [10**exponent for exponent in range(10)]


class _Row(TextLevel, array_like=True, gc=False):
    """`["58729.40000","0.45000000","1617666423.606671","r"]`; the last only in updates."""

    time: str
    again: str = ""


class _Book(Struct, gc=False):
    """`as`/`bs`: a snapshot; `a`/`b`: an update."""

    as_: list[_Row] | None = msgspec.field(name="as", default=None)
    bs: list[_Row] | None = None
    a: list[_Row] = []
    b: list[_Row] = []
    c: str | None = None


class _Trade(Struct, array_like=True, gc=False):
    """`["58721.20000","0.02798644","1617666461.465618","s","m",""]`: side and order type are the taker's."""

    price: PositivePrice
    volume: Size
    time: str
    side: Literal["b", "s"]


class _Best(Struct, array_like=True, gc=False):
    price: Price
    whole: int
    size: Size


class _Last(Struct, array_like=True, gc=False):
    price: Price


class _Days(Struct, array_like=True, gc=False):
    today: Size
    hours24: Size


class _Ticker(Struct, gc=False):
    a: _Best
    b: _Best
    c: _Last
    v: _Days
    l: _Days  # noqa: E741 - the venue's name
    h: _Days
    o: _Days


class _Event(Struct, gc=False):
    """`{"event":"subscriptionStatus","status":"subscribed","channelName":"book-1000","pair":"XBT/USD"}`."""

    event: str = ""
    status: str = ""
    channelName: str = ""
    pair: str = ""
    errorMessage: str = ""


_decode_one_book = msgspec.json.Decoder(tuple[int, _Book, str, str]).decode
_decode_parts = msgspec.json.Decoder(list[Raw]).decode
_decode_name = msgspec.json.Decoder(str).decode
_decode_book = msgspec.json.Decoder(_Book).decode
_decode_trades = msgspec.json.Decoder(list[_Trade], strict=False).decode
_decode_ticker = msgspec.json.Decoder(_Ticker, strict=False).decode
_decode_event = msgspec.json.Decoder(_Event).decode

_KINDS = {"trade": ("trade",), "ticker": ("quote", "ticker"), "book": ("book",)}
_SIDES: dict[str, Side] = {"b": "buy", "s": "sell"}

#: How frames of books begin and end, where no more than that can be read of one.
_IS_BOOK = re.compile(rb'\[\s*\d+\s*,\s*\{\s*"[ab]s?"')
_PAIR = re.compile(rb'"book-\d+"\s*,\s*"([^"]+)"\s*\]\s*$')


def peek_v1(payload: bytes) -> list[Peek]:
    """See Adapter.peek."""
    try:
        parts = _decode_parts(payload)
        if len(parts) < 4:
            return []
        channel, pair = _decode_name(parts[-2]).partition("-")[0], _decode_name(parts[-1])
        at = None
        if channel == "trade":
            at = _ns_of(_decode_trades(parts[1])[-1].time)
        elif channel == "book":
            bids, asks = _rows_of([_decode_book(part) for part in parts[1:-2]])
            at = _newest(bids + asks)
        return [Peek(pair, kind, at) for kind in _KINDS.get(channel, ())]
    except (*UNREADABLE, IndexError):
        return []


def _rows_of(books: list[_Book]) -> tuple[list[_Row], list[_Row]]:
    """Return the rows of bids and of asks."""
    if len(books) == 1:
        book = books[0]
        return book.b if book.bs is None else book.bs + book.b, book.a if book.as_ is None else book.as_ + book.a
    parts = [_rows_of([book]) for book in books]
    return [row for bids, _ in parts for row in bids], [row for _, asks in parts for row in asks]


def _newest(rows: list[_Row]) -> int | None:
    if len(rows) == 1:
        return _ns_of(rows[0].time)
    return _ns_of(max((row.time for row in rows), key=lambda text: (len(text), text))) if rows else None


def _ns_of(text: str) -> int:
    """Read unix seconds with up to nine decimals, `1617666423.606671`; ValueError where it is none."""
    whole, _, fraction = text.partition(".")
    digits, missing = whole + fraction, 9 - len(fraction)
    if not whole or missing < 0 or not digits.isdecimal() or (ns := int(digits) * _TENS[missing]) >= _NS_MAX:
        raise ValueError(f"{text[:40]!r} is no unix time")
    return ns


class KrakenV1:
    """Reads the frames of one connection."""

    def __init__(self, instruments: Mapping[str, Instrument]) -> None:
        self._instruments = instruments
        self._live: dict[str, tuple[Instrument, int]] = {}
        """symbol -> its instrument and the newest time of an update, int ns"""
        self._traded: dict[str, bytes] = {}
        self._handlers: dict[str, Callable[[Instrument, list[Raw], str, int], list[Event | Fetch]]] = {
            "book": self._book,
            "trade": self._trades,
            "ticker": self._ticker,
        }

    def receive(self, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        """Read one frame; ValueError or RecursionError where it cannot be read."""
        try:
            # Nearly all frames are a book's with one object: one pass is enough for them.
            _, book, name, pair = _decode_one_book(payload)
        except ValueError:
            pass
        else:
            if name.startswith("book-") and (instrument := self._instrument(pair)) is not None:
                return self._levels(instrument, [book], name[5:], ts_recv)
        parts = _decode_parts(payload)
        if len(parts) < 4:
            raise ValueError("an array of fewer than four parts")
        name, pair = _decode_name(parts[-2]), _decode_name(parts[-1])
        instrument = self._instrument(pair)
        if instrument is None:
            return [Skipped("unknown symbol")]
        channel, _, depth = name.partition("-")
        handler = self._handlers.get(channel)
        if handler is None:
            return [Skipped("unknown channel")]
        return handler(instrument, parts[1:-2], depth, ts_recv)

    def _instrument(self, pair: str) -> Instrument | None:
        """Return what `pair` names: `XBT/USD` where there was no list, `BTC/USD` where there was one."""
        return self._instruments.get(pair) or self._instruments.get(v2_name(pair))

    def forget(self, instrument: Instrument) -> None:
        """Take no update of this book before its next snapshot."""
        self._live.pop(instrument.symbol, None)

    def suspect(self, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        """Give up the books that an unreadable frame may have been about."""
        if not _IS_BOOK.match(payload):
            return []
        named = _PAIR.search(payload)
        only = self._instrument(str(named[1], errors="replace")) if named else None
        rows = [row for row, _ in self._live.values() if not named or row is only]
        for row in rows:
            self.forget(row)
        return [BookGap(row, "an unreadable book message", ts_recv) for row in rows]

    def answer(self, payload: bytes) -> list[Event | Fetch]:
        """Read a frame that is no array."""
        event = _decode_event(payload)
        if event.event != "subscriptionStatus":
            known = event.event in {"heartbeat", "systemStatus", "pong"}
            return [] if known else [Skipped("unknown message")]
        channel = f"{event.channelName.partition('-')[0]}:{event.pair}"
        if event.status == "error":
            return [Refused((channel,), event.errorMessage)]
        return [Acked((channel,))] if event.status == "subscribed" else []

    def _trades(self, instrument: Instrument, parts: list[Raw], depth: str, ts_recv: int) -> list[Event | Fetch]:
        told, before = bytes(parts[0]), self._traded.get(instrument.symbol)
        if told == before:
            return [Skipped("repeated trades")]
        self._traded[instrument.symbol] = told
        return [
            Trade(
                _VENUE, instrument.symbol, "", _ns_of(row.time), ts_recv, 0,
                row.price, row.volume, _SIDES[row.side], "",
            )
            for row in _decode_trades(parts[0])
        ]  # fmt: skip

    def _ticker(self, instrument: Instrument, parts: list[Raw], depth: str, ts_recv: int) -> list[Event | Fetch]:
        m = _decode_ticker(parts[0])
        symbol = instrument.symbol
        return [
            Quote(_VENUE, symbol, "", None, ts_recv, 0, m.b.price, m.b.size, m.a.price, m.a.size),
            Ticker(
                _VENUE, symbol, "", None, ts_recv, 0, m.c.price, m.o.hours24, m.h.hours24, m.l.hours24,
                m.v.hours24, None, m.b.price, m.a.price,
            ),
        ]  # fmt: skip

    def _book(self, instrument: Instrument, parts: list[Raw], depth: str, ts_recv: int) -> list[Event | Fetch]:
        return self._levels(instrument, [_decode_book(part) for part in parts], depth, ts_recv)

    def _levels(self, instrument: Instrument, books: list[_Book], depth: str, ts_recv: int) -> list[Event | Fetch]:
        symbol, book = instrument.symbol, books[-1]
        snapshot = book.as_ is not None or book.bs is not None
        if len(books) > 1:
            snapshot = any(each.as_ is not None or each.bs is not None for each in books)
        if not snapshot and symbol not in self._live:
            return [Skipped("book before its snapshot")]
        bid_rows, ask_rows = _rows_of(books)
        last = 0 if snapshot else self._live[symbol][1]
        at = 0 if snapshot else _newest([row for row in bid_rows + ask_rows if not row.again]) or last
        if at < last:
            self.forget(instrument)
            return [BookGap(instrument, f"a book message of {at} after one of {last}", ts_recv)]
        self._live[symbol] = instrument, at
        bids, bid_texts = read_levels(bid_rows, falling=True) if bid_rows else ([], [])
        asks, ask_texts = read_levels(ask_rows, falling=False) if ask_rows else ([], [])
        checksum = None
        for each in books:
            checksum = each.c or checksum
        window = (int(depth) if depth.isdecimal() else 10) if snapshot else None
        return [
            BookUpdate(
                instrument, snapshot, bids, asks, _newest(bid_rows + ask_rows), ts_recv, True, True, (),
                int(checksum) if checksum is not None else None, (bid_texts, ask_texts), window,
            )
        ]  # fmt: skip
