"""Deribit's books: a snapshot, then changes that each name the one before. No REST, no checksum.

https://docs.deribit.com/#book-instrument_name-interval: `prev_change_id` must be the `change_id` of the message before
it on the same channel; where it is not, unsubscribing and subscribing gives a new snapshot. Ids are not consecutive,
0 is one of them (a book that never changed).
"""

import re
from collections.abc import Mapping
from operator import itemgetter
from typing import Final

from feeds.adapter import BookGap, BookUpdate, Event, Fetch, Skipped
from feeds.venues.deribit_wire import Change, decode_book, decode_grouped
from hub.instruments import Instrument
from hub.intervals import NS_PER_MS, NS_PER_S
from hub.model import Level

__all__ = ["Books"]

#: A snapshot that was asked for and did not come within this time is asked for again.
_SNAPSHOT_WAIT_NS: Final = 10 * NS_PER_S

#: How a frame names the book it is about, where no more than that can be read of it.
_CHANNEL: Final = re.compile(rb'"channel"\s*:\s*"(book\.[^"]*)"')

_price = itemgetter(0)


class _Chain:
    """A book's channel: the last `change_id`, and the id before it, by which a repeat of the last message is known."""

    __slots__ = ("asked", "before", "grouped", "instrument", "last", "live", "reason", "timestamp")

    def __init__(self, instrument: Instrument, grouped: bool) -> None:
        self.instrument, self.grouped = instrument, grouped
        self.live = False
        self.last = self.timestamp = 0
        self.before: int | None = None
        self.reason = "no snapshot of the book came"
        self.asked: int | None = None
        """ts_recv from which a snapshot is waited for, 0 until a message came since; None: it was not asked for"""


class Books:
    """All books of one connection. An instrument's first channel is followed; others would mix their chains."""

    def __init__(self, instruments: Mapping[str, Instrument]) -> None:
        """`instruments` by the venue's spelling."""
        self._instruments = instruments
        self._chains: dict[str, _Chain] = {}
        self._owners: dict[str, _Chain] = {}

    def change(self, payload: bytes, channel: str, ts_recv: int) -> list[Event | Fetch]:
        """Read a frame of `book.<instrument>.<interval>`."""
        m = decode_book(payload).params.data
        chain = self._chain(channel, m.instrument_name, grouped=False)
        if chain is None:
            return [Skipped("unknown symbol")]
        snapshot = m.type == "snapshot" or (m.type is None and m.prev_change_id is None)
        if not self._owns(chain, snapshot):
            return [Skipped("second book channel")]
        if snapshot:
            chain.live, chain.asked = True, None
        elif not chain.live:
            return self._waiting(chain, ts_recv)
        elif m.prev_change_id != chain.last:
            if m.change_id == chain.last and m.prev_change_id == chain.before:
                return [Skipped("repeated book message")]
            chain.live = False
            chain.reason = f"sequence gap: expected a change after {chain.last}, received one after {m.prev_change_id}"
            return [BookGap(chain.instrument, chain.reason, ts_recv)]
        chain.before, chain.last = m.prev_change_id, m.change_id
        bids = _levels(m.bids) if m.bids else []
        asks = _levels(m.asks) if m.asks else []
        if len(bids) > 1 or len(asks) > 1:
            _sort(bids, asks)
        return [BookUpdate(chain.instrument, snapshot, bids, asks, m.timestamp * NS_PER_MS, ts_recv)]

    def suspect(self, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        """Give up the book that an unreadable frame was about; where each message is whole, the next one mends it."""
        named = _CHANNEL.search(payload)
        chain = self._chains.get(str(named[1], errors="replace")) if named else None
        if chain is None or not chain.live:
            return []
        chain.live, chain.reason = False, "an unreadable book message"
        return [BookGap(chain.instrument, chain.reason, ts_recv)]

    def grouped(self, payload: bytes, channel: str, ts_recv: int) -> list[Event | Fetch]:
        """Read a frame of `book.<instrument>.none.<depth>.<interval>`: the best levels, whole each time."""
        m = decode_grouped(payload).params.data
        depth = int(channel.split(".")[3])
        chain = self._chain(channel, m.instrument_name, grouped=True)
        if chain is None:
            return [Skipped("unknown symbol")]
        if not self._owns(chain, False):
            return [Skipped("second book channel")]
        if m.timestamp < chain.timestamp or (m.timestamp, m.change_id) == (chain.timestamp, chain.last):
            return [Skipped("old snapshot")]
        chain.timestamp, chain.last = m.timestamp, m.change_id
        _sort(m.bids, m.asks)
        whole = len(m.bids) < depth, len(m.asks) < depth
        return [BookUpdate(chain.instrument, True, m.bids, m.asks, m.timestamp * NS_PER_MS, ts_recv, *whole)]

    def whole(self, instrument: Instrument) -> bool:
        """Tell whether each message of the followed channel is a snapshot."""
        chain = self._owners.get(instrument.symbol)
        return chain is not None and chain.grouped

    def reset(self, instrument: Instrument) -> bool:
        """Drop changes of `instrument` until a snapshot comes; False where it need not be asked for."""
        chain = self._owners.get(instrument.symbol)
        if chain is not None:
            chain.live, chain.asked = False, 0
        return not self.whole(instrument)

    def _chain(self, channel: str, venue_symbol: str, *, grouped: bool) -> _Chain | None:
        chain = self._chains.get(channel)
        if chain is None:
            instrument = self._instruments.get(venue_symbol)
            if instrument is None:
                return None
            chain = self._chains[channel] = _Chain(instrument, grouped)
        if chain.instrument.venue_symbol != venue_symbol:
            raise ValueError(f"a book of {venue_symbol} in {channel}")
        return chain

    def _owns(self, chain: _Chain, snapshot: bool) -> bool:
        """Tell whether `chain` is the one to follow; a snapshot takes over from what is not live."""
        symbol = chain.instrument.symbol
        owner = self._owners.setdefault(symbol, chain)
        if owner is not chain and snapshot and not owner.live:
            owner = self._owners[symbol] = chain
        return owner is chain

    def _waiting(self, chain: _Chain, ts_recv: int) -> list[Event | Fetch]:
        """Drop a change that has no snapshot below it; where none was asked for or none comes, say so."""
        if chain.asked == 0:
            chain.asked = ts_recv
        if chain.asked is None or ts_recv - chain.asked >= _SNAPSHOT_WAIT_NS:
            chain.asked = None
            return [BookGap(chain.instrument, chain.reason, ts_recv)]
        return [Skipped("change before the snapshot")]


def _levels(changes: list[Change]) -> list[Level]:
    return [(price, 0.0 if action == "delete" else amount) for action, price, amount in changes]


def _sort(bids: list[Level], asks: list[Level]) -> None:
    """Best first. Stable, so that of two changes of one price the later stays the later."""
    if len(bids) > 1:
        bids.sort(key=_price, reverse=True)
    if len(asks) > 1:
        asks.sort(key=_price)
