"""Deribit: recorded sessions against a naive reading after PROTOCOL's rules, and the venue's traps one by one."""

import gzip
import json
import random
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.adapter import Acked, BookGap, BookUpdate, Event, Fetch, Refused, Send, Skipped, Subscription, TradesLost
from feeds.venues.deribit import Deribit
from hub.errors import WireError
from hub.instruments import Instrument, InstrumentTable
from hub.model import Candle, Mark, Quote, Ticker, Trade
from tests.feeds.venues.plays import DATA, SHARED, Follower, Levels, Row, lines, of, play, rows_of, write

OWN = DATA / "deribit"
LISTED, UNLISTED = OWN / "cryptofeed_2021-07-22", OWN / "cryptofeed_2021-04-05"
EXAMPLES = OWN / "crypto_msg_parser_messages.jsonl"
SESSIONS = [LISTED, UNLISTED]
FILES = [EXAMPLES, *(f for f in sorted((SHARED / "deribit").glob("*.jsonl")) if f.name != EXAMPLES.name)]
BUSY = "ETH-9APR21-1950-C"
PERPETUAL = "BTC-PERPETUAL"
MONTHS = ["", *"JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()]

each_session = pytest.mark.parametrize("session", SESSIONS, ids=lambda path: str(path.name))
each_recording = pytest.mark.parametrize("session", [*SESSIONS, *FILES], ids=lambda path: str(path.name))


# a naive reading


def notices(rows: Iterable[Row]) -> list[tuple[str, Any, Row]]:
    """Return (channel, data, line) of received notifications, numbers as the venue's decimals."""
    found = []
    for row in rows:
        if row.get("dir", "in") == "in":
            frame = json.loads(row["raw"], parse_float=Decimal)
            if frame.get("method") == "subscription":
                found.append((frame["params"]["channel"], frame["params"]["data"], row))
    return found


def bodies(session: Path) -> list[bytes]:
    return [gzip.decompress(file.read_bytes()) for file in sorted(session.glob("rest_get_instruments_*.json.gz"))]


def canonical(name: str, quote: str = "USD") -> str:
    """Return the symbol of a Deribit name after DESIGN's examples."""
    base, _, rest = name.partition("-")
    pair = base.replace("_", "-") if "_" in base else f"{base}-{quote}"
    if not rest:
        return pair
    if rest == "PERPETUAL":
        return f"{pair}-PERP"
    day, _, option = rest.partition("-")
    match = re.fullmatch(r"(\d+)([A-Z]{3})(\d\d)", day)
    assert match is not None
    date = f"{match[3]}{MONTHS.index(match[2]):02d}{int(match[1]):02d}"
    return f"{pair}-{date}-{option.replace('d', '.')}" if option else f"{pair}-{date}"


def symbol_in(session: Path, name: str) -> str:
    return canonical(name) if session == LISTED else name


def naive_books(rows: Iterable[Row]) -> dict[str, list[tuple[Levels, Levels]]]:
    """Return each book after each message that changed it."""
    states: dict[str, list[tuple[Levels, Levels]]] = {}
    books: dict[str, tuple[Levels, Levels]] = {}
    last: dict[str, int] = {}
    for channel, data, _ in notices(rows):
        if not channel.startswith("book."):
            continue
        name = data["instrument_name"]
        if data["type"] == "snapshot":
            books[name] = {}, {}
        else:
            assert data["prev_change_id"] == last[name]
        last[name] = data["change_id"]
        for side, levels in zip(books[name], (data["bids"], data["asks"]), strict=True):
            for action, price, amount in levels:
                if action == "delete":
                    del side[price]
                else:
                    assert (action == "change") == (price in side)
                    side[price] = amount
        if data["type"] == "snapshot" or data["bids"] or data["asks"]:
            states.setdefault(name, []).append((dict(books[name][0]), dict(books[name][1])))
    return states


def followed(messages: Iterable[Row]) -> list[tuple[Levels, Levels]]:
    follower = Follower()
    return [(dict(bids), dict(asks)) for bids, asks in map(follower.take, messages)]


# every session


@each_session
def test_books_equal_naive_ones_after_every_message(session: Path) -> None:
    _, messages = play("deribit", session)
    naive = naive_books(rows_of(session))
    assert len(naive) == 10
    for name, states in naive.items():
        books = of(messages, "book", symbol_in(session, name))
        assert [row["action"] for row in books] == ["snapshot"] + ["update"] * (len(books) - 1)
        assert followed(books) == states
    assert {row["symbol"] for row in of(messages, "book")} == {symbol_in(session, name) for name in naive}


@each_session
def test_nothing_is_called_wrong_that_is_not(session: Path) -> None:
    normalizer, messages = play("deribit", session)
    assert {(row["state"], row["kind"]) for row in of(messages, "status")} == {("live", None)}
    assert len(of(messages, "status")) == 10
    assert normalizer.pipeline.counters.keys() <= {"candles_incomplete"}


@each_session
def test_levels_are_sorted_and_depth_is_the_top(session: Path) -> None:
    _, messages = play("deribit", session)
    books: dict[str, Follower] = {}
    for row in messages:
        if row["type"] == "book":
            books.setdefault(row["symbol"], Follower()).take(row)
        if row["type"] in ("book", "depth"):
            assert [price for price, _ in row["bids"]] == sorted((price for price, _ in row["bids"]), reverse=True)
            assert [price for price, _ in row["asks"]] == sorted(price for price, _ in row["asks"])
        if row["type"] == "depth":
            book = books[row["symbol"]]
            assert [*map(tuple, row["bids"])] == sorted(book.bids.items(), reverse=True)[:20]
            assert [*map(tuple, row["asks"])] == sorted(book.asks.items())[:20]


@each_recording
def test_tickers_and_marks_are_the_venues(session: Path) -> None:
    """An empty side has price 0.0 and amount 0.0: that is no price."""
    _, messages = play("deribit", session)
    told = [data for channel, data, _ in notices(rows_of(session)) if channel.startswith("ticker.")]
    tickers, marks = of(messages, "ticker"), of(messages, "mark")
    assert len(tickers) == len(marks) == len(told)
    for data, ticker, mark in zip(told, tickers, marks, strict=True):
        stats = data["stats"]
        assert ticker["symbol"] == mark["symbol"] == symbol_in(session, data["instrument_name"])
        assert ticker["ts_event"] == mark["ts_event"] == data["timestamp"] * 1_000_000
        expected = (data["last_price"], stats["high"], stats["low"], stats["volume"], stats.get("volume_notional"))
        assert tuple(ticker[f"{name}_price"] for name in ("last", "high", "low")) == expected[:3]
        assert (ticker["volume"], ticker["quote_volume"], ticker["open_price"]) == (*expected[3:], None)
        for side in ("bid", "ask"):
            price = data[f"best_{side}_price"] if data[f"best_{side}_amount"] else None
            assert ticker[f"{side}_price"] == price
        assert (mark["mark_price"], mark["index_price"]) == (data["mark_price"], data["index_price"])
        assert (mark["open_interest"], mark["next_funding_ts"]) == (data["open_interest"], None)
        assert mark["funding_rate"] == data.get("current_funding")


@each_recording
def test_every_trade_is_there_once_as_the_venue_told_it(session: Path) -> None:
    _, messages = play("deribit", session)
    told = [row for channel, data, _ in notices(rows_of(session)) if channel.startswith("trades.") for row in data]
    expected = [
        (row["instrument_name"], row["trade_id"], row["price"], row["amount"], row["direction"], row["timestamp"])
        for row in told
    ]
    found = [
        (row["symbol"], row["trade_id"], row["price"], row["size"], row["side"], row["ts_event"] // 1_000_000)
        for row in of(messages, "trade")
    ]
    assert sorted(found) == sorted(expected)
    if session == EXAMPLES:
        assert len(found) == 4


@each_recording
def test_quotes_are_the_venues_where_it_sends_them(session: Path) -> None:
    _, messages = play("deribit", session)
    fields = ("best_bid_price", "best_bid_amount", "best_ask_price", "best_ask_amount")
    told = [data for channel, data, _ in notices(rows_of(session)) if channel.startswith("quote.")]
    for name in {data["instrument_name"] for data in told}:
        found = [tuple(row[f] for f in ("bid", "bid_size", "ask", "ask_size")) for row in of(messages, "quote", name)]
        assert found == [tuple(data[f] for f in fields) for data in told if data["instrument_name"] == name]


@each_session
def test_times_are_the_venues(session: Path) -> None:
    _, messages = play("deribit", session)
    stamps = [round(row["t"] * 1e6) * 1000 for row in rows_of(session) if row.get("dir", "in") == "in"]
    for row in messages:
        assert stamps[0] <= row["ts_recv"] <= stamps[-1]
        if row["ts_event"] is not None:
            # The first book of a quiet option is from when it last changed.
            assert row["ts_event"] <= row["ts_recv"] + 1_000_000_000


# faults


def book_lines(name: str) -> tuple[list[Row], list[int]]:
    rows = rows_of(UNLISTED)
    places = [
        number
        for number, row in enumerate(rows)
        if row.get("dir", "in") == "in" and f"book.{name}.raw" in row["raw"][:120]
    ]
    return rows, places


def after(messages: list[Row], name: str) -> list[str]:
    """Return states and book messages of `name` after its first live."""
    found = [row for row in messages if row["symbol"] == name and row["type"] in ("status", "book")]
    return [str(row.get("state", row.get("action"))) for row in found]


@pytest.mark.parametrize("seed", range(5))
def test_a_lost_change_takes_the_book_away(tmp_path: Path, seed: int) -> None:
    """`prev_change_id` must be the `change_id` of the message before it."""
    rows, places = book_lines(BUSY)
    gone = random.Random(seed).choice(places[1:-1])
    normalizer, messages = play("deribit", write(tmp_path / "s", [r for n, r in enumerate(rows) if n != gone]))
    seen = after(messages, BUSY)
    assert seen.count("resyncing") == 1
    assert set(seen[seen.index("resyncing") + 1 :]) == set()
    assert normalizer.pipeline.counters["resyncs"] in range(1, 13)
    assert {row["symbol"] for row in of(messages, "status") if row["state"] != "live"} == {BUSY}


@pytest.mark.parametrize("seed", range(5))
def test_a_repeated_change_changes_nothing(tmp_path: Path, seed: int) -> None:
    rows, places = book_lines(BUSY)
    twice = random.Random(seed).choice(places)
    spoiled = [copy for n, row in enumerate(rows) for copy in ([row, row] if n == twice else [row])]
    normalizer, messages = play("deribit", write(tmp_path / "s", spoiled))
    assert followed(of(messages, "book", BUSY))[-1] == naive_books(rows)[BUSY][-1]
    assert "resyncing" not in after(messages, BUSY)
    assert normalizer.pipeline.counters["skipped_repeated_book_message"] == (twice != places[0])


def test_an_old_change_that_comes_again_is_no_part_of_the_book(tmp_path: Path) -> None:
    rows, places = book_lines(BUSY)
    spoiled = [*rows[: places[9] + 1], {**rows[places[3]], "t": rows[places[9]]["t"]}, *rows[places[9] + 1 :]]
    _, messages = play("deribit", write(tmp_path / "s", spoiled))
    seen = after(messages, BUSY)
    assert seen[-1] == "resyncing"


@pytest.mark.parametrize("seed", range(5))
def test_swapped_changes_take_the_book_away(tmp_path: Path, seed: int) -> None:
    rows, places = book_lines(BUSY)
    at = random.Random(seed).randrange(len(places) - 1)
    one, two = places[at], places[at + 1]
    spoiled = list(rows)
    spoiled[one], spoiled[two] = {**rows[two], "t": rows[one]["t"]}, {**rows[one], "t": rows[two]["t"]}
    _, messages = play("deribit", write(tmp_path / "s", spoiled))
    assert after(messages, BUSY)[-1] == "resyncing"


def test_an_unreadable_change_is_a_lost_one(tmp_path: Path) -> None:
    rows, places = book_lines(BUSY)
    spoiled = list(rows)
    spoiled[places[5]] = {**rows[places[5]], "raw": rows[places[5]]["raw"].replace('"change"', '"chance"', 1)}
    assert spoiled[places[5]] != rows[places[5]]
    normalizer, messages = play("deribit", write(tmp_path / "s", spoiled))
    assert normalizer.pipeline.counters["skipped_unreadable_book"] == 1
    assert after(messages, BUSY)[-1] == "resyncing"


def test_a_change_that_was_cut_takes_the_book_away_at_once(tmp_path: Path) -> None:
    rows, places = book_lines(BUSY)
    cut = [*rows[: places[5]], {**rows[places[5]], "raw": rows[places[5]]["raw"][:180]}]
    _, messages = play("deribit", write(tmp_path / "s", cut))
    last = [row for row in of(messages, "status") if row["symbol"] == of(messages, "status")[-1]["symbol"]][-1]
    assert (last["state"], last["reason"]) == ("resyncing", "an unreadable book message")


@pytest.mark.parametrize("kind", ["quote", "ticker"])
def test_what_is_older_than_the_last_is_not_told_again(kind: str, tmp_path: Path) -> None:
    def told(ms: int) -> Row:
        data = {"timestamp": ms, "instrument_name": PERPETUAL, "best_bid_price": ms / 4, "best_bid_amount": 1.0}
        row: Row = json.loads(
            notice({"quote": f"quote.{PERPETUAL}", "ticker": f"ticker.{PERPETUAL}.100ms"}[kind], data)
        )
        return row

    frames = [told(1_780_000_000_000 + ms) for ms in (0, 20, 10, 20, 30)]
    normalizer, messages = play("deribit", write(tmp_path / "s", lines(*frames)))
    times = [row["ts_event"] // 1_000_000 - 1_780_000_000_000 for row in of(messages, kind)]
    assert times == [0, 20, 20, 30]
    assert normalizer.pipeline.counters[f"skipped_old_{kind}"] == 1


@pytest.mark.parametrize("direction", [None, "both"])
def test_a_trade_of_an_unknown_side_is_a_trade(direction: str | None) -> None:
    (event,) = adapter().receive(notice(f"trades.{PERPETUAL}.100ms", [trade(7, direction=direction)]), NOW)
    assert isinstance(event, Trade)
    assert (event.side, event.size) == (None, 2000.0)


def test_a_later_snapshot_rebuilds_the_book(tmp_path: Path) -> None:
    rows, places = book_lines(BUSY)
    whole = naive_books(rows)[BUSY]
    lost, back = places[10], places[20]
    kept = [row for number, row in enumerate(rows) if number in places[:21]]
    state = naive_books(kept)[BUSY][-1]
    data = json.loads(rows[back]["raw"])["params"]["data"]
    data = {**{k: data[k] for k in ("timestamp", "instrument_name", "change_id")}, "type": "snapshot"}
    sides = ([["new", float(price), float(size)] for price, size in side.items()] for side in state)
    data["bids"], data["asks"] = sides
    frame = {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": f"book.{BUSY}.raw", "data": data}}
    spoiled = [*rows[:lost], *rows[lost + 1 : back + 1], {"t": rows[back]["t"], "raw": json.dumps(frame)}]
    _, messages = play("deribit", write(tmp_path / "s", [*spoiled, *rows[back + 1 :]]))
    seen = after(messages, BUSY)
    at = seen.index("resyncing")
    assert seen[at + 1 : at + 3] == ["snapshot", "live"]
    assert followed(of(messages, "book", BUSY))[-1] == whole[-1]


# the adapter alone

NOW = 1_780_000_000_000_000_000


def instrument(name: str = PERPETUAL, **more: Any) -> Instrument:
    fields = {"kind": "perpetual", "base": "BTC", "quote": "USD", "size_unit": "quote", **more}
    return Instrument(venue="deribit", venue_symbol=name, symbol=canonical(name), **fields)


def adapter(*names: str) -> Deribit:
    return Deribit([instrument(name) for name in names or (PERPETUAL,)])


def notice(channel: str, data: object) -> bytes:
    frame = {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}
    return json.dumps(frame, separators=(",", ":")).encode()


def change(last: int, before: int | None, *, kind: str | None = "change", name: str = PERPETUAL, **sides: Any) -> bytes:
    data: Row = {"timestamp": 1_780_000_000_000, "instrument_name": name, "change_id": last, "bids": [], "asks": []}
    data |= {"type": kind} if kind else {}
    data |= {"prev_change_id": before} if before is not None else {}
    return notice(f"book.{name}.100ms", {**data, **sides})


def trade(seq: int, **more: Any) -> Row:
    return {
        "trade_seq": seq, "trade_id": f"ETH-{seq * 3}", "timestamp": 1_780_000_000_000, "price": 85217.5,
        "amount": 2000.0, "contracts": 200.0, "direction": "sell", "tick_direction": 0, "index_price": 85200.1,
        "mark_price": 85210.2, "instrument_name": PERPETUAL, **more,
    }  # fmt: skip


def asked(frames: Iterable[bytes | Fetch]) -> list[tuple[str, Any]]:
    decoded = [json.loads(frame) for frame in frames if isinstance(frame, bytes)]
    return [(frame["method"], frame["params"]) for frame in decoded]


def subscribed(own: Deribit) -> int:
    """Subscribe to everything of the perpetual; returns the request's id."""
    frames = own.subscribe([Subscription(kind, instrument()) for kind in Deribit.channels])
    assert asked(frames) == [
        ("public/set_heartbeat", {"interval": 30}),
        ("public/subscribe", {"channels": CHANNELS}),
    ]
    number = json.loads(frames[1])["id"]
    assert isinstance(number, int)
    return number


CHANNELS = [f"trades.{PERPETUAL}.100ms", f"quote.{PERPETUAL}", f"book.{PERPETUAL}.100ms", f"ticker.{PERPETUAL}.100ms"]


def answer(number: object, **more: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, **more, "usIn": 1, "usOut": 2, "usDiff": 1}).encode()


def test_what_the_venue_does_not_know_is_missing_in_the_answer() -> None:
    """An unknown instrument is not an error: the result lacks it. The order differs from the request's."""
    own = adapter()
    number = subscribed(own)
    events = own.receive(answer(number, result=[CHANNELS[3], CHANNELS[0]]), NOW)
    assert events == [
        Acked((CHANNELS[0], CHANNELS[3])),
        Refused((CHANNELS[1], CHANNELS[2]), "not subscribed by the venue: unknown instrument"),
    ]
    assert own.receive(answer(number, result=CHANNELS), NOW) == []


def test_an_empty_result_refuses_everything() -> None:
    own = adapter()
    (refused,) = own.receive(answer(subscribed(own), result=[]), NOW)
    assert isinstance(refused, Refused)
    assert list(refused.channels) == CHANNELS


def test_an_error_refuses_the_request() -> None:
    own = adapter()
    error = {"code": -32602, "message": "Invalid params", "data": {"reason": "wrong format"}}
    assert own.receive(answer(subscribed(own), error=error), NOW) == [Refused(tuple(CHANNELS), "-32602 Invalid params")]
    assert own.receive(answer(99, error={"code": 10028, "message": "too_many_requests", "data": None}), NOW) == [
        Refused((), "10028 too_many_requests")
    ]


def test_answers_to_other_requests_are_nothing() -> None:
    own = adapter()
    for frame in (answer(1, result="ok"), answer(2, result={"version": "1.2.26"}), answer(None, result=None)):
        assert own.receive(frame, NOW) == []


def test_many_channels_take_several_requests() -> None:
    rows = [instrument(f"BTC-24SEP21-{strike}-P", kind="option") for strike in range(1, 601)]
    frames = Deribit(rows).subscribe([Subscription("book", row) for row in rows])
    batches = [len(params["channels"]) for method, params in asked(frames) if method == "public/subscribe"]
    assert batches == [250, 250, 100]


def test_each_test_request_is_answered() -> None:
    own = adapter()
    frame = {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}}
    for _ in range(2):
        (send,) = own.receive(json.dumps(frame).encode(), NOW)
        assert isinstance(send, Send)
        assert asked([send.frame]) == [("public/test", {})]
    assert own.receive(json.dumps({**frame, "params": {"type": "heartbeat"}}).encode(), NOW) == []


def test_after_a_gap_the_book_is_subscribed_again_once() -> None:
    own = adapter()
    own.receive(change(5, None, kind="snapshot", bids=[["new", 1.0, 1.0]]), NOW)
    (gap,) = own.receive(change(8, 7), NOW)
    assert isinstance(gap, BookGap)
    assert gap.reason == "sequence gap: expected a change after 5, received one after 7"
    channels = {"channels": [f"book.{PERPETUAL}.100ms"]}
    assert asked(own.resync(instrument())) == [("public/unsubscribe", channels), ("public/subscribe", channels)]
    waiting = [Skipped("change before the snapshot")]
    assert own.receive(change(9, 8), NOW) == waiting
    assert own.receive(change(10, 9), NOW + 9_000_000_000) == waiting
    (again,) = own.receive(change(11, 10), NOW + 10_000_000_000)
    assert isinstance(again, BookGap)
    (update,) = own.receive(change(12, None, kind="snapshot", bids=[["new", 2.0, 1.0]]), NOW)
    assert isinstance(update, BookUpdate)
    assert (update.snapshot, update.bids) == (True, [(2.0, 1.0)])
    (update,) = own.receive(change(20, 12, asks=[["new", 3.0, 1.0]]), NOW)
    assert isinstance(update, BookUpdate)
    assert (update.snapshot, update.asks) == (False, [(3.0, 1.0)])


def test_a_change_without_a_snapshot_asks_for_one() -> None:
    own = adapter()
    (gap,) = own.receive(change(8, 7), NOW)
    assert isinstance(gap, BookGap)
    own.resync(instrument())
    assert own.receive(change(9, 8), NOW) == [Skipped("change before the snapshot")]


def test_a_book_that_never_changed_has_the_id_0() -> None:
    own = adapter()
    own.receive(change(0, None, kind="snapshot"), NOW)
    (update,) = own.receive(change(14_617_771_529, 0, bids=[["new", 0.019, 93.0]]), NOW)
    assert isinstance(update, BookUpdate)


def test_snapshots_of_2020_have_no_type_and_one_of_2022_names_a_predecessor() -> None:
    own = adapter()
    (update,) = own.receive(change(5, None, kind=None, bids=[["new", 1.0, 1.0]]), NOW)
    assert isinstance(update, BookUpdate) and update.snapshot
    (update,) = own.receive(change(6, 5, kind=None, bids=[["delete", 1.0, 0.0]]), NOW)
    assert isinstance(update, BookUpdate) and not update.snapshot
    (update,) = own.receive(change(9, 20, kind="snapshot"), NOW)
    assert isinstance(update, BookUpdate) and update.snapshot


def test_levels_come_best_first_and_what_is_deleted_has_size_0() -> None:
    own = adapter()
    bids = [["new", 1.0, 1.0], ["delete", 3.0, 0.0], ["change", 2.0, 2.0e3]]
    (update,) = own.receive(change(5, None, kind="snapshot", bids=bids, asks=[["new", 9.0, 1.0], ["new", 8.0, 1.0]]), 1)
    assert isinstance(update, BookUpdate)
    assert update.bids == [(3.0, 0.0), (2.0, 2000.0), (1.0, 1.0)]
    assert update.asks == [(8.0, 1.0), (9.0, 1.0)]


def test_a_price_deleted_and_new_in_one_message_is_there() -> None:
    own = adapter()
    levels = [["delete", 1.0, 0.0], ["new", 1.0, 5.0]]
    (update,) = own.receive(change(5, None, kind="snapshot", bids=levels, asks=levels), 1)
    assert isinstance(update, BookUpdate)
    assert update.bids == update.asks == [(1.0, 0.0), (1.0, 5.0)]


def test_a_second_interval_of_one_book_is_another_chain() -> None:
    own = adapter()
    own.receive(change(5, None, kind="snapshot"), NOW)
    raw = change(5, None, kind="snapshot").replace(b"100ms", b"raw")
    assert own.receive(raw, NOW) == [Skipped("second book channel")]
    assert own.receive(change(6, 5).replace(b"100ms", b"raw"), NOW) == [Skipped("second book channel")]
    assert isinstance(own.receive(change(7, 5), NOW)[0], BookUpdate)


def grouped(number: int, group: str = "none", depth: int = 10, levels: int = 10, ts: int = 0) -> bytes:
    sides = {"bids": [[100.0 - n, 1.0] for n in range(levels)], "asks": [[101.0 + n, 1.0] for n in range(levels)]}
    data = {"instrument_name": PERPETUAL, "timestamp": 1_780_000_000_000 + ts, "change_id": number, **sides}
    return notice(f"book.{PERPETUAL}.{group}.{depth}.100ms", data)


def test_grouped_books_are_snapshots_of_the_best_levels() -> None:
    """No type, no prev_change_id; a side with fewer levels than asked for is whole."""
    own = adapter()
    (update,) = own.receive(grouped(7), NOW)
    assert isinstance(update, BookUpdate)
    assert (update.snapshot, len(update.bids), update.bids_complete) == (True, 10, False)
    (update,) = own.receive(grouped(9, levels=3, ts=100), NOW)
    assert isinstance(update, BookUpdate) and update.asks_complete
    assert own.receive(grouped(7), NOW) == [Skipped("old snapshot")]
    assert own.resync(instrument()) == []
    assert own.receive(grouped(8, group="5"), NOW) == [Skipped("unknown channel")]


def test_the_full_book_takes_over_from_a_grouped_one() -> None:
    own = adapter()
    own.receive(grouped(7), NOW)
    (update,) = own.receive(change(8, None, kind="snapshot"), NOW)
    assert isinstance(update, BookUpdate)
    assert own.receive(grouped(9, ts=100), NOW) == [Skipped("second book channel")]


def test_sizes_of_inverse_contracts_are_in_usd_and_the_side_is_the_takers() -> None:
    (event,) = adapter().receive(notice(f"trades.{PERPETUAL}.100ms", [trade(7)]), NOW)
    assert isinstance(event, Trade)
    assert (event.price, event.size, event.side, event.trade_id) == (85217.5, 2000.0, "sell", "ETH-21")


def test_a_hole_in_trade_numbers_is_told() -> None:
    """`trade_seq` is contiguous per instrument."""
    own = adapter()
    channel = f"trades.{PERPETUAL}.100ms"
    assert len(own.receive(notice(channel, [trade(7), trade(8)]), NOW)) == 2
    lost, found = own.receive(notice(channel, [trade(11)]), NOW)
    assert lost == TradesLost("BTC-USD-PERP", 9, 10, NOW, NOW)
    assert isinstance(found, Trade)
    assert len(own.receive(notice(channel, [trade(10), trade(12)]), NOW)) == 2


def test_lost_trades_are_announced(tmp_path: Path) -> None:
    channel = f"trades.{PERPETUAL}.100ms"
    frames = [json.loads(notice(channel, [trade(seq)])) for seq in (1, 2, 4, 4, 5)]
    normalizer, messages = play("deribit", write(tmp_path / "s", lines(*frames)))
    assert [row["trade_id"] for row in of(messages, "trade")] == ["ETH-3", "ETH-6", "ETH-12", "ETH-15"]
    assert [row["reason"] for row in of(messages, "status")] == ["1 trades lost, ids 3 to 3"]
    assert (normalizer.pipeline.counters["trades_lost"], normalizer.pipeline.counters["trades_repeated"]) == (1, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"price": "x"}, {"price": 1e999}, {"amount": -1.0}, {"direction": 5}, {"trade_id": 5}, {"trade_id": ""},
        {"timestamp": -1}, {"timestamp": 1 << 63}, {"trade_seq": 1.5}, {"instrument_name": None},
    ],
    ids=str,
)  # fmt: skip
def test_one_unreadable_trade_does_not_cost_the_others(wrong: Row) -> None:
    text = notice(f"trades.{PERPETUAL}.100ms", [trade(1), trade(2, **wrong), trade(3)]).replace(b"Infinity", b"1e999")
    events = adapter().receive(text, NOW)
    assert [event.trade_id for event in events if isinstance(event, Trade)] == ["ETH-3", "ETH-9"]
    assert Skipped("unreadable trade") in events
    with pytest.raises(WireError):
        adapter().receive(notice(f"trades.{PERPETUAL}.100ms", [trade(2, **wrong)]).replace(b"Infinity", b"1e999"), NOW)


