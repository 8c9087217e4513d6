"""Coinbase sessions read with json, dicts and decimals alone, after the venue's documents.

Advanced Trade: https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels
Exchange feed: https://docs.cdp.coinbase.com/exchange/websocket-feed/channels
"""

import io
import json
from collections import defaultdict
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from feeds.normalize import Normalizer
from feeds.session import Session
from feeds.venues.coinbase import Coinbase
from tests.feeds.naive import ROOT, Levels, Row, bodies_of, rows_of, write_session

OWN = ROOT / "tests" / "data" / "sessions" / "coinbase"
_SHARED = ROOT.parent / "shared" / "exchanges" / "coinbase"

#: The maker's side -> the taker's: both feeds name the maker's in their trades.
AGGRESSOR = {"BUY": "sell", "SELL": "buy", "buy": "sell", "sell": "buy"}


def sessions() -> list[Path]:
    places = [place for place in (OWN, _SHARED) if place.is_dir()]
    return [folder for place in places for folder in sorted(place.iterdir()) if (folder / "ws.jsonl.gz").is_file()]


@cache
def frames_of(folder: Path) -> list[Row]:
    """Return what was received, in order."""
    return [json.loads(row["raw"]) for row in rows_of(folder) if "dir" not in row]


def play(path: Path, instruments: bytes | None = None) -> tuple[Normalizer, list[Row]]:
    """Return the normalizer after a session, and what it printed with numbers as decimals."""
    output = io.BytesIO()
    normalizer = Normalizer(Coinbase, Session(path), output, instruments)
    normalizer.run()
    return normalizer, [json.loads(line, parse_float=Decimal) for line in output.getvalue().splitlines()]


@cache
def played(folder: Path) -> tuple[Normalizer, list[Row]]:
    return play(folder)


def mutated(path: Path, rows: list[Row], folder: Path) -> tuple[Normalizer, list[Row]]:
    return play(write_session(path, rows, bodies_of(folder)))


def of_kind(found: list[Row], kind: str) -> dict[str, list[Row]]:
    result: dict[str, list[Row]] = defaultdict(list)
    for row in found:
        if row["type"] == kind:
            result[row["symbol"]].append(row)
    return result


def trades_of(frames: list[Row]) -> list[tuple[Any, ...]]:
    """Return (product, price, size, aggressor, id) of the trades since the subscription, oldest first in a frame."""
    result: list[tuple[Any, ...]] = []
    for frame in frames:
        found: list[Row] = []
        if frame.get("channel") == "market_trades":
            found = [t for each in frame["events"] if each["type"] == "update" for t in each["trades"]]
        elif frame.get("type") == "match":
            found = [frame]
        for item in sorted(found, key=lambda item: int(item["trade_id"])):
            numbers = Decimal(item["price"]), Decimal(item["size"])
            result.append((item["product_id"], *numbers, AGGRESSOR[item["side"]], str(item["trade_id"])))
    return result


class NaiveBook:
    def __init__(self) -> None:
        self.bids: Levels = {}
        self.asks: Levels = {}

    def set(self, side: str, price: str, size: str) -> None:
        levels = self.bids if side in ("bid", "buy") else self.asks
        if Decimal(size) == 0:
            levels.pop(Decimal(price), None)
        else:
            levels[Decimal(price)] = Decimal(size)


def book_events(frame: Row) -> list[tuple[str, bool, list[tuple[str, str, str]]]]:
    """Return (product, is it a snapshot, [(side, price, size)]) of a frame."""
    if frame.get("channel") == "l2_data":
        return [
            (
                event["product_id"],
                event["type"] == "snapshot",
                [(row["side"], row["price_level"], row["new_quantity"]) for row in event["updates"]],
            )
            for event in frame["events"]
        ]
    if frame.get("type") == "l2update":
        return [(frame["product_id"], False, [tuple(change) for change in frame["changes"]])]
    if frame.get("type") == "snapshot":
        levels = [(name[:-1], *level) for name in ("bids", "asks") for level in frame[name]]
        return [(frame["product_id"], True, levels)]
    return []


def follow(bids: Levels, asks: Levels, message: Row) -> None:
    """Apply a canonical book message."""
    for side, levels in ((bids, message["bids"]), (asks, message["asks"])):
        if message["action"] == "snapshot":
            side.clear()
        for price, size in levels:
            if size:
                side[price] = size
            else:
                side.pop(price, None)
