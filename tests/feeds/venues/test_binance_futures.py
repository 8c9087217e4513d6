"""Binance USD-M futures: recorded sessions against a naive reading, the venue's traps, and garbage."""

import gzip
import json
import random
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feeds.adapter import Acked, BookGap, BookUpdate, Fetch, Refused, Skipped, Subscription
from feeds.normalize import Normalizer
from feeds.session import Session
from feeds.sharding import shards
from feeds.venues.binance_futures import BinanceFutures
from hub.errors import WireError
from hub.instruments import Instrument, InstrumentTable
from hub.model import Mark, Quote, Ticker, Trade
from tests.feeds.venues.plays import DATA, SHARED, Follower, Levels, Row, frames_of, of, play, rows_of

VENUE = "binance_futures"
_found = {folder.name: folder for place in (SHARED, DATA) for folder in sorted((place / VENUE).glob("cryptofeed_*"))}
SESSIONS = list(_found.values())
LISTED = _found["cryptofeed_2021-07-22"]
SINGLE = sorted((SHARED / VENUE).glob("*.jsonl"))
LISTS = [
    *LISTED.glob("rest_exchangeInfo*"),
    *(SHARED / VENUE).glob("gocryptotrader_rest_recordings/exchangeInfo_1.json"),
]

each_session = pytest.mark.parametrize("folder", SESSIONS, ids=lambda folder: str(folder.name))


def instrument(name: str = "BTCUSDT") -> Instrument:
    base = name.removesuffix("USDT")
    return Instrument(
        venue=VENUE, venue_symbol=name, symbol=f"{base}-USDT-PERP", kind="perpetual", base=base, quote="USDT"
    )


def adapter(*names: str, levels: int = 1000) -> BinanceFutures:
    return BinanceFutures([instrument(name) for name in names or ("BTCUSDT",)], levels)


@cache
def bodies_of(folder: Path) -> dict[str, Row]:
    """Return the recorded books by the venue's symbol."""
    found: dict[str, Row] = {}
    for body in Session(folder).bodies:
        if "/depth?" in body.url:
            found.setdefault(body.url.partition("symbol=")[2].partition("&")[0], json.loads(body.read()))
    return found


@cache
def played(folder: Path) -> tuple[Normalizer, list[Row]]:
    return play(VENUE, folder)


def own(name: str, found: Iterable[Row]) -> str:
    """Return the hub's spelling of the venue's."""
    symbols = {row["symbol"] for row in found}
    return name if name in symbols else f"{name.removesuffix('USDT')}-USDT-PERP"


def events(rows: Iterable[Row], kind: str) -> dict[str, list[Row]]:
    result: dict[str, list[Row]] = defaultdict(list)
    for frame in frames_of(rows):
        if frame["data"]["e"] == kind:
            result[frame["data"]["s"]].append(frame["data"])
    return result


def naive_books(snapshot: Row, diffs: Iterable[Row]) -> Iterable[tuple[Row, Levels, Levels]]:
    """Follow the venue's rules: drop what ended before the snapshot, then each `pu` is the `u` before."""
    sides = [{Decimal(price): Decimal(size) for price, size in snapshot[side]} for side in ("bids", "asks")]
    last: int | None = None
    for diff in diffs:
        if last is None:
            if diff["u"] < snapshot["lastUpdateId"]:
                continue
            assert diff["U"] <= snapshot["lastUpdateId"] <= diff["u"]
        else:
            assert diff["pu"] == last
        last = diff["u"]
        for side, levels in zip(sides, (diff["b"], diff["a"]), strict=True):
            for price, size in levels:
                side[Decimal(price)] = Decimal(size)
                if not Decimal(size):
                    del side[Decimal(price)]
        yield diff, sides[0], sides[1]


def guaranteed(snapshot: Row, bids: Levels, asks: Levels) -> tuple[Levels, Levels]:
    """Return what the snapshot vouches for: the venue cut it at 1000 levels."""
    worst = [Decimal(snapshot[side][-1][0]) if len(snapshot[side]) >= 1000 else None for side in ("bids", "asks")]
    return (
        {price: size for price, size in bids.items() if worst[0] is None or price >= worst[0]},
        {price: size for price, size in asks.items() if worst[1] is None or price <= worst[1]},
    )


