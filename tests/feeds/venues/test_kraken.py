"""Kraken: every recorded session against a naive reading of its text, the rules of v2 (and v1) as cases."""

import gzip
import json
import random
import zlib
from collections import defaultdict
from decimal import Decimal
from functools import cache
from heapq import nlargest, nsmallest
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect

from feeds.adapter import Acked, BookGap, BookUpdate, Fetch, Refused, Skipped, Subscription
from feeds.replay import ReplayServer
from feeds.venues.kraken import Kraken
from hub.book import OrderBook
from hub.errors import WireError
from hub.instruments import Instrument, InstrumentTable
from hub.model import Candle, Quote, Ticker, Trade
from tests.feeds.venues.plays import DATA, SHARED, Follower, Levels, Row, lines, of, play, recordings, rows_of, write

OWN = DATA / "kraken" / "crossbook_2026-08-02_BTCUSD_d25"
V1 = sorted((SHARED / "kraken").glob("v1_legacy*"))
SESSIONS = [*recordings("kraken"), *V1]
BOOKS = [path for path in SESSIONS if "crossbook" in path.name or path.name.endswith("_book")]
NS = 1_000_000_000

played = cache(lambda path: play("kraken", path))

each = pytest.mark.parametrize("path", SESSIONS, ids=lambda path: f"{path.parent.name}/{path.name}")
whole = pytest.mark.parametrize("path", BOOKS, ids=lambda path: f"{path.parent.name}/{path.name}")


# a naive reading: numbers are the text they came as


def payloads(path: Path) -> list[Any]:
    texts = [row["raw"] for row in rows_of(path) if "dir" not in row]
    return [json.loads(text, parse_float=str, parse_int=str) for text in texts]


def digits(text: str) -> str:
    return text.replace(".", "").lstrip("0")


class NaiveBook:
    """A dict a side, price -> size, both as text, cut to the subscribed depth after each message."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.sides: list[dict[str, str]] = [{}, {}]

    def apply(self, bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> None:
        for number, levels in enumerate((bids, asks)):
            for price, size in levels:
                self.sides[number].pop(price, None)
                if Decimal(size):
                    self.sides[number][price] = size
            if len(self.sides[number]) > self.depth:
                self.sides[number] = dict(self.best(number)[: self.depth])

    def best(self, number: int) -> list[tuple[str, str]]:
        return sorted(self.sides[number].items(), key=lambda level: Decimal(level[0]), reverse=number == 0)

    def checksum(self) -> int:
        # Floats find the ten best as well as decimals do, and sooner.
        bids, asks = (side.items() for side in self.sides)
        levels = nsmallest(10, asks, key=lambda level: float(level[0]))
        levels += nlargest(10, bids, key=lambda level: float(level[0]))
        return zlib.crc32("".join(digits(text) for level in levels for text in level).encode())

    def numbers(self) -> tuple[Levels, Levels]:
        bids, asks = ({Decimal(price): Decimal(size) for price, size in side.items()} for side in self.sides)
        return bids, asks


def pairs(levels: list[Row]) -> list[tuple[str, str]]:
    return [(level["price"], level["qty"]) for level in levels]


@cache
def naive_books(path: Path) -> dict[str, list[tuple[Levels, Levels] | None]]:
    """Return each symbol's book after each message, of deep ones some; every checksum is compared."""
    found: dict[str, list[tuple[Levels, Levels] | None]] = defaultdict(list)
    books: dict[str, NaiveBook] = {}
    depth = 10
    for frame in payloads(path):
        if isinstance(frame, list):
            parts, depth, symbol = frame[1:-2], int(frame[-2].partition("-")[2]), frame[-1]
            merged = {key: value for part in parts for key, value in part.items()}
            if "as" in merged or "bs" in merged:
                books[symbol] = NaiveBook(depth)
            sides = [
                [(row[0], row[1]) for name in (long, short) for row in merged.get(name, [])]
                for long, short in (("bs", "b"), ("as", "a"))
            ]
            books[symbol].apply(sides[0], sides[1])
            if "c" in merged:
                assert books[symbol].checksum() == int(merged["c"])
        elif frame.get("method") == "subscribe":
            depth = int(frame["result"]["depth"])
            continue
        elif frame.get("channel") == "book":
            (item,) = frame["data"]
            symbol = item["symbol"]
            if frame["type"] == "snapshot":
                books[symbol] = NaiveBook(depth)
            books[symbol].apply(pairs(item["bids"]), pairs(item["asks"]))
            assert books[symbol].checksum() == int(item["checksum"])
        else:
            continue
        found[symbol].append(books[symbol].numbers() if depth < 100 or len(found[symbol]) % 100 == 0 else None)
    for symbol, states in found.items():
        states[-1] = books[symbol].numbers()
    return found


def canonical(path: Path, symbol: str) -> str:
    return symbol.replace("/", "-") if path.is_dir() and path not in V1 else symbol.replace("/", "~2F")


