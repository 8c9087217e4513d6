"""hub/instruments.py: one name a thing, both ways."""

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.registry import adapter_of
from hub.errors import UnknownInstrument
from hub.instruments import Instrument, InstrumentKind, InstrumentTable, canonical_asset, canonical_symbol
from hub.keys import parse_channel
from tests.feeds.naive import ROOT

EXPIRY = int(datetime(2026, 9, 25, 8, tzinfo=UTC).timestamp()) * 1_000_000_000
LISTS = sorted(
    [
        *(ROOT / "demo" / "binance").glob("*/rest_exchangeInfo.json*"),
        *(ROOT.parent / "shared" / "exchanges" / "binance").glob("*/rest_exchangeInfo.json*"),
        *(ROOT.parent / "shared" / "exchanges" / "binance").glob("*/exchangeInfo_*.json*"),
    ]
)


def spot(symbol: str, venue_symbol: str = "") -> Instrument:
    base, _, quote = symbol.partition("-")
    name = venue_symbol or base + quote
    return Instrument(venue="v", venue_symbol=name, symbol=symbol, kind="spot", base=base, quote=quote)


@pytest.mark.parametrize(
    ("kind", "extra", "symbol"),
    [
        ("spot", {}, "BTC-USDT"),
        ("perpetual", {}, "BTC-USDT-PERP"),
        ("future", {"expiry": EXPIRY}, "BTC-USDT-260925"),
        ("option", {"expiry": EXPIRY, "strike": "100000", "right": "C"}, "BTC-USDT-260925-100000-C"),
        ("equity", {}, "BTC"),
    ],
)
def test_canonical_symbols(kind: InstrumentKind, extra: dict[str, Any], symbol: str) -> None:
    assert canonical_symbol(kind, "BTC", "USDT", **extra) == symbol
    assert canonical_symbol(kind, "xbt", "usdt", **extra) == symbol


@pytest.mark.parametrize("kind", ["future", "option"])
def test_what_expires_says_when(kind: InstrumentKind) -> None:
    with pytest.raises(ValueError, match="expiry"):
        canonical_symbol(kind, "BTC", "USDT")


@pytest.mark.parametrize(
    ("asset", "canonical"),
    [("XBT", "BTC"), ("xbt", "BTC"), ("XDG", "DOGE"), ("BTC", "BTC"), ("BRK.B", "BRK.B"), ("A-B", "A~2DB"),
     ("A/B", "A~2FB"), ("A:B", "A~3AB"), ("币安", "币安"), ("A B", "A~20B"), ("~", "~7E")],
)  # fmt: skip
def test_assets(asset: str, canonical: str) -> None:
    assert canonical_asset(asset) == canonical


@given(st.lists(st.tuples(st.text(min_size=1, max_size=6), st.text(min_size=1, max_size=6)), max_size=30))
def test_a_symbol_is_one_pair(pairs: list[tuple[str, str]]) -> None:
    """Whatever stands in the assets, hyphens and tildes included: no two pairs get one name but by case and alias."""
    names: dict[str, tuple[str, str]] = {}
    for base, quote in pairs:
        symbol = canonical_symbol("spot", base, quote)
        parse_channel(f"trade:binance:{symbol}")
        plain = canonical_asset(base), canonical_asset(quote)
        assert names.setdefault(symbol, plain) == plain
        assert symbol.count("-") == 1


def test_a_table_finds_by_either_spelling_and_names_near_ones() -> None:
    table = InstrumentTable("v", [spot("BTC-USDT"), spot("ETH-USDT")])
    assert table.get("BTC-USDT") is table.by_key["BTCUSDT"]
    assert [row.symbol for row in table] == ["BTC-USDT", "ETH-USDT"]
    with pytest.raises(UnknownInstrument, match=r"v lists no instrument 'BTC-USD'; near matches: BTC-USDT"):
        table.get("BTC-USD")


def test_a_second_row_of_one_name_is_left_out() -> None:
    """Two instruments under one name would mix their data."""
    twin, other = spot("BTC-USDT", "XBTUSDT"), spot("XBT-USDT", "BTCUSDT")
    table = InstrumentTable("v", [spot("BTC-USDT"), twin, other])
    assert table.rejected == [twin, other]
    assert len(table) == len(table.by_key) == 1


@pytest.mark.parametrize("file", LISTS, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_recorded_lists_map_one_to_one(file: Path) -> None:
    data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    rows = adapter_of("binance").parse_instruments(data)
    table = InstrumentTable("binance", rows)
    assert len(table) == len(rows) > 20
    assert table.rejected == []
    for row in rows:
        assert table.get(row.symbol).venue_symbol == row.venue_symbol
        assert table.by_key[row.venue_symbol].symbol == row.symbol
        assert row.symbol == f"{row.base}-{row.quote}"
        assert parse_channel(f"trade:binance:{row.symbol}").symbol == row.symbol
        assert row.tick_size is None or row.tick_size > 0
