"""hub/publisher.py on real servers: what it leaves in Redis, and what becomes of it when Redis goes away."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from hub.config import HistorySettings, PublisherSettings
from hub.embedded import EmbeddedRedis
from hub.errors import LeaseHeld, LeaseLost
from hub.history import Query, SortedSets, TimeSeries
from hub.lease import Lease, new_holder
from hub.link import Link, pack
from hub.position import parse_position
from hub.redisio import command_client
from tests.hub.publishing import (
    KEYS,
    Listener,
    Payload,
    Proxy,
    Rig,
    apply,
    depth,
    ids,
    quote,
    rig,
    snapshot,
    status,
    trade,
    update,
)
from tests.ports import free_port

TRADES, QUOTES, DEPTHS, BOOKS = (f"{kind}:venue:A-B" for kind in ("trade", "quote", "depth", "book"))
STATUSES = "status:venue:A-B"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    """A server of the test's own, to be killed."""
    async with EmbeddedRedis(tmp_path / "redis", free_port()) as own:
        yield own


# what is left in Redis


async def test_key_log_and_stream_carry_the_same_bytes(redis_url: str) -> None:
    names = [TRADES, QUOTES, DEPTHS, BOOKS, STATUSES]
    async with rig(redis_url) as it, Listener.on(redis_url, *map(KEYS.newest, names), KEYS.channels) as heard:
        for number in range(1, 40):
            for message in (trade(number), quote(number), depth(number), status("live", str(number))):
                it.publisher.publish(message)
            it.publisher.publish(snapshot({1.0: 1.0}) if number == 1 else update(float(number), 1.0))
            if number % 7 == 0:
                await asyncio.sleep(0.002)
        await it.drained()
        await heard.heard(39 * 5 + 5)
        for name in names:
            published = heard.payloads[KEYS.newest(name)]
            assert len(published) == 39
            epoch = it.publisher.epoch
            assert ids(published) == [f"{epoch}-{seq}" for seq in range(1, 40)]
            newest = await it.client.get(KEYS.newest(name))
            assert newest == published[0 if name == BOOKS else -1]
            log: Any = await it.client.xrange(KEYS.log(name))
            if name in (QUOTES, DEPTHS):
                assert log == []
            else:
                assert [fields for _, fields in log] == [{b"payload": payload} for payload in published]
                assert [entry.decode() for entry, _ in log] == ids(published)
        assert await it.client.smembers(KEYS.channels) == {name.encode() for name in names}
        assert sorted(heard.payloads[KEYS.channels]) == sorted(name.encode() for name in names)


async def test_an_idle_publisher_publishes_at_once(redis_url: str) -> None:
    """In the event loop's next turn, and not when a timer says so."""
    async with rig(redis_url) as it, Listener.on(redis_url, KEYS.newest(QUOTES)) as heard:
        it.publisher.publish(quote(0))
        for number in range(1, 30):
            await it.drained()
            before = it.publisher.counters["batches"]
            it.publisher.publish(quote(number))
            for _ in range(2):
                await asyncio.sleep(0)
            assert it.publisher.counters["batches"] == before + 1
            await heard.heard(number + 1)


async def test_what_comes_meanwhile_is_one_batch(redis_url: str) -> None:
    async with rig(redis_url) as it:
        for number in range(10_000):
            it.publisher.publish(trade(number))
            if number % 100 == 0:
                await asyncio.sleep(0)
        await it.drained()
        assert it.publisher.counters["published"] == 10_000
        assert it.publisher.counters["batches"] < 150


async def test_the_key_of_a_book_is_its_newest_full_snapshot(redis_url: str) -> None:
    async with rig(redis_url) as it:
        it.publisher.publish(snapshot({1.0: 1.0}))
        it.publisher.publish(update(2.0, 1.0))
        it.publisher.renew(snapshot({1.0: 1.0, 2.0: 1.0}))
        it.publisher.publish(update(3.0, 1.0))
        await it.drained()
        newest = await it.newest(BOOKS)
        assert newest is not None
        assert (newest["action"], newest["id"]) == ("snapshot", f"{it.publisher.epoch}-2")
        tail: Any = await it.client.xrange(KEYS.log(BOOKS), min=f"({newest['id']}")
        assert [entry.decode() for entry, _ in tail] == [f"{it.publisher.epoch}-3"]
        assert len(await it.log(BOOKS)) == 3, "a renewal is nothing that happened"


