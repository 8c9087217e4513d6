"""The subscriber's side of the bus, and what a join is made of."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from hub.bus import Bus
from hub.join import NOTHING, REPLAY_MAX, Join, Joined
from hub.keys import Keys
from hub.position import Position, follows, format_position, head_of, parse_position, position_in
from hub.topic import Topic
from tests.servers import eventually

TRADE = "trade:v:X"
KEYS = Keys()


def payload(kind: str, seq: int, epoch: int = 7) -> bytes:
    return head_of(kind, "v", "X") + f'{epoch}-{seq}","n":{seq}}}'.encode()


class Ears:
    """Notes what the bus says."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.gaps: list[tuple[str, Position, Joined]] = []
        self.names: set[str] = set()
        self.links: list[str] = []

    def received(self, batch: list[tuple[Topic, bytes]]) -> None:
        self.messages += [message for _, message in batch]

    def gap(self, topic: Topic, last: Position, joined: Joined) -> None:
        self.gaps.append((topic.name, last, joined))

    def channels_added(self, names: Iterable[str]) -> None:
        self.names |= set(names)

    def channels_are(self, names: Iterable[str]) -> None:
        self.names = set(names)

    def connected(self) -> None:
        self.links.append("up")

    def disconnected(self, reason: str) -> None:
        self.links.append("down")

    @property
    def ids(self) -> list[str]:
        return [format_position(position_in(m, m[: m.index(b'"id":"') + 6])) for m in self.messages]


async def emit(redis: Redis, seq: int, epoch: int = 7, *, publish: bool = True) -> None:
    message, key = payload("trade", seq, epoch), KEYS.newest(TRADE)
    await redis.set(key, message)
    await redis.xadd(KEYS.log(TRADE), {"payload": message}, id=f"{epoch}-{seq}")
    if publish:
        await redis.publish(key, message)


