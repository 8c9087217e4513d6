"""HTX: every recorded session against a naive reading of its frames, the rules of the venue's documents as cases."""

import base64
import gzip
import json
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect

from feeds.adapter import Acked, BookUpdate, Fetch, Refused, Send, Skipped, Subscription
from feeds.replay import ReplayServer
from feeds.venues.htx import Htx
from hub.errors import WireError
from hub.instruments import Instrument, InstrumentTable
from hub.model import Candle, Mark, Quote, Ticker, Trade
from tests.feeds.venues.plays import DATA, SHARED, Follower, Levels, Row, of, play, recordings, rows_of, write

OWN = DATA / "htx"
SPOT, LINEAR, COIN = (
    OWN / name
    for name in ("cryptofeed_2021-04-17_spot", "cryptofeed_2022-02-17_linear-swap", "cryptofeed_2022-02-19_coin-swap")
)
SESSIONS = recordings("htx", "ws_*")
NUMBERS = {"tick", "data", "bids", "asks", "price", "amount", "bid", "ask", "bidSize", "askSize"}
MS, NS = 1_000_000, 1_000_000_000
T0 = 1_650_000_000_000

each = pytest.mark.parametrize("path", SESSIONS, ids=lambda path: f"{path.parent.name}/{path.name}")
played = cache(lambda path: play("htx", path))


# a naive reading


@cache
def payloads(path: Path) -> list[Row]:
    """Return received frames; each that was kept as it came is a gzip member."""
    found = []
    for row in rows_of(path):
        if "dir" in row:
            continue
        text = gzip.decompress(base64.b64decode(row["b64"])).decode() if "b64" in row else row["raw"]
        assert row.get("raw", text) == text
        found.append(json.loads(text, parse_float=Decimal))
    return found


@cache
def worth(path: Path) -> dict[str, Decimal]:
    """Return what one contract of each listed instrument is."""
    if not path.is_dir():
        return {}
    index = [json.loads(line) for line in (path / "rest_index.jsonl").read_text().splitlines()]
    rows = [row for line in index for row in json.loads((path / line["file"]).read_text(), parse_float=Decimal)["data"]]
    return {row["contract_code"]: Decimal(row["contract_size"]) for row in rows if "contract_code" in row}


@cache
def names(path: Path) -> dict[str, str]:
    """Return the venue's spelling -> ours; without a list they are the same."""
    if not path.is_dir():
        return {}
    body = json.loads(next(path.glob("rest_s*.json")).read_text())
    spot = {
        row["symbol"]: f"{row['base-currency']}-{row['quote-currency']}".upper()
        for row in body["data"]
        if "base-currency" in row
    }
    return spot | {name: f"{name}-PERP" for name in worth(path)}


def symbol_of(frame: Row) -> tuple[str, str]:
    _, symbol, channel = str(frame.get("ch", "..")).split(".", 2)
    return symbol, channel


def contracts(path: Path, name: str, size: Any) -> Decimal:
    return Decimal(size) * worth(path).get(name, Decimal(1))


@each
def test_every_trade_is_there_once_as_the_venue_told_it(path: Path) -> None:
    expected: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for frame in payloads(path):
        name, channel = symbol_of(frame)
        if channel == "trade.detail":
            for row in frame["tick"]["data"]:
                number, size = str(row.get("tradeId", row["id"])), contracts(path, name, row["amount"])
                found = (number, Decimal(row["price"]), size, row["direction"], row["ts"] * MS)
                expected[names(path).get(name, name)].append(found)
    _, messages = played(path)
    fields = ("trade_id", "price", "size", "side", "ts_event")
    for symbol, rows in expected.items():
        assert [tuple(row[name] for name in fields) for row in of(messages, "trade", symbol)] == rows
    assert len(of(messages, "trade")) == sum(map(len, expected.values()))


@pytest.mark.parametrize("path", [LINEAR], ids=str)
def test_linear_contracts_are_base_units(path: Path) -> None:
    """`quantity` is what the venue itself makes of the contracts."""
    rows = [row for frame in payloads(path) if symbol_of(frame)[1] == "trade.detail" for row in frame["tick"]["data"]]
    assert [row["size"] for row in of(played(path)[1], "trade")] == [row["quantity"] for row in rows]


def side(path: Path, name: str, levels: list[Any] | None) -> Levels:
    return {Decimal(price): contracts(path, name, size) for price, size in levels or () if size}


