"""OKX's derivatives: four channels, each with a part of what a `mark` says, merged. Pure."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from msgspec import Struct

from feeds.units import number, size_of
from feeds.venues.okx_wire import (
    FundingPush,
    IndexPush,
    InterestPush,
    MarkPush,
    read_funding,
    read_index,
    read_interest,
    read_marks,
)
from hub.instruments import Instrument
from hub.intervals import NS_PER_MS
from hub.model import Mark

__all__ = ["MARK_CHANNELS", "Marks", "index_of"]

#: kind of instrument -> channels that tell its mark
MARK_CHANNELS = {
    "perpetual": ("mark-price", "index-tickers", "funding-rate", "open-interest"),
    "future": ("mark-price", "index-tickers", "open-interest"),
    "option": ("mark-price", "index-tickers", "open-interest"),
}


class _Known(Struct):
    mark: float | None = None
    index: float | None = None
    funding: float | None = None
    next_funding: int | None = None
    interest: float | None = None


def _note_mark(known: _Known, m: MarkPush, factor: Decimal) -> None:
    known.mark = number(m.markPx)


def _note_index(known: _Known, m: IndexPush, factor: Decimal) -> None:
    known.index = number(m.idxPx)


def _note_funding(known: _Known, m: FundingPush, factor: Decimal) -> None:
    # `fundingTime` is when this rate is settled; `nextFundingTime` is the settlement after that.
    known.funding = number(m.fundingRate)
    known.next_funding = m.fundingTime * NS_PER_MS if isinstance(m.fundingTime, int) else None


def _note_interest(known: _Known, m: InterestPush, factor: Decimal) -> None:
    known.interest = size_of(m.oi, factor) if m.oi else None


_PARTS: dict[str, tuple[Any, Callable[[_Known, Any, Decimal], None]]] = {
    "mark-price": (read_marks, _note_mark),
    "index-tickers": (read_index, _note_index),
    "funding-rate": (read_funding, _note_funding),
    "open-interest": (read_interest, _note_interest),
}


class Marks:
    """What is known of all derivatives of one connection."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def read(self, channel: str, data: Any, instruments: Sequence[Instrument], ts_recv: int) -> tuple[list[Mark], int]:
        """Return what a push makes of the marks of `instruments`, and how many of its items could not be read."""
        reader, note = _PARTS[channel]
        pushes, bad = reader(data)
        marks = []
        for m in pushes:
            for row in instruments:
                known = self._known.setdefault(row.symbol, _Known())
                note(known, m, Decimal(repr(row.contract_size)))
                marks.append(
                    Mark(
                        row.venue, row.symbol, "", m.ts * NS_PER_MS if isinstance(m.ts, int) else None, ts_recv, 0,
                        known.mark, known.index, known.funding, known.next_funding, known.interest,
                    )
                )  # fmt: skip
        return marks, bad


def index_of(row: Instrument) -> str:
    """Return the index of a derivative: `BTC-USD` for BTC-USD-SWAP, BTC-USD_UM-SWAP and their futures; "" for spot."""
    if row.base:
        return "" if row.kind == "spot" else f"{row.base}-{row.quote}"
    parts = row.venue_symbol.split("-")
    return f"{parts[0]}-{parts[1].partition('_')[0]}" if len(parts) > 2 else ""
