"""OKX: recorded sessions against a naive reading of the same frames, and the venue's traps one by one."""

import gzip
import json
import zlib
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect

from feeds.adapter import (
    Acked,
    BookGap,
    BookUpdate,
    Fetch,
    Refused,
    Rotate,
    Skipped,
    Subscription,
)
from feeds.replay import ReplayServer
from feeds.venues.okx import Okx
from feeds.venues.okx_book import checksum
from hub.book import OrderBook
from hub.errors import WireError
from hub.instruments import Instrument, InstrumentTable
from hub.model import Candle, Mark, Quote, Ticker, Trade
from tests.feeds.venues.plays import Follower, Levels, Row, frames_of, lines, of, play, recordings, rows_of, write

BOOKS = ("books", "books-l2-tbt", "books50-l2-tbt")
SESSIONS = [path for path in recordings("okx", "ws_*.jsonl*") if path.name != "ws_2022-02-27_tbt.jsonl.gz"]  # is OWN
OWN = next(path for path in SESSIONS if path.is_dir())
#: sessions with books from their snapshots on, without a fault
WHOLE = [path for path in SESSIONS if "2021" in path.name or "2022" in path.name]

each = pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.name)
whole = pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.name)


# a naive reading, after https://www.okx.com/docs-v5/en/


def listed(path: Path) -> dict[str, Row]:
    """Return the rows of the session's lists of instruments, by instId."""
    found: dict[str, Row] = {}
    for file in path.glob("rest_instruments*.json.gz") if path.is_dir() else ():
        found.update((row["instId"], row) for row in json.loads(gzip.decompress(file.read_bytes()))["data"])
    return found


def factor(row: Row | None) -> Decimal:
    return Decimal(row["ctVal"]) * Decimal(row["ctMult"]) if row and row["ctVal"] else Decimal(1)


def canonical(row: Row) -> str:
    kind, symbol = row["instType"], str(row["instId"])
    return symbol.replace("-SWAP", "-PERP") if kind == "SWAP" else symbol


def names(path: Path) -> tuple[dict[str, str], dict[str, Decimal]]:
    """Return the symbol and the size of a contract of each instId in the session."""
    rows = listed(path)
    found = {frame["arg"]["instId"] for frame in frames_of(rows_of(path)) if "data" in frame and "arg" in frame}
    if not rows:
        return {name: name for name in found}, {name: Decimal(1) for name in found}
    return {name: canonical(rows[name]) for name in found}, {name: factor(rows[name]) for name in found}


def pushes(path: Path, *channels: str) -> Iterator[tuple[str, str, Row]]:
    """Yield (instId, action, item) of every item of these channels."""
    for frame in frames_of(rows_of(path)):
        if frame.get("arg", {}).get("channel") in channels and "data" in frame:
            for item in frame["data"]:
                yield frame["arg"]["instId"], frame.get("action", ""), item


def crc(bids: dict[str, str], asks: dict[str, str]) -> int:
    best = [
        sorted(bids.items(), key=lambda level: -Decimal(level[0])),
        sorted(asks.items(), key=lambda x: Decimal(x[0])),
    ]
    parts = []
    for place in range(25):
        parts += [f"{side[place][0]}:{side[place][1]}" for side in best if place < len(side)]
    number = zlib.crc32(":".join(parts).encode())
    return number - 2**32 if number >= 2**31 else number


@cache
def naive_books(path: Path) -> dict[str, list[tuple[Levels, Levels]]]:
    """Return the books after each push that has levels, checking every checksum that says something."""
    names_of, factors = names(path)
    texts: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
    result: dict[str, list[tuple[Levels, Levels]]] = defaultdict(list)
    for name, action, item in pushes(path, *BOOKS):
        if action == "snapshot":
            texts[name] = {}, {}
        for side, key in zip(texts[name], ("bids", "asks"), strict=True):
            for price, size, *_ in item[key]:
                if Decimal(size):
                    side[price] = size
                else:
                    side.pop(price, None)
        if item["checksum"]:
            assert crc(*texts[name]) == item["checksum"]
        if item["bids"] or item["asks"]:
            bids, asks = (
                {Decimal(price): Decimal(size) * factors[name] for price, size in side.items()} for side in texts[name]
            )
            result[names_of[name]].append((bids, asks))
    return result


# recorded sessions


@whole
def test_books_equal_naive_ones_after_every_message(path: Path) -> None:
    normalizer, messages = play("okx", path)
    expected = naive_books(path)
    assert {row["symbol"] for row in of(messages, "book")} == expected.keys()
    for symbol, states in expected.items():
        follower = Follower()
        found = of(messages, "book", symbol)
        assert len(found) == len(states)
        for message, state in zip(found, states, strict=True):
            assert follower.take(message) == state
    assert [row["state"] for row in of(messages, "status")] == ["live"] * len(expected)
    assert not {"wire_errors", "resyncs"} & normalizer.pipeline.counters.keys()


