"""Answers of Hyperliquid's `/info`: instruments and candles. Rules are in feeds/venues/hyperliquid.py."""

from feeds.adapter import Fetch
from feeds.venue_candles import venue_candle
from feeds.venues.hyperliquid_wire import (
    UNREADABLE,
    CandleRow,
    Listing,
    Pair,
    Perp,
    Token,
    decode_candles,
    decode_listing,
    decode_pairs,
    decode_parts,
    decode_perps,
)
from hub.errors import WireError
from hub.instruments import Instrument, canonical_symbol
from hub.intervals import NS_PER_MS, interval_ns
from hub.model import Candle

__all__ = ["candles_of", "instruments_of"]

#: Collateral of the exchanges that builders run, by the token's index in spotMeta.
_COLLATERAL = {0: "USDC", 235: "USDE", 268: "USDT0", 360: "USDH"}


def instruments_of(venue: str, body: bytes) -> list[Instrument]:
    """Read `meta` or `spotMeta`, contexts allowed, or the metas of all exchanges; WireError for anything else."""
    try:
        # A list is one of metas, or of a meta and the contexts of its coins.
        parts = [bytes(part) for part in decode_parts(body)] if body.lstrip()[:1] == b"[" else [body]
        listings = [decode_listing(part) for part in parts if part.lstrip()[:1] == b"{"]
        if not listings:
            raise ValueError("no list of instruments")
        return [row for listing in listings for row in _rows(venue, listing)]
    except UNREADABLE as error:
        raise WireError(venue, f"meta: {error}") from error


def _rows(venue: str, listing: Listing) -> list[Instrument]:
    if listing.tokens is None:
        settle = _COLLATERAL.get(listing.collateralToken, f"TOKEN{listing.collateralToken}")
        return [_perpetual(venue, row, settle) for row in decode_perps(listing.universe)]
    tokens = {token.index: token for token in listing.tokens}
    pairs = decode_pairs(listing.universe)
    return [_spot(venue, pair, tokens) for pair in pairs if all(index in tokens for index in pair.tokens)]


def _perpetual(venue: str, row: Perp, settle: str) -> Instrument:
    return Instrument(
        venue=venue,
        venue_symbol=row.name,
        symbol=canonical_symbol("perpetual", row.name, settle),
        kind="perpetual",
        base=row.name,
        quote=settle,
        settle=settle,
        name=row.name,
        lot_size=float(f"1e-{row.szDecimals}"),
        status="delisted" if row.isDelisted else "trading",
    )


def _spot(venue: str, pair: Pair, tokens: dict[int, Token]) -> Instrument:
    base, quote = (tokens[index] for index in pair.tokens)
    return Instrument(
        venue=venue,
        venue_symbol=pair.name,
        symbol=canonical_symbol("spot", base.name, quote.name),
        kind="spot",
        base=base.name,
        quote=quote.name,
        name=f"{base.name}/{quote.name}",
        lot_size=float(f"1e-{base.szDecimals}"),
    )


def candles_of(venue: str, fetch: Fetch, body: bytes, ts_recv: int) -> list[Candle]:
    """Read `candleSnapshot`; the last row may be the candle that is still open, which is left out."""
    assert fetch.instrument is not None
    try:
        rows = decode_candles(body)
    except UNREADABLE as error:
        raise WireError(venue, f"{fetch.resource}: {error}") from error
    length = interval_ns(fetch.interval)
    closed = (row for row in rows if row.t * NS_PER_MS + length <= ts_recv)
    return [_candle(fetch.instrument, fetch.interval, row, ts_recv) for row in closed]


def _candle(instrument: Instrument, interval: str, row: CandleRow, ts_recv: int) -> Candle:
    return venue_candle(
        instrument, interval, row.t * NS_PER_MS, (row.o, row.h, row.l, row.c), ts_recv,
        ts_event=row.T * NS_PER_MS, volume=row.v, trades=row.n,
    )  # fmt: skip
