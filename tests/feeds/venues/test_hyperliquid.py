"""Hyperliquid: recorded frames against a naive reading, the venue's traps, and garbage."""

import gzip
import json
import random
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feeds.adapter import Acked, BookUpdate, Fetch, Refused, Skipped, Subscription
from feeds.session import Session, SessionWriter
from feeds.venues.hyperliquid import Hyperliquid
from hub.errors import WireError
from hub.instruments import Instrument, InstrumentTable
from hub.model import Mark, Quote, Ticker, Trade
from tests.feeds.venues.plays import DATA, SHARED, Follower, Row, lines, of, play, rows_of

VENUE = "hyperliquid"
OWN = DATA / VENUE / "hftbacktest_2025-01-26_BTC"
SESSIONS = [OWN, *sorted((SHARED / VENUE).glob("*.jsonl"))]
_LISTS = [*OWN.glob("rest_info*"), *(SHARED / VENUE).glob("*/*meta*"), *(SHARED / VENUE).glob("*/*Meta*")]
LISTS = [path for path in _LISTS if path.suffix in (".json", ".gz")]

each_session = pytest.mark.parametrize("path", SESSIONS, ids=lambda path: str(path.name))


def coin(name: str = "BTC") -> Instrument:
    return Instrument(
        venue=VENUE, venue_symbol=name, symbol=f"{name}-USDC-PERP", kind="perpetual", base=name, quote="USDC"
    )


def adapter(*names: str) -> Hyperliquid:
    return Hyperliquid([coin(name) for name in names or ("BTC",)])


def frame(channel: str, data: Any) -> bytes:
    return json.dumps({"channel": channel, "data": data}).encode()


def frames(path: Path, channel: str) -> list[Any]:
    parsed = (json.loads(row["raw"]) for row in rows_of(path) if "dir" not in row)
    return [row["data"] for row in parsed if row.get("channel") == channel and "data" in row]


def own(name: str, found: Iterable[Row]) -> str:
    """Return the hub's spelling of the venue's, where the session has a list of instruments and where not."""
    symbols = {row["symbol"] for row in found}
    spelled = name.replace("/", "~2F").replace(":", "~3A")
    return spelled if spelled in symbols else f"{name}-USDC-PERP"


# recorded sessions


@each_session
def test_every_trade_is_there_once_as_the_venue_told_it(path: Path) -> None:
    _, found = play(VENUE, path)
    told = {(row["coin"], row["tid"]): row for data in frames(path, "trades") for row in data}
    ours = [
        (row["symbol"], row["trade_id"], row["price"], row["size"], row["side"], row["ts_event"])
        for row in of(found, "trade")
    ]
    assert ours == [
        (
            own(row["coin"], found), str(row["tid"]), Decimal(row["px"]), Decimal(row["sz"]),
            {"B": "buy", "A": "sell"}[row["side"]], row["time"] * 1_000_000,
        )
        for row in told.values()
    ]  # fmt: skip


@each_session
def test_books_are_the_newest_snapshots(path: Path) -> None:
    normalizer, found = play(VENUE, path)
    books: dict[str, list[Row]] = {}
    for data in frames(path, "l2Book"):
        before = books.setdefault(data["coin"], [])
        if not before or data["time"] > before[-1]["time"]:
            before.append(data)
    assert len(of(found, "book")) == sum(map(len, books.values()))
    for name, told in books.items():
        follower = Follower()
        for row, data in zip(of(found, "book", own(name, found)), told, strict=True):
            levels = [{Decimal(level["px"]): Decimal(level["sz"]) for level in side} for side in data["levels"]]
            assert list(follower.take(row)) == levels
            assert row["ts_event"] == data["time"] * 1_000_000
            assert row["bids"] == sorted(row["bids"], reverse=True)
            assert row["asks"] == sorted(row["asks"])
    assert {row["state"] for row in of(found, "status")} <= {"live"}
    assert not {"resyncs", "wire_errors", "refreshes"} & normalizer.pipeline.counters.keys()


