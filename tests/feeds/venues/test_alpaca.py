"""Alpaca: what its documents show against a naive reading, and the venue's traps."""

import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from feeds.adapter import (
    Acked,
    BookGap,
    BookUpdate,
    Event,
    Fetch,
    LoggedIn,
    Refused,
    Revised,
    Skipped,
    Subscription,
)
from feeds.normalize import Normalizer
from feeds.pipeline import Pipeline, Source
from feeds.registry import credentials_of
from feeds.rfc3339 import parse_ns
from feeds.session import Session
from feeds.venues.alpaca import Alpaca, AlpacaSip
from hub.config import BookSettings, CandleSettings
from hub.errors import ConfigError, WireError
from hub.instruments import Instrument, InstrumentTable
from hub.intervals import NS_PER_S
from hub.model import Candle, Quote, Trade, kind_of
from tests.feeds.naive import ROOT
from tests.feeds.running import KINDS, Heard
from tests.feeds.venues import alpaca_session

Row = dict[str, Any]
_SHARED = ROOT.parent / "shared" / "exchanges" / "alpaca"
DOCUMENTED = sorted(_SHARED.glob("ws_*.jsonl")) if _SHARED.is_dir() else []

AAPL = Instrument(venue="alpaca", venue_symbol="AAPL", symbol="AAPL", kind="equity", base="AAPL", quote="USD")
BTC = Instrument(venue="alpaca", venue_symbol="BTC/USD", symbol="BTC-USD", kind="spot", base="BTC", quote="USD")
AT = "2023-04-06T11:54:26.838232225Z"


def play(path: Path) -> tuple[Normalizer, list[Row]]:
    output = io.BytesIO()
    normalizer = Normalizer(Alpaca, Session(path), output)
    normalizer.run()
    return normalizer, [json.loads(line, parse_float=Decimal) for line in output.getvalue().splitlines()]


def text(*items: Row) -> bytes:
    return json.dumps(items).encode()


