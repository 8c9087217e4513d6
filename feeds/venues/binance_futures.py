"""Binance USD-M futures.

Documentation: https://developers.binance.com/docs/derivatives/usds-margined-futures
(websocket-market-streams, market-data/rest-api)

Quirks, where it differs from spot (feeds/venues/binance.py):
- Since April 2026 a stream is served on one of two paths only, `/public` (books, best bid/ask) or `/market` (the rest);
  subscribed on the other it is acknowledged and stays silent.
- Update ids are shared by all symbols: a diff names its predecessor in `pu`.
- Partial depth (`depth5`, `depth10`, `depth20`) calls itself `depthUpdate` and has the fields of a diff, but is a
  snapshot of the top; it never goes into a book.
- Aggregated trades leave out the insurance fund and auto-deleveraging; single ones name them in `X`.
- Open interest is in REST only: it is asked for once a minute while mark prices come.
"""

from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

from msgspec import Raw

from feeds.adapter import BookUpdate, Event, Fetch, Limits, Peek, Skipped
from feeds.venues.binance import Binance
from feeds.venues.binance_futures_wire import (
    Contract,
    Diff,
    decode_contracts,
    decode_diff,
    decode_list,
    decode_mark,
    decode_open_interest,
    decode_trade,
)
from feeds.venues.binance_wire import UNREADABLE, Frame, decode_frame
from hub.errors import WireError
from hub.instruments import Instrument, InstrumentKind, canonical_symbol
from hub.intervals import NS_PER_MS, NS_PER_S
from hub.model import Mark, Side, Trade

__all__ = ["BinanceFutures"]

_STATUS = {
    "TRADING": "trading", "PENDING_TRADING": "pending", "PRE_SETTLE": "halted", "SETTLING": "settling",
    "PRE_DELIVERING": "halted", "DELIVERING": "settling", "DELIVERED": "delisted", "CLOSE": "delisted",
}  # fmt: skip

#: What `GET /fapi/v1/depth` takes for a limit -> weight.
_PAGES = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}
_PARTIAL = ("depth5", "depth10", "depth20")
_OPEN_INTEREST_GAP_NS = 60 * NS_PER_S
_NEVER = 1 << 63