@each
def test_every_trade_is_there_once_as_the_venue_told_it(path: Path) -> None:
    names_of, factors = names(path)
    expected: dict[tuple[str, str], Any] = {}
    for name, _, item in pushes(path, "trades", "trades-all"):
        trade = (
            Decimal(item["px"]), Decimal(item["sz"]) * factors[name], item["side"], int(item.get("count", 1)),
            int(item["ts"]) * 1_000_000,
        )  # fmt: skip
        assert expected.setdefault((names_of[name], item["tradeId"]), trade) == trade
    _, messages = play("okx", path)
    found = of(messages, "trade")
    fields = ("price", "size", "side", "count", "ts_event")
    assert {(row["symbol"], row["trade_id"]): tuple(row[key] for key in fields) for row in found} == expected
    assert len(found) == len(expected)


@each
def test_tickers_and_quotes_are_what_the_venue_told(path: Path) -> None:
    names_of, factors = names(path)
    rows = listed(path)
    _, messages = play("okx", path)
    tickers, quotes = of(messages, "ticker"), of(messages, "quote")
    for name, _, item in pushes(path, "tickers"):
        inverse = rows.get(name, {}).get("ctType") == "inverse"
        counted = Decimal(item["vol24h"]) * factors[name]
        expected = {
            "last_price": item["last"], "open_price": item["open24h"], "high_price": item["high24h"],
            "low_price": item["low24h"], "bid_price": item["bidPx"], "ask_price": item["askPx"],
            "volume": item["volCcy24h"] if inverse else counted,
            "quote_volume": item["volCcy24h"] if item["instType"] == "SPOT" else counted if inverse else "",
            "symbol": names_of[name],
        }  # fmt: skip
        wanted = {
            key: value if key == "symbol" else None if value == "" else Decimal(repr(float(value)))
            for key, value in expected.items()
        }
        assert any(all(row[key] == value for key, value in wanted.items()) for row in tickers)
    for name, _, item in pushes(path, "bbo-tbt"):
        best = [item[side][0][place] if item[side] else None for side in ("bids", "asks") for place in (0, 1)]
        told = [None if text is None else Decimal(text) for text in best]
        assert any(
            [row["symbol"], row["bid"], row["bid_size"], row["ask"], row["ask_size"]] == [names_of[name], *told]
            for row in quotes
        )


def test_without_a_list_the_venues_spelling_is_the_symbol_and_sizes_are_contracts(tmp_path: Path) -> None:
    normalizer, messages = play("okx", write(tmp_path / "s", rows_of(OWN)))
    assert normalizer.warnings == ["no list of instruments: the venue's spelling is the symbol, sizes are the venue's"]
    swaps = of(messages, "trade", "UNI-USD-SWAP")
    told = [Decimal(item["sz"]) for name, _, item in pushes(OWN, "trades") if name == "UNI-USD-SWAP"]
    assert [row["size"] for row in swaps] == list(dict.fromkeys(told)) or len(swaps) <= len(told)
    assert of(messages, "book", "UNI-USD-SWAP")


def book_lines(path: Path, name: str) -> list[int]:
    return [
        number
        for number, row in enumerate(rows_of(path))
        if "dir" not in row and '"update"' in row["raw"].replace(" ", "") and f'"{name}"' in row["raw"]
    ]


