"""Binance sessions read with json, dicts and decimals alone, after the venue's documents: what the hub must agree with.

Nothing of the hub is used here, and nothing is fast.
"""

import gzip
import json
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]
"""One line of a session: `t`, `raw`, perhaps `dir` or `b64`."""
Levels: TypeAlias = dict[Decimal, Decimal]

ROOT = Path(__file__).resolve().parents[2]
_OWN = ROOT / "demo" / "binance"
_SHARED = ROOT.parent / "shared" / "exchanges" / "binance"


def sessions() -> list[Path]:
    """Return every folder of recorded Binance frames there is: those of the project, and those beside it."""
    found: dict[str, Path] = {}
    for place in (_OWN, _SHARED):
        for folder in sorted(place.iterdir()) if place.is_dir() else ():
            if (folder / "ws.jsonl.gz").is_file():
                found.setdefault(folder.name, folder)
    return list(found.values())


def session(name: str) -> Path:
    return next(folder for folder in sessions() if folder.name == name)


@cache
def rows_of(folder: Path) -> list[Row]:
    """Return the lines of a session."""
    with gzip.open(folder / "ws.jsonl.gz") as file:
        return [json.loads(line) for line in file]


@cache
def bodies_of(folder: Path) -> list[Row]:
    """Return the lines of the index, each with the text of its file as `body`."""
    index = folder / "rest_index.jsonl"
    lines = [json.loads(line) for line in index.read_text().splitlines()] if index.is_file() else []
    return [line | {"body": _text(folder / line["file"])} for line in lines]


def _text(file: Path) -> str:
    return (gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()).decode()


def write_session(folder: Path, rows: Iterable[Row], bodies: Iterable[Row]) -> Path:
    """Write a session of these lines; a body is a line of the index with the text as `body`."""
    folder.mkdir()
    (folder / "ws.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with (folder / "rest_index.jsonl").open("w") as index:
        for number, body in enumerate(bodies):
            (folder / f"{number}.json").write_text(body["body"])
            index.write(json.dumps({"t": body["t"], "url": body["url"], "file": f"{number}.json"}) + "\n")
    return folder


def event(row: Row) -> Row:
    """Return the venue's event in a line, `{}` where there is none."""
    if "dir" in row or "raw" not in row:
        return {}
    data = json.loads(row["raw"])
    found = data.get("data", data)
    return found if isinstance(found, dict) else {}


def kind(row: Row) -> str:
    """Return `aggTrade`, `bookTicker`, `depthUpdate`, …; best bid/ask is the one event without a name."""
    found = event(row)
    return str(found.get("e") or ("bookTicker" if "B" in found else ""))


def places(rows: Sequence[Row], wanted: str) -> dict[str, list[int]]:
    """Return the line numbers of all events of this kind, by symbol."""
    result: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        if kind(row) == wanted:
            result.setdefault(event(row)["s"], []).append(number)
    return result


class NaiveBook:
    """A local order book as the venue's documents say: snapshot, drop what is older, apply what follows.

    A snapshot is complete on a side that it did not fill; on the other its worst price is as far as it is good.
    """

    def __init__(self, snapshot: Row, limit: int = 1000) -> None:
        self.last: int = snapshot["lastUpdateId"]
        self.bids = {Decimal(price): Decimal(size) for price, size in snapshot["bids"]}
        self.asks = {Decimal(price): Decimal(size) for price, size in snapshot["asks"]}
        self.worst_bid = min(self.bids) if len(snapshot["bids"]) >= limit else None
        self.worst_ask = max(self.asks) if len(snapshot["asks"]) >= limit else None

    def apply(self, diff: Row) -> bool:
        """Apply one diff; False where it is older than the book."""
        if diff["u"] <= self.last:
            return False
        assert diff["U"] <= self.last + 1, f"{diff['s']}: hole before {diff['U']}, the book is at {self.last}"
        self.last = diff["u"]
        for side, levels in ((self.bids, diff["b"]), (self.asks, diff["a"])):
            for price, size in levels:
                side[Decimal(price)] = Decimal(size)
                if not Decimal(size):
                    del side[Decimal(price)]
        return True

    def guaranteed(self) -> tuple[Levels, Levels]:
        """Return bids and asks without what lies beyond the snapshot."""
        return (
            {price: size for price, size in self.bids.items() if self.worst_bid is None or price >= self.worst_bid},
            {price: size for price, size in self.asks.items() if self.worst_ask is None or price <= self.worst_ask},
        )


def snapshot_of(folder: Path, venue_symbol: str) -> Row | None:
    """Return the first recorded book snapshot of a symbol."""
    for body in bodies_of(folder):
        if "/depth?" in body["url"] and f"symbol={venue_symbol}" in body["url"]:
            found: Row = json.loads(body["body"])
            return found
    return None


def diffs_of(rows: Iterable[Row], venue_symbol: str) -> list[Row]:
    return [found for row in rows if (found := event(row)).get("e") == "depthUpdate" and found["s"] == venue_symbol]


def books_at(snapshot: Row, diffs: Iterable[Row], moments: Collection[int]) -> dict[int, tuple[Levels, Levels]]:
    """Return the guaranteed bids and asks after the diffs with these event times (ms)."""
    book = NaiveBook(snapshot)
    found = {}
    for diff in diffs:
        if book.apply(diff) and diff["E"] in moments:
            found[diff["E"]] = book.guaranteed()
    return found


def told(snapshot_id: int, bids: Levels, asks: Levels, levels: int = 5000) -> dict[str, Any]:
    """Return the venue's answer to a request for the book."""
    best = sorted(bids.items(), reverse=True)[:levels], sorted(asks.items())[:levels]
    sides = [[[str(price), str(size)] for price, size in side] for side in best]
    return {"lastUpdateId": snapshot_id, "bids": sides[0], "asks": sides[1]}
