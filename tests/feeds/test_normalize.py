"""feeds/normalize.py on every recorded Binance session, against a naive reading of the same files."""

import base64
import gzip
import json
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from decimal import Decimal
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.feeds.canonical import (
    by_symbol,
    expected_trade,
    follow,
    followed,
    messages,
    normalize,
    normalized,
    of_kind,
    original,
    quotes,
    spelling,
    trades,
)
from tests.feeds.garbage import garbage, strewn
from tests.feeds.naive import (
    ROOT,
    Levels,
    NaiveBook,
    Row,
    bodies_of,
    books_at,
    diffs_of,
    event,
    places,
    rows_of,
    sessions,
    snapshot_of,
    told,
    write_session,
)

SESSIONS = sessions()
#: without best bid/ask; with it, ten symbols; with a list of instruments; without receive times
BARE, MANY, LISTED = "cryptofeed_2021-04-04", "cryptofeed_2021-04-05", "cryptofeed_2021-04-17"
TIMELESS = "deep_orderbook_ETHBTC_2020-11-01T09"

each_session = pytest.mark.parametrize("folder", SESSIONS, ids=lambda folder: str(folder.name))


def among(*names: str) -> pytest.MarkDecorator:
    found = [folder for folder in SESSIONS if folder.name in names]
    return pytest.mark.parametrize("folder", found, ids=lambda folder: str(folder.name))


# what every session promises


@each_session
def test_every_trade_is_there_once_as_the_venue_told_it(folder: Path) -> None:
    expected: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for row in rows_of(folder):
        found = event(row)
        if found.get("e") == "aggTrade":
            expected[found["s"]].append(expected_trade(found))
    assert expected
    assert trades(original(folder), folder) == expected


@each_session
def test_every_best_bid_ask_is_there_once_in_order_and_nothing_else_is_a_quote(folder: Path) -> None:
    """Where the venue sends the best bid and ask, none is derived from the book; elsewhere it is the book's."""
    rows = rows_of(folder)
    told = places(rows, "bookTicker")
    found = quotes(original(folder), folder)
    for symbol, numbers in told.items():
        events = (event(rows[number]) for number in numbers)
        assert found[symbol] == [tuple(Decimal(data[name]) for name in "bBaA") for data in events]
    assert found.keys() == told.keys() | places(rows, "depthUpdate").keys()


@each_session
def test_derived_quotes_and_depths_are_the_top_of_the_book(folder: Path) -> None:
    told = places(rows_of(folder), "bookTicker")
    for symbol, found in of_kind(original(folder), folder, "book", "depth", "quote").items():
        bids: Levels = {}
        asks: Levels = {}
        checked: set[str] = set()
        for message in found:
            if message["type"] == "book":
                follow(bids, asks, message)
            elif message["type"] == "depth":
                assert [*map(tuple, message["bids"])] == sorted(bids.items(), reverse=True)[:20]
                assert [*map(tuple, message["asks"])] == sorted(asks.items())[:20]
                checked.add("depth")
            elif symbol not in told:
                bid, ask = max(bids), min(asks)
                best = (bid, bids[bid], ask, asks[ask])
                assert tuple(message[name] for name in ("bid", "bid_size", "ask", "ask_size")) == best
                checked.add("quote")
        assert checked == ({"depth"} if symbol in told else {"depth", "quote"})


@each_session
def test_venue_text_and_float_are_the_same_number(folder: Path) -> None:
    """A number that a float could not hold to the last digit would show here."""
    texts: set[str] = set()
    for row in rows_of(folder):
        found = event(row)
        texts.update(found[name] for name in "pqbBaA" if isinstance(found.get(name), str))
        sides = (found[side] for side in "ba" if isinstance(found.get(side), list))
        texts.update(text for side in sides for level in side for text in level)
    for body in bodies_of(folder):
        if "/depth?" in body["url"]:
            data = json.loads(body["body"])
            texts.update(text for level in (*data["bids"], *data["asks"]) for text in level)
    assert len(texts) > 100
    assert [text for text in texts if Decimal(text) != Decimal(repr(float(text)))] == []