def test_one_unknown_instrument_does_not_cost_the_others() -> None:
    rows = [trade(1), trade(9, instrument_name="ETH-PERPETUAL"), trade(2)]
    events = adapter().receive(notice("trades.future.any.100ms", rows), NOW)
    assert [type(event) for event in events] == [Trade, Skipped, Trade]


def test_empty_sides_have_no_price() -> None:
    data = {
        "timestamp": 1_780_000_000_000, "instrument_name": PERPETUAL, "best_bid_price": 0.0, "best_bid_amount": 0.0,
        "best_ask_price": 5.0, "best_ask_amount": 10.0,
    }  # fmt: skip
    (quote,) = adapter().receive(notice(f"quote.{PERPETUAL}", data), NOW)
    assert isinstance(quote, Quote)
    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size) == (None, None, 5.0, 10.0)
    nothing = {**data, "best_ask_price": None, "best_ask_amount": None}
    (quote,) = adapter().receive(notice(f"quote.{PERPETUAL}", nothing), NOW)
    assert isinstance(quote, Quote)
    assert (quote.ask, quote.ask_size) == (None, None)


def test_a_ticker_of_an_expired_option_is_read() -> None:
    """`estimated_delivery_price` may be the text "expired", stats may be null."""
    data = {
        "timestamp": 1_780_000_000_000, "instrument_name": PERPETUAL, "estimated_delivery_price": "expired",
        "stats": {"volume": None, "low": None, "high": None}, "last_price": None, "state": "closed",
        "mark_price": 6.563e-5, "index_price": 85200.0, "open_interest": 0.0, "best_bid_price": None,
    }  # fmt: skip
    ticker, mark = adapter().receive(notice(f"ticker.{PERPETUAL}.100ms", data), NOW)
    assert isinstance(ticker, Ticker) and isinstance(mark, Mark)
    assert (ticker.last_price, ticker.volume, ticker.bid_price) == (None, None, None)
    assert (mark.mark_price, mark.open_interest, mark.funding_rate) == (0.00006563, 0.0, None)