@each_session
def test_quotes_are_the_venues_where_it_sends_them(path: Path) -> None:
    _, found = play(VENUE, path)
    told = frames(path, "bbo")
    for name in {data["coin"] for data in told}:
        ours = [
            (row["bid"], row["bid_size"], row["ask"], row["ask_size"]) for row in of(found, "quote", own(name, found))
        ]
        expected = []
        for data in told:
            if data["coin"] == name:
                sides = [*data["bbo"], None, None][:2]
                expected.append(tuple(Decimal(side[key]) if side else None for side in sides for key in ("px", "sz")))
        assert ours == expected


def test_the_recorded_session_has_everything() -> None:
    normalizer, found = play(VENUE, OWN)
    assert normalizer.warnings == []
    assert (len(of(found, "trade")), len(of(found, "book"))) == (34, 30)
    assert {row["symbol"] for row in found} == {"BTC-USDC-PERP"}


def test_repeated_frames_change_nothing(tmp_path: Path) -> None:
    rows = [row for row in rows_of(OWN) for _ in range(2)]
    path = tmp_path / "s.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = tmp_path / "plain.jsonl"
    plain.write_text("".join(json.dumps(row) + "\n" for row in rows_of(OWN)))
    normalizer, found = play(VENUE, path)
    assert found == play(VENUE, plain)[1]
    assert normalizer.pipeline.counters["trades_repeated"] == 34


def test_a_swapped_or_lost_snapshot_never_takes_the_book_back(tmp_path: Path) -> None:
    times = [data["time"] for data in frames(OWN, "l2Book")]
    rows = list(rows_of(OWN))
    books = [n for n, row in enumerate(rows) if '"l2Book"' in row["raw"]]
    one, two = books[10], books[11]
    rows[one], rows[two] = {**rows[two], "t": rows[one]["t"]}, {**rows[one], "t": rows[two]["t"]}
    del rows[books[20]]
    path = tmp_path / "s.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    normalizer, found = play(VENUE, path)
    stamps = [row["ts_event"] // 1_000_000 for row in of(found, "book")]
    assert stamps == [time for n, time in enumerate(times) if n not in (1, 10, 20)]
    assert normalizer.pipeline.counters["skipped_repeated_book"] == 2


# the named traps


def book(time: int, *bids: tuple[str, str], coin: str = "BTC", **more: Any) -> Row:
    levels = [[{"px": px, "sz": sz, "n": 1} for px, sz in bids], []]
    return {"channel": "l2Book", "data": {"coin": coin, "time": time, "levels": levels} | more}


def trade(tid: int, time: int = 1_780_000_000_000, **more: Any) -> Row:
    return {"coin": "BTC", "side": "B", "px": "1.5", "sz": "2", "time": time, "hash": "0x0", "tid": tid} | more


def test_a_book_is_replaced_whole_and_says_nothing_of_what_lies_deeper(tmp_path: Path) -> None:
    now = 1_780_000_000_000
    path = tmp_path / "s.jsonl"
    told = [book(now, ("3", "1"), ("2", "1")), book(now + 500, ("3", "1"), fast=True), book(now + 900)]
    path.write_text("".join(json.dumps(row) + "\n" for row in lines(*told)))
    normalizer, found = play(VENUE, path)
    assert [(row["action"], row["bids"], row["asks"]) for row in of(found, "book")] == [
        ("snapshot", [[3, 1], [2, 1]], []),
        ("snapshot", [[3, 1]], []),
        ("snapshot", [], []),
    ]
    assert [row["bid"] for row in of(found, "quote")] == [3, None]
    assert "refreshes" not in normalizer.pipeline.counters


def test_two_states_of_one_block_are_both_told() -> None:
    feed = adapter()
    first, second = (json.dumps(book(5, ("3", size))).encode() for size in ("1", "2"))
    assert [type(event) for event in feed.receive(first, 1)] == [BookUpdate]
    assert feed.receive(first, 1) == [Skipped("repeated book")]
    assert [type(event) for event in feed.receive(second, 1)] == [BookUpdate]
    assert feed.receive(json.dumps(book(4, ("9", "9"))).encode(), 1) == [Skipped("repeated book")]


def test_trades_replayed_after_a_reconnect_are_removed_and_missed_ones_kept(tmp_path: Path) -> None:
    def trades(*tids: int) -> Row:
        return {"channel": "trades", "data": [trade(tid) for tid in tids]}

    rows = lines(trades(5, 3, 9), trades(7), trades(3, 9, 7, 8, 2), trades(4))
    opened = {"t": rows[0]["t"], "dir": "open", "raw": "wss://api.hyperliquid.xyz/ws"}
    path = tmp_path / "s.jsonl"
    again = [opened, *rows[:2], {**opened, "t": rows[2]["t"]}, *rows[2:]]
    path.write_text("".join(json.dumps(row) + "\n" for row in again))
    normalizer, found = play(VENUE, path)
    assert [row["trade_id"] for row in of(found, "trade")] == ["5", "3", "9", "7", "8", "2", "4"]
    assert normalizer.pipeline.counters["trades_repeated"] == 3
    assert "trades_lost" not in normalizer.pipeline.counters


def test_the_side_is_the_aggressors() -> None:
    sides = [trade(1), trade(2, side="A"), trade(3, side="X"), trade(4, side=None)]
    found = adapter().receive(frame("trades", sides), 1)
    assert [event.side for event in found if isinstance(event, Trade)] == ["buy", "sell", None, None]


def test_one_bad_trade_of_many_costs_itself_alone() -> None:
    rows = [trade(1), trade(2, px="nan"), trade(3, sz="-1"), trade(4, coin="NOSUCH"), trade(5)]
    found = adapter().receive(frame("trades", rows), 1)
    assert [event.trade_id for event in found if isinstance(event, Trade)] == ["1", "5"]
    assert Skipped("unknown symbol") in found
    assert Skipped("unreadable item") in found
    with pytest.raises(WireError):
        adapter().receive(frame("trades", [trade(1, px="inf")]), 1)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([{"px": "1", "sz": "2", "n": 1}, {"px": "3", "sz": "4", "n": 1}], (1, 2, 3, 4)),
        ([{"px": "1", "sz": "2"}], (1, 2, None, None)),
        ([None, {"px": "3", "sz": "4"}], (None, None, 3, 4)),
        ([{"px": "1", "sz": "2"}, None], (1, 2, None, None)),
        ([], (None, None, None, None)),
    ],
)
def test_a_side_may_be_missing(told: list[Any], expected: tuple[Any, ...]) -> None:
    (found,) = adapter().receive(frame("bbo", {"coin": "BTC", "time": 5, "bbo": told}), 1)
    assert isinstance(found, Quote)
    assert (found.bid, found.bid_size, found.ask, found.ask_size) == expected


