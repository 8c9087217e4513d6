"""Bybit: recorded frames against a naive reading of the same, and the venue's traps one by one."""

import json
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.adapter import Acked, BookGap, BookUpdate, Fetch, Refused, Send, Skipped, Subscription
from feeds.rest import LocalLimiter, RestClient
from feeds.venues.bybit import Bybit
from hub.errors import RateLimited, SessionError, WireError
from hub.instruments import Instrument, InstrumentTable
from hub.model import Candle, Mark, Quote, Ticker, Trade
from tests.feeds.venues.plays import Follower, Levels, Row, frames_of, lines, of, play, recordings, rows_of, write

SESSIONS = recordings("bybit", "ws_*.jsonl")
SIGNS = {"Buy": "buy", "Sell": "sell"}
each = pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.name)


# a made session in the documents' form: both categories, three symbols, a restart of the service


def book_frame(topic: str, kind: str, u: int, bids: Any = (), asks: Any = (), ts: int = 1_780_000_000_000) -> Row:
    data = {"s": topic.rpartition(".")[2], "b": bids, "a": asks, "u": u, "seq": u * 7}
    return {"topic": topic, "type": kind, "ts": ts, "data": data, "cts": ts - 2}


def trade_frame(symbol: str, *trades: tuple[str, str, str, str], ts: int = 1_780_000_000_000) -> Row:
    """Each trade: id, side, price, size."""
    data = [
        {"T": ts - 1, "s": symbol, "S": side, "v": size, "p": price, "L": "PlusTick", "i": name, "BT": False, "seq": 3}
        for name, side, price, size in trades
    ]
    return {"topic": f"publicTrade.{symbol}", "type": "snapshot", "ts": ts, "data": data}


