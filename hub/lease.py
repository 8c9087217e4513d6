"""One publisher per venue: a lease in Redis, renewed with the pulse that readers watch.

Taking the lease also gives the epoch that makes ids grow over restarts. A publisher whose lease went to somebody else
must stop at once; `Lease.lost` says so.
"""

import asyncio
import logging
import os
import secrets
import socket
import time
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from hub.errors import LeaseHeld, LeaseLost
from hub.keys import Keys
from hub.redisio import script
from hub.venues import PULSE_TTL_MS

__all__ = ["Lease", "new_holder"]

log = logging.getLogger(__name__)

LEASE_TTL_MS = 3000


def new_holder() -> str:
    """Name this process so that a person can find it: host, pid and a token against reused pids."""
    return f"{socket.gethostname()} pid {os.getpid()} ({secrets.token_hex(3)})"


class Lease:
    """The right to publish one venue."""

    def __init__(self, client: Redis, keys: Keys, venue: str, holder: str) -> None:
        self.client, self.keys, self.venue, self.holder = client, keys, venue, holder

    async def acquire(self, *, at_least: int = 0, wait_s: float = LEASE_TTL_MS / 1000 + 1.0) -> int:
        """Take the lease and return a new epoch, larger than any before and at least `at_least`.

        A lease whose holder died runs out within its TTL, so it is waited for; one that is being renewed is not:
        LeaseHeld names the holder.
        """
        deadline = time.monotonic() + wait_s
        last_ttl: int | None = None
        while True:
            taken, *rest = await self._eval(
                "acquire_lease",
                [self.keys.lease(self.venue), self.keys.epoch(self.venue)],
                [self.holder, LEASE_TTL_MS, time.time_ns() // 1_000_000, at_least],
            )
            if taken:
                return int(rest[0])
            holder, ttl = rest[0].decode(), int(rest[1])
            renewed = last_ttl is not None and ttl > last_ttl
            if renewed or time.monotonic() > deadline:
                raise LeaseHeld(self.venue, holder)
            last_ttl = ttl
            await asyncio.sleep(0.2)

    async def renew(self, epoch: int, report: bytes) -> None:
        """Renew lease, pulse and the feed's report. Raises LeaseLost when another holder has the venue."""
        await self.confirm()
        async with self.client.pipeline(transaction=False) as pipe:
            pipe.set(self.keys.alive(self.venue), epoch, px=PULSE_TTL_MS)
            pipe.set(self.keys.feed(self.venue), report, px=PULSE_TTL_MS)
            pipe.sadd(self.keys.venues, self.venue)
            await pipe.execute()

    async def confirm(self) -> None:
        """Renew the lease alone. Raises LeaseLost when another holder has the venue."""
        kept, *rest = await self._eval("renew_lease", [self.keys.lease(self.venue)], [self.holder, LEASE_TTL_MS])
        if not kept:
            raise LeaseLost(self.venue, f"the lease went to {rest[0].decode()}")

    async def release(self) -> None:
        """Give the venue back, so that readers and successors need not wait."""
        if await self._eval("release_lease", [self.keys.lease(self.venue)], [self.holder]):
            await self.client.delete(self.keys.alive(self.venue), self.keys.feed(self.venue))

    async def give_up(self) -> None:
        """Release within a second, at a process's end; where that cannot be, the lease runs out by itself."""
        try:
            async with asyncio.timeout(1.0):
                await self.release()
        except (RedisError, OSError, TimeoutError):
            log.info("the lease runs out by itself venue=%s", self.venue)

    async def _eval(self, name: str, keys: list[str], args: list[str | int]) -> Any:
        reply = self.client.eval(script(name), len(keys), *keys, *args)
        return await reply
