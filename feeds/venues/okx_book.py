"""OKX's books: which update follows which, digits for the checksum, contracts to units. Pure.

https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel
"""

import zlib
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import msgspec
from msgspec import Struct

from feeds.adapter import BookGap, BookUpdate, Event, Fetch, Skipped
from feeds.units import SizesOf
from feeds.venues.okx_wire import (
    BookOf,
    Frame,
    Row,
    SizeRow,
    TextRow,
    read_books,
    read_books_sizes,
    read_books_texts,
)
from hub.book import OrderBook
from hub.instruments import Instrument
from hub.intervals import NS_PER_MS
from hub.model import Level, Price

__all__ = ["Chain", "checksum"]

CHECKED_LEVELS = 25


def checksum(book: OrderBook) -> int:
    """CRC32, signed, over `bid:size:ask:size:…` of the best 25 levels of both sides in the venue's digits."""
    pairs = zip_longest(book.bids.best_texts(CHECKED_LEVELS), book.asks.best_texts(CHECKED_LEVELS))
    crc = zlib.crc32(":".join([text for pair in pairs for level in pair if level for text in level]).encode())
    return crc - (1 << 32) if crc >> 31 else crc


class Chain(Struct):
    """The messages of one book.

    `last` is the newest seqId (None: the recording has none), `before` the one it followed. `waiting`: a snapshot was
    asked for. `texted`: the last snapshot had a checksum, so digits are kept.
    """

    last: int | None = None
    before: int | None = None
    live: bool = False
    waiting: bool = False
    texted: bool = False

    def read(
        self, frame: Frame, instrument: Instrument, sizes: SizesOf | None, ts_recv: int
    ) -> tuple[Sequence[Event | Fetch], int]:
        """Return the events of a push, and how many of its items could not be read."""
        snapshot = frame.action == "snapshot"
        if snapshot or self.texted:
            texts, bad = read_books_texts(frame.data)
            return [self._texted(instrument, snapshot, m, sizes, ts_recv) for m in texts], bad
        if sizes is None:
            plain, bad = read_books(frame.data)
            return [self._next(instrument, m, _plain(m.bids), _plain(m.asks), ts_recv) for m in plain], bad
        sized, bad = read_books_sizes(frame.data)
        return [self._next(instrument, m, _sized(m.bids, sizes), _sized(m.asks, sizes), ts_recv) for m in sized], bad

    def lost(self) -> None:
        """Wait for a snapshot that was asked for."""
        self.live, self.waiting = False, True

    def _texted(
        self, instrument: Instrument, snapshot: bool, m: BookOf[TextRow], sizes: SizesOf | None, ts_recv: int
    ) -> BookUpdate | BookGap | Skipped:
        bid_texts, ask_texts = ([(row.price, row.size) for row in side] for side in (m.bids, m.asks))
        bids, asks = _read(bid_texts, sizes), _read(ask_texts, sizes)
        if snapshot:
            self.last, self.before, self.live, self.waiting = m.seqId, None, True, False
            self.texted = m.checksum != 0
        else:
            broken = self._follow(instrument, m, ts_recv)
            if broken is not None:
                return broken
        # 0 says nothing: the venue gave the checksum up in June 2026.
        checked = m.checksum if self.texted and m.checksum else None
        texts = (bid_texts, ask_texts) if self.texted else None
        return BookUpdate(instrument, snapshot, bids, asks, m.ts * NS_PER_MS, ts_recv, checksum=checked, texts=texts)

    def _next(
        self, instrument: Instrument, m: BookOf[Any], bids: list[Level], asks: list[Level], ts_recv: int
    ) -> BookUpdate | BookGap | Skipped:
        broken = self._follow(instrument, m, ts_recv)
        return broken or BookUpdate(instrument, False, bids, asks, m.ts * NS_PER_MS, ts_recv)

    def _follow(self, instrument: Instrument, m: BookOf[Any], ts_recv: int) -> BookGap | Skipped | None:
        """Note an update that follows; return what is to be said of one that does not.

        `prevSeqId` equal to the last `seqId` is the whole rule: `seqId` may fall and jump.
        """
        before = m.prevSeqId
        if not self.live:
            if self.waiting:
                return Skipped("update before snapshot")
            self.waiting = True
            return BookGap(instrument, "an update came before any snapshot", ts_recv)
        if before != self.last:
            if (before, m.seqId) == (self.before, self.last):
                return Skipped("repeated update")
            reason = f"sequence gap: expected prevSeqId {self.last}, received {before}"
            self.lost()
            return BookGap(instrument, reason, ts_recv)
        self.before, self.last = before, m.seqId
        return None


def _plain(rows: list[Row]) -> list[Level]:
    return [(row.price, row.size) for row in rows]


def _sized(rows: list[SizeRow], sizes: SizesOf) -> list[Level]:
    return [(row.price, sizes[row.size]) for row in rows]


def _read(texts: list[tuple[str, str]], sizes: SizesOf | None) -> list[Level]:
    if sizes is None:
        return msgspec.convert(texts, list[Level], strict=False)
    return [(price, sizes[text]) for price, text in msgspec.convert(texts, list[tuple[Price, str]], strict=False)]