def made(count: int = 200) -> list[Row]:
    """Return frames of one category: a book of 1000 levels, best prices, trades."""
    bids = [[f"{100 - level / 100:.2f}", f"{1 + level % 7}.50"] for level in range(1, 60)]
    asks = [[f"{100 + level / 100:.2f}", f"{1 + level % 5}.25"] for level in range(1, 60)]
    frames = [book_frame("orderbook.1000.BTCUSDT", "snapshot", 500, bids, asks)]
    for number in range(count):
        ts = 1_780_000_000_000 + number * 50
        level = 1 + number * 13 % 59
        bid, ask = f"{100 - level / 100:.2f}", f"{100 + level / 100:.2f}"
        size = "0" if number % 4 == 3 and level > 3 else f"{number + 1}.125"
        u = 501 + number
        frames.append(book_frame("orderbook.1000.BTCUSDT", "delta", u, [["40.5", "1"], [bid, size]], [[ask, size]], ts))
        frames.append(book_frame("orderbook.1.BTCUSDT", "snapshot", 900 + number // 2, [bids[0]], [asks[0]], ts))
        side = "Buy" if number % 3 else "Sell"
        frames.append(trade_frame("BTCUSDT", (f"{number}a", side, ask, "0.5"), (f"{number}b", side, ask, "1"), ts=ts))
    return frames


def pushes(rows: list[Row], channel: str) -> Iterator[tuple[str, Row]]:
    for frame in frames_of(rows):
        name, _, symbol = frame.get("topic", "").rpartition(".")
        if name.startswith(channel):
            yield symbol, frame


def naive_books(rows: list[Row]) -> dict[str, list[tuple[Levels, Levels]]]:
    """Return the books after each push of the deep topics that changes something."""
    books: dict[str, tuple[Levels, Levels]] = {}
    result: dict[str, list[tuple[Levels, Levels]]] = {}
    for symbol, frame in pushes(rows, "orderbook."):
        if frame["topic"].startswith("orderbook.1."):
            continue
        if frame["type"] == "snapshot":
            books[symbol] = {}, {}
        for side, key in zip(books[symbol], "ba", strict=True):
            for price, size in frame["data"][key]:
                side[Decimal(price)] = Decimal(size)
                if not Decimal(size):
                    del side[Decimal(price)]
        if frame["data"]["b"] or frame["data"]["a"]:
            result.setdefault(symbol, []).append((dict(books[symbol][0]), dict(books[symbol][1])))
    return result


def check_books(rows: list[Row], messages: list[Row]) -> None:
    expected = naive_books(rows)
    assert {row["symbol"] for row in of(messages, "book")} == expected.keys()
    for symbol, states in expected.items():
        follower = Follower()
        found = of(messages, "book", symbol)
        assert len(found) == len(states)
        for message, state in zip(found, states, strict=True):
            assert follower.take(message) == state
            assert message["bids"] == sorted(message["bids"], reverse=True)
            assert message["asks"] == sorted(message["asks"])


@each
def test_recorded_books_and_trades_are_what_the_venue_told(path: Path) -> None:
    normalizer, messages = play("bybit", path)
    rows = rows_of(path)
    if "single" not in path.name:  # which mixes recordings of years apart
        check_books(rows, messages)
    expected = {
        (symbol, item["i"]): (Decimal(item["p"]), Decimal(item["v"]), SIGNS[item["S"]], item["T"] * 1_000_000)
        for symbol, frame in pushes(rows, "publicTrade") for item in frame["data"]
    }  # fmt: skip
    found = of(messages, "trade")
    fields = ("price", "size", "side", "ts_event")
    assert {(row["symbol"], row["trade_id"]): tuple(row[key] for key in fields) for row in found} == expected
    assert len(found) == len(expected)
    assert {row["state"] for row in of(messages, "status")} <= {"live"}
    assert "wire_errors" not in normalizer.pipeline.counters
    quotes = [
        (row["symbol"], row["bid"], row["bid_size"], row["ask"], row["ask_size"]) for row in of(messages, "quote")
    ]
    for symbol, frame in pushes(rows, "orderbook.1."):
        (bid, bid_size), (ask, ask_size) = frame["data"]["b"][0], frame["data"]["a"][0]
        assert (symbol, *map(Decimal, (bid, bid_size, ask, ask_size))) in quotes


def test_a_made_session_is_what_it_says(tmp_path: Path) -> None:
    rows = lines(*made())
    _, messages = play("bybit", write(tmp_path / "s", rows))
    check_books(rows, messages)
    assert len(of(messages, "trade")) == 400
    assert [row["state"] for row in of(messages, "status")] == ["live"]
    assert len(of(messages, "quote")) == 200


@pytest.mark.parametrize("fault", ["removed", "repeated", "swapped"])
def test_a_fault_among_book_messages_is_found(fault: str, tmp_path: Path) -> None:
    rows = lines(*made())
    places = [number for number, row in enumerate(rows) if '"delta"' in row["raw"]]
    first, second = places[100], places[101]
    expected = naive_books(rows)["BTCUSDT"]
    if fault == "removed":
        del rows[first]
    elif fault == "repeated":
        rows.insert(first + 1, rows[first])
    else:
        rows[first], rows[second] = (
            {**rows[first], "raw": rows[second]["raw"]},
            {**rows[second], "raw": rows[first]["raw"]},
        )
    normalizer, messages = play("bybit", write(tmp_path / "s", rows))
    states = [row["state"] for row in of(messages, "status")]
    follower = Follower()
    for message in of(messages, "book"):
        assert follower.take(message) in expected
    if fault == "repeated":
        assert states == ["live"]
        assert len(of(messages, "book")) == len(expected)
        assert normalizer.pipeline.counters["skipped_repeated_update"] == 1
    else:
        assert states == ["live", "resyncing"]
        assert len(of(messages, "book")) == 101
    assert len(of(messages, "trade")) == 400


# instruments


def listing(category: str, *rows: Row, cursor: str = "", code: int = 0) -> bytes:
    result = {"category": category, "list": rows, "nextPageCursor": cursor}
    return json.dumps({"retCode": code, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 1}).encode()


SPOT = {
    "symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "status": "Trading",
    "lotSizeFilter": {"basePrecision": "0.000001", "quotePrecision": "0.0000001", "minOrderAmt": "5"},
    "priceFilter": {"tickSize": "0.1"},
}  # fmt: skip
LINEAR = {
    "symbol": "BTCUSDT", "contractType": "LinearPerpetual", "status": "Trading", "baseCoin": "BTC", "quoteCoin": "USDT",
    "settleCoin": "USDT", "deliveryTime": "0", "priceFilter": {"tickSize": "0.10"},
    "lotSizeFilter": {"qtyStep": "0.001", "minOrderQty": "0.001", "minNotionalValue": "5"}, "fundingInterval": 480,
}  # fmt: skip
DATED = {
    **LINEAR, "symbol": "BTCUSDT-26SEP25", "contractType": "LinearFutures", "deliveryTime": "1758873600000",
    "status": "PreLaunch",
}  # fmt: skip
USDC = {**LINEAR, "symbol": "BTCPERP", "quoteCoin": "USDC", "settleCoin": "USDC"}
INVERSE = {
    **LINEAR, "symbol": "BTCUSD", "contractType": "InversePerpetual", "quoteCoin": "USD", "settleCoin": "BTC",
    "lotSizeFilter": {"qtyStep": "1"},
}  # fmt: skip
LISTS = (listing("spot", SPOT), listing("linear", LINEAR, DATED, USDC), listing("inverse", INVERSE))


def all_rows() -> list[Instrument]:
    return [row for body in LISTS for row in Bybit.parse_instruments(body)]


def test_categories_are_sections_and_symbols_are_one_to_one() -> None:
    rows = all_rows()
    assert not InstrumentTable("bybit", rows).rejected
    assert {row.key: row.symbol for row in rows} == {
        "spot/BTCUSDT": "BTC-USDT", "linear/BTCUSDT": "BTC-USDT-PERP", "linear/BTCUSDT-26SEP25": "BTC-USDT-250926",
        "linear/BTCPERP": "BTC-USDC-PERP", "inverse/BTCUSD": "BTC-USD-PERP",
    }  # fmt: skip
    assert [Bybit.endpoint_of("book", row) for row in rows] == [row.section for row in rows]
    spot, linear, dated, _, inverse = rows
    assert (spot.tick_size, spot.lot_size, spot.min_notional, spot.status) == (0.1, 0.000001, 5, "trading")
    assert (linear.tick_size, linear.lot_size, linear.min_notional, linear.settle) == (0.1, 0.001, 5, "USDT")
    assert (dated.expiry, dated.kind, dated.status) == (1758873600 * 10**9, "future", "preopen")
    assert (inverse.size_unit, inverse.contract_size) == ("quote", 1)


def test_recorded_rows_of_the_documents_are_read() -> None:
    bodies = [row["raw"].encode() for path in recordings("bybit", "docs_examples.jsonl") for row in rows_of(path)]
    found = []
    for body in bodies:
        try:
            found += Bybit.parse_instruments(body)
        except WireError:
            continue
    assert not bodies or "BTC-USDT" in {row.symbol for row in found}


def test_lists_come_in_pages() -> None:
    first = next(fetch for fetch in Bybit.instruments_fetches() if "linear" in fetch.resource)
    second = Bybit.next_page(first, listing("linear", LINEAR, cursor="first%3DBTC"))
    assert second is not None
    assert dict(second.params) == {"category": "linear", "limit": "1000", "cursor": "first=BTC"}
    assert Bybit.next_page(second, listing("linear", LINEAR)) is None
    for body in (b"", listing("linear", code=10001), b"<html>"):
        with pytest.raises(WireError):
            Bybit.next_page(first, body)


async def test_all_pages_are_fetched() -> None:
    asked = []

    class Pages(RestClient):
        async def fetch(self, fetch: Fetch) -> bytes:
            asked.append(dict(fetch.params))
            more = "linear" in fetch.resource and "cursor" not in dict(fetch.params)
            return listing(fetch.params[0][1], LINEAR, cursor="2" if more else "")

    lists = await Pages(Bybit, LocalLimiter(10, 1)).fetch_lists(Bybit)
    assert len(lists) == 4
    assert asked[2] == {"category": "linear", "limit": "1000", "cursor": "2"}


def test_errors_and_foreign_bodies_are_no_lists() -> None:
    for body in (listing("spot", code=10006), listing("option", SPOT), listing("spot", {"symbol": "X"}), b"[]"):
        with pytest.raises(WireError):
            Bybit.parse_instruments(body)
    assert (
        Bybit.parse_instruments(listing("linear", LINEAR, {**DATED, "deliveryTime": "soon"}))[0].symbol
        == "BTC-USDT-PERP"
    )


# the connection is the key


def adapter(endpoint: str = "linear") -> tuple[Bybit, dict[str, Instrument]]:
    rows = all_rows()
    return Bybit(rows, endpoint=endpoint), {row.key: row for row in rows}


def receive(bybit: Bybit, frame: Any) -> list[Any]:
    return bybit.receive(json.dumps(frame).encode(), 5)


def test_one_frame_is_spot_on_one_connection_and_linear_on_another() -> None:
    frame = trade_frame("BTCUSDT", ("1", "Sell", "100.5", "0.25"))
    for endpoint, symbol in (("spot", "BTC-USDT"), ("linear", "BTC-USDT-PERP")):
        bybit, _ = adapter(endpoint)
        (trade,) = receive(bybit, frame)
        assert trade == Trade("bybit", symbol, "", 1_779_999_999_999 * 10**6, 5, 0, 100.5, 0.25, "sell", "1")
        assert Bybit.peek(json.dumps(frame).encode(), endpoint)[0].key == f"{endpoint}/BTCUSDT"
    bybit, _ = adapter("inverse")
    assert receive(bybit, frame) == [Skipped("unknown symbol")]


def test_a_recording_of_two_connections_keeps_them_apart(tmp_path: Path) -> None:
    url = "wss://stream.bybit.com/v5/public/"
    rows: list[Row] = []
    for category in ("spot", "linear"):
        rows.append({"t": 1_780_000_000.0 + len(rows), "raw": url + category, "dir": "open"})
        rows += lines(*made(20), start=1_780_000_000.0 + len(rows))
    bodies = [(f"https://api.bybit.com/v5/market/instruments-info?category={name}", body)
              for name, body in zip(("spot", "linear", "inverse"), LISTS, strict=True)]  # fmt: skip
    for listed, symbols in ((bodies, ["BTC-USDT", "BTC-USDT-PERP"]), ([], ["BTCUSDT", "linear~2FBTCUSDT"])):
        _, messages = play("bybit", write(tmp_path / str(len(listed)), rows, listed))
        for symbol in symbols:
            assert [len(of(messages, kind, symbol)) for kind in ("trade", "book", "quote")] == [40, 21, 20]


def test_a_recording_may_go_to_and_fro_between_connections(tmp_path: Path) -> None:
    url, at = "wss://stream.bybit.com/v5/public/", 1_780_000_000.0
    rows: list[Row] = [{"t": at, "raw": url + category, "dir": "open"} for category in ("spot", "linear")]
    for spot, linear in zip(lines(*made(20)), lines(*made(20)), strict=True):
        rows += [{**spot, "on": 0}, {**linear, "on": 1}]
    bodies = [(f"https://api.bybit.com/v5/market/instruments-info?category={name}", body)
              for name, body in zip(("spot", "linear", "inverse"), LISTS, strict=True)]  # fmt: skip
    _, messages = play("bybit", write(tmp_path / "s", rows, bodies))
    for symbol in ("BTC-USDT", "BTC-USDT-PERP"):
        assert [len(of(messages, kind, symbol)) for kind in ("trade", "book", "quote")] == [40, 21, 20]
    with pytest.raises(SessionError, match="connection 7, which was not opened"):
        play("bybit", write(tmp_path / "wrong", [*rows, {**rows[-1], "on": 7}], bodies))


def test_a_list_of_one_category_says_where_an_unnamed_recording_belongs(tmp_path: Path) -> None:
    _, messages = play("bybit", write(tmp_path / "s", lines(*made(10))), LISTS[1])
    assert {row["symbol"] for row in messages} == {"BTC-USDT-PERP"}


# subscriptions


def test_requests_hold_ten_topics_and_spot_has_no_mark() -> None:
    bybit, rows = adapter("spot")
    listed = [{**SPOT, "symbol": f"A{n}USDT", "baseCoin": f"A{n}"} for n in range(7)]
    many = Bybit.parse_instruments(listing("spot", *listed))
    frames = [
        json.loads(frame)
        for frame in bybit.subscribe([Subscription(kind, row) for row in many for kind in Bybit.channels])
    ]
    assert [len(frame["args"]) for frame in frames] == [10, 10, 8]
    assert frames[0]["args"][:4] == [
        "publicTrade.A0USDT",
        "orderbook.1.A0USDT",
        "orderbook.1000.A0USDT",
        "tickers.A0USDT",
    ]
    assert bybit.venue_channels([Subscription("mark", rows["spot/BTCUSDT"])]) == []
    assert bybit.venue_channels([Subscription("mark", rows["linear/BTCUSDT"])]) == ["tickers.BTCUSDT"]
    longest = max(len(topic) for frame in frames for topic in frame["args"]) + 20
    assert Bybit.limits.streams_per_connection * longest <= 21_000


@pytest.mark.parametrize("text", ["subscribe", ""])
def test_one_answer_acknowledges_a_request(text: str) -> None:
    bybit, rows = adapter()
    (frame,) = bybit.subscribe([Subscription(kind, rows["linear/BTCUSDT"]) for kind in ("trade", "book")])
    request = json.loads(frame)
    answer = {"success": True, "ret_msg": text, "conn_id": "x", "req_id": request["req_id"], "op": "subscribe"}
    assert receive(bybit, answer) == [Acked(("publicTrade.BTCUSDT", "orderbook.1000.BTCUSDT"))]


def test_a_refused_request_is_sent_again_topic_by_topic() -> None:
    bybit, rows = adapter()
    (frame,) = bybit.subscribe([Subscription(kind, rows["linear/BTCUSDT"]) for kind in ("trade", "book")])

    def answer(request: bytes, success: bool) -> list[Any]:
        name = json.loads(request)["req_id"]
        text = "" if success else "error:handler not found,topic:publicTrade.BTCUSDT"
        return receive(bybit, {"success": success, "ret_msg": text, "conn_id": "x", "req_id": name, "op": "subscribe"})

    again = answer(frame, False)
    assert all(isinstance(event, Send) for event in again)
    assert [json.loads(event.frame)["args"] for event in again] == [["publicTrade.BTCUSDT"], ["orderbook.1000.BTCUSDT"]]
    (refused,) = answer(again[0].frame, False)
    assert isinstance(refused, Refused) and refused.channels == ("publicTrade.BTCUSDT",)
    assert "handler not found" in refused.reason
    assert answer(again[1].frame, True) == [Acked(("orderbook.1000.BTCUSDT",))]


def test_other_answers() -> None:
    bybit, _ = adapter()
    assert bybit.ping() == b'{"op":"ping"}'
    for answer in (
        {"success": True, "ret_msg": "pong", "conn_id": "x", "op": "ping"},
        {"op": "pong", "args": ["1672916271846"]},
        {"success": True, "ret_msg": "", "conn_id": "x", "req_id": "1", "op": "unsubscribe"},
    ):
        assert receive(bybit, answer) == []
    batch = {
        "success": True,
        "conn_id": "x",
        "data": {"failTopics": ["a"], "successTopics": ["b"]},
        "type": "COMMAND_RESP",
    }
    assert receive(bybit, batch) == [Refused(("a",), "refused"), Acked(("b",))]
    assert receive(bybit, {"topic": "allLiquidation.BTCUSDT", "type": "snapshot", "ts": 1, "data": []}) == [
        Skipped("unknown channel")
    ]


# books


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ([("delta", 11), ("delta", 12)], "uu"),
        ([("delta", 12)], "g"),
        ([("delta", 11), ("delta", 11), ("delta", 12)], "uru"),
        ([("delta", 12), ("delta", 11), ("delta", 13)], "gww"),  # swapped: nothing until the next snapshot
        ([("delta", 12), ("snapshot", 40), ("delta", 41)], "gsu"),
        ([("snapshot", 40), ("delta", 41)], "su"),  # a new snapshot at any time
        ([("snapshot", 1), ("delta", 2)], "su"),  # a restart of the service
        ([("delta", 1), ("delta", 2)], "su"),  # the same, whatever it calls itself
    ],
)
def test_u_grows_by_one(chain: list[tuple[str, int]], expected: str) -> None:
    bybit, _ = adapter()
    topic = "orderbook.200.BTCUSDT"
    receive(bybit, book_frame(topic, "snapshot", 10, [["1", "1"]], [["2", "1"]]))
    found = ""
    for kind, u in chain:
        (event,) = receive(bybit, book_frame(topic, kind, u, [["0.5", "1"], ["1", "2"]], [["3", "1"], ["2", "0"]]))
        if isinstance(event, BookUpdate):
            found += "s" if event.snapshot else "u"
            if not event.snapshot:  # a delta's order is not promised
                assert (event.bids, event.asks) == ([(1, 2), (0.5, 1)], [(2, 0), (3, 1)])
            else:
                assert event.window == 200
        else:
            found += (
                "g"
                if isinstance(event, BookGap)
                else {"repeated update": "r", "update before snapshot": "w"}[event.reason]
            )
    assert found == expected


