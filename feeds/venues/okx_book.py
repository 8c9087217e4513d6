"""OKX's books: which update follows which, digits for the checksum, contracts to units. Pure.

https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel
"""

import zlib
from typing import Any, TypeAlias

from msgspec import Raw

from feeds.adapter import BookGap, BookUpdate, Event, Fetch, Skipped
from feeds.units import SizesOf
from feeds.venues.okx_wire import (
    BookOf,
    Frame,
    TextRow,
    decode_books,
    decode_books_sizes,
    decode_books_texts,
)
from hub.book import OrderBook
from hub.instruments import Instrument
from hub.intervals import NS_PER_MS
from hub.model import Level

__all__ = ["Chain", "checksum"]

#: a message, its bids and asks, and their digits where they are kept
_Push: TypeAlias = tuple[BookOf[Any], list[Level], list[Level], tuple[list[str], list[str]] | None]

CHECKED_LEVELS = 25


def checksum(book: OrderBook) -> int:
    """CRC32, signed, over `bid:size:ask:size:…` of the best 25 levels of both sides in the venue's digits."""
    bids, asks = book.bids.best_texts(CHECKED_LEVELS), book.asks.best_texts(CHECKED_LEVELS)
    both = min(len(bids), len(asks))
    texts = bids + asks
    texts[: 2 * both : 2], texts[1 : 2 * both : 2] = bids[:both], asks[:both]
    if len(bids) != len(asks):
        texts[2 * both :] = bids[both:] or asks[both:]
    crc = zlib.crc32(":".join(texts).encode())
    return crc - (1 << 32) if crc >> 31 else crc


class Chain:
    """The messages of one book.

    `last` is the newest seqId (None: the recording has none), `before` the one it followed, `told` its time in ms.
    `waiting`: a snapshot was asked for. `texted`: the last snapshot had a checksum, so digits are kept.
    """

    __slots__ = ("before", "instrument", "last", "live", "sizes", "texted", "told", "waiting")

    def __init__(self, instrument: Instrument, sizes: SizesOf | None) -> None:
        self.instrument, self.sizes = instrument, sizes
        self.last: int | None = None
        self.before: int | None = None
        self.told = 0
        self.live = self.waiting = self.texted = False

    def read(self, frame: Frame, ts_recv: int) -> list[Event | Fetch]:
        """Return the events of a push; ValueError where it cannot be read, and the next one will not follow."""
        snapshot = frame.action == "snapshot"
        if not snapshot and frame.action != "update":
            return [Skipped("unknown action")]
        # Digits are kept from a snapshot with a checksum until the next snapshot.
        pushes = self._with_texts(frame.data) if snapshot or self.texted else self._plain(frame.data)
        events: list[Event | Fetch] = []
        for m, bids, asks, texts in pushes:
            if snapshot:
                # After maintenance numbers fall, but time does not.
                if self.live and m.ts <= self.told and m.seqId is not None and m.seqId < (self.last or 0):
                    events.append(Skipped("older snapshot"))
                    continue
                self.live, self.waiting, self.texted = True, False, m.checksum != 0
            elif not self.live or m.prevSeqId != self.last:
                events.append(self._broken(m, ts_recv))
                continue
            self.before, self.last, self.told = None if snapshot else self.last, m.seqId, m.ts
            # 0 says nothing: the venue gave the checksum up in June 2026.
            checks = (m.checksum or None, texts) if self.texted else (None, None)
            events.append(
                BookUpdate(self.instrument, snapshot, bids, asks, m.ts * NS_PER_MS, ts_recv, True, True, (), *checks)
            )
        return events

    def _plain(self, data: Raw | bytes) -> list[_Push]:
        sizes = self.sizes
        if sizes is None:
            return [
                (m, [(row.price, row.size) for row in m.bids], [(row.price, row.size) for row in m.asks], None)
                for m in decode_books(data)
            ]
        return [
            (
                m,
                [(row.price, sizes[row.size]) for row in m.bids],
                [(row.price, sizes[row.size]) for row in m.asks],
                None,
            )
            for m in decode_books_sizes(data)
        ]

    def _with_texts(self, data: Raw | bytes) -> list[_Push]:
        pushes: list[_Push] = []
        for m in decode_books_texts(data):
            bids, bid_texts = _levels(m.bids, self.sizes) if m.bids else ([], [])
            asks, ask_texts = _levels(m.asks, self.sizes) if m.asks else ([], [])
            pushes.append((m, bids, asks, (bid_texts, ask_texts)))
        return pushes

    def lost(self) -> None:
        """Wait for a snapshot that was asked for."""
        self.live, self.waiting = False, True

    def _broken(self, m: BookOf[Any], ts_recv: int) -> BookGap | Skipped:
        """Say what an update is that does not follow.

        `prevSeqId` equal to the last `seqId` is the whole rule: `seqId` may fall and jump.
        """
        if not self.live:
            if self.waiting:
                return Skipped("update before snapshot")
            self.waiting = True
            return BookGap(self.instrument, "an update came before any snapshot", ts_recv)
        if (m.prevSeqId, m.seqId) == (self.before, self.last):
            return Skipped("repeated update")
        reason = f"sequence gap: expected prevSeqId {self.last}, received {m.prevSeqId}"
        self.lost()
        return BookGap(self.instrument, reason, ts_recv)


def _levels(rows: list[TextRow], sizes: SizesOf | None) -> tuple[list[Level], list[str]]:
    """Return levels and the digits of each; ValueError where one is none."""
    levels: list[Level] = []
    texts: list[str] = []
    for row in rows:
        price_text, size_text = row.price, row.size
        price, size = float(price_text), float(size_text) if sizes is None else sizes[size_text]
        if not (0 < price < 1e30 and 0 <= size < 1e30):
            raise ValueError(f"no level: {price_text[:40]} {size_text[:40]}")
        levels.append((price, size))
        texts.append(f"{price_text}:{size_text}")
    return levels, texts
