"""What a feed says of its REST budget."""

from redis.asyncio import Redis

from feeds.rest import LocalLimiter, SharedLimiter
from hub.keys import Keys
from hub.venues import BudgetReport


async def test_what_all_processes_used_is_reported(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        one, other = [SharedLimiter(client, Keys(), "binance", "rest", 100, 3600.0) for _ in range(2)]
        await one.look()
        assert one.budget() == [BudgetReport(limit=100, window_s=3600.0, used=0)]
        await one.take(30)
        await other.take(5)
        await one.look()
        assert one.budget() == [BudgetReport(limit=100, window_s=3600.0, used=35)]


async def test_without_redis_the_last_look_stands(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client, Redis(port=1, socket_timeout=1) as nobody:
        limiter = SharedLimiter(client, Keys(), "binance", "rest", 100, 3600.0)
        await limiter.take(10)
        await limiter.look()
        limiter.client = nobody
        await limiter.look()
        assert limiter.budget()[0].used == 10
    assert LocalLimiter(10, 1.0).budget() == []