async def soon(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_topics_are_counted_and_linger(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        bus: Bus[Topic] = Bus(redis_url, KEYS, Topic, Ears())
        bus.linger_s = 0.1
        await bus.start()
        running = asyncio.create_task(bus.run())
        key = KEYS.newest(TRADE)

        async def subscribers() -> int:
            return int((await redis.pubsub_numsub(key))[0][1])

        async def counts(expected: int) -> bool:
            return await subscribers() == expected

        first, second = bus.acquire(TRADE), bus.acquire(TRADE)
        assert first is second
        await eventually(lambda: counts(1))
        bus.release(first)
        await asyncio.sleep(0.2)
        assert await subscribers() == 1
        bus.release(first)
        again = bus.acquire(TRADE)
        await asyncio.sleep(0.2)
        assert again is first, "taken up again while it lingered"
        bus.release(again)
        await eventually(lambda: counts(0))
        assert not bus.topics
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_channels_are_announced(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        await redis.sadd(KEYS.channels, "quote:v:A")
        ears = Ears()
        bus: Bus[Topic] = Bus(redis_url, KEYS, Topic, ears)
        await bus.start()
        running = asyncio.create_task(bus.run())
        assert ears.names == {"quote:v:A"}
        await redis.publish(KEYS.channels, "quote:v:B")
        await soon(lambda: ears.names == {"quote:v:A", "quote:v:B"})
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_after_a_cut_every_topic_goes_on_from_its_last_id(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        ears = Ears()
        bus: Bus[Topic] = Bus(redis_url, KEYS, Topic, ears)
        await bus.start()
        running = asyncio.create_task(bus.run())
        bus.acquire(TRADE)
        await emit(redis, 1)
        await soon(lambda: len(ears.messages) == 1)
        await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]
        await emit(redis, 2, publish=False)
        await emit(redis, 3)
        await soon(lambda: ears.links == ["up", "down", "up"])
        await emit(redis, 4)
        await soon(lambda: len(ears.messages) == 4)
        assert ears.ids == ["7-1", "7-2", "7-3", "7-4"]
        assert not ears.gaps
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_what_the_log_no_longer_holds_is_a_gap(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        ears = Ears()
        bus: Bus[Topic] = Bus(redis_url, KEYS, Topic, ears)
        await bus.start()
        running = asyncio.create_task(bus.run())
        topic = bus.acquire(TRADE)
        await emit(redis, 1)
        await soon(lambda: len(ears.messages) == 1)
        for seq in range(2, 6):
            await emit(redis, seq, publish=False)
        await redis.xtrim(KEYS.log(TRADE), maxlen=2, approximate=False)
        await emit(redis, 6)
        await soon(lambda: ears.gaps)
        ((name, last, joined),) = ears.gaps
        assert (name, last, joined.upto) == (TRADE, (7, 1), (7, 6))
        assert joined.payloads == [payload("trade", 6)]
        assert topic.last == (7, 6)
        await emit(redis, 7)
        await soon(lambda: ears.ids == ["7-1", "7-7"])
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_new_epoch_is_no_hole(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        ears = Ears()
        bus: Bus[Topic] = Bus(redis_url, KEYS, Topic, ears)
        await bus.start()
        running = asyncio.create_task(bus.run())
        bus.acquire(TRADE)
        for epoch, seq in ((7, 1), (7, 2), (9, 1), (9, 2)):
            await emit(redis, seq, epoch)
        await soon(lambda: ears.ids == ["7-1", "7-2", "9-1", "9-2"])
        assert bus.holes == 0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


# joins, without Redis


def entries(*ids: str) -> list[Any]:
    kind = "trade"
    return [[i.encode(), [b"payload", payload(kind, *reversed([int(part) for part in i.split("-")]))]] for i in ids]


def joined(kind: str, after: str | None, *replies: Any) -> Joined:
    found: list[Joined] = []
    join = Join(Topic(f"{kind}:v:X", KEYS), found.append, parse_position(after) if after else None)
    for reply in replies:
        assert join.command() is not None
        join.reply(reply)
    assert join.command() is None
    join.finish()
    return found[0]


@pytest.mark.parametrize(
    ("after", "replies", "ids", "gap"),
    [
        (None, [None], [], False),
        (None, [payload("trade", 5)], ["7-5"], False),
        ("7-3", [entries("7-3", "7-4", "7-5")], ["7-4", "7-5"], False),
        ("7-3", [entries("7-4", "7-5")], ["7-4", "7-5"], False),
        ("7-5", [entries("7-5")], [], False),
        ("7-5", [[], payload("trade", 5)], [], False),
        ("7-3", [entries("7-5", "7-6"), payload("trade", 6)], ["7-6"], True),
        ("7-9", [[], payload("trade", 6)], ["7-6"], True),
        ("7-9", [[], None], [], True),
        ("6-9", [entries("7-1", "7-2"), payload("trade", 2)], ["7-2"], True),
        ("6-9", [entries("6-9", "7-1", "7-2")], ["7-1", "7-2"], False),
        ("0-0", [entries("7-1", "7-2")], ["7-1", "7-2"], False),
        ("0-0", [entries("7-2"), payload("trade", 2)], ["7-2"], True),
        ("7-3", [ValueError("refused"), ValueError("refused")], [], True),
    ],
)
def test_events_after_an_id(after: str | None, replies: list[Any], ids: list[str], gap: bool) -> None:
    result = joined("trade", after, *replies)
    head = head_of("trade", "v", "X")
    assert [format_position(position_in(p, head)) for p in result.payloads] == ids
    assert result.gap is gap


def test_more_events_than_one_replay_holds_are_a_gap() -> None:
    many = entries("7-1", *(f"7-{n}" for n in range(2, REPLAY_MAX + 3)))
    assert joined("trade", "7-1", many, payload("trade", 5)).gap


def test_state_kinds_have_no_log() -> None:
    assert joined("quote", "7-3", payload("quote", 5)).payloads == [payload("quote", 5)]
    assert joined("quote", "7-5", payload("quote", 5)).payloads == []
    assert joined("quote", "7-9", payload("quote", 5)) == Joined(upto=(7, 5), newest=payload("quote", 5))


def test_books_are_a_snapshot_and_the_logs_tail() -> None:
    snapshot = payload("book", 5)
    tail = [[b"7-6", [b"payload", payload("book", 6)]]]
    assert joined("book", None, snapshot, tail) == Joined(payloads=[snapshot, payload("book", 6)], upto=(7, 6))
    assert joined("book", None, None) == Joined(based=False)
    hole = [[b"7-8", [b"payload", payload("book", 8)]]]
    newer = payload("book", 7)
    assert joined("book", None, snapshot, hole, newer, hole).payloads == [newer, payload("book", 8)]
    assert not joined("book", None, snapshot, hole, snapshot, hole, snapshot, hole).based
    assert joined("book", "7-1", [], snapshot, tail) == Joined(
        payloads=[snapshot, payload("book", 6)], upto=(7, 6), gap=True
    )


# positions


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_positions_survive_their_text(epoch: int, seq: int) -> None:
    assert parse_position(format_position((epoch, seq))) == (epoch, seq)
    head = head_of("trade", "v", 'a"\\ü')
    assert position_in(head + f'{epoch}-{seq}",'.encode(), head) == (epoch, seq)


@given(st.text(max_size=30) | st.from_regex(r"\d{0,25}-\d{0,25}", fullmatch=True))
def test_everything_else_is_refused(text: str) -> None:
    try:
        assert format_position(parse_position(text)).replace("-", "") is not None
    except ValueError:
        pass


@given(st.binary(max_size=80))
def test_noise_has_no_position(noise: bytes) -> None:
    head = head_of("trade", "v", "X")
    for data in (noise, head + noise):
        try:
            position_in(data, head)
        except ValueError:
            pass


def test_other_spacing_is_read_as_well() -> None:
    assert position_in(b'{ "type": "trade", "id" : "7-5" }', head_of("trade", "v", "X")) == (7, 5)


@pytest.mark.parametrize(
    ("last", "new", "expected"),
    [((7, 1), (7, 2), True), ((7, 1), (7, 3), False), ((7, 1), (8, 1), True), ((7, 1), (8, 2), False),
     ((7, 1), (6, 1), False), (NOTHING, (7, 1), True), (NOTHING, (7, 2), False)],
)  # fmt: skip
def test_what_follows(last: Position, new: Position, expected: bool) -> None:
    assert follows(last, new) is expected