@pytest.mark.parametrize(
    "path", [path for path in SESSIONS if "_20" in path.name], ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_whole_books_are_the_venues_level_for_level(path: Path) -> None:
    expected: dict[str, list[tuple[Levels, Levels]]] = defaultdict(list)
    for frame in payloads(path):
        name, channel = symbol_of(frame)
        if channel == "depth.step0":
            tick = frame["tick"]
            books = side(path, name, tick["bids"]), side(path, name, tick["asks"])
            expected[names(path).get(name, name)].append(books)
    normalizer, messages = played(path)
    for symbol, told in expected.items():
        follower = Follower()
        found = of(messages, "book", symbol)
        assert len(found) == len(told)
        for row, book in zip(found, told, strict=True):
            assert follower.take(row) == book
    assert [row["state"] for row in of(messages, "status")] == ["live"] * len(expected)
    counters = normalizer.pipeline.counters
    assert not {"wire_errors", "resyncs", "trades_repeated", "skipped_unknown_message"} & counters.keys()


@each
def test_venue_text_and_float_are_the_same_number(path: Path) -> None:
    def numbers(value: Any) -> list[Any]:
        if isinstance(value, dict):
            return [found for name, each in value.items() if name in NUMBERS for found in numbers(each)]
        if isinstance(value, list):
            return [found for each in value for found in numbers(each)]
        return [value] if isinstance(value, Decimal) else []

    data = [frame for frame in payloads(path) if not symbol_of(frame)[1].startswith(("kline", "detail"))]
    found = [number for frame in data for number in numbers(frame)]
    assert [number for number in found if number != Decimal(repr(float(number)))] == [] or "single" in path.name


def test_the_recorded_alignment_and_its_gap(tmp_path: Path) -> None:
    """The answer fits between the second and the third change; the last change follows from none."""
    path = SHARED / "htx" / "ws_mbp150_with_rep.jsonl"
    if not path.is_file():
        pytest.skip("the session lies beside the project")
    frames = payloads(path)
    (rep,) = [frame for frame in frames if "rep" in frame]
    later = [frame["tick"] for frame in frames if frame.get("ch", "").endswith("mbp.150")][2:4]
    _, messages = played(path)
    books: list[Levels] = [side(path, "", rep["data"][name]) for name in ("bids", "asks")]
    follower = Follower()
    rows = of(messages, "book")
    assert [row["action"] for row in rows] == ["snapshot", "update", "update"]
    assert list(follower.take(rows[0])) == books
    for row, tick in zip(rows[1:], later, strict=True):
        for book, name in zip(books, ("bids", "asks"), strict=True):
            for price, size in tick.get(name, ()):
                book[Decimal(price)] = Decimal(size)
                if not size:
                    del book[Decimal(price)]
        assert list(follower.take(row)) == books
    assert [row["state"] for row in of(messages, "status")] == ["live", "resyncing"]


def test_an_older_whole_book_never_replaces_a_newer_one(tmp_path: Path) -> None:
    rows = list(rows_of(LINEAR))
    depths = [
        at for at, row in enumerate(rows) if "b64" in row and b'"bids"' in gzip.decompress(base64.b64decode(row["b64"]))
    ]
    first, second = depths[20], depths[21]
    rows[first], rows[second] = {**rows[second], "t": rows[first]["t"]}, {**rows[first], "t": rows[second]["t"]}
    normalizer, messages = play("htx", write(tmp_path / "session", rows))
    assert normalizer.pipeline.counters["skipped_older_book"] == 1
    times = [row["ts_event"] for row in of(messages, "book")]
    assert times == sorted(times)


# rules


def instrument(venue_symbol: str, symbol: str, **fields: Any) -> Instrument:
    base, quote, *_ = symbol.split("-")
    kind = "perpetual" if symbol.endswith("PERP") else "spot"
    row = {"venue": "htx", "venue_symbol": venue_symbol, "symbol": symbol, "kind": kind, "base": base, "quote": quote}
    return Instrument(**{**row, **fields})


BTC = instrument("btcusdt", "BTC-USDT")
SWAP = instrument("BTC-USDT", "BTC-USDT-PERP", contract_size=0.001)
INVERSE = instrument("BTC-USD", "BTC-USD-PERP", contract_size=100.0, size_unit="quote")
ROWS = (BTC, SWAP, INVERSE)


def packed(frame: Any) -> bytes:
    return gzip.compress(json.dumps(frame).encode())


def push(name: str, channel: str, tick: Any, ts: int = T0, **more: Any) -> bytes:
    return packed({"ch": f"market.{name}.{channel}", "ts": ts, "tick": tick, **more})


def chained(first: int, last: int, **sides: Any) -> bytes:
    return push("btcusdt", "mbp.150", {"prevSeqNum": first, "seqNum": last, **sides})


def rep(number: int, **sides: Any) -> bytes:
    data = {"bids": [[1.0, 1.0]], "asks": [[2.0, 1.0]], "seqNum": number, **sides}
    return packed({"id": "x", "status": "ok", "rep": "market.btcusdt.mbp.150", "data": data})


REQ = Send(b'{"req":"market.btcusdt.mbp.150","id":"market.btcusdt.mbp.150"}')


def kinds(events: list[Any]) -> list[str]:
    return [type(event).__name__ for event in events]


@pytest.mark.parametrize("ping", [1618678073643, 0, 1 << 61])
def test_a_ping_is_echoed(ping: int) -> None:
    assert Htx(ROWS).receive(packed({"ping": ping}), 1) == [Send(b'{"pong":%d}' % ping)]
    assert Htx(ROWS).receive(b'{"ping":%d}' % ping, 1) == [Send(b'{"pong":%d}' % ping)]


def test_a_ping_of_the_notifications_is_answered_in_kind() -> None:
    assert Htx(ROWS).receive(packed({"op": "ping", "ts": "16"}), 1) == [Send(b'{"op":"pong","ts":"16"}')]


def test_a_frame_that_unpacks_to_far_too_much_is_no_frame() -> None:
    with pytest.raises(WireError):
        Htx(ROWS).receive(gzip.compress(b" " * (17 << 20)), 1)
    with pytest.raises(WireError):
        Htx(ROWS).receive(packed({"ping": 1})[:-9], 1)


def test_alignment_sub_hold_req_drop_follow() -> None:
    adapter = Htx(ROWS)
    acked = adapter.receive(packed({"id": "1", "status": "ok", "subbed": "market.btcusdt.mbp.150", "ts": T0}), 1)
    assert acked == [Acked(("market.btcusdt.mbp.150",)), REQ]
    assert adapter.receive(chained(10, 12, bids=[[1.0, 9.0]]), 2) == []  # asked a moment ago
    assert adapter.receive(chained(12, 15, asks=[[2.0, 0.0], [3.0, 1.0]]), 3) == []
    events = adapter.receive(rep(12), 4)
    assert kinds(events) == ["BookUpdate", "BookUpdate"]
    assert isinstance(events[1], BookUpdate)
    assert events[1].asks == [(2.0, 0.0), (3.0, 1.0)] and events[1].bids == []
    # A side without a change is left out; both may be.
    (update,) = adapter.receive(chained(15, 16), 5)
    assert isinstance(update, BookUpdate) and (update.bids, update.asks) == ([], [])
    assert kinds(adapter.receive(chained(17, 18), 6)) == ["BookGap"]
    assert adapter.resync(BTC) == [REQ.frame]
    assert adapter.receive(chained(18, 19), 7) == []
    assert kinds(adapter.receive(rep(17), 8)) == ["BookUpdate", "BookUpdate", "BookUpdate"]


def test_an_answer_older_than_what_is_held_is_asked_for_again() -> None:
    adapter = Htx(ROWS)
    assert adapter.receive(chained(10, 12), 1) == [REQ]
    assert adapter.receive(rep(9), 2) == []  # the venue takes one request each 100 ms
    assert adapter.receive(chained(12, 13), NS) == [REQ]
    assert adapter.receive(rep(9), 2 * NS) == [REQ]
    assert kinds(adapter.receive(rep(13), 3 * NS)) == ["BookUpdate"]


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ([(12, 13), (13, 14)], "BookUpdate BookUpdate"),
        ([(12, 13), (12, 13)], "BookUpdate"),  # a repeat
        ([(12, 13), (14, 15)], "BookUpdate BookGap"),  # one was lost
        ([(13, 14), (12, 13)], "BookGap"),  # swapped
    ],
)
def test_changes_follow_by_prev_seq_num(chain: list[tuple[int, int]], expected: str) -> None:
    adapter = Htx(ROWS)
    adapter.receive(chained(11, 12), 1)
    adapter.receive(rep(12), 1)
    events = [event for first, last in chain for event in adapter.receive(chained(first, last), 2)]
    assert " ".join(kind for kind in kinds(events) if kind != "Send") == expected