@each_session
def test_books_equal_naive_ones_level_for_level(folder: Path) -> None:
    """At random moments and at the end, over the whole range that the snapshot vouches for."""
    chance = random.Random(folder.name)
    ours = of_kind(original(folder), folder, "book")
    symbols = list(places(rows_of(folder), "depthUpdate"))
    assert ours.keys() == set(symbols)
    for symbol in symbols:
        assert [row["action"] for row in ours[symbol]].count("snapshot") == 1
        assert ours[symbol][0]["action"] == "snapshot"
        snapshot, diffs = snapshot_of(folder, symbol), diffs_of(rows_of(folder), symbol)
        assert snapshot is not None
        after = [diff["E"] for diff in diffs if diff["u"] > snapshot["lastUpdateId"]]
        moments = {*chance.sample(after, min(5, len(after))), after[-1]}
        naive = books_at(snapshot, diffs, moments)
        mine = followed(ours[symbol], moments)
        for moment in moments:
            assert mine[moment] == naive[moment], f"{symbol} at {moment}"
            assert min(map(len, mine[moment])) > 0


@each_session
def test_nothing_is_called_wrong_that_is_not(folder: Path) -> None:
    normalizer, output = normalize(folder)
    statuses = of_kind(messages(output), folder, "status")
    assert {symbol: [row["state"] for row in rows] for symbol, rows in statuses.items()} == {
        symbol: ["live"] for symbol in places(rows_of(folder), "depthUpdate")
    }
    counters = normalizer.pipeline.counters
    assert not {"wire_errors", "resyncs", "trades_lost", "trades_repeated", "fetches_unanswered"} & counters.keys()


@each_session
def test_ids_grow_and_events_have_no_holes(folder: Path) -> None:
    found = original(folder)
    (epoch,) = {row["id"].partition("-")[0] for row in found}
    assert int(epoch) == found[0]["ts_pub"] // 1_000_000
    by_channel: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in found:
        by_channel[row["type"], row["symbol"]].append(int(row["id"].partition("-")[2]))
    for (kind, _), seqs in by_channel.items():
        if kind in ("trade", "book", "status") or kind.startswith("candle."):
            assert seqs == list(range(1, len(seqs) + 1))
        else:
            assert all(earlier < later for earlier, later in pairwise(seqs))


@each_session
def test_times_come_from_the_session(folder: Path) -> None:
    rows = rows_of(folder)
    received = sorted(round(row["t"] * 1e6) * 1000 for row in rows if row["t"] is not None and "dir" not in row)
    told = sorted(event(row)["E"] * 1_000_000 for row in rows if "E" in event(row))
    first, last = (received or told)[0], (received or told)[-1]
    clock = 0
    for row in original(folder):
        assert clock <= row["ts_pub"]
        clock = row["ts_pub"]
        assert first <= row["ts_recv"] <= clock <= last
        if row["ts_event"] is not None and "start" not in row:
            assert abs(row["ts_event"] - row["ts_recv"]) < 5_000_000_000
        assert row["ts_recv"] == clock or row["type"] in ("book", "depth")
    if received:
        stamps = [row["ts_recv"] for row in original(folder) if row["type"] == "trade"]
        expected = [row["t"] for row in rows if event(row).get("e") == "aggTrade"]
        assert stamps == [round(t * 1e6) * 1000 for t in expected]


@each_session
def test_two_runs_print_the_same_bytes(folder: Path) -> None:
    assert normalize(folder)[1] == normalized(folder)


@each_session
def test_lines_are_what_the_wire_carries(folder: Path) -> None:
    """Field order and spacing of DESIGN's messages, so that readers find the id without decoding."""
    for line in normalized(folder).splitlines()[::50]:
        assert list(json.loads(line))[:7] == ["type", "venue", "symbol", "id", "ts_event", "ts_recv", "ts_pub"]
        assert line.startswith(b'{"type":"')
        assert b'": ' not in line


