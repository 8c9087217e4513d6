"""REST to one venue: within its limits, shared by all processes behind one address.

The token bucket lives in Redis; while Redis is away a bucket of this process alone keeps the rules. 429 and 418 stop
every REST call to the venue, in every process here, until the time the venue stated.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from math import isfinite
from urllib.parse import quote_plus, urlencode, urlsplit

import aiohttp
from redis.asyncio import Redis
from redis.exceptions import RedisError
from yarl import URL

from feeds.adapter import Adapter, Fetch
from hub.errors import FetchError, FetchRefused, RateLimited
from hub.keys import Keys
from hub.redisio import script
from hub.venues import BudgetReport

__all__ = ["LocalBucket", "LocalLimiter", "RestClient", "SharedLimiter"]

log = logging.getLogger(__name__)

DEFAULT_PAUSE_S = 60.0
PAUSE_MAX_S = 3 * 86_400.0
PAGES_MAX = 100
BODY_MAX = 64 * 1024 * 1024


class LocalBucket:
    """Token bucket of one process; `take` returns seconds to wait, 0 when taken. Time comes in."""

    __slots__ = ("_at", "_tokens", "capacity", "rate")

    def __init__(self, capacity: float, window_s: float) -> None:
        self.capacity = capacity
        self.rate = capacity / window_s
        self._tokens = capacity
        self._at: float | None = None

    def take(self, cost: float, now: float) -> float:
        elapsed = now - self._at if self._at is not None else 0.0
        self._tokens = min(self.capacity, self._tokens + elapsed * self.rate)
        self._at = now
        if self._tokens < cost:
            return (cost - self._tokens) / self.rate
        self._tokens -= cost
        return 0.0


class LocalLimiter:
    """The venue's budget for one kind of request, for one process alone: what a recorder without Redis uses."""

    def __init__(self, capacity: int, window_s: float) -> None:
        self._bucket = LocalBucket(capacity, window_s)
        self._banned_until = 0.0

    async def take(self, cost: int) -> None:
        """Wait until `cost` may be spent."""
        while True:
            wait_s = await self._try(cost)
            if wait_s <= 0:
                return
            await asyncio.sleep(min(wait_s, 5.0))

    async def ban(self, pause_s: float) -> int:
        """Stop everybody for `pause_s`, or longer where that was said before; returns the end as unix ms."""
        now = time.monotonic()
        self._banned_until = max(self._banned_until, now + pause_s)
        return int((time.time() + self._banned_until - now) * 1000)

    async def look(self) -> None:
        """Learn how much is spent, for `budget`."""

    def budget(self) -> list[BudgetReport]:
        """Return the limits as they were when last looked at."""
        return []

    async def _try(self, cost: int) -> float:
        now = time.monotonic()
        return self._banned_until - now if now < self._banned_until else self._bucket.take(cost, now)