def test_volume_in_usd_is_the_quote_volume_where_usd_is_the_quote() -> None:
    data = {
        "timestamp": 1_780_000_000_000, "instrument_name": PERPETUAL,
        "stats": {"volume": 17945.19644566, "volume_usd": 545442610.0},
    }  # fmt: skip
    ticker = adapter().receive(notice(f"ticker.{PERPETUAL}.100ms", data), NOW)[0]
    assert isinstance(ticker, Ticker)
    assert (ticker.volume, ticker.quote_volume) == (17945.19644566, 545442610.0)


def test_spellings_of_the_frame_do_not_matter() -> None:
    frame = json.loads(notice(f"trades.{PERPETUAL}.100ms", [trade(7)]))
    turned = {"params": dict(reversed(frame["params"].items())), "method": frame["method"], "jsonrpc": "2.0"}
    for text in (json.dumps(turned), json.dumps(frame, indent=1)):
        own = adapter()
        for _ in range(2):
            (event,) = own.receive(text.encode(), NOW)
            assert isinstance(event, Trade)


@pytest.mark.parametrize(
    "channel", ["chart.trades.BTC-PERPETUAL.1", "deribit_volatility_index.btc_usd", "x", "", "..."]
)
def test_unknown_channels_are_counted(channel: str) -> None:
    assert adapter().receive(notice(channel, {}), NOW) == [Skipped("unknown channel")]


