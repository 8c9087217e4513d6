"""Streams, over the gateway and straight from Redis: one suite, for the promises are the same."""

import asyncio
import time

import pytest

from hub.client import Book, Client, Gap, Message, Quote, Status, Stream, Trade
from hub.errors import RequestError
from hub.model import State
from tests.gateway.kit import SYMBOL, Feed, book, quote, status, trade
from tests.hub.client.kit import TRADE, collect, next_of, publish_trades, seqs, until

QUOTE = "quote:binance:BTC-USDT"


async def test_the_newest_then_the_stream_as_typed_messages(hub: Client, feed: Feed) -> None:
    await feed.publish(quote(1.0))
    await feed.publish(quote(2.0))
    async with hub.stream("quote:*:BTC-USDT") as stream:
        first = await next_of(stream, Message)
        assert isinstance(first, Quote) and (first.bid, first.venue) == (2.0, "binance")
        await feed.publish(quote(3.0))
        second = await next_of(stream, Quote)
        assert second.bid == 3.0
        await until(lambda: stream.state(QUOTE) == ("live", ""))


async def test_events_after_an_id(hub: Client, feed: Feed) -> None:
    await feed.publish(*(trade(n) for n in range(1, 8)))
    epoch = feed.builder.epoch
    async with hub.stream(TRADE, after=f"{epoch}-3") as stream:
        items = await collect(stream, lambda new: seqs(new)[-1:] == [7])
    assert seqs(items) == [4, 5, 6, 7]
    assert not any(isinstance(item, Gap) for item in items)


async def test_what_the_log_has_lost_is_a_gap(hub: Client, feed: Feed) -> None:
    await feed.publish(*(trade(n) for n in range(1, 4)))
    await feed.redis.xtrim(feed.keys.log(TRADE), maxlen=1, approximate=False)
    epoch = feed.builder.epoch
    async with hub.stream(TRADE, after=f"{epoch}-1") as stream:
        items = await collect(stream, lambda new: bool(seqs(new)))
    assert next(item for item in items if not isinstance(item, Status)) == Gap(TRADE, f"{epoch}-1", f"{epoch}-3")
    assert seqs(items) == [3]


async def test_a_channel_nobody_publishes_is_down_until_somebody_does(hub: Client, feed: Feed) -> None:
    async with hub.stream("quote:binance:NEW-USDT") as stream:
        told = await next_of(stream, Status)
        assert (told.state, told.kind, told.symbol) == ("down", "quote", "NEW-USDT")
        assert stream.state("quote:binance:NEW-USDT")[0] == "down"
        await feed.publish(quote(1.0, "NEW-USDT"))
        assert (await next_of(stream, Quote)).symbol == "NEW-USDT"
        task = asyncio.ensure_future(collect(stream, lambda _: False))
        await until(lambda: stream.state("quote:binance:NEW-USDT")[0] == "live")
        task.cancel()


async def test_a_wildcard_follows_a_new_symbol(hub: Client, feed: Feed) -> None:
    await feed.publish(trade(1))
    async with hub.stream("trade:binance:*") as stream:
        assert (await next_of(stream, Trade)).symbol == SYMBOL
        await feed.publish(*(trade(n, "ETH-USDT") for n in range(1, 6)))
        await feed.publish(trade(6, "ETH-USDT"))
        items = await collect(stream, lambda items: [6] == seqs(items)[-1:])
        # Over the gateway a pattern's new channel begins with its newest message; what is before is told.
        missing = [item for item in items if isinstance(item, Gap)]
        first = seqs(items)[0]
        assert seqs(items) == list(range(first, 7))
        assert first == 1 or [gap.last for gap in missing] == ["0-0"]


async def test_statuses_come_unasked_and_decide_the_state(hub: Client, feed: Feed) -> None:
    await feed.publish(status("live"), quote(1.0), book([(1.0, 1.0)], [(2.0, 1.0)], "snapshot"))
    async with hub.stream(QUOTE, "book:binance:BTC-USDT") as stream:
        await next_of(stream, Book)
        states: list[tuple[State, str]] = []
        whole = book([(1.0, 2.0)], [(2.0, 1.0)], "snapshot")
        steps: list[tuple[State, list[Book]]] = [("resyncing", []), ("live", [whole])]
        for state, first in steps:
            await feed.publish(*first, status(state, SYMBOL, kind="book"))
            told = await next_of(stream, Status)
            assert (told.state, told.kind) == (state, "book")
            states.append(stream.state("book:binance:BTC-USDT"))
        assert states == [("resyncing", "test"), ("live", "")]
        await feed.publish(status("stale"))
        assert (await next_of(stream, Status)).state in {"stale", "resyncing"}
        await until(lambda: _drained(stream, QUOTE, "stale"))