# the program


def run(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "feeds.normalize", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, **options)


@among(MANY)
def test_the_program_prints_what_the_library_does(folder: Path) -> None:
    done = run("binance", str(folder))
    assert (done.returncode, done.stdout) == (0, normalized(folder))
    assert b"no list of instruments: the venue's spelling is the symbol, sizes are the venue's" in done.stderr


@among(LISTED)
def test_the_command_line_reaches_it(folder: Path) -> None:
    command = [sys.executable, "-m", "hub.cli.main", "normalize", "binance", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, normalized(folder))
    assert b"no list of instruments" not in done.stderr


@among(MANY)
def test_a_reader_that_has_seen_enough_is_no_error(folder: Path) -> None:
    command = f'"{sys.executable}" -m feeds.normalize binance "{folder}" | head -n 1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, timeout=120)
    assert (done.returncode, done.stdout.count(b"\n")) == (0, 1)
    assert b"Traceback" not in done.stderr


# instruments


@among(BARE)
@pytest.mark.parametrize("packed", [False, True])
def test_instruments_may_be_given(folder: Path, packed: bool, tmp_path: Path) -> None:
    names = {"BTCUSDT": ("BTC", "USDT"), "ETHUSDT": ("ETH", "USDT"), "DOTUSDT": ("DOT", "USDT")}
    listed = [
        {"symbol": name, "status": "TRADING", "baseAsset": base, "quoteAsset": quote, "filters": []}
        for name, (base, quote) in names.items()
    ]
    data = json.dumps({"symbols": listed}).encode()
    file = tmp_path / "instruments"
    file.write_bytes(gzip.compress(data) if packed else data)
    done = run("binance", str(folder), "--instruments", str(file))
    assert done.returncode == 0
    assert b"no list of instruments" not in done.stderr
    expected = normalized(folder)
    for name, (base, quote) in names.items():
        expected = expected.replace(f'"symbol":"{name}"'.encode(), f'"symbol":"{base}-{quote}"'.encode())
    assert done.stdout == expected


@among(BARE)
def test_what_the_list_does_not_have_is_named_and_left_out(folder: Path, tmp_path: Path) -> None:
    row = {"symbol": "DOTUSDT", "status": "TRADING", "baseAsset": "DOT", "quoteAsset": "USDT"}
    normalizer, output = normalize(folder, json.dumps({"symbols": [row]}).encode())
    assert normalizer.warnings == ["not in the list of instruments, skipped: BTCUSDT, ETHUSDT"]
    found = messages(output)
    assert {row["symbol"] for row in found} == {"DOT-USDT"}
    assert trades(found, folder)["DOT-USDT"] == trades(original(folder), folder)["DOTUSDT"]
    assert normalizer.pipeline.counters["skipped_unknown_symbol"] > 1000


# a session with something wrong in it


def stable(found: Iterable[Row], folder: Path, *kinds: str) -> dict[str, list[Row]]:
    """Return messages by symbol without `ts_pub`: what does not depend on when the clock ticked."""
    grouped = of_kind(found, folder, *kinds)
    return {symbol: [{**row, "ts_pub": 0} for row in rows] for symbol, rows in grouped.items()}


def resyncing(found: list[Row], folder: Path) -> dict[str, int]:
    """Return the place of the first `resyncing` of each symbol that has one."""
    names = spelling(folder)
    result: dict[str, int] = {}
    for place, row in enumerate(found):
        if row["type"] == "status" and row["state"] == "resyncing":
            symbol: str = row["symbol"]
            result.setdefault(names.get(symbol, symbol), place)
    return result