# instruments


def listed(session: Path = LISTED) -> list[bytes]:
    extra = SHARED / "deribit" / "nautilus_rest" / "http_get_instruments.json"
    return [*bodies(session), *([extra.read_bytes()] if extra.is_file() else [])]


def test_instruments_map_one_to_one() -> None:
    for body in listed():
        rows = [row for row in json.loads(body)["result"] if not row["kind"].endswith("combo")]
        table = InstrumentTable("deribit", Deribit.parse_instruments(body))
        assert table.rejected == []
        assert len(table) == len(rows) > 0
        for row in rows:
            found = table.by_key[row["instrument_name"]]
            assert found.symbol == canonical(row["instrument_name"])
            assert (found.tick_size, found.lot_size, found.status) == (
                row["tick_size"],
                row["min_trade_amount"],
                "trading",
            )
            assert (found.base, found.quote, found.contract_size) == (
                row["base_currency"], row["quote_currency"], row["contract_size"],
            )  # fmt: skip
            ends = None if row["settlement_period"] == "perpetual" else row["expiration_timestamp"] * 1_000_000
            assert found.expiry == ends
            assert found.size_unit == (
                "quote" if row["kind"] == "future" and row["quote_currency"] == "USD" else "base"
            )
    everything = InstrumentTable("deribit", [row for body in bodies(LISTED) for row in Deribit.parse_instruments(body)])
    assert (len(everything), everything.rejected) == (398 + 426 + 177 + 16, [])