def counted(event: str, version: int, bids: Any = None, asks: Any = None) -> bytes:
    tick = {"event": event, "version": version, "bids": bids, "asks": asks, "ts": T0}
    return push("BTC-USDT", "depth.size_150.high_freq", tick)


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ([("update", 5)], "Skipped"),
        ([("snapshot", 5), ("update", 6), ("update", 7)], "BookUpdate BookUpdate BookUpdate"),
        ([("snapshot", 5), ("update", 6), ("update", 6)], "BookUpdate BookUpdate Skipped"),
        ([("snapshot", 5), ("update", 7), ("update", 8)], "BookUpdate BookGap Skipped"),
        ([("snapshot", 5), ("update", 7), ("snapshot", 8), ("update", 9)], "BookUpdate BookGap BookUpdate BookUpdate"),
    ],
)
def test_books_of_contracts_are_counted(chain: list[tuple[str, int]], expected: str) -> None:
    adapter = Htx(ROWS)
    events = [event for kind, version in chain for event in adapter.receive(counted(kind, version), 1)]
    assert " ".join(kinds(events)) == expected


def test_versions_that_fall_are_repeats_only_while_time_stands_still() -> None:
    adapter = Htx(ROWS)
    first = counted("snapshot", 5)
    assert kinds(adapter.receive(first, 1) + adapter.receive(counted("update", 6), 1)) == ["BookUpdate"] * 2
    assert adapter.receive(first, 1) == [Skipped("repeated book")]  # the book would go back
    tick = {"event": "update", "version": 3, "bids": [[1, 2]], "ts": T0 + 100}
    assert kinds(adapter.receive(push("BTC-USDT", "depth.size_150.high_freq", tick), 1)) == ["BookGap"]