def test_a_context_is_mark_and_ticker() -> None:
    ctx = {
        "funding": "0.0000125", "openInterest": "5259.34", "prevDayPx": "132.32", "dayNtlVlm": "965843.73",
        "premium": None, "oraclePx": "128.41", "markPx": "128.45", "midPx": None, "dayBaseVlm": "7543.61",
    }  # fmt: skip
    ticker, mark = adapter().receive(frame("activeAssetCtx", {"coin": "BTC", "ctx": ctx}), 1)
    assert isinstance(ticker, Ticker)
    assert isinstance(mark, Mark)
    assert (mark.mark_price, mark.index_price, mark.funding_rate, mark.open_interest, mark.next_funding_ts) == (
        128.45, 128.41, 0.0000125, 5259.34, None
    )  # fmt: skip
    assert (ticker.last_price, ticker.open_price, ticker.volume, ticker.quote_volume) == (
        None, 132.32, 7543.61, 965843.73
    )  # fmt: skip
    assert (mark.ts_event, ticker.ts_event) == (None, None)
    spot = {"prevDayPx": "1", "dayNtlVlm": "2", "markPx": "3", "midPx": "4", "circulatingSupply": "5", "coin": "@2"}
    (ticker,) = adapter("@2").receive(frame("activeSpotAssetCtx", {"coin": "@2", "ctx": spot}), 1)
    assert isinstance(ticker, Ticker)
    assert (ticker.open_price, ticker.volume) == (1, None)


