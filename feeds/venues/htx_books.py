"""Books of HTX in their four forms; who routes frames here is feeds/venues/htx.py.

`mbp.N` (spot, on `/feed`) chains its changes and is aligned with the answer to a request; `depth.size_N.high_freq`
(contracts) begins with a snapshot and counts; `depth.step0` and `mbp.refresh.N` are whole books each time. The chained
and the counted form remove what leaves their N levels, so that nothing beyond is unknown.
https://huobiapi.github.io/docs/spot/v1/en/#market-by-price-incremental-update
"""

from collections.abc import Callable, Mapping
from decimal import Decimal

import msgspec

from feeds.adapter import BookGap, BookUpdate, Event, Fetch, Send, Skipped
from feeds.venues.htx_wire import Answer, BookFrame, BookTick, decode_book, decode_book_data
from hub.errors import SequenceGap
from hub.instruments import Instrument
from hub.intervals import NS_PER_MS
from hub.model import Level
from hub.sequence import SnapshotSync

__all__ = ["HtxBooks", "Sizes", "is_book", "request"]

#: The venue takes a request each 100 ms; one whose answer was of no use is not made again at once.
ASK_GAP_NS = 500 * NS_PER_MS

_Handler = Callable[[bytes, Instrument, int], list[Event | Fetch]]


class Sizes(dict[float, float]):
    """Contracts -> sizes in the instrument's unit, each multiplied once."""

    KEPT = 50_000

    def __init__(self, contract_size: float) -> None:
        super().__init__()
        self._factor = Decimal(repr(contract_size))

    def __missing__(self, contracts: float) -> float:
        if len(self) >= self.KEPT:
            self.clear()
        size = self[contracts] = float(Decimal(repr(contracts)) * self._factor)
        return size


def is_book(channel: str) -> bool:
    return channel == "depth.step0" or channel.startswith("mbp.") or channel.endswith(".high_freq")


def _is_chained(channel: str) -> bool:
    return channel.startswith("mbp.") and not channel.startswith("mbp.refresh.")


def request(verb: str, topic: str) -> bytes:
    """Return the frame that asks for `topic`; its id is the topic, so that a refusal names it."""
    wanted = {verb: topic, "id": topic}
    if topic.endswith(".high_freq"):
        wanted["data_type"] = "incremental"
    return msgspec.json.encode(wanted)