def test_a_lost_book_is_subscribed_again_by_the_topic_it_came_by() -> None:
    bybit, rows = adapter()
    (gap,) = receive(bybit, book_frame("orderbook.50.BTCUSDT", "delta", 5))
    assert isinstance(gap, BookGap)
    frames = [json.loads(frame) for frame in bybit.resync(rows["linear/BTCUSDT"]) if isinstance(frame, bytes)]
    assert [(frame["op"], frame["args"]) for frame in frames] == [
        ("unsubscribe", ["orderbook.50.BTCUSDT"]), ("subscribe", ["orderbook.50.BTCUSDT"])
    ]  # fmt: skip
    assert receive(bybit, book_frame("orderbook.50.BTCUSDT", "delta", 6)) == [Skipped("update before snapshot")]
    receive(bybit, {"success": True, "ret_msg": "", "req_id": frames[1]["req_id"], "op": "subscribe"})
    (gap,) = receive(bybit, book_frame("orderbook.50.BTCUSDT", "delta", 7))  # the snapshot was lost
    assert isinstance(gap, BookGap)
    assert receive(bybit, book_frame("orderbook.200.BTCUSDT", "delta", 7)) == [Skipped("second channel of the same")]


def test_level_one_is_snapshots_and_a_side_may_be_empty() -> None:
    bybit, _ = adapter()
    (quote,) = receive(bybit, book_frame("orderbook.1.BTCUSDT", "snapshot", 7, [["28552.00", "0.047"]], []))
    assert isinstance(quote, Quote)
    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size) == (28552, 0.047, None, None)
    (again,) = receive(bybit, book_frame("orderbook.1.BTCUSDT", "snapshot", 7, [["28552.00", "0.047"]], []))
    assert isinstance(again, Quote)  # said again after three seconds: it is still so
    assert receive(bybit, book_frame("orderbook.1.BTCUSDT", "delta", 8, [["1", "0"]])) == [Skipped("unknown type")]