def busiest(folder: Path, kind: str) -> tuple[str, list[int]]:
    """Return the symbol with the most events of this kind, and their line numbers."""
    found = places(rows_of(folder), kind)
    symbol = max(found, key=lambda name: len(found[name]))
    return symbol, found[symbol]


def check_only_this_book_ended(found: list[Row], folder: Path, symbol: str) -> int:
    """Check that `symbol` alone lost its book, for good, and that everything else is as it was. Returns the place."""
    place = resyncing(found, folder)
    assert place.keys() == {symbol}
    own_quotes = symbol in places(rows_of(folder), "bookTicker")
    after = of_kind(found[place[symbol] :], folder, "book", "depth", *(() if own_quotes else ("quote",)))
    assert symbol not in after
    before, now = original(folder), found
    assert stable(now, folder, "trade") == stable(before, folder, "trade")
    kept = ["book", "status"] + (["quote"] if own_quotes else [])
    others = stable(now, folder, *kept)
    expected = stable(before, folder, *kept)
    if own_quotes:
        assert [row for row in others[symbol] if row["type"] == "quote"] == [
            row for row in expected[symbol] if row["type"] == "quote"
        ]
    del others[symbol], expected[symbol]
    assert others == expected
    return place[symbol]


@among(BARE, MANY, LISTED, TIMELESS)
def test_a_lost_diff_ends_that_book_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    rows = rows_of(folder)
    symbol, numbers = busiest(folder, "depthUpdate")
    lost = numbers[len(numbers) // 2]
    normalizer, output = normalize(write_session(tmp_path / "s", rows[:lost] + rows[lost + 1 :], bodies_of(folder)))
    found = messages(output)
    place = check_only_this_book_ended(found, folder, symbol)
    told = event(rows[numbers[len(numbers) // 2 + 1]])
    # At once: with the very next diff, and what went out before it was right.
    assert found[place]["ts_pub"] == found[place]["ts_recv"]
    assert f"received {told['U']}" in found[place]["reason"]
    moment = event(rows[numbers[len(numbers) // 2 - 1]])["E"]
    snapshot = snapshot_of(folder, symbol)
    assert snapshot is not None
    books = of_kind(found, folder, "book")[symbol]
    assert followed(books, [moment]) == books_at(snapshot, diffs_of(rows, symbol), {moment})
    assert normalizer.pipeline.counters["resyncs"] == 1


@among(BARE, MANY, LISTED, TIMELESS)
@pytest.mark.parametrize("levels", [100, 1000])
def test_a_later_snapshot_makes_the_book_whole_again(folder: Path, levels: int, tmp_path: Path) -> None:
    rows, bodies = rows_of(folder), bodies_of(folder)
    symbol, numbers = busiest(folder, "depthUpdate")
    middle = len(numbers) // 2
    lost, at = numbers[middle], numbers[middle + 15]
    snapshot = snapshot_of(folder, symbol)
    assert snapshot is not None
    book = NaiveBook(snapshot)
    for diff in diffs_of(rows[: at + 1], symbol):
        book.apply(diff)
    body = told(book.last, *book.guaranteed(), levels)
    when = rows[at]["t"]
    later = {
        "t": None if when is None else when + 0.5,
        "url": f"https://api.binance.com/api/v3/depth?limit={levels}&symbol={symbol}",
        "body": json.dumps(body),
    }
    mutated = rows[:lost] + rows[lost + 1 :]
    found = messages(normalize(write_session(tmp_path / "s", mutated, [*bodies, later]))[1])
    assert list(resyncing(found, folder)) == [symbol]
    states = [row["state"] for row in of_kind(found, folder, "status")[symbol]]
    assert states == ["live", "resyncing", "live"]
    books = of_kind(found, folder, "book")[symbol]
    assert [row["action"] for row in books].count("snapshot") == 2
    last = event(rows[numbers[-1]])["E"]
    reference = NaiveBook(body, levels)
    for diff in diffs_of(rows, symbol):
        reference.apply(diff)
    mine = followed(books, [last])[last]
    assert in_range(mine, body) == in_range(reference.guaranteed(), body)
    after = found[resyncing(found, folder)[symbol] :]
    assert of_kind(after, folder, "depth")[symbol] and of_kind(after, folder, "quote")[symbol]


def in_range(book: tuple[Levels, Levels], snapshot: Row) -> tuple[Levels, Levels]:
    """Return the levels between the worst prices of a snapshot."""
    worst_bid = min(Decimal(price) for price, _ in snapshot["bids"])
    worst_ask = max(Decimal(price) for price, _ in snapshot["asks"])
    return (
        {price: size for price, size in book[0].items() if price >= worst_bid},
        {price: size for price, size in book[1].items() if price <= worst_ask},
    )


@among(BARE, MANY, TIMELESS)
def test_a_snapshot_that_comes_late_finds_everything_held(folder: Path, tmp_path: Path) -> None:
    """The diffs after the snapshot are applied on it, repeats and old ones among them left out."""
    rows = rows_of(folder)
    slow = [{**body, "t": body["t"] and body["t"] + 15} for body in bodies_of(folder)]
    symbol, numbers = busiest(folder, "depthUpdate")
    mutated: list[Row] = []
    for number, row in enumerate(rows):
        mutated.append(row)
        earlier = [place for place in numbers[:60] if place < number]
        if number in numbers[:60] and len(earlier) > 3:
            mutated += [{**rows[place], "t": row["t"]} for place in (earlier[-3], earlier[-1])]
    found = messages(normalize(write_session(tmp_path / "s", mutated, slow))[1])
    assert resyncing(found, folder) == {}
    last = event(rows[numbers[-1]])["E"]
    snapshot = snapshot_of(folder, symbol)
    assert snapshot is not None
    books = of_kind(found, folder, "book")[symbol]
    assert followed(books, [last]) == books_at(snapshot, diffs_of(rows, symbol), {last})


@among(BARE, MANY)
def test_a_lost_trade_is_announced(folder: Path, tmp_path: Path) -> None:
    rows = rows_of(folder)
    symbol, numbers = busiest(folder, "aggTrade")
    middle = len(numbers) // 2
    lost = numbers[middle]
    normalizer, output = normalize(write_session(tmp_path / "s", rows[:lost] + rows[lost + 1 :], bodies_of(folder)))
    found = messages(output)
    expected = trades(original(folder), folder)
    del expected[symbol][middle]
    assert trades(found, folder) == expected
    (note,) = [row for row in found if row["type"] == "status" and "lost" in row["reason"]]
    number = event(rows[lost])["a"]
    assert (note["symbol"], note["kind"], note["state"]) == (symbol, "trade", "live")
    assert note["reason"] == f"1 trades lost, ids {number} to {number}"
    following = next(row for row in found[found.index(note) :] if row["type"] == "trade")
    assert following["trade_id"] == str(number + 1)
    assert normalizer.pipeline.counters["trades_lost"] == 1
    assert resyncing(found, folder) == {}


@among(BARE, MANY, LISTED)
def test_a_candle_that_misses_a_trade_is_not_published(folder: Path, tmp_path: Path) -> None:
    """Whatever the hole was: of the candles that the lost trade belongs to, none pretends to be whole."""
    rows = rows_of(folder)
    found = places(rows, "aggTrade")
    chance = random.Random(4)
    symbol = chance.choice([name for name, numbers in found.items() if len(numbers) > 4])
    for middle in chance.sample(range(1, len(found[symbol]) - 1), 3):
        lost = found[symbol][middle]
        path = write_session(tmp_path / str(middle), rows[:lost] + rows[lost + 1 :], bodies_of(folder))
        now = of_kind(messages(normalize(path)[1]), folder, *CANDLES)[symbol]
        at = event(rows[lost])["T"] * 1_000_000
        assert [row for row in now if row["start"] <= at < row["start"] + CANDLES[row["type"]]] == []
        whole = of_kind(original(folder), folder, *CANDLES)[symbol]
        assert any(row["start"] <= at < row["start"] + CANDLES[row["type"]] for row in whole)


#: candles that close within the sessions -> length in ns
CANDLES = {"candle.1s": 10**9, "candle.10s": 10**10}


@among(BARE, MANY, TIMELESS)
@pytest.mark.parametrize("kind", ["aggTrade", "bookTicker", "depthUpdate"])
def test_repeated_frames_change_nothing(folder: Path, kind: str, tmp_path: Path) -> None:
    rows = rows_of(folder)
    if not places(rows, kind):
        assert kind == "bookTicker"
        return
    _, numbers = busiest(folder, kind)
    mutated: list[Row] = []
    chosen = set(numbers[len(numbers) // 3 :: 7])
    for number, row in enumerate(rows):
        mutated.append(row)
        if number in chosen:
            mutated += [{**rows[old], "t": row["t"]} for old in (number, numbers[numbers.index(number) - 2])]
    normalizer, output = normalize(write_session(tmp_path / "s", mutated, bodies_of(folder)))
    assert output == normalized(folder)
    if kind == "aggTrade":
        assert normalizer.pipeline.counters["trades_repeated"] == len(mutated) - len(rows)


@among(BARE, MANY, LISTED, TIMELESS)
def test_swapped_diffs_are_a_gap_and_never_a_wrong_book(folder: Path, tmp_path: Path) -> None:
    rows = list(rows_of(folder))
    symbol, numbers = busiest(folder, "depthUpdate")
    one, two = numbers[len(numbers) // 2], numbers[len(numbers) // 2 + 1]
    rows[one], rows[two] = {**rows[two], "t": rows[one]["t"]}, {**rows[one], "t": rows[two]["t"]}
    found = messages(normalize(write_session(tmp_path / "s", rows, bodies_of(folder)))[1])
    check_only_this_book_ended(found, folder, symbol)


@among(BARE, LISTED)
def test_garbage_is_counted_and_changes_nothing(folder: Path, tmp_path: Path) -> None:
    chance = random.Random(1)
    rows = rows_of(folder)
    symbol, _ = busiest(folder, "depthUpdate")
    wrong = garbage(symbol, chance)
    before = normalize(folder)[0].pipeline.counters
    normalizer, output = normalize(write_session(tmp_path / "s", strewn(rows, wrong, chance), bodies_of(folder)))
    # Between symbols the order may differ: that in which they were first seen, noise included.
    assert sorted(messages(output), key=by_symbol) == sorted(original(folder), key=by_symbol)
    counted = normalizer.pipeline.counters - before
    assert counted.keys() <= {"wire_errors", "skipped_array", "skipped_unknown_message", "skipped_unknown_channel"}
    assert counted.total() == len(wrong) > 400
    assert len(normalizer.warnings) <= 21


@among(LISTED)
def test_unknown_symbols_are_counted(folder: Path, tmp_path: Path) -> None:
    rows = rows_of(folder)
    symbol, _ = busiest(folder, "bookTicker")
    extra = [
        {"raw": row["raw"].replace(symbol, "NOSUCHCOIN").replace(symbol.lower(), "nosuchcoin")}
        for row in rows
        if event(row).get("s") == symbol
    ]
    normalizer, output = normalize(
        write_session(tmp_path / "s", strewn(rows, extra, random.Random(2)), bodies_of(folder))
    )
    assert output == normalized(folder)
    assert normalizer.pipeline.counters["skipped_unknown_symbol"] >= len(extra) - 100
    assert normalizer.warnings == ["not in the list of instruments, skipped: NOSUCHCOIN"]


@among(BARE)
@pytest.mark.parametrize("what", ["text", "nesting", "a long field", "many levels cut off", "noise"])
def test_frames_of_ten_megabytes(folder: Path, what: str, tmp_path: Path) -> None:
    rows = rows_of(folder)[:600]
    size = 10_000_000
    trade = '{"stream":"btcusdt@aggTrade","data":'
    diff = '{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":1,"u":2,"b":['
    frames: dict[str, Callable[[], Row]] = {
        "text": lambda: {"raw": "a" * size},
        "nesting": lambda: {"raw": trade + "[" * size},
        "a long field": lambda: {"raw": trade + '{"e":"aggTrade","p":"' + "1" * size + '"}}'},
        "many levels cut off": lambda: {"raw": (diff + '["1.0","1.0"],' * (size // 14))[:size]},
        "noise": lambda: {"b64": base64.b64encode(random.Random(3).randbytes(size)).decode()},
    }
    before = normalize(write_session(tmp_path / "before", rows, bodies_of(folder)))[1]
    mutated = strewn(rows, [frames[what]()], random.Random(3))
    normalizer, output = normalize(write_session(tmp_path / "s", mutated, bodies_of(folder)))
    assert output == before
    assert normalizer.pipeline.counters["wire_errors"] == 1


@among(BARE)
def test_a_connection_opened_again_is_trusted_with_nothing_old(folder: Path, tmp_path: Path) -> None:
    """Each book goes `resyncing` and is rebuilt from the next snapshot, also from one that was on its way."""
    rows, bodies = rows_of(folder), bodies_of(folder)
    half = len(rows) // 2
    again: list[Row] = []
    for symbol in places(rows, "depthUpdate"):
        snapshot = snapshot_of(folder, symbol)
        assert snapshot is not None
        book = NaiveBook(snapshot)
        for diff in diffs_of(rows[: half + 300], symbol):
            book.apply(diff)
        body = told(book.last, *book.guaranteed())
        url = f"/api/v3/depth?symbol={symbol}"
        again.append({"t": rows[half + 300]["t"] + 0.2, "url": url, "body": json.dumps(body)})
    opened = {"t": rows[half]["t"], "dir": "open", "raw": rows[0]["raw"]}
    mutated = [*rows[:half], opened, *rows[half:]]
    found = messages(normalize(write_session(tmp_path / "s", mutated, [*bodies, *again]))[1])
    assert resyncing(found, folder).keys() == places(rows, "depthUpdate").keys()
    assert trades(found, folder) == trades(original(folder), folder)
    for symbol, books in of_kind(found, folder, "book").items():
        assert [row["action"] for row in books].count("snapshot") == 2
        last = diffs_of(rows, symbol)[-1]["E"]
        snapshot = snapshot_of(folder, symbol)
        assert snapshot is not None
        mine, naive = followed(books, [last])[last], books_at(snapshot, diffs_of(rows, symbol), {last})[last]
        top = [sorted(side.items(), reverse=best)[:300] for side, best in zip(mine, (True, False), strict=True)]
        expected = [sorted(side.items(), reverse=best)[:300] for side, best in zip(naive, (True, False), strict=True)]
        assert top == expected


@among(BARE)
def test_thousands_of_snapshots_too_old_are_passed_over(folder: Path, tmp_path: Path) -> None:
    rows, bodies = rows_of(folder), bodies_of(folder)
    body = json.dumps(told(1, {}, {}))
    old = [{"t": 1.0, "url": bodies[0]["url"], "body": body} for _ in range(3000)]
    assert normalize(write_session(tmp_path / "s", rows, [*old, *bodies]))[1] == normalized(folder)


@among(BARE, MANY)
def test_messages_come_in_the_order_of_the_frames(folder: Path) -> None:
    """Trades of all symbols are one sequence, as they were received."""
    ours = [row["trade_id"] for row in original(folder) if row["type"] == "trade"]
    assert ours == [str(event(row)["a"]) for row in rows_of(folder) if event(row).get("e") == "aggTrade"]
    assert len([*groupby(row["symbol"] for row in original(folder) if row["type"] == "trade")]) > 10