@whole
def test_books_equal_naive_ones_after_every_message_and_every_checksum_fits(path: Path) -> None:
    normalizer, messages = played(path)
    expected = naive_books(path)
    assert expected
    for symbol, states in expected.items():
        printed = of(messages, "book", canonical(path, symbol))
        assert len(printed) == len(states)
        follower = Follower()
        for row, state in zip(printed, states, strict=True):
            book_now = follower.take(row)
            assert state is None or book_now == state
    statuses = [(row["state"], row["reason"]) for row in of(messages, "status")]
    assert statuses == [("live", "book rebuilt")] * len(expected)
    assert not {"wire_errors", "resyncs"} & normalizer.pipeline.counters.keys()


@each
def test_every_trade_is_there_once_as_the_venue_told_it(path: Path) -> None:
    expected = []
    for frame in payloads(path):
        if isinstance(frame, list) and frame[-2] == "trade":
            expected += [
                (frame[-1], Decimal(row[0]), Decimal(row[1]), {"b": "buy", "s": "sell"}[row[3]], "") for row in frame[1]
            ]
        elif isinstance(frame, dict) and frame.get("channel") == "trade":
            expected += [
                (row["symbol"], Decimal(row["price"]), Decimal(row["qty"]), row["side"], row["trade_id"])
                for row in frame["data"]
            ]
    _, messages = played(path)
    found = [(row["price"], row["size"], row["side"], row["trade_id"]) for row in of(messages, "trade")]
    assert found == [row[1:] for row in expected]
    assert [row["symbol"] for row in of(messages, "trade")] == [canonical(path, row[0]) for row in expected]


@each
def test_quotes_and_tickers_are_what_the_venue_told(path: Path) -> None:
    quotes, tickers = [], []
    for frame in payloads(path):
        if isinstance(frame, list) and frame[-2] == "ticker":
            row = frame[1]
            quotes.append([row["b"][0], row["b"][2], row["a"][0], row["a"][2]])
            tickers.append([row["c"][0], row["o"][1], row["h"][1], row["l"][1], row["v"][1]])
        elif isinstance(frame, dict) and frame.get("channel") == "ticker":
            (row,) = frame["data"]
            quotes.append([row[name] for name in ("bid", "bid_qty", "ask", "ask_qty")])
            opened = str(Decimal(row["last"]) - Decimal(row["change"]))
            tickers.append([row["last"], opened, row["high"], row["low"], row["volume"]])
    _, messages = played(path)
    if quotes:
        fields = ("bid", "bid_size", "ask", "ask_size")
        assert [[row[name] for name in fields] for row in of(messages, "quote")] == [
            [Decimal(text) for text in row] for row in quotes
        ]
    names = ("last_price", "open_price", "high_price", "low_price", "volume")
    assert [[row[name] for name in names] for row in of(messages, "ticker")] == [
        [Decimal(text) for text in row] for row in tickers
    ]


@each
def test_venue_text_and_float_are_the_same_number(path: Path) -> None:
    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for each in value.values() for text in texts(each)]
        if isinstance(value, list):
            return [text for each in value for text in texts(each)]
        return [value] if isinstance(value, str) and value.replace(".", "", 1).isdecimal() else []

    prices = [
        text
        for frame in payloads(path)
        if isinstance(frame, list) or frame.get("channel") in {"book", "trade", "ticker"}
        for text in texts(frame)
        if "." in text
    ]
    assert [text for text in prices if Decimal(text) != Decimal(repr(float(text)))] == []


def book_lines(path: Path) -> list[int]:
    return [at for at, row in enumerate(rows_of(path)) if '"update"' in row["raw"] and '"book"' in row["raw"]]


@pytest.mark.parametrize("chance", range(6))
@pytest.mark.parametrize("fault", ["removed", "swapped"])
def test_a_fault_is_found_by_checksum_or_time_and_nothing_wrong_is_served(
    fault: str, chance: int, tmp_path: Path
) -> None:
    """A message about the ten best levels cannot be lost unseen; below them one shows when its level moves up."""
    rows, at = list(rows_of(OWN)), random.Random(chance).choice(book_lines(OWN)[:1500])
    if fault == "removed":
        del rows[at]
    else:
        other = next(line for line in book_lines(OWN) if line > at)
        rows[at], rows[other] = {**rows[other], "t": rows[at]["t"]}, {**rows[at], "t": rows[other]["t"]}
    _, messages = play("kraken", write(tmp_path / "session", rows))
    states = [row["state"] for row in of(messages, "status")]
    books = of(messages, "book")
    naive = [state for state in naive_books(OWN)["BTC/USD"] if state is not None]
    if fault == "swapped":
        assert states == ["live", "resyncing"]
    follower = Follower()
    top = [(max(bids), min(asks)) for bids, asks in naive]
    for row in books:
        bids, asks = follower.take(row)
        assert (max(bids), min(asks)) in top
    if "resyncing" in states:
        broken = messages.index(of(messages, "status")[1])
        assert not [row for row in messages[broken:] if row["type"] in ("book", "depth", "quote")]


