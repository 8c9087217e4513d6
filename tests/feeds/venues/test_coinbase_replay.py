"""Coinbase's side of the replay server: both feeds over real sockets, read by the adapters that a hub would use."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from feeds.adapter import Acked, BookGap, BookUpdate, Event, Fetch, Refused, Subscription
from feeds.replay import ReplayServer
from feeds.venues.coinbase import Coinbase, CoinbaseExchange
from hub.instruments import Instrument
from hub.model import Trade
from tests.feeds.venues.coinbase_naive import OWN, NaiveBook, book_events, frames_of, trades_of

ADVANCED, EXCHANGE = OWN / "advanced_trade_2026-08-09_cut", OWN / "exchange_feed_2021-04-17_cut"


def row(name: str) -> Instrument:
    base, _, quote = name.partition("-")
    return Instrument(venue="coinbase", venue_symbol=name, symbol=name, kind="spot", base=base, quote=quote)


async def heard(socket: ClientConnection, adapter: Coinbase, silence_s: float = 1.0) -> list[Event | Fetch]:
    """Return what an adapter makes of all that comes until nothing does."""
    events: list[Event | Fetch] = []
    while True:
        try:
            payload = await asyncio.wait_for(socket.recv(decode=False), silence_s)
        except TimeoutError:
            return events
        events += adapter.receive(payload, len(events) + 1)


def final(folder: Path, product: str) -> NaiveBook:
    book = NaiveBook()
    for frame in frames_of(folder):
        for name, _, levels in book_events(frame):
            for level in levels if name == product else ():
                book.set(*level)
    return book


def applied(events: list[Event | Fetch], product: str) -> tuple[dict[float, float], dict[float, float]]:
    sides: tuple[dict[float, float], dict[float, float]] = ({}, {})
    for event in events:
        if not isinstance(event, BookUpdate) or event.instrument.symbol != product:
            continue
        for side, levels in zip(sides, (event.bids, event.asks), strict=True):
            if event.snapshot:
                side.clear()
            side.update(levels)
            for price in [price for price, size in levels if not size]:
                del side[price]
    return sides


@pytest.mark.parametrize(
    ("form", "folder", "product"), [(Coinbase, ADVANCED, "ETH-USD"), (CoinbaseExchange, EXCHANGE, "SKL-USD")]
)
async def test_who_comes_first_and_who_comes_late_have_one_book(
    form: type[Coinbase], folder: Path, product: str
) -> None:
    subs = [Subscription(kind, row(product)) for kind in ("trade", "book", "ticker")]
    expected = [trade[1:] for trade in trades_of(frames_of(folder)) if trade[0] == product]
    async with ReplayServer("coinbase", [folder], speed=20) as server, connect(server.ws_url, max_size=None) as first:
        adapter = form([row(product)])
        for frame in adapter.subscribe(subs):
            await first.send(frame, text=True)
        events = await heard(first, adapter)
        trades = [event for event in events if isinstance(event, Trade)]
        assert [(t.price, t.size, t.side, t.trade_id) for t in trades] == [
            (float(price), float(size), side, number) for price, size, side, number in expected
        ]
        assert not [event for event in events if isinstance(event, (BookGap, Refused))]
        names = {name for event in events if isinstance(event, Acked) for name in event.channels}
        assert names == set(adapter.venue_channels(subs))
        whole = final(folder, product)
        book = [{float(price): float(size) for price, size in side.items()} for side in (whole.bids, whole.asks)]
        assert [*applied(events, product)] == book
        async with connect(server.ws_url, max_size=None) as second:
            late = form([row(product)])
            for frame in late.subscribe(subs):
                await second.send(frame, text=True)
            assert [*applied(await heard(second, late), product)] == book


async def test_a_book_is_asked_for_again_on_the_same_connection() -> None:
    product = row("ETH-USD")
    async with (
        ReplayServer("coinbase", [ADVANCED], speed=20) as server,
        connect(server.ws_url, max_size=None) as socket,
    ):
        adapter = Coinbase([product])
        for frame in adapter.subscribe([Subscription("book", product)]):
            await socket.send(frame, text=True)
        assert [type(event) for event in await heard(socket, adapter)].count(BookUpdate) > 10
        for request in adapter.resync(product):
            assert isinstance(request, bytes)
            await socket.send(request, text=True)
        again = [event for event in await heard(socket, adapter) if isinstance(event, BookUpdate)]
        assert [update.snapshot for update in again] == [True]


async def test_laps_move_times_and_numbers_and_leave_no_hole() -> None:
    async with ReplayServer("coinbase", [ADVANCED], speed=100, loop=True, pause_s=0.1) as server:
        numbers: list[int] = []
        for _ in range(2):  # each lap ends by closing the socket
            async with connect(server.ws_url, max_size=None) as socket:
                request = {"type": "subscribe", "channel": "market_trades", "product_ids": ["BTC-USD"]}
                await socket.send(json.dumps(request))
                async for payload in socket:
                    told: dict[str, Any] = json.loads(payload)
                    updates = [e for e in told["events"] if e.get("type") == "update"]
                    numbers += [int(trade["trade_id"]) for e in updates for trade in reversed(e["trades"])]
        count = len([trade for trade in trades_of(frames_of(ADVANCED)) if trade[0] == "BTC-USD"])
        assert numbers[:count] == list(range(numbers[0], numbers[0] + count))
        assert all(later == earlier + 1 for earlier, later in zip(numbers[count:], numbers[count + 1 :], strict=False))
        assert numbers[count] >= numbers[0] + count


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ('{"type":"subscribe","channel":"nonsense","product_ids":["ETH-USD"]}', {"message": "authentication failure"}),
        ('{"type":"subscribe","channel":"level2","product_ids":["NO-SUCH"]}', {"message": "invalid product_ids"}),
        (
            '{"type":"subscribe","channels":["matches"],"product_ids":["NO-SUCH"]}',
            {"message": "Failed to subscribe", "reason": "NO-SUCH is not a valid product"},
        ),
        ("{", {"message": "Malformed JSON"}),
    ],
)
async def test_refusals(request_: str, expected: dict[str, str]) -> None:
    async with ReplayServer("coinbase", [ADVANCED]) as server, connect(server.ws_url) as socket:
        await socket.send(request_)
        assert json.loads(await asyncio.wait_for(socket.recv(), 30)) == {"type": "error", **expected}