def test_expiries_are_the_days_of_the_names() -> None:
    rows = [row for body in bodies(LISTED) for row in Deribit.parse_instruments(body) if row.expiry is not None]
    assert len(rows) > 900
    for row in rows:
        assert row.expiry is not None
        day = datetime.fromtimestamp(row.expiry / 1e9, UTC)
        assert f"-{day.day}{MONTHS[day.month]}{day.year % 100}" in row.venue_symbol
        assert day.hour == 8


def test_kinds_of_instruments() -> None:
    table = InstrumentTable("deribit", [row for body in bodies(LISTED) for row in Deribit.parse_instruments(body)])
    inverse, linear = table.get("BTC-USD-PERP"), table.get("ETH-USDC-PERP")
    assert (inverse.venue_symbol, inverse.kind, inverse.size_unit, inverse.settle) == (
        PERPETUAL,
        "perpetual",
        "quote",
        "BTC",
    )
    assert (linear.venue_symbol, linear.size_unit, linear.settle) == ("ETH_USDC-PERPETUAL", "base", "USDC")
    option = table.get("BTC-USD-210924-40000-P")
    assert (option.kind, option.size_unit, option.quote, option.contract_size) == ("option", "base", "BTC", 1.0)
    assert table.get("BTC-USD-210924").kind == "future"


