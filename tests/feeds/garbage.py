"""Binance frames that say nothing the hub may believe."""

import base64
import json
import random
from collections.abc import Iterable
from typing import Any

from tests.feeds.naive import Row

_ANYTHING: list[Any] = [None, {}, [], "x", 1e300]
_NO_NUMBERS = ["nan", "inf", "-inf", "Infinity", "1e999", "", " 1", "0x1", "1,5", "-"]
_NO_TIMES: list[Any] = [-1, 1 << 63, 1 << 80, -(1 << 63), 1.5]
_NO_LEVELS: list[Any] = [
    [["1.0"]], [["x", "1"]], [["1", "-1"]], [["nan", "1"]], [["1", "inf"]], [[None, None]], [[]], [["1", "1", "1"]],
    [1], ["ab"], {"0": ["1", "1"]}, 5,
]  # fmt: skip
_NO_DATA: list[Any] = [None, [], [[]], {}, 1, "text", True, [{"e": "aggTrade"}]]
_CHANNELS = ("aggTrade", "depth@100ms", "bookTicker", "ticker", "kline_1m", "nothing", "")


def spoiled(whole: Row, values: dict[str, list[Any]]) -> list[Row]:
    """Return `whole` with one field gone, or one field set to one of its wrong values, in every way."""
    missing = [{other: value for other, value in whole.items() if other != name} for name in values]
    return missing + [{**whole, name: value} for name, wrong in values.items() for value in wrong]


def events(symbol: str) -> list[tuple[str, Row]]:
    """Return (channel, event) of a symbol, each with something wrong in it."""
    trade = {
        "e": "aggTrade", "E": 1617566591315, "s": symbol, "a": 1, "p": "1.0", "q": "1.0", "f": 1, "l": 1,
        "T": 1617566591314, "m": True,
    }  # fmt: skip
    diff = {"e": "depthUpdate", "E": 1617566591315, "s": symbol, "U": 1, "u": 2, "b": [["1.0", "1.0"]], "a": []}
    best = {"u": 1 << 61, "s": symbol, "b": "1.0", "B": "1.0", "a": "1.1", "A": "1.0"}
    ids = [*_ANYTHING, -1, 1 << 63]
    trades = spoiled(
        trade,
        {
            "a": ids, "f": [*ids, 2], "l": [*ids, 0], "T": _ANYTHING + _NO_TIMES, "m": _ANYTHING,
            "p": _ANYTHING + _NO_NUMBERS, "q": [*_ANYTHING, *_NO_NUMBERS, "-1"],
        },
    )  # fmt: skip
    diffs = spoiled(
        diff,
        {
            "E": [None, {}, "x", *_NO_TIMES], "U": [*ids, 3], "u": [*ids, 0], "b": [None, {}, "x", *_NO_LEVELS],
            "a": [None, {}, "x", *_NO_LEVELS],
        },
    )  # fmt: skip
    bests = spoiled(best, {name: [None, {}, "x", "nan", "inf"] for name in "bBaA"} | {"u": ids})
    return [
        *(("aggTrade", event) for event in trades),
        *(("depth@100ms", event) for event in diffs),
        *(("bookTicker", event) for event in bests),
    ]


def texts(symbol: str) -> list[str]:
    """Return frames that are text, in the combined form and in the raw one."""
    stream = symbol.lower()
    wrong = events(symbol)
    frames = [json.dumps({"stream": f"{stream}@{channel}", "data": event}) for channel, event in wrong]
    frames += [json.dumps(event) for _, event in wrong]
    frames += [json.dumps({"stream": f"{stream}@{name}", "data": data}) for name in _CHANNELS for data in _NO_DATA]
    frames += [frames[0][:end] for end in range(0, len(frames[0]), 7)]
    frames += ["", " ", "null", "0", "[]", "{}", '""', "\x00", "\ufeff{}", "[" * 5000, '{"a":' * 5000]
    frames += ['{"stream":"\\ud800"}', '{"stream":5,"data":{}}', '{"stream":null}', '{"id":{}}', '{"e":5,"s":5}']
    return [*frames, json.dumps({"s": symbol})]


def noise(symbol: str, chance: random.Random) -> list[bytes]:
    """Return frames that are no text."""
    found = [chance.randbytes(chance.randrange(1, 400)) for _ in range(60)]
    start = b'{"stream":"' + symbol.lower().encode()
    return [*found, b'{"stream":"\xff"}', start + b'@aggTrade","data":{"e":"\xff\xfe"}}', b"\xff" * 50]


def garbage(symbol: str, chance: random.Random) -> list[Row]:
    """Return all of it as lines of a session."""
    rows: list[Row] = [{"raw": text} for text in texts(symbol)]
    return rows + [{"b64": base64.b64encode(data).decode()} for data in noise(symbol, chance)]


def strewn(rows: list[Row], extra: Iterable[Row], chance: random.Random) -> list[Row]:
    """Return `rows` with `extra` at random places, each with the time of the line before it: the clock goes as ever."""
    after: dict[int, list[Row]] = {}
    for row in extra:
        after.setdefault(chance.randrange(1, len(rows)), []).append(row)
    result: list[Row] = []
    for number, row in enumerate(rows):
        result += [row, *({**new, "t": row["t"]} for new in after.get(number, ()))]
    return result