def at(frame: Row, ms: int) -> Row:
    return {**frame, "ts": frame["ts"] + ms}


def test_numbers_that_fall_are_repeats_only_while_time_stands_still() -> None:
    """u starts again at 1 after a restart; where that message is lost, what follows is not taken for old."""
    bybit, _ = adapter()
    snapshot = book_frame("orderbook.200.BTCUSDT", "snapshot", 10, [["1", "1"]], [["2", "1"]])
    update = at(book_frame("orderbook.200.BTCUSDT", "delta", 11, [["1", "3"]]), 20)
    assert [type(receive(bybit, frame)[0]) for frame in (snapshot, update)] == [BookUpdate, BookUpdate]
    assert receive(bybit, snapshot) == [Skipped("repeated update")]  # the book would go back
    (gap,) = receive(bybit, at(book_frame("orderbook.200.BTCUSDT", "delta", 2, [["1", "4"]]), 40))
    assert isinstance(gap, BookGap)
    assert gap.reason == "sequence gap: expected 12, received 2"


def test_an_older_best_price_never_replaces_a_newer_one() -> None:
    bybit, _ = adapter()
    first, second = (book_frame("orderbook.1.BTCUSDT", "snapshot", u, [["1", "1"]], [["2", "1"]]) for u in (7, 8))
    assert isinstance(receive(bybit, at(second, 10))[0], Quote)
    assert receive(bybit, first) == [Skipped("older quote")]
    assert isinstance(receive(bybit, at({**first, "data": {**first["data"], "u": 1}}, 20))[0], Quote)  # a restart


