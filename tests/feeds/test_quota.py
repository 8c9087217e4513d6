"""feeds/quota.py on a real Redis: what was called is known after a restart, to everybody with the same key."""

import time

import pytest
from redis.asyncio import Redis

from feeds.quota import Plan, PlanLimiter, Quota, account_of
from hub.errors import RateLimited
from hub.keys import Keys
from hub.redisio import command_client

KEYS = Keys("md:")
DAILY = Plan(calls=100, window_s=1, quotas=(Quota(3, "day"), Quota(1000, "month")))


def limiter(client: Redis, key: str = "sesame", plan: Plan = DAILY) -> PlanLimiter:
    return PlanLimiter(client, KEYS, "alphavantage", plan, account_of([key]))


async def test_a_days_calls_are_counted_over_restarts_and_by_key(redis_url: str) -> None:
    async with command_client(redis_url) as client:
        for _ in range(3):
            await limiter(client).take(1)  # a new process each
        with pytest.raises(RateLimited, match="3 calls of this day are used up") as caught:
            await limiter(client).take(1)
        left_s = caught.value.until_ms / 1000 - time.time()
        assert 0 < left_s <= 86_400
        await limiter(client, "other key").take(1)


async def test_the_budget_says_what_is_used(redis_url: str) -> None:
    async with command_client(redis_url) as client:
        await limiter(client).take(2)
        fresh = limiter(client)
        await fresh.read()
        window, day, month = fresh.budget()
    assert (window.limit, window.window_s, window.used) == (100, 1, None)
    assert (day.limit, day.used, month.limit, month.used) == (3, 2, 1000, 2)
    assert day.resets_at is not None and month.resets_at is not None
    assert day.resets_at <= month.resets_at


async def test_counters_go_some_day(redis_url: str) -> None:
    async with command_client(redis_url) as client:
        await limiter(client).take(1)
        counters = [key async for key in client.scan_iter("md:quota:*")]
        assert len(counters) == 2
        assert all([await client.ttl(key) > 86_400 for key in counters])
        assert not any(b"sesame" in key for key in [key async for key in client.scan_iter("*")])


async def test_without_redis_this_process_counts_for_itself() -> None:
    async with command_client("redis://127.0.0.1:1/0", timeout_s=0.2) as client:
        alone = limiter(client)
        for _ in range(3):
            await alone.take(1)
        with pytest.raises(RateLimited):
            await alone.take(1)


def test_an_account_does_not_tell_the_key() -> None:
    assert account_of([]) == ""
    assert account_of(["sesame"]) == account_of(["sesame", "more"]) != account_of(["tahini"])
    assert "sesame" not in account_of(["sesame"])