@pytest.mark.parametrize("name", ["ZEN-USDT", "ELON-USDT"])
@pytest.mark.parametrize("fault", ["removed", "swapped"])
def test_a_fault_in_an_old_recording_is_found_by_its_checksum(name: str, fault: str, tmp_path: Path) -> None:
    rows, places = list(rows_of(OWN)), book_lines(OWN, name)
    middle = places[len(places) // 2]
    if fault == "removed":
        del rows[middle]
    else:
        later = places[len(places) // 2 + 1]
        rows[middle], rows[later] = (
            {**rows[middle], "raw": rows[later]["raw"]}, {**rows[later], "raw": rows[middle]["raw"]}
        )  # fmt: skip
    expected = naive_books(OWN)[name]
    _, messages = play("okx", write(tmp_path / "s", rows, bodies()))
    (status,) = [row for row in of(messages, "status", name) if row["state"] == "resyncing"]
    assert "checksum mismatch" in status["reason"]
    follower = Follower()
    for message in of(messages, "book", name):
        assert follower.take(message) in expected
    assert not [row for row in messages[messages.index(status) :] if row["symbol"] == name and row["type"] == "book"]
    assert len(of(messages, "status")) == len(naive_books(OWN)) + 1  # no other book


def bodies() -> list[tuple[str, bytes]]:
    index = [json.loads(line) for line in (OWN / "rest_index.jsonl").read_text().splitlines()]
    return [(row["url"], gzip.decompress((OWN / row["file"]).read_bytes())) for row in index]


# instruments


def test_symbols_are_one_to_one_over_all_lists() -> None:
    rows = [row for _, body in bodies() for row in Okx.parse_instruments(body)]
    table = InstrumentTable("okx", rows)
    assert not table.rejected
    assert len(table) == len(listed(OWN)) == 1283
    assert {row.venue_symbol: row.symbol for row in rows} == {name: canonical(row) for name, row in listed(OWN).items()}


@pytest.mark.parametrize(
    ("name", "size", "unit", "lot"),
    [
        ("BTC-USDT", 1, "base", 0.00000001),
        ("BTC-USDT-SWAP", 0.01, "base", 0.01),
        ("BTC-USD-SWAP", 100, "quote", 100),
        ("ETH-USD-220304", 10, "quote", 10),
        ("BTC-USD-220325-40000-C", 0.1, "base", 0.1),  # ctVal 1, ctMult 0.1; the recorded ticker has 100 = 10 BTC
        ("ETH-USD-220624-12000-P", 1, "base", 1),
    ],
)
def test_contracts_are_worth_what_the_list_says(name: str, size: float, unit: str, lot: float) -> None:
    rows = {row.venue_symbol: row for _, body in bodies() for row in Okx.parse_instruments(body)}
    row = rows[name]
    assert (row.contract_size, row.size_unit, row.lot_size, row.status) == (size, unit, lot, "trading")
    assert (row.expiry is not None) == (row.kind in ("future", "option"))


def body_of(*rows: Row, code: str = "0") -> bytes:
    return json.dumps({"code": code, "msg": "", "data": rows}).encode()


SWAP = {
    "instId": "BTC-USDT-SWAP", "instType": "SWAP", "uly": "BTC-USDT", "instFamily": "BTC-USDT", "ctVal": "0.01",
    "ctMult": "1", "ctValCcy": "BTC", "ctType": "linear", "settleCcy": "USDT", "tickSz": "0.1", "lotSz": "0.01",
    "state": "live",
}  # fmt: skip
UNIFIED = {**SWAP, "instId": "BTC-USD_UM-SWAP", "uly": "BTC-USD", "instFamily": "BTC-USD_UM", "settleCcy": "USDC"}
INVERSE = {
    **SWAP, "instId": "BTC-USD-SWAP", "uly": "BTC-USD", "instFamily": "BTC-USD", "ctVal": "100", "ctValCcy": "USD",
    "ctType": "inverse",
}  # fmt: skip
SPOT = {"instId": "BTC-USDT", "instType": "SPOT", "baseCcy": "BTC", "quoteCcy": "USDT", "tickSz": "0.1",
        "lotSz": "0.00001", "state": "live"}  # fmt: skip


def test_families_of_one_index_have_symbols_of_their_own() -> None:
    rows = Okx.parse_instruments(body_of(INVERSE, UNIFIED))
    assert [row.symbol for row in rows] == ["BTC-USD-PERP", "BTC-USD_UM-PERP"]
    assert [(row.base, row.quote) for row in rows] == [("BTC", "USD")] * 2


def test_rows_that_say_too_little_are_left_out_and_errors_are_errors() -> None:
    rows = Okx.parse_instruments(body_of(SWAP, {**SWAP, "ctVal": ""}, {**SPOT, "instType": "EVENTS"}, SPOT))
    assert [row.symbol for row in rows] == ["BTC-USDT-PERP", "BTC-USDT"]
    assert Okx.parse_instruments(body_of()) == []
    for body in (body_of(code="51000"), body_of({**SWAP, "ctVal": "x"}), b"<html>", b""):
        with pytest.raises(WireError):
            Okx.parse_instruments(body)


# the rules, one by one


def adapter(*rows: Row, endpoint: str = "public") -> tuple[Okx, dict[str, Instrument]]:
    instruments = Okx.parse_instruments(body_of(*(rows or (SPOT, SWAP, INVERSE))))
    return Okx(instruments, endpoint=endpoint), {row.venue_symbol: row for row in instruments}


def book(
    action: str,
    before: int | None,
    last: int | None,
    bids: Any = (),
    asks: Any = (),
    check: int = 0,
    name: str = "BTC-USDT",
) -> bytes:
    item = {"asks": asks, "bids": bids, "ts": "1787612486407", "checksum": check}
    item |= {} if last is None else {"seqId": last, "prevSeqId": before}
    return json.dumps({"arg": {"channel": "books", "instId": name}, "action": action, "data": [item]}).encode()


BIDS, ASKS = [["100", "1", "0", "1"]], [["101", "2", "0", "1"]]


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ([(10, 15), (15, 99)], "uu"),  # seqId jumps as a rule
        ([(10, 10), (10, 10), (10, 12)], "uuu"),  # keep-alive: an empty update that follows itself
        ([(10, 3), (3, 5)], "uu"),  # reset after maintenance: equality of prevSeqId is all that counts
        ([(10, 12), (13, 14)], "ug"),  # a message was lost
        ([(10, 12), (10, 12), (12, 13)], "uru"),  # the same message twice
        ([(10, 12), (12, 14), (10, 12)], "uug"),  # an old one again
        ([(12, 14), (10, 12)], "gw"),  # swapped: nothing is taken until the next snapshot
        ([(9, 11)], "g"),
        ([(-1, 11)], "g"),
    ],
)
def test_updates_follow_by_prev_seq_id_alone(chain: list[tuple[int, int]], expected: str) -> None:
    okx, _ = adapter()
    (first,) = okx.receive(book("snapshot", -1, 10, BIDS, ASKS), 1)
    assert isinstance(first, BookUpdate) and first.snapshot
    found = ""
    for before, last in chain:
        (event,) = okx.receive(book("update", before, last, [["99", "1", "0", "1"]] if before != last else []), 2)
        if isinstance(event, Skipped):
            found += {"repeated update": "r", "update before snapshot": "w"}[event.reason]
        else:
            found += {BookUpdate: "u", BookGap: "g"}[type(event)]
    assert found == expected


