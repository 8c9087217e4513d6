"""Sessions of any venue through the normalizer, and their lines, for comparison with naive readings."""

import gzip
import io
import json
from collections.abc import Iterable
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from feeds.normalize import Normalizer
from feeds.registry import adapter_of
from feeds.session import Session

Row: TypeAlias = dict[str, Any]
Levels: TypeAlias = dict[Decimal, Decimal]

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "tests" / "data" / "sessions"
SHARED = ROOT.parent / "shared" / "exchanges"


def recordings(venue: str, pattern: str = "*.jsonl*") -> list[Path]:
    """Return the project's sessions of a venue, and the files of frames beside it where there are some."""
    own = [folder for folder in sorted((DATA / venue).glob("*")) if folder.is_dir()]
    shared = sorted((SHARED / venue).glob(pattern)) if (SHARED / venue).is_dir() else []
    return own + shared


@cache
def rows_of(path: Path) -> list[Row]:
    """Return the lines of a session."""
    if path.is_dir():
        path = next(file for file in (path / "ws.jsonl.gz", path / "ws.jsonl") if file.is_file())
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in data.splitlines() if line.strip()]


def frames_of(rows: Iterable[Row]) -> list[Row]:
    """Return the received frames, parsed; what is no JSON is left out."""
    return [json.loads(row["raw"]) for row in rows if "dir" not in row and row.get("raw", "")[:1] == "{"]


def write(folder: Path, rows: Iterable[Row], bodies: Iterable[tuple[str, bytes]] = ()) -> Path:
    """Write a session of these lines and (URL, body) pairs."""
    folder.mkdir()
    (folder / "ws.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with (folder / "rest_index.jsonl").open("w") as index:
        for number, (url, body) in enumerate(bodies):
            (folder / f"{number}.json").write_bytes(body)
            index.write(json.dumps({"t": None, "url": url, "file": f"{number}.json"}) + "\n")
    return folder


def lines(*frames: Any, start: float = 1_780_000_000.0) -> list[Row]:
    """Return lines of a session for frames (objects, or texts as they are), ten a second."""
    texts = (frame if isinstance(frame, str) else json.dumps(frame) for frame in frames)
    return [{"t": start + number / 10, "raw": text} for number, text in enumerate(texts)]


def play(venue: str, path: Path, instruments: bytes | None = None) -> tuple[Normalizer, list[Row]]:
    """Return the normalizer after the session and its messages, numbers as the decimals that were printed."""
    output = io.BytesIO()
    normalizer = Normalizer(adapter_of(venue), Session(path), output, instruments)
    normalizer.run()
    return normalizer, [json.loads(line, parse_float=Decimal) for line in output.getvalue().splitlines()]


def of(messages: Iterable[Row], kind: str, symbol: str | None = None) -> list[Row]:
    return [row for row in messages if row["type"] == kind and symbol in (None, row["symbol"])]


class Follower:
    """What a reader of `book` has to do, and nothing more."""

    def __init__(self) -> None:
        self.bids: Levels = {}
        self.asks: Levels = {}

    def take(self, message: Row) -> tuple[Levels, Levels]:
        if message["action"] == "snapshot":
            self.bids, self.asks = {}, {}
        for side, levels in ((self.bids, message["bids"]), (self.asks, message["asks"])):
            for price, size in levels:
                if size:
                    side[Decimal(price)] = Decimal(size)
                else:
                    side.pop(Decimal(price), None)
        return self.bids, self.asks
