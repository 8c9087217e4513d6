"""Subscribing over a real socket: acknowledgements, joins, patterns, errors."""

import asyncio
import json
import random
from collections import Counter
from typing import Any
from unittest.mock import ANY

import pytest
from websockets.exceptions import ConnectionClosed

from hub.book import OrderBook
from hub.model import Level
from tests.gateway.kit import (
    Feed,
    Gateway,
    book,
    eventually,
    gateway_on,
    messages,
    quote,
    status,
    subscribe,
    trade,
    until,
)
from tests.gateway.tokens import refused

QUOTE = "quote:binance:BTC-USDT"
TRADE = "trade:binance:BTC-USDT"
BOOK = "book:binance:BTC-USDT"


def ids(found: list[dict[str, Any]], kind: str) -> list[int]:
    return [int(m["id"].split("-")[1]) for m in found if m["type"] == kind]


def kinds(found: list[dict[str, Any]]) -> Counter[str]:
    return Counter(m["type"] for m in found)


async def test_subscribe_gives_ack_with_state_then_newest_then_the_stream(feed: Feed, gateway: Gateway) -> None:
    (newest,) = await feed.publish(quote(5.0))
    async with gateway.connect() as socket:
        await subscribe(socket, QUOTE, id=1)
        assert json.loads(await socket.recv()) == {
            "type": "ack", "op": "subscribe", "id": 1, "channel": QUOTE, "state": "live"
        }  # fmt: skip
        assert await socket.recv(decode=False) == newest, "byte for byte what stands in Redis"
        (following,) = await feed.publish(quote(6.0))
        assert await socket.recv(decode=False) == following


async def test_a_channel_nobody_publishes_is_accepted_and_delivers_once_it_exists(feed: Feed, gateway: Gateway) -> None:
    async with gateway.connect() as socket:
        await subscribe(socket, TRADE)
        ack = json.loads(await socket.recv())
        assert (ack["type"], ack["state"]) == ("ack", "down")
        await feed.publish(trade(1))
        assert (await until(socket, "trade"))["trade_id"] == "1"