def test_a_lost_book_is_subscribed_again_once_and_nothing_is_taken_before_its_snapshot() -> None:
    okx, rows = adapter()
    okx.receive(book("snapshot", -1, 10, BIDS, ASKS), 1)
    (gap,) = okx.receive(book("update", 11, 12), 1)
    assert isinstance(gap, BookGap)
    frames = [json.loads(frame) for frame in okx.resync(rows["BTC-USDT"]) if isinstance(frame, bytes)]
    assert [frame["op"] for frame in frames] == ["unsubscribe", "subscribe"]
    assert all(frame["args"] == [{"channel": "books", "instId": "BTC-USDT"}] for frame in frames)
    assert okx.receive(book("update", 12, 13), 1) == [Skipped("update before snapshot")]
    ack = {"event": "subscribe", "arg": {"channel": "books", "instId": "BTC-USDT"}, "connId": "a4d3ae55"}
    assert okx.receive(json.dumps(ack).encode(), 1) == [Acked(("books:BTC-USDT",))]
    (again,) = okx.receive(book("snapshot", -1, 20, BIDS, ASKS), 1)
    assert isinstance(again, BookUpdate)
    (update,) = okx.receive(book("update", 20, 21), 1)
    assert isinstance(update, BookUpdate)


def test_a_snapshot_that_never_came_is_asked_for_again() -> None:
    okx, rows = adapter()
    (event,) = okx.receive(book("update", 5, 6), 1)
    assert isinstance(event, BookGap)
    okx.resync(rows["BTC-USDT"])
    okx.receive(b'{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"}}', 1)
    (event,) = okx.receive(book("update", 6, 7), 1)
    assert isinstance(event, BookGap)


def applied(okx: Okx, *frames: bytes) -> OrderBook:
    result = OrderBook(400, window=True)
    for frame in frames:
        (event,) = okx.receive(frame, 1)
        assert isinstance(event, BookUpdate)
        if event.snapshot:
            result.replace(event.bids, event.asks, texts=event.texts)
        else:
            result.apply(event.bids, event.asks, event.texts)
        if event.checksum is not None:
            assert checksum(result) == event.checksum
    return result


@pytest.mark.parametrize(
    ("bids", "asks", "expected"),
    [
        ([["3366.1", "7"], ["3366", "6"]], [["3366.8", "9"], ["3368", "8"]], -1881014294),
        ([["3366.1", "7"]], [["3366.8", "9"], ["3368", "8"], ["3372", "8"]], 831078360),
    ],
)
def test_the_documents_checksums(bids: Any, asks: Any, expected: int) -> None:
    okx, _ = adapter()
    sides = [[[*level, "0", "1"] for level in side] for side in (bids, asks)]
    applied(okx, book("snapshot", -1, 10, sides[0], sides[1], check=expected))


def test_checksum_zero_says_nothing_and_others_are_over_the_venues_digits() -> None:
    okx, _ = adapter()
    first = book("snapshot", -1, 10, [["100.10", "1.00", "0", "1"]], ASKS, crc({"100.10": "1.00"}, {"101": "2"}))
    applied(okx, first, book("update", 10, 11, [["99.50", "3", "0", "1"]]))  # 0 in between is no mismatch
    both = {"100.10": "1.00", "99.50": "3"}
    (event,) = okx.receive(book("update", 11, 12, check=crc(both, {"101": "2"})), 1)
    assert isinstance(event, BookUpdate) and event.checksum == crc(both, {"101": "2"})


def test_a_stream_of_zeros_is_never_checked(tmp_path: Path) -> None:
    frames = [
        book("snapshot", -1, 10, BIDS, ASKS),
        *(book("update", at, at + 1, [["99", str(at), "0", "1"]]) for at in range(10, 40)),
    ]
    normalizer, messages = play("okx", write(tmp_path / "s", lines(*(frame.decode() for frame in frames))))
    assert [row["state"] for row in of(messages, "status")] == ["live"]
    assert len(of(messages, "book")) == 31
    assert "resyncs" not in normalizer.pipeline.counters