@pytest.mark.parametrize("price", [0, -1])
def test_nothing_is_traded_at_or_below_zero(price: int) -> None:
    fill = {"tradeId": 1, "ts": T0, "amount": 1, "price": price, "direction": "buy"}
    for frame in (counted("snapshot", 5, [[price, 1]]), push("btcusdt", "trade.detail", {"data": [fill]})):
        with pytest.raises(WireError):
            Htx(ROWS).receive(frame, 1)


def test_a_lost_book_of_contracts_is_subscribed_again() -> None:
    adapter = Htx(ROWS)
    adapter.receive(counted("snapshot", 5, [[1, 2000]], [[2, 3]]), 1)
    topic = "market.BTC-USDT.depth.size_150.high_freq"
    asked = [json.loads(frame) for frame in adapter.resync(SWAP) if isinstance(frame, bytes)]
    assert asked == [{verb: topic, "id": topic, "data_type": "incremental"} for verb in ("unsub", "sub")]
    assert adapter.receive(counted("update", 6), 2) == [Skipped("book before its snapshot")]


def test_contracts_become_base_units_and_inverse_ones_quote_units() -> None:
    adapter = Htx(ROWS)
    (book,) = adapter.receive(counted("snapshot", 5, [[1, 2000]], [[2, 3]]), 1)
    assert isinstance(book, BookUpdate)
    assert (book.bids, book.asks) == ([(1.0, 2.0)], [(2.0, 0.003)])
    row = {"amount": 6, "quantity": 2.25, "ts": T0, "id": 743774717120000, "price": 26.5841, "direction": "sell"}
    (trade,) = adapter.receive(push("BTC-USD", "trade.detail", {"data": [row]}), 1)
    assert trade == Trade("htx", "BTC-USD-PERP", "", T0 * MS, 1, 0, 26.5841, 600.0, "sell", "743774717120000")
    best = {"mrid": 5, "bid": [31784.1, 5911], "ask": None, "ts": T0}
    (quote,) = adapter.receive(push("BTC-USDT", "bbo", best), 1)
    assert quote == Quote("htx", "BTC-USDT-PERP", "", T0 * MS, 1, 0, 31784.1, 5.911, None, None)


def test_trade_ids_beyond_64_bits() -> None:
    """`id` is of the match, not of the fill: two fills may share it."""
    text = (
        '{"ch":"market.btcusdt.trade.detail","ts":1,"tick":{"id":1,"ts":1,"data":['
        '{"id":100182534526255757567432481,"ts":1,"tradeId":11,"amount":1.0,"price":9.2E-7,"direction":"buy"},'
        '{"id":100182534526255757567432481,"ts":1,"tradeId":12,"amount":1.0,"price":9.2E-7,"direction":"buy"},'
        '{"id":100182534526255757567432483,"ts":1,"amount":1.0,"price":9.2E-7,"direction":"sell"},'
        '{"id":"100201717928521000104525","ts":1,"amount":1.0,"price":9.2E-7,"direction":"sell"}]}}'
    )
    trades = [event for event in Htx(ROWS).receive(text.encode(), 1) if isinstance(event, Trade)]
    assert [trade.trade_id for trade in trades] == [
        "11", "12", "100182534526255757567432483", "100201717928521000104525",
    ]  # fmt: skip
    assert {trade.price for trade in trades} == {9.2e-07}


