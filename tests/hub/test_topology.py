"""redis.url that leads to a Sentinel or a Cluster: parsing, finding, and the bus on real servers."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from hub.bus import Bus
from hub.connect import AnyLink, connect
from hub.errors import ConfigError, RedisUnavailable
from hub.history import Query, TimeSeries, open_history
from hub.keys import Keys
from hub.lease import Lease
from hub.link import Push, RedisReplyError, pack
from hub.position import head_of
from hub.redisio import check, command_client, mget
from hub.topic import Topic
from hub.topology import find_master, find_nodes, parse_address
from tests.hub.test_bus import Ears, soon
from tests.servers import RedisCluster, Sentinels, cluster, eventually, sentinels

KEYS = Keys()
SYMBOLS = [f"S{number}" for number in range(30)]


# addresses


@pytest.mark.parametrize(
    ("url", "kind", "hosts", "node"),
    [
        ("redis://u:p@h:1/2?timeout=3", "single", (), None),
        ("unix:///run/redis.sock", "single", (), None),
        ("redis+cluster://a,b:7", "cluster", (("a", 6379), ("b", 7)), "redis://h:1"),
        ("rediss+cluster://u:p%40@a:7/?ssl_cert_reqs=none", "cluster", (("a", 7),), "rediss://u:p%40@h:1?ssl_cert_reqs=none"),
        ("redis+sentinel://a,[::1]:7/hub", "sentinel", (("a", 26379), ("::1", 7)), "redis://h:1"),
        ("redis+sentinel://:p/@w@a:1/hub/3?sentinel_password=x&timeout=1", "sentinel", (("a", 1),), "redis://:p/@w@h:1/3?timeout=1"),
    ],
)  # fmt: skip
def test_addresses(url: str, kind: str, hosts: Any, node: str | None) -> None:
    address = parse_address(url)
    assert (address.kind, address.hosts) == (kind, hosts)
    if node is not None:
        assert address.node_url("h", 1) == node
        assert address.node_url("::2", 1) == node.replace("h:1", "[::2]:1")


@pytest.mark.parametrize(
    "url",
    ["", "host:6379", "http://:secret@a", "redis+magic://:secret@a", "unix+cluster:///a", "redis+cluster://:secret@",
     "redis+cluster://:secret@a:0", "redis+cluster://:secret@a:x,b", "redis+sentinel://:secret@a:1",
     "redis+sentinel://:secret@a:1/?db=1", "redis+sentinel://:secret@/hub"],
)  # fmt: skip
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ConfigError, match=r"redis\.url") as error:
        parse_address(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("url", ["redis+cluster://:secret@127.0.0.1:1", "redis+sentinel://:secret@127.0.0.1:1/hub"])
async def test_nobody_there(url: str) -> None:
    for attempt in (check(url), connect(url)):
        with pytest.raises(RedisUnavailable) as error:
            await attempt
        assert "secret" not in str(error.value)
    client = command_client(url, timeout_s=1)
    with pytest.raises(Exception) as failure:
        await client.get("k")
    assert "secret" not in str(failure.value)
    await client.aclose()


# what holds for every kind of address


class Kit:
    """Servers, and a client that speaks to them as a feed does."""

    def __init__(self, url: str, servers: Any) -> None:
        self.url, self.servers = url, servers
        self.link: AnyLink

    async def emit(self, symbol: str, seq: int, epoch: int = 7, *, publish: bool = True) -> None:
        name = f"trade:v:{symbol}"
        payload = head_of("trade", "v", symbol) + f'{epoch}-{seq}"}}'.encode()
        commands = [
            pack("SET", KEYS.newest(name), payload),
            pack("XADD", KEYS.log(name), f"{epoch}-{seq}", "payload", payload),
        ]
        if publish:
            commands.append(pack("PUBLISH", KEYS.newest(name), payload))
        for reply in await self.link.call(commands):
            assert not isinstance(reply, Exception)


@pytest.fixture(params=["cluster", "sentinel"])
async def kit(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kit]:
    async with cluster(tmp_path) if request.param == "cluster" else sentinels(tmp_path) as servers:
        kit = Kit(servers.url, servers)
        kit.link = await connect(kit.url)
        yield kit
        kit.link.close()


async def test_one_interface_for_all(kit: Kit) -> None:
    """Replies in order over all nodes, subscriptions, redis-py, leases and series."""
    info = await check(kit.url)
    assert info["redis_version"]
    order: list[Any] = []
    keys = [KEYS.newest(f"quote:v:{symbol}") for symbol in SYMBOLS]
    heard = await connect(kit.url, lambda pushes: order.extend(p[2] for p in pushes if b"message" in p[0]))
    heard.write(pack("SUBSCRIBE", *keys))
    assert await heard.call([pack("PING")]) in ([b"PONG"], ["PONG"])
    sets = [pack("SET", key, key) for key in keys]
    wrong = pack("LPUSH", keys[0], "x")
    replies = await kit.link.call([*sets, wrong, pack("MGET", *keys), pack("GET", keys[3]), pack("MGET", "none")])
    assert isinstance(replies[30], RedisReplyError)
    assert replies[31:] == [[key.encode() for key in keys], keys[3].encode(), [None]]
    await kit.link.call([pack("PUBLISH", key, key) for key in keys])
    await soon(lambda: len(order) == len(keys))
    assert sorted(order) == sorted(key.encode() for key in keys)
    heard.write(pack("UNSUBSCRIBE", *keys))
    await heard.call([pack("PING")])
    (text,) = await kit.link.call([pack("INFO", "server")])
    assert text.count(b"run_id:") == (3 if "cluster" in kit.url else 1)
    assert not heard.closed.done()
    heard.close()

    client = command_client(kit.url)
    assert await mget(client, [*keys, "none"]) == [*(key.encode() for key in keys), None]
    lease = Lease(client, KEYS, "v", "me")
    epoch = await lease.acquire()
    await lease.renew(epoch, b"{}")
    await lease.release()
    history = await open_history(client)
    assert isinstance(history, TimeSeries)
    replies = await kit.link.call(
        [pack("TS.MADD", *(w for symbol in SYMBOLS for w in (KEYS.series(f"quote:v:{symbol}", "bid"), 5, 1.5)))]
    )
    assert all(isinstance(reply, RedisReplyError) for reply in replies[0]), "no such series yet"
    made = [pack("TS.CREATE", KEYS.series(f"quote:v:{symbol}", "bid")) for symbol in SYMBOLS]
    assert set(await kit.link.call(made)) == {b"OK"}
    (added,) = await kit.link.call(
        [pack("TS.MADD", *(w for symbol in SYMBOLS for w in (KEYS.series(f"quote:v:{symbol}", "bid"), 5, 1.5)))]
    )
    assert added == [5] * len(SYMBOLS)
    assert await history.read([Query(KEYS.series("quote:v:S7", "bid"), "last")] * 2, 0, 9, 10) == [[(5, 1.5)]] * 2
    await client.aclose()


async def listening(kit: Kit) -> tuple["Bus[Topic]", Ears, "asyncio.Task[None]"]:
    ears = Ears()
    bus: Bus[Topic] = Bus(kit.url, KEYS, Topic, ears)
    await bus.start()
    for symbol in SYMBOLS:
        bus.acquire(f"trade:v:{symbol}")
    return bus, ears, asyncio.create_task(bus.run())


def numbers(ears: Ears) -> dict[str, list[str]]:
    """Return the ids heard of each symbol."""
    found: dict[str, list[str]] = {}
    for message in ears.messages:
        parts = message.split(b'"')
        found.setdefault(parts[11].decode(), []).append(parts[15].decode())
    return found


async def all_heard(ears: Ears, last: int) -> None:
    expected = {symbol: [f"7-{n}" for n in range(1, last + 1)] for symbol in SYMBOLS}
    try:
        await soon(lambda: numbers(ears) == expected)
    except TimeoutError:
        assert numbers(ears) == expected
    assert not ears.gaps


async def test_every_channel_goes_on_after_a_cut(kit: Kit) -> None:
    bus, ears, running = await listening(kit)
    for seq in (1, 2):
        for symbol in SYMBOLS:
            await kit.emit(symbol, seq)
    await all_heard(ears, 2)
    nodes = kit.servers.nodes if isinstance(kit.servers, RedisCluster) else [kit.servers.master]
    await nodes[-1].call("CLIENT", "KILL", "TYPE", "pubsub")
    for symbol in SYMBOLS:
        await kit.emit(symbol, 3)
    await all_heard(ears, 3)
    await soon(lambda: bus.reconnects == 1 and bus.connected)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_channels_are_announced_over_nodes(kit: Kit) -> None:
    _, ears, running = await listening(kit)
    await kit.link.call([pack("SADD", KEYS.channels, "quote:v:A"), pack("PUBLISH", KEYS.channels, "quote:v:A")])
    await soon(lambda: "quote:v:A" in ears.names)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# a Cluster alone


async def test_a_slot_that_moves_is_followed(tmp_path: Path) -> None:
    async with cluster(tmp_path) as servers:
        kit = Kit(servers.url, servers)
        kit.link = await connect(kit.url)
        bus, ears, running = await listening(kit)
        for symbol in SYMBOLS:
            await kit.emit(symbol, 1)
        await all_heard(ears, 1)
        slot = key_slot(KEYS.newest("trade:v:S0").encode())
        owner = next(n for n in range(3) if 16_384 * n // 3 <= slot < 16_384 * (n + 1) // 3)
        await servers.move_slot(slot, servers.nodes[owner], servers.nodes[(owner + 1) % 3])
        with pytest.raises(ConnectionError):  # the writer's map is old
            await kit.emit("S0", 2)
        kit.link.close()
        kit.link = await connect(kit.url)
        for symbol in SYMBOLS:
            await kit.emit(symbol, 2)
        await all_heard(ears, 2)
        assert bus.reconnects >= 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        kit.link.close()


async def test_a_node_that_dies_and_returns(tmp_path: Path) -> None:
    async with cluster(tmp_path) as servers:
        kit = Kit(servers.url, servers)
        kit.link = await connect(kit.url)
        _, ears, running = await listening(kit)
        for symbol in SYMBOLS:
            await kit.emit(symbol, 1)
        await all_heard(ears, 1)
        servers.nodes[2].kill()
        await soon(lambda: ears.links[-1] == "down")
        await asyncio.wait_for(kit.link.closed, 30)
        await servers.nodes[2].start()
        await eventually(servers.is_whole)
        kit.link = await connect(kit.url)
        for symbol in SYMBOLS:
            await kit.emit(symbol, 2)
        await all_heard(ears, 2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        kit.link.close()


async def test_nodes_are_found(tmp_path: Path) -> None:
    async with cluster(tmp_path) as servers:
        nodes = await find_nodes(parse_address(servers.url))
        assert sorted(nodes.urls) == sorted(f"redis://127.0.0.1:{node.port}" for node in servers.nodes)
        assert len(nodes.slots) == 16_384
        pushes: list[Push] = []
        link = await connect(servers.url, pushes.extend)
        link.write(pack("SUBSCRIBE", "a", "b", "c"))
        await soon(lambda: [push[0] for push in pushes] == [b"ssubscribe"] * 3)
        link.close()
        await asyncio.wait_for(link.closed, 30)
        with pytest.raises(ConnectionError):
            await link.call([pack("GET", "a")])


# a Sentinel alone


async def connected(url: str) -> AnyLink:
    """Connect; right after a failover the Sentinel may not yet see the new master as up."""
    found: list[AnyLink] = []

    async def attempt() -> bool:
        with suppress(RedisUnavailable):
            found.append(await connect(url))
        return bool(found)

    await eventually(attempt)
    return found[0]


async def fail_over(servers: Sentinels, *, frozen: bool) -> None:
    assert servers.master.process is not None
    if frozen:
        os.kill(servers.master.process.pid, signal.SIGSTOP)
    else:
        servers.master.kill()
    await eventually(servers.follows, 30)


@pytest.mark.parametrize("frozen", [False, True])
async def test_failover(tmp_path: Path, frozen: bool) -> None:
    """The bus follows to the new master, whether the old one died or merely hangs, and is not lured back."""
    async with sentinels(tmp_path) as servers:
        kit = Kit(servers.url, servers)
        kit.link = await connect(kit.url)
        bus, ears, running = await listening(kit)
        client = command_client(kit.url, timeout_s=1)
        await client.set("k", "v")
        for symbol in SYMBOLS:
            await kit.emit(symbol, 1)
        await all_heard(ears, 1)
        await kit.link.call([pack("WAIT", 1, 1000)])
        await fail_over(servers, frozen=frozen)
        await asyncio.wait_for(kit.link.closed, 30)
        kit.link = await connected(kit.url)
        for symbol in SYMBOLS:
            await kit.emit(symbol, 2)
        await all_heard(ears, 2)
        await soon(lambda: bus.connected)  # it joins all channels again: not done when the first is heard
        assert await find_master(parse_address(kit.url)) == f"redis://127.0.0.1:{servers.replica.port}/0"
        assert await _soon_got(client) == b"v"
        if frozen:
            assert servers.master.process is not None
            os.kill(servers.master.process.pid, signal.SIGCONT)
        else:
            await servers.master.start()
        for symbol in SYMBOLS:
            await kit.emit(symbol, 3)
        await all_heard(ears, 3)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        kit.link.close()
        await client.aclose()


async def _soon_got(client: Redis) -> bytes | None:
    found: list[Any] = []

    async def get() -> bool:
        found.append(await client.get("k"))
        return True

    await eventually(get)
    value: bytes | None = found[-1]
    return value
