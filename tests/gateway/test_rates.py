"""max_rate: the newest at most so often, one frame for all with the same rate, and nothing older than it looks."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest

from gateway.fanout import Fanout
from gateway.frames import text_frame
from gateway.rates import Rates
from hub.model import KINDS, is_event
from tests.gateway.kit import Feed, Gateway, eventually, gateway_on, messages, quote, status, subscribe, trade, until
from tests.gateway.test_fanout import Client, Keeper, channel, payload, publish
from tests.gateway.test_slow import publish_until, stalled

QUOTE = "quote:binance:BTC-USDT"
TRADE = "trade:binance:BTC-USDT"
OTHER = "quote:binance:ETH-USDT"


async def publish_some(feed: Feed, *symbols: str) -> float:
    """Publish 200 quotes about every 5 ms; returns the last bid."""
    bid = 100.0
    for _ in range(200):
        bid += 1
        await feed.publish(*(quote(bid, symbol) for symbol in symbols or ("BTC-USDT",)))
        await asyncio.sleep(0.005)
    return bid


async def test_at_most_so_many_and_the_last_one_always(feed: Feed, gateway: Gateway) -> None:
    async with gateway.connect() as slow, gateway.connect() as fast:
        await subscribe(slow, QUOTE, max_rate=5)
        await subscribe(fast, QUOTE)
        await until(slow, "ack"), await until(fast, "ack")
        began = time.monotonic()
        last = await publish_some(feed)
        few, all_ = await messages(slow), await messages(fast)
        assert 2 <= len(few) <= (time.monotonic() - began) * 5 + 2
        assert len(all_) == 200
        assert few[-1]["bid"] == all_[-1]["bid"] == last
        assert [m["bid"] for m in few] == sorted({m["bid"] for m in few}), "none twice, none out of order"
        await feed.publish(quote(1.0))
        assert (await until(slow, "quote"))["bid"] == 1.0


async def test_a_pattern_with_a_rate(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(quote(1.0), quote(1.0, "ETH-USDT"))
    async with gateway.connect() as socket:
        await subscribe(socket, "quote:binance:*", max_rate=4)
        assert len([m for m in await messages(socket) if m["type"] == "quote"]) == 2, "the newest of each comes at once"
        began = time.monotonic()
        last = await publish_some(feed, "BTC-USDT", "ETH-USDT", "NEW-USDT")
        found = await messages(socket)
        for symbol in ("BTC-USDT", "ETH-USDT", "NEW-USDT"):
            bids = [m["bid"] for m in found if m["type"] == "quote" and m["symbol"] == symbol]
            assert 2 <= len(bids) <= (time.monotonic() - began) * 4 + 2
            assert bids[-1] == last


async def test_the_highest_rate_of_overlapping_subscriptions_holds(feed: Feed, gateway: Gateway) -> None:
    rates = gateway.runtime.subscriptions.rates
    await feed.publish(quote(), quote(symbol="ETH-USDT"))

    def groups() -> list[float]:
        return sorted(rate for _, rate in rates.groups)

    async with gateway.connect() as socket:
        for op, name, rate, expected in [
            ("subscribe", QUOTE, 2, [2.0]),
            ("subscribe", "quote:*:BTC-USDT", 5, [5.0]),
            ("subscribe", "quote:binance:*", 1, [1.0, 5.0]),
            ("subscribe", "quote:*:BTC-USDT", 0.5, [1.0, 2.0]),
            ("unsubscribe", QUOTE, None, [1.0, 1.0]),
            ("subscribe", QUOTE, None, [1.0]),
            ("unsubscribe", QUOTE, None, [1.0, 1.0]),
            ("unsubscribe", "quote:binance:*", None, [0.5]),
            ("unsubscribe", "quote:*:BTC-USDT", None, []),
        ]:
            extra = {} if rate is None else {"max_rate": rate}
            await socket.send(json.dumps({"op": op, "channels": [name], **extra}))
            await messages(socket, 0.1)
            assert groups() == expected, (op, name, rate)
        await subscribe(socket, QUOTE, max_rate=3)
        await until(socket, "ack")
    await eventually(lambda: groups() == [])  # a client that is gone leaves none


async def test_events_are_never_thinned_out(feed: Feed, gateway: Gateway) -> None:
    events = [kind for kind in KINDS if is_event(kind) and kind != "status"]
    async with gateway.connect() as socket:
        await subscribe(socket, *(f"{kind}:binance:BTC-USDT" for kind in events), "trade:*:*", QUOTE, id=1, max_rate=5)
        found = await messages(socket)
        errors = [m for m in found if m["type"] == "error"]
        assert {m["code"] for m in errors} == {"bad_max_rate"}
        assert len(errors) == len(events) + 1
        assert "quote" in errors[0]["allowed"]
        assert [m["channel"] for m in found if m["type"] == "ack"] == [QUOTE]
        for rate in (0, -1, 5000, "fast", float("1e400")):
            await subscribe(socket, QUOTE, id=2, max_rate=rate)
            assert await until(socket, "error", id=2) if rate != float("1e400") else await until(socket, "error")


async def test_a_status_is_not_overtaken(feed: Feed, gateway: Gateway) -> None:
    async with gateway.connect() as socket:
        await subscribe(socket, QUOTE, max_rate=0.1)
        await until(socket, "ack")
        await feed.publish(quote(1.0))
        assert (await until(socket, "quote"))["bid"] == 1.0
        await feed.publish(quote(2.0), status("stale", "BTC-USDT"))
        assert [m.get("bid", m["type"]) for m in await messages(socket)] == [2.0, "status"]
        await feed.publish(quote(3.0), status("resyncing", "BTC-USDT"), withdraw=[QUOTE])
        assert [m.get("bid", m["type"]) for m in await messages(socket)] == [3.0, "status"], "and nothing after it"


async def test_a_slow_reader_with_a_rate_gets_the_newest_in_the_end(redis_url: str, feed: Feed) -> None:
    async with gateway_on(redis_url) as gateway:
        client = await stalled(gateway, QUOTE, TRADE)
        await subscribe(client, QUOTE, max_rate=2)
        await asyncio.sleep(0.1)
        clients = gateway.runtime.clients
        await publish_until(feed, gateway, lambda: clients.held, make=lambda n: trade(n + 1))
        await feed.publish(quote(77.0))
        await asyncio.sleep(0.1)
        client.transport.resume_reading()
        assert (await until(client, "quote", bid=77.0, timeout_s=30))["bid"] == 77.0
        await feed.publish(quote(78.0))
        assert await until(client, "quote", bid=78.0)
        await client.close()


# without sockets


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def clock() -> AsyncIterator[Time]:
    yield Time()


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_one_timer_and_one_frame_for_all_with_the_same_rate(clock: Time) -> None:
    fanout = Fanout(Keeper())
    rates = Rates(fanout, clock)
    quotes = channel()
    clients = [Client() for _ in range(100)]
    for number, client in enumerate(clients):
        client.subscriber.note(quotes, 1)
        rates.assign(client.subscriber, quotes, 10.0 if number % 2 else 20.0)
        quotes.enter(client.subscriber)
    assert len(quotes.readers) == 2, "the fan-out sees two readers"
    publish(fanout, (quotes, 1))
    await turn()
    assert [client.seqs("quote") for client in clients] == [[1]] * 100
    assert len({id(client.writes[0]) for client in clients}) <= 2, "the same bytes"
    for seq in (2, 3, 4):
        publish(fanout, (quotes, seq))
    await turn()
    assert clients[0].seqs("quote") == [1], "too early"
    clock.now = 1.0
    await eventually(lambda: [client.seqs("quote") for client in clients] == [[1, 4]] * 100)
    for client in clients:
        quotes.leave(client.subscriber)
        rates.forget(client.subscriber, quotes)
    assert (len(rates.groups), len(quotes.groups), len(quotes.readers)) == (0, 0, 0)


async def test_who_comes_in_between_gets_nothing_twice(clock: Time) -> None:
    fanout = Fanout(Keeper())
    rates = Rates(fanout, clock)
    quotes, first, second, third = channel(), Client(), Client(), Client()

    def join(client: Client) -> None:
        client.subscriber.note(quotes, 1)
        rates.assign(client.subscriber, quotes, 20.0)
        quotes.enter(client.subscriber)

    join(first)
    publish(fanout, (quotes, 1))
    await turn()
    publish(fanout, (quotes, 2))
    join(second)  # it was given 2 when it joined
    await eventually(lambda: first.seqs("quote") == [1, 2])
    assert second.seqs("quote") == []
    publish(fanout, (quotes, 3))
    join(third)
    publish(fanout, (quotes, 4))
    await eventually(lambda: (second.seqs("quote"), third.seqs("quote")) == ([4], [4]))


async def test_changing_the_rate_loses_nothing(clock: Time) -> None:
    fanout = Fanout(Keeper())
    rates = Rates(fanout, clock)
    quotes, client = channel(), Client()
    client.subscriber.note(quotes, 1)
    rates.assign(client.subscriber, quotes, 0.1)
    quotes.enter(client.subscriber)
    publish(fanout, (quotes, 1))
    await turn()
    publish(fanout, (quotes, 2))
    rates.assign(client.subscriber, quotes, None)
    await turn()
    assert client.seqs("quote") == [1, 2], "it was waiting for it"
    publish(fanout, (quotes, 3))
    assert client.seqs("quote") == [1, 2, 3]
    assert quotes.readers == (client.subscriber,)
    assert client.subscriber.rated is None and rates.groups == {}


async def test_what_the_fan_out_holds_ready_counts_as_sent_by_nobody(clock: Time) -> None:
    """Between the parts of a batch: who parts, joins or is told a status then must neither lose nor repeat."""
    fanout = Fanout(Keeper())
    rates = Rates(fanout, clock)
    quotes, first, second = channel(), Client(), Client()
    for client in (first, second):
        client.subscriber.note(quotes, 1)
        rates.assign(client.subscriber, quotes, 1.0)
    quotes.enter(first.subscriber)
    (group,) = quotes.groups
    quotes.last = (5, 1)
    group.out = text_frame(payload(quotes, 1))
    quotes.enter(second.subscriber)
    first.subscriber.hold(0.0)
    assert first.subscriber.held is not None
    assert first.subscriber.held.counts[quotes] == quotes.count - 1
    group.settle()
    await turn()
    assert second.seqs("quote") == []


async def test_a_pause_keeps_what_was_due(clock: Time) -> None:
    fanout = Fanout(Keeper())
    rates = Rates(fanout, clock)
    quotes, client = channel(), Client()
    client.subscriber.note(quotes, 1)
    rates.assign(client.subscriber, quotes, 0.1)
    quotes.enter(client.subscriber)
    publish(fanout, (quotes, 1))
    await turn()
    publish(fanout, (quotes, 2))
    client.subscriber.hold(0.0)
    assert quotes.readers == ()
    client.subscriber.drain(1.0)
    assert client.seqs("quote") == [1, 2]
    assert len(quotes.readers) == 1