def test_a_message_of_the_best_levels_that_is_lost_ends_the_book_at_once(tmp_path: Path) -> None:
    rows = list(rows_of(OWN))
    naive = [state for state in naive_books(OWN)["BTC/USD"] if state is not None]
    lost = book_lines(OWN)
    number = next(n for n in range(1, 500) if max(naive[n][0]) != max(naive[n - 1][0]))
    del rows[lost[number - 1]]
    _, messages = play("kraken", write(tmp_path / "session", rows))
    status = of(messages, "status")[1]
    assert (status["state"], status["reason"].partition(":")[0]) == ("resyncing", "checksum mismatch")
    assert len(of(messages, "book")) == number


def test_a_repeated_message_changes_nothing(tmp_path: Path) -> None:
    rows, at = list(rows_of(OWN)), book_lines(OWN)[100]
    _, messages = play("kraken", write(tmp_path / "session", [*rows[: at + 1], *rows[at:]]))
    assert [row["state"] for row in of(messages, "status")] == ["live"]


# rules


def instrument(venue_symbol: str = "BTC/USD") -> Instrument:
    base, _, quote = venue_symbol.partition("/")
    return Instrument(
        venue="kraken", venue_symbol=venue_symbol, symbol=f"{base}-{quote}", kind="spot", base=base, quote=quote
    )


BTC, ETH = instrument(), instrument("ETH/USD")


def book(
    *levels: tuple[str, str, str], kind: str = "update", symbol: str = "BTC/USD", at: str = "2026-08-02T03:35:51.66Z",
    checksum: int | None = None,
) -> bytes:  # fmt: skip
    sides = {
        side: ",".join(f'{{"price":{price},"qty":{size}}}' for where, price, size in levels if where == side)
        for side in ("bids", "asks")
    }
    summed = f',"checksum":{checksum}' if checksum is not None else ""
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":[{sides["bids"]}],'
        f'"asks":[{sides["asks"]}]{summed},"timestamp":"{at}"}}]}}'
    ).encode()


def ack(symbol: str, depth: int, number: int | None = None) -> bytes:
    result = {"channel": "book", "depth": depth, "snapshot": True, "symbol": symbol}
    return json.dumps({"method": "subscribe", "result": result, "success": True, "req_id": number}).encode()


def test_the_documents_worked_example_of_a_checksum() -> None:
    frame = next(frame for frame in payloads(OWN) if frame.get("type") == "snapshot")
    adapter = Kraken([BTC])
    (update,) = adapter.receive(rows_of(OWN)[2]["raw"].encode(), 1)
    assert isinstance(update, BookUpdate) and update.texts is not None
    found = OrderBook()
    found.replace(update.bids, update.asks, texts=update.texts)
    assert Kraken.checksum is not None
    assert Kraken.checksum(found) == update.checksum == 3726153463 == int(frame["data"][0]["checksum"])


@pytest.mark.parametrize(
    ("text", "expected"), [("0.00005100", "5100"), ("63389.0", "633890"), ("5.1e-05", "51"), ("1E-8", "1"), ("0.0", "")]
)
def test_digits_are_the_wires(text: str, expected: str) -> None:
    (update,) = Kraken([BTC]).receive(book(("asks", "7.0", text), kind="snapshot"), 1)
    assert isinstance(update, BookUpdate) and update.texts is not None
    assert update.texts[1] == [f"70{expected}"]


def test_levels_come_in_no_order_and_the_last_of_a_price_counts() -> None:
    adapter = Kraken([BTC])
    adapter.receive(book(("bids", "1.0", "1.0"), kind="snapshot"), 1)
    rows = (("bids", "1.0", "0.0"), ("bids", "3.0", "1.0"), ("bids", "2.0", "1.0"), ("bids", "1.0", "5.0"))
    (update,) = adapter.receive(book(*rows), 2)
    assert isinstance(update, BookUpdate)
    assert update.bids == [(3.0, 1.0), (2.0, 1.0), (1.0, 5.0)]


def asks(count: int) -> list[tuple[str, str, str]]:
    return [("asks", f"{100 + number}.0", "1.0") for number in range(count)]


@pytest.mark.parametrize(("acked", "levels", "expected"), [(25, 7, 25), (None, 7, 10), (None, 25, 25), (10, 10, 10)])
def test_the_depth_is_the_acknowledged_one_or_the_least_that_holds_the_snapshot(
    acked: int | None, levels: int, expected: int
) -> None:
    adapter = Kraken([BTC])
    if acked is not None:
        assert adapter.receive(ack("BTC/USD", acked), 1) == [Acked(("book:BTC/USD",))]
    (update,) = adapter.receive(book(*asks(levels), kind="snapshot"), 1)
    assert isinstance(update, BookUpdate)
    assert update.window == expected