def test_one_bad_item_does_not_cost_the_others() -> None:
    good = {"tradeId": 1, "ts": T0, "amount": 1.0, "price": 2.0, "direction": "buy"}
    bad = [{**good, "amount": -1}, {**good, "direction": "up"}, {**good, "tradeId": None}, {**good, "ts": 1 << 62}]
    events = Htx(ROWS).receive(push("btcusdt", "trade.detail", {"data": [good, *bad, {**good, "tradeId": 2}]}), 1)
    assert [event.trade_id for event in events if isinstance(event, Trade)] == ["1", "2"]
    assert events.count(Skipped("unreadable item")) == 4


def test_merged_depths_are_no_books_and_two_forms_of_one_book_count_once() -> None:
    adapter = Htx(ROWS)
    tick = {"bids": [[1, 1]], "asks": [[2, 1]], "ts": T0, "version": 1}
    assert adapter.receive(push("BTC-USDT", "depth.step7", tick), 1) == [Skipped("merged depth")]
    assert kinds(adapter.receive(push("BTC-USDT", "depth.step0", tick), 1)) == ["BookUpdate"]
    assert adapter.receive(counted("snapshot", 5), 1) == [Skipped("second form of a book")]
    assert adapter.receive(push("BTC-USDT", "kline.1min", {}), 1) == [Skipped("venue candle")]
    assert adapter.receive(push("nothing", "bbo", {}), 1) == [Skipped("unknown symbol")]


def test_a_topic_whose_first_frame_cannot_be_read_is_not_the_book() -> None:
    adapter = Htx(ROWS)
    with pytest.raises(WireError):
        adapter.receive(push("btcusdt", "mbp.20", {"bids": [[1, -1]]}), 1)
    assert adapter.receive(chained(10, 12), 1) == [REQ]


def test_volumes_of_contracts_count_both_sides() -> None:
    adapter = Htx(ROWS)
    day = {"open": 1.0, "high": 3.0, "low": 0.5, "close": 2.0, "amount": 34473.406, "vol": 400, "count": 5}
    (spot,) = adapter.receive(push("btcusdt", "ticker", {**day, "bid": 1.5, "ask": "1.6", "lastPrice": 2.5}), 1)
    assert spot == Ticker("htx", "BTC-USDT", "", T0 * MS, 1, 0, 2.5, 1.0, 3.0, 0.5, 34473.406, 400.0, 1.5, 1.6)
    swap = {**day, "trade_turnover": 7.0, "bid": [1.5, 3], "ask": [1.6, 4]}
    (linear,) = adapter.receive(push("BTC-USDT", "detail", swap), 1)
    assert linear == Ticker("htx", "BTC-USDT-PERP", "", T0 * MS, 1, 0, 2.0, 1.0, 3.0, 0.5, 17236.703, 3.5, 1.5, 1.6)
    (coin,) = adapter.receive(push("BTC-USD", "detail", day), 1)
    assert isinstance(coin, Ticker)
    assert (coin.volume, coin.quote_volume, coin.bid_price) == (17236.703, 20000.0, None)


def test_best_prices_go_forward() -> None:
    adapter = Htx(ROWS)
    best = {
        "seqId": 5,
        "ask": 1.1,
        "askSize": 2.0,
        "bid": 1.0,
        "bidSize": 3.0,
        "quoteTime": T0 - 1,
        "symbol": "btcusdt",
    }
    assert adapter.receive(push("btcusdt", "bbo", best), 1) == [
        Quote("htx", "BTC-USDT", "", (T0 - 1) * MS, 1, 0, 1.0, 3.0, 1.1, 2.0)
    ]
    assert adapter.receive(push("btcusdt", "bbo", best), 1) == [Skipped("repeated quote")]
    del best["seqId"]  # old frames have none
    assert kinds(adapter.receive(push("btcusdt", "bbo", best), 1)) == ["Quote"]


