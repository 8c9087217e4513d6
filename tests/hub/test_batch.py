"""hub/batch.py: the commands of one batch, and what they leave in a real Redis."""

import time
from collections.abc import Sequence
from typing import Any, TypeAlias

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.batch import BatchEncoder, Item, Renewal, Withdrawal
from hub.builder import MessageBuilder
from hub.config import HistorySettings, PublisherSettings
from hub.history import History, Query, SortedSets, TimeSeries
from hub.instruments import Instrument
from hub.link import Link, RedisReplyError
from hub.model import CANDLE_TYPES, Candle
from hub.redisio import command_client
from tests.hub.publishing import KEYS, depth, quote, snapshot, status, trade, update

Command: TypeAlias = list[bytes]
SYMBOLS = ("A-B", "C-D")


def encoder(history: History | None = None) -> BatchEncoder:
    made = BatchEncoder(MessageBuilder(KEYS, 1000), history, PublisherSettings(), HistorySettings())
    made.know([Instrument(venue="venue", venue_symbol="AB", symbol="A-B", kind="spot", base="A", quote="B")])
    return made


def commands(data: bytes) -> list[Command]:
    """Return the commands in bytes that are sent to Redis."""
    reader = hiredis.Reader()
    reader.feed(data)
    found = []
    while (command := reader.gets()) is not False:
        found.append(list(command))
    return found


def candle(interval: str, start: int, revision: int = 0) -> Candle:
    volume = 10.0 + revision
    return CANDLE_TYPES[interval](
        "venue", "A-B", "", start, start, 0, start, 1.0, 4.0, 0.5, 2.0, volume, 20.0, 2.0, 3, 1, 2, 4.0, 6.0, 8.0, 12.0,
        "trades", revision,
    )  # fmt: skip


def makers() -> "st.SearchStrategy[Item]":
    symbols = st.sampled_from(SYMBOLS)
    numbers = st.integers(1, 99)
    return st.one_of(
        st.builds(trade, numbers, symbols),
        st.builds(quote, numbers, symbols),
        st.builds(depth, numbers, symbols),
        st.builds(lambda n, s: update(float(n), 1.0, s), numbers, symbols),
        st.builds(lambda n, s: snapshot({float(n): 1.0}, s), numbers, symbols),
        st.builds(lambda n, s: Renewal(snapshot({float(n): 1.0}, s)), numbers, symbols),
        st.builds(lambda s: status("live", "x", s), symbols),
        st.builds(lambda n: candle("1m", n * 60_000_000_000), numbers),
        st.builds(lambda k, s: Withdrawal(k, "venue", s), st.sampled_from(["book", "depth", "quote"]), symbols),
    )


histories = st.sampled_from([None, TimeSeries(None), SortedSets(None)])  # type: ignore[arg-type]  # writing needs no client


@settings(max_examples=200, deadline=None)
@given(histories, st.lists(st.lists(makers(), max_size=25), min_size=1, max_size=4))
def test_a_batch_has_as_many_commands_as_it_says(history: History | None, batches: list[list[Item]]) -> None:
    """One more or less, and replies would be taken for those of the next batch."""
    made = encoder(history)
    for items in batches:
        batch = made.encode(list(items), 5)
        assert len(commands(batch.core)) == batch.core_count
        assert [len(commands(command)) for command in batch.creations] == [1] * len(batch.creations)
    data, count = made.restore([])
    assert len(commands(data)) == count
    upkeep = made.upkeep(10)
    assert [len(commands(command)) for command in upkeep] == [1] * len(upkeep)


def final(items: Sequence[Item]) -> dict[str, str | None]:
    """Return what each key is to hold after a batch: a word that tells the message, None where it is gone."""
    result: dict[str, str | None] = {}
    for item in items:
        if isinstance(item, Withdrawal):
            result[f"md:{item.kind}:venue:{item.symbol}"] = None
        elif isinstance(item, Renewal):
            result[f"md:book:venue:{item.snapshot.symbol}"] = repr(item.snapshot.bids)
        elif getattr(item, "action", "") != "update":
            kind = str(item.__struct_config__.tag)
            result[f"md:{kind}:venue:{item.symbol}"] = repr(getattr(item, "bids", getattr(item, "id", "")))
    return result


