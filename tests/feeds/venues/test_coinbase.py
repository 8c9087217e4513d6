"""Coinbase: every recorded session of both feeds against a naive reading, and the venue's traps."""

import gzip
import json
import random
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.adapter import Acked, BookGap, BookUpdate, Event, Fetch, Refused, Skipped, Subscription
from feeds.venues.coinbase import Coinbase, CoinbaseExchange
from hub.errors import WireError
from hub.instruments import Instrument, InstrumentTable
from hub.model import Candle, Quote, Ticker, Trade
from tests.feeds.naive import Levels, Row, rows_of
from tests.feeds.venues.coinbase_naive import (
    NaiveBook,
    book_events,
    follow,
    frames_of,
    mutated,
    of_kind,
    play,
    played,
    sessions,
    trades_of,
)

SESSIONS = sessions()
ADVANCED = [folder for folder in SESSIONS if folder.name.startswith("advanced")]
EXCHANGE = [folder for folder in SESSIONS if folder.name.startswith("exchange")]
SHARED = SESSIONS[0].parents[4].parent / "shared" / "exchanges" / "coinbase"

each_session = pytest.mark.parametrize("folder", SESSIONS, ids=lambda folder: str(folder.name))
each_advanced = pytest.mark.parametrize("folder", ADVANCED, ids=lambda folder: str(folder.name))
each_exchange = pytest.mark.parametrize("folder", EXCHANGE, ids=lambda folder: str(folder.name))


# recorded sessions


@each_session
def test_every_trade_is_there_once_with_the_takers_side(folder: Path) -> None:
    expected = trades_of(frames_of(folder))
    found = [row for row in played(folder)[1] if row["type"] == "trade"]
    assert [(r["symbol"], r["price"], r["size"], r["side"], r["trade_id"]) for r in found] == expected
    assert len(expected) > 10
    times = [row["ts_event"] - row["ts_recv"] for row in found]
    assert max(map(abs, times)) < 5_000_000_000


@each_session
def test_books_equal_naive_ones_level_for_level(folder: Path) -> None:
    chance = random.Random(folder.name)
    ours = of_kind(played(folder)[1], "book")
    naive: dict[str, NaiveBook] = {}
    mine: dict[str, tuple[Levels, Levels]] = defaultdict(lambda: ({}, {}))
    told: dict[str, int] = defaultdict(int)
    compared = 0
    for row in rows_of(folder):
        for product, snapshot, levels in book_events(json.loads(row["raw"])) if "dir" not in row else ():
            if snapshot:
                naive[product] = NaiveBook()
            if product not in naive:
                continue
            for level in levels:
                naive[product].set(*level)
            bids, asks = mine[product]
            waiting = ours[product][told[product] : told[product] + 1]
            if waiting and waiting[0]["ts_recv"] == round(row["t"] * 1e6) * 1000:
                assert (waiting[0]["action"] == "snapshot") is snapshot
                follow(bids, asks, waiting[0])
                told[product] += 1
            else:  # nothing of it lies within the levels that are kept
                worst = {"bid": min(bids), "offer": -max(asks)}
                assert all(Decimal(price) * (1 if side == "bid" else -1) < worst[side] for side, price, _ in levels)
            if chance.random() < 0.15 or snapshot:
                whole = naive[product]
                worst_bid, worst_ask = min(bids, default=Decimal(0)), max(asks, default=Decimal(0))
                assert bids == {price: size for price, size in whole.bids.items() if price >= worst_bid}
                assert asks == {price: size for price, size in whole.asks.items() if price <= worst_ask}
                assert len(bids) >= min(len(whole.bids), 4500) and len(asks) >= min(len(whole.asks), 4500)
                compared += 1
    assert {product: len(rows) for product, rows in ours.items()} == told
    assert compared > 10


@each_session
def test_quotes_are_the_top_of_the_book_once_there_is_one(folder: Path) -> None:
    books: dict[str, tuple[Levels, Levels]] = defaultdict(lambda: ({}, {}))
    seen = 0
    for row in played(folder)[1]:
        bids, asks = books[row["symbol"]]
        if row["type"] == "book":
            follow(bids, asks, row)
        elif row["type"] == "quote" and bids:
            best = max(bids), bids[max(bids)], min(asks), asks[min(asks)]
            assert tuple(row[name] for name in ("bid", "bid_size", "ask", "ask_size")) == best
            seen += 1
    assert seen > 10


@each_session
def test_tickers_say_what_the_venue_says(folder: Path) -> None:
    expected: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for frame in frames_of(folder):
        if frame.get("channel") == "ticker":
            for item in (item for event in frame["events"] for item in event["tickers"]):
                names = ("price", "high_24_h", "low_24_h", "volume_24_h", "best_bid", "best_ask")
                expected[item["product_id"]].append((*(Decimal(item[name]) for name in names), None))
        elif frame.get("type") == "ticker":
            told = ("price", "high_24h", "low_24h", "volume_24h", "best_bid", "best_ask", "open_24h")
            expected[frame["product_id"]].append(tuple(Decimal(frame[name]) for name in told))
    fields = ("last_price", "high_price", "low_price", "volume", "bid_price", "ask_price", "open_price")
    found = of_kind(played(folder)[1], "ticker")
    assert {name: [tuple(row[field] for field in fields) for row in rows] for name, rows in found.items()} == expected


