"""Subscribing from the past: what is stored comes first, merged by time and paced, then the stream, without hole or
repeat; and nobody else is delayed."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.replays import CHANNELS_MAX, REPLAYS_MAX
from hub.embedded import EmbeddedRedis
from hub.model import Message
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
from tests.gateway.test_slow import stalled
from tests.gateway.tokens import SECRET, bearer, mint, refused
from tests.ports import free_port

QUOTE = "quote:binance:BTC-USDT"
TRADE = "trade:binance:BTC-USDT"
BOOK = "book:binance:BTC-USDT"
S = 1_000_000_000
#: Times of stored events: s after this one.
BEGIN = 1_700_000_000


def at(second: float, message: Message) -> Message:
    return msgspec.structs.replace(message, ts_event=int((BEGIN + second) * S))


def seqs(found: list[dict[str, Any]], kind: str = "trade") -> list[int]:
    return [int(m["id"].split("-")[1]) for m in found if m["type"] == kind]


def kinds(found: list[dict[str, Any]]) -> list[str]:
    return [m["type"] for m in found]


async def up_to_live(socket: Any, *channels: str, timeout_s: float = 30.0) -> list[dict[str, Any]]:
    """Return everything up to the message that says that all channels are live."""
    found: list[dict[str, Any]] = []
    missing = set(channels)
    async with asyncio.timeout(timeout_s):
        while missing:
            found.append(json.loads(await socket.recv()))
            if found[-1]["type"] == "live":
                missing.discard(found[-1]["channel"])
    return found


async def test_from_a_time_on_then_live(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(*(at(n, trade(n)) for n in range(1, 11)), status("live"))
    epoch = feed.builder.epoch
    async with gateway.connect() as socket:
        await subscribe(socket, TRADE, since=BEGIN + 5, id="r")
        found = await up_to_live(socket, TRADE)
        assert found[0] == {
            "type": "ack", "op": "subscribe", "id": "r", "channel": TRADE, "state": "live", "replaying": True,
        }  # fmt: skip
        assert seqs(found) == [5, 6, 7, 8, 9, 10]
        assert found[-1] == {"type": "live", "id": "r", "channel": TRADE, "last": f"{epoch}-10", "state": "live"}
        assert len(found) == 8
        (payload,) = await feed.publish(trade(11))
        assert await socket.recv(decode=False) == payload, "the same bytes as ever"


@pytest.mark.parametrize("since", ["2023-11-14T22:13:25Z", str(BEGIN + 5), (BEGIN + 5) * 1000, (BEGIN + 5) * S, "id"])
async def test_forms_of_a_place(feed: Feed, gateway: Gateway, since: Any) -> None:
    await feed.publish(*(at(n, trade(n)) for n in range(1, 11)))
    async with gateway.connect() as socket:
        await subscribe(socket, TRADE, since=f"{feed.builder.epoch}-5" if since == "id" else since, speed="max")
        assert seqs(await up_to_live(socket, TRADE)) == [5, 6, 7, 8, 9, 10]


async def test_a_log_that_does_not_reach_back_is_one_gap(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(*(at(n, trade(n)) for n in range(1, 11)))
    epoch = feed.builder.epoch
    await feed.redis.xtrim(feed.keys.log(TRADE), maxlen=3, approximate=False)
    for since, last in ((BEGIN, None), (f"{epoch}-2", f"{epoch}-2"), ("1-1", "1-1")):
        async with gateway.connect() as socket:
            await subscribe(socket, TRADE, since=since)
            found = await up_to_live(socket, TRADE)
            assert kinds(found) == ["ack", "gap", "trade", "trade", "trade", "live"]
            assert found[1] == {"type": "gap", "channel": TRADE, "last": last, "next": f"{epoch}-8"}
            assert seqs(found) == [8, 9, 10]


async def test_without_anything_stored(feed: Feed, gateway: Gateway) -> None:
    async with gateway.connect() as socket:
        await subscribe(socket, TRADE, since=BEGIN)
        found = await up_to_live(socket, TRADE)
        assert [(m["type"], m.get("next"), m.get("last")) for m in found[1:]] == [
            ("gap", None, None), ("live", None, None),
        ]  # fmt: skip
        await feed.publish(trade(1))
        assert seqs([await until(socket, "trade")]) == [1]
    async with gateway.connect() as socket:
        await subscribe(socket, TRADE, since=time.time() + 3600)
        found = await up_to_live(socket, TRADE)
        assert kinds(found) == ["ack", "live"], "nothing happened since then, and nothing is missing"
        await feed.publish(trade(2))
        assert seqs([await until(socket, "trade")]) == [2]


async def test_an_id_that_is_not_there_yet_is_a_gap_and_the_newest(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(at(1, trade(1)))
    async with gateway.connect() as socket:
        await subscribe(socket, TRADE, since=f"{feed.builder.epoch + 5}-1")
        found = await up_to_live(socket, TRADE)
        assert kinds(found) == ["ack", "gap", "trade", "live"]
        assert found[1]["next"] is None


async def test_channels_are_merged_by_time(feed: Feed, gateway: Gateway, redis_url: str) -> None:
    async with Feed(redis_url, "kraken") as kraken:
        for n in range(1, 200):
            await feed.publish(at(n, trade(n)), *([at(n, trade(n, "ETH-USDT"))] if n % 3 == 0 else []))
            if n % 2:
                await kraken.publish(at(n + 0.5, trade(n, venue="kraken")))
        async with gateway.connect() as socket:
            await subscribe(socket, "trade:*:BTC-USDT", "trade:binance:*", since=BEGIN + 20.2, id=1)
            names = [TRADE, "trade:binance:ETH-USDT", "trade:kraken:BTC-USDT"]
            found = await up_to_live(socket, *names)
            assert {m["channel"] for m in found if m.get("replaying")} == set(names)
            assert all(m["pattern"] for m in found if m.get("replaying"))
            times = [m["ts_event"] / S - BEGIN for m in found if m["type"] == "trade"]
            assert times == sorted(times)
            assert times[0] == 21.0
            assert len(times) == 179 + 60 + 89 + 1
            assert "gap" not in kinds(found)
            assert kinds(found)[-3:] == ["live"] * 3
            await feed.publish(trade(200, "NEW-USDT"))
            assert (await until(socket, "trade"))["symbol"] == "NEW-USDT", "added later: live"


async def test_what_comes_late_keeps_its_place(feed: Feed, gateway: Gateway) -> None:
    """Ids have no holes, whatever the times are."""
    await feed.publish(*(at(second, trade(1)) for second in (1, 5, 2, 6, 3, 7)))
    async with gateway.connect() as socket:
        await subscribe(socket, TRADE, since=BEGIN + 4)
        assert seqs(await up_to_live(socket, TRADE)) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"channels": [QUOTE], "since": BEGIN}, "bad_since"),
        ({"channels": [TRADE], "since": "soon"}, "bad_since"),
        ({"channels": [TRADE], "since": -1}, "bad_since"),
        ({"channels": [TRADE], "since": BEGIN, "after": "1-1"}, "bad_since"),
        ({"channels": ["trade:*:BTC-USDT"], "since": "1-1"}, "bad_since"),
        ({"channels": [TRADE], "speed": 2}, "bad_speed"),
        ({"channels": [TRADE], "since": BEGIN, "speed": "fast"}, "bad_message"),
        ({"channels": [TRADE], "since": BEGIN, "speed": -1}, "bad_message"),
        ({"channels": [TRADE], "since": [1]}, "bad_message"),
        ({"channels": [TRADE], "since": BEGIN, "max_rate": 1}, "bad_max_rate"),
    ],
)
async def test_what_cannot_be(feed: Feed, gateway: Gateway, fields: dict[str, Any], code: str) -> None:
    await feed.publish(trade(1), quote())
    async with gateway.connect() as socket:
        await socket.send(json.dumps({"op": "subscribe", "id": 3, **fields}))
        (error,) = await messages(socket)
        assert (error["type"], error["code"], error["id"]) == ("error", code, 3)
        assert gateway.runtime.subscriptions.count == 0
        assert gateway.runtime.subscriptions.replays.count == 0


async def test_one_channel_without_a_log_does_not_spoil_the_others(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(at(1, trade(1)), at(2, trade(2)), quote())
    async with gateway.connect() as socket:
        await subscribe(socket, QUOTE, TRADE, since=BEGIN + 2)
        found = await up_to_live(socket, TRADE)
        assert [(m["code"], m["channel"]) for m in found if m["type"] == "error"] == [("bad_since", QUOTE)]
        assert "trade" in next(m for m in found if m["type"] == "error")["allowed"]
        assert seqs(found) == [2]
        await subscribe(socket, TRADE, since=BEGIN)
        assert (await until(socket, "error"))["code"] == "already_subscribed"
        await subscribe(socket, "trade:*:*", since=BEGIN)
        assert (await until(socket, "ack"))["matched"] == 1
        await subscribe(socket, "trade:*:*", since=BEGIN)
        assert (await until(socket, "error"))["code"] == "already_subscribed"
        await feed.publish(trade(3))
        assert seqs(await messages(socket)) == [3], "once"


async def test_a_connection_has_a_bounded_number_of_replays(feed: Feed, gateway: Gateway) -> None:
    symbols = [f"S{n}" for n in range(REPLAYS_MAX)]
    await feed.publish(*(at(second, trade(1, symbol)) for symbol in symbols for second in (1, 9999)), trade(1))
    async with gateway.connect() as socket:
        for symbol in symbols:
            await subscribe(socket, f"trade:binance:{symbol}", since=BEGIN, speed=1)
            await until(socket, "trade", symbol=symbol)
        await subscribe(socket, TRADE, since=BEGIN, speed=1)
        assert (await until(socket, "error"))["code"] == "too_many_replays"
        await socket.send(json.dumps({"op": "unsubscribe", "channels": ["trade:binance:S0"]}))
        await until(socket, "ack", op="unsubscribe")
        await eventually(lambda: gateway.runtime.subscriptions.replays.count == REPLAYS_MAX - 1)
        await subscribe(socket, *(f"trade:binance:X{n}" for n in range(CHANNELS_MAX + 1)), since=BEGIN, id="many")
        assert (await until(socket, "error", id="many"))["code"] == "too_many_replays"


async def test_by_url(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(*(at(n, trade(n)) for n in range(1, 11)), quote(), quote(symbol="ETH-USDT"))
    async with gateway.connect(f"/BTC-USDT?kinds=trade&venues=binance&since={BEGIN + 8}&speed=100000") as socket:
        assert seqs(await up_to_live(socket, TRADE)) == [8, 9, 10]
    async with gateway.connect("/BTC-USDT?kinds=quote&max_rate=4") as socket:
        await until(socket, "quote")
        assert [group.rate for group in gateway.runtime.subscriptions.rates.groups.values()] == [4.0]
    async with gateway.connect("/BTC-USDT?max_rate=4") as socket:
        found = await messages(socket)
        assert [m["code"] for m in found if m["type"] == "error"] == ["bad_max_rate"], "trades have no rate"
        assert "quote" in kinds(found)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("since=soon", "bad_since"), ("speed=1", "bad_speed"), ("since=5&speed=fast", "bad_parameter"),
        ("since=5&speed=nan", "bad_parameter"), ("max_rate=0", "bad_parameter"), ("max_rate=x", "bad_parameter"),
        ("max_rate=nan", "bad_parameter"), ("venue=binance", "unknown_parameter"), ("format=xml", "bad_parameter"),
    ],
)  # fmt: skip
async def test_a_url_that_cannot_be(gateway: Gateway, query: str, code: str) -> None:
    assert (await refused(gateway, f"/BTC-USDT?{query}"))[:2] == (400, code)


async def test_with_tokens(redis_url: str, feed: Feed) -> None:
    await feed.publish(*(at(n, trade(n, symbol)) for n in range(1, 5) for symbol in ("BTC-USDT", "ETH-USDT")))
    async with gateway_on(redis_url, auth={"secret": SECRET}) as gateway:
        async with gateway.connect(**bearer(mint("trade:*:BTC-USDT"))) as socket:
            await subscribe(socket, "trade:binance:ETH-USDT", since=BEGIN)
            assert (await until(socket, "error"))["code"] == "forbidden"
            await subscribe(socket, "trade:binance:*", since=BEGIN + 2)
            found = await up_to_live(socket, TRADE)
            assert {m["symbol"] for m in found if m["type"] == "trade"} == {"BTC-USDT"}
        async with gateway.connect(f"/BTC-USDT?kinds=trade&since={BEGIN + 3}") as socket:
            await socket.send(json.dumps({"op": "auth", "token": mint()}))
            assert seqs(await up_to_live(socket, TRADE)) == [3, 4]


async def test_as_msgpack(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(*(at(n, trade(n)) for n in range(1, 4)))
    async with gateway.connect(f"/BTC-USDT?kinds=trade&venues=binance&format=msgpack&since={BEGIN + 2}") as socket:
        found: list[Any] = []
        while not found or found[-1]["type"] != "live":
            found.append(msgspec.msgpack.decode(await asyncio.wait_for(socket.recv(decode=False), 30)))
        assert seqs(found) == [2, 3]


# the pace


async def test_it_waits_for_the_time_of_each_event_and_nobody_waits_for_it(feed: Feed, gateway: Gateway) -> None:
    """What is an hour later is not there yet; another channel of the same client is live meanwhile."""
    await feed.publish(at(1, trade(1)), at(2, trade(2)), at(3600, trade(3)), quote(1.0))
    async with gateway.connect() as socket, gateway.connect() as other:
        await subscribe(socket, QUOTE)
        await until(socket, "quote")
        await subscribe(socket, TRADE, since=BEGIN + 0.5, speed=100)
        await until(socket, "trade", price=2.0)
        await feed.publish(quote(2.0), trade(4))
        assert (await until(socket, "quote"))["bid"] == 2.0
        await subscribe(other, TRADE)
        assert (await until(other, "trade"))["price"] == 4.0
        assert kinds(await messages(socket)) == []
        await socket.send(json.dumps({"op": "unsubscribe", "channels": [TRADE]}))
        await until(socket, "ack", op="unsubscribe")
        await eventually(lambda: gateway.runtime.subscriptions.replays.count == 0)
        await feed.publish(trade(5), quote(3.0))
        assert kinds(await messages(socket)) == ["quote"]
        await subscribe(socket, TRADE, since=BEGIN + 0.5, speed=0)
        assert seqs(await up_to_live(socket, TRADE)) == [1, 2, 3, 4, 5]


async def test_events_of_the_meantime_are_merged_as_well(feed: Feed, gateway: Gateway) -> None:
    """A quiet channel is not live before the others: what it publishes meanwhile comes at its time."""
    now = time.time()
    await feed.publish(at(now - BEGIN - 400, trade(1)), at(now - BEGIN - 300, trade(1, "ETH-USDT")))
    await feed.publish(*(at(now - BEGIN - 300 + n, trade(n + 2)) for n in range(100)))
    async with gateway.connect() as socket:
        await subscribe(socket, TRADE, "trade:binance:ETH-USDT", since=now - 350, speed=50)
        await until(socket, "trade", symbol="BTC-USDT")
        await feed.publish(at(now - BEGIN - 100, trade(2, "ETH-USDT")), trade(200))
        found = await up_to_live(socket, TRADE, "trade:binance:ETH-USDT")
        assert seqs([m for m in found if m.get("symbol") == "BTC-USDT"])[-1] == 102
        eth = next(n for n, m in enumerate(found) if m.get("symbol") == "ETH-USDT" and m["price"] == 2.0)
        assert [m["price"] for m in found[:eth] if m.get("symbol") == "BTC-USDT"][-1] == 101.0
        await feed.publish(trade(201), trade(3, "ETH-USDT"))
        assert sorted(seqs(await messages(socket))) == [3, 103]


# without hole or repeat


@given(seed=st.integers(0, 2**32))
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_replays_join_without_hole_or_repeat_while_events_are_published(redis_url: str, seed: int) -> None:
    """Property: whenever, from wherever and however fast a client replays, its ids are a run up to the last one."""

    async def check() -> None:
        async with Feed(redis_url) as feed:
            await feed.redis.flushall()
            async with gateway_on(redis_url) as gateway:
                await _replay_while_publishing(feed, gateway, random.Random(seed))

    asyncio.run(check())


async def _replay_while_publishing(feed: Feed, gateway: Gateway, randoms: random.Random) -> None:
    stop = asyncio.Event()
    eth = "trade:binance:ETH-USDT"

    async def publish() -> None:
        number = 100
        while not stop.is_set():
            batch = [trade(number + i, randoms.choice(["BTC-USDT", "ETH-USDT"])) for i in range(randoms.randint(1, 5))]
            number += len(batch)
            await feed.publish(*batch, maxlen=100_000)
            await asyncio.sleep(randoms.choice([0, 0, 0.001, 0.01]))

    async def client() -> None:
        async with gateway.connect() as socket:
            for _ in range(3):
                speed: Any = randoms.choice(["max", 0, None, 2, 20, 1000])
                names = randoms.choice([[TRADE], [TRADE, eth], ["trade:binance:*"]])
                since = randoms.choice([begin - 5, begin + randoms.random(), time.time() - randoms.random() / 10])
                await subscribe(socket, *names, since=since, **({} if speed is None else {"speed": speed}))
                last: dict[str, int] = {}
                live: set[str] = set()
                channels = {TRADE, eth} if names != [TRADE] else {TRADE}
                while live != channels or randoms.random() > 0.02:
                    message = json.loads(await asyncio.wait_for(socket.recv(), 30))
                    if message["type"] == "trade":
                        name = f"trade:binance:{message['symbol']}"
                        seq = int(message["id"].split("-")[1])
                        if name in last:
                            assert seq == last[name] + 1
                        elif since == begin - 5:
                            assert seq == 1
                        last[name] = seq
                    elif message["type"] == "live":
                        live.add(message["channel"])
                        if message["channel"] in last:
                            assert int(message["last"].split("-")[1]) == last[message["channel"]]
                    else:
                        assert message["type"] in ("ack", "gap")
                await socket.send(json.dumps({"op": "unsubscribe", "channels": names, "id": "end"}))
                for _ in names:
                    await until(socket, "ack", op="unsubscribe", id="end")

    begin = time.time()
    await feed.publish(*(trade(n, symbol) for n in range(50) for symbol in ("BTC-USDT", "ETH-USDT")))
    publisher = asyncio.create_task(publish())
    try:
        await asyncio.gather(*(client() for _ in range(6)))
    finally:
        stop.set()
        await publisher
    assert gateway.runtime.joins.gaps <= 6 * 3 * 2


async def test_a_replayed_book_equals_the_publishers(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(at(1, book([(1.0, 1.0)], [(99.0, 1.0)], "snapshot")))
    for n in range(2, 60):
        await feed.publish(at(n, book([(float(n % 7), float(n))], [(90.0 + n % 5, float(n % 3))])))
    await feed.publish(at(60, book([(1.0, 60.0)], [(99.0, 60.0)], "snapshot")), status("live"))
    for n in range(61, 90):
        await feed.publish(at(n, book([(float(n % 7), float(n))], [])))
    async with gateway.connect() as early, gateway.connect() as late:
        await subscribe(early, BOOK, since=BEGIN + 30)
        found = await up_to_live(early, BOOK)
        assert found[1]["action"] == "snapshot"
        assert seqs(found, "book") == list(range(1, 90)), "from the snapshot before that time"
        await subscribe(late, BOOK, since=BEGIN + 70)
        found = await up_to_live(late, BOOK)
        assert (found[1]["action"], "gap" in kinds(found)) == ("snapshot", False)
        assert seqs(found, "book")[0] in (60, 61, 80)
        sides: list[dict[float, float]] = [{}, {}]
        await feed.publish(at(90, book([(3.0, 7.0)], [(98.0, 1.0)])))
        for message in [m for m in found if m["type"] == "book"] + [await until(late, "book")]:
            for side, levels in zip(sides, (message["bids"], message["asks"]), strict=True):
                if message["action"] == "snapshot":
                    side.clear()
                side.update(levels)
        whole, _ = feed.books["BTC-USDT"]
        kept = [{price: size for price, size in side.items() if size} for side in sides]
        assert kept == [dict(whole.bids.levels()), dict(whole.asks.levels())]


# when something breaks


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    async with EmbeddedRedis(tmp_path, free_port()) as server:
        yield server


@pytest.mark.parametrize("wipe", [False, True])
async def test_redis_dies_during_a_replay(server: EmbeddedRedis, wipe: bool) -> None:
    """With its data the replay goes on where it was; without, the loss is told and it goes on with what there is."""
    async with Feed(server.url) as feed, gateway_on(server.url) as gateway, gateway.connect() as socket:
        await feed.publish(*(at(n, trade(n)) for n in (1, 2)), *(at(7, trade(n)) for n in range(3, 600)))
        await feed.redis.config_set("appendfsync", "always")
        await feed.publish(at(7, trade(600)))
        await subscribe(socket, TRADE, since=BEGIN + 2, speed=1)
        assert seqs([await until(socket, "trade")]) == [2]
        await server.kill()
        await eventually(lambda: not gateway.runtime.bus.connected)
        if wipe:
            server.wipe()
        await server.start()
        if wipe:
            async with Feed(server.url, epoch=feed.builder.epoch + 1) as again:
                await again.publish(at(8, trade(1)), at(9, trade(2)))
        found = await up_to_live(socket, TRADE)
        if not wipe:
            assert seqs(found) == list(range(3, 601))
            assert "gap" not in kinds(found)
            return
        gap = next(m for m in found if m["type"] == "gap")
        before = [m for m in found if m["type"] == "trade" and m["id"] < gap["next"]]
        assert seqs(before) == list(range(3, 3 + len(before)))
        assert gap["last"] == (before[-1]["id"] if before else f"{feed.builder.epoch}-2")
        assert [m["id"] for m in found if m["type"] == "trade"][len(before) :] == [
            f"{feed.builder.epoch + 1}-{n}" for n in (1, 2)
        ]


async def test_while_redis_is_away_a_replay_is_acknowledged_and_begins_when_it_is_back(server: EmbeddedRedis) -> None:
    async with Feed(server.url) as feed, gateway_on(server.url) as gateway, gateway.connect() as socket:
        await feed.redis.config_set("appendfsync", "always")
        await feed.publish(*(at(n, trade(n)) for n in range(1, 6)))
        await server.kill()
        await eventually(lambda: not gateway.runtime.bus.connected)
        await subscribe(socket, TRADE, "trade:binance:ETH-USDT", since=BEGIN + 2)
        for _ in range(2):
            ack = await until(socket, "ack")
            assert (ack["state"], ack["replaying"]) == ("down", True)
        await server.start()
        found = await up_to_live(socket, TRADE, "trade:binance:ETH-USDT")
        assert seqs(found) == [2, 3, 4, 5]
        assert "ack" not in kinds(found), "once"


async def test_a_client_that_does_not_read_costs_a_page_and_delays_nobody(redis_url: str, feed: Feed) -> None:
    count = 20_000
    for start in range(1, count, 1000):
        await feed.publish(*(at(n / 1000, trade(n)) for n in range(start, start + 1000)), maxlen=100_000)
    async with gateway_on(redis_url) as gateway, gateway.connect() as healthy:
        slow = await stalled(gateway, QUOTE)
        await subscribe(healthy, TRADE)
        await until(healthy, "trade")
        slow.transport.resume_reading()
        await subscribe(slow, TRADE, since=BEGIN)
        await until(slow, "trade")
        slow.transport.pause_reading()
        replays, clients = gateway.runtime.subscriptions.replays, gateway.runtime.clients
        (replay,) = next(iter(replays._of.values()))
        cursor = next(iter(replay.cursors.values()))

        async def settled() -> int:
            """Wait until the replay has stopped for want of room."""
            sent = -1
            while sent != (sent := next(iter(replay.sent.values()))[1]):
                await asyncio.sleep(0.5)
            return sent

        sent = await settled()
        assert sent < count
        assert len(cursor.events) <= 129
        assert clients.held == 0, "what it does not read is not more than other subscriptions may send"
        await feed.publish(quote(7.0))
        await feed.publish(trade(count + 1), maxlen=100_000)
        assert seqs([await until(healthy, "trade")]) == [count + 1]
        await feed.redis.xtrim(feed.keys.log(TRADE), maxlen=100, approximate=False)
        slow.transport.resume_reading()
        found = await up_to_live(slow, TRADE)
        assert "lagging" not in kinds(found)
        assert [m["bid"] for m in found if m["type"] == "quote"] == [7.0]
        gap = next(m for m in found if m["type"] == "gap")
        got = seqs(found)
        lost_from, lost_to = int(gap["last"].split("-")[1]), int(gap["next"].split("-")[1])
        assert sent <= lost_from
        assert got == [*range(got[0], lost_from + 1), *range(lost_to, count + 2)], "told what was trimmed meanwhile"
        assert lost_to == count + 1 - 99
        await slow.close()


async def test_a_stalled_client_is_told_where_to_continue(redis_url: str, feed: Feed) -> None:
    """It is cut for what another subscription could not send; the replay's place is among the last ids."""
    await feed.publish(*(at(n, trade(n)) for n in range(1, 5)), at(9999, trade(5)))
    async with gateway_on(redis_url, stall_timeout_s=1.0) as gateway:
        slow = await stalled(gateway, QUOTE)
        slow.transport.resume_reading()
        await subscribe(slow, TRADE, since=BEGIN + 1, speed=100)
        await until(slow, "trade", price=4.0)
        slow.transport.pause_reading()
        clients = gateway.runtime.clients
        async with asyncio.timeout(30):
            while not clients.slow_closed:
                await feed.publish(*(quote(float(n)) for n in range(100)))
                await asyncio.sleep(0)
        slow.transport.resume_reading()
        closing = await until(slow, "closing")
        assert closing["last"] == {TRADE: f"{feed.builder.epoch}-4"}
        assert gateway.runtime.subscriptions.count == 0
        await eventually(lambda: gateway.runtime.subscriptions.replays.count == 0)


async def test_a_client_that_goes_leaves_nothing(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(at(1, trade(1)), at(9999, trade(2)))
    runtime = gateway.runtime
    for close in (True, False):
        socket = await gateway.connect()
        await subscribe(socket, TRADE, "trade:*:*", since=BEGIN, speed=1)
        await until(socket, "trade")
        if close:
            await socket.close()
        else:
            socket.transport.abort()
        await eventually(lambda: runtime.subscriptions.replays.count == 0)
        assert not runtime.subscriptions.replays._of
        assert (len(runtime.clients), runtime.subscriptions.count) == (0, 0)