async def test_subscribing_by_url_alone(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(quote(), trade(1), quote(symbol="ETH-USDT"))
    async with gateway.connect("/BTC-USDT") as socket:
        found = await messages(socket)
    assert {m["type"] for m in found} == {"ack", "quote", "trade"}
    assert {m["symbol"] for m in found if "symbol" in m} == {"BTC-USDT"}
    async with gateway.connect("/BTC-USDT?kinds=quote,nonsense&venues=binance") as socket:
        found = await messages(socket)
    assert [m["type"] for m in found if m["type"] != "error"] == ["ack", "quote"]
    assert [m["code"] for m in found if m["type"] == "error"] == ["unknown_kind"]


async def test_after_gives_the_events_since_then(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(*(trade(n) for n in range(1, 11)))
    epoch = feed.builder.epoch
    async with gateway.connect() as socket:
        await subscribe(socket, TRADE, after={TRADE: f"{epoch}-4"})
        found = await messages(socket)
        assert ids(found, "trade") == [5, 6, 7, 8, 9, 10]
        await feed.publish(trade(11))
        assert ids(await messages(socket), "trade") == [11]
    async with gateway.connect() as socket:
        await subscribe(socket, TRADE, after=f"{epoch}-11")
        assert [m["type"] for m in await messages(socket)] == ["ack"], "nothing is missing"


@pytest.mark.parametrize("place", ["1-1", "{epoch}-2", "{epoch}-99", "{later}-1"])
async def test_after_beyond_the_log_is_a_gap_and_the_newest(feed: Feed, gateway: Gateway, place: str) -> None:
    await feed.publish(*(trade(n) for n in range(1, 11)))
    epoch = feed.builder.epoch
    await feed.redis.xtrim(feed.keys.log(TRADE), maxlen=3, approximate=False)
    after = place.format(epoch=epoch, later=epoch + 1)
    async with gateway.connect() as socket:
        await subscribe(socket, TRADE, after=after)
        ack, gap, newest = await messages(socket)
        assert ack["type"] == "ack"
        assert gap == {"type": "gap", "channel": TRADE, "last": after, "next": f"{epoch}-10"}
        assert newest["trade_id"] == "10"
        await feed.publish(trade(11))
        assert ids(await messages(socket), "trade") == [11]


async def test_after_of_a_pattern_holds_for_its_channels_that_are_new(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(*(trade(n) for n in range(1, 6)), *(trade(n, "ETH-USDT") for n in range(1, 4)))
    epoch = feed.builder.epoch
    async with gateway.connect() as socket:
        pattern = "trade:binance:*"
        await subscribe(socket, TRADE, pattern, after={TRADE: f"{epoch}-4", pattern: "0-0"})
        found = [m for m in await messages(socket) if m["type"] == "trade"]
    assert [(m["symbol"], m["trade_id"]) for m in found] == [
        ("BTC-USDT", "5"), ("ETH-USDT", "1"), ("ETH-USDT", "2"), ("ETH-USDT", "3"),
    ]  # fmt: skip


async def test_bad_after_is_an_error(feed: Feed, gateway: Gateway) -> None:
    async with gateway.connect() as socket:
        await subscribe(socket, TRADE, QUOTE, after="5-1", id=1)
        assert {m["code"] for m in await messages(socket)} == {"bad_after"}
        await subscribe(socket, TRADE, QUOTE, after={TRADE: "x"}, id=2)
        found = await messages(socket)
        assert [(m["type"], m.get("channel")) for m in found] == [("error", TRADE), ("ack", QUOTE)]


async def test_trades_join_without_hole_or_repeat_while_they_are_published(feed: Feed, gateway: Gateway) -> None:
    """Property: whenever a client joins, with or without `after`, it gets a run of ids without hole or repeat."""
    randoms = random.Random(1)
    stop = asyncio.Event()

    async def publish() -> None:
        number = 0
        while not stop.is_set():
            batch = [trade(number + i) for i in range(randoms.randint(1, 5))]
            number += len(batch)
            await feed.publish(*batch, quote(float(number + 1)))
            await asyncio.sleep(randoms.choice([0, 0, 0.001]))

    async def client(turn: int) -> None:
        async with gateway.connect() as socket:
            after: str | None = None
            for _ in range(4):
                extra = {"after": {TRADE: after}} if after and turn % 2 else {}
                await subscribe(socket, TRADE, QUOTE, **extra)
                expected = int(after.split("-")[1]) if extra and after else None
                quotes: list[int] = []
                for _ in range(randoms.randint(20, 60)):
                    message = json.loads(await asyncio.wait_for(socket.recv(), 30))
                    assert message["type"] in {"ack", "trade", "quote"}, message
                    if message["type"] == "trade":
                        seq = int(message["id"].split("-")[1])
                        assert expected is None or seq == expected + 1, f"{seq} after {expected}"
                        expected, after = seq, message["id"]
                    elif message["type"] == "quote":
                        quotes.append(int(message["id"].split("-")[1]))
                assert quotes == sorted(set(quotes))
                await socket.send(json.dumps({"op": "unsubscribe", "channels": [TRADE, QUOTE]}))
                acks = 0
                while acks < 2:
                    message = json.loads(await asyncio.wait_for(socket.recv(), 30))
                    acks += message["type"] == "ack" and message["op"] == "unsubscribe"
                    if message["type"] == "trade":
                        after = message["id"]

    await feed.publish(trade(0), quote())
    publisher = asyncio.create_task(publish())
    try:
        await asyncio.gather(*(client(turn) for turn in range(12)))
    finally:
        stop.set()
        await publisher


async def test_a_joined_book_equals_the_publishers(feed: Feed, gateway: Gateway) -> None:
    randoms = random.Random(2)

    def levels() -> tuple[list[Level], list[Level]]:
        bids = [(float(randoms.randint(1, 50)), float(randoms.randint(0, 3))) for _ in range(3)]
        asks = [(float(randoms.randint(51, 100)), float(randoms.randint(0, 3))) for _ in range(3)]
        return list(dict(bids).items()), list(dict(asks).items())

    stop = asyncio.Event()
    final: list[int] = []

    async def publish() -> None:
        while not stop.is_set():
            await feed.publish(*(book(*levels()) for _ in range(randoms.randint(1, 4))))
            await asyncio.sleep(0.0005)

    async def client() -> None:
        kept = OrderBook()
        last = -1
        async with gateway.connect() as socket:
            await asyncio.sleep(randoms.random() * 0.3)
            await subscribe(socket, BOOK)
            await until(socket, "ack")
            first = True
            while last not in final:
                message = json.loads(await asyncio.wait_for(socket.recv(), 30))
                seq = int(message["id"].split("-")[1])
                if message["action"] == "snapshot":
                    kept.replace(message["bids"], message["asks"])
                else:
                    assert seq == last + 1
                    kept.apply(message["bids"], message["asks"])
                assert not first or message["action"] == "snapshot"
                first, last = False, seq
        whole, _ = feed.books["BTC-USDT"]
        assert [list(level) for level in kept.bids.levels()] == [list(level) for level in whole.bids.levels()]
        assert [list(level) for level in kept.asks.levels()] == [list(level) for level in whole.asks.levels()]

    await feed.publish(book([(1.0, 1.0)], [(99.0, 1.0)], "snapshot"))
    publisher = asyncio.create_task(publish())
    clients = [asyncio.create_task(client()) for _ in range(8)]
    await asyncio.sleep(0.6)
    stop.set()
    await publisher
    final.append(feed.builder.channels[BOOK].seq + 1)
    await feed.publish(book(*levels()))
    await asyncio.gather(*clients)


async def test_no_book_update_before_a_snapshot(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(book([(1.0, 1.0)], [(2.0, 1.0)], "snapshot"), book([(1.0, 3.0)], []))
    await feed.publish(status("resyncing", "BTC-USDT", "book"), withdraw=[BOOK, QUOTE])
    async with gateway.connect() as socket:
        await subscribe(socket, BOOK)
        (ack,) = await messages(socket)
        assert ack["state"] == "resyncing"
        await feed.publish(book([(1.0, 4.0)], []))
        assert await messages(socket) == []
        await feed.publish(status("live", "BTC-USDT", "book"), book([(1.0, 5.0)], [(2.0, 1.0)], "snapshot"))
        await feed.publish(book([(1.0, 6.0)], []))
        assert [m.get("action") for m in await messages(socket)] == [None, "snapshot", "update"]


async def test_a_withdrawn_quote_is_not_given_to_new_subscribers(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(quote())
    async with gateway.connect() as early, gateway.connect() as late:
        await subscribe(early, QUOTE)
        await until(early, "quote")
        await feed.publish(status("resyncing", "BTC-USDT", "book"), withdraw=[QUOTE])
        assert (await until(early, "status"))["state"] == "resyncing"
        await subscribe(late, QUOTE)
        assert [(m["type"], m.get("state")) for m in await messages(late)] == [("ack", "resyncing")]


async def test_patterns_follow_additions(feed: Feed, gateway: Gateway, redis_url: str) -> None:
    await feed.publish(quote())
    async with gateway.connect() as socket, Feed(redis_url, "kraken") as kraken:
        await subscribe(socket, "quote:*:BTC-USDT", "trade:binance:*", "status:*:*", id=1)
        found = await messages(socket)
        assert {m["channel"]: m["matched"] for m in found if "matched" in m} == {
            "quote:*:BTC-USDT": 1, "trade:binance:*": 0, "status:*:*": 0
        }  # fmt: skip
        await kraken.publish(quote(venue="kraken"), quote(venue="kraken", symbol="ETH-USDT"))
        await feed.publish(trade(1), trade(1, "ETH-USDT"))
        await kraken.publish(status("live", venue="kraken"))
        found = await messages(socket)
        data = {(m["type"], m["venue"], m["symbol"]) for m in found if m["type"] != "ack"}
        assert data == {
            ("quote", "kraken", "BTC-USDT"), ("trade", "binance", "BTC-USDT"), ("trade", "binance", "ETH-USDT"),
            ("status", "kraken", "*"),
        }  # fmt: skip
        await socket.send(json.dumps({"op": "unsubscribe", "channels": ["trade:binance:*"]}))
        await messages(socket)
        await feed.publish(trade(2))
        await kraken.publish(quote(2.0, venue="kraken"))
        assert [m["type"] for m in await messages(socket)] == ["quote"]


async def test_patterns_follow_removals(redis_url: str, feed: Feed) -> None:
    """A channel that is retired leaves patterns and limits, REST and status; by its own name it stays subscribed."""
    eth = "quote:binance:ETH-USDT"
    async with gateway_on(redis_url, max_subscriptions=4) as gateway:
        await feed.publish(quote(1.0), quote(1.0, "ETH-USDT"), status("stale", "ETH-USDT"), status("live"))
        async with gateway.connect() as socket, gateway.connect() as direct:
            await subscribe(socket, "quote:*:*", "quote:*:ETH-USDT")
            await subscribe(direct, eth, "quote:*:ETH-USDT")
            assert len([m for m in await messages(socket) if m["type"] == "quote"]) == 2
            await messages(direct)
            await feed.retire(eth, "status:binance:ETH-USDT")
            gone = await until(socket, "ack", op="unsubscribe")
            assert gone["channel"] == eth
            assert gone["pattern"] in ("quote:*:*", "quote:*:ETH-USDT")
            assert eth not in gateway.runtime.directory.names
            assert ("binance", "ETH-USDT") not in gateway.runtime.watch.symbols
            assert (await gateway.get("/v1/quotes/ETH-USDT"))[0] == 404
            assert (await gateway.get("/v1/quotes/BTC-USDT"))[0] == 200
            assert await messages(direct) == [], "asked for by its name"
            await subscribe(socket, "quote:binance:X")
            assert (await until(socket, "ack"))["channel"] == "quote:binance:X", "its place is free"
            await subscribe(socket, "quote:binance:Y")
            assert (await until(socket, "error"))["code"] == "too_many_subscriptions"
            await socket.send(json.dumps({"op": "unsubscribe", "channels": ["quote:binance:X"]}))
            await until(socket, "ack", op="unsubscribe")
            await feed.publish(quote(2.0, "ETH-USDT"))
            ack = await until(socket, "ack")
            assert ack["channel"] == eth, "listed again"
            assert (await until(socket, "quote", symbol="ETH-USDT"))["bid"] == 2.0
            assert (await until(direct, "quote"))["bid"] == 2.0
            assert (await gateway.get("/v1/quotes/ETH-USDT"))[0] == 200


async def test_the_venue_all_is_in_no_pattern(feed: Feed, gateway: Gateway, redis_url: str) -> None:
    async with Feed(redis_url, "all") as consolidator, gateway.connect() as socket:
        await feed.publish(quote())
        await consolidator.publish(quote(venue="all"))
        await subscribe(socket, "quote:*:BTC-USDT")
        assert [m["venue"] for m in await messages(socket) if m["type"] == "quote"] == ["binance"]


async def test_overlapping_subscriptions_deliver_once(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(quote())
    async with gateway.connect() as socket:
        await subscribe(socket, QUOTE, "quote:*:BTC-USDT", "quote:binance:*", QUOTE)
        await subscribe(socket, QUOTE)
        assert len([m for m in await messages(socket) if m["type"] == "quote"]) == 1
        for gone in (["quote:*:BTC-USDT"], [QUOTE]):
            await socket.send(json.dumps({"op": "unsubscribe", "channels": gone}))
            await messages(socket)
            await feed.publish(quote(3.0))
            assert len(await messages(socket)) == 1
        await socket.send(json.dumps({"op": "unsubscribe", "channels": ["quote:binance:*"]}))
        await messages(socket)
        await feed.publish(quote(4.0))
        assert await messages(socket) == []


async def test_one_bad_channel_does_not_spoil_the_others(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(quote())
    bad = [
        "",
        "quote",
        "nonsense:binance:X",
        "quote:BINANCE:X",
        "quote:binance:a b",
        "quote:binance:" + "x" * 300,
        5,
        None,
    ]
    async with gateway.connect() as socket:
        await subscribe(socket, *bad, QUOTE, id="r")
        found = await messages(socket)
        errors = [m for m in found if m["type"] == "error"]
        assert len(errors) == len(bad)
        assert all(m["id"] == "r" for m in errors)
        assert "quote" in next(m for m in errors if m["code"] == "unknown_kind")["allowed"]
        assert [m["type"] for m in found if m["type"] != "error"] == ["ack", "quote"]
        await socket.send(json.dumps({"op": "unsubscribe", "channels": [TRADE]}))
        assert (await until(socket, "error"))["code"] == "not_subscribed"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "bad_json"), ("nonsense", "bad_json"), ("[" * 10_000, "bad_message"),
        ("[]", "bad_message"), ("5", "bad_message"),
        ("{}", "unknown_op"), ('{"op":"dance"}', "unknown_op"), ('{"op":5}', "unknown_op"),
        ('{"op":"subscribe"}', "bad_message"), ('{"op":"subscribe","channels":5}', "bad_message"),
        ('{"op":"subscribe","channels":[],"id":{}}', "bad_message"),
        ('{"op":"subscribe","channels":[],"after":[]}', "bad_message"),
        ('{"op":"ping","id":"' + "x" * 200 + '"}', "bad_message"),
    ],
)  # fmt: skip
async def test_garbage_is_answered_and_the_connection_goes_on(gateway: Gateway, text: str, code: str) -> None:
    async with gateway.connect() as socket:
        await socket.send(text)
        assert (await until(socket, "error"))["code"] == code
        await socket.send('{"op":"ping","id":3}')
        assert (await until(socket, "pong"))["id"] == 3


async def test_frames_beyond_the_limit_and_binary_end_with_their_codes(gateway: Gateway) -> None:
    for data, code in (("x" * 70_000, 1009), ("x" * 10_000_000, 1009), (b"\x00\xff", 1003)):
        async with gateway.connect() as socket:
            await socket.send(data)
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    assert json.loads(await socket.recv())["type"] == "error"
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == code


async def test_ten_thousand_channels_in_one_subscribe(redis_url: str, feed: Feed) -> None:
    await feed.publish(quote())
    async with gateway_on(redis_url, max_frame_bytes=1_000_000, max_subscriptions=500) as gateway:
        async with gateway.connect() as socket:
            await subscribe(socket, QUOTE, *(f"quote:binance:S{n}" for n in range(10_000)), id=1)
            found: list[dict[str, Any]] = []
            while kinds(found)["ack"] < 500 or kinds(found)["error"] < 101:
                found.append(json.loads(await asyncio.wait_for(socket.recv(), 30)))
            assert kinds(found)["ack"] == 500
            codes = [m["code"] for m in found if m["type"] == "error"]
            assert codes == ["too_many_subscriptions"] * 100 + ["more_errors"], "an answer, of a bounded size"
            await feed.publish(quote(2.0))
            assert (await until(socket, "quote"))["bid"] == 2.0
        assert gateway.runtime.subscriptions.count == 0


async def test_a_client_that_is_gone_leaves_nothing(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(quote(), trade(1))
    runtime = gateway.runtime
    runtime.bus.linger_s = 0.1
    before = len(runtime.bus.topics)
    for close in (True, False):
        socket = await gateway.connect()
        await subscribe(socket, QUOTE, TRADE, BOOK, "quote:*:*")
        await messages(socket)
        if close:
            await socket.close()
        else:
            socket.transport.abort()
        await eventually(lambda: len(runtime.bus.topics) == before)
        assert (len(runtime.clients), runtime.subscriptions.count) == (0, 0)
        assert not runtime.subscriptions.by_venue
        assert not runtime.subscriptions.by_symbol


async def test_messages_in_fragments(feed: Feed, gateway: Gateway) -> None:
    async with gateway.connect() as socket:
        await socket.send(['{"op":', '"ping",', '"id":7}'])
        assert (await until(socket, "pong"))["id"] == 7
        waiter = await socket.ping(b"hello")
        await asyncio.wait_for(waiter, 30)


@pytest.mark.parametrize("first", ["quote:binance:*", QUOTE])
async def test_who_names_a_channel_twice_is_told_its_state_twice(feed: Feed, gateway: Gateway, first: str) -> None:
    await feed.publish(quote(1.0), status("live"))
    async with gateway.connect() as socket:
        await subscribe(socket, first, QUOTE, id=1)
        await subscribe(socket, QUOTE, id="again")
        found = await messages(socket)
    acks = [m for m in found if m["type"] == "ack" and m["channel"] == QUOTE]
    assert [ack["id"] for ack in acks] == [1, 1, "again"]
    assert [ack["state"] for ack in acks] == ["live"] * 3
    assert [m["type"] for m in found].count("quote") == 1


async def test_a_url_cannot_ask_for_more_than_a_connection_may_have(feed: Feed, gateway: Gateway) -> None:
    words = ",".join(str(number) for number in range(1000))
    assert await refused(gateway, f"/BTC-USDT?kinds={words}&venues={words}") == (400, "too_many_subscriptions", ANY)


async def test_a_pattern_is_resumed_by_the_ids_of_its_channels(feed: Feed, gateway: Gateway) -> None:
    """As `closing` tells them; whether a channel is named as well does not matter."""
    await feed.publish(*(trade(n) for n in range(1, 6)), *(trade(n, "ETH-USDT") for n in range(1, 6)))
    epoch = feed.builder.epoch
    after = {TRADE: f"{epoch}-2", "trade:binance:ETH-USDT": f"{epoch}-4", "trade:binance:SOL-USDT": "nonsense"}
    async with gateway.connect() as socket:
        await subscribe(socket, "trade:binance:*", TRADE, after=after)
        found = await messages(socket)
    trades = [(m["symbol"], int(m["id"].split("-")[1])) for m in found if m["type"] == "trade"]
    assert sorted(trades) == [("BTC-USDT", 3), ("BTC-USDT", 4), ("BTC-USDT", 5), ("ETH-USDT", 5)]
    assert not [m for m in found if m["type"] in ("gap", "error")]
    async with gateway.connect() as socket:
        await subscribe(socket, "trade:*:BTC-USDT", "trade:binance:ETH-USDT", after={TRADE: "nonsense"})
        found = await messages(socket)
    assert [(m["code"], m["channel"]) for m in found if m["type"] == "error"] == [("bad_after", TRADE)]
    assert [m["symbol"] for m in found if m["type"] == "trade"] == ["ETH-USDT"]