def test_marks_are_merged_and_absent_stays_none() -> None:
    adapter = Htx(ROWS)
    events = adapter.receive(push("BTC-USDT", "mark_price.1min", {"close": "31784.5"}), 5)
    head = ("htx", "BTC-USDT-PERP", "", T0 * MS, 5, 0)
    assert events[0] == Mark(*head, 31784.5, None, None, None, None)
    fetches = [event for event in events if isinstance(event, Fetch)]
    assert [fetch.path for fetch in fetches] == [
        "https://api.hbdm.com/linear-swap-api/v1/swap_funding_rate",
        "https://api.hbdm.com/linear-swap-api/v1/swap_open_interest",
    ]
    assert adapter.receive(push("BTC-USDT", "index.1min", {"close": "31780"}), 5) == [
        Mark(*head, 31784.5, 31780.0, None, None, None)
    ]
    rate = b'{"status":"ok","data":{"funding_rate":"0.0001","funding_time":"1650000000000","contract_code":"BTC-USDT"}}'
    (mark,) = adapter.snapshot(fetches[0], rate, 6)
    assert isinstance(mark, Mark)
    assert (mark.mark_price, mark.funding_rate, mark.next_funding_ts) == (31784.5, 0.0001, T0 * MS)
    interest = b'{"status":"ok","data":[{"volume":119125.000000000000000000,"contract_code":"BTC-USDT"}]}'
    (mark,) = adapter.snapshot(fetches[1], interest, 6)
    assert isinstance(mark, Mark) and mark.open_interest == 119.125
    # Once a minute is enough.
    assert kinds(adapter.receive(push("BTC-USDT", "mark_price.1min", {"close": "1"}), 7)) == ["Mark"]
    assert len(adapter.receive(push("BTC-USDT", "mark_price.1min", {"close": "1"}), 61 * NS)) == 3


def test_endpoints() -> None:
    wanted = {
        ("trade", BTC): "spot", ("quote", BTC): "spot", ("book", BTC): "feed", ("depth", BTC): "feed",
        ("book", SWAP): "linear-swap", ("trade", INVERSE): "coin-swap", ("mark", SWAP): "index",
        ("trade", instrument("BTC210723", "BTC-USD-210723")): "futures",
    }  # fmt: skip
    assert {key: Htx.endpoint_of(*key) for key in wanted} == wanted
    for name, url in Htx.endpoints.items():
        assert Htx.endpoint_at(url) == name
    assert Htx.endpoint_at("wss://api-aws.huobi.pro/feed") == "feed"
    assert Htx.endpoint_at("ws://127.0.0.1:9443/swap-ws") == "coin-swap"


def test_subscriptions_and_their_answers() -> None:
    adapter = Htx(ROWS)
    subs = [Subscription(kind, row) for row in (BTC, SWAP) for kind in adapter.channels]
    topics = [
        *(f"market.btcusdt.{channel}" for channel in ("trade.detail", "bbo", "mbp.150", "ticker")),
        *(f"market.BTC-USDT.{channel}" for channel in ("trade.detail", "bbo", "depth.size_150.high_freq", "detail")),
        *(f"market.BTC-USDT.{channel}" for channel in ("mark_price.1min", "index.1min")),
    ]
    assert adapter.venue_channels(subs) == topics
    assert [json.loads(frame)["sub"] for frame in adapter.subscribe(subs)] == topics
    assert [json.loads(frame)["unsub"] for frame in adapter.unsubscribe(subs)] == topics
    error = {"status": "error", "ts": T0, "id": topics[1], "err-code": "bad-request", "err-msg": "invalid topic"}
    assert adapter.receive(packed(error), 1) == [Refused((topics[1],), "invalid topic")]
    assert adapter.receive(packed({**error, "id": 5}), 1) == [Refused((), "invalid topic")]
    assert adapter.receive(packed({"id": 1, "status": "ok", "subbed": topics[0]}), 1) == [Acked((topics[0],))]
    assert adapter.receive(packed({"id": None, "status": "ok", "unsubbed": topics[0]}), 1) == []
    assert adapter.receive(packed({"status": "ok", "data": []}), 1) == [Skipped("unknown message")]


# instruments and candles


def body(name: str) -> bytes:
    path = SHARED / "htx" / name
    if not path.is_file():
        pytest.skip("the list lies beside the project")
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def test_symbols_are_one_to_one_over_the_recorded_lists() -> None:
    spot, futures = (
        body("rest_v1_common_symbols_2021-04-17.json.gz"),
        body("rest_api_v1_contract_contract_info_2021-07-22.json"),
    )
    rows = [*Htx.parse_instruments(spot), *Htx.parse_instruments(futures)]
    table = InstrumentTable("htx", rows)
    assert len(table) == len(rows) == 938 + 39
    for row in json.loads(spot)["data"]:
        found = table.by_key[row["symbol"]]
        assert found.tick_size == float(f"1e-{row['price-precision']}")
        assert found.lot_size == float(f"1e-{row['amount-precision']}")
        assert found.status == {"online": "trading"}.get(row["state"], row["state"])
    for row in json.loads(futures)["data"]:
        found = table.by_key[row["contract_code"]]
        assert (found.contract_size, found.tick_size) == (row["contract_size"], row["price_tick"])
        assert (found.kind, found.size_unit, found.expiry) == ("future", "quote", int(row["delivery_time"]) * MS)
    assert table.by_symbol["BTC-USD-210723"].venue_symbol == "BTC210723"