class HtxBooks:
    """All books of one connection. `sizes` are those of contracts, by symbol."""

    def __init__(self, sizes: Mapping[str, Sizes]) -> None:
        self._sizes = sizes
        self._channels: dict[str, str] = {}  # symbol -> the form that is its book
        self._syncs: dict[str, SnapshotSync[BookUpdate]] = {}
        self._asked: dict[str, int] = {}
        self._last: dict[str, int] = {}  # version or time of the last message
        self._told: dict[str, int] = {}  # time in ms of the last one that was counted
        self._now = 0

    def first(
        self, channel: str, data: bytes, instrument: Instrument, ts_recv: int
    ) -> tuple[_Handler, list[Event | Fetch]]:
        """Read the first frame of a topic; returns who reads the next ones, and its events."""
        known = self._channels.get(instrument.symbol)
        if known is not None and known != channel:
            # Two forms of one book would undo each other: the first one seen is the book.
            return self._second, self._second(data, instrument, ts_recv)
        handler = self._handler(channel)
        self._channels[instrument.symbol] = channel
        try:
            return handler, handler(data, instrument, ts_recv)
        except Exception:
            if known is None:
                del self._channels[instrument.symbol]
            raise

    def _handler(self, channel: str) -> _Handler:
        if channel.endswith(".high_freq"):
            return self._counted
        return self._chained if _is_chained(channel) else self._whole

    def resync(self, instrument: Instrument) -> list[bytes | Fetch]:
        """Return what rebuilds a book."""
        channel = self._channels.get(instrument.symbol, "")
        topic = f"market.{instrument.venue_symbol}.{channel}"
        if _is_chained(channel):
            sync = self._syncs.get(instrument.symbol)
            if sync is not None and sync.live:
                sync.reset()
            self._asked[instrument.symbol] = self._now
            return [request("req", topic)]
        self._last.pop(instrument.symbol, None)
        if not channel.endswith(".high_freq"):
            return []  # the next message is a whole book
        return [request("unsub", topic), request("sub", topic)]

    def acked(self, channel: str, instrument: Instrument, ts_recv: int) -> list[Send]:
        """The venue begins to send: a chained book needs a request now."""
        if not _is_chained(channel) or self._channels.setdefault(instrument.symbol, channel) != channel:
            return []
        return self._ask(instrument, ts_recv)

    def _ask(self, instrument: Instrument, ts_recv: int) -> list[Send]:
        """Ask for the book unless that was done a moment ago."""
        symbol = instrument.symbol
        if ts_recv - self._asked.get(symbol, -ASK_GAP_NS) < ASK_GAP_NS:
            return []
        self._asked[symbol] = ts_recv
        return [Send(request("req", f"market.{instrument.venue_symbol}.{self._channels[symbol]}"))]

    def answered(self, channel: str, frame: Answer, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        """Take the answer to a request: what is held follows from it, or another one is asked for."""
        tick = decode_book_data(frame.data)
        if tick.seqNum is None:
            raise ValueError("a book without a number")
        if self._channels.setdefault(instrument.symbol, channel) != channel:
            return [Skipped("second form of a book")]
        sync = self._syncs.setdefault(instrument.symbol, SnapshotSync())
        if not sync.holding:
            return []
        held = sync.snapshot(tick.seqNum)
        if held is None:
            return [*self._ask(instrument, ts_recv)]
        return [self._update(instrument, tick, True, tick.ts, ts_recv), *held]

    def sized(self, instrument: Instrument, levels: list[Level] | None) -> list[Level]:
        """Return levels with sizes in the instrument's unit."""
        sizes = self._sizes.get(instrument.symbol)
        if not levels or sizes is None:
            return levels or []
        return [(price, sizes[size]) for price, size in levels]

    def _update(
        self, instrument: Instrument, tick: BookTick, snapshot: bool, ms: int | None, ts_recv: int
    ) -> BookUpdate:
        bids, asks = self.sized(instrument, tick.bids), self.sized(instrument, tick.asks)
        bids.sort(key=_price_of, reverse=True)
        asks.sort(key=_price_of)
        return BookUpdate(instrument, snapshot, bids, asks, ms * NS_PER_MS if ms is not None else None, ts_recv)

    def _second(self, data: bytes, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        return [Skipped("second form of a book")]

    def _whole(self, data: bytes, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        frame = decode_book(data)
        tick, symbol, ms = frame.tick, instrument.symbol, _ms_of(frame)
        # Numbers and times only grow: what is older came late.
        number = tick.seqNum if tick.seqNum is not None else ms
        if number is not None:
            if number < self._last.get(symbol, -1):
                return [Skipped("older book")]
            self._last[symbol] = number
        return [self._update(instrument, tick, not frame.update, ms, ts_recv)]

    def _counted(self, data: bytes, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        frame = decode_book(data)
        tick, symbol = frame.tick, instrument.symbol
        if tick.version is None:
            raise ValueError("a book message without a version")
        snapshot = tick.event == "snapshot"
        last = self._last.get(symbol)
        ms = _ms_of(frame)
        if last is not None and tick.version <= last and (ms is None or ms <= self._told.get(symbol, 0)):
            return [Skipped("repeated book")]
        if not snapshot:
            if last is None:
                return [Skipped("book before its snapshot")]
            if tick.version != last + 1:
                del self._last[symbol]
                return [BookGap(instrument, str(SequenceGap(last + 1, tick.version)), ts_recv)]
        self._last[symbol] = tick.version
        self._told[symbol] = ms or 0
        return [self._update(instrument, tick, snapshot, ms, ts_recv)]

    def _chained(self, data: bytes, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        frame = decode_book(data)
        tick = frame.tick
        if tick.seqNum is None or tick.prevSeqNum is None or tick.seqNum < tick.prevSeqNum:
            raise ValueError(f"a book message from {tick.prevSeqNum} to {tick.seqNum}")
        self._now = ts_recv
        update = self._update(instrument, tick, False, frame.ts, ts_recv)
        sync = self._syncs.get(instrument.symbol)
        if sync is None:
            sync = self._syncs[instrument.symbol] = SnapshotSync()
        try:
            if sync.delta(tick.prevSeqNum + 1, tick.seqNum, update):
                return [update]
        except SequenceGap as gap:
            return [BookGap(instrument, str(gap), ts_recv)]
        return [] if sync.live else [*self._ask(instrument, ts_recv)]


def _ms_of(frame: BookFrame) -> int | None:
    return frame.tick.ts if frame.tick.ts is not None else frame.ts


def _price_of(level: Level) -> float:
    return level[0]