@pytest.mark.parametrize("price", ["0", "-1"])
def test_nothing_is_traded_at_or_below_zero(price: str) -> None:
    bybit, _ = adapter()
    for frame in (
        book_frame("orderbook.200.BTCUSDT", "snapshot", 10, [[price, "1"]], [["2", "1"]]),
        trade_frame("BTCUSDT", ("1", "Buy", price, "0.5")),
    ):
        with pytest.raises(WireError):
            receive(bybit, frame)


# tickers


def ticker(kind: str, symbol: str = "BTCUSDT", **data: str) -> Row:
    return {
        "topic": f"tickers.{symbol}",
        "type": kind,
        "data": {"symbol": symbol, **data},
        "cs": 1,
        "ts": 1715748763063,
    }


FULL = {
    "lastPrice": "61874.00", "prevPrice24h": "62484.60", "highPrice24h": "62752.90", "lowPrice24h": "61000.10",
    "markPrice": "61875.25", "indexPrice": "61903.73", "openInterest": "58117.022", "turnover24h": "6073739017.8331",
    "volume24h": "98430.1050", "nextFundingTime": "1715760000000", "fundingRate": "0.00008055",
    "bid1Price": "61873.90", "bid1Size": "3.783", "ask1Price": "61874.00", "ask1Size": "16.278",
    "tickDirection": "ZeroPlusTick",
}  # fmt: skip