@each_session
def test_nothing_is_called_wrong_that_is_not(folder: Path) -> None:
    normalizer, found = played(folder)
    statuses = of_kind(found, "status")
    assert {symbol: [row["state"] for row in rows] for symbol, rows in statuses.items()} == {
        symbol: ["live"] for symbol in of_kind(found, "book")
    }
    counted = normalizer.pipeline.counters.keys()
    assert not {"wire_errors", "resyncs", "trades_lost", "trades_repeated", "skipped_repeated"} & counted


@each_session
def test_venue_text_and_float_are_the_same_number(folder: Path) -> None:
    texts: set[str] = set()
    for frame in frames_of(folder):
        texts.update(text for _, _, levels in book_events(frame) for _, *numbers in levels for text in numbers)
    assert len(texts) > 100
    assert [text for text in texts if Decimal(text) != Decimal(repr(float(text)))] == []


@each_session
def test_without_a_list_the_venues_spelling_is_the_symbol(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ws.jsonl.gz").write_bytes((folder / "ws.jsonl.gz").read_bytes())
    normalizer, found = play(tmp_path)
    assert "no list of instruments" in normalizer.warnings[0]
    assert of_kind(found, "trade") == of_kind(played(folder)[1], "trade")  # the spelling is canonical here


# messages that are lost, repeated, swapped


def books_lost(found: list[Row]) -> dict[str, int]:
    """Return symbol -> place of its first `resyncing`."""
    result: dict[str, int] = {}
    for place, row in enumerate(found):
        if row["type"] == "status" and row["state"] == "resyncing":
            result.setdefault(row["symbol"], place)
    return result


def places(folder: Path, channel: str, kind: str = "update") -> list[int]:
    return [
        number
        for number, row in enumerate(rows_of(folder))
        if "dir" not in row and f'"channel":"{channel}"' in row["raw"][:60] and f'"type":"{kind}"' in row["raw"][:200]
    ]


def check_every_book_ended(found: list[Row], folder: Path) -> None:
    lost = books_lost(found)
    assert lost.keys() == of_kind(played(folder)[1], "book").keys()
    for symbol, place in lost.items():
        after = [row["type"] for row in found[place:] if row["symbol"] == symbol]
        assert not {"book", "depth", "quote"} & set(after)


@each_advanced
def test_connections_beside_each_other_count_each_on_its_own(folder: Path, tmp_path: Path) -> None:
    """A recording of two connections to one endpoint, a product on each."""

    def product(event: Row) -> str | None:
        items = event.get("trades") or event.get("tickers") or [event]
        name: str | None = items[0].get("product_id")
        return name

    opened = next(row for row in rows_of(folder) if row.get("dir") == "open")
    rows: list[Row] = [opened, opened]
    numbers = [0, 0]
    for row in rows_of(folder):
        frame = json.loads(row["raw"]) if "dir" not in row else {"events": []}
        for on, name in enumerate(("BTC-USD", "ETH-USD")):
            events = [event for event in frame["events"] if product(event) in (None, name)]
            if events:
                text = json.dumps({**frame, "sequence_num": numbers[on], "events": events})
                rows.append({"t": row["t"], "raw": text, "on": on})
                numbers[on] += 1
    assert min(numbers) > 50
    normalizer, found = mutated(tmp_path / "s", rows, folder)
    for kind in ("book", "trade", "quote", "status"):
        assert of_kind(found, kind) == of_kind(played(folder)[1], kind)
    assert not {"resyncs", "skipped_repeated", "trades_lost"} & normalizer.pipeline.counters.keys()


@each_advanced
@pytest.mark.parametrize("channel", ["l2_data", "market_trades", "heartbeats"])
def test_a_missing_number_makes_every_book_suspect(folder: Path, channel: str, tmp_path: Path) -> None:
    """`sequence_num` counts all messages: nobody knows what the missing one was about."""
    rows = rows_of(folder)
    last_snapshot = places(folder, "l2_data", "snapshot")[-1]
    names = [n for n, r in enumerate(rows) if n > last_snapshot and f'"channel":"{channel}"' in r["raw"][:60]]
    lost = names[len(names) // 3]
    normalizer, found = mutated(tmp_path / "s", rows[:lost] + rows[lost + 1 :], folder)
    check_every_book_ended(found, folder)
    number = json.loads(rows[lost]["raw"])["sequence_num"]
    (reason,) = {found[place]["reason"] for place in books_lost(found).values()}
    assert reason == f"sequence gap: expected {number}, received {number + 1}"
    if channel == "market_trades":
        assert normalizer.pipeline.counters["trades_lost"] > 0


@each_advanced
def test_repeated_messages_change_nothing(folder: Path, tmp_path: Path) -> None:
    rows = rows_of(folder)
    chosen = set(places(folder, "l2_data")[5::9] + places(folder, "market_trades")[::3])
    longer: list[Row] = []
    for number, row in enumerate(rows):
        longer.append(row)
        if number in chosen:
            longer += [{**row, "t": row["t"]}, {**rows[number - 3], "t": row["t"]}]
    _, found = mutated(tmp_path / "s", longer, folder)
    for kind in ("book", "trade", "ticker", "status"):
        assert of_kind(found, kind) == of_kind(played(folder)[1], kind)


@each_advanced
def test_swapped_messages_are_a_gap_and_never_a_wrong_book(folder: Path, tmp_path: Path) -> None:
    rows = list(rows_of(folder))
    numbers = places(folder, "l2_data")
    one = numbers[len(numbers) // 2]
    rows[one], rows[one + 1] = {**rows[one + 1], "t": rows[one]["t"]}, {**rows[one], "t": rows[one + 1]["t"]}
    check_every_book_ended(mutated(tmp_path / "s", rows, folder)[1], folder)


@each_advanced
def test_a_snapshot_makes_a_lost_book_whole_again(folder: Path, tmp_path: Path) -> None:
    rows = list(rows_of(folder))
    numbers = places(folder, "l2_data")
    lost, at = numbers[len(numbers) // 3], numbers[len(numbers) // 2]
    snapshot = rows[places(folder, "l2_data", "snapshot")[-1]]
    product = json.loads(snapshot["raw"])["events"][0]["product_id"]
    book = NaiveBook()
    for row in rows[: at + 1]:
        for name, _, levels in book_events(json.loads(row["raw"])) if "dir" not in row else ():
            for level in levels if name == product else ():
                book.set(*level)
    updates = [
        {"side": side, "event_time": "2026-08-09T21:05:50Z", "price_level": str(price), "new_quantity": str(size)}
        for side, levels in (("bid", book.bids), ("offer", book.asks))
        for price, size in levels.items()
    ]
    frame = json.loads(rows[at]["raw"])
    frame["events"] = [{"type": "snapshot", "product_id": product, "updates": updates}]
    again = {"t": rows[at]["t"], "raw": json.dumps(frame)}
    _, found = mutated(tmp_path / "s", [*rows[:lost], *rows[lost + 1 : at], again, *rows[at + 1 :]], folder)
    states = [row["state"] for row in of_kind(found, "status")[product]]
    assert states == ["live", "resyncing", "live"]
    mine: tuple[Levels, Levels] = ({}, {})
    whole: tuple[Levels, Levels] = ({}, {})
    for sides, messages in ((mine, found), (whole, played(folder)[1])):
        for message in of_kind(messages, "book")[product]:
            follow(*sides, message)
    assert sorted(mine[0].items())[-1000:] == sorted(whole[0].items())[-1000:]
    assert sorted(mine[1].items())[:1000] == sorted(whole[1].items())[:1000]


@each_exchange
def test_a_book_message_from_before_ends_that_book_alone(folder: Path, tmp_path: Path) -> None:
    """The Exchange feed numbers no book message; the time of a product's changes never goes back."""
    rows = list(rows_of(folder))
    numbers = [n for n, r in enumerate(rows) if "dir" not in r and '"l2update"' in r["raw"][:30]]
    at = numbers[len(numbers) // 2]
    frame = json.loads(rows[at]["raw"])
    old = next(
        row for row in (rows[number] for number in reversed(numbers[: len(numbers) // 2]))
        if json.loads(row["raw"])["product_id"] == frame["product_id"]
        and json.loads(row["raw"])["time"] < frame["time"]
    )  # fmt: skip
    rows.insert(at + 1, {**old, "t": rows[at]["t"]})
    _, found = mutated(tmp_path / "s", rows, folder)
    assert books_lost(found).keys() == {frame["product_id"]}
    assert of_kind(found, "trade") == of_kind(played(folder)[1], "trade")


@each_exchange
@pytest.mark.parametrize("part", [0.3, 0.5, 0.95])
def test_a_book_message_that_was_cut_is_a_lost_one(folder: Path, part: float, tmp_path: Path) -> None:
    """The Exchange feed numbers no book message: nothing after it would tell that one is missing."""
    rows = list(rows_of(folder))
    at = [n for n, r in enumerate(rows) if "dir" not in r and '"l2update"' in r["raw"][:30]][50]
    text = rows[at]["raw"]
    product = json.loads(text)["product_id"]
    rows[at] = {**rows[at], "raw": text[: int(len(text) * part)]}
    _, found = mutated(tmp_path / "s", rows, folder)
    lost = books_lost(found)
    # Where the name of the product was cut away, every book may be the one.
    every = of_kind(found, "book").keys()
    assert lost.keys() == ({product} if f'"{product}"' in rows[at]["raw"] else every)
    for symbol, place in lost.items():
        assert not [row for row in found[place:] if row["type"] == "book" and row["symbol"] == symbol]
    assert of_kind(found, "trade") == of_kind(played(folder)[1], "trade")


@each_session
def test_the_first_trade_after_the_subscription_cannot_be_lost_unseen(folder: Path, tmp_path: Path) -> None:
    """What was told of the trades before it names its predecessor."""
    rows = list(rows_of(folder))
    first = trades_of(frames_of(folder))[0]
    words = f'"trade_id":"{first[-1]}"', f'"trade_id":{first[-1]},'
    at = next(n for n, r in enumerate(rows) if "dir" not in r and any(word in r["raw"] for word in words))
    del rows[at]
    normalizer, found = mutated(tmp_path / "s", rows, folder)
    notes = [row["reason"] for row in of_kind(found, "status")[first[0]] if row["kind"] == "trade"]
    assert f"ids {first[-1]} to" in notes[0]
    assert normalizer.pipeline.counters["trades_lost"] >= 1


def test_a_heartbeat_names_a_trade_that_must_have_come_by_the_next(tmp_path: Path) -> None:
    def beat(number: int) -> Row:
        return {"type": "heartbeat", "product_id": "BTC-USD", "last_trade_id": number, "sequence": 1, "time": TIME}

    def match(number: int, kind: str = "match") -> Row:
        return {"type": kind, **trade(number), "trade_id": number}

    TIME = "2026-08-09T21:05:48.1Z"
    frames = [beat(6), match(7, "last_match"), beat(7), beat(8), match(8), beat(8), beat(10), beat(10), match(11)]
    rows = [{"t": 1_786_309_548.0 + number, "raw": json.dumps(row)} for number, row in enumerate(frames)]
    normalizer, found = mutated(tmp_path / "s", rows, tmp_path)
    notes = [row["reason"] for row in of_kind(found, "status")["BTC-USD"]]
    assert notes == ["2 trades lost, ids 9 to 10"]
    assert normalizer.pipeline.counters["trades_lost"] == 2
    # Where no trade is subscribed to, none can be missing.
    adapter = CoinbaseExchange([BTC])
    assert given_frames(adapter, *(json.dumps(beat(number)).encode() for number in (1, 5, 9))) == []


def test_trades_that_a_reconnect_missed_are_told_with_those_a_heartbeat_shows(tmp_path: Path) -> None:
    def match(number: int, kind: str = "match") -> Row:
        return {"type": kind, **trade(number), "trade_id": number}

    beats = [{"type": "heartbeat", "product_id": "BTC-USD", "last_trade_id": 9, "time": ""}] * 2
    before = [json.dumps(match(number)) for number in (1, 2)]
    after = [json.dumps(row) for row in (match(6, "last_match"), *beats, match(10))]
    rows = [{"t": 1_786_309_548.0 + number, "raw": raw} for number, raw in enumerate([*before, *after])]
    rows.insert(2, {"t": 1_786_309_549.5, "dir": "open", "raw": "wss://ws-feed.exchange.coinbase.com"})
    _, found = mutated(tmp_path / "s", rows, tmp_path)
    assert [row["reason"] for row in found if row["type"] == "status" and row["kind"] == "trade"] == [
        "7 trades lost, ids 3 to 9"
    ]
    assert [row["trade_id"] for row in of_kind(found, "trade")["BTC-USD"]] == ["1", "2", "10"]


@pytest.mark.parametrize("price", ["0", "-1.5"])
def test_a_price_is_above_zero(price: str) -> None:
    adapter = Coinbase([BTC])
    given_frames(adapter, frame("l2_data", 0, book("BTC-USD", "snapshot", ("bid", "1", "1"), ("offer", "2", "1"))))
    lost = adapter.receive(frame("l2_data", 1, book("BTC-USD", "update", ("bid", price, "1"))), 2)
    assert kinds(lost) == [BookGap, Skipped]
    with pytest.raises(WireError):
        adapter.receive(frame("market_trades", 2, {"type": "update", "trades": [trade(1, price=price)]}), 3)


def test_an_exchange_ticker_from_before_is_not_told() -> None:
    times = ("2026-08-09T21:05:48.2Z", "2026-08-09T21:05:48.1Z", "2026-08-09T21:05:48.2Z")
    rows = [{"type": "ticker", "product_id": "BTC-USD", "price": "1", "time": time} for time in times]
    events = given_frames(CoinbaseExchange([BTC]), *(json.dumps(row).encode() for row in rows))
    assert kinds(events) == [Ticker, Skipped, Ticker]


@pytest.mark.parametrize("spelling", [{"trade_id": 7}, {"side": None}, {"price": 10.5, "size": 0.25}])
def test_spellings_of_a_trade(spelling: Row) -> None:
    (event,) = Coinbase([BTC]).receive(
        frame("market_trades", 0, {"type": "update", "trades": [trade(7, **spelling)]}), 1
    )
    assert isinstance(event, Trade)
    expected = ("7", 10.5, 0.25, None if "side" in spelling else "buy")
    assert (event.trade_id, event.price, event.size, event.side) == expected


@each_session
def test_garbage_between_the_frames_changes_nothing(folder: Path, tmp_path: Path) -> None:
    chance = random.Random(1)
    rows = list(rows_of(folder))
    wrong = [
        "",
        "{",
        "[]",
        "null",
        "7",
        '{"channel":',
        '{"type":"match"}',
        '{"channel":"ticker"}',
        '{"a":[[[[',
        "x" * 999,
    ]
    for text in wrong * 3:
        rows.insert(chance.randrange(5, len(rows)), {"t": None, "raw": text})
    for number, row in enumerate(rows):
        if row["t"] is None:
            row["t"] = rows[number - 1]["t"]
    normalizer, found = mutated(tmp_path / "s", rows, folder)
    for kind in ("book", "trade", "ticker"):
        assert of_kind(found, kind) == of_kind(played(folder)[1], kind)
    assert normalizer.pipeline.counters["wire_errors"] >= len(wrong)


# one adapter by hand


def spot(base: str, quote: str, alias_of: str = "", **more: Any) -> Instrument:
    name = f"{base}-{quote}"
    return Instrument(
        venue="coinbase", venue_symbol=name, symbol=name, kind="spot", base=base, quote=quote, alias_of=alias_of, **more
    )


BTC, ETH, USDC = spot("BTC", "USD"), spot("ETH", "USD"), spot("BTC", "USDC", "BTC-USD")


def frame(channel: str, number: int, *events: Any) -> bytes:
    row = {"channel": channel, "timestamp": "2026-08-09T21:05:48.228568804Z", "sequence_num": number}
    return json.dumps({**row, "events": events}).encode()


def book(product: str, kind: str, *levels: tuple[str, str, str]) -> Row:
    updates = [{"side": s, "event_time": "", "price_level": p, "new_quantity": q} for s, p, q in levels]
    return {"type": kind, "product_id": product, "updates": updates}


def trade(number: int, product: str = "BTC-USD", **more: Any) -> Row:
    row = {"trade_id": str(number), "product_id": product, "price": "10.5", "size": "0.25", "side": "SELL"}
    return {**row, "time": "2026-08-09T21:05:48.1Z", **more}


def given_frames(adapter: Coinbase, *frames: bytes) -> list[Event | Fetch]:
    return [event for number, payload in enumerate(frames) for event in adapter.receive(payload, number + 1)]


def kinds(events: list[Event | Fetch]) -> list[type]:
    return [type(event) for event in events]


@pytest.mark.parametrize(
    ("payload", "side"),
    [
        (frame("market_trades", 0, {"type": "update", "trades": [trade(1, side="SELL")]}), "buy"),
        (frame("market_trades", 0, {"type": "update", "trades": [trade(1, side="BUY")]}), "sell"),
        (frame("market_trades", 0, {"type": "update", "trades": [trade(1, side="UNKNOWN_ORDER_SIDE")]}), None),
        (json.dumps({"type": "match", **trade(1), "trade_id": 1, "side": "sell"}).encode(), "buy"),
        (json.dumps({"type": "match", **trade(1), "trade_id": 1, "side": "buy"}).encode(), "sell"),
    ],
)
def test_three_conventions_of_a_side(payload: bytes, side: str | None) -> None:
    """The maker's in `market_trades` and `match`; the taker's in the Exchange ticker, which makes no trade."""
    (event,) = Coinbase([BTC]).receive(payload, 1)
    assert isinstance(event, Trade)
    assert (event.side, event.trade_id, event.price, event.size) == (side, "1", 10.5, 0.25)


def test_the_exchange_ticker_is_no_trade() -> None:
    row = {"type": "ticker", "product_id": "BTC-USD", "price": "10.5", "side": "buy", "trade_id": 1, "last_size": "1"}
    quote = {"best_bid": "10.4", "best_ask": "10.6", "best_bid_size": "2"}
    assert kinds(Coinbase([BTC]).receive(json.dumps(row).encode(), 1)) == [Ticker]
    ticker, best = Coinbase([BTC]).receive(json.dumps({**row, **quote}).encode(), 1)
    assert isinstance(ticker, Ticker) and ticker.volume is None
    assert isinstance(best, Quote) and (best.bid, best.bid_size, best.ask, best.ask_size) == (10.4, 2.0, 10.6, None)


@pytest.mark.parametrize(
    "payload",
    [
        frame("market_trades", 0, {"type": "snapshot", "trades": [trade(2), trade(1)]}),
        json.dumps({"type": "last_match", **trade(1), "trade_id": 1}).encode(),
    ],
)
def test_trades_from_before_the_subscription_are_no_new_ones(payload: bytes) -> None:
    assert kinds(Coinbase([BTC]).receive(payload, 1)) == [Skipped]


def test_trades_come_newest_first_and_leave_oldest_first() -> None:
    payload = frame("market_trades", 0, {"type": "update", "trades": [trade(n) for n in (101, 100, 99)]})
    assert [e.trade_id for e in Coinbase([BTC]).receive(payload, 1) if isinstance(e, Trade)] == ["99", "100", "101"]


def test_one_bad_trade_costs_itself() -> None:
    items = [trade(3), trade(2, price="nan"), trade(1, time="never"), trade(4, "NO-SUCH")]
    adapter = Coinbase([BTC])
    events = adapter.receive(frame("market_trades", 0, {"type": "update", "trades": items}), 1)
    assert [event.trade_id for event in events if isinstance(event, Trade)] == ["3"]
    assert sorted(e.reason for e in events if isinstance(e, Skipped)) == ["unknown symbol"] + ["unreadable trade"] * 2
    assert kinds(adapter.receive(frame("heartbeats", 1), 2)) == []


def test_an_empty_number_in_a_ticker_is_absent() -> None:
    item = {"product_id": "BTC-USD", "price": "10.5", "best_bid": "", "best_ask": "", "volume_24_h": "3"}
    (ticker,) = Coinbase([BTC]).receive(frame("ticker", 0, {"type": "update", "tickers": [item]}), 1)
    assert isinstance(ticker, Ticker)
    assert (ticker.last_price, ticker.volume, ticker.bid_price, ticker.high_price) == (10.5, 3.0, None, None)


def test_bids_and_offers_best_first_the_later_of_one_price() -> None:
    levels = [("offer", "3", "1"), ("bid", "1", "1"), ("bid", "2", "5"), ("offer", "2.5", "0"), ("bid", "2", "7")]
    adapter = Coinbase([BTC])
    (first,) = adapter.receive(frame("l2_data", 0, book("BTC-USD", "snapshot", *levels)), 1)
    assert isinstance(first, BookUpdate) and first.snapshot and first.bids_complete and first.asks_complete
    assert (first.bids, first.asks) == ([(2.0, 7.0), (1.0, 1.0)], [(2.5, 0.0), (3.0, 1.0)])
    assert first.ts_event == 1_786_309_548_228_568_804


def test_one_unreadable_book_costs_one_book() -> None:
    adapter = Coinbase([BTC, ETH])
    snapshots = [book(name, "snapshot", ("bid", "1", "1"), ("offer", "2", "1")) for name in ("BTC-USD", "ETH-USD")]
    given_frames(adapter, frame("l2_data", 0, *snapshots))
    bad = book("BTC-USD", "update", ("bid", "1", "-1"))
    events = adapter.receive(frame("l2_data", 1, bad, book("ETH-USD", "update", ("bid", "1.5", "1"))), 2)
    assert [e.instrument.symbol for e in events if isinstance(e, BookGap)] == ["BTC-USD"]
    assert [e.instrument.symbol for e in events if isinstance(e, BookUpdate)] == ["ETH-USD"]
    assert kinds(adapter.receive(frame("l2_data", 2, book("BTC-USD", "update", ("bid", "1", "1"))), 3)) == [Skipped]


def test_a_lost_book_is_asked_for_once_until_it_comes_or_is_overdue() -> None:
    adapter = Coinbase([BTC])
    snapshot = book("BTC-USD", "snapshot", ("bid", "1", "1"), ("offer", "2", "1"))
    given_frames(adapter, frame("l2_data", 0, snapshot))
    assert kinds(adapter.receive(frame("heartbeats", 2), 2)) == [BookGap]
    assert [json.loads(bytes(f)) for f in adapter.resync(BTC) if isinstance(f, bytes)] == [
        {"type": verb, "product_ids": ["BTC-USD"], "channel": "level2"} for verb in ("unsubscribe", "subscribe")
    ]
    assert adapter.resync(BTC) == []
    assert adapter.receive(frame("heartbeats", 3), 10_000_000_000) == []
    assert kinds(adapter.receive(frame("heartbeats", 4), 20_000_000_000)) == [BookGap]
    assert len(adapter.resync(BTC)) == 2
    assert kinds(adapter.receive(frame("l2_data", 5, snapshot), 20_500_000_000)) == [BookUpdate]
    assert adapter.receive(frame("heartbeats", 6), 90_000_000_000) == []


def test_a_connection_that_counts_anew_is_noticed() -> None:
    adapter = Coinbase([BTC])
    snapshot = book("BTC-USD", "snapshot", ("bid", "1", "1"), ("offer", "2", "1"))
    given_frames(adapter, frame("l2_data", 0, snapshot), *(frame("heartbeats", n) for n in range(1, 50)))
    events = given_frames(adapter, *(frame("heartbeats", n) for n in (7, 8, 9, 10, 11)))
    assert kinds(events) == [Skipped, Skipped, BookGap]


def test_a_usdc_product_is_the_usd_one() -> None:
    """ "subscribe BTC-USDC and receive product_id BTC-USD" """
    adapter = Coinbase([BTC, USDC])
    subs = [Subscription("book", row) for row in (BTC, USDC)]
    requests = [json.loads(bytes(f)) for f in adapter.subscribe(subs)]
    assert requests == [
        {"type": "subscribe", "channel": "heartbeats"},
        {"type": "subscribe", "product_ids": ["BTC-USD"], "channel": "level2"},
    ]
    events = given_frames(
        adapter,
        frame("l2_data", 0, book("BTC-USD", "snapshot", ("bid", "1", "1"), ("offer", "2", "1"))),
        frame("market_trades", 1, {"type": "update", "trades": [trade(1)]}),
    )
    assert [e.instrument.symbol for e in events if isinstance(e, BookUpdate)] == ["BTC-USD", "BTC-USDC"]
    assert [e.symbol for e in events if isinstance(e, Trade)] == ["BTC-USD", "BTC-USDC"]
    alone = Coinbase([USDC]).receive(frame("market_trades", 0, {"type": "update", "trades": [trade(1)]}), 1)
    assert [e.symbol for e in alone if isinstance(e, Trade)] == ["BTC-USDC"]


@pytest.mark.parametrize("adapter", [Coinbase([BTC]), CoinbaseExchange([BTC])])
def test_products_are_learnt_unless_their_snapshot_has_come_for_another(adapter: Coinbase) -> None:
    assert not adapter.learn([USDC])
    assert adapter.learn([ETH])
    requests = [json.loads(bytes(each)) for each in adapter.subscribe([Subscription("trade", ETH)])]
    assert any("ETH-USD" in request.get("product_ids", []) for request in requests)
    payload = frame("market_trades", 0, {"type": "update", "trades": [trade(1, "ETH-USD"), trade(2)]})
    assert sorted(e.symbol for e in adapter.receive(payload, 1) if isinstance(e, Trade)) == ["BTC-USD", "ETH-USD"]


def test_answers_name_all_channels_so_far_and_are_told_once() -> None:
    adapter = Coinbase([BTC, ETH])
    one = {"subscriptions": {"market_trades": ["BTC-USD"]}}
    two = {"subscriptions": {"heartbeats": ["heartbeats"], "market_trades": ["BTC-USD"], "level2": ["ETH-USD"]}}
    assert adapter.receive(frame("subscriptions", 0, one), 1) == [Acked(("market_trades:BTC-USD",))]
    assert adapter.receive(frame("subscriptions", 1, two), 2) == [Acked(("level2:ETH-USD",))]
    assert adapter.receive(frame("subscriptions", 2, two), 3) == []
    adapter.unsubscribe([Subscription("book", ETH)])
    assert adapter.receive(frame("subscriptions", 3, two), 4) == [Acked(("level2:ETH-USD",))]


def test_errors_are_refusals() -> None:
    adapter = CoinbaseExchange([BTC, ETH])
    adapter.subscribe([Subscription("trade", BTC), Subscription("trade", ETH)])
    error = {"type": "error", "message": "Failed to subscribe", "reason": "ETH-USD is not a valid product"}
    text = "Failed to subscribe: ETH-USD is not a valid product"
    assert adapter.receive(json.dumps(error).encode(), 1) == [Refused(("matches:ETH-USD",), text)]
    assert Coinbase([BTC]).receive(b'{"type":"error","message":"authentication failure"}', 1) == [
        Refused((), "authentication failure")
    ]


def test_the_exchange_feed_asks_for_channels_without_a_login() -> None:
    adapter = CoinbaseExchange([BTC])
    kinds_of = ("trade", "book", "ticker")
    requests = [json.loads(bytes(f)) for f in adapter.subscribe([Subscription(kind, BTC) for kind in kinds_of])]
    assert [row["channels"] for row in requests] == [["matches"], ["level2_batch"], ["ticker"], ["heartbeat"]]
    assert {tuple(row["product_ids"]) for row in requests} == {("BTC-USD",)}
    answer = {"type": "subscriptions", "channels": [{"name": "level2_50", "product_ids": ["BTC-USD"]}]}
    assert adapter.receive(json.dumps(answer).encode(), 1) == [Acked(("level2_batch:BTC-USD",))]


def test_a_zero_time_is_none() -> None:
    snapshot = {"type": "snapshot", "product_id": "BTC-USD", "bids": [["1", "1"]], "asks": [["2", "1"]]}
    change = {"type": "l2update", "product_id": "BTC-USD", "changes": [["buy", "1.5", "3"]]}
    events = given_frames(
        Coinbase([BTC]),
        json.dumps(snapshot).encode(),
        json.dumps({**change, "time": "0001-01-01T00:00:00.000000Z"}).encode(),
    )
    assert [(e.ts_event, e.bids) for e in events if isinstance(e, BookUpdate)] == [
        (None, [(1.0, 1.0)]), (None, [(1.5, 3.0)])
    ]  # fmt: skip


def test_contracts_become_base_units() -> None:
    row = Instrument(
        venue="coinbase", venue_symbol="BIP-20DEC30-CDE", symbol="BTC-USD-301220", kind="future", base="BTC",
        quote="USD", contract_size=0.01,
    )  # fmt: skip
    name = row.venue_symbol
    events = given_frames(
        Coinbase([row]),
        frame("l2_data", 0, book(name, "snapshot", ("bid", "1", "7"), ("offer", "2", "0"))),
        frame("market_trades", 1, {"type": "update", "trades": [trade(1, name, size="29")]}),
    )
    assert isinstance(events[0], BookUpdate) and events[0].bids == [(1.0, 0.07)]
    assert isinstance(events[1], Trade) and events[1].size == 0.29


def test_a_snapshot_of_many_megabytes_is_read() -> None:
    assert Coinbase.limits.max_frame_bytes >= 64 * 1024 * 1024
    levels = [("bid", f"{n / 100:.2f}", "1.5") for n in range(1, 62_000)]
    payload = frame("l2_data", 0, book("BTC-USD", "snapshot", *levels))
    assert len(payload) > 5_000_000
    (event,) = Coinbase([BTC]).receive(payload, 1)
    assert isinstance(event, BookUpdate) and len(event.bids) == 61_999


# REST


def instruments() -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for folder in [*SESSIONS, *(SHARED / name for name in ("nautilus_rest", "xchange_rest"))]:
        for file in sorted(folder.glob("*products*.json*")):
            data = file.read_bytes()
            body = gzip.decompress(data) if file.suffix == ".gz" else data
            found.append((f"{folder.name}-{file.name}", body))
    return found


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in instruments()])
def test_instruments_map_one_to_one(body: bytes) -> None:
    rows = Coinbase.parse_instruments(body)
    table = InstrumentTable("coinbase", rows)
    listed = json.loads(body)
    raw = {
        row.get("product_id") or row["id"]: row for row in (listed if isinstance(listed, list) else listed["products"])
    }
    assert table.rejected == [] and len(table) == len(raw)
    for row in table:
        told = raw[row.venue_symbol]
        tick = told.get("price_increment") or told.get("quote_increment")
        assert row.tick_size == float(tick)
        if row.kind == "spot":
            assert row.symbol == row.venue_symbol
            assert row.alias_of == told.get("alias", "")
            assert row.lot_size == (float(told["base_increment"]) if "base_increment" in told else None)


def test_futures_and_perpetuals_are_told_apart() -> None:
    def product(name: str, **details: str) -> Row:
        row = {"product_id": name, "quote_currency_id": "USD", "price_increment": "5", "base_increment": "1"}
        return {**row, "product_type": "FUTURE", "future_product_details": {"contract_root_unit": "BTC", **details}}

    expiry = "2026-04-24T15:00:00Z"
    listed = [
        product("BTC-PERP-INTX", contract_expiry_type="PERPETUAL", contract_size="1"),
        product("BIT-24APR26-CDE", contract_expiry_type="EXPIRING", contract_size="0.01", contract_expiry=expiry),
    ]
    rows = Coinbase.parse_instruments(json.dumps({"products": listed}).encode())
    assert [(row.kind, row.symbol, row.contract_size, row.lot_size) for row in rows] == [
        ("perpetual", "BTC-USD-PERP", 1.0, 1.0), ("future", "BTC-USD-260424", 0.01, 0.01)
    ]  # fmt: skip
    big = product("BTI-24APR26-CDE", contract_expiry_type="EXPIRING", contract_size="1", contract_expiry=expiry)
    rows = Coinbase.parse_instruments(json.dumps({"products": [*listed, big]}).encode())
    assert [row.symbol for row in rows] == ["BTC-USD-PERP", "BIT-USD-260424", "BTI-USD-260424"]


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        ({}, "trading"), ({"status": "delisted", "trading_disabled": True}, "delisted"),
        ({"limit_only": True}, "limit_only"),
        ({"trading_disabled": True}, "halted"), ({"is_disabled": True}, "halted"), ({"auction_mode": True}, "auction"),
        ({"cancel_only": True}, "cancel_only"), ({"status": ""}, "trading"),
    ],
)  # fmt: skip
def test_status(flags: Row, status: str) -> None:
    row = {"product_id": "BTC-USD", "base_currency_id": "BTC", "quote_currency_id": "USD", "status": "online", **flags}
    assert Coinbase.parse_instruments(json.dumps({"products": [row]}).encode())[0].status == status


@pytest.mark.parametrize(
    ("adapter", "body"),
    [
        (Coinbase, {"candles": [
            {"start": "120", "low": "1", "high": "4", "open": "2", "close": "3", "volume": "5.5"},
            {"start": "60", "low": "1", "high": "4", "open": "2", "close": "2", "volume": "0.5"},
        ]}),
        (CoinbaseExchange, [[120, 1, 4, 2, 3, 5.5], [60, 1, 4, 2, 2, 0.5]]),
    ],
)  # fmt: skip
def test_candles_of_rest(adapter: type[Coinbase], body: Any) -> None:
    """Newest first; low before high before open before close."""
    fetch = adapter.candles_fetch(BTC, "1m", 60_000_000_000, 2)
    assert fetch is not None
    assert ("start", "60") in fetch.params and ("end", "120") in fetch.params
    assert adapter.resource_of(f"https://x{fetch.path}?granularity=60") == ("candles", "BTC-USD")
    encoded = json.dumps(body).encode()
    rows = adapter([BTC]).snapshot(fetch, encoded, 10**12)
    assert [(r.start, r.open, r.high, r.low, r.close, r.volume, r.trades) for r in rows if isinstance(r, Candle)] == [
        (60_000_000_000, 2.0, 4.0, 1.0, 2.0, 0.5, None), (120_000_000_000, 2.0, 4.0, 1.0, 3.0, 5.5, None)
    ]  # fmt: skip
    assert len(adapter([BTC]).snapshot(fetch, encoded, 150_000_000_000)) == 1  # the other is still open


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.coinbase.com/api/v3/brokerage/market/products?product_type=SPOT", ("products", "")),
        ("https://api.pro.coinbase.com/products", ("products", "")),
        ("https://api.exchange.coinbase.com/products/BTC-USD/book?level=2", ("book", "BTC-USD")),
        ("/api/v3/brokerage/market/product_book?product_id=BTC-USD", ("product_book", "BTC-USD")),
    ],
)
def test_resources(url: str, expected: tuple[str, str]) -> None:
    assert Coinbase.resource_of(url) == expected


# anything at all


WHOLE = [
    frame("l2_data", 0, book("BTC-USD", "snapshot", ("bid", "1", "1"), ("offer", "2", "1"))),
    frame("l2_data", 1, book("BTC-USD", "update", ("bid", "1", "0"))),
    frame("market_trades", 2, {"type": "update", "trades": [trade(1), trade(2)]}),
    frame("ticker", 3, {"type": "update", "tickers": [{"product_id": "BTC-USD", "price": "1", "best_bid": "1"}]}),
    frame("subscriptions", 4, {"subscriptions": {"level2": ["BTC-USD"]}}),
    json.dumps({"type": "match", **trade(1), "trade_id": 1}).encode(),
    b'{"type":"snapshot","product_id":"BTC-USD","bids":[["1","1"]],"asks":[]}',
    b'{"type":"l2update","product_id":"BTC-USD","changes":[["buy","1","2"]],"time":"2026-08-09T21:05:48Z"}',
]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_comes_costs_one_message(data: st.DataObject) -> None:
    adapter = Coinbase([BTC])
    for _ in range(4):
        payload = bytearray(data.draw(st.sampled_from(WHOLE)))
        for _ in range(data.draw(st.integers(0, 3))):
            at = data.draw(st.integers(0, len(payload) - 1))
            payload[at : at + data.draw(st.integers(0, 9))] = data.draw(
                st.sampled_from(
                    [b"", b"-", b"1e400", b'"nan"', b"[" * 5000, b"null", b"{}", b"[]", b'"', b"\xff", b"9" * 30]
                )
            )
        Coinbase.peek(bytes(payload))
        try:
            adapter.receive(bytes(payload), 1)
        except WireError:
            continue


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_are_read_or_refused(payload: bytes) -> None:
    assert Coinbase.peek(payload) == [] or payload.startswith(b"{")
    fetch = Coinbase.candles_fetch(BTC, "1m", 0, 1)
    assert fetch is not None
    for read in (
        lambda: Coinbase([BTC]).receive(payload, 1),
        lambda: Coinbase([BTC]).snapshot(fetch, payload, 1),
        lambda: Coinbase.parse_instruments(payload),
    ):
        try:
            read()
        except WireError:
            continue
