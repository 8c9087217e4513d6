"""Streams that begin in the past, over both ways: what is stored in the order of its times, then live, without hole or
repeat, over breaks too."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from hub.client import Book, Client, Gap, Item, Live, Status, SyncClient, Trade
from hub.errors import RequestError
from hub.model import Message
from hub.position import parse_position
from tests.gateway.kit import Feed, book, gateway_on, status, trade
from tests.hub.client.kit import TRADE, collect, next_of, seqs, until

ETH = "trade:binance:ETH-USDT"
BOOK = "book:binance:BTC-USDT"
S = 1_000_000_000
#: Times of stored events: s after this one.
BEGIN = 1_700_000_000


def at(second: float, message: Message) -> Message:
    return msgspec.structs.replace(message, ts_event=int((BEGIN + second) * S))


def caught_up(*channels: str) -> Any:
    """Return what tells whether all of these channels are live."""
    missing = set(channels)

    def done(items: list[Item]) -> bool:
        missing.difference_update(item.channel for item in items if isinstance(item, Live))
        return not missing

    return done


def came(items: list[Item]) -> bool:
    return bool(seqs(items))


@pytest.mark.parametrize(
    "since",
    [BEGIN + 5, (BEGIN + 5) * 1000, "2023-11-14T22:13:25Z", datetime(2023, 11, 14, 22, 13, 25, tzinfo=UTC), "id"],
)
async def test_from_a_place_on_then_live(hub: Client, feed: Feed, since: Any) -> None:
    await feed.publish(*(at(n, trade(n)) for n in range(1, 11)), status("live"))
    epoch = feed.builder.epoch
    async with hub.stream(TRADE, since=f"{epoch}-5" if since == "id" else since) as stream:
        first = await anext(stream)
        assert isinstance(first, Trade)
        if stream.state(TRADE)[0] != "live":  # as long as it has not caught up
            assert stream.state(TRADE) == ("stale", "what is stored is being replayed")
        items = [first, *await collect(stream, caught_up(TRADE))]
        assert seqs(items) == [5, 6, 7, 8, 9, 10]
        assert items[-1] == Live(TRADE, f"{epoch}-10")
        assert stream.state(TRADE) == ("live", "")
        await feed.publish(trade(11))
        assert seqs(await collect(stream, came)) == [11]


async def test_channels_of_a_pattern_come_in_the_order_of_their_times(hub: Client, feed: Feed) -> None:
    for n in range(1, 400):
        await feed.publish(at(n, trade(n, "BTC-USDT" if n % 3 else "ETH-USDT")))
    async with hub.stream("trade:binance:*", since=BEGIN) as stream:
        items = await collect(stream, caught_up(TRADE, ETH))
        told = [item.ts_event for item in items if isinstance(item, Trade)]
        assert told == [(BEGIN + n) * S for n in range(1, 400)]
        await feed.publish(trade(1, "SOL-USDT"), trade(400))
        await collect(stream, lambda items: any(isinstance(i, Trade) and i.symbol == "SOL-USDT" for i in items))


async def test_speed_paces_what_is_stored(hub: Client, feed: Feed) -> None:
    await feed.publish(*(at(n * 100, trade(n)) for n in range(1, 11)))
    async with hub.stream(TRADE, since=BEGIN, speed=1000) as stream:
        began = time.monotonic()
        items = await collect(stream, caught_up(TRADE))
        took_s = time.monotonic() - began
    assert seqs(items) == list(range(1, 11))
    assert took_s > 0.85, "900 s at 1000 times the speed"


async def test_a_book_begins_with_a_snapshot(hub: Client, feed: Feed) -> None:
    await feed.publish(at(0, book([(1.0, 1.0)], [(2.0, 1.0)], "snapshot")))
    await feed.publish(*(at(n, book([(1.0, float(n))], [])) for n in range(1, 9)))
    async with hub.stream(BOOK, since=BEGIN + 6) as stream:
        items = await collect(stream, caught_up(BOOK))
    books = [item for item in items if isinstance(item, Book)]
    assert books[0].action == "snapshot"
    numbers = [parse_position(item.id)[1] for item in books]
    assert numbers == list(range(numbers[0], 10))


async def test_what_the_log_no_longer_holds_is_a_gap(hub: Client, feed: Feed) -> None:
    await feed.publish(*(at(n, trade(n)) for n in range(1, 500)), maxlen=1)
    async with hub.stream(TRADE, since=BEGIN - 100) as stream:
        items = await collect(stream, caught_up(TRADE))
    first = seqs(items)[0]
    assert first > 1
    assert items[0] == Gap(TRADE, "0-0", f"{feed.builder.epoch}-{first}")
    assert seqs(items) == list(range(first, 500))


async def test_nothing_is_stored(hub: Client, feed: Feed) -> None:
    async with hub.stream(TRADE, since=BEGIN) as stream:
        items = await collect(stream, caught_up(TRADE))
        assert seqs(items) == []
        await feed.publish(trade(1))
        assert seqs(await collect(stream, came)) == [1]


async def test_statuses_of_the_past_do_not_judge_the_present(hub: Client, feed: Feed) -> None:
    states = ["live", "down", "stale"] * 20
    await feed.publish(*(at(n, status(state)) for n, state in enumerate(states)))
    await feed.publish(status("live"), trade(1))
    async with hub.stream("status:binance:*", TRADE, since=BEGIN) as stream:
        items = await collect(stream, caught_up(TRADE, "status:binance:*"))
        assert [item.state for item in items if isinstance(item, Status)] == [*states, "live"]
        await until(lambda: stream.state(TRADE) == ("live", ""))
        await feed.publish(status("down"))
        assert (await next_of(stream, Status)).state == "down"


async def test_a_slow_reader_gets_all_of_a_long_log(hub: Client, feed: Feed) -> None:
    for start in range(1, 15_001, 500):
        await feed.publish(*(at(n / 1000, trade(n)) for n in range(start, start + 500)), maxlen=100_000)
    async with hub.stream(TRADE, since=f"{feed.builder.epoch}-1") as stream:
        found = [await anext(stream)]
        await asyncio.sleep(0.1)
        await feed.publish(trade(15_001), maxlen=100_000)
        items = [*found, *await collect(stream, caught_up(TRADE))]
        if seqs(items)[-1] == 15_000:
            items += await collect(stream, came)
    assert [item for item in items if isinstance(item, Gap)] == []
    assert seqs(items) == list(range(1, 15_002))


async def test_a_break_does_not_disturb_a_replay(feed: Feed, redis_url: str) -> None:
    for start in range(1, 6001, 500):
        await feed.publish(
            *(at(n / 1000, trade(n, "BTC-USDT" if n % 2 else "ETH-USDT")) for n in range(start, start + 500)),
            maxlen=100_000,
        )
    async with (
        gateway_on(redis_url) as gateway,
        Client(gateway.http) as hub,
        hub.stream("trade:binance:*", since=BEGIN + 0.0015) as stream,
    ):
        items: list[Item] = []
        done = caught_up(TRADE, ETH)
        while not done(batch := await stream.batch()):
            items += batch
            if stream.reconnects < 3 and len(items) > 1000 * (stream.reconnects + 1):
                for bucket in gateway.runtime.clients._buckets:
                    for client in list(bucket):
                        client.abort()
        items += batch
        assert stream.reconnects == 3
    assert {item.channel for item in items if isinstance(item, Gap)} <= {ETH}, "of ETH there is nothing before"
    for symbol, first in (("BTC-USDT", 2), ("ETH-USDT", 1)):
        own = [item for item in items if isinstance(item, Trade) and item.symbol == symbol]
        assert seqs([*own]) == list(range(first, 3001))


async def test_without_async(hub: Client, feed: Feed, redis_url: str) -> None:
    await feed.publish(*(at(n, trade(n)) for n in range(1, 4)))

    def read() -> list[Item]:
        with SyncClient(redis_url) as client, client.stream(TRADE, since=BEGIN, speed=1_000_000) as stream:
            return [stream.next(20) for _ in range(4)]

    assert await asyncio.to_thread(read) == [*await asyncio.to_thread(read)]
    assert seqs(await asyncio.to_thread(read)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("channels", "options", "code"),
    [
        (["quote:binance:BTC-USDT"], {"since": BEGIN}, "bad_since"),
        ([TRADE], {"since": "soon"}, "bad_since"),
        ([TRADE], {"since": -1}, "bad_since"),
        ([TRADE], {"since": float("nan")}, "bad_since"),
        ([TRADE], {"since": BEGIN, "after": "1-1"}, "bad_since"),
        (["trade:*:BTC-USDT"], {"since": "1-1"}, "bad_since"),
        ([TRADE, ETH], {"since": "1-1"}, "bad_since"),
        ([TRADE], {"speed": 1}, "bad_speed"),
        ([TRADE], {"since": BEGIN, "speed": -1}, "bad_speed"),
        ([TRADE], {"since": BEGIN, "speed": float("nan")}, "bad_speed"),
        ([f"trade:binance:X{n}" for n in range(1001)], {"since": BEGIN}, "bad_since"),
    ],
)
async def test_what_cannot_be_is_refused_at_once(
    channels: list[str], options: dict[str, Any], code: str, redis_url: str
) -> None:
    async with Client(redis_url) as hub:
        with pytest.raises(RequestError) as caught:
            hub.stream(*channels, **options)
    assert caught.value.code == code