async def test_a_status_finds_the_keys_gone_that_it_is_about(redis_url: str) -> None:
    """Whoever reads after hearing `resyncing` must not get the old book."""
    watched = [BOOKS, DEPTHS, QUOTES]
    async with rig(redis_url) as it, Listener.on(redis_url, KEYS.newest(STATUSES)) as heard:
        for number in range(1, 60):
            for message in (snapshot({1.0: 1.0}), depth(number), quote(number), status("live", "good")):
                it.publisher.publish(message)
            if number % 2:
                await asyncio.sleep(0.001)
            for name in watched:
                it.publisher.withdraw(name.partition(":")[0], "A-B")
            it.publisher.publish(status("resyncing", str(number)))
            await heard.heard(2 * number)
            assert await it.client.exists(*map(KEYS.newest, watched)) == 0


async def test_a_withdrawal_and_a_new_value_in_one_batch_leave_the_new_value(redis_url: str) -> None:
    async with rig(redis_url) as it:
        it.publisher.publish(quote(1))
        it.publisher.withdraw("quote", "A-B")
        it.publisher.publish(quote(2))
        it.publisher.publish(depth(1))
        it.publisher.withdraw("depth", "A-B")
        await it.drained()
        assert ((await it.newest(QUOTES)) or {})["bid"] == 2.0
        assert await it.newest(DEPTHS) is None


async def test_logs_are_bounded(redis_url: str) -> None:
    settings = PublisherSettings(log_trades=200, log_statuses=100)
    async with rig(redis_url, publisher=settings) as it:
        for number in range(5000):
            it.publisher.publish(trade(number))
            it.publisher.publish(status("live", str(number)))
        await it.drained()
        assert 200 <= await it.client.xlen(KEYS.log(TRADES)) <= 400
        assert 100 <= await it.client.xlen(KEYS.log(STATUSES)) <= 300


async def test_every_key_has_a_bound_soon(redis_url: str) -> None:
    """What may stay for ever: the list of channels, and the epoch."""
    async with rig(redis_url) as it:
        for message in (trade(1), quote(1), depth(1), snapshot({1.0: 1.0}), status("live")):
            it.publisher.publish(message)
        await it.lease.renew(it.publisher.epoch, b"{}")
        await it.drained()
        async with asyncio.timeout(30):
            while True:
                await asyncio.sleep(0.5)
                it.publisher.publish(quote(2))
                keys = [key.decode() async for key in it.client.scan_iter(count=1000)]
                endless = {key for key in keys if await it.client.ttl(key) == -1}
                if endless == {KEYS.channels, KEYS.venues, KEYS.epoch("venue")}:
                    break
        assert len(keys) == 18, keys


