"""The hub's messages of a session, read back with json alone."""

import io
import json
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from feeds.normalize import Normalizer
from feeds.registry import adapter_of
from feeds.session import Session
from tests.feeds.naive import Levels, Row, bodies_of


def normalize(path: Path, instruments: bytes | None = None) -> tuple[Normalizer, bytes]:
    output = io.BytesIO()
    normalizer = Normalizer(adapter_of("binance"), Session(path), output, instruments)
    normalizer.run()
    return normalizer, output.getvalue()


@cache
def normalized(folder: Path) -> bytes:
    return normalize(folder)[1]


def messages(output: bytes) -> list[Row]:
    """Numbers as Decimal: the digits that were printed, not what becomes of them as floats."""
    return [json.loads(line, parse_float=Decimal) for line in output.splitlines()]


@cache
def original(folder: Path) -> list[Row]:
    return messages(normalized(folder))


@cache
def spelling(folder: Path) -> dict[str, str]:
    """Return canonical symbol -> the venue's, where the session has the list of instruments."""
    for body in bodies_of(folder):
        if "/exchangeInfo" in body["url"]:
            rows = json.loads(body["body"])["symbols"]
            return {f"{row['baseAsset']}-{row['quoteAsset']}": row["symbol"] for row in rows}
    return {}


def of_kind(found: Iterable[Row], folder: Path, *kinds: str) -> dict[str, list[Row]]:
    """Return the messages of these kinds by the venue's symbol."""
    names = spelling(folder)
    result: dict[str, list[Row]] = defaultdict(list)
    for message in found:
        symbol: str = message["symbol"]
        if message["type"] in kinds:
            result[names.get(symbol, symbol)].append(message)
    return result


def follow(bids: Levels, asks: Levels, message: Row) -> None:
    """Do what a reader of `book` has to do, and nothing more."""
    if message["action"] == "snapshot":
        bids.clear()
        asks.clear()
    for side, levels in ((bids, message["bids"]), (asks, message["asks"])):
        for price, size in levels:
            if size:
                side[price] = size
            else:
                side.pop(price, None)


def followed(books: Iterable[Row], moments: Iterable[int]) -> dict[int, tuple[Levels, Levels]]:
    """Return bids and asks as they stand after the last update with an event time (ms) up to each moment."""
    bids: Levels = {}
    asks: Levels = {}
    wanted, found = sorted(moments), {}
    for message in books:
        while wanted and message["ts_event"] is not None and message["ts_event"] > wanted[0] * 1_000_000:
            found[wanted.pop(0)] = dict(bids), dict(asks)
        follow(bids, asks, message)
    return found | {moment: (dict(bids), dict(asks)) for moment in wanted}


def expected_trade(found: Row) -> tuple[Any, ...]:
    single = found["e"] == "trade"
    count = 1 if single else found["l"] - found["f"] + 1
    return (
        str(found["t"] if single else found["a"]), Decimal(found["p"]), Decimal(found["q"]),
        "sell" if found["m"] else "buy", count, found["T"] * 1_000_000,
    )  # fmt: skip


def trades(found: Iterable[Row], folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    fields = ("trade_id", "price", "size", "side", "count", "ts_event")
    grouped = of_kind(found, folder, "trade")
    return {symbol: [tuple(row[name] for name in fields) for row in rows] for symbol, rows in grouped.items()}


def quotes(found: Iterable[Row], folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    fields = ("bid", "bid_size", "ask", "ask_size")
    grouped = of_kind(found, folder, "quote")
    return {symbol: [tuple(row[name] for name in fields) for row in rows] for symbol, rows in grouped.items()}


def by_symbol(message: Row) -> str:
    return str(message["symbol"])
