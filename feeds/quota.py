"""What a plan allows: calls in a short window, and calls a day or a month that are counted over restarts.

Counters of days and months (UTC) live in Redis under the account, which is the key's fingerprint, or this host where
the venue wants no key. While Redis is away this process counts for itself, from what it knew.
"""

import hashlib
import logging
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from feeds.rest import SharedLimiter
from hub.errors import RateLimited
from hub.keys import Keys
from hub.redisio import script
from hub.venues import BudgetReport

__all__ = ["Plan", "PlanLimiter", "Quota", "account_of"]

log = logging.getLogger(__name__)

KEPT_MS = {"day": 2 * 86_400_000, "month": 40 * 86_400_000}


class Quota(Struct, frozen=True):
    """`calls` per UTC day or month."""

    calls: int
    period: Literal["day", "month"]


class Plan(Struct, frozen=True, kw_only=True):
    """What a venue sells: `calls` within `window_s`, and the quotas. `rest_url` where the plan has a host of its own.

    `without` are resources that the plan does not have.
    """

    calls: int
    window_s: float
    quotas: tuple[Quota, ...] = ()
    credentials_env: tuple[str, ...] = ()
    rest_url: str = ""
    without: frozenset[str] = frozenset()

    @property
    def calls_per_s(self) -> float:
        """Return what may be asked for all the time."""
        rates = [quota.calls / (86_400 if quota.period == "day" else 28 * 86_400) for quota in self.quotas]
        return min([self.calls / self.window_s, *rates])


def account_of(credentials: Sequence[str]) -> str:
    """Return a name for whom the venue counts that does not tell the key; empty: no key, the host is counted."""
    return f"key-{hashlib.sha256(credentials[0].encode()).hexdigest()[:12]}" if credentials else ""


class PlanLimiter(SharedLimiter):
    """A plan's limits, shared by all processes that use the account."""

    def __init__(self, client: Redis, keys: Keys, venue: str, plan: Plan, account: str, *, spare: float = 0.0) -> None:
        super().__init__(client, keys, venue, "rest", plan.calls, plan.window_s, spare=spare, account=account)
        self.plan, self._keys = plan, keys
        self._account = account or socket.gethostname()
        self._counted: dict[str, int] = {}

    async def take(self, cost: int) -> None:
        """Wait for the window; RateLimited with its end where a day's or a month's calls are used up."""
        for quota in self.plan.quotas:
            if self._counted.get(self._counter(quota), 0) + cost > quota.calls:
                await self.read()  # somebody else may have counted
        await super().take(cost)
        for quota in self.plan.quotas:
            if not await self._count(quota, cost):
                until_ms = _end_ms(quota)
                reason = f"the {quota.calls} calls of this {quota.period} are used up"
                raise RateLimited(self.venue, "rest", reason, until_ms)

    async def read(self) -> None:
        """Learn from Redis what is used up."""
        for quota in self.plan.quotas:
            name = self._counter(quota)
            try:
                value = await self.client.get(name)
            except (RedisError, OSError):
                return
            self._counted[name] = int(value or 0)

    async def _count(self, quota: Quota, cost: int) -> bool:
        name = self._counter(quota)
        try:
            reply = await self.client.eval(script("take_quota"), 1, name, cost, quota.calls, KEPT_MS[quota.period])
            counted, self._counted[name] = bool(reply[0]), int(reply[1])
            return counted
        except (RedisError, OSError) as error:
            log.warning("calls are counted by this process alone venue=%s error=%s", self.venue, error)
        used = self._counted.get(name, 0)
        if used + cost > quota.calls:
            return False
        self._counted[name] = used + cost
        return True

    def _counter(self, quota: Quota) -> str:
        day = datetime.now(UTC).strftime("%Y-%m-%d" if quota.period == "day" else "%Y-%m")
        return self._keys.quota(self.venue, self._account, day)

    def budget(self) -> list[BudgetReport]:
        """Return the limits, and what is used of those that are counted."""
        window = BudgetReport(limit=self.plan.calls, window_s=self.plan.window_s)
        counted = [
            BudgetReport(
                limit=quota.calls,
                window_s=86_400.0 if quota.period == "day" else 30 * 86_400.0,
                used=self._counted.get(self._counter(quota), 0),
                resets_at=_end_ms(quota),
            )
            for quota in self.plan.quotas
        ]
        return [window, *counted]


def _end_ms(quota: Quota) -> int:
    """Return when the period ends, unix ms."""
    now = datetime.fromtimestamp(time.time(), UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if quota.period == "day":
        return int(midnight.timestamp() + 86_400) * 1000
    first = midnight.replace(day=1)
    following = (first + timedelta(days=32)).replace(day=1)
    return int(following.timestamp()) * 1000