def row_of(**more: Any) -> Row:
    return {
        "instrument_name": "MATIC_USDC-9MAR24-1d02-C", "kind": "option", "base_currency": "MATIC",
        "quote_currency": "USDC", "counter_currency": "USDC", "settlement_currency": "USDC",
        "instrument_type": "linear", "settlement_period": "day", "option_type": "call", "strike": 1.02,
        "tick_size": 0.0005, "contract_size": 1000.0, "min_trade_amount": 1000.0,
        "expiration_timestamp": 1_709_971_200_000, "is_active": True, **more,
    }  # fmt: skip


def parsed(*rows: Row) -> list[Instrument]:
    return Deribit.parse_instruments(json.dumps({"jsonrpc": "2.0", "result": rows}).encode())


def test_a_strike_has_its_decimal_point() -> None:
    (row,) = parsed(row_of())
    assert (row.symbol, row.size_unit) == ("MATIC-USDC-240309-1.02-C", "base")


def test_spot_and_what_is_not_traded() -> None:
    spot = {"instrument_name": "BTC_USDC", "kind": "spot", "base_currency": "BTC", "quote_currency": "USDC"}
    (row,) = parsed({**row_of(), **spot, "is_active": False})
    assert (row.symbol, row.kind, row.status, row.expiry) == ("BTC-USDC", "spot", "inactive", None)
    (row,) = parsed({**row_of(), **spot, "state": "halted"})
    assert row.status == "halted"


