"""Instruments: one row per thing a venue lists, and the one-to-one map between its spelling and ours.

Pure. Loading rows from a venue is the adapter's job, storing them hub/instrument_store.py's.
"""

import difflib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from msgspec import Struct

from hub.errors import UnknownInstrument
from hub.keys import escape_symbol

__all__ = ["ASSET_ALIASES", "Instrument", "InstrumentKind", "InstrumentTable", "canonical_asset", "canonical_symbol"]

InstrumentKind: TypeAlias = Literal["spot", "perpetual", "future", "option", "equity"]

#: Venue's word -> the word everybody else uses.
ASSET_ALIASES = {"XBT": "BTC", "XDG": "DOGE", "XXBT": "BTC", "XETH": "ETH", "ZUSD": "USD", "ZEUR": "EUR"}


class Instrument(Struct, frozen=True, gc=False, kw_only=True):
    """One listed instrument.

    `tick_size` and `lot_size` are the smallest steps of price and size, `min_notional` the smallest order in quote
    units, `contract_size` base units per contract (1 for spot), `expiry` int ns UTC. None: the venue does not say.
    """

    venue: str
    venue_symbol: str
    symbol: str
    kind: InstrumentKind
    base: str
    quote: str
    settle: str | None = None
    name: str | None = None
    tick_size: float | None = None
    lot_size: float | None = None
    min_notional: float | None = None
    contract_size: float = 1.0
    size_unit: Literal["base", "quote"] = "base"
    expiry: int | None = None
    status: str = "trading"
    section: str = ""
    """the venue's own division, where one spelling names different instruments in different ones"""
    alias_of: str = ""
    """the venue's symbol under which it sends this one's data, where that is another instrument's"""
    first_seen: int | None = None
    last_seen: int | None = None
    """when it was first and last listed, int ns UTC; `status` is `delisted` once it is listed no more"""

    @property
    def key(self) -> str:
        """What tells this instrument apart at its venue: its spelling, with the section where there are some."""
        return f"{self.section}/{self.venue_symbol}" if self.section else self.venue_symbol


def canonical_asset(asset: str) -> str:
    """Upper-case, alias resolved, and escaped so that it may stand in a symbol (`-` included)."""
    upper = asset.upper()
    return escape_symbol(ASSET_ALIASES.get(upper, upper)).replace("-", "~2D")


def canonical_symbol(
    kind: InstrumentKind, base: str, quote: str, *, expiry: int | None = None, strike: str = "", right: str = ""
) -> str:
    """Build the symbol: `BTC-USDT`, `BTC-USDT-PERP`, `BTC-USDT-260925`, `BTC-USD-260925-100000-C`, `AAPL`.

    `expiry` is int ns UTC, `strike` decimal text, `right` `C` or `P`.
    """
    if kind == "equity":
        return canonical_asset(base)
    pair = f"{canonical_asset(base)}-{canonical_asset(quote)}"
    if kind == "spot":
        return pair
    if kind == "perpetual":
        return f"{pair}-PERP"
    if expiry is None:
        raise ValueError(f"a {kind} needs an expiry")
    day = datetime.fromtimestamp(expiry // 1_000_000_000, UTC).strftime("%y%m%d")
    return f"{pair}-{day}" if kind == "future" else f"{pair}-{day}-{strike}-{right}"


class InstrumentTable:
    """The instruments of one venue, found by either spelling.

    A row whose symbol another row already has is left out and listed in `rejected`: two instruments under one name
    would mix their data.
    """

    def __init__(self, venue: str, rows: Iterable[Instrument] = ()) -> None:
        self.venue = venue
        self.by_symbol: dict[str, Instrument] = {}
        self.by_key: dict[str, Instrument] = {}
        self.rejected: list[Instrument] = []
        for row in rows:
            self.add(row)

    def add(self, row: Instrument) -> None:
        if row.symbol in self.by_symbol or row.key in self.by_key:
            self.rejected.append(row)
            return
        self.by_symbol[row.symbol] = row
        self.by_key[row.key] = row

    def __len__(self) -> int:
        return len(self.by_symbol)

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self.by_symbol.values())

    def get(self, symbol: str) -> Instrument:
        """Return the instrument of a canonical symbol; UnknownInstrument with near matches where there is none."""
        try:
            return self.by_symbol[symbol]
        except KeyError:
            raise UnknownInstrument(self.venue, symbol, self.near(symbol)) from None

    def near(self, symbol: str) -> list[str]:
        """Return symbols that look like `symbol`."""
        return difflib.get_close_matches(symbol, self.by_symbol, n=3, cutoff=0.6)
