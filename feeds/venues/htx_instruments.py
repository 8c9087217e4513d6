"""HTX's lists of instruments, in all the forms they have had.

Documentation: https://huobiapi.github.io/docs/spot/v1/en/#get-all-supported-trading-symbol-v2,
https://huobiapi.github.io/docs/usdt_swap/v1/en/#general-query-swap-info

Quirks: precisions are counts of digits; where a contract is traded is told by its spelling alone.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from feeds.adapter import Fetch
from feeds.venues.htx_wire import Millis
from hub.instruments import Instrument, InstrumentKind, canonical_symbol
from hub.intervals import NS_PER_MS, NS_PER_S
from hub.model import Price

__all__ = ["CONTRACTS_API", "CONTRACTS_URL", "Division", "division_of", "instruments_fetches", "read_instruments"]

CONTRACTS_URL: Final = "https://api.hbdm.com"
CONTRACTS_API: Final = {
    "coin-swap": f"{CONTRACTS_URL}/swap-api/v1",
    "linear-swap": f"{CONTRACTS_URL}/linear-swap-api/v1",
}

_STATUS = {"online": "trading", "suspend": "halted"}
_CONTRACT_STATUS = {0: "delisted", 1: "trading", 2: "pre-online", 3: "halted"}

Division: TypeAlias = Literal["spot", "futures", "coin-swap", "linear-swap"]

_Digits = Annotated[int, Meta(ge=0, le=30)]


class _Row(Struct, rename={"base": "base-currency", "quote": "quote-currency", "min_value": "min-order-value"}):
    """A listed instrument: `sc bc qc tpp tap state te` (today), `symbol base-currency …` (v1), or a contract."""

    state: str = ""
    sc: str = ""
    bc: str = ""
    qc: str = ""
    tpp: _Digits | None = None
    tap: _Digits | None = None
    te: bool = True
    symbol: str = ""
    base: str = ""
    quote: str = ""
    min_value: Price | None = None
    price_precision: _Digits | None = msgspec.field(name="price-precision", default=None)
    amount_precision: _Digits | None = msgspec.field(name="amount-precision", default=None)
    contract_code: str = ""
    contract_size: Price | None = None
    price_tick: Price | None = None
    contract_status: int = 1
    delivery_date: str = ""
    delivery_time: Millis | Literal[""] | None = None


class _Listing(Struct):
    status: str = "ok"
    data: list[_Row] = []
    err_msg: str = msgspec.field(name="err-msg", default="")


_decode_listing = msgspec.json.Decoder(_Listing, strict=False).decode


def division_of(venue_symbol: str) -> Division:
    """Tell by its spelling where an instrument is traded: `btcusdt`, `BTC-USDT`, `BTC-USD`, `BTC_CQ` or `BTC210723`."""
    if venue_symbol == venue_symbol.lower():
        return "spot"
    _, dash, quote = venue_symbol.partition("-")
    if not dash:
        return "futures"
    return "coin-swap" if quote.partition("-")[0] == "USD" else "linear-swap"


def instruments_fetches() -> list[Fetch]:
    """Ask for spot, both kinds of swaps, and futures."""
    return [
        Fetch(resource="symbols", path="/v2/settings/common/symbols"),
        Fetch(resource="swap_contract_info", path=f"{CONTRACTS_API['linear-swap']}/swap_contract_info"),
        Fetch(resource="swap_contract_info", path=f"{CONTRACTS_API['coin-swap']}/swap_contract_info"),
        Fetch(resource="contract_contract_info", path=f"{CONTRACTS_URL}/api/v1/contract_contract_info"),
    ]


def read_instruments(venue: str, body: bytes) -> list[Instrument]:
    """Read any of the lists; ValueError where it is none."""
    listing = _decode_listing(body)
    if listing.status != "ok":
        raise ValueError(listing.err_msg or listing.status)
    return [row for found in listing.data if (row := _instrument(venue, found)) is not None]


def _instrument(venue: str, row: _Row) -> Instrument | None:
    """Return None for a row that says too little: it costs the others nothing."""
    try:
        return _contract(venue, row) if row.contract_code else _spot(venue, row)
    except ValueError:
        return None


def _spot(venue: str, row: _Row) -> Instrument:
    name, base, quote = row.sc or row.symbol, (row.bc or row.base).upper(), (row.qc or row.quote).upper()
    if not (name and base and quote):
        raise ValueError("a symbol without a name")
    status = _STATUS.get(row.state, row.state)
    return Instrument(
        venue=venue,
        venue_symbol=name,
        symbol=canonical_symbol("spot", base, quote),
        kind="spot",
        base=base,
        quote=quote,
        name=f"{base}/{quote}",
        tick_size=_step(row.tpp if row.tpp is not None else row.price_precision),
        lot_size=_step(row.tap if row.tap is not None else row.amount_precision),
        min_notional=row.min_value,
        status=status if row.te or status != "trading" else "halted",
    )


def _contract(venue: str, row: _Row) -> Instrument:
    division = division_of(row.contract_code)
    base, _, quote = row.contract_code.partition("-")
    if division == "futures":
        base, quote = row.symbol, "USD"
    quote = quote.partition("-")[0]
    expiry = _expiry(row)
    kind: InstrumentKind = "future" if expiry is not None else "perpetual"
    if row.contract_size is None or row.contract_size <= 0:
        raise ValueError(f"{row.contract_code} without a contract size")
    linear = division == "linear-swap"
    return Instrument(
        venue=venue,
        venue_symbol=row.contract_code,
        symbol=canonical_symbol(kind, base, quote, expiry=expiry),
        kind=kind,
        base=base,
        quote=quote,
        settle=quote if linear else base,
        name=row.contract_code,
        tick_size=row.price_tick,
        lot_size=row.contract_size,  # orders are whole contracts
        contract_size=row.contract_size,
        size_unit="base" if linear else "quote",
        expiry=expiry,
        status=_CONTRACT_STATUS.get(row.contract_status, str(row.contract_status)),
    )


def _expiry(row: _Row) -> int | None:
    if row.delivery_time:
        return int(row.delivery_time) * NS_PER_MS
    if not row.delivery_date:
        return None
    # Contracts are delivered at 16:00 of Singapore.
    day = datetime.strptime(row.delivery_date, "%Y%m%d").replace(hour=8, tzinfo=UTC)
    return int(day.timestamp()) * NS_PER_S


def _step(digits: int | None) -> float | None:
    return float(Decimal(1).scaleb(-digits)) if digits is not None else None