def test_combos_have_no_name_here() -> None:
    assert parsed(row_of(kind="option_combo", instrument_name="BTC-STRD-30SEP22-20000")) == []


@pytest.mark.parametrize(
    "wrong",
    [{"instrument_name": "odd"}, {"expiration_timestamp": None}, {"expiration_timestamp": 1 << 70}, {"kind": 5}],
)
def test_one_unreadable_row_does_not_cost_the_list(wrong: Row) -> None:
    assert len(parsed(row_of(), row_of(**wrong))) == 1
    with pytest.raises(WireError):
        parsed(row_of(**wrong))


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"result":5}', b'{"error":{"code":10028}}', b"\xff", b"[" * 9000]
)
def test_what_is_no_list_is_an_error(body: bytes) -> None:
    with pytest.raises(WireError):
        Deribit.parse_instruments(body)


def test_urls_tell_what_they_are_about() -> None:
    url = "https://www.deribit.com/api/v2/public/get_tradingview_chart_data?instrument_name=BTC-PERPETUAL&resolution=1"
    assert Deribit.resource_of(url) == ("get_tradingview_chart_data", PERPETUAL)
    (fetch,) = Deribit.instruments_fetches()
    assert Deribit.resource_of(fetch.path + "?currency=any") == (fetch.resource, "")