@settings(max_examples=200, deadline=None)
@given(st.lists(makers(), max_size=40))
def test_keys_come_first_and_are_final(items: list[Item]) -> None:
    """Whoever reads a key after a message of the batch was published finds it no older than that message."""
    found = [command for command in commands(encoder().encode(items, 5).core) if command[1] != b"md:channels"]
    verbs = [command[0] for command in found]
    heads = [command for command in found if command[0] in (b"SET", b"DEL")]
    logged = [command for command in found if command[0] == b"XADD"]
    published = [command for command in found if command[0] == b"PUBLISH"]
    assert found[: len(heads)] == heads
    assert len(heads) + len(logged) + len(published) == len(verbs)
    expected = final(items)
    assert {command[1].decode(): command[0] for command in heads} == {
        key: b"DEL" if value is None else b"SET" for key, value in expected.items()
    }
    assert len(heads) == len(expected), "each key is written once"
    assert all(command[3] == b"EX" for command in heads if command[0] == b"SET")
    assert all(command[2:4] == [b"MAXLEN", b"~"] for command in logged)
    for place, command in enumerate(found):
        if command[0] == b"XADD":
            assert command[6] == b"payload"
            assert [command[1], command[7]] == [b"{%b}:log" % found[place + 1][1], found[place + 1][2]]


def test_new_channels_are_announced_once() -> None:
    made = encoder()
    first = commands(made.encode([trade(1), trade(2), quote(1)], 5).core)
    again = commands(made.encode([trade(3), quote(2)], 5).core)
    names = [b"trade:venue:A-B", b"quote:venue:A-B"]
    assert [command[2] for command in first if command[:2] == [b"SADD", b"md:channels"]] == names
    assert [command[2] for command in first if command[:2] == [b"PUBLISH", b"md:channels"]] == names
    assert b"md:channels" not in [command[1] for command in again]


def test_a_restore_is_everything_but_books_and_what_was_withdrawn() -> None:
    """A new epoch begins with new books; what readers must not see any more does not come back."""
    made = encoder(TimeSeries(None))  # type: ignore[arg-type]
    made.encode([trade(1), quote(1), depth(1), snapshot({1.0: 1.0}), status("resyncing"), trade(2)], 5)
    found = commands(made.restore([Withdrawal("depth", "venue", "A-B")])[0])
    assert {command[1] for command in found if command[0] == b"SET"} == {
        b"md:trade:venue:A-B", b"md:quote:venue:A-B", b"md:status:venue:A-B",
    }  # fmt: skip
    assert b'"trade_id":"2"' in next(command[2] for command in found if command[1] == b"md:trade:venue:A-B")
    assert {command[1] for command in found if command[0] == b"TS.CREATE"} == {
        f"{{md:{name}:venue:A-B}}:{field}".encode()
        for name, fields in {"trade": ("price", "size"), "quote": ("bid", "ask")}.items() for field in fields
    }  # fmt: skip
    assert {command[2] for command in found if command[0] == b"SADD"} == {
        f"{kind}:venue:A-B".encode() for kind in ("trade", "quote", "depth", "book", "status")
    }


async def test_upkeep_renews_what_holds_for_as_long_as_nothing_else_is_said(redis_url: str) -> None:
    """A quiet book is written anew after many updates only, and a state is said once."""
    made = encoder()
    await carried_out(redis_url, made, [snapshot({1.0: 1.0}), status("resyncing"), trade(1), quote(1), depth(1)])
    client = command_client(redis_url)
    keys = [key async for key in client.scan_iter() if key != b"md:channels"]
    for key in keys:
        await client.expire(key, 100)
    link = await Link.connect(redis_url)
    await link.call(made.upkeep(0))
    renewed = {key.decode() for key in keys if await client.ttl(key) > 100}
    assert renewed == {
        "md:book:venue:A-B", "md:status:venue:A-B", "{md:book:venue:A-B}:log", "{md:status:venue:A-B}:log",
        "{md:trade:venue:A-B}:log",
    }  # fmt: skip
    link.close()
    await client.aclose()


async def carried_out(url: str, made: BatchEncoder, items: list[Item]) -> list[Any]:
    batch = made.encode(items, time.time_ns())
    link = await Link.connect(url)
    try:
        added = made.history.add(batch.samples) if made.history is not None else []
        return await link.call([batch.core, *[b""] * (batch.core_count - 1), *batch.creations, *added])
    finally:
        link.close()