class BinanceFutures(Binance):
    """One connection to Binance USD-M futures; see feeds/adapter.py."""

    venue = "binance_futures"
    endpoints: ClassVar[dict[str, str]] = {
        "public": "wss://fstream.binance.com/public/stream",
        "market": "wss://fstream.binance.com/market/stream",
    }
    rest_url = "https://fapi.binance.com"
    limits = Limits(
        streams_per_connection=1024,
        messages_per_s=10,
        connects=300,
        connects_window_s=300,
        rest_weight=2400,
        rest_window_s=60,
        lifetime_s=86_400,
        heartbeat_s=60,
    )
    channels: ClassVar[dict[str, str]] = {
        "trade": "aggTrade",
        "quote": "bookTicker",
        "book": "depth@100ms",
        "depth": "depth@100ms",
        "ticker": "ticker",
        "mark": "markPrice@1s",
        "candle": "aggTrade",
    }
    default_symbols = ("BTC-USDT-PERP", "ETH-USDT-PERP", "SOL-USDT-PERP", "XRP-USDT-PERP", "DOGE-USDT-PERP")
    candle_intervals = Binance.candle_intervals - {"1s"}
    _rest = "/fapi/v1"
    _kinds: ClassVar[dict[str, str]] = {**Binance._kinds, "markPriceUpdate": "mark"}

    def __init__(
        self,
        instruments: Sequence[Instrument],
        book_levels: int = 1000,
        endpoint: str = "",
        credentials: Sequence[str] = (),
    ) -> None:
        page = next((page for page in _PAGES if page >= book_levels), 1000)
        super().__init__(instruments, page, endpoint, credentials)
        self._handlers |= {
            "depth@0ms": self._diff,
            "depth@500ms": self._diff,
            "markPrice": self._mark,
            "markPrice@1s": self._mark,
            "markPriceUpdate": self._mark,
            "partial": lambda *_: [Skipped("partial depth")],
        }
        self._open_interest: dict[str, float] = {}
        self._interest_due: dict[str, int] = {}

    @classmethod
    def endpoint_of(cls, kind: str, instrument: Instrument) -> str:
        return "public" if kind in {"quote", "book", "depth"} else "market"

    @classmethod
    def endpoint_at(cls, url: str) -> str:
        # Before the split, and on the testnet, one path has all streams: either name serves.
        return "market" if urlsplit(url).path.startswith("/market/") else "public"

    # instruments

    @classmethod
    def instruments_fetches(cls) -> list[Fetch]:
        return [Fetch(resource="exchangeInfo", path=f"{cls._rest}/exchangeInfo", weight=1)]

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        try:
            return [cls._contract(row) for row in decode_contracts(body).symbols]
        except UNREADABLE as error:
            raise WireError(cls.venue, f"exchangeInfo: {error}") from error

    @classmethod
    def _contract(cls, row: Contract) -> Instrument:
        # contractType is "" until trading begins; only dated contracts have a `_` in their name.
        kind: InstrumentKind = "future" if "_" in row.symbol else "perpetual"
        expiry = row.deliveryDate * NS_PER_MS if kind == "future" else None
        filters = {entry.filterType: entry for entry in row.filters}
        price, lot, notional = (filters.get(name) for name in ("PRICE_FILTER", "LOT_SIZE", "MIN_NOTIONAL"))
        return Instrument(
            venue=cls.venue,
            venue_symbol=row.symbol,
            symbol=canonical_symbol(kind, row.baseAsset, row.quoteAsset, expiry=expiry),
            kind=kind,
            base=row.baseAsset,
            quote=row.quoteAsset,
            settle=row.marginAsset,
            name=f"{row.baseAsset}/{row.quoteAsset}",
            tick_size=price.tickSize if price else None,
            lot_size=lot.stepSize if lot else None,
            min_notional=notional.notional if notional else None,
            expiry=expiry,
            status=_STATUS.get(row.status, row.status.lower()),
        )

    @classmethod
    def peek(cls, payload: bytes, endpoint: str = "") -> list[Peek]:
        try:
            frame = decode_frame(payload) if payload[:1] == b"{" else Frame()
            if frame.stream.partition("@")[2].partition("@")[0] in _PARTIAL:
                return []
            data = bytes(frame.data) if frame.stream else payload
            items = [bytes(item) for item in decode_list(data)] if data[:1] == b"[" else []
        except UNREADABLE:
            return []
        if items:
            return [peek for item in items if item[:1] == b"{" for peek in super(BinanceFutures, cls).peek(item)]
        return super().peek(payload, endpoint)

    # frames

    def _raw(self, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        """Read a payload that no stream's name came with, or one of all symbols (`!markPrice@arr`)."""
        if payload[:1] != b"[":
            return super()._raw(payload, ts_recv)
        events: list[Event | Fetch] = []
        for item in decode_list(payload):
            try:
                events += super()._raw(bytes(item), ts_recv)
            except UNREADABLE:
                events.append(Skipped("unreadable item"))
        return events

    def _dispatch(
        self, stream: str, venue_symbol: str, channel: str, data: Raw | bytes, ts_recv: int
    ) -> list[Event | Fetch]:
        if channel.partition("@")[0] in _PARTIAL or (channel == "depthUpdate" and _partial(decode_diff(data))):
            return [Skipped("partial depth")]
        return super()._dispatch(stream, venue_symbol, channel, data, ts_recv)

    def _trade(self, data: Any, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        m = decode_trade(data)
        # The fills left out would look like a loss.
        self.trade_ids_contiguous = False
        if m.X != "MARKET":
            return [Skipped("no market trade")]
        side: Side = "sell" if m.m else "buy"
        return [Trade(self.venue, instrument.symbol, "", m.T * NS_PER_MS, ts_recv, 0, m.p, m.q, side, str(m.t))]

    def _mark(self, data: Any, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        m = decode_mark(data)
        symbol = instrument.symbol
        # A dated future has neither funding nor a time for it: "" or "0.00000000", and 0.
        funding = m.r if m.T and m.r != "" else None
        mark = Mark(
            self.venue, symbol, "", m.E * NS_PER_MS, ts_recv, 0,
            m.p, m.i, funding, m.T * NS_PER_MS or None, self._open_interest.get(symbol),
        )  # fmt: skip
        if ts_recv < self._interest_due.get(symbol, 0):
            return [mark]
        self._interest_due[symbol] = _NEVER
        params = (("symbol", instrument.venue_symbol),)
        path = f"{self._rest}/openInterest"
        return [mark, Fetch(resource="openInterest", path=path, params=params, instrument=instrument)]

    def snapshot(self, fetch: Fetch, body: bytes, ts_recv: int) -> list[Event | Fetch]:
        if fetch.resource != "openInterest":
            return super().snapshot(fetch, body, ts_recv)
        assert fetch.instrument is not None
        try:
            value = decode_open_interest(body).openInterest
        except UNREADABLE as error:
            raise WireError(self.venue, f"openInterest: {error}") from error
        self._open_interest[fetch.instrument.symbol] = value
        self._interest_due[fetch.instrument.symbol] = ts_recv + _OPEN_INTEREST_GAP_NS
        return []

    # book

    def _diff(self, data: Any, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        m = decode_diff(data)
        if not m.pu <= m.u >= m.U:
            raise WireError(self.venue, f"a diff from {m.U} to {m.u} after {m.pu}")
        # The ids between pu and U are other symbols': for this book the diff begins right after pu.
        return self._follow(
            instrument, m.pu + 1, m.u, BookUpdate(instrument, False, m.b, m.a, m.E * NS_PER_MS, ts_recv)
        )

    @staticmethod
    def _depth_weight(limit: int) -> int:
        return _PAGES[limit]

    @staticmethod
    def _klines_weight(count: int) -> int:
        return 1 if count <= 100 else 2 if count <= 500 else 5


def _partial(m: Diff) -> bool:
    """Tell whether an unnamed diff is partial depth: full pages, no removals, bids falling (in diffs they rise)."""
    if len(m.b) != len(m.a) or len(m.b) not in (5, 10, 20) or not all(size for _, size in (*m.b, *m.a)):
        return False
    prices = [price for price, _ in m.b]
    return prices == sorted(prices, reverse=True)