def test_deltas_of_contracts_are_merged() -> None:
    bybit, _ = adapter()
    assert receive(bybit, ticker("delta", markPrice="1")) == [Skipped("delta before snapshot")]
    day, mark = receive(bybit, ticker("snapshot", **FULL))
    assert isinstance(day, Ticker) and isinstance(mark, Mark)
    assert (day.last_price, day.open_price, day.high_price, day.low_price) == (61874, 62484.6, 62752.9, 61000.1)
    assert (day.volume, day.quote_volume, day.bid_price, day.ask_price) == (98430.105, 6073739017.8331, 61873.9, 61874)
    assert (mark.mark_price, mark.index_price, mark.funding_rate) == (61875.25, 61903.73, 0.00008055)
    assert (mark.next_funding_ts, mark.open_interest) == (1715760000 * 10**9, 58117.022)
    (mark,) = receive(bybit, ticker("delta", markPrice="61875.06", openInterestValue="1"))
    assert (mark.mark_price, mark.index_price, mark.open_interest) == (61875.06, 61903.73, 58117.022)
    (day,) = receive(bybit, ticker("delta", bid1Price="61873.80", bid1Size="3.543"))
    assert (day.bid_price, day.ask_price, day.last_price) == (61873.8, 61874, 61874)
    assert receive(bybit, ticker("delta", bid1Size="3.6")) == []
    # A new snapshot replaces: what it leaves out is not known any more.
    day, mark = receive(bybit, ticker("snapshot", lastPrice="5", fundingRate="", nextFundingTime="", markPrice="6"))
    assert (day.last_price, day.high_price, mark.funding_rate, mark.next_funding_ts) == (5, None, None, None)