@pytest.mark.parametrize("with_series", [True, False])
async def test_redis_takes_every_command(redis_url: str, with_series: bool) -> None:
    client = command_client(redis_url)
    history = TimeSeries(client) if with_series else SortedSets(client)
    made = encoder(history)
    now = time.time_ns()
    items: list[Item] = [
        trade(1), quote(1), depth(1), snapshot({1.0: 1.0}), update(2.0, 1.0), Renewal(snapshot({1.0: 1.0, 2.0: 1.0})),
        status("live", "text \u20ac\r\n\0"), candle("1m", now), candle("10s", now), candle("1d", now),
        Withdrawal("quote", "venue", "C-D"),
    ]  # fmt: skip
    replies = await carried_out(redis_url, made, items)
    assert [reply for reply in replies if isinstance(reply, RedisReplyError)] == []
    link = await Link.connect(redis_url)
    upkeep = made.upkeep(now // 1_000_000)
    replies = await link.call([*history.add(made.quote_samples()), *upkeep])
    assert [reply for reply in replies if isinstance(reply, RedisReplyError)] == []
    data, count = made.restore([])
    replies = await link.call([data, *[b""] * (count - 1)])
    errors = [str(reply) for reply in replies if isinstance(reply, RedisReplyError)]
    assert all("key already exists" in text for text in errors)
    link.close()
    await client.aclose()


async def test_sending_a_batch_again_changes_nothing(redis_url: str) -> None:
    made = encoder()
    batch = made.encode([trade(1), quote(1), status("live"), snapshot({1.0: 1.0}), update(1.0, 2.0)], 5)
    link = await Link.connect(redis_url)
    client = command_client(redis_url)
    states = []
    for _ in range(2):
        replies = await link.call([batch.core, *[b""] * (batch.core_count - 1)])
        states.append({key: await client.dump(key) for key in sorted(await client.keys())})
    assert states[0] == states[1]
    assert all("equal or smaller" in str(reply) for reply in replies if isinstance(reply, RedisReplyError))
    link.close()
    await client.aclose()


async def test_candles_are_kept_by_their_start_and_the_last_revision_counts(redis_url: str) -> None:
    client = command_client(redis_url)
    for history in (TimeSeries(client), SortedSets(client)):
        await client.flushall()
        made = encoder(history)
        start = time.time_ns() // 60_000_000_000 * 60_000_000_000
        await carried_out(redis_url, made, [candle("1m", start - 60_000_000_000)])
        items: list[Item] = [candle("1m", start, revision) for revision in range(12)]
        await carried_out(redis_url, made, items)
        revised = candle("1m", start, 12)
        await carried_out(redis_url, made, [revised])
        (found,) = await history.read([Query("{md:candle.1m:venue:A-B}:volume", "last")], 0, 1 << 60, 100)
        assert found == [(start // 1_000_000 - 60_000, 10.0), (start // 1_000_000, 22.0)]
    await client.aclose()


def test_a_retired_channel_leaves_the_list_and_comes_back_when_it_speaks() -> None:
    made = encoder()
    retired = Withdrawal("quote", "venue", "A-B", True)

    def changes(*items: Item) -> list[Command]:
        found = commands(made.encode(list(items), 5).core)
        return [command for command in found if command[0] in (b"SADD", b"SREM", b"DEL", b"SET")]

    key, channels, name = KEYS.newest("quote:venue:A-B").encode(), KEYS.channels.encode(), b"quote:venue:A-B"
    assert [command[0] for command in changes(quote(1, "A-B"))] == [b"SET", b"SADD"]
    assert changes(quote(2, "A-B"), retired) == [[b"DEL", key], [b"SREM", channels, name]]
    assert b"quote:venue:A-B" not in made.restore([])[0]
    assert [command[0] for command in changes(quote(3, "A-B"))] == [b"SET", b"SADD"]
    assert [command[0] for command in changes(retired, quote(4, "A-B"))] == [b"SET", b"SADD"]
    assert [command[0] for command in changes(retired, quote(5, "A-B"), retired)] == [b"DEL", b"SREM"]
    assert changes(retired) == [[b"DEL", key], [b"SREM", channels, name]]


def test_upkeep_renews_nothing_of_a_retired_channel() -> None:
    made = encoder()
    made.encode([trade(1, "A-B"), trade(1, "C-D")], 5)
    made.encode([Withdrawal("trade", "venue", "A-B", True)], 5)
    renewed = [command[1] for data in made.upkeep(5) for command in commands(data) if command[0] == b"EXPIRE"]
    assert renewed == [KEYS.log("trade:venue:C-D").encode()]
