"""hub/lease.py: one publisher a venue, and epochs that grow whatever happens."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from hub.errors import LeaseHeld, LeaseLost
from hub.keys import Keys
from hub.lease import LEASE_TTL_MS, Lease, new_holder
from hub.redisio import command_client
from hub.venues import PULSE_TTL_MS
from tests.ports import free_port

KEYS = Keys("md:")


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with command_client(redis_url) as made:
        yield made


def lease(client: Redis, holder: str, venue: str = "venue") -> Lease:
    return Lease(client, KEYS, venue, holder)


async def test_the_first_gets_it_with_an_epoch_of_now(client: Redis) -> None:
    before = time.time_ns() // 1_000_000
    epoch = await lease(client, "one").acquire()
    assert before <= epoch <= time.time_ns() // 1_000_000
    assert await client.get(KEYS.lease("venue")) == b"one"
    assert 0 < await client.pttl(KEYS.lease("venue")) <= LEASE_TTL_MS
    assert await client.get(KEYS.epoch("venue")) == str(epoch).encode()
    assert await client.ttl(KEYS.epoch("venue")) == -1


async def test_a_second_one_is_refused_soon_and_told_who_has_it(client: Redis) -> None:
    """Not before the first one renewed: it could be dead."""
    first = lease(client, "the first")
    epoch = await first.acquire()

    renewals = 0

    async def renew() -> None:
        nonlocal renewals
        while True:
            await asyncio.sleep(1)
            await first.renew(epoch, b"{}")
            renewals += 1

    renewing = asyncio.create_task(renew())
    with pytest.raises(LeaseHeld, match="venue is already published by the first"):
        await lease(client, "the second").acquire()
    assert renewals <= 2, "it does not wait for as long as a lease lasts"
    renewing.cancel()
    assert await client.get(KEYS.lease("venue")) == b"the first"
    assert await client.get(KEYS.epoch("venue")) == str(epoch).encode()


async def test_the_lease_of_a_dead_one_is_waited_for(client: Redis) -> None:
    began = time.monotonic()
    dead = await lease(client, "dead").acquire()
    epoch = await lease(client, "next").acquire()
    assert time.monotonic() - began > LEASE_TTL_MS / 1000 - 0.1
    assert epoch > dead


async def test_without_waiting_it_is_refused_at_once(client: Redis) -> None:
    """Who waited would get it: the first one does not renew it."""
    await lease(client, "one").acquire()
    with pytest.raises(LeaseHeld):
        await lease(client, "two").acquire(wait_s=0)


async def test_venues_do_not_touch_each_other(client: Redis) -> None:
    await lease(client, "one", "binance").acquire()
    await lease(client, "two", "kraken").acquire(wait_s=0)


async def test_many_at_once_one_gets_it(client: Redis) -> None:
    made = [lease(client, new_holder()) for _ in range(20)]
    outcomes = await asyncio.gather(*(one.acquire(wait_s=0) for one in made), return_exceptions=True)
    winners = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert len(winners) == 1
    assert all(isinstance(outcome, LeaseHeld) for outcome in outcomes if outcome not in winners)


async def test_epochs_grow_whatever_the_clock_says(client: Redis) -> None:
    one = lease(client, "one")
    ahead = time.time_ns() // 1_000_000 + 3_600_000
    await client.set(KEYS.epoch("venue"), ahead)
    assert await one.acquire() == ahead + 1
    assert await one.acquire() == ahead + 2
    assert await one.acquire(at_least=ahead + 100) == ahead + 100
    assert await one.acquire(at_least=5) == ahead + 101


async def test_an_epoch_keeps_all_its_digits(client: Redis) -> None:
    await client.set(KEYS.epoch("venue"), 9_007_199_254_740_000)
    assert await lease(client, "one").acquire() == 9_007_199_254_740_001
    assert await client.get(KEYS.epoch("venue")) == b"9007199254740001"


async def test_wiped_data_do_not_bring_old_epochs_back(client: Redis) -> None:
    one = lease(client, "one")
    ahead = time.time_ns() // 1_000_000 + 50_000
    await client.set(KEYS.epoch("venue"), ahead)
    epoch = await one.acquire()
    await client.flushall()
    assert await one.acquire(at_least=epoch + 1) == epoch + 1


async def test_renewing_keeps_lease_pulse_and_report(client: Redis) -> None:
    one = lease(client, "one")
    epoch = await one.acquire()
    await client.pexpire(KEYS.lease("venue"), 500)
    await one.renew(epoch, b'{"report":1}')
    assert await client.get(KEYS.alive("venue")) == str(epoch).encode()
    assert await client.get(KEYS.feed("venue")) == b'{"report":1}'
    for key, ttl in ((KEYS.lease("venue"), LEASE_TTL_MS), (KEYS.alive("venue"), PULSE_TTL_MS)):
        assert 500 < await client.pttl(key) <= ttl
    assert 0 < await client.pttl(KEYS.feed("venue")) <= PULSE_TTL_MS
    assert await client.smembers(KEYS.venues) == {b"venue"}


async def test_a_lease_that_merely_ran_out_is_taken_back(client: Redis) -> None:
    one = lease(client, "one")
    epoch = await one.acquire()
    await client.delete(KEYS.lease("venue"))
    await one.renew(epoch, b"{}")
    assert await client.get(KEYS.lease("venue")) == b"one"


async def test_a_lease_of_somebody_else_is_lost_and_nothing_is_written(client: Redis) -> None:
    one = lease(client, "one")
    epoch = await one.acquire()
    await client.set(KEYS.lease("venue"), "two", px=10_000)
    for use in (one.renew(epoch, b"{}"), one.confirm()):
        with pytest.raises(LeaseLost, match="the lease went to two"):
            await use
    assert await client.exists(KEYS.alive("venue"), KEYS.feed("venue")) == 0
    await one.release()
    assert await client.get(KEYS.lease("venue")) == b"two"
    assert await client.pttl(KEYS.lease("venue")) > 5000


async def test_a_released_lease_is_free_at_once_and_the_pulse_is_gone(client: Redis) -> None:
    one = lease(client, "one")
    epoch = await one.acquire()
    await one.renew(epoch, b"{}")
    await one.release()
    assert await client.exists(KEYS.lease("venue"), KEYS.alive("venue"), KEYS.feed("venue")) == 0
    assert await lease(client, "two").acquire(wait_s=0) > epoch
    await one.release()
    assert await client.get(KEYS.lease("venue")) == b"two"


def test_a_holder_can_be_found() -> None:

    assert new_holder().startswith(f"{socket.gethostname()} pid {os.getpid()} (")
    assert new_holder() != new_holder()


async def test_giving_up_gives_back_and_fails_for_nobody(redis_url: str) -> None:
    async with command_client(redis_url) as client:
        lease = Lease(client, Keys(), "venue", new_holder())
        await lease.acquire()
        await lease.give_up()
        assert not await client.exists(Keys().lease("venue"))
    async with command_client(f"redis://127.0.0.1:{free_port()}/0") as away:
        await Lease(away, Keys(), "venue", new_holder()).give_up()