def test_a_wrong_checksum_ends_the_book_until_the_next_snapshot(tmp_path: Path) -> None:
    good = crc({"100": "1"}, {"101": "2"})
    frames = [
        book("snapshot", -1, 10, BIDS, ASKS, good), book("update", 10, 11, [["99", "5", "0", "1"]], check=good),
        book("update", 11, 12, [["98", "5", "0", "1"]], check=good), book("snapshot", -1, 20, BIDS, ASKS, good),
    ]  # fmt: skip
    _, messages = play("okx", write(tmp_path / "s", lines(*(frame.decode() for frame in frames))))
    assert [row["state"] for row in of(messages, "status")] == ["live", "resyncing", "live"]
    assert [row["action"] for row in of(messages, "book")] == ["snapshot", "snapshot"]


def test_a_crossed_book_is_wrong_unless_the_instrument_is_before_its_opening(tmp_path: Path) -> None:
    crossed = lines(book("snapshot", -1, 10, [["102", "1", "0", "1"]], ASKS).decode())
    for state, expected in (("live", "resyncing"), ("preopen", "live")):
        body = body_of({**SPOT, "state": state})
        url = "https://www.okx.com/api/v5/public/instruments?instType=SPOT"
        _, messages = play("okx", write(tmp_path / state, crossed, [(url, body)]))
        assert [row["state"] for row in of(messages, "status")] == [expected]


def test_contracts_become_base_units_and_inverse_ones_quote_units() -> None:
    okx, _ = adapter()

    def trade(name: str, size: str) -> Trade:
        item = {"instId": name, "tradeId": "1", "px": "91467.1", "sz": size, "side": "sell", "ts": "1765201257145",
                "count": "2", "source": "0", "seqId": 3}  # fmt: skip
        (event,) = okx.receive(json.dumps({"arg": {"channel": "trades", "instId": name}, "data": [item]}).encode(), 5)
        assert isinstance(event, Trade)
        return event

    linear = trade("BTC-USDT-SWAP", "0.03")
    assert linear == Trade("okx", "BTC-USDT-PERP", "", 1765201257145000000, 5, 0, 91467.1, 0.0003, "sell", "1", 2)
    assert trade("BTC-USD-SWAP", "7").size == 700
    assert trade("BTC-USDT", "0.03").size == 0.03
    first = book("snapshot", -1, 1, [["100", "3", "0", "1"]], [["101", "0.7", "0", "1"]], name="BTC-USDT-SWAP")
    second = book("update", 1, 2, [["100", "0.1", "0", "1"]], name="BTC-USDT-SWAP")
    result = applied(okx, first, second)
    assert (result.bids.levels(), result.asks.levels()) == ([(100, 0.001)], [(101, 0.007)])


def push(channel: str, name: str, *items: Any) -> bytes:
    return json.dumps({"arg": {"channel": channel, "instId": name}, "data": items}).encode()


def test_marks_are_merged_and_absent_stays_none() -> None:
    okx, _ = adapter()

    def marks(channel: str, name: str, **item: str) -> list[Any]:
        found = okx.receive(push(channel, name, {"instId": name, **item}), 5)
        assert all(isinstance(event, Mark) for event in found)
        fields = ("symbol", "ts_event", "mark_price", "index_price", "funding_rate", "next_funding_ts", "open_interest")
        return [tuple(getattr(event, key) for key in fields) for event in found]

    at = 1640131290649
    name = "BTC-USDT-SWAP"
    assert marks("mark-price", name, markPx="2.1", ts=str(at)) == [
        ("BTC-USDT-PERP", at * 10**6, 2.1, None, None, None, None)
    ]
    # The index has a name of its own, and may serve several contracts.
    assert marks("index-tickers", "BTC-USDT", idxPx="2.2", ts=str(at)) == [
        ("BTC-USDT-PERP", at * 10**6, 2.1, 2.2, None, None, None)
    ]
    assert marks("funding-rate", name, fundingRate="0.0001", fundingTime="1640851200000", nextFundingRate="") == [
        ("BTC-USDT-PERP", None, 2.1, 2.2, 0.0001, 1640851200 * 10**9, None)
    ]
    assert marks("open-interest", name, oi="644195", oiCcy="6441.95", ts=str(at)) == [
        ("BTC-USDT-PERP", at * 10**6, 2.1, 2.2, 0.0001, 1640851200 * 10**9, 6441.95)
    ]
    assert marks("funding-rate", name, fundingTime="1640851200000", nextFundingRate="0.0003")[0][4] is None


def test_subscriptions_name_channels_and_the_index() -> None:
    okx, rows = adapter()
    subs = [Subscription(kind, rows["BTC-USDT-SWAP"]) for kind in Okx.channels]
    (frame,) = okx.subscribe([*subs, Subscription("mark", rows["BTC-USDT"])])
    request = json.loads(frame)
    assert (request["op"], len(request["id"]) <= 32) == ("subscribe", True)
    assert [tuple(arg.values()) for arg in request["args"]] == [
        (channel, "BTC-USDT-SWAP") for channel in ("trades", "bbo-tbt", "books", "tickers", "mark-price")
    ] + [("index-tickers", "BTC-USDT"), ("funding-rate", "BTC-USDT-SWAP"), ("open-interest", "BTC-USDT-SWAP")]
    assert okx.venue_channels(subs) == [f"{arg['channel']}:{arg['instId']}" for arg in request["args"]]


