"""hub/instrument_store.py on a real Redis, and the Cluster form of its names."""

from collections.abc import AsyncIterator

import pytest

from hub.instrument_store import InstrumentStore, Sync
from hub.instruments import Instrument
from hub.keys import Keys
from hub.redisio import command_client

KEYS = Keys("md:")


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[InstrumentStore]:
    async with command_client(redis_url) as client:
        yield InstrumentStore(client, KEYS)


def row(symbol: str, tick_size: float | None = None) -> Instrument:
    return Instrument(
        venue="v", venue_symbol=symbol.lower(), symbol=symbol, kind="spot", base=symbol, quote="USD",
        tick_size=tick_size,
    )  # fmt: skip


async def put(store: InstrumentStore, now: int, *rows: Instrument) -> None:
    await store.store("v", rows, ["1m", "1h"], now, lambda _: True)


async def test_rows_are_kept_with_when_they_were_seen(store: InstrumentStore) -> None:
    await put(store, 5, row("A"), row("B"))
    await put(store, 9, row("A"), row("C"))
    rows = await store.load("v")
    assert {symbol: (r.first_seen, r.last_seen, r.status) for symbol, r in rows.items()} == {
        "A": (5, None, "trading"),
        "B": (5, 5, "delisted"),
        "C": (9, None, "trading"),
    }
    assert await store.venues() == ["v"]
    assert (await store.syncs(["v", "w"])) == {"v": Sync(version=2, ts=9, count=3, intervals=["1m", "1h"])}


async def test_a_list_that_says_nothing_new_changes_nothing(store: InstrumentStore) -> None:
    await put(store, 5, row("A"))
    await put(store, 9, row("A"))
    assert (await store.syncs(["v"]))["v"].version == 1
    assert (await store.syncs(["v"]))["v"].ts == 9
    assert await store.changes("v") == ([], [])


async def test_changes_wait_until_they_were_told(store: InstrumentStore) -> None:
    await put(store, 5, row("A"))
    await put(store, 9, row("A", tick_size=0.5), row("B"))
    ids, changes = await store.changes("v")
    assert [(change.action, change.instrument.symbol, change.ts) for change in changes] == [
        ("changed", "A", 9),
        ("listed", "B", 9),
    ]
    assert changes[0].fields["tick_size"] == 0.5
    await store.told("v", ids[:1])
    assert [change.action for change in (await store.changes("v"))[1]] == ["listed"]


async def test_an_empty_list_and_a_failure_leave_rows_alone_and_are_said(store: InstrumentStore) -> None:
    await put(store, 5, row("A"))
    await put(store, 9)
    sync = (await store.syncs(["v"]))["v"]
    assert (sync.ts, sync.error, sync.error_ts) == (5, "the list is empty", 9)
    await store.failed("v", "HTTP 503", 11)
    sync = (await store.syncs(["v"]))["v"]
    assert (sync.ts, sync.error, sync.error_ts, sync.version) == (5, "HTTP 503", 11, 1)
    assert list(await store.load("v")) == ["A"]
    await put(store, 12, row("A"))
    assert (await store.syncs(["v"]))["v"].error == ""


async def test_everything_is_bounded(store: InstrumentStore) -> None:
    await put(store, 5, row("A"))
    await put(store, 6, row("B"), row("A"))
    keys = [key async for key in store.client.scan_iter("*instruments*")]
    assert len(keys) == 4
    without = [key for key in keys if await store.client.ttl(key) < 0]
    assert without == [KEYS.listed_venues.encode()]


async def test_a_row_that_nobody_can_read_is_written_again(store: InstrumentStore) -> None:
    await put(store, 5, row("A"))
    await store.client.hset(KEYS.instruments("v"), "A", b"garbage")
    assert await store.load("v") == {}
    await put(store, 9, row("A"))
    assert list(await store.load("v")) == ["A"]