class SharedLimiter(LocalLimiter):
    """The same, shared through Redis by all processes of this host; alone where Redis is away. `bucket` names it."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        venue: str,
        bucket: str,
        capacity: int,
        window_s: float,
        *,
        spare: float = 0.0,
        account: str = "",
    ) -> None:
        """`spare` tokens are left to others; `account` is whom the venue counts, by default this host."""
        super().__init__(capacity, window_s)
        self.client, self.venue, self.capacity, self.window_s = client, venue, capacity, window_s
        self.spare = spare
        self._used = 0
        address = account or socket.gethostname()
        self._key, self._banned = keys.tokens(venue, bucket, address), keys.banned(venue, bucket, address)

    async def ban(self, pause_s: float) -> int:
        until_ms = await super().ban(pause_s)
        try:
            left_ms = max(1, until_ms - time.time_ns() // 1_000_000)
            await self.client.eval(script("ban"), 1, self._banned, left_ms, until_ms)
        except (RedisError, OSError) as error:
            log.warning("the ban is known to this process alone venue=%s error=%s", self.venue, error)
        return until_ms

    async def look(self) -> None:
        try:
            tokens, at_ms = await self.client.hmget(self._key, ["tokens", "ms"])
        except (RedisError, OSError):
            return
        refilled = (time.time() * 1000 - float(at_ms or 0)) * self.capacity / self.window_s / 1000
        left = self.capacity if tokens is None else float(tokens) + max(0.0, refilled)
        self._used = max(0, round(self.capacity - left))

    def budget(self) -> list[BudgetReport]:
        return [BudgetReport(limit=self.capacity, window_s=self.window_s, used=self._used)]

    async def _try(self, cost: int) -> float:
        if time.monotonic() < self._banned_until:
            return await super()._try(cost)
        per_ms = self.capacity / self.window_s / 1000
        try:
            reply = self.client.eval(
                script("take_tokens"), 2, self._key, self._banned, cost, self.capacity, repr(per_ms), repr(self.spare)
            )
            return float(await reply) / 1000
        except (RedisError, OSError):
            return await super()._try(cost)


class RestClient:
    """Fetches bodies from one venue."""

    def __init__(
        self, adapter: type[Adapter], limiter: LocalLimiter, base_url: str = "", credentials: Sequence[str] = ()
    ) -> None:
        """`base_url`, where given, stands in for every host of the venue."""
        self._headers = adapter.rest_headers(credentials)
        self._query = adapter.rest_query(credentials)
        self._refusal = adapter.refusal
        self._secrets = [form for text in credentials if text for form in (text, quote_plus(text))]
        self.venue, self.limits, self.limiter = adapter.venue, adapter.limits, limiter
        self.base_url = (base_url or adapter.rest_url).rstrip("/")
        self._overridden = bool(base_url)
        self.banned_until_ms: int | None = None
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, fetch: Fetch) -> bytes:
        """GET `fetch` and return the body.

        Raises RateLimited when the venue asks for silence, FetchRefused where it has no answer, FetchError for
        everything else that is no 200. No key is in any of them.
        """
        await self.limiter.take(fetch.weight)
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self.limits.rest_timeout_s)
            self._session = aiohttp.ClientSession(timeout=timeout, trust_env=True)
        try:
            method = "GET" if fetch.body is None else "POST"
            headers = self._headers | ({"Content-Type": "application/json"} if fetch.body is not None else {})
            async with self._session.request(
                method,
                URL(self._address(fetch), encoded=True),
                data=fetch.body,
                headers=headers,
                allow_redirects=False,  # another host must not see the keys in the headers
            ) as response:
                if response.status == 429 or response.status in self.limits.ban_statuses:
                    raise await self._limited(fetch, response)
                body = await self._body(fetch, response)
                await self._judge(fetch, response.status, body)
                return body
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = self._masked(str(error)) or type(error).__name__
            # Its own text and those it came from may hold the whole URL: they stay out of tracebacks.
            raise FetchError(self.venue, fetch.resource, reason) from None

    async def _judge(self, fetch: Fetch, status: int, body: bytes) -> None:
        """Raise what an answer is that is not what was asked for."""
        refusal = self._refusal(status, body)
        if refusal is not None:
            reason = self._masked(refusal.reason[:300])
            if refusal.pause_s is None:
                raise FetchRefused(self.venue, fetch.resource, reason, venue_wide=refusal.venue_wide)
            self.banned_until_ms = await self.limiter.ban(refusal.pause_s)
            reason = f"{reason}; silence for {refusal.pause_s:.0f} s"
            raise RateLimited(self.venue, fetch.resource, reason, self.banned_until_ms)
        if status != 200:
            text = self._masked(body[:200].decode(errors="replace"))
            raise FetchError(self.venue, fetch.resource, f"HTTP {status}: {text}")

    def _address(self, fetch: Fetch) -> str:
        """Return the URL with what only the venue may see."""
        url = self.url(fetch)
        return f"{url}{'&' if '?' in url else '?'}{urlencode(self._query)}" if self._query else url

    def _masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    async def fetch_lists(self, adapter: type[Adapter]) -> list[tuple[Fetch, bytes, int]]:
        """Return the venue's lists of instruments, all pages of them, each with its request and its time (int ns).

        FetchError and WireError as the requests and the lists have them.
        """
        found: list[tuple[Fetch, bytes, int]] = []
        for first in adapter.instruments_fetches():
            page: Fetch | None = first
            for _ in range(PAGES_MAX):
                if page is None:
                    break
                body = await self.fetch(page)
                found.append((page, body, time.time_ns()))
                page = adapter.next_page(page, body)
        return found

    def url(self, fetch: Fetch) -> str:
        """Return where `fetch` goes, its parameters included."""
        if not fetch.path.startswith(("http://", "https://")):
            target = self.base_url + fetch.path
        else:
            target = self.base_url + urlsplit(fetch.path).path if self._overridden else fetch.path
        return target + (f"?{urlencode(fetch.params)}" if fetch.params else "")

    async def _body(self, fetch: Fetch, response: aiohttp.ClientResponse) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > BODY_MAX:
                raise FetchError(self.venue, fetch.resource, f"a body of more than {BODY_MAX} bytes")
            parts.append(part)
        return b"".join(parts)

    async def _limited(self, fetch: Fetch, response: aiohttp.ClientResponse) -> RateLimited:
        default = DEFAULT_PAUSE_S if response.status == 429 else self.limits.ban_s
        pause_s = _retry_after_s(response.headers.get("Retry-After", ""), _reset_s(response.headers, default))
        self.banned_until_ms = await self.limiter.ban(pause_s)
        reason = f"HTTP {response.status}, silence for {pause_s:.0f} s"
        return RateLimited(self.venue, fetch.resource, reason, self.banned_until_ms)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


def _reset_s(headers: Mapping[str, str], default_s: float) -> float:
    """Return the seconds until the unix time of X-RateLimit-Reset; `default_s` where it is none of the next hour."""
    text = headers.get("X-RateLimit-Reset", "")
    wait_s = float(text) - time.time() if text.isdecimal() and len(text) < 20 else 0.0
    return wait_s if 0 < wait_s <= 3600 else default_s


def _retry_after_s(text: str, default_s: float) -> float:
    """Return the pause that a Retry-After header asks for: seconds, or a date; within sane bounds."""
    try:
        pause_s = float(text) if text[:1].isdigit() else parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError):
        pause_s = default_s
    return min(max(1.0, pause_s), PAUSE_MAX_S) if isfinite(pause_s) else default_s