def test_answers_are_matched() -> None:
    okx, rows = adapter()
    (frame,) = okx.subscribe([Subscription("book", rows["BTC-USDT"]), Subscription("trade", rows["BTC-USDT"])])
    number = json.loads(frame)["id"]
    for text, expected in (
        ('{"id":"1512","event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"a4d3ae55"}',
         [Acked(("books:BTC-USDT",))]),
        ('{"event":"error","msg":"Wrong URL or channel:index-tickers, instId:NEAR-USDT-SWAP doesn\'t exist. Please use '
         'the correct URL.","code":"60018","connId":"94d38802"}', [("index-tickers:NEAR-USDT-SWAP",)]),
        (json.dumps({"id": number, "event": "error", "code": "60012", "msg": "Invalid request"}),
         [("books:BTC-USDT", "trades:BTC-USDT")]),
        ('{"event":"error","msg":"API key doesn\'t exist","code":"60032","connId":"f9ab6f3c"}', [()]),
        ('{"event":"unsubscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"d0b44253"}', []),
        ('{"event":"channel-conn-count","channel":"account","connCount":"1","connId":"4adc328c"}',
         [Skipped("unknown event")]),
    ):  # fmt: skip
        found = okx.receive(text.encode(), 1)
        assert [event.channels if isinstance(event, Refused) else event for event in found] == expected
    notice = b'{"event":"notice","msg":"The connection will soon be closed.","code":"64008","connId":"8517149b"}'
    (event,) = okx.receive(notice, 1)
    assert isinstance(event, Rotate)


def test_the_heartbeat_is_a_bare_word() -> None:
    okx, _ = adapter()
    assert okx.ping() == b"ping"
    assert okx.receive(b"pong", 1) == []
    assert Okx.peek(b"pong") == []


def test_candle_channels_belong_to_the_business_endpoint() -> None:
    class WithCandles(Okx):
        channels = {**Okx.channels, "candle": "candle1m"}  # noqa: RUF012 - as the adapter's own

    _, rows = adapter()
    assert {Okx.endpoint_of(kind, rows["BTC-USDT"]) for kind in Okx.channels} == {"public"}
    assert WithCandles.endpoint_of("candle", rows["BTC-USDT"]) == "business"
    assert WithCandles.endpoint_of("trade", rows["BTC-USDT"]) == "public"
    assert Okx.endpoint_at("wss://ws.okx.com:8443/ws/v5/business") == "business"
    assert Okx.endpoint_at("wss://wspap.okx.com:8443/ws/v5/public") == "public"


PRICES = ("112600.1", "112631.9", "112477.1", "112477.2")


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("BTC-USDT", ["1757076060000", *PRICES, "3.1", "349947.3", "349947.3", "1"],
         (3.1, 349947.3)),
        ("BTC-USDT-SWAP", ["1757076060000", *PRICES, "4070", "40.7", "842640", "1"],
         (40.7, 842640.0)),
        ("BTC-USDT", ["1654154580000", *PRICES, "0.0111536", "333.86246417"],
         (0.0111536, 333.86246417)),
        ("BTC-USDT-SWAP", ["1662716640000", *PRICES, "4070", "40.7"], (40.7, None)),
        ("BTC-USD-SWAP", ["1662716640000", *PRICES, "3", "0.1", "300", "1"],
         (300.0, None)),
    ],
)  # fmt: skip
def test_candles_of_nine_and_of_seven_columns(name: str, row: list[str], expected: tuple[Any, ...]) -> None:
    okx, rows = adapter(endpoint="business")
    (candle,) = okx.receive(push("candle1m", name, row), 1_800_000_000 * 10**9)
    assert isinstance(candle, Candle)
    assert (candle.volume, candle.notional) == expected
    assert (candle.open, candle.high, candle.low, candle.close) == (112600.1, 112631.9, 112477.1, 112477.2)
    assert (candle.start, candle.source) == (int(row[0]) * 10**6, "venue")
    assert okx.receive(push("candle1m", name, [*row[:7], "", "0"]), 1_800_000_000 * 10**9) == []  # still open
    body = json.dumps({"code": "0", "data": [[*row[:7], "", "0"], row]}).encode()
    fetch = Okx.candles_fetch(rows[name], "1m", 0, 10)
    assert fetch is not None
    assert okx.snapshot(fetch, body, 1_800_000_000 * 10**9) == [candle]


