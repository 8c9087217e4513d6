"""Reading a log from a place in the past: where a replay begins, that nothing is left out, and what is told as lost."""

import asyncio
import math
from collections.abc import Awaitable
from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from hub.connect import connect
from hub.errors import RequestError
from hub.keys import Keys
from hub.model import Book, Level
from hub.position import Position, format_position
from hub.replay import PAGE, Cursor, Lost, Read, Since, parse_since
from hub.topic import Topic
from tests.gateway.kit import Feed, book, trade

TRADE, BOOK = "trade:binance:BTC-USDT", "book:binance:BTC-USDT"
KEYS = Keys()
S = 1_000_000_000
NOON = 1_769_860_800 * S  # 2026-01-31T12:00:00Z

on_redis = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.mark.parametrize(
    ("value", "since"),
    [
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31T12:00:00", NOON),
        ("2026-01-31T13:00:00+01:00", NOON),
        ("2026-01-31 12:00", NOON),
        ("2026-01-31", NOON - 43_200 * S),
        ("2026-01-31T12:00:00.000001Z", NOON + 1000),
        (NOON // S, NOON),
        (NOON // 1_000_000, NOON),
        (NOON // 1000, NOON),
        (NOON + 1, NOON + 1),
        (str(NOON + 1), NOON + 1),
        (1_769_860_800.5, NOON + S // 2),
        ("1769860800.5", NOON + S // 2),
        (0, 0),
        ("1795203014747-91", (1795203014747, 91)),
    ],
)
def test_places(value: str | float, since: Since) -> None:
    assert parse_since(value) == since


@pytest.mark.parametrize(
    "value", ["", "yesterday", "2026-13-01", -1, "-5", math.inf, math.nan, "nan", "1e400", "0001-01-01",
              "9999-12-31T23:59:59-23:59", 10**25, "99999999999999999999-1", "1-2-3", "٣-٣"],
)  # fmt: skip
def test_what_is_no_place(value: str | float) -> None:
    with pytest.raises(RequestError) as error:
        parse_since(value)
    assert error.value.code == "bad_since"
    assert error.value.allowed


@given(st.datetimes(datetime(1970, 1, 2), datetime(2199, 12, 30)))
def test_any_time(moment: datetime) -> None:
    text = moment.isoformat() + "Z"
    since = parse_since(text)
    assert isinstance(since, int)
    assert since == parse_since(text.replace("Z", "+00:00"))
    if since >= 8 * 10**18 // 1000:  # smaller numbers are another unit
        assert parse_since(since) == since


class Reading:
    """A cursor over a real server, read to its end."""

    def __init__(self, url: str, name: str, since: Since, count: int = 7) -> None:
        self.url, self.count = url, count
        self.cursor = Cursor(Topic(name, KEYS), since)
        self.ids: list[Position] = []
        self.times: list[int] = []
        self.payloads: list[Any] = []
        self.lost: list[Lost] = []

    async def __call__(self) -> "Reading":
        link = await connect(self.url)
        try:

            async def read(command: bytes) -> Any:
                (reply,) = await link.call([command])
                return None if isinstance(reply, Exception) else reply

            await self.cursor.seek(read)
            await self.to_the_end(read)
        finally:
            link.close()
        return self

    async def to_the_end(self, read: Read) -> None:
        self._take()
        while not self.cursor.end_at:
            await self.cursor.fill(read, self.count)
            assert len(self.cursor.events) <= self.count + 1
            self._take()

    def _take(self) -> None:
        if self.cursor.lost is not None:
            self.lost.append(self.cursor.lost)
            self.cursor.lost = None
        while self.cursor.events:
            event = self.cursor.events.popleft()
            self.ids.append(event.position)
            self.times.append(event.at)
            self.payloads.append(msgspec.json.decode(event.payload))


def run(work: Awaitable[Any]) -> Any:
    async def all_of_it() -> Any:
        return await work

    return asyncio.run(all_of_it())


@given(
    times=st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=60),
    trimmed=st.integers(0, 10),
    since=st.integers(0, 55),
    count=st.integers(1, 30),
)
@on_redis
def test_everything_from_the_first_event_at_or_after_a_time(
    redis_url: str, times: list[tuple[int, bool]], trimmed: int, since: int, count: int
) -> None:
    async def check() -> None:
        async with Redis.from_url(redis_url) as redis:
            await redis.delete(KEYS.log(TRADE))
            epoch, seq, log = 5, 0, []
            for at, new_epoch in times:
                epoch, seq = (epoch + 1, 1) if new_epoch else (epoch, seq + 1)
                message = {"type": "trade", "ts_event": None if at % 2 else at, "ts_recv": at}
                await redis.xadd(KEYS.log(TRADE), {"payload": msgspec.json.encode(message)}, id=f"{epoch}-{seq}")
                log.append((at, (epoch, seq)))
            if trimmed and len(log) > trimmed:
                await redis.xtrim(KEYS.log(TRADE), maxlen=len(log) - trimmed, approximate=False)
                log = log[trimmed:]
        found = await Reading(redis_url, TRADE, since, count)()
        first = next((n for n, (at, _) in enumerate(log) if at >= since), len(log))
        assert found.ids == [position for _, position in log[first:]]
        assert found.times == sorted(found.times)
        reaches = bool(log) and log[0][0] < since
        assert found.lost == ([] if reaches else [Lost(None, log[first][1] if log else None)])
        assert found.cursor.place == (log[-1][1] if log else None)

    run(check())


@pytest.mark.parametrize("place", [0, 1, 300, 699, 700])
async def test_long_logs_are_read_by_pages(redis_url: str, place: int) -> None:
    async with Feed(redis_url) as feed:
        await feed.publish(*(msgspec.structs.replace(trade(n), ts_event=n) for n in range(700)))
        epoch = feed.builder.epoch
    for since in (place, (epoch, place + 1)):
        found = await Reading(redis_url, TRADE, since, PAGE)()
        assert [seq for _, seq in found.ids] == list(range(place + 1, 701))
        complete = 0 < place < 700 or (place == 0 and not isinstance(since, int)) or (place == 700 and since == 700)
        assert (found.lost == []) is complete


@pytest.mark.parametrize("name", [TRADE, BOOK])
async def test_the_first_event_of_a_publisher_that_was_there_before_is_no_loss(redis_url: str, name: str) -> None:
    """An epoch is the time (ms) at which its publisher began; what happened before that, nobody knows."""
    began = NOON // 1_000_000
    first = msgspec.structs.replace(
        trade(1) if name == TRADE else _book({1.0: 1.0}, {}, "snapshot", 0), ts_event=NOON + 9 * S
    )
    async with Feed(redis_url, epoch=began) as feed:
        await feed.publish(first, first)
        for since, lost in ((NOON + S, []), (NOON, []), (NOON - S, [Lost(None, (began, 1))])):
            found = await Reading(redis_url, name, since)()
            assert (found.lost, found.ids) == (lost, [(began, 1), (began, 2)])
        await feed.redis.xtrim(feed.keys.log(name), maxlen=1, approximate=False)
        (lost_now,) = (await Reading(redis_url, name, NOON + S)()).lost
        assert lost_now.last is None


async def test_what_is_trimmed_meanwhile_is_told(redis_url: str) -> None:
    async with Feed(redis_url) as feed:
        await feed.publish(*(msgspec.structs.replace(trade(n), ts_event=n) for n in range(100)))
        epoch = feed.builder.epoch
        link = await connect(redis_url)
        reading = Reading(redis_url, TRADE, 10)

        async def read(command: bytes) -> Any:
            return (await link.call([command]))[0]

        await reading.cursor.seek(read)
        await reading.cursor.fill(read, 20)
        await feed.redis.xtrim(feed.keys.log(TRADE), maxlen=30, approximate=False)
        await reading.to_the_end(read)
        assert [seq for _, seq in reading.ids] == [*range(11, 31), *range(71, 101)]
        assert reading.lost == [Lost((epoch, 30), (epoch, 71))]
        link.close()


class History:
    """What a book was after each of its messages."""

    def __init__(self) -> None:
        self.books: dict[Position, tuple[dict[float, float], dict[float, float]]] = {}
        self.at: dict[Position, int] = {}


def apply(state: tuple[dict[float, float], dict[float, float]], message: Any) -> None:
    for side, levels in zip(state, (message["bids"], message["asks"]), strict=True):
        if message["action"] == "snapshot":
            side.clear()
        for price, size in levels:
            if size:
                side[price] = size
            else:
                side.pop(price, None)


levels: Any = st.dictionaries(st.integers(1, 9).map(float), st.integers(0, 3).map(float), min_size=1, max_size=3)


@given(
    steps=st.lists(st.tuples(st.booleans(), levels, levels, st.integers(0, 3)), min_size=1, max_size=60),
    kept=st.integers(41, 60),  # at least twice as many as between two stored snapshots
    since=st.integers(0, 110),
    by_id=st.booleans(),
)
@on_redis
def test_a_book_is_right_from_its_first_message_on(
    redis_url: str, steps: list[tuple[bool, Any, Any, int]], kept: int, since: int, by_id: bool
) -> None:
    async def check() -> None:
        history, state = History(), ({}, {})  # type: ignore[var-annotated]
        async with Feed(redis_url, epoch=5) as feed:
            await feed.redis.delete(feed.keys.log(BOOK), feed.keys.newest(BOOK))
            now = 0
            for number, (snapshot, bids, asks, later) in enumerate(steps):
                now += later
                # A message that is no snapshot needs one before it.
                message = _book(bids, asks, "snapshot" if snapshot or not number else "update", now)
                (payload,) = await feed.publish(message)
                apply(state, msgspec.json.decode(payload))
                history.books[5, number + 1] = dict(state[0]), dict(state[1])
                history.at[5, number + 1] = now
            await feed.redis.xtrim(feed.keys.log(BOOK), maxlen=kept, approximate=False)
        place: Since = (5, since) if by_id else since
        found = await Reading(redis_url, BOOK, place)()
        first, built = found.payloads[0], ({}, {})  # type: ignore[var-annotated]
        assert first["action"] == "snapshot"
        assert found.ids == [(5, seq) for seq in range(found.ids[0][1], len(steps) + 1)], "without hole or repeat"
        for position, message in zip(found.ids, found.payloads, strict=True):
            apply(built, message)
            assert built == history.books[position], f"the book at {position}"
        wanted = [p for p in history.at if (p >= (5, since) if by_id else history.at[p] >= since)]
        if not found.lost and wanted:
            assert found.ids[0] <= wanted[0], "complete from the place that was asked for"
        assert found.lost in ([], [Lost((5, since) if by_id else None, found.ids[0])])
        if by_id and since > len(steps):
            assert found.lost

    run(check())


def _book(bids: dict[float, float], asks: dict[float, float], action: str, at: int) -> Book:
    def side(found: dict[float, float]) -> list[Level]:
        return [(price, size) for price, size in found.items() if size or action == "update"]

    return msgspec.structs.replace(book(side(bids), side(asks), action), ts_event=at)


async def test_a_book_without_any_snapshot_has_no_beginning(redis_url: str) -> None:
    async with Feed(redis_url) as feed:
        await feed.publish(_book({1.0: 1.0}, {}, "update", 1), _book({1.0: 2.0}, {}, "update", 2))
    found = await Reading(redis_url, BOOK, 1)()
    assert (found.ids, found.lost, found.cursor.place) == ([], [Lost(None, None)], None)


async def test_a_book_that_is_trimmed_meanwhile_begins_anew(redis_url: str) -> None:
    async with Feed(redis_url) as feed:
        await feed.publish(_book({1.0: 1.0}, {9.0: 1.0}, "snapshot", 1))
        for number in range(2, 100):
            await feed.publish(_book({1.0: float(number)}, {}, "update", number))
        epoch = feed.builder.epoch
        link = await connect(redis_url)
        reading = Reading(redis_url, BOOK, 10)

        async def read(command: bytes) -> Any:
            return (await link.call([command]))[0]

        await reading.cursor.seek(read)
        await reading.cursor.fill(read, 20)
        await feed.redis.xtrim(feed.keys.log(BOOK), maxlen=40, approximate=False)
        await reading.to_the_end(read)
        (lost,) = reading.lost
        assert lost.following is not None
        assert (lost.last, lost.following[0]) == ((epoch, 21), epoch)
        anew = reading.payloads[21]
        assert (anew["action"], anew["id"]) == ("snapshot", format_position(lost.following))
        assert [seq for _, seq in reading.ids] == [*range(1, 22), *range(lost.following[1], 100)]
        link.close()
