"""feeds/connection.py: what is asked, asked again, answered first; and whose turn it is while two carry a symbol."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from feeds import connection as module
from feeds.adapter import BookGap, BookUpdate, Event, Fetch, Subscription, TradesLost
from feeds.connection import Connection
from feeds.outbox import Outbox
from feeds.pipeline import Pipeline, Source
from feeds.venues.binance import Binance
from feeds.venues.deribit import Deribit
from hub.config import BookSettings, CandleSettings
from hub.instruments import Instrument
from hub.model import Mark, Message, Quote, Status, Ticker, Trade
from tests.feeds.running import KINDS, Heard, limited

BTC = Instrument(venue="deribit", venue_symbol="BTC-PERPETUAL", symbol="BTC", kind="perpetual", base="BTC", quote="USD")
ETH = Instrument(venue="deribit", venue_symbol="ETH-PERPETUAL", symbol="ETH", kind="perpetual", base="ETH", quote="USD")


class Venue:
    """A server that answers requests as `answer` says (None: not at all), and keeps what it was asked."""

    def __init__(self, answer: Callable[[dict[str, Any], int], Any]) -> None:
        self.asked: list[dict[str, Any]] = []
        self.sockets: list[ServerConnection] = []
        self._answer = answer
        self.url = ""

    async def talk(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        async for text in socket:
            request = json.loads(text)
            self.asked.append(request)
            result = self._answer(request, len(self.of(request["method"])))
            if result is not None:
                await socket.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}))

    def of(self, method: str) -> list[dict[str, Any]]:
        return [request for request in self.asked if request["method"] == method]


@asynccontextmanager
async def connected(
    answer: Callable[[dict[str, Any], int], Any], *rows: Instrument, **limits: Any
) -> AsyncIterator[tuple[Venue, Connection, Heard]]:
    venue, heard = Venue(answer), Heard()
    adapter = limited(Deribit, messages_per_s=100, **limits)
    pipeline = Pipeline(adapter, KINDS, BookSettings(), CandleSettings(), heard)
    for row in (BTC, ETH):
        pipeline.add(row)
    subs = [Subscription(kind, row) for row in rows for kind in ("trade", "book", "depth")]

    def submit(*_: Any) -> None: ...

    async with serve(venue.talk, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        made = Connection(adapter(rows), url, subs, pipeline, submit, 1)
        task = asyncio.create_task(made.run())
        try:
            yield venue, made, heard
        finally:
            await made.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ACK_TIMEOUT_S", 0.8)
    monkeypatch.setattr(module, "CHECK_S", 0.05)


def channels(request: dict[str, Any]) -> list[str]:
    found: list[str] = request["params"].get("channels", [])
    return found


def everything(request: dict[str, Any], _: int) -> Any:
    return channels(request) if "subscribe" in request["method"] else "ok"


async def test_what_was_not_answered_is_asked_again(impatient: None) -> None:
    """The first request is lost; what was refused or accepted is not asked for again."""

    def late(request: dict[str, Any], number: int) -> Any:
        return None if request["method"] == "public/subscribe" and number == 1 else everything(request, number)

    async with connected(late, BTC) as (venue, made, _):
        await until(lambda: made.settled)
        first, second = venue.of("public/subscribe")
        assert channels(first) == channels(second) == ["trades.BTC-PERPETUAL.100ms", "book.BTC-PERPETUAL.100ms"]
        assert made.acked == set(channels(first))
        await asyncio.sleep(1.2)  # longer than an answer is waited for
        assert len(venue.of("public/subscribe")) == 2


async def test_only_what_is_missing_is_asked_again(impatient: None) -> None:
    def halves(request: dict[str, Any], number: int) -> Any:
        if request["method"] == "public/subscribe" and number == 2:
            return None
        return everything(request, number)

    async with connected(halves, BTC, ETH, subscribe_batch=2) as (venue, made, _):
        await until(lambda: made.settled)
        assert [len(channels(request)) for request in venue.of("public/subscribe")] == [2, 2, 2]
        assert all("ETH" in name for name in channels(venue.of("public/subscribe")[2]))


async def test_what_is_never_answered_is_called_refused_and_taken_back_when_it_is(impatient: None) -> None:
    mute = True

    def stubborn(request: dict[str, Any], number: int) -> Any:
        if request["method"] == "public/subscribe" and mute and any("ETH" in name for name in channels(request)):
            return [name for name in channels(request) if "BTC" in name] or None
        return everything(request, number)

    async with connected(stubborn, BTC, subscribe_batch=2) as (venue, made, heard):
        await until(lambda: made.settled)
        assert made.learn([ETH])
        made.add([Subscription(kind, ETH) for kind in ("trade", "book", "depth")])
        assert not made.settled
        await until(lambda: made.settled)
        assert len(venue.of("public/subscribe")) == 1 + module.ACK_TRIES
        assert made.report().refused == dict.fromkeys(
            ("book.ETH-PERPETUAL.100ms", "trades.ETH-PERPETUAL.100ms"), "no answer to 3 requests"
        )
        status = heard.statuses("ETH")[-1]
        assert (status.state, status.reason) == ("down", "the venue refused: no answer to 3 requests")
        assert not [each for each in heard.statuses("BTC") if each.state == "down"]
        mute = False
        made._ask([Subscription("trade", ETH), Subscription("book", ETH)])
        await until(lambda: not made.refused)
        assert heard.statuses("ETH")[-1].state == "live"


async def test_what_the_venue_waits_for_overtakes_requests() -> None:
    """Hundreds of subscribe frames take minutes at a venue's pace; none would wait so long for its test."""
    rows = [
        Instrument(venue="deribit", venue_symbol=f"X-{n}", symbol=f"X-{n}", kind="option", base="X", quote="X")
        for n in range(300)
    ]
    async with connected(everything, *rows, subscribe_batch=1, streams_per_connection=900) as (venue, _, _):
        await until(lambda: venue.sockets and len(venue.asked) >= 3)
        heartbeat = {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}}
        await venue.sockets[0].send(json.dumps(heartbeat))
        await until(lambda: venue.of("public/test"))
        assert len(venue.of("public/subscribe")) < 100


