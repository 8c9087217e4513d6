"""A session in the shape of Alpaca's documents, made up here: no raw recording of the stream is public.

https://docs.alpaca.markets/docs/real-time-stock-pricing-data, …/real-time-crypto-pricing-data
"""

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]

ASSETS: list[Row] = [
    {"class": "us_equity", "symbol": "AAPL", "name": "Apple Inc.", "status": "active", "tradable": True},
    {"class": "us_equity", "symbol": "BRK.B", "name": "Berkshire", "status": "active", "tradable": False},
    {
        "class": "crypto", "symbol": "BTC/USD", "name": "Bitcoin / US Dollar", "status": "active", "tradable": True,
        "min_order_size": "0.000013", "min_trade_increment": "0.000000001", "price_increment": "1",
    },
]  # fmt: skip


def at(number: int) -> str:
    return f"2026-08-27T14:30:{number // 10:02d}.{number % 10}00000001Z"


def crypto(number: int) -> list[Row]:
    """Return one frame: a trade and, at first, the full book, later a change of it."""
    trade = {
        "T": "t", "S": "BTC/USD", "p": 65000.5 + number, "s": 0.001 * (number + 1), "t": at(number),
        "i": 3447222699101865076 + number, "tks": "BS"[number % 2],
    }  # fmt: skip
    levels = {
        "b": [{"p": 64000.0 - n, "s": 1.5} for n in range(5)],
        "a": [{"p": 66000.0 + n, "s": 2} for n in range(5)],
    }
    change = {"b": [{"p": 64000.0 - number, "s": 0}, {"p": 64000.5, "s": number}], "a": []}
    book = {"T": "o", "S": "BTC/USD", "t": at(number), **(change if number else {**levels, "r": True})}
    quote = {"T": "q", "S": "BTC/USD", "bp": 64000.0, "bs": 1.5, "ap": 66000.0, "as": 2, "t": at(number)}
    return [trade, book, quote]


def frames(count: int = 40) -> list[list[Row]]:
    return [crypto(number) for number in range(count)]


def write(folder: Path, count: int = 40) -> Path:
    """Write a session of the crypto stream and the list of assets."""
    folder.mkdir()
    control = [[{"T": "success", "msg": "connected"}], [{"T": "success", "msg": "authenticated"}]]
    rows = [{"t": 1_787_841_000.0, "raw": json.dumps(frame)} for frame in control]
    rows += [{"t": 1_787_841_000.1 + n / 10, "raw": json.dumps(frame)} for n, frame in enumerate(frames(count))]
    (folder / "ws.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "assets.json").write_text(json.dumps(ASSETS))
    index = {"t": None, "url": "https://paper-api.alpaca.markets/v2/assets", "file": "assets.json"}
    (folder / "rest_index.jsonl").write_text(json.dumps(index) + "\n")
    return folder