def test_one_coin_a_message_and_fast_books() -> None:
    feed = adapter("BTC", "kPEPE")
    subs = [Subscription(kind, row) for row in (coin("BTC"), coin("kPEPE")) for kind in Hyperliquid.channels]
    sent = [json.loads(each) for each in feed.subscribe(subs)]
    assert sent == [
        {"method": "subscribe", "subscription": {"type": kind, "coin": name} | more}
        for name in ("BTC", "kPEPE")
        for kind, more in (("trades", {}), ("bbo", {}), ("l2Book", {"fast": True}), ("activeAssetCtx", {}))
    ]
    # Unsubscribing repeats the subscription to the letter.
    gone = [json.loads(each) for each in feed.unsubscribe(subs)]
    assert [each["subscription"] for each in gone] == [each["subscription"] for each in sent]
    assert [each["method"] for each in gone] == ["unsubscribe"] * 8
    assert json.loads(feed.ping() or b"") == {"method": "ping"}


_ASKED = '{"method": "subscribe", "subscription": {"type": "noSuchType", "coin": "BTC"}}'


@pytest.mark.parametrize(
    ("channel", "data", "expected"),
    [
        (
            "subscriptionResponse",
            {"method": "subscribe", "subscription": {"type": "l2Book", "coin": "BTC", "nSigFigs": None, "fast": True}},
            [Acked(("l2Book BTC",))],
        ),
        ("subscriptionResponse", {"method": "unsubscribe", "subscription": {"type": "bbo", "coin": "BTC"}}, []),
        (
            "error",
            f"Error parsing JSON into valid websocket request: {_ASKED}",
            [Refused(("noSuchType BTC",), f"Error parsing JSON into valid websocket request: {_ASKED}")],
        ),
        ("error", 'Already subscribed: {"type":"bbo","coin":"BTC"}', [Acked(("bbo BTC",))]),
        ("error", "Too many requests", [Refused((), "Too many requests")]),
        ("error", "{", [Refused((), "{")]),
        ("post", {"id": 1}, [Skipped("unknown channel")]),
        ("candle", {"t": 1}, [Skipped("unknown channel")]),
    ],
)
def test_answers(channel: str, data: Any, expected: list[Any]) -> None:
    assert adapter().receive(frame(channel, data), 1) == expected


def test_a_pong_has_no_data() -> None:
    assert adapter().receive(b'{"channel":"pong"}', 1) == []
    assert adapter().receive(b'{"coin":"BTC","levels":[[],[]],"time":1}', 1) == [Skipped("unknown message")]


# instruments and other answers


def unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@pytest.mark.parametrize("path", LISTS, ids=lambda path: f"{path.parent.name} {path.name}")
def test_the_mapping_is_one_to_one(path: Path) -> None:
    rows = Hyperliquid.parse_instruments(unpacked(path))
    table = InstrumentTable(VENUE, rows)
    assert table.rejected == []
    assert len(table.by_key) == len(rows)
    for row in rows:
        assert row.tick_size is None
        assert row.lot_size is not None
        assert row.size_unit == "base"


def test_names_of_perpetuals_and_spot() -> None:
    table = InstrumentTable(
        VENUE, [row for path in sorted(OWN.glob("rest_info*")) for row in Hyperliquid.parse_instruments(unpacked(path))]
    )
    assert table.rejected == []
    assert (table.get("BTC-USDC-PERP").venue_symbol, table.get("BTC-USDC-PERP").lot_size) == ("BTC", 0.00001)
    assert table.get("KPEPE-USDC-PERP").venue_symbol == "kPEPE"
    assert table.get("PURR-USDC").venue_symbol == "PURR/USDC"
    assert table.by_key["@1"].symbol == "HFUN-USDC"
    assert table.by_key["@209"].quote == "USDT0"  # 199 pairs: the index is an id
    assert {row.status for row in table} == {"trading", "delisted"}