@pytest.mark.parametrize(
    ("field", "value"), [("nextFundingTime", "9e15"), ("nextFundingTime", "-1"), ("openInterest", "-5")]
)
def test_a_wrong_field_of_a_delta_costs_that_delta_alone(field: str, value: str) -> None:
    bybit, _ = adapter()
    receive(bybit, ticker("snapshot", **FULL))
    with pytest.raises(WireError):
        receive(bybit, ticker("delta", **{field: value, "markPrice": "5"}))
    (mark,) = receive(bybit, ticker("delta", markPrice="61875.06"))
    assert isinstance(mark, Mark)
    assert (mark.mark_price, mark.next_funding_ts) == (61875.06, 1715760000 * 10**9)
    assert mark.open_interest == 58117.022


def test_spot_has_neither_best_prices_nor_a_mark_and_inverse_volumes_are_turned() -> None:
    bybit, _ = adapter("spot")
    (day,) = receive(bybit, ticker("snapshot", lastPrice="21109.77", volume24h="6780.8", turnover24h="141946527.2",
                                   usdIndexPrice="21120.2400136"))  # fmt: skip
    assert (day.volume, day.quote_volume, day.bid_price, day.ask_price) == (6780.8, 141946527.2, None, None)
    bybit, _ = adapter("inverse")
    (day,) = receive(bybit, ticker("snapshot", "BTCUSD", turnover24h="23389.1894", volume24h="661543991"))
    assert (day.volume, day.quote_volume) == (23389.1894, 661543991)


# candles