def test_what_is_pushed_out_of_the_depth_is_told_as_removed(tmp_path: Path) -> None:
    frames = [
        ack("BTC/USD", 10).decode(),
        book(*asks(10), kind="snapshot").decode(),
        book(("asks", "99.5", "1.0"), at="2026-08-02T03:35:52Z").decode(),
    ]
    _, messages = play("kraken", write(tmp_path / "session", lines(*frames)))
    assert of(messages, "book")[1]["asks"] == [[Decimal("99.5"), 1], [109, 0]]


def test_a_book_goes_by_its_times_and_is_subscribed_again_once() -> None:
    adapter = Kraken([BTC])
    late, early = "2026-08-02T03:35:52.000002Z", "2026-08-02T03:35:52.000001Z"
    assert adapter.receive(book(("asks", "1.0", "1.0")), 1) == [Skipped("book before its snapshot")]
    adapter.receive(book(*asks(1), kind="snapshot", at=early), 2)
    assert len(adapter.receive(book(("asks", "1.0", "1.0"), at=late), 3)) == 1
    (gap,) = adapter.receive(book(("asks", "1.0", "1.0"), at=early), 4)
    assert isinstance(gap, BookGap)
    frames = [json.loads(frame) for frame in adapter.resync(BTC) if isinstance(frame, bytes)]
    assert [frame["method"] for frame in frames] == ["unsubscribe", "subscribe"]
    assert frames[1]["params"] == {"channel": "book", "symbol": ["BTC/USD"], "depth": 1000, "snapshot": True}
    assert adapter.receive(book(("asks", "1.0", "1.0"), at=late), 5) == [Skipped("book before its snapshot")]
    assert isinstance(adapter.receive(book(*asks(1), kind="snapshot", at=early), 6)[0], BookUpdate)


def test_a_snapshot_says_nothing_of_the_times_that_follow() -> None:
    adapter = Kraken([BTC])
    adapter.receive(book(*asks(1), kind="snapshot", at="2026-08-02T03:35:52.07Z"), 1)
    first, second = "2026-08-02T03:35:52.02Z", "2026-08-02T03:35:52.03Z"
    for at in (first, second):
        assert isinstance(adapter.receive(book(("asks", "1.0", "1.0"), at=at), 2)[0], BookUpdate)
    assert isinstance(adapter.receive(book(("asks", "1.0", "1.0"), at=first), 3)[0], BookGap)


def test_a_broken_book_costs_no_other(tmp_path: Path) -> None:
    frames = [
        book(*asks(3), kind="snapshot").decode(),
        book(*asks(3), kind="snapshot", symbol="ETH/USD").decode(),
        book(("asks", "99.0", "1.0"), checksum=1, at="2026-08-02T03:35:52Z").decode(),
        book(("asks", "99.0", "1.0"), symbol="ETH/USD", at="2026-08-02T03:35:52Z").decode(),
    ]
    _, messages = play("kraken", write(tmp_path / "session", lines(*frames)))
    assert [(row["symbol"], row["state"]) for row in of(messages, "status")] == [
        ("BTC~2FUSD", "live"), ("ETH~2FUSD", "live"), ("BTC~2FUSD", "resyncing"),
    ]  # fmt: skip
    assert [len(of(messages, "book", symbol)) for symbol in ("BTC~2FUSD", "ETH~2FUSD")] == [1, 2]