async def _drained(stream: Stream, channel: str, state: State) -> bool:
    try:
        async with asyncio.timeout(0.2):
            await stream.batch()
    except TimeoutError:
        pass
    return stream.state(channel)[0] == state


async def test_a_feed_without_a_pulse_is_down_and_comes_back(hub: Client, feed: Feed) -> None:
    await feed.publish(quote(1.0))
    async with hub.stream(QUOTE) as stream:
        await next_of(stream, Quote)
        await feed.redis.delete(feed.keys.alive("binance"))
        assert (await next_of(stream, Status)).state == "down"
        assert stream.state(QUOTE)[0] == "down"
        await feed.pulse()
        assert (await next_of(stream, Status)).state == "live"
        assert stream.state(QUOTE) == ("live", "")


async def test_a_wait_that_is_cancelled_loses_nothing(hub: Client, feed: Feed) -> None:
    await feed.publish(trade(1))
    async with hub.stream(TRADE) as stream, publish_trades(feed, 0.003) as sent:
        found: list[int] = []
        while len(found) < 100:
            try:
                async with asyncio.timeout(0.002):
                    found += seqs(await stream.batch())
            except TimeoutError:
                continue
        assert found == list(range(found[0], found[0] + len(found)))
        assert sent


async def test_a_slow_consumer_gets_every_event_in_the_end(hub: Client, feed: Feed, way: str) -> None:
    # More than any queue on the way holds; a gateway replays 10,000 at most.
    batches = 19 if way == "gateway" else 50
    await feed.publish(trade(1))
    async with hub.stream(TRADE) as stream:
        await next_of(stream, Trade)
        last = 1
        for _ in range(batches):
            await feed.publish(*(trade(n) for n in range(last + 1, last + 501)), maxlen=100_000)
            last += 500
        items = await collect(stream, lambda items: seqs(items)[-1:] == [last])
        assert stream.lagged
    assert seqs(items) == list(range(2, last + 1))
    assert [item for item in items if isinstance(item, Gap)] == []


async def test_a_slow_consumer_gets_the_newest_state(hub: Client, feed: Feed) -> None:
    await feed.publish(quote(0.0))
    async with hub.stream(QUOTE) as stream:
        await next_of(stream, Quote)
        for turn in range(30):
            await feed.publish(*(quote(float(turn * 500 + n)) for n in range(1, 501)))
        newest = 29 * 500 + 500.0
        items = await collect(
            stream, lambda items: [item.bid for item in items if isinstance(item, Quote)][-1:] == [newest]
        )
    bids = [item.bid for item in items if isinstance(item, Quote)]
    assert bids == sorted(bid for bid in bids if bid is not None)


async def test_max_rate_gives_the_newest_of_each_span(hub: Client, feed: Feed) -> None:
    await feed.publish(quote(0.0))
    async with hub.stream(QUOTE, max_rate=5) as stream:
        await next_of(stream, Quote)
        began = time.monotonic()
        for n in range(1, 200):
            await feed.publish(quote(float(n)))
        items = await collect(
            stream, lambda items: [item.bid for item in items if isinstance(item, Quote)][-1:] == [199.0]
        )
    assert len([item for item in items if isinstance(item, Quote)]) <= (time.monotonic() - began) * 5 + 2


async def test_a_closed_stream_ends(hub: Client, feed: Feed) -> None:
    await feed.publish(quote(1.0))
    stream = hub.stream(QUOTE)
    await next_of(stream, Quote)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert [item async for item in stream] == []
    assert stream.state(QUOTE) == ("down", "the stream is closed")


@pytest.mark.parametrize(
    ("channels", "options", "code"),
    [
        ([], {}, "bad_channel"),
        (["quote"], {}, "bad_channel"),
        (["price:binance:BTC-USDT"], {}, "unknown_kind"),
        (["quote:Binance:BTC-USDT"], {}, "bad_venue"),
        (["quote:binance:BTC USDT"], {}, "bad_symbol"),
        ([TRADE], {"max_rate": 1}, "bad_max_rate"),
        ([QUOTE], {"max_rate": 0}, "bad_max_rate"),
        ([TRADE, QUOTE], {"after": "1-1"}, "bad_after"),
        ([TRADE], {"after": "x"}, "bad_after"),
        ([TRADE], {"after": {QUOTE: "1-1"}}, "bad_after"),
    ],
)
async def test_what_cannot_be_is_refused_at_once(
    channels: list[str], options: dict[str, float], code: str, redis_url: str
) -> None:
    async with Client(redis_url) as hub:
        with pytest.raises(RequestError) as caught:
            hub.stream(*channels, **options)  # type: ignore[arg-type]
    assert caught.value.code == code