def test_the_list_of_today_and_contracts() -> None:
    row = {"state": "online", "sc": "ethusdt", "tpp": 2, "tap": 4, "te": True, "bc": "eth", "qc": "usdt"}
    rows = [row, {**row, "sc": "xusdt", "bc": "x", "te": False}, {"state": "online"}]
    spot = Htx.parse_instruments(json.dumps({"status": "ok", "data": rows}).encode())
    assert [(row.symbol, row.tick_size, row.lot_size, row.status) for row in spot] == [
        ("ETH-USDT", 0.01, 0.0001, "trading"), ("X-USDT", 0.01, 0.0001, "halted"),
    ]  # fmt: skip
    (swap,) = Htx.parse_instruments((LINEAR / "rest_swap_contract_info.json").read_bytes())
    assert (swap.symbol, swap.contract_size, swap.size_unit, swap.settle) == ("BTC-USDT-PERP", 0.001, "base", "USDT")
    (coin,) = Htx.parse_instruments((COIN / "rest_swap_contract_info.json").read_bytes())
    assert (coin.symbol, coin.contract_size, coin.size_unit, coin.settle) == ("ATOM-USD-PERP", 10.0, "quote", "ATOM")


@pytest.mark.parametrize("body", [b'{"status":"error","err-msg":"x"}', b"[]", b"", b"\xff"])
def test_errors_with_http_200_are_errors(body: bytes) -> None:
    with pytest.raises(WireError):
        Htx.parse_instruments(body)