def test_candles_are_asked_for_by_bounds_and_utc_days() -> None:
    _, rows = adapter()
    fetch = Okx.candles_fetch(rows["BTC-USDT"], "1d", 1_700_006_400 * 10**9, 1000)
    assert isinstance(fetch, Fetch)
    query = dict(fetch.params)
    assert (query["bar"], query["limit"]) == ("1Dutc", "300")
    assert int(query["before"]) < 1_700_006_400_000 <= int(query["after"]) - 300 * 86_400_000
    assert Okx.resource_of("https://www.okx.com/api/v5/market/candles?instId=BTC-USDT&bar=1m") == (
        "candles",
        "BTC-USDT",
    )
    assert Okx.candles_fetch(rows["BTC-USDT"], "10s", 0, 5) is None
    with pytest.raises(WireError):
        Okx([]).snapshot(fetch, b'{"code":"50011","msg":"Too Many Requests","data":[]}', 1)


def test_one_bad_item_does_not_cost_the_others() -> None:
    okx, _ = adapter()
    item = {"tradeId": "1", "px": "1.5", "sz": "2", "side": "buy", "ts": "1646311839593"}
    bad = [{**item, "px": "nan"}, {**item, "sz": "-1"}, {**item, "side": "?"}, {**item, "ts": str(1 << 70)}, 5, None]
    for name in ("BTC-USDT", "BTC-USDT-SWAP"):
        found = okx.receive(push("trades", name, *bad[:3], item, *bad[3:], {**item, "tradeId": "2"}), 1)
        assert [event.trade_id for event in found if isinstance(event, Trade)] == ["1", "2"]
        assert found.count(Skipped("unreadable item")) == len(bad)


def test_two_channels_with_the_same_trades_or_books_count_once() -> None:
    okx, _ = adapter()
    item = {"tradeId": "1", "px": "1.5", "sz": "2", "side": "buy", "ts": "1646311839593"}
    assert isinstance(okx.receive(push("trades", "BTC-USDT", item), 1)[0], Trade)
    assert okx.receive(push("trades-all", "BTC-USDT", item), 1) == [Skipped("second channel of the same")]
    okx.receive(book("snapshot", -1, 10, BIDS, ASKS), 1)
    other = book("update", 3, 4).replace(b'"books"', b'"books50-l2-tbt"')
    assert okx.receive(other, 1) == [Skipped("second channel of the same")]
    assert okx.receive(push("books5", "BTC-USDT", {"asks": ASKS, "bids": BIDS, "ts": "1"}), 1) == [
        Skipped("unknown channel")
    ]


def test_an_older_best_price_never_replaces_a_newer_one() -> None:
    """seqId falls after maintenance, but time does not."""
    okx, _ = adapter()
    outcomes = [
        type(okx.receive(push("bbo-tbt", "BTC-USDT", {"asks": ASKS, "bids": BIDS, "ts": ts, "seqId": number}), 1)[0])
        for ts, number in (("5", 8), ("5", 7), ("4", 6), ("5", 8), ("6", 1))
    ]
    assert outcomes == [Quote, Skipped, Skipped, Quote, Quote]


def test_a_book_does_not_go_back_to_an_older_snapshot() -> None:
    okx, _ = adapter()
    first = book("snapshot", -1, 10, BIDS, ASKS)
    okx.receive(first, 1)
    okx.receive(book("update", 10, 12, [["99", "1", "0", "1"]]), 1)
    assert okx.receive(first, 1) == [Skipped("older snapshot")]
    assert isinstance(okx.receive(book("update", 12, 13, [["99", "2", "0", "1"]]), 1)[0], BookUpdate)
    (reset,) = okx.receive(book("snapshot", -1, 3, BIDS, ASKS).replace(b"1787612486407", b"1787612486408"), 1)
    assert isinstance(reset, BookUpdate)


@pytest.mark.parametrize("price", ["0", "-1"])
def test_nothing_is_traded_at_or_below_zero(price: str) -> None:
    okx, _ = adapter()
    item = {"tradeId": "1", "px": price, "sz": "2", "side": "buy", "ts": "1646311839593"}
    for check in (0, 7):
        with pytest.raises(WireError):
            okx.receive(book("snapshot", -1, 10, [[price, "1", "0", "1"]], ASKS, check), 1)
    with pytest.raises(WireError):
        okx.receive(push("trades", "BTC-USDT", item), 1)


def test_a_side_without_orders_is_none() -> None:
    okx, _ = adapter()
    (quote,) = okx.receive(push("bbo-tbt", "BTC-USDT", {"asks": ASKS, "bids": [], "ts": "5", "seqId": 1}), 1)
    assert isinstance(quote, Quote)
    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size) == (None, None, 101, 2)
    (ticker,) = okx.receive(push("tickers", "BTC-USDT", {"instType": "SPOT", "last": "1", "bidPx": "", "ts": "5"}), 1)
    assert isinstance(ticker, Ticker)
    assert (ticker.last_price, ticker.bid_price, ticker.volume) == (1, None, None)


# whatever comes, only WireError leaves