def test_candles_of_the_stream_and_of_rest() -> None:
    bybit, rows = adapter()
    row = {"start": 1672324800000, "end": 1672325099999, "interval": "5", "open": "16649.5", "close": "16677",
           "high": "16678", "low": "16608", "volume": "2.081", "turnover": "34666.4005", "confirm": True}  # fmt: skip
    frame = {
        "topic": "kline.5.BTCUSDT",
        "data": [row, {**row, "confirm": False}],
        "ts": 1672325100000,
        "type": "snapshot",
    }
    (candle,) = receive(bybit, frame)
    assert isinstance(candle, Candle)
    assert (candle.start, candle.open, candle.high, candle.low, candle.close) == (
        1672324800 * 10**9, 16649.5, 16678, 16608, 16677
    )  # fmt: skip
    assert (candle.volume, candle.notional, candle.source) == (2.081, 34666.4005, "venue")
    fetch = Bybit.candles_fetch(rows["linear/BTCUSDT"], "5m", 1672324800 * 10**9, 2)
    assert fetch is not None
    assert dict(fetch.params) == {
        "category": "linear", "symbol": "BTCUSDT", "interval": "5", "start": "1672324800000", "end": "1672325399999",
        "limit": "2",
    }  # fmt: skip
    told = ["16649.5", "16678", "16608", "16677", "2.081", "34666.4005"]
    result = {"category": "linear", "symbol": "BTCUSDT", "list": [["1672325100000", *told], ["1672324800000", *told]]}
    body = json.dumps({"retCode": 0, "retMsg": "OK", "result": result, "time": 1}).encode()
    # Newest first, and the newest is still open.
    found = bybit.snapshot(fetch, body, 1672325200 * 10**9)
    assert [msgspec.structs.replace(each, ts_recv=5) for each in found if isinstance(each, Candle)] == [candle]
    assert Bybit.resource_of("https://x/v5/market/kline?category=linear&symbol=BTCUSDT&interval=5") == (
        fetch.resource, "BTCUSDT"
    )  # fmt: skip
    receive(bybit, trade_frame("BTCUSDT", ("1", "Buy", "1", "1")))
    assert receive(bybit, frame) == [Skipped("candle beside trades")]
    with pytest.raises(WireError):
        bybit.snapshot(fetch, b'{"retCode":10006,"retMsg":"Too many visits!","result":{}}', 1)


# whatever comes, only WireError leaves


def test_one_bad_trade_does_not_cost_the_others() -> None:
    bybit, _ = adapter()
    frame = trade_frame("BTCUSDT", *((str(n), "Buy", "1", "1") for n in range(6)))
    good = dict(frame["data"][5])
    for place, wrong in enumerate(({"p": "nan"}, {"v": "-1"}, {"S": "Both"}, {"T": 1 << 70}, {"i": ""})):
        frame["data"][place] |= wrong
    found = receive(bybit, frame)
    assert [event.trade_id for event in found if isinstance(event, Trade)] == [good["i"]]
    assert found.count(Skipped("unreadable item")) == 5


FRAMES = [row["raw"].encode() for path in SESSIONS for row in rows_of(path)[:20]]
FRAMES += [json.dumps(frame).encode() for frame in (*made(3), ticker("snapshot", **FULL), ticker("delta", **FULL))]
FRAMES += LISTS


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300) | st.sampled_from(FRAMES), st.data())
def test_only_wire_errors_leave(payload: bytes, data: st.DataObject) -> None:
    bybit, rows = adapter()
    mutated = bytearray(payload)
    for _ in range(data.draw(st.integers(0, 4))):
        if mutated:
            at = data.draw(st.integers(0, len(mutated) - 1))
            mutated[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    fetch = Bybit.candles_fetch(rows["spot/BTCUSDT"], "1m", 0, 5)
    assert fetch is not None
    for frame in (payload, bytes(mutated)):
        Bybit.peek(frame, "linear")
        for call, arguments in (
            (bybit.receive, (frame, 1)), (Bybit.parse_instruments, (frame,)), (bybit.snapshot, (fetch, frame, 1)),
            (Bybit.next_page, (fetch, frame)),
        ):  # fmt: skip
            try:
                call(*arguments)
            except WireError:
                pass


WRONG: list[Any] = [
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


@pytest.mark.parametrize(
    "frame",
    [made(1)[0], made(1)[1], made(1)[2], made(1)[3], ticker("snapshot", **FULL)],
    ids=["snapshot", "delta", "quote", "trade", "ticker"],
)
def test_wrong_values_cost_their_message(frame: Row) -> None:
    inner = frame["data"][0] if isinstance(frame["data"], list) else frame["data"]
    for key in inner:
        for value in WRONG:
            changed = {**inner, key: value}
            for whole in (changed, [changed]):
                bybit, _ = adapter()
                try:
                    msgspec.json.encode(receive(bybit, {**frame, "data": whole}))
                except WireError:
                    continue


async def test_an_address_that_asked_too_much_rests_for_ten_minutes() -> None:
    async def banned(request: web.Request) -> web.Response:
        return web.Response(status=403, text="access too frequent")

    app = web.Application()
    app.router.add_get("/{path:.*}", banned)
    async with TestServer(app) as server:
        rest = RestClient(Bybit, LocalLimiter(10, 1), str(server.make_url("")))
        with pytest.raises(RateLimited) as caught:
            await rest.fetch(Bybit.instruments_fetches()[0])
        await rest.close()
    assert 590 < caught.value.until_ms / 1000 - time.time() <= 600