@pytest.mark.parametrize("path", [OWN, *[path for path in V1 if path.name.endswith("_book")]], ids=lambda p: p.name)
@pytest.mark.parametrize("chance", range(3))
def test_a_book_message_that_was_cut_is_a_lost_one(path: Path, chance: int, tmp_path: Path) -> None:
    """The checksum is that of ten levels: what was lost below them would not show in it."""
    rows = list(rows_of(path))[:1500]
    at = random.Random(chance).choice([n for n, row in enumerate(rows) if n > 50 and len(row["raw"]) > 60])
    rows[at] = {**rows[at], "raw": rows[at]["raw"][: len(rows[at]["raw"]) // 2]}
    _, messages = play("kraken", write(tmp_path / "session", rows))
    last = of(messages, "status")[-1]
    assert (last["state"], last["reason"]) == ("resyncing", "an unreadable book message")
    assert not of(messages[messages.index(last) :], "book")


def test_an_unreadable_level_ends_that_book_alone() -> None:
    adapter = Kraken([BTC, ETH])
    for symbol in ("BTC/USD", "ETH/USD"):
        adapter.receive(book(*asks(1), kind="snapshot", symbol=symbol), 1)
    bad, good = book(("asks", "null", "1.0")), book(("asks", "5.0", "1.0"), symbol="ETH/USD")
    items = [json.loads(frame)["data"][0] for frame in (bad, good)]
    both = json.dumps({"channel": "book", "type": "update", "data": items}).encode()
    events = adapter.receive(both, 2)
    assert [(type(event), getattr(event, "instrument", None)) for event in events] == [
        (BookUpdate, ETH), (BookGap, BTC), (Skipped, None),
    ]  # fmt: skip
    cut = both[: both.index(b"BTC")]  # of which book it was cannot be read
    assert [event.instrument for event in adapter.receive(cut, 3) if isinstance(event, BookGap)] == [ETH]


def test_what_is_older_than_the_last_is_not_told_again(tmp_path: Path) -> None:
    def ticker(at: str, bid: float) -> str:
        item = {"symbol": "BTC/USD", "bid": bid, "timestamp": at}
        return json.dumps({"channel": "ticker", "type": "update", "data": [item]})

    frames = [ticker(f"2026-08-02T03:35:5{second}.5Z", second) for second in (1, 3, 2, 3)]
    normalizer, messages = play("kraken", write(tmp_path / "session", lines(*frames)))
    assert [row["bid"] for row in of(messages, "quote")] == [1, 3, 3]
    assert normalizer.pipeline.counters["skipped_old_ticker"] == 1


def test_swapped_book_messages_of_v1_show_in_their_times(tmp_path: Path) -> None:
    """A level that moved up comes with its old time, marked `r`."""

    def update(rows: str) -> str:
        return f'[1,{{"a":[{rows}]}},"book-10","XBT/USD"]'

    frames = [
        '[1,{"as":[["2.0","1.0","1617666423.6"]],"bs":[["1.0","1.0","1617666429.6"]]},"book-10","XBT/USD"]',
        update('["2.0","3.0","1617666424.7"],["3.0","3.0","1617666400.7","r"]'),
        update('["4.0","3.0","1617666404.7","r"]'),
        update('["2.0","3.0","1617666424.7"]'),
        update('["2.0","4.0","1617666424.6"]'),
        update('["2.0","4.0","1617666424.8"]'),
    ]
    normalizer, messages = play("kraken", write(tmp_path / "session", lines(*frames)))
    assert [row["state"] for row in of(messages, "status")] == ["live", "resyncing"]
    assert len(of(messages, "book")) == 4
    assert normalizer.pipeline.counters["skipped_book_before_its_snapshot"] == 1


@pytest.mark.parametrize("side", [{"side": None}, {"side": "hold"}])
def test_a_trade_of_an_unknown_side_is_a_trade(side: Row) -> None:
    frame = {"channel": "trade", "type": "update", "data": [trade(**side)]}
    (event,) = Kraken([BTC]).receive(json.dumps(frame).encode(), 5)
    assert isinstance(event, Trade)
    assert (event.side, event.price, event.size) == (None, 1.5, 2.0)


def test_heartbeats_do_not_keep_a_book_alive(tmp_path: Path) -> None:
    """A second's heartbeat says that the socket lives; a book that stopped changing is `stale` all the same."""
    start = [book(*asks(3), kind="snapshot").decode()]
    busy = [
        book(("asks", "99.0", f"{number % 7 + 1}.0"), at=f"2026-08-02T03:{36 + number // 600}:{number // 10 % 60:02d}Z")
        for number in range(1200)
    ]
    silence = ['{"channel":"heartbeat"}'] * 3000
    _, messages = play("kraken", write(tmp_path / "session", lines(*start, *(f.decode() for f in busy), *silence)))
    assert [row["state"] for row in of(messages, "status")] == ["live", "stale"]


def test_subscriptions_and_their_answers() -> None:
    adapter = Kraken([BTC, ETH], book_levels=30)
    subs = [Subscription(kind, row) for row in (BTC, ETH) for kind in ("trade", "quote", "ticker", "book", "depth")]
    names = [f"{channel}:{symbol}" for symbol in ("BTC/USD", "ETH/USD") for channel in ("trade", "ticker", "book")]
    assert adapter.venue_channels(subs) == names
    frames = [json.loads(frame) for frame in adapter.subscribe(subs)]
    assert [frame["params"]["channel"] for frame in frames] == ["trade", "ticker", "book"]
    assert all(frame["params"]["symbol"] == ["BTC/USD", "ETH/USD"] for frame in frames)
    assert frames[1]["params"]["event_trigger"] == "bbo"
    assert frames[2]["params"]["depth"] == 100
    number = frames[2]["req_id"]
    assert adapter.receive(ack("BTC/USD", 100, number), 1) == [Acked(("book:BTC/USD",))]
    refusal = {"error": "Subscription depth not supported", "method": "subscribe", "success": False}
    # What was accepted stays; what was not is refused by name.
    assert adapter.receive(json.dumps({**refusal, "req_id": number}).encode(), 1) == [
        Refused(("book:ETH/USD",), "Subscription depth not supported")
    ]
    assert adapter.receive(json.dumps(refusal).encode(), 1) == [Refused((), "Subscription depth not supported")]
    named = {**refusal, "req_id": frames[0]["req_id"], "symbol": "ETH/USD", "error": "Currency pair not supported"}
    assert adapter.receive(json.dumps(named).encode(), 1) == [
        Refused(("trade:ETH/USD",), "Currency pair not supported")
    ]
    exceeded = b'{"error":"Exceeded msg rate"}'
    assert adapter.receive(exceeded, 1) == [Refused((), "Exceeded msg rate")]
    assert adapter.receive(b'{"method":"pong","req_id":42}', 1) == []
    assert [json.loads(frame)["method"] for frame in adapter.unsubscribe(subs)] == ["unsubscribe"] * 3


def test_what_the_hub_has_no_use_for_is_counted() -> None:
    adapter = Kraken([BTC])
    unused = {"ohlc": "venue candle", "instrument": "instruments", "level3": "orders", "news": "unknown channel"}
    for channel, reason in unused.items():
        frame = {"channel": channel, "type": "update", "data": []}
        assert adapter.receive(json.dumps(frame).encode(), 1) == [Skipped(reason)]
    assert adapter.receive(b'{"hello":1}', 1) == [Skipped("unknown message")]
    assert adapter.receive(b'{"channel":"heartbeat"}', 1) == []


def trade(**fields: Any) -> Row:
    return {
        "symbol": "BTC/USD", "side": "buy", "price": 1.5, "qty": 2.0, "ord_type": "limit", "trade_id": 7,
        "timestamp": "2023-10-06T17:35:55.440295Z", **fields,
    }  # fmt: skip


def test_one_bad_item_does_not_cost_the_others() -> None:
    adapter = Kraken([BTC])
    items = [
        trade(),
        trade(price=-1e40),
        trade(timestamp="0001-01-01T00:00:00Z"),
        trade(symbol="X/Y"),
        trade(trade_id=8),
    ]
    events = adapter.receive(json.dumps({"channel": "trade", "type": "update", "data": items}).encode(), 5)
    assert [event.trade_id for event in events if isinstance(event, Trade)] == ["7", "8"]
    skipped = [event.reason for event in events if isinstance(event, Skipped)]
    assert sorted(skipped) == ["unknown symbol", "unreadable item", "unreadable item"]


def test_a_ticker_is_a_quote_and_a_ticker_and_absent_stays_none() -> None:
    adapter = Kraken([BTC])
    frame = {"channel": "ticker", "type": "update", "data": [{"symbol": "BTC/USD", "bid": 1.0, "last": None}]}
    assert adapter.receive(json.dumps(frame).encode(), 5) == [
        Quote("kraken", "BTC-USD", "", None, 5, 0, 1.0, None, None, None),
        Ticker("kraken", "BTC-USD", "", None, 5, 0, None, None, None, None, None, None, 1.0, None),
    ]


# instruments and candles


LIST = SHARED / "kraken" / "kraken_data_recorder_ws_instrument_snapshot.json.gz"


@pytest.mark.skipif(not LIST.is_file(), reason="the list lies beside the project")
def test_symbols_are_one_to_one_over_the_recorded_list() -> None:
    body = gzip.decompress(LIST.read_bytes())
    rows = Kraken.parse_instruments(body)
    listed = json.loads(body)["data"]["pairs"]
    table = InstrumentTable("kraken", rows)
    assert len(table) == len(rows) == len(listed) == 683
    for row in listed:
        found = table.by_key[row["symbol"]]
        assert (found.tick_size, found.lot_size) == (row["price_increment"], row["qty_increment"])
        assert found.min_notional == row["cost_min"]
        assert found.status == ("trading" if row["status"] == "online" else row["status"])
    assert table.by_symbol["BTC-USD"].venue_symbol == "BTC/USD"


@pytest.mark.skipif(not LIST.is_file(), reason="the list lies beside the project")
def test_v1s_names_are_one_to_one_over_the_recorded_list() -> None:
    rows = Kraken.parse_instruments(gzip.decompress(LIST.read_bytes()))
    words = {"BTC": "XBT", "DOGE": "XDG"}
    old = {row.key: "/".join(words.get(asset, asset) for asset in row.key.split("/")) for row in rows}
    assert old["BTC/USD"] == "XBT/USD" and old["DOGE/USD"] == "XDG/USD"
    assert {name: Kraken.listed_key(name) for name in old.values()} == {name: key for key, name in old.items()}


def test_a_recording_of_v1_uses_a_list_of_today(tmp_path: Path) -> None:
    frames = [
        '[1,{"as":[["2.0","1.0","1617666423.6"]],"bs":[["1.0","1.0","1617666423.6"]]},"book-10","XBT/USD"]',
        '[1,{"a":[["2.0","3.0","1617666424.6"]]},"book-10","XBT/USD"]',
        '[2,[["5.0","0.5","1617666425.6","b","l",""]],"trade","XDG/USD"]',
        '[3,[["6.0","0.5","1617666426.6","s","l",""]],"trade","ETH/USD"]',
        '[4,[["7.0","0.5","1617666427.6","s","l",""]],"trade","NO/PE"]',
    ]
    folder = write(tmp_path / "session", lines(*frames))
    listed = (OWN / "rest_AssetPairs.json").read_bytes()
    normalizer, messages = play("kraken", folder, listed)
    assert [(row["symbol"], row["price"], row["side"]) for row in of(messages, "trade")] == [
        ("DOGE-USD", 5, "buy"), ("ETH-USD", 6, "sell"),
    ]  # fmt: skip
    assert [(row["symbol"], row["asks"]) for row in of(messages, "book")] == [
        ("BTC-USD", [[2, 1]]), ("BTC-USD", [[2, 3]]),
    ]  # fmt: skip
    assert any("NO/PE" in warning for warning in normalizer.warnings)
    _, bare = play("kraken", folder)
    assert {row["symbol"] for row in of(bare, "trade")} == {"XDG~2FUSD", "ETH~2FUSD", "NO~2FPE"}


def test_trades_of_v1_that_come_twice_are_told_once(tmp_path: Path) -> None:
    """They have no ids: a frame with the same trades, to the microsecond, is the same frame."""
    row = '["5.0","0.5","1617666425.600001","b","l",""]'
    one, other = f'[2,[{row}],"trade","XBT/USD"]', f'[2,[{row}],"trade","ETH/USD"]'
    two = f'[2,[{row},{row.replace("001", "002")}],"trade","XBT/USD"]'
    normalizer, messages = play("kraken", write(tmp_path / "session", lines(one, one, other, one, two)))
    assert [row["symbol"] for row in of(messages, "trade")] == ["XBT~2FUSD", "ETH~2FUSD", "XBT~2FUSD", "XBT~2FUSD"]
    assert normalizer.pipeline.counters["skipped_repeated_trades"] == 2


def test_rest_names_are_v1s() -> None:
    rows = Kraken.parse_instruments((OWN / "rest_AssetPairs.json").read_bytes())
    assert [(row.venue_symbol, row.symbol, row.tick_size, row.lot_size, row.min_notional) for row in rows] == [
        ("BTC/USD", "BTC-USD", 0.1, 1e-08, 0.5),
        ("ETH/USD", "ETH-USD", 0.01, 1e-08, 0.5),
        ("DOGE/USD", "DOGE-USD", 1e-07, 1e-08, 0.5),
    ]


@pytest.mark.parametrize("name", ["http_asset_pairs.json", "http_asset_pairs_tokenized.json"])
def test_recorded_rest_lists_are_read(name: str) -> None:
    path = SHARED / "kraken" / "nautilus_rest" / name
    if not path.is_file():
        pytest.skip("the list lies beside the project")
    (row,) = Kraken.parse_instruments(path.read_bytes())
    assert (row.symbol, row.venue_symbol) in (("BTC-USDT", "BTC/USDT"), ("AAPLX-USD", "AAPLx/USD"))


@pytest.mark.parametrize("body", [b'{"error":["EGeneral:Too many requests"]}', b"{}", b"[]", b"", b'{"data":{}}'])
def test_errors_with_http_200_are_errors(body: bytes) -> None:
    with pytest.raises(WireError):
        Kraken.parse_instruments(body)


def test_candles() -> None:
    fetch = Kraken.candles_fetch(instrument("DOGE/BTC"), "1m", 120 * NS, 10)
    assert fetch is not None
    assert fetch.params == (("pair", "XDGXBT"), ("interval", "1"), ("since", "119"))
    assert Kraken.candles_fetch(BTC, "3m", 0, 1) is None
    rows = [[start, "1.0", "3.0", "0.5", "2.0", "1.7", "4.0", 5] for start in (60, 120, 180, 240)]
    body = json.dumps({"error": [], "result": {"XXBTZUSD": rows, "last": 180}}).encode()
    found = Kraken([BTC]).snapshot(msgspec.structs.replace(fetch, instrument=BTC), body, 250 * NS)
    candles = [event for event in found if isinstance(event, Candle)]
    assert [candle.start // NS for candle in candles] == [120, 180]
    assert (candles[0].open, candles[0].high, candles[0].low, candles[0].close) == (1.0, 3.0, 0.5, 2.0)
    assert (candles[0].vwap, candles[0].volume, candles[0].trades, candles[0].source) == (1.7, 4.0, 5, "venue")
    with pytest.raises(WireError):
        Kraken([BTC]).snapshot(msgspec.structs.replace(fetch, instrument=BTC), b'{"error":["EAPI:Rate limit"]}', 1)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.kraken.com/0/public/AssetPairs", ("AssetPairs", "")),
        ("/0/public/OHLC?pair=XBT/USD&interval=1", ("OHLC", "BTC/USD")),
    ],
)
def test_resources(url: str, expected: tuple[str, str]) -> None:
    assert Kraken.resource_of(url) == expected


# what cannot be read


V1_ROWS = [
    '[320,{"as":[["2.0","1.0","1617666423.6"]],"bs":[["1.0","1.0","1617666423.6"]]},"book-10","BTC/USD"]',
    '[320,{"a":[["2.0","0.0","1617666424.6"]]},{"b":[["1.0","2.0","1617666424.7","r"]],"c":"1"},"book-10","BTC/USD"]',
    '[321,[["2.0","1.0","1617666461.465618","s","m",""]],"trade","BTC/USD"]',
    '[2,{"a":["2.0",1,"1.0"],"b":["1.0",1,"1.0"],"c":["1.5","1"],"v":["1","2"],"l":["1","2"],"h":["1","2"],"o":["1","2"]},'
    '"ticker","BTC/USD"]',
    '{"event":"subscriptionStatus","status":"subscribed","channelName":"book-10","pair":"BTC/USD"}',
]
FRAMES = [
    *(text.encode() for text in V1_ROWS),
    book(*asks(3), kind="snapshot"),
    book(*asks(3), checksum=7),
    ack("BTC/USD", 10, 1),
    json.dumps({"channel": "trade", "type": "update", "data": [trade(), trade(trade_id=9)]}).encode(),
    b'{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":1.0,"last":2.0,"change":0.5}]}',
]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.sampled_from(FRAMES), st.data())
def test_only_wire_errors_leave(payload: bytes, data: st.DataObject) -> None:
    adapter = Kraken([BTC])
    changed = bytearray(payload)
    for _ in range(data.draw(st.integers(0, 4))):
        if changed:
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    fetch = Fetch(resource="OHLC", path="", instrument=BTC, interval="1m")
    for read in (
        lambda: adapter.receive(bytes(changed), 1),
        lambda: adapter.snapshot(fetch, bytes(changed), 1),
        lambda: Kraken.parse_instruments(bytes(changed)),
    ):
        try:
            read()
        except WireError:
            pass
    Kraken.peek(bytes(changed))