async def test_series_are_sampled_quotes_and_all_trades(redis_url: str) -> None:
    async with rig(redis_url, history=HistorySettings(quote_sample_ms=100)) as it:
        began = time.time_ns() // 1_000_000
        for number in range(1, 61):
            it.publisher.publish(quote(number))
            it.publisher.publish(trade(number, size=2.0))
            await asyncio.sleep(0.01)
        await it.drained()
        await asyncio.sleep(0.11)
        it.publisher.publish(depth(1))
        await it.drained()
        ranges: dict[str, Any] = {}
        for name, field in ((QUOTES, "bid"), (QUOTES, "ask"), (TRADES, "price"), (TRADES, "size")):
            reply = await it.client.execute_command("TS.RANGE", KEYS.series(name, field), "-", "+")  # type: ignore[no-untyped-call]
            ranges[field] = [(ts, float(value)) for ts, value in reply]
        assert sum(value for _, value in ranges["size"]) == 120.0
        assert ranges["price"][-1][1] == 60.0
        assert 2 <= len(ranges["bid"]) <= (time.time_ns() // 1_000_000 - began) / 100 + 2
        assert [value + 1 for _, value in ranges["bid"]] == [value for _, value in ranges["ask"]]
        assert ranges["bid"][-1][1] == 60.0
        assert all(began <= ts <= time.time_ns() // 1_000_000 for ts, _ in ranges["price"])
        info = await it.client.execute_command("TS.INFO", KEYS.series(TRADES, "size"))  # type: ignore[no-untyped-call]
        text = str(info)
        for label in ("kind", "trade", "venue", "symbol", "A-B", "field", "size", "base", "quote", "sum"):
            assert f"'{label}'" in text
    assert await it.publisher.drain(0.1)


async def test_without_the_module_series_are_sorted_sets(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path / "redis", timeseries=False) as plain, rig(plain.url) as it:
        for number in range(1, 20):
            it.publisher.publish(trade(number, size=0.5))
        await it.drained()
        history = SortedSets(it.client)
        key = KEYS.series(TRADES, "size")
        (found,) = await history.read([Query(key, "sum")], 0, 1 << 50, 1000)
        assert sum(value for _, value in found) == 9.5
        assert it.publisher.counters["redis_errors"] == 0


async def test_a_series_that_vanished_is_made_again_and_nothing_more_is_lost(redis_url: str) -> None:
    """Somebody deleted it, or it expired."""
    async with rig(redis_url) as it:
        it.publisher.publish(trade(1))
        await it.drained()
        await it.client.delete(KEYS.series(TRADES, "price"), KEYS.series(TRADES, "size"))
        for number in range(2, 10):
            it.publisher.publish(trade(number))
            await asyncio.sleep(0.002)
        await it.drained()
        queries = [Query(KEYS.series(TRADES, "size"), "sum")]
        (sizes,) = await TimeSeries(it.client).read(queries, 0, 1 << 50, 100)
        assert sum(value for _, value in sizes) == 8.0
        assert (it.publisher.counters["redis_errors"], it.publisher.counters["samples_refused"]) == (0, 0)


async def test_a_bad_series_is_reported_with_its_key_and_spoils_nothing_else(
    redis_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with EmbeddedRedis(tmp_path / "redis", timeseries=False) as plain:
        for url in (redis_url, plain.url):
            caplog.clear()
            async with rig(url) as it:
                bad = KEYS.series(TRADES, "price")
                await it.client.set(bad, "somebody else's")
                for number in range(1, 6):
                    it.publisher.publish(trade(number))
                    await it.drained()
                said = [record.getMessage() for record in caplog.records if "refused a sample" in record.getMessage()]
                assert len(said) == 1, "each key once"
                assert f"key={bad} " in said[0]
                assert it.publisher.counters["samples_refused"] == 5
                assert (it.publisher.counters["redis_reconnects"], it.reasons) == (0, [])
                queries = [Query(KEYS.series(TRADES, "size"), "sum")]
                (sizes,) = await it.publisher.encoder.history.read(queries, 0, 1 << 50, 100)  # type: ignore[union-attr]
                assert sum(value for _, value in sizes) == 5.0
                assert len(await it.log(TRADES)) == 5


# joining while it publishes


async def join_book(url: str, name: str) -> tuple[Listener, Any, dict[float, float], list[str]]:
    """SUBSCRIBE, GET, XRANGE, then the stream: as the design tells readers to do."""
    key, log = KEYS.newest(name), KEYS.log(name)
    async with Listener.on(url, key) as heard:
        (value,) = await heard.link.call([pack("GET", key)])
        first: Payload = json.loads(value)
        book: dict[float, float] = {}
        apply(book, first)
        (tail,) = await heard.link.call([pack("XRANGE", log, f"({first['id']}", "+")])
        seen = [first["id"]]
        for _, fields in tail:
            message = json.loads(fields[1])
            seen.append(message["id"])
            apply(book, message)
        await heard.beyond(parse_position(seen[-1]))
        await asyncio.sleep(0.02)
        for payload in list(heard.order):
            message = json.loads(payload)
            if parse_position(message["id"]) > parse_position(seen[-1]):
                seen.append(message["id"])
                apply(book, message)
        return heard, first, book, seen


async def test_readers_who_join_a_book_at_any_moment_have_it_whole(redis_url: str) -> None:
    chance = random.Random(5)
    states: dict[str, dict[float, float]] = {}
    truth: dict[float, float] = {}

    async def busy(it: Rig) -> None:
        it.publisher.publish(snapshot(truth))
        states[f"{it.publisher.epoch}-1"] = dict(truth)
        for seq in range(2, 1_000_000):
            price, size = float(chance.randrange(50)), float(chance.randrange(3))
            truth[price] = size
            if not size:
                del truth[price]
            it.publisher.publish(update(price, size))
            states[f"{it.publisher.epoch}-{seq}"] = dict(truth)
            if seq % 50 == 0:
                it.publisher.renew(snapshot(truth))
            if seq % 3 == 0:
                await asyncio.sleep(0.001 if seq % 30 == 0 else 0)

    async with rig(redis_url) as it:
        writing = asyncio.create_task(busy(it))
        await asyncio.sleep(0.1)
        for _ in range(25):
            _, _, book, seen = await join_book(redis_url, BOOKS)
            epoch, first = parse_position(seen[0])
            assert seen == [f"{epoch}-{seq}" for seq in range(first, first + len(seen))]
            assert book == states[seen[-1]]
            await asyncio.sleep(chance.random() / 50)
        writing.cancel()


async def test_readers_who_join_trades_at_any_moment_miss_none(redis_url: str) -> None:
    async def busy(it: Rig) -> None:
        for number in range(1, 1_000_000):
            it.publisher.publish(trade(number))
            if number % 5 == 0:
                await asyncio.sleep(0.001 if number % 50 == 0 else 0)

    chance = random.Random(6)
    key = KEYS.newest(TRADES)
    async with rig(redis_url) as it:
        writing = asyncio.create_task(busy(it))
        await asyncio.sleep(0.1)
        for _ in range(40):
            async with Listener.on(redis_url, key) as heard:
                (value,) = await heard.link.call([pack("GET", key)])
                last = parse_position(json.loads(value)["id"])
                await heard.beyond(last)
                after = [place for text in ids(heard.order) if (place := parse_position(text)) > last]
                assert after == [(last[0], last[1] + step) for step in range(1, len(after) + 1)]
            await asyncio.sleep(chance.random() / 100)
        writing.cancel()


# the connection breaks


async def cut(url: str, times: int, pause_s: float) -> None:
    """Close every connection of a publisher, as a network would."""
    client = command_client(url)
    for _ in range(times):
        for row in await client.client_list():
            if row["name"].startswith("tickwire-feed-"):
                try:
                    await client.client_kill(row["addr"])
                except ResponseError:
                    continue  # it is gone already
        await asyncio.sleep(pause_s)
    await client.aclose()


@pytest.mark.parametrize("pause_s", [0.15, 0.004])
async def test_a_broken_connection_loses_nothing_and_repeats_nothing(redis_url: str, pause_s: float) -> None:
    """Also where it breaks again while the last batch is sent again: same ids, one entry each, no new epoch."""
    settings = PublisherSettings(log_trades=1_000_000)
    async with rig(redis_url, publisher=settings) as it:
        it.publisher.publish(trade(0))
        await it.drained()
        epoch, number = it.publisher.epoch, 0
        cutting = asyncio.create_task(cut(redis_url, int(2 / (pause_s + 0.003)), pause_s))
        while not cutting.done() or it.publisher.counters["redis_reconnects"] <= 5:
            if cutting.done():  # most of them met no connection
                cutting = asyncio.create_task(cut(redis_url, 1, pause_s))
            for _ in range(20):
                number += 1
                it.publisher.publish(trade(number))
            await asyncio.sleep(0.001)
        await cutting
        await it.drained()
        log = await it.log(TRADES)
        assert [message["trade_id"] for _, message in log] == [str(at) for at in range(number + 1)]
        assert [entry for entry, _ in log] == [f"{epoch}-{seq}" for seq in range(1, number + 2)]
        assert (it.publisher.epoch, it.reasons) == (epoch, [])
        assert it.publisher.counters["redis_errors"] == 0


@pytest.mark.parametrize("cuts", [1, 2, 5])
async def test_a_connection_that_breaks_while_a_batch_is_sent_again_loses_nothing(redis_url: str, cuts: int) -> None:
    async with Proxy.before(redis_url) as proxy, rig(proxy.url) as it:
        epoch = it.publisher.epoch
        it.publisher.publish(trade(1))
        await it.drained()
        proxy.cuts = cuts
        it.publisher.publish(trade(2))
        async with asyncio.timeout(30):
            while proxy.cuts:
                await asyncio.sleep(0.01)
        it.publisher.publish(trade(3))
        await it.drained()
        assert [(entry, message["trade_id"]) for entry, message in await it.log(TRADES)] == [
            (f"{epoch}-1", "1"), (f"{epoch}-2", "2"), (f"{epoch}-3", "3"),
        ]  # fmt: skip
        assert it.reasons == []


async def test_a_batch_that_redis_has_already_is_not_told_again_in_a_new_epoch(redis_url: str) -> None:
    """Only its confirmation was lost; that other events were dropped meanwhile is another matter."""
    async with Proxy.before(redis_url) as proxy, rig(proxy.url, publisher=PublisherSettings(buffer=20)) as it:
        it.publisher.publish(trade(1))
        await it.drained()
        proxy.mute = True
        it.publisher.publish(trade(2))
        async with command_client(redis_url) as client, asyncio.timeout(30):
            while await client.xlen(KEYS.log(TRADES)) < 2:
                await asyncio.sleep(0.01)
        proxy.closed = True
        proxy.cut()
        await asyncio.sleep(0.05)
        for number in range(100):
            it.publisher.publish(trade(number, symbol="C-D"))
        proxy.mute = proxy.closed = False
        await it.drained()
        assert it.reasons
        assert [message["trade_id"] for _, message in await it.log(TRADES)] == ["1", "2"]


async def test_sums_are_never_added_twice(redis_url: str) -> None:
    async with rig(redis_url) as it:
        cutting = asyncio.create_task(cut(redis_url, 40, 0.02))
        number = 0
        while not cutting.done():
            number += 1
            it.publisher.publish(trade(number))
            await asyncio.sleep(0.002)
        await it.drained()
        key = KEYS.series(TRADES, "size")
        reply: Any = await it.client.execute_command("TS.RANGE", key, "-", "+")  # type: ignore[no-untyped-call]
        total = sum(float(value) for _, value in reply)
        assert 0 < total <= number


# Redis ends


async def run_outage(it: Rig, server: EmbeddedRedis, *, wiped: bool, down_s: float = 2.0) -> tuple[int, int]:
    """Publish trades all along while Redis is killed and comes back. Returns the numbers of the first and last trade
    that came while it was away."""
    number = 0

    async def publish(seconds: float) -> None:
        nonlocal number
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            number += 1
            it.publisher.publish(trade(number))
            it.publisher.publish(quote(number))
            await asyncio.sleep(0.01)

    await publish(0.5)
    await server.kill()
    first = number + 1
    await publish(down_s)
    last = number
    if wiped:
        server.wipe()
    starting = asyncio.create_task(server.start())
    while not starting.done():
        await publish(0.1)
    await starting
    await publish(0.5)
    await it.drained()
    return first, last


@pytest.mark.parametrize("wiped", [False, True], ids=["with its data", "wiped"])
async def test_redis_killed_for_two_seconds(server: EmbeddedRedis, wiped: bool) -> None:
    """A new epoch says so; nothing that came meanwhile is missing in it, and everything is there again."""

    def began(it: Rig) -> None:
        it.publisher.publish(snapshot({1.0: 9.0}))

    async with rig(server.url, on_new_epoch=began) as it:
        epoch = it.publisher.epoch
        for message in (snapshot({1.0: 1.0}), depth(1), status("live", "before")):
            it.publisher.publish(message)
        it.publisher.publish(update(2.0, 1.0))
        await it.drained()
        await it.lease.renew(epoch, b"{}")
        first, last = await run_outage(it, server, wiped=wiped)
        assert it.reasons == ["Redis came back as another run"]
        assert it.publisher.epoch > epoch
        log = await it.log(TRADES)
        new = [message for entry, message in log if entry.startswith(f"{it.publisher.epoch}-")]
        assert [int(message["id"].partition("-")[2]) for message in new] == list(range(1, len(new) + 1))
        numbers = [int(message["trade_id"]) for message in new]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert numbers[0] <= first < last <= numbers[-1]
        old = [entry for entry, _ in log if entry.startswith(f"{epoch}-")]
        assert bool(old) != wiped
        books = await it.log(BOOKS)
        assert [(entry, message["action"]) for entry, message in books if not entry.startswith(str(epoch))] == [
            (f"{it.publisher.epoch}-1", "snapshot")
        ]
        book, newest = await it.newest(BOOKS), await it.newest(QUOTES)
        assert book is not None and newest is not None
        assert (book["id"], book["bids"]) == (f"{it.publisher.epoch}-1", [[1.0, 9.0]])
        assert newest["bid"] == numbers[-1]
        assert ((await it.newest(STATUSES)) or {})["reason"] == "before"
        assert ((await it.newest(DEPTHS)) or {})["bids"] == [[1.0, 1.0]]
        names = {name.encode() for name in (TRADES, QUOTES, DEPTHS, BOOKS, STATUSES)}
        assert await it.client.smembers(KEYS.channels) == names
        key = KEYS.series(TRADES, "price")
        reply: Any = await it.client.execute_command("TS.RANGE", key, "-", "+")  # type: ignore[no-untyped-call]
        assert float(reply[-1][1]) == numbers[-1]
        assert it.publisher.counters["events_dropped"] == 0


async def test_a_withdrawn_value_stays_away_when_redis_comes_back_empty(server: EmbeddedRedis) -> None:
    async with rig(server.url) as it:
        for message in (snapshot({1.0: 1.0}), depth(1), quote(1), trade(1)):
            it.publisher.publish(message)
        await it.drained()
        await server.kill()
        server.wipe()
        for kind in ("book", "depth", "quote"):
            it.publisher.withdraw(kind, "A-B")
        it.publisher.publish(status("resyncing", "gone"))
        await server.start()
        await it.drained()
        assert it.reasons
        assert await it.client.exists(*map(KEYS.newest, (BOOKS, DEPTHS, QUOTES))) == 0
        assert ((await it.newest(STATUSES)) or {})["reason"] == "gone"
        assert ((await it.newest(TRADES)) or {})["trade_id"] == "1"


class BreakingLease(Lease):
    """A lease whose connection to Redis breaks at the first use after `breaks` was set."""

    breaks = False

    async def confirm(self) -> None:
        if self.breaks:
            self.breaks = False
            raise RedisConnectionError("broken once more")
        await super().confirm()


async def test_redis_that_breaks_again_while_it_comes_back_is_still_another_run(server: EmbeddedRedis) -> None:
    async with rig(server.url, lease=BreakingLease) as it:
        epoch = it.publisher.epoch
        it.publisher.publish(quote(1))
        it.publisher.publish(trade(1))
        await it.drained()
        await server.kill()
        server.wipe()
        assert isinstance(it.lease, BreakingLease)
        it.lease.breaks = True
        await server.start()
        it.publisher.publish(trade(2))
        async with asyncio.timeout(30):
            while not await it.client.exists(KEYS.log(TRADES)):
                await asyncio.sleep(0.05)
        assert it.reasons == ["Redis came back as another run"]
        assert it.publisher.epoch > epoch
        assert await it.newest(QUOTES) is not None
        assert await it.client.smembers(KEYS.channels) == {TRADES.encode(), QUOTES.encode()}


async def test_too_much_to_hold_is_dropped_and_said(server: EmbeddedRedis) -> None:
    """Of states the newest is kept, of events the last; the rest is counted, and a new epoch tells readers."""

    def began(it: Rig) -> None:
        it.publisher.publish(status("live", "new epoch", symbol="*"))

    async with rig(server.url, on_new_epoch=began, publisher=PublisherSettings(buffer=100)) as it:
        epoch = it.publisher.epoch
        for message in (trade(1), quote(1), depth(1), snapshot({1.0: 1.0})):
            it.publisher.publish(message)
        await it.drained()
        await server.kill()
        await asyncio.sleep(0.05)
        for number in range(2, 3002):
            it.publisher.publish(trade(number))
            it.publisher.publish(quote(number))
        assert len(it.publisher._pending) <= 2 * 100 + 1
        await server.start()
        await it.drained()
        assert it.publisher.epoch > epoch
        assert it.reasons
        dropped = it.publisher.counters["events_dropped"]
        log = [message for entry, message in await it.log(TRADES) if not entry.startswith(f"{epoch}-")]
        numbers = [int(message["trade_id"]) for message in log]
        assert numbers == list(range(numbers[0], 3002))
        assert len(numbers) + dropped == 3000
        assert ((await it.newest(QUOTES)) or {})["bid"] == 3001.0
        assert ((await it.newest("status:venue:*")) or {})["reason"] == "new epoch"


@pytest.mark.parametrize("wiped", [False, True], ids=["with its data", "wiped"])
async def test_what_was_withdrawn_stays_away_however_much_was_dropped(server: EmbeddedRedis, wiped: bool) -> None:
    async with rig(server.url, publisher=PublisherSettings(buffer=50)) as it:
        for message in (snapshot({1.0: 1.0}), depth(1), quote(1), status("live", "good")):
            it.publisher.publish(message)
        await it.drained()
        await server.kill()
        await asyncio.sleep(0.05)
        it.publisher.publish(quote(2))
        it.publisher.publish(depth(2))
        for kind in ("book", "depth", "quote"):
            it.publisher.withdraw(kind, "A-B")
        it.publisher.publish(status("resyncing", "gap"))
        for number in range(1, 1000):
            it.publisher.publish(trade(number, symbol="C-D"))
        if wiped:
            server.wipe()
        await server.start()
        await it.drained()
        assert it.publisher.counters["events_dropped"] > 0
        assert it.reasons
        assert await it.client.exists(*map(KEYS.newest, (BOOKS, DEPTHS, QUOTES))) == 0


async def test_a_full_redis_is_announced_when_it_has_room_again(server: EmbeddedRedis) -> None:
    """Refused writes are lost events: only a new epoch can say so."""
    async with rig(server.url, history=HistorySettings(enabled=False)) as it:
        epoch = it.publisher.epoch
        it.publisher.publish(trade(1))
        await it.drained()
        await it.client.config_set("maxmemory", "1mb")
        number = 1
        async with asyncio.timeout(30):
            while not it.publisher.counters["redis_errors"]:
                number += 1
                it.publisher.publish(trade(number))
                await asyncio.sleep(0.01)
        await it.client.config_set("maxmemory", "0")
        for number in range(number + 1, number + 11):  # noqa: B020 - counts on
            it.publisher.publish(trade(number))
            await asyncio.sleep(0.05)
        await it.drained()
        assert it.publisher.epoch > epoch
        assert it.reasons
        assert it.publisher.counters["redis_errors"] > 0
        log = await it.log(TRADES)
        newest = [int(message["trade_id"]) for entry, message in log if entry.startswith(f"{it.publisher.epoch}-")]
        assert newest == list(range(newest[0], number + 1))


# one publisher a venue


async def test_a_larger_epoch_of_somebody_else_stops_at_once(redis_url: str) -> None:
    async with rig(redis_url) as it:
        it.publisher.publish(trade(1))
        await it.drained()
        await it.client.xadd(KEYS.log(TRADES), {"payload": "{}"}, id=f"{it.publisher.epoch + 10}-1")
        it.publisher.publish(trade(2))
        with pytest.raises(LeaseLost, match="another publisher took over"):
            await asyncio.wait_for(it.running, 30)


async def test_a_lease_that_went_to_somebody_else_stops_at_the_next_connection(redis_url: str) -> None:
    async with rig(redis_url) as it:
        it.publisher.publish(trade(1))
        await it.drained()
        await it.client.set(KEYS.lease("venue"), "somebody else", px=3000)
        await cut(redis_url, 1, 0)
        it.publisher.publish(trade(2))
        with pytest.raises(LeaseLost, match="somebody else"):
            await asyncio.wait_for(it.running, 30)
        assert [message["trade_id"] for _, message in await it.log(TRADES)] == ["1"]
        left = [row for row in await it.client.client_list() if row["name"] == "tickwire-feed-venue"]
        await cut(redis_url, 1, 0.05)
        assert left == [], "a publisher that stopped is still connected"


async def test_a_second_publisher_is_refused_and_told_who_has_it(redis_url: str) -> None:
    async with rig(redis_url) as it:

        async def pulse() -> None:
            while True:
                await it.lease.renew(it.publisher.epoch, b"{}")
                await asyncio.sleep(0.5)

        beating = asyncio.create_task(pulse())
        client = command_client(redis_url)
        with pytest.raises(LeaseHeld) as caught:
            await Lease(client, KEYS, "venue", new_holder()).acquire()
        assert it.lease.holder in str(caught.value)
        beating.cancel()
        await client.aclose()
        it.publisher.publish(trade(1))
        await it.drained()


async def test_a_link_that_never_answers_holds_nothing_up(server: EmbeddedRedis) -> None:
    """`drain` gives up in time."""
    async with rig(server.url) as it:
        it.publisher.publish(trade(1))
        await it.drained()
        await server.kill()
        it.publisher.publish(trade(2))
        async with asyncio.timeout(30):
            assert not await it.publisher.drain(0.3)


async def test_the_link_serves_a_reader_and_a_writer_of_one_process(redis_url: str) -> None:
    link = await Link.connect(redis_url)
    assert await link.call([pack("SET", "x", 1), pack("GET", "x")]) == [b"OK", b"1"]
    link.close()