def test_exchanges_of_builders_and_their_collateral() -> None:
    body = json.dumps(
        [
            {"collateralToken": 0, "universe": [{"name": "BTC", "szDecimals": 5, "isDelisted": None}]},
            {"collateralToken": 360, "universe": [{"name": "km:US500", "szDecimals": 3}]},
            {"collateralToken": 999, "universe": [{"name": "hyna:BTC", "szDecimals": 5, "isDelisted": True}]},
        ]
    ).encode()
    rows = Hyperliquid.parse_instruments(body)
    assert [(row.symbol, row.venue_symbol, row.settle, row.status) for row in rows] == [
        ("BTC-USDC-PERP", "BTC", "USDC", "trading"),
        ("KM~3AUS500-USDH-PERP", "km:US500", "USDH", "trading"),
        ("HYNA~3ABTC-TOKEN999-PERP", "hyna:BTC", "TOKEN999", "delisted"),
    ]


def test_requests_are_told_apart_by_their_body(tmp_path: Path) -> None:
    for fetch in Hyperliquid.instruments_fetches():
        assert fetch.body is not None
        url = f"https://api.hyperliquid.xyz{fetch.path}#{fetch.body.decode()}"
        assert Hyperliquid.resource_of(url) == (fetch.resource, "")
    candles = Hyperliquid.candles_fetch(coin("kPEPE"), "1h", 1684699200_000_000_000, 3)
    assert candles is not None
    assert candles.body is not None
    assert json.loads(candles.body) == {
        "type": "candleSnapshot",
        "req": {"coin": "kPEPE", "interval": "1h", "startTime": 1684699200000, "endTime": 1684709999999},
    }
    writer = SessionWriter(tmp_path / "s")
    writer.body(None, "https://api.hyperliquid.xyz/info", b"[]", candles.body)
    writer.close()
    (body,) = Session(tmp_path / "s").bodies
    assert Hyperliquid.resource_of(body.url) == ("candleSnapshot", "kPEPE")
    assert Hyperliquid.candles_fetch(coin(), "10s", 0, 3) is None


def test_candles() -> None:
    rows = [
        {"t": start, "T": start + 3599999, "s": "kPEPE", "i": "1h", "o": "1", "c": "2", "h": "3", "l": "0.5"}
        | {"v": "520665683.0", "n": 709}
        for start in (1684699200000, 1684702800000)
    ]
    wanted = Fetch(resource="candleSnapshot", path="/info", instrument=coin("kPEPE"), interval="1h")
    (candle,) = adapter("kPEPE").snapshot(wanted, json.dumps(rows).encode(), 1684706399_000_000_000)
    assert (candle.start, candle.volume, candle.trades, candle.buy_volume) == (  # type: ignore[union-attr]
        1684699200_000_000_000, 520665683, 709, None
    )  # fmt: skip


# garbage

_FRAMES = [row["raw"].encode() for row in rows_of(OWN)] + [frame("error", "x {}"), frame("bbo", {"coin": "BTC"})]


def read(data: bytes) -> None:
    feed = adapter()
    wanted = Fetch(resource="candleSnapshot", path="", instrument=coin(), interval="1m")
    for call in (
        lambda: feed.receive(data, 1),
        lambda: Hyperliquid.parse_instruments(data),
        lambda: feed.snapshot(wanted, data, 1),
    ):
        try:
            call()
        except WireError:
            pass
    Hyperliquid.peek(data)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_cost_a_wire_error_at_most(data: bytes) -> None:
    read(data)


@given(st.sampled_from(_FRAMES), st.integers(0, 2**32))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_frames_cost_a_wire_error_at_most(data: bytes, seed: int) -> None:
    chance = random.Random(seed)
    changed = bytearray(data)
    wrong = [b"", b"-", b"9" * 30, b"null", b'"', b"[", b"1e400", b"\xff"]
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(changed))
        changed[at : at + chance.randrange(3)] = chance.choice(wrong)
    read(bytes(changed))


@pytest.mark.parametrize("data", ["[" * 100_000, '{"channel":"trades","data":' + "[" * 100_000, '{"channel":"error"}'])
def test_endless_nesting(data: str) -> None:
    read(data.encode())