async def test_removing_what_was_never_sent_asks_nothing() -> None:
    made = Connection(Deribit([BTC]), "ws://nowhere", [Subscription("trade", BTC)], pipeline()[0], print, 1)
    made.remove(["BTC"])
    assert (made.subs, made.settled, len(made._outbox)) == ([], True, 0)


async def test_a_shared_channel_stays_while_one_kind_needs_it() -> None:
    async with connected(everything, BTC, ETH) as (venue, made, _):
        await until(lambda: made.settled)
        made.remove(["ETH"])
        await until(lambda: venue.of("public/unsubscribe"))
        (request,) = venue.of("public/unsubscribe")
        assert channels(request) == ["trades.ETH-PERPETUAL.100ms", "book.ETH-PERPETUAL.100ms"]
        assert made.symbols == {"BTC"}
        assert made.settled and made.report().requested == 2


async def test_the_outbox_is_bounded() -> None:
    box = Outbox()
    for _ in range(Outbox.SIZE_MAX):
        box.put(b"x")
    with pytest.raises(ConnectionError):
        box.put(b"x")


async def test_the_outbox_keeps_the_order_of_each_lane() -> None:
    box = Outbox()
    for frame, urgent in ((b"1", False), (b"a", True), (b"2", False), (b"b", True)):
        box.put(frame, urgent=urgent)
    assert [await box.get() for _ in range(4)] == [b"a", b"b", b"1", b"2"]
    waiting = asyncio.create_task(box.get())
    await asyncio.sleep(0)
    box.put(b"3")
    assert await waiting == b"3"


async def test_the_outbox_keeps_to_what_fits_a_window() -> None:
    times = 0

    def spent() -> None:
        nonlocal times
        times += 1

    box = Outbox(2, 1.0, spent)
    for frame in (b"1", b"2", b"3"):
        box.put(frame)
    assert [await box.get(), await box.get(), times] == [b"1", b"2", 0]
    waiting = asyncio.create_task(box.get())
    await asyncio.sleep(0)
    assert (times, len(box)) == (1, 1)
    box.put(b"a", urgent=True)
    assert await waiting == b"a"
    assert await box.get() == b"3"
    # The two that came first have left the window by now.
    box.put(b"4")
    assert await box.get() == b"4"


async def test_a_connection_whose_requests_are_used_up_is_to_be_replaced(impatient: None) -> None:
    async with connected(everything, BTC, ETH, subscribe_batch=1, requests=2) as (venue, made, _):
        await until(made.rotate.is_set)
        await until(lambda: len(venue.asked) == 2)
        await asyncio.sleep(0.3)
        assert len(venue.asked) == 2
        assert not made.settled and not made.refused


# two connections, one symbol

S = 1_000_000_000
ROW = Instrument(venue="binance", venue_symbol="AB", symbol="A-B", kind="spot", base="A", quote="B")


def pipeline() -> tuple[Pipeline, Heard]:
    heard = Heard()
    made = Pipeline(Binance, KINDS, BookSettings(), CandleSettings(), heard)
    made.add(ROW)
    return made, heard


def trade(number: int) -> Trade:
    return Trade("binance", "A-B", "", number * S, number * S, 0, 1.0, 1.0, "buy", str(number))


def two() -> tuple[Pipeline, Heard, Source, Source]:
    made, heard = pipeline()
    return made, heard, Source(Binance([ROW]), 1), Source(Binance([ROW]), 2)


def ids(heard: Heard) -> list[str]:
    return [each.trade_id for each in heard.trades()]


def test_the_next_connection_may_be_faster() -> None:
    """Told as it comes, 5 before 3 and 4 would be out of order, and look like a loss."""
    made, heard, old, new = two()
    made.feed(old, [trade(1), trade(2)])
    made.feed(new, [trade(4), trade(5)])
    made.feed(old, [trade(3), trade(4)])
    assert ids(heard) == ["1", "2", "3", "4"]
    made.handed_over(old, new, ["A-B"], "done", 9 * S)
    made.feed(new, [trade(6)])
    assert ids(heard) == ["1", "2", "3", "4", "5", "6"]
    assert "trades_lost" not in made.counters