@pytest.mark.parametrize("wrong", ["-1", "1e999", '"x"', "null", "[]", "{}", "true", '"nan"', '"inf"'])
@pytest.mark.parametrize("field", ["price", "qty"])
def test_wrong_numbers_cost_their_message(field: str, wrong: str) -> None:
    adapter = Kraken([BTC])
    adapter.receive(book(*asks(1), kind="snapshot"), 1)
    level = {"price": "1.0", "qty": "1.0", field: wrong}
    gap, skipped = adapter.receive(book(("asks", level["price"], level["qty"])), 2)
    assert (type(gap), skipped) == (BookGap, Skipped("unreadable book"))
    with pytest.raises(WireError):  # it is lost already
        adapter.receive(book(("asks", level["price"], level["qty"])), 2)
    item = json.dumps(trade()).replace('"price": 1.5' if field == "price" else '"qty": 2.0', f'"{field}": {wrong}')
    with pytest.raises(WireError):
        adapter.receive(f'{{"channel":"trade","type":"update","data":[{item}]}}'.encode(), 2)


@pytest.mark.parametrize("at", ["", "x", "9999-01-01T00:00:00Z", "1901-01-01T00:00:00Z", "2026-08-02T03:35:51+01:00"])
def test_absurd_times_cost_their_message(at: str) -> None:
    with pytest.raises(WireError):
        Kraken([BTC]).receive(book(*asks(1), kind="snapshot", at=at), 1)