# candles


def chart(*, unit: str = "quote", rows: int = 3) -> list[Candle]:
    own = adapter()
    start = 1_766_483_460_000
    fetch = own.candles_fetch(instrument(size_unit=unit), "1m", start * 1_000_000, rows)
    assert fetch is not None
    assert dict(fetch.params) == {
        "instrument_name": PERPETUAL, "start_timestamp": str(start), "end_timestamp": str(start + rows * 60_000 - 1),
        "resolution": "1",
    }  # fmt: skip
    result = {
        "status": "ok", "ticks": [start, start + 60_000, start + 120_000], "open": [87451.0, 87456.5, 87456.0],
        "high": [87456.5] * 3, "low": [87451.0, 87456.5, 87456.0], "close": [87456.5, 87456.5, 87456.0],
        "volume": [2.94375216, 0.0, 0.23097259], "cost": [257490.0, 0.0, 20200.0],
    }  # fmt: skip
    body = json.dumps({"jsonrpc": "2.0", "result": result}).encode()
    events = own.snapshot(fetch, body, (start + 150_000) * 1_000_000)
    candles = [event for event in events if isinstance(event, Candle)]
    assert len(candles) == len(events)
    return candles


def test_volume_of_inverse_candles_is_the_cost() -> None:
    """Chart data counts volume in BTC and cost in USD; sizes of inverse contracts are USD. The open one is left out."""
    (candle,) = chart()
    assert (candle.start, candle.open, candle.close) == (1_766_483_460_000_000_000, 87451.0, 87456.5)
    assert (candle.volume, candle.notional, candle.source) == (257490.0, 257490.0, "venue")
    assert candle.vwap == pytest.approx(87470.0, abs=1)
    (candle,) = chart(unit="base")
    assert (candle.volume, candle.notional) == (2.94375216, 257490.0)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"result":{"ticks":[1],"open":[]}}', b'{"error":{}}', b"\xff\xfe"])
def test_unreadable_candles(body: bytes) -> None:
    own = adapter()
    fetch = own.candles_fetch(instrument(), "1m", NOW, 1)
    assert fetch is not None
    with pytest.raises(WireError):
        own.snapshot(fetch, body, NOW)
    assert own.candles_fetch(instrument(), "10s", NOW, 1) is None


# garbage

GOOD = [
    change(5, None, kind="snapshot", bids=[["new", 1.0, 1.0]], asks=[["new", 2.0, 1.0]]),
    change(6, 5, bids=[["change", 1.0, 2.0]]),
    grouped(7),
    notice(f"trades.{PERPETUAL}.100ms", [trade(1), trade(2)]),
    *(json.dumps(json.loads(row["raw"])).encode() for row in rows_of(EXAMPLES)),
    answer(2, result=CHANNELS),
    answer(3, error={"code": 1, "message": "x"}),
    b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}',
]


def survives(payload: bytes) -> None:
    """Only WireError may come out, however often and in whatever state."""
    for own in (adapter(), adapter(PERPETUAL, "BTC-25JUN21")):
        subscribed(own)
        for frame in (payload, GOOD[0], payload, GOOD[3], payload):
            try:
                events: list[Event | Fetch] = own.receive(frame, NOW)
            except WireError:
                continue
            assert isinstance(events, list)
        assert isinstance(Deribit.peek(payload), list)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_cost_one_message(payload: bytes) -> None:
    survives(payload)
    survives(GOOD[0][:63] + payload)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def spoil(value: Any, chance: random.Random, other: Any) -> Any:
    """Return `value` with one thing in it replaced by `other`, or gone."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        name = chance.choice(sorted(value))
        if chance.random() < 0.15:
            return {key: each for key, each in value.items() if key != name}
        return {**value, name: spoil(value[name], chance, other)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        return [*value[:at], spoil(value[at], chance, other), *value[at + 1 :]]
    return other


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(GOOD), st.randoms(use_true_random=False), values)
def test_spoiled_frames_cost_one_message(frame: bytes, chance: random.Random, other: Any) -> None:
    whole = json.loads(frame)
    survives(json.dumps(spoil(whole, chance, other), separators=(",", ":")).encode())
    at = chance.randrange(len(frame))
    survives(frame[:at])
    survives(frame[:at] + bytes([chance.randrange(256)]) + frame[at + 1 :])


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False), values)
def test_spoiled_lists_cost_no_more_than_the_list(chance: random.Random, other: Any) -> None:
    body = json.dumps(spoil({"jsonrpc": "2.0", "result": [row_of(), row_of()]}, chance, other)).encode()
    read: Callable[[bytes], list[Instrument]] = Deribit.parse_instruments
    try:
        assert isinstance(read(body), list)
    except WireError:
        pass