def test_the_next_connection_may_be_slower() -> None:
    made, heard, old, new = two()
    made.feed(old, [trade(number) for number in range(1, 6)])
    made.handed_over(old, new, ["A-B"], "done", 9 * S)
    made.feed(new, [trade(4), trade(5), trade(6)])
    assert ids(heard) == [str(number) for number in range(1, 7)]


def test_a_long_overlap_tells_nothing_twice() -> None:
    """More trades than the window of known ids."""
    made, heard, old, new = two()
    for number in range(1, 6001):
        made.feed(old, [trade(number)])
        made.feed(new, [trade(number)])
    made.handed_over(old, new, ["A-B"], "done", 9 * S)
    assert ids(heard) == [str(number) for number in range(1, 6001)]


def test_a_connection_that_ends_before_the_next_is_complete_leaves_a_hole_that_is_said() -> None:
    made, heard, old, new = two()
    made.feed(old, [trade(1)])
    made.feed(new, [trade(3)])
    made.lost(old, ["A-B"], "gone", 9 * S, new)
    made.feed(new, [trade(4)])
    assert ids(heard) == ["1", "3", "4"]
    assert made.counters["trades_lost"] == 1
    assert heard.statuses("A-B")[0].state == "stale"


def test_trades_of_a_connection_that_gave_up_are_not_told() -> None:
    made, heard, old, new = two()
    made.feed(old, [trade(1)])
    made.feed(new, [trade(2), trade(3)])
    assert made.abandoned(new, old, ["A-B"], 9 * S) == []
    made.feed(old, [trade(2), trade(3), trade(4)])
    assert ids(heard) == ["1", "2", "3", "4"]


def test_books_of_a_connection_that_gave_up_are_rebuilt_on_the_old_one() -> None:
    """Nothing kept that book up to date: it must not stay live."""
    made, heard, old, new = two()
    for source in (old, new):
        made.feed(source, [BookUpdate(ROW, True, [(1.0, 1.0)], [(2.0, 1.0)], S, S)])
    (fetch,) = made.abandoned(new, old, ["A-B"], 9 * S)
    assert not isinstance(fetch, bytes) and fetch.resource == "depth"
    assert made.books_live == 0
    assert heard.statuses("A-B")[-1].state == "resyncing"


def test_newest_values_go_back_to_the_old_connection_as_well() -> None:
    made, heard, old, new = two()
    values: list[tuple[type[Message], Callable[[int], Message]]] = [
        (Quote, lambda ts: Quote("binance", "A-B", "", None, ts, 0, 1.0, 1.0, 2.0, 1.0)),
        (Ticker, lambda ts: Ticker("binance", "A-B", "", None, ts, 0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)),
        (Mark, lambda ts: Mark("binance", "A-B", "", None, ts, 0, 1.0, 1.0, 1.0, None, None)),
    ]
    for kind, value in values:
        for ts, source in ((1, old), (2, new), (3, old)):
            made.feed(source, [value(ts)])  # type: ignore[list-item]
        assert [each.ts_recv for each in heard.messages if isinstance(each, kind)] == [1, 2]
    made.abandoned(new, old, ["A-B"], 9 * S)
    for kind, value in values:
        made.feed(old, [value(4)])  # type: ignore[list-item]
        assert [each.ts_recv for each in heard.messages if isinstance(each, kind)] == [1, 2, 4]


def test_a_hole_in_numbers_is_told_once_by_two_connections() -> None:
    made, heard, old, new = two()
    made.feed(old, [trade(6)])
    lost = TradesLost("A-B", 7, 8, 2 * S, 2 * S)
    made.feed(new, [lost])
    made.feed(old, [lost])
    made.handed_over(old, new, ["A-B"], "done", 9 * S)
    assert made.counters["trades_lost"] == 2
    assert [each.reason for each in heard.statuses("A-B")] == ["2 trades lost, ids 7 to 8"]


# a symbol that is gone


def test_what_comes_late_for_a_removed_symbol_is_counted() -> None:
    made, heard, source, _ = two()
    made.feed(source, [BookUpdate(ROW, True, [(1.0, 1.0)], [(2.0, 1.0)], S, S)])
    made.remove("A-B", "not wanted", 2 * S)
    count = len(heard.messages)
    events: list[Event | Fetch] = [trade(1), BookGap(ROW, "x", S), BookUpdate(ROW, False, [(1.0, 0.0)], [], S, S)]
    assert made.feed(source, events) == []
    assert made.counters["skipped_removed_symbol"] == 3
    made.lost(source, ["A-B"], "gone", 3 * S)
    made.flowing(source, ["A-B"], 3 * S)
    made.tick(4 * S)
    assert len(heard.messages) == count
    last = heard.messages[-1]
    assert isinstance(last, Status) and (last.state, last.reason) == ("down", "not wanted")
    assert made.board.states() == {}