def timestamp(ns: int) -> Ext:
    return Ext(-1, ((ns % 10**9) << 34 | ns // 10**9).to_bytes(8, "big"))


def binary(*items: Row) -> bytes:
    """Return the same in msgpack, with times as timestamps."""
    told = [{**item, "t": timestamp(parse_ns(item["t"]) or 0)} if "t" in item else item for item in items]
    return msgspec.msgpack.encode(told)


def read(payload: bytes, *rows: Instrument) -> list[Event | Fetch]:
    return Alpaca(rows or (AAPL, BTC)).receive(payload, 1)


def trade(number: int, **more: Any) -> Row:
    return {"T": "t", "S": "AAPL", "i": number, "x": "K", "p": 162.92, "s": 3, "c": ["@"], "z": "C", "t": AT, **more}


def coin(number: int, **more: Any) -> Row:
    return {"T": "t", "S": "BTC/USD", "p": 47.299, "s": 29.205707815, "t": AT, "i": number, "tks": "S", **more}


def book(full: bool, bids: list[tuple[float, float]], asks: list[tuple[float, float]]) -> Row:
    sides = {name: [{"p": p, "s": s} for p, s in side] for name, side in (("b", bids), ("a", asks))}
    return {"T": "o", "S": "BTC/USD", "t": AT, **sides, **({"r": True} if full else {})}


# sessions


@pytest.mark.parametrize("path", DOCUMENTED, ids=lambda path: str(path.stem))
def test_documented_messages_come_out_as_they_are(path: Path) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    items = [item for line in lines if "dir" not in line for item in json.loads(line["raw"], parse_float=Decimal)]
    told: dict[tuple[str, ...], tuple[Any, ...]] = {}
    for item in items:
        if item["T"] == "t":
            side = {"B": "buy", "S": "sell"}.get(item.get("tks", ""))
            key = item["S"], item.get("x", ""), str(item["i"])
            told.setdefault(key, (item["S"], item["p"], item["s"], side, str(item["i"])))
    _, found = play(path)
    ours = [(row["symbol"].replace("~2F", "/"), *(row[n] for n in ("price", "size", "side", "trade_id")))
            for row in found if row["type"] == "trade"]  # fmt: skip
    assert ours == list(told.values()) != []
    quotes = [(item["bp"], item["bs"], item["ap"], item["as"]) for item in items if item["T"] == "q"]
    fields = ("bid", "bid_size", "ask", "ask_size")
    assert [tuple(row[name] for name in fields) for row in found if row["type"] == "quote"] == quotes
    assert not [row for row in found if row["type"] == "book"]  # deltas alone: no book


def test_a_session_of_crypto(tmp_path: Path) -> None:
    normalizer, found = play(alpaca_session.write(tmp_path / "s"))
    assert normalizer.warnings == []
    frames = alpaca_session.frames()
    trades = [row for row in found if row["type"] == "trade"]
    assert [(row["trade_id"], float(row["price"]), float(row["size"]), row["side"]) for row in trades] == [
        (str(t["i"]), t["p"], t["s"], {"B": "buy", "S": "sell"}[t["tks"]]) for t, _, _ in frames
    ]
    naive: dict[str, dict[float, float]] = {"b": {}, "a": {}}
    mine: dict[str, dict[float, float]] = {"b": {}, "a": {}}
    books = [row for row in found if row["type"] == "book"]
    assert len(books) == len(frames)
    for (_, told, _), message in zip(frames, books, strict=True):
        for name, levels in (("b", message["bids"]), ("a", message["asks"])):
            if told.get("r"):
                naive[name].clear()
                mine[name].clear()
            naive[name].update({level["p"]: level["s"] for level in told[name]})
            mine[name].update({float(price): float(size) for price, size in levels})
            for side in (naive[name], mine[name]):
                for price in [price for price, size in side.items() if not size]:
                    del side[price]
        assert mine == naive
    assert [row["state"] for row in found if row["type"] == "status"] == ["live"]
    assert "skipped_repeated_trade" not in normalizer.pipeline.counters


# items and encodings


@pytest.mark.parametrize("encode", [text, binary])
def test_one_array_may_hold_everything(encode: Callable[..., bytes]) -> None:
    quote = {"T": "q", "S": "AAPL", "bx": "K", "bp": 91.95, "bs": 2, "ax": "Q", "ap": 91.98, "as": 1, "t": AT}
    bar = {"T": "b", "S": "AAPL", "o": 1, "h": 1, "l": 1, "c": 1, "v": 1, "t": AT}
    events = read(encode(trade(1), quote, bar, coin(3447222699101865076), book(True, [(1, 2)], [(3, 4)])))
    assert [type(event) for event in events] == [Trade, Quote, Skipped, Trade, BookUpdate]
    stock, best, _, crypto, whole = events
    assert isinstance(stock, Trade) and isinstance(crypto, Trade) and isinstance(best, Quote)
    assert (stock.side, stock.trade_id, stock.price, stock.size) == (None, "1", 162.92, 3.0)
    assert (crypto.side, crypto.trade_id, crypto.size) == ("sell", "3447222699101865076", 29.205707815)
    assert (best.bid, best.bid_size, best.ask, best.ask_size) == (91.95, 2.0, 91.98, 1.0)
    assert isinstance(whole, BookUpdate) and whole.snapshot
    assert {event.ts_event for event in events if not isinstance(event, Skipped)} == {1_680_782_066_838_232_225}  # type: ignore[union-attr]


@pytest.mark.parametrize("ns", [0, 1_680_782_066_000_000_000, 1_680_782_066_838_232_225])
@pytest.mark.parametrize("size", [4, 8, 12])
def test_timestamps_of_msgpack(ns: int, size: int) -> None:
    seconds, rest = divmod(ns, 10**9)
    if size == 4:
        data, ns = seconds.to_bytes(4, "big"), seconds * 10**9
    elif size == 8:
        data = (rest << 34 | seconds).to_bytes(8, "big")
    else:
        data = rest.to_bytes(4, "big") + seconds.to_bytes(8, "big")
    (event,) = read(msgspec.msgpack.encode([{**trade(1), "t": Ext(-1, data)}]))
    assert isinstance(event, Trade) and event.ts_event == ns


@pytest.mark.parametrize("encode", [text, binary])
def test_one_bad_item_costs_itself(encode: Callable[..., bytes]) -> None:
    items = [trade(1), trade(2, p="x"), {"T": "new", "S": "AAPL"}, trade(3), trade(4, S="NOPE")]
    events = read(encode(*items))
    assert [event.trade_id for event in events if isinstance(event, Trade)] == ["1", "3"]
    reasons = [event.reason for event in events if isinstance(event, Skipped)]
    assert reasons == ["unreadable item", "unknown message", "unknown symbol"]


def test_a_message_outside_an_array_is_read() -> None:
    assert [type(event) for event in read(json.dumps(trade(1)).encode())] == [Trade]


def test_ids_are_unique_for_an_exchange_and_a_day_only() -> None:
    adapter = Alpaca([AAPL])
    items = [trade(7), trade(7), trade(7, x="P"), trade(7, t="2023-04-07T11:54:26Z")]
    events = adapter.receive(text(*items), 1)
    assert [type(event) for event in events] == [Trade, Skipped, Trade, Trade]


def test_equal_ids_of_two_exchanges_are_two_trades_for_readers(tmp_path: Path) -> None:
    rows = [{"t": 1_680_782_067.0, "raw": text(trade(7), trade(7, x="P"), trade(7)).decode()}]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    normalizer, found = play(tmp_path / "s.jsonl")
    assert [row["trade_id"] for row in found if row["type"] == "trade"] == ["7", "7"]
    assert normalizer.pipeline.counters["skipped_repeated_trade"] == 1


def test_corrections_and_cancels_are_told(tmp_path: Path) -> None:
    correction = {
        "T": "c", "S": "AAPL", "x": "M", "oi": 1, "op": 39.1582, "os": 440, "ci": 2, "cp": 39.1809, "cs": 440, "t": AT,
    }  # fmt: skip
    cancel = {"T": "x", "S": "AAPL", "i": 1, "x": "D", "p": 105.31, "s": 300, "a": "C", "z": "C", "t": AT}
    one, other = read(text(correction, cancel))
    assert isinstance(one, Revised) and isinstance(other, Revised)
    assert one.reason == "trade 1 (39.1582 x 440.0) of exchange M is corrected to 2 (39.1809 x 440.0)"
    assert other.reason == "trade 1 (105.31 x 300.0) of exchange D is cancelled"
    rows = [{"t": 1_680_782_067.0, "raw": text(*items).decode()} for items in ([trade(1)], [correction], [cancel])]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    normalizer, found = play(tmp_path / "s.jsonl")
    assert len([row for row in found if row["type"] == "trade"]) == 1
    notes = [(row["kind"], row["reason"]) for row in found if row["type"] == "status"]
    assert notes == [("trade", one.reason), ("trade", other.reason)]
    assert normalizer.pipeline.counters["trades_revised"] == 2


def test_what_was_corrected_is_corrected_where_it_was() -> None:
    """A correction that comes a minute later: the candle of the trade is asked for, a closed one with the open ones."""
    adapter, later = Alpaca([AAPL]), "2023-04-06T11:55:40Z"
    adapter.receive(text(trade(1), {**trade(2), "t": later}), 1)
    change = {"oi": 1, "op": 162.92, "os": 3, "ci": 3, "cp": 163, "cs": 3}
    row = {"T": "c", "S": "AAPL", "x": trade(1)["x"], "t": later}
    for item, at in (
        ({**row, **change}, AT),
        ({**row, "T": "x", "i": 1, "p": 162.92, "s": 3, "a": "C"}, AT),
        ({**row, **change, "oi": 2}, later),
        ({**row, **change, "x": "elsewhere"}, later),
    ):
        (event,) = adapter.receive(text(item), 2)
        assert isinstance(event, Revised) and event.ts_event == parse_ns(at)


@pytest.mark.parametrize("verb", ["c", "x"])
def test_candles_that_a_correction_touches_are_asked_for(verb: str) -> None:
    heard = Heard()
    pipeline = Pipeline(Alpaca, {*KINDS, "candle"}, BookSettings(), CandleSettings(), heard)
    pipeline.add(AAPL)
    source = Source(adapter := Alpaca([AAPL]), 1)
    start = (parse_ns("2023-04-06T11:54:00Z") or 0) - 60 * NS_PER_S
    pipeline.covered(["AAPL"], start)
    pipeline.feed(source, adapter.receive(text(trade(1)), start + 90 * NS_PER_S))
    closing = start + 200 * NS_PER_S
    pipeline.tick(closing)
    told = [each for each in heard.messages if isinstance(each, Candle) and kind_of(each) == "candle.1m"]
    assert [candle.start for candle in told] == [start + 60 * NS_PER_S]
    later = {"T": verb, "S": "AAPL", "x": trade(1)["x"], "t": "2023-04-06T11:56:10Z"}
    change = {"oi": 1, "op": 162.92, "os": 3, "ci": 3, "cp": 163, "cs": 3, "i": 1, "p": 162.92, "s": 3, "a": "C"}
    pipeline.feed(source, adapter.receive(text({**later, **change}), closing))
    due = {(entry.interval, entry.start) for _, entry in pipeline.tick(closing + NS_PER_S)}
    assert ("1m", start + 60 * NS_PER_S) in due


def test_a_price_of_zero_is_no_quote() -> None:
    (event,) = read(text({"T": "q", "S": "AAPL", "bx": "P", "bp": 1.5, "bs": 1, "ax": " ", "ap": 0, "as": 0, "t": AT}))
    assert isinstance(event, Quote)
    assert (event.bid, event.bid_size, event.ask, event.ask_size) == (1.5, 1.0, None, None)


def test_round_lots_are_a_setting() -> None:
    class Lots(Alpaca):
        quote_lot = 100

    quote = {"T": "q", "S": "AAPL", "bp": 1.5, "bs": 2, "ap": 1.6, "as": 3, "t": AT}
    (event,) = Lots([AAPL]).receive(text(quote), 1)
    assert isinstance(event, Quote) and (event.bid_size, event.ask_size) == (200.0, 300.0)


def test_a_book_begins_with_a_full_one() -> None:
    adapter = Alpaca([BTC])
    change = book(False, [(2614.587, 12.5)], [])
    assert [type(event) for event in adapter.receive(text(change), 1)] == [Skipped]
    adapter.receive(text(book(True, [(1, 1), (2, 5)], [(4, 1), (3, 2)])), 2)
    (update,) = adapter.receive(text(change), 3)
    assert isinstance(update, BookUpdate) and update.bids == [(2614.587, 12.5)] and not update.snapshot
    bad = {**change, "b": [{"p": 1, "s": -1}]}
    assert [type(event) for event in adapter.receive(text(bad), 4)] == [BookGap]
    assert [type(event) for event in adapter.receive(text(change), 5)] == [Skipped]
    requests = [json.loads(bytes(f)) for f in adapter.resync(BTC) if isinstance(f, bytes)]
    assert requests == [{"action": action, "orderbooks": ["BTC/USD"]} for action in ("unsubscribe", "subscribe")]


@pytest.mark.parametrize("encode", [text, binary])
def test_a_frame_that_was_cut_may_have_been_about_any_book(encode: Callable[..., bytes]) -> None:
    eth = Alpaca.unlisted("ETH/USD")
    adapter = Alpaca([BTC, eth])
    snapshot = book(True, [(1, 1)], [(4, 1)])
    adapter.receive(encode(snapshot, {**snapshot, "S": "ETH/USD"}), 1)
    whole = encode(coin(1), book(False, [(2, 1)], []))
    events = adapter.receive(whole[: len(whole) // 2], 2)
    assert [(type(event), getattr(event, "instrument", None)) for event in events] == [
        (BookGap, BTC), (BookGap, eth), (Skipped, None),
    ]  # fmt: skip
    assert [type(event) for event in adapter.receive(whole, 3)] == [Trade, Skipped]
    with pytest.raises(WireError):  # no book is left to lose
        adapter.receive(whole[: len(whole) // 2], 4)


@pytest.mark.parametrize("garbage", [b"", b"{", b"x" * 99, b"\xff\xfe", b"7"])
def test_what_is_no_array_of_the_venue_costs_no_book(garbage: bytes) -> None:
    adapter = Alpaca([BTC])
    adapter.receive(text(book(True, [(1, 1)], [(4, 1)])), 1)
    with pytest.raises(WireError):
        adapter.receive(garbage, 2)
    assert [type(event) for event in adapter.receive(text(book(False, [(2, 1)], [])), 3)] == [BookUpdate]


def test_a_book_message_from_before_ends_that_book() -> None:
    adapter = Alpaca([BTC])
    times = ("2023-04-06T11:54:26.5Z", "2023-04-06T11:54:26.7Z", "2023-04-06T11:54:26.7Z", "2023-04-06T11:54:26.6Z")
    first, *later = [{**book(not number, [(1, 1)], [(4, 1)]), "t": at} for number, at in enumerate(times)]
    assert [type(event) for event in adapter.receive(text(first, *later), 1)] == [
        BookUpdate, BookUpdate, BookUpdate, BookGap,
    ]  # fmt: skip
    assert [type(event) for event in adapter.receive(text(later[0]), 2)] == [Skipped]
    assert [type(event) for event in adapter.receive(text(first, later[0]), 3)] == [BookUpdate, BookUpdate]


@pytest.mark.parametrize("item", [trade(1, x=None, z=None), coin(1, tks=None)])
def test_a_trade_without_its_descriptions_is_a_trade(item: Row) -> None:
    (event,) = read(text(item))
    assert isinstance(event, Trade) and event.side is None and event.trade_id == "1"


# login, subscriptions


def test_login_comes_before_subscribing() -> None:
    adapter = Alpaca([AAPL], credentials=("key", "secret"))
    assert [json.loads(frame) for frame in adapter.login()] == [{"action": "auth", "key": "key", "secret": "secret"}]
    assert adapter.receive(text({"T": "success", "msg": "connected"}), 1) == []
    assert adapter.receive(text({"T": "success", "msg": "authenticated"}), 2) == [LoggedIn()]


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALPACA_KEY_ID", raising=False)
    monkeypatch.setenv("ALPACA_SECRET_KEY", "not to be shown")
    with pytest.raises(ConfigError, match="ALPACA_KEY_ID") as raised:
        credentials_of(Alpaca)
    assert "not to be shown" not in str(raised.value)


def test_requests_are_answered_in_order_with_the_whole_state() -> None:
    adapter = Alpaca([AAPL, BTC])
    subs = [Subscription(kind, row) for row in (AAPL, BTC) for kind in ("trade", "quote", "book", "candle")]
    (frame,) = adapter.subscribe(subs)
    assert json.loads(frame) == {
        "action": "subscribe", "trades": ["AAPL", "BTC/USD"], "quotes": ["AAPL", "BTC/USD"], "orderbooks": ["BTC/USD"],
    }  # fmt: skip
    state: Row = {"T": "subscription", "trades": ["AAPL"], "quotes": [], "bars": [], "corrections": ["AAPL"]}
    assert adapter.receive(text(state), 1) == [Acked(("trades:AAPL",))]
    adapter.subscribe([Subscription("quote", AAPL)])
    assert adapter.receive(text({**state, "quotes": ["AAPL"]}), 2) == [Acked(("quotes:AAPL",))]
    adapter.subscribe([Subscription("book", BTC)])
    error = {"T": "error", "code": 405, "msg": "symbol limit exceeded"}
    assert adapter.receive(text(error), 3) == [Refused(("orderbooks:BTC/USD",), "405 symbol limit exceeded")]


def test_a_place_held_by_a_dead_connection_is_waited_for() -> None:
    error = {"T": "error", "code": 406, "msg": "connection limit exceeded"}
    assert read(text(error)) == [Refused((), "406 connection limit exceeded")]
    assert Alpaca.limits.reconnect_s > 90
    assert Alpaca.limits.lifetime_s == float("inf")  # two connections at a time are refused


@pytest.mark.parametrize(
    ("adapter", "row", "name"),
    [(Alpaca, AAPL, "iex"), (AlpacaSip, AAPL, "sip"), (Alpaca, BTC, "crypto"), (AlpacaSip, BTC, "crypto")],
)
def test_endpoints(adapter: type[Alpaca], row: Instrument, name: str) -> None:
    assert adapter.endpoint_of("trade", row) == name
    assert adapter.endpoint_at(adapter.endpoints[name]) == name


# REST


def test_assets() -> None:
    rows = Alpaca.parse_instruments(json.dumps(alpaca_session.ASSETS).encode())
    table = InstrumentTable("alpaca", rows)
    assert table.rejected == []
    assert [(row.venue_symbol, row.symbol, row.kind, row.status) for row in table] == [
        ("AAPL", "AAPL", "equity", "trading"), ("BRK.B", "BRK.B", "equity", "halted"),
        ("BTC/USD", "BTC-USD", "spot", "trading"), ("FAKEPACA", "FAKEPACA", "equity", "trading"),
    ]  # fmt: skip
    assert (table.get("BTC-USD").tick_size, table.get("BTC-USD").lot_size) == (1.0, 1e-9)
    assert table.get("AAPL").tick_size is None
    assert Alpaca.endpoint_of("trade", table.get("FAKEPACA")) == "test"


BAR = {"t": "2022-01-03T09:00:00Z", "o": 178.26, "h": 178.3, "l": 178.21, "c": 178.25, "v": 1118, "n": 65, "vw": 178.23}


@pytest.mark.parametrize(
    ("row", "body", "resource"),
    [
        (AAPL, {"bars": [BAR], "symbol": "AAPL", "next_page_token": None}, ("bars", "AAPL")),
        (BTC, {"bars": {"BTC/USD": [BAR]}, "next_page_token": None}, ("bars", "BTC/USD")),
    ],
)
def test_candles(row: Instrument, body: Row, resource: tuple[str, str]) -> None:
    start = parse_ns(str(BAR["t"])) or 0
    fetch = Alpaca.candles_fetch(row, "1m", start, 2)
    assert fetch is not None
    assert ("start", "2022-01-03T09:00:00Z") in fetch.params and ("end", "2022-01-03T09:01:00Z") in fetch.params
    query = "&".join(f"{name}={value}" for name, value in fetch.params)
    assert Alpaca.resource_of(f"https://data.alpaca.markets{fetch.path}?{query}") == resource
    encoded = json.dumps(body).encode()
    (candle,) = Alpaca([row]).snapshot(fetch, encoded, start + 60 * 10**9)
    assert isinstance(candle, Candle)
    assert (candle.start, candle.close, candle.volume, candle.vwap, candle.trades) == (
        start,
        178.25,
        1118.0,
        178.23,
        65,
    )
    assert Alpaca([row]).snapshot(fetch, encoded, start + 59 * 10**9) == []
    assert Alpaca([row]).snapshot(fetch, b'{"bars":null}', start) == []


def test_a_candle_of_quotes_has_no_vwap() -> None:
    """ "v=0,n=0,vw=0 with valid OHLC is normal" for crypto"""
    fetch = Alpaca.candles_fetch(BTC, "1m", 0, 1)
    assert fetch is not None
    body = json.dumps({"bars": {"BTC/USD": [{**BAR, "v": 0, "n": 0, "vw": 0}]}}).encode()
    (candle,) = Alpaca([BTC]).snapshot(fetch, body, 2**62)
    assert isinstance(candle, Candle) and (candle.volume, candle.vwap, candle.trades) == (0.0, None, 0)


# anything at all

WHOLE = [
    text(trade(1), coin(2)), binary(trade(1), coin(2)), text(book(True, [(1, 1)], [(2, 1)])),
    binary(book(True, [(1, 1)], [(2, 1)])), text({"T": "subscription", "trades": ["AAPL"]}),
    text({"T": "q", "S": "AAPL", "bp": 1, "bs": 1, "ap": 2, "as": 1, "t": AT}),
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_comes_costs_one_message(data: st.DataObject) -> None:
    adapter = Alpaca([AAPL, BTC])
    pieces = [
        b"",
        b"-",
        b"1e400",
        b'"nan"',
        b"[" * 5000,
        b"null",
        b"{}",
        b"\xff",
        b"\x91" * 5000,
        b"9" * 30,
        b"\xc7\x0c\xff",
    ]
    for _ in range(4):
        payload = bytearray(data.draw(st.sampled_from(WHOLE)))
        for _ in range(data.draw(st.integers(0, 3))):
            at = data.draw(st.integers(0, len(payload) - 1))
            payload[at : at + data.draw(st.integers(0, 9))] = data.draw(st.sampled_from(pieces))
        Alpaca.peek(bytes(payload))
        try:
            adapter.receive(bytes(payload), 1)
        except WireError:
            continue


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_are_read_or_refused(payload: bytes) -> None:
    Alpaca.peek(payload)
    fetch = Alpaca.candles_fetch(BTC, "1m", 0, 1)
    assert fetch is not None
    for reading in (
        lambda: read(payload),
        lambda: Alpaca([BTC]).snapshot(fetch, payload, 1),
        lambda: Alpaca.parse_instruments(payload),
    ):
        try:
            reading()
        except WireError:
            continue