def write(folder: Path, rows: Iterable[Row], source: Path) -> Path:
    """Write a session of these lines with the bodies of `source`."""
    folder.mkdir()
    (folder / "ws.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with (folder / "rest_index.jsonl").open("w") as index:
        for number, body in enumerate(Session(source).bodies):
            (folder / f"{number}.json").write_bytes(body.read())
            ts = body.ts / 1e9 if body.ts is not None else None
            index.write(json.dumps({"t": ts, "url": body.url, "file": f"{number}.json"}) + "\n")
    return folder


# recorded sessions


@each_session
def test_every_trade_is_there_once_as_the_venue_told_it(folder: Path) -> None:
    _, found = played(folder)
    for name, told in events(rows_of(folder), "aggTrade").items():
        ours = [
            (row["trade_id"], row["price"], row["size"], row["side"], row["count"], row["ts_event"])
            for row in of(found, "trade", own(name, found))
        ]
        assert ours == [
            (
                str(row["a"]), Decimal(row["p"]), Decimal(row["q"]), "sell" if row["m"] else "buy",
                row["l"] - row["f"] + 1, row["T"] * 1_000_000,
            )
            for row in told
        ]  # fmt: skip


@each_session
def test_quotes_are_the_venues(folder: Path) -> None:
    _, found = played(folder)
    for name, told in events(rows_of(folder), "bookTicker").items():
        ours = [
            (row["bid"], row["bid_size"], row["ask"], row["ask_size"]) for row in of(found, "quote", own(name, found))
        ]
        assert ours == [tuple(Decimal(row[key]) for key in "bBaA") for row in told]


@each_session
def test_books_equal_naive_ones_level_for_level(folder: Path) -> None:
    normalizer, found = played(folder)
    for name, diffs in events(rows_of(folder), "depthUpdate").items():
        books = of(found, "book", own(name, found))
        snapshot = bodies_of(folder)[name]
        assert [row["action"] for row in books].count("snapshot") == 1
        naive = {}
        for diff, bids, asks in naive_books(snapshot, diffs):
            naive[diff["E"] * 1_000_000] = guaranteed(snapshot, bids, asks)
        follower, compared = Follower(), 0
        for row in books:
            bids, asks = follower.take(row)
            if row["action"] == "update":
                assert (bids, asks) == naive[row["ts_event"]]
                compared += 1
        assert compared > 10
        assert books[0]["ts_event"] == snapshot["E"] * 1_000_000
    statuses = {row["symbol"]: row["state"] for row in of(found, "status")}
    assert set(statuses.values()) == {"live"}
    assert not {"resyncs", "wire_errors", "trades_lost"} & normalizer.pipeline.counters.keys()


def busiest(folder: Path) -> tuple[str, list[int]]:
    """Return the symbol with the most diffs and their line numbers."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows_of(folder)):
        data = {} if "dir" in row else json.loads(row["raw"])["data"]
        if data.get("e") == "depthUpdate":
            numbers[data["s"]].append(number)
    return max(numbers.items(), key=lambda item: len(item[1]))


def check_only_this_book_ended(folder: Path, path: Path, name: str) -> None:
    _, before = played(folder)
    normalizer, now = play(VENUE, path)
    symbol = own(name, before)
    assert [(row["symbol"], row["state"]) for row in of(now, "status") if row["state"] != "live"] == [
        (symbol, "resyncing")
    ]
    place = next(number for number, row in enumerate(now) if row["type"] == "status" and row["state"] != "live")
    assert not [row for row in now[place:] if row["symbol"] == symbol and row["type"] in ("book", "depth")]
    others = [{**row, "ts_pub": 0} for row in now if row["symbol"] != symbol and row["type"] == "book"]
    assert others == [{**row, "ts_pub": 0} for row in before if row["symbol"] != symbol and row["type"] == "book"]
    assert normalizer.pipeline.counters["resyncs"] == 1


@each_session
def test_a_lost_diff_ends_that_book_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    name, numbers = busiest(folder)
    lost = numbers[len(numbers) // 2]
    rows = rows_of(folder)
    check_only_this_book_ended(folder, write(tmp_path / "s", rows[:lost] + rows[lost + 1 :], folder), name)


@each_session
def test_swapped_diffs_end_that_book_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    name, numbers = busiest(folder)
    one, two = numbers[len(numbers) // 2], numbers[len(numbers) // 2 + 1]
    rows = list(rows_of(folder))
    rows[one], rows[two] = {**rows[two], "t": rows[one]["t"]}, {**rows[one], "t": rows[two]["t"]}
    check_only_this_book_ended(folder, write(tmp_path / "s", rows, folder), name)


@each_session
def test_repeated_frames_change_nothing(folder: Path, tmp_path: Path) -> None:
    rows: list[Row] = []
    for number, row in enumerate(rows_of(folder)):
        rows += [row, row] if number % 7 == 3 and "dir" not in row else [row]
    assert play(VENUE, write(tmp_path / "s", rows, folder))[1] == played(folder)[1]


def test_single_messages_are_read_or_counted() -> None:
    for path in SINGLE:
        normalizer, _ = play(VENUE, path)
        # An aggregated trade of 2019 had no id of its own.
        assert normalizer.pipeline.counters["wire_errors"] == (1 if path.name.startswith("tardis") else 0), path.name


# the named traps


def test_two_connections_share_the_kinds() -> None:
    subs = [Subscription(kind, instrument()) for kind in BinanceFutures.channels]
    split = [(adapter().venue_channels(shard), {s.kind for s in shard}) for shard in shards(subs, adapter())]
    assert sorted(split, key=lambda part: part[0]) == [
        (["btcusdt@aggTrade", "btcusdt@ticker", "btcusdt@markPrice@1s"], {"trade", "candle", "ticker", "mark"}),
        (["btcusdt@bookTicker", "btcusdt@depth@100ms"], {"quote", "book", "depth"}),
    ]
    for kind in ("quote", "book", "depth"):
        assert BinanceFutures.endpoint_of(kind, instrument()) == "public"
    for name, url in BinanceFutures.endpoints.items():
        assert url == f"wss://fstream.binance.com/{name}/stream"
        assert BinanceFutures.endpoint_at(url) == BinanceFutures.endpoint_at(url.replace("/stream", "/ws/x")) == name
    assert BinanceFutures.endpoint_at("wss://fstream.binance.com/stream?streams=btcusdt@aggTrade") == "public"


def test_a_second_endpoint_that_opens_later_takes_no_book_away(tmp_path: Path) -> None:
    rows = list(rows_of(LISTED))
    late = {"t": rows[len(rows) // 2]["t"], "dir": "open", "raw": "wss://fstream.binance.com/market/stream"}
    rows.insert(len(rows) // 2, late)
    assert play(VENUE, write(tmp_path / "s", rows, LISTED))[1] == played(LISTED)[1]


def diff(first: int, last: int, before: int, **more: Any) -> bytes:
    data = {"e": "depthUpdate", "E": 5, "T": 4, "s": "BTCUSDT", "U": first, "u": last, "pu": before} | {
        "b": [["1.0", "2.0"]], "a": [["3.0", "4.0"]]
    }  # fmt: skip
    return json.dumps({"stream": "btcusdt@depth@100ms", "data": data | more}).encode()


def body(last: int) -> bytes:
    return json.dumps({"lastUpdateId": last, "E": 1, "T": 1, "bids": [["0.5", "1"]], "asks": [["5", "1"]]}).encode()


@pytest.mark.parametrize(
    ("held", "last", "applied"),
    [
        ([(10, 19, 5)], 15, 1),  # U <= L <= u
        ([(10, 19, 5)], 19, 0),  # it ended with the snapshot, which holds it
        ([(10, 19, 5)], 9, 1),  # ids between pu and U are other symbols'
        ([(10, 19, 5)], 5, 1),  # pu == L
        ([(10, 19, 5)], 4, None),  # something is missing: a newer snapshot is needed
        ([(10, 19, 5), (30, 35, 19)], 25, 1),
        ([(10, 19, 5), (30, 35, 22)], 19, None),  # a hole among the held ones
        ([(10, 19, 5), (30, 35, 22)], 22, 1),
    ],
)
def test_the_first_diff_must_fit_the_snapshot(held: list[tuple[int, int, int]], last: int, applied: int | None) -> None:
    feed = adapter()
    (wanted,) = [event for each in held for event in feed.receive(diff(*each), 1)]
    assert isinstance(wanted, Fetch)
    assert (wanted.path, wanted.params, wanted.weight) == (
        "/fapi/v1/depth", (("symbol", "BTCUSDT"), ("limit", "1000")), 20
    )  # fmt: skip
    found = feed.snapshot(wanted, body(last), 2)
    if applied is None:
        assert [type(event) for event in found] == [Fetch]
    else:
        assert [type(event) for event in found] == [BookUpdate] * (1 + applied)


def test_pu_chains_diffs_whatever_their_first_id() -> None:
    feed = adapter()
    (wanted,) = feed.receive(diff(10, 19, 5), 1)
    assert isinstance(wanted, Fetch)
    feed.snapshot(wanted, body(15), 2)
    assert [type(event) for event in feed.receive(diff(1000, 1009, 19), 3)] == [BookUpdate]
    assert feed.receive(diff(1000, 1009, 19), 3) == []
    (gap,) = feed.receive(diff(1010, 1019, 1008 + 2), 4)  # follows by U, not by pu
    assert isinstance(gap, BookGap)


def test_partial_depth_never_goes_into_a_book() -> None:
    feed = adapter()
    (wanted,) = feed.receive(diff(10, 19, 5), 1)
    assert isinstance(wanted, Fetch)
    feed.snapshot(wanted, body(15), 2)
    rows = [[f"{100 - n}.0", "1"] for n in range(5)], [[f"{101 + n}.0", "1"] for n in range(5)]
    data = {"e": "depthUpdate", "E": 5, "T": 4, "s": "BTCUSDT", "U": 20, "u": 29, "pu": 19, "b": rows[0], "a": rows[1]}
    for stream in ("depth5", "depth10@100ms", "depth20@500ms"):
        frame = json.dumps({"stream": f"btcusdt@{stream}", "data": data}).encode()
        assert feed.receive(frame, 3) == [Skipped("partial depth")]
        assert BinanceFutures.peek(frame) == []
    # A raw connection does not name its stream: full pages without removals, the bids falling, are no diff.
    assert feed.receive(json.dumps(data).encode(), 3) == [Skipped("partial depth")]
    assert [type(event) for event in feed.receive(json.dumps({**data, "b": rows[0][::-1]}).encode(), 3)] == [BookUpdate]


def test_only_market_trades_count_and_their_ids_may_have_holes(tmp_path: Path) -> None:
    def trade(number: int, kind: str | None) -> Row:
        data = {"e": "trade", "E": 1_700_000_000_000 + number, "T": 1_700_000_000_000 + number, "s": "BTCUSDT"} | {
            "t": number, "p": "1.5", "q": "0.1", "m": True
        }  # fmt: skip
        return {"t": None, "raw": json.dumps({"stream": "btcusdt@trade", "data": data | ({"X": kind} if kind else {})})}

    rows = [trade(1, "MARKET"), trade(2, "INSURANCE_FUND"), trade(3, "ADL"), trade(4, "MARKET"), trade(5, None)]
    path = tmp_path / "s.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    normalizer, found = play(VENUE, path)
    assert [row["trade_id"] for row in of(found, "trade")] == ["1", "4", "5"]
    assert of(found, "status") == []
    assert normalizer.pipeline.counters["skipped_no_market_trade"] == 2


def test_a_lost_aggregated_trade_is_told(tmp_path: Path) -> None:
    rows = list(rows_of(LISTED))
    name, told = max(events(rows, "aggTrade").items(), key=lambda item: len(item[1]))
    lost = next(n for n, row in enumerate(rows) if f'"a":{told[len(told) // 2]["a"]},' in row["raw"])
    normalizer, found = play(VENUE, write(tmp_path / "s", rows[:lost] + rows[lost + 1 :], LISTED))
    assert normalizer.pipeline.counters["trades_lost"] == 1
    assert [row["symbol"] for row in of(found, "status") if row["kind"] == "trade"] == [own(name, found)]


def mark(**changes: Any) -> bytes:
    data = {
        "e": "markPriceUpdate", "E": 1597536008000, "s": "BTCUSDT", "p": "11857.56", "i": "11851.86949091",
        "P": "11784.25", "r": "0.00015640", "T": 1597564800000,
    } | changes  # fmt: skip
    kept = {key: value for key, value in data.items() if value is not None}
    return json.dumps({"stream": "btcusdt@markPrice@1s", "data": kept}).encode()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (11857.56, 11851.86949091, 0.0001564, 1597564800000_000_000)),
        ({"i": None}, (11857.56, None, 0.0001564, 1597564800000_000_000)),
        ({"r": "", "T": 0}, (11857.56, 11851.86949091, None, None)),  # dated futures
        ({"r": "0.00000000", "T": 0}, (11857.56, 11851.86949091, None, None)),
        ({"r": "0.00000000"}, (11857.56, 11851.86949091, 0.0, 1597564800000_000_000)),
    ],
)
def test_mark_price_and_funding(changes: Row, expected: tuple[Any, ...]) -> None:
    found = adapter().receive(mark(**changes), 1)[0]
    assert isinstance(found, Mark)
    assert (found.mark_price, found.index_price, found.funding_rate, found.next_funding_ts) == expected
    assert found.open_interest is None


def test_open_interest_is_asked_for_once_a_minute() -> None:
    feed, second = adapter(), 1_000_000_000
    _, wanted = feed.receive(mark(), second)
    assert isinstance(wanted, Fetch)
    assert (wanted.path, wanted.params) == ("/fapi/v1/openInterest", (("symbol", "BTCUSDT"),))
    assert len(feed.receive(mark(), 600 * second)) == 1  # the answer is still on its way
    answer = b'{"openInterest":"83782.317","symbol":"BTCUSDT","time":1702244985273}'
    assert feed.snapshot(wanted, answer, 601 * second) == []
    (found,) = feed.receive(mark(), 602 * second)
    assert isinstance(found, Mark)
    assert found.open_interest == 83782.317
    assert [type(event) for event in feed.receive(mark(), 661 * second)] == [Mark, Fetch]


def test_one_bad_item_of_many_costs_itself_alone() -> None:
    items = [json.loads(mark(s=name))["data"] for name in ("BTCUSDT", "ETHUSDT", "NOSUCH")]
    items.insert(1, {**items[0], "p": "nan"})
    frame = json.dumps({"stream": "!markPrice@arr", "data": items}).encode()
    found = adapter("BTCUSDT", "ETHUSDT").receive(frame, 1)
    assert [event.symbol for event in found if isinstance(event, Mark)] == ["BTC-USDT-PERP", "ETH-USDT-PERP"]
    assert [event.reason for event in found if isinstance(event, Skipped)] == ["unreadable item", "unknown symbol"]
    assert [peek.key for peek in BinanceFutures.peek(frame)] == ["BTCUSDT", "BTCUSDT", "ETHUSDT", "NOSUCH"]


def test_the_ticker_has_no_best_prices() -> None:
    data = {"e": "24hrTicker", "E": 1, "s": "BTCUSDT", "c": "2", "o": "1", "h": "3", "l": "0.5", "v": "10", "q": "18"}
    (found,) = adapter().receive(json.dumps({"stream": "btcusdt@ticker", "data": data}).encode(), 1)
    assert isinstance(found, Ticker)
    assert (found.last_price, found.volume, found.quote_volume, found.bid_price, found.ask_price) == (
        2, 10, 18, None, None
    )  # fmt: skip


def test_requests_are_matched_with_their_answers() -> None:
    feed = adapter()
    subs = [Subscription(kind, instrument()) for kind in ("trade", "mark")]
    (frame,) = feed.subscribe(subs)
    assert json.loads(frame) == {"method": "SUBSCRIBE", "params": ["btcusdt@aggTrade", "btcusdt@markPrice@1s"], "id": 1}
    assert feed.receive(b'{"result":null,"id":1}', 1) == [Acked(("btcusdt@aggTrade", "btcusdt@markPrice@1s"))]
    refusal = b'{"id":null,"status":400,"error":{"code":-1000,"msg":"Invalid JSON request."}}'
    (refused,) = feed.receive(refusal, 1)
    assert isinstance(refused, Refused)


@pytest.mark.parametrize(("levels", "limit", "weight"), [(3, 5, 2), (100, 100, 5), (400, 500, 10), (5000, 1000, 20)])
def test_a_book_is_asked_for_by_the_pages_there_are(levels: int, limit: int, weight: int) -> None:
    (wanted,) = adapter(levels=levels).receive(diff(10, 19, 5), 1)
    assert isinstance(wanted, Fetch)
    assert (dict(wanted.params)["limit"], wanted.weight) == (str(limit), weight)


def test_candles_for_repair() -> None:
    wanted = BinanceFutures.candles_fetch(instrument(), "1m", 60_000_000_000, 200)
    assert wanted is not None
    assert (wanted.path, wanted.weight) == ("/fapi/v1/klines", 2)
    assert BinanceFutures.candles_fetch(instrument(), "1s", 0, 5) is None


# instruments


@pytest.mark.parametrize("path", LISTS, ids=lambda path: str(path.parent.name))
def test_the_mapping_is_one_to_one(path: Path) -> None:
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    rows = BinanceFutures.parse_instruments(data)
    table = InstrumentTable(VENUE, rows)
    assert table.rejected == []
    listed = {row["symbol"]: row for row in json.loads(data)["symbols"]}
    assert table.by_key.keys() == listed.keys()
    for row in rows:
        told = {entry["filterType"]: entry for entry in listed[row.venue_symbol]["filters"]}
        assert row.tick_size == float(told["PRICE_FILTER"]["tickSize"])
        assert row.lot_size == float(told["LOT_SIZE"]["stepSize"])
        assert (row.size_unit, row.contract_size, row.settle) == ("base", 1, listed[row.venue_symbol]["marginAsset"])
    assert table.get("BTC-USDT-PERP").venue_symbol == "BTCUSDT"
    if "BTCUSDT_210924" in listed:
        assert table.by_key["BTCUSDT_210924"].symbol == "BTC-USDT-210924"
        assert table.by_key["BTCUSDT_210924"].expiry == 1632470400000 * 1_000_000
        assert table.by_key["BTCSTUSDT"].status == "pending"


# garbage

_FRAMES = [row["raw"].encode() for row in rows_of(LISTED)[1:400:7]] + [mark(), diff(10, 19, 5)]


def read(data: bytes) -> None:
    feed = adapter("BTCUSDT", "SUSHIUSDT", "AKROUSDT", "KEEPUSDT", "CTKUSDT")
    for call in (
        lambda: feed.receive(data, 1),
        lambda: BinanceFutures.parse_instruments(data),
        lambda: feed.snapshot(Fetch(resource="depth", path="", instrument=instrument()), data, 1),
        lambda: feed.snapshot(Fetch(resource="openInterest", path="", instrument=instrument()), data, 1),
        lambda: feed.snapshot(Fetch(resource="klines", path="", instrument=instrument(), interval="1m"), data, 1),
    ):
        try:
            for event in call():
                if isinstance(event, Quote | Trade):
                    assert event.ts_recv == 1
        except WireError:
            pass
    BinanceFutures.peek(data)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_cost_a_wire_error_at_most(data: bytes) -> None:
    read(data)


@given(st.sampled_from(_FRAMES), st.integers(0, 2**32))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_frames_cost_a_wire_error_at_most(frame: bytes, seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(frame)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(data))
        data[at : at + chance.randrange(3)] = chance.choice(
            [b"", b"-", b"9" * 30, b"null", b'"', b"[", b"1e400", b"\xff"]
        )
    read(bytes(data))


@pytest.mark.parametrize("frame", ["[" * 100_000, '{"stream":"btcusdt@aggTrade","data":' + "[" * 100_000])
def test_endless_nesting(frame: str) -> None:
    read(frame.encode())
