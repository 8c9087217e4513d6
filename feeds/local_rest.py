"""REST for one process alone, without Redis: what the recorder uses. A feed's is feeds/rest.py."""

import asyncio
import time
from collections.abc import Callable
from urllib.parse import urlencode

import aiohttp

from feeds.adapter import Adapter, Fetch
from feeds.rest import LocalBucket
from hub.errors import FetchError, RateLimited

__all__ = ["LocalRest", "until"]


async def until(wait_s: Callable[[], float]) -> None:
    """Sleep for as long as `wait_s` says, again and again, until it says 0 or less."""
    seconds = wait_s()
    while seconds > 0:
        await asyncio.sleep(seconds)
        seconds = wait_s()


class LocalRest:
    """GET within the venue's limits, for one process alone. Close it when done."""

    def __init__(self, adapter: type[Adapter], base_url: str) -> None:
        self.venue, self.limits = adapter.venue, adapter.limits
        self.base_url = base_url.rstrip("/")
        self._bucket = LocalBucket(self.limits.rest_weight, self.limits.rest_window_s)
        self._banned_until = 0.0
        timeout = aiohttp.ClientTimeout(total=self.limits.rest_timeout_s)
        self._session = aiohttp.ClientSession(timeout=timeout, trust_env=True)

    def url(self, fetch: Fetch) -> str:
        return f"{self.base_url}{fetch.path}" + (f"?{urlencode(fetch.params)}" if fetch.params else "")

    async def fetch(self, fetch: Fetch) -> bytes:
        """Return the body; RateLimited or FetchError where there is none."""
        await until(lambda: self._wait_s(fetch.weight))
        try:
            async with self._session.get(self.base_url + fetch.path, params=dict(fetch.params)) as response:
                body = await response.read()
                if response.status in (418, 429):
                    raise self._limited(fetch, response)
                if response.status != 200:
                    text = body[:200].decode(errors="replace")
                    raise FetchError(self.venue, fetch.resource, f"HTTP {response.status}: {text}")
                return body
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise FetchError(self.venue, fetch.resource, str(error) or type(error).__name__) from error

    def _wait_s(self, weight: int) -> float:
        now = time.monotonic()
        return self._banned_until - now if now < self._banned_until else self._bucket.take(weight, now)

    def _limited(self, fetch: Fetch, response: aiohttp.ClientResponse) -> RateLimited:
        text = response.headers.get("Retry-After", "")
        pause_s = int(text) if text.isdecimal() else 300 if response.status == 418 else 60
        self._banned_until = time.monotonic() + pause_s
        until_ms = int((time.time() + pause_s) * 1000)
        return RateLimited(self.venue, fetch.resource, f"HTTP {response.status}, silence for {pause_s} s", until_ms)

    async def close(self) -> None:
        await self._session.close()