@pytest.mark.parametrize(
    ("row", "path", "expected"),
    [
        (BTC, "/market/history/kline", (4.0, 9.0, 2.25)),
        (SWAP, "https://api.hbdm.com/linear-swap-ex/market/history/kline", (4.0, 8.0, 2.0)),
        (INVERSE, "https://api.hbdm.com/swap-ex/market/history/kline", (900.0, None, None)),
    ],
)
def test_candles(row: Instrument, path: str, expected: tuple[float | None, ...]) -> None:
    assert Htx.candles_fetch(row, "1d", 0, 1) is None  # its days begin in Singapore
    fetch = Htx.candles_fetch(row, "1m", 120 * NS, 10)
    assert fetch is not None and fetch.path == path
    rows = [
        {"id": start, "open": 1.0, "close": 2.0, "low": 0.5, "high": 3.0, "amount": 4.0, "vol": 9.0, "count": 5}
        | ({"trade_turnover": 8.0} if row is SWAP else {})
        for start in (240, 180, 120, 60)
    ]
    found = Htx(ROWS).snapshot(fetch, json.dumps({"status": "ok", "data": rows}).encode(), 250 * NS)
    candles = [event for event in found if isinstance(event, Candle)]
    assert [candle.start // NS for candle in candles] == [120, 180]
    assert (candles[0].volume, candles[0].notional, candles[0].vwap) == expected
    with pytest.raises(WireError):
        Htx(ROWS).snapshot(fetch, b'{"status":"error","err-msg":"too many"}', 1)


# what cannot be read


FILL = {"tradeId": 1, "ts": T0, "amount": 1, "price": 1, "direction": "buy"}
FRAMES: list[Row] = [
    {"ch": "market.btcusdt.mbp.150", "ts": T0, "tick": {"prevSeqNum": 1, "seqNum": 2, "bids": [[1.0, 2.0]]}},
    {"ch": "market.btcusdt.trade.detail", "ts": T0, "tick": {"data": [FILL]}},
    {"ch": "market.btcusdt.bbo", "ts": T0, "tick": {"bid": 1, "ask": "2"}},
    {"ch": "market.BTC-USDT.bbo", "ts": T0, "tick": {"bid": [1, 2], "ask": None}},
    {"ch": "market.BTC-USDT.detail", "ts": T0, "tick": {"bid": [1, 2], "ask": None, "close": 5}},
    {"ch": "market.BTC-USDT.depth.size_150.high_freq", "ts": T0, "tick": {"event": "snapshot", "version": 1}},
    {"id": "1", "rep": "market.btcusdt.mbp.150", "status": "ok", "data": {"seqNum": 5, "bids": [], "asks": []}},
    {"op": "notify", "topic": "public.BTC-USDT.funding_rate", "data": [{"contract_code": "BTC-USDT"}]},
    {"id": 1, "status": "ok", "subbed": "market.btcusdt.mbp.150"},
    {"status": "error", "id": "x", "err-msg": "y"},
    {"ping": 5},
]


@settings(max_examples=250, deadline=None)
@given(st.binary(max_size=300) | st.sampled_from([json.dumps(frame).encode() for frame in FRAMES]), st.data())
def test_only_wire_errors_leave(payload: bytes, data: st.DataObject) -> None:
    adapter = Htx(ROWS)
    changed = bytearray(payload)
    if data.draw(st.booleans()):
        changed = bytearray(gzip.compress(payload, mtime=0))
    for _ in range(data.draw(st.integers(0, 4))):
        if changed:
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    frame = bytes(changed)
    resources = ("kline", "swap_funding_rate", "swap_open_interest")
    fetches = [Fetch(resource=resource, path="", instrument=SWAP, interval="1m") for resource in resources]
    reads: list[Callable[[], object]] = [
        partial(adapter.receive, frame, 1),
        partial(adapter.receive, gzip.compress(frame), 1),
        partial(Htx.parse_instruments, frame),
        *(partial(adapter.snapshot, fetch, frame, 1) for fetch in fetches),
    ]
    for read in reads:
        try:
            read()
        except WireError:
            pass
    Htx.peek(frame)


@pytest.mark.parametrize("wrong", [None, -1, "x", [], {}, "nan", "inf", "1e999", 1e300, 1 << 120])
@pytest.mark.parametrize("field", ["amount", "price", "ts", "direction"])
def test_wrong_values_cost_their_message(field: str, wrong: Any) -> None:
    if (field, wrong) == ("price", -1):
        return  # negative prices exist
    adapter = Htx(ROWS)
    with pytest.raises(WireError):
        adapter.receive(push("btcusdt", "trade.detail", {"data": [{**FILL, field: wrong}]}), 1)
    assert kinds(adapter.receive(push("btcusdt", "trade.detail", {"data": [FILL]}), 1)) == ["Trade"]


# the venue's side


async def heard(socket: Any, wanted: str) -> Row:
    """Return the next frame with this key; every frame is binary, and a gzip member."""
    while True:
        data = await socket.recv(decode=False)
        frame: Row = json.loads(gzip.decompress(data))
        if wanted in frame:
            return frame


async def test_the_replay_server_speaks_topics_pings_and_requests() -> None:
    topic = "market.trioeth.mbp.150"
    async with ReplayServer("htx", [SPOT], speed=500, ping_s=60) as server:
        async with connect(f"{server.ws_url}/feed", max_queue=None) as socket:
            await socket.send(json.dumps({"sub": "market.trioeth.bbo", "id": "a"}))
            assert (await heard(socket, "status"))["err-msg"].startswith("invalid topic")
            await socket.send(json.dumps({"sub": topic, "id": "b"}))
            acked = await heard(socket, "subbed")
            assert (acked["id"], acked["subbed"], acked["status"]) == ("b", topic, "ok")
            changes = [await heard(socket, "tick") for _ in range(2)]
            assert changes[1]["tick"]["prevSeqNum"] == changes[0]["tick"]["seqNum"]
            await server.finished()
            await socket.send(json.dumps({"req": topic, "id": 7}))
            answer = await heard(socket, "rep")
            last = [f for f in payloads(SPOT) if f.get("ch") == "market.trioeth.depth.step0"][-1]["tick"]
            for name in ("bids", "asks"):
                assert [[float(n) for n in level] for level in last[name]] == answer["data"][name]


async def test_the_replay_server_cuts_who_does_not_echo_its_pings() -> None:
    async with ReplayServer("htx", [SPOT], ping_s=0.05) as server:
        async with connect(f"{server.ws_url}/ws", max_queue=None) as socket:
            pings = [json.loads(gzip.decompress(frame)) async for frame in socket if isinstance(frame, bytes)]
            assert [list(frame) for frame in pings] == [["ping"], ["ping"]]
        async with connect(f"{server.ws_url}/ws", max_queue=None) as socket:
            for _ in range(5):
                await socket.send(json.dumps({"pong": (await heard(socket, "ping"))["ping"]}))