# the venue's side


async def heard(socket: Any, count: int) -> list[Row]:
    found = [json.loads(await socket.recv(), parse_float=str, parse_int=str) for _ in range(count)]
    return [frame for frame in found if frame.get("channel") != "heartbeat"]


async def test_the_replay_server_answers_each_symbol_and_late_clients_get_the_book_as_it_stands() -> None:
    async with ReplayServer("kraken", [OWN], speed=500, ping_s=60) as server:
        async with connect(f"{server.ws_url}/v2", max_queue=None) as first:
            subscribe = {"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USD", "NO/PE"]}}
            await first.send(json.dumps({**subscribe, "req_id": 3}))
            status, accepted, refused = await heard(first, 3)
            assert status["data"][0]["system"] == "online"
            assert (accepted["success"], accepted["result"]["depth"], accepted["req_id"]) == (True, "25", "3")
            assert (refused["success"], refused["symbol"]) == (False, "NO/PE")
            wrong = {"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USD"], "depth": 27}}
            await first.send(json.dumps(wrong))
            await server.finished()
        async with connect(f"{server.ws_url}/v2", max_queue=None) as late:
            await late.send(json.dumps(subscribe))
            (_, _, snapshot, _) = await heard(late, 4)
            (item,) = snapshot["data"]
            naive = NaiveBook(25)
            naive.apply(pairs(item["bids"]), pairs(item["asks"]))
            assert naive.numbers() == naive_books(OWN)["BTC/USD"][-1]
            assert naive.checksum() == int(item["checksum"])
            last = json.loads(rows_of(OWN)[book_lines(OWN)[-1]]["raw"])
            assert item["timestamp"] == last["data"][0]["timestamp"]
            await late.send('{"method":"ping","req_id":5}')
            (pong,) = await heard(late, 1)
            assert (pong["method"], pong["req_id"]) == ("pong", "5")