FRAMES = [row["raw"].encode() for path in SESSIONS for row in rows_of(path)[:400] if "dir" not in row]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300) | st.sampled_from(FRAMES), st.data())
def test_only_wire_errors_leave(payload: bytes, data: st.DataObject) -> None:
    okx, _ = adapter()
    mutated = bytearray(payload)
    for _ in range(data.draw(st.integers(0, 4))):
        if mutated:
            at = data.draw(st.integers(0, len(mutated) - 1))
            mutated[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    for frame in (payload, bytes(mutated)):
        Okx.peek(frame)
        for call in (
            lambda frame=frame: okx.receive(frame, 1),
            lambda frame=frame: Okx.parse_instruments(frame),
            lambda frame=frame: okx.snapshot(
                Fetch(resource="candles", path="", instrument=Okx.parse_instruments(body_of(SPOT))[0], interval="1m"),
                frame,
                1,
            ),
        ):
            try:
                call()
            except WireError:
                pass


VALUES: list[Any] = [
    None,
    "",
    "x",
    "nan",
    "inf",
    "1e999",
    -1,
    1 << 80,
    {},
    [],
    [[]],
    [["1"]],
    [["nan", "1"]],
    [["1", "-1"]],
    True,
]


@pytest.mark.parametrize("channel", ["trades", "books", "bbo-tbt", "tickers", "mark-price", "index-tickers",
                                     "funding-rate", "open-interest", "candle1m"])  # fmt: skip
@pytest.mark.parametrize("name", ["BTC-USDT", "BTC-USDT-SWAP"])
def test_wrong_values_cost_their_message(channel: str, name: str) -> None:
    whole = {
        "tradeId": "1", "px": "1", "sz": "1", "side": "buy", "ts": "1", "count": "1", "asks": ASKS, "bids": BIDS,
        "checksum": 0, "seqId": 2, "prevSeqId": -1, "last": "1", "vol24h": "1", "volCcy24h": "1", "markPx": "1",
        "idxPx": "1", "fundingRate": "1", "fundingTime": "1", "oi": "1",
    }  # fmt: skip
    for key in whole:
        for value in VALUES:
            okx, _ = adapter()
            for action in ("snapshot", "update"):
                frame = {"arg": {"channel": channel, "instId": name}, "action": action, "data": [{**whole, key: value}]}
                try:
                    events = okx.receive(json.dumps(frame).encode(), 1)
                except WireError:
                    continue
                msgspec.json.encode(events)


# the venue's side


@pytest.mark.parametrize("sequenced", [False, True])
async def test_the_replay_server_answers_a_new_subscription_with_the_book_as_it_stands(
    sequenced: bool, tmp_path: Path
) -> None:
    """In the second lap as well, with ids and times of that lap; with `sequenced` in the form of 2026."""
    rows, last = [], 1000
    for row in rows_of(OWN):
        if "ZEN-USDT" in row["raw"] and "books-l2-tbt" in row["raw"] and '"data"' in row["raw"]:
            if sequenced:
                frame = json.loads(row["raw"])
                before = -1 if frame["action"] == "snapshot" else last
                last += 3
                frame["data"][0] |= {"seqId": last, "prevSeqId": before, "checksum": 0}
                row = {**row, "raw": json.dumps(frame, separators=(",", ":"))}
            rows.append({**row, "raw": row["raw"].replace("books-l2-tbt", "books")})
    folder = write(tmp_path / "s", rows, bodies())
    okx, instruments = adapter(*(row for row in listed(OWN).values() if row["instId"] == "ZEN-USDT"))
    keeper = OrderBook(400, window=True)
    lost = 0
    async with ReplayServer("okx", [folder], loop=True, pause_s=0.2, speed=15) as server:
        for _ in range(2):
            async with connect(server.ws_url + "/ws/v5/public") as socket:
                await socket.send("ping")
                assert await socket.recv() == "pong"
                (request,) = okx.subscribe([Subscription("book", instruments["ZEN-USDT"])])
                await socket.send(request.decode())
                snapshots, updates = 0, 0
                async for frame in socket:
                    for event in okx.receive(frame.encode() if isinstance(frame, str) else frame, 1):
                        if isinstance(event, BookUpdate):
                            snapshots, updates = snapshots + event.snapshot, updates + (not event.snapshot)
                            if event.snapshot:
                                keeper.replace(event.bids, event.asks, texts=event.texts)
                            else:
                                keeper.apply(event.bids, event.asks, event.texts)
                            assert event.checksum is None or event.checksum == checksum(keeper)
                            assert not keeper.crossed()
                        lost += isinstance(event, BookGap)
                    if updates in (100, 250):
                        updates += 1
                        for again in okx.resync(instruments["ZEN-USDT"]):
                            assert isinstance(again, bytes)
                            await socket.send(again.decode())
                assert snapshots >= 3 and updates > 200
            okx, instruments = adapter(*(row for row in listed(OWN).values() if row["instId"] == "ZEN-USDT"))
    assert lost == 0
