"""feeds/rest.py against a local server: limits, bans shared through Redis, failures that end in time."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from redis.asyncio import Redis

from feeds import rest
from feeds.adapter import Adapter, Fetch, Limits
from feeds.rest import LocalBucket, LocalLimiter, RestClient, SharedLimiter
from feeds.venues.binance import Binance
from hub.errors import FetchError, RateLimited
from hub.keys import Keys
from hub.redisio import command_client
from tests.ports import free_port

KEYS = Keys("md:")
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Venue(Binance):
    """A venue with a small budget and little patience."""

    limits = Limits(
        streams_per_connection=1024, messages_per_s=5, connects=300, connects_window_s=300, rest_weight=20,
        rest_window_s=1, lifetime_s=86_400, heartbeat_s=60, rest_timeout_s=0.5,
    )  # fmt: skip


class Patient(Venue):
    limits = replace(Venue.limits, rest_timeout_s=20.0)


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[str]:
    app = web.Application(client_max_size=1 << 20)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with command_client(redis_url) as made:
        yield made


def limiter(client: Redis, bucket: str = "rest", venue: type[Adapter] = Venue) -> SharedLimiter:
    return SharedLimiter(client, KEYS, "binance", bucket, venue.limits.rest_weight, venue.limits.rest_window_s)


@asynccontextmanager
async def rest_client(url: str, client: Redis, venue: type[Adapter] = Venue) -> AsyncIterator[RestClient]:
    made = RestClient(venue, limiter(client), url)
    try:
        yield made
    finally:
        await made.close()


DEPTH = Fetch(resource="depth", path="/api/v3/depth", params=(("symbol", "BTCUSDT"), ("limit", "1000")), weight=5)
CHEAP = Fetch(resource="time", path="/api/v3/time")


async def ok(_: web.Request) -> web.Response:
    return web.Response(text="{}")


# what is asked, what comes back


async def test_a_fetch_is_a_get_with_its_parameters(client: Redis) -> None:
    asked: list[tuple[str, str, bytes]] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append((request.method, request.raw_path, await request.read()))
        return web.Response(text='{"lastUpdateId":1}')

    async with server(handler) as url, rest_client(url, client) as venue:
        assert await venue.fetch(DEPTH) == b'{"lastUpdateId":1}'
        odd = Fetch(resource="x", path="/x", params=(("symbol", "币安/A&B"),))
        await venue.fetch(odd)
        await venue.fetch(Fetch(resource="info", path="https://elsewhere.example/info", body=b'{"type":"meta"}'))
    assert asked == [
        ("GET", "/api/v3/depth?symbol=BTCUSDT&limit=1000", b""),
        ("GET", "/x?symbol=%E5%B8%81%E5%AE%89%2FA%26B", b""),
        ("POST", "/info", b'{"type":"meta"}'),
    ]


async def test_a_large_body_is_read_whole_however_it_comes(client: Redis) -> None:
    data = bytes(range(256)) * 20_000

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for at in range(0, len(data), 100_000):
            await response.write(data[at : at + 100_000])
            await asyncio.sleep(0.001)
        await response.write_eof()
        return response

    async with server(handler) as url, rest_client(url, client) as venue:
        assert await venue.fetch(CHEAP) == data


async def test_a_body_without_end_is_refused(client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "BODY_MAX", 10_000)

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * 20_000)

    async with server(handler) as url, rest_client(url, client) as venue:
        with pytest.raises(FetchError, match="more than 10000 bytes"):
            await venue.fetch(CHEAP)


@pytest.mark.parametrize("status", [400, 403, 404, 500, 503])
async def test_what_is_no_200_is_a_failure_with_its_text(client: Redis, status: int) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, text='{"code":-1121,"msg":"Invalid symbol."}' * 100)

    async with server(handler) as url, rest_client(url, client) as venue:
        with pytest.raises(
            FetchError, match=rf"binance: fetching time failed: HTTP {status}: .*Invalid symbol"
        ) as caught:
            await venue.fetch(CHEAP)
        assert len(str(caught.value)) < 400
        assert not isinstance(caught.value, RateLimited)


async def test_silence_is_a_failure_in_time(client: Redis) -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async with server(handler) as url, rest_client(url, client) as venue:
        began = time.monotonic()
        with pytest.raises(FetchError):
            async with asyncio.timeout(30):
                await venue.fetch(CHEAP)
        assert time.monotonic() - began > 0.4


async def test_a_trickle_is_a_failure_in_time(client: Redis) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(600):
            await response.write(b" ")
            await asyncio.sleep(0.1)
        return response

    async with server(handler) as url, rest_client(url, client) as venue:
        with pytest.raises(FetchError):
            async with asyncio.timeout(30):
                await venue.fetch(CHEAP)


async def test_nobody_there_is_a_failure(client: Redis) -> None:
    async with rest_client(f"http://127.0.0.1:{free_port()}", client) as venue:
        with pytest.raises(FetchError, match="fetching time failed"):
            await venue.fetch(CHEAP)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", b"\x00\xff garbage\r\n\r\n"]
)
async def test_a_broken_answer_is_a_failure(client: Redis, answer: bytes) -> None:
    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    raw = await asyncio.start_server(broken, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{raw.sockets[0].getsockname()[1]}"
    async with raw, rest_client(url, client) as venue:
        with pytest.raises(FetchError):
            await venue.fetch(CHEAP)


# the venue's weights


def assert_within_budget(began: float, times: list[float]) -> None:
    """20 at once and 20 a second from then on: a request may arrive later than it was let go, but never earlier."""
    for n, at in enumerate(sorted(times), 1):
        assert n <= 20 + 20 * (at - began) + 1


async def test_two_processes_share_one_budget(client: Redis) -> None:
    """20 a second: the first 20 at once, 30 more in a second and a half, whoever asks."""
    times: list[float] = []

    async def handler(_: web.Request) -> web.Response:
        times.append(time.monotonic())
        return web.Response(text="{}")

    async with server(handler) as url, rest_client(url, client) as one, rest_client(url, client) as two:
        began = time.monotonic()
        await asyncio.gather(*((one if n % 2 else two).fetch(CHEAP) for n in range(50)))
    assert_within_budget(began, times)
    assert times[-1] - began >= 1.4


async def test_a_heavy_request_waits_for_its_whole_weight(client: Redis) -> None:
    async with server(ok) as url, rest_client(url, client) as venue:
        began = time.monotonic()
        for _ in range(5):
            await venue.fetch(DEPTH)
        assert time.monotonic() - began > 0.2


async def test_without_redis_the_limits_are_kept_by_this_process_alone() -> None:
    async with command_client(f"redis://127.0.0.1:{free_port()}/0") as away:
        times: list[float] = []

        async def handler(_: web.Request) -> web.Response:
            times.append(time.monotonic())
            return web.Response(text="{}")

        async with server(handler) as url, rest_client(url, away, Patient) as venue:
            began = time.monotonic()
            await asyncio.gather(*(venue.fetch(CHEAP) for _ in range(40)))
        assert_within_budget(began, times)
        assert times[-1] - began > 0.9


async def test_a_ban_holds_without_redis() -> None:
    async with command_client(f"redis://127.0.0.1:{free_port()}/0") as away:
        calls = 0

        async def handler(_: web.Request) -> web.Response:
            nonlocal calls
            calls += 1
            return web.Response(status=429 if calls == 1 else 200, headers={"Retry-After": "1"}, text="{}")

        async with server(handler) as url, rest_client(url, away) as venue:
            began = time.monotonic()
            with pytest.raises(RateLimited):
                await venue.fetch(CHEAP)
            await venue.fetch(CHEAP)
            assert time.monotonic() - began > 0.9


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 10)), max_size=40))
def test_no_window_ever_holds_more_than_the_budget(script: list[tuple[float, int]]) -> None:
    """However it is asked: in any stretch of time no more than the capacity and what was refilled meanwhile."""
    bucket = LocalBucket(10, 5.0)
    now, taken = 0.0, [(0.0, 0)]
    for wait, cost in script:
        now += wait
        left = bucket.take(cost, now)
        if left == 0:
            taken.append((now, cost))
            continue
        assert bucket.take(cost, now + left + 1e-6) == 0, "the wait it told was too short"
        now += left + 1e-6
        taken.append((now, cost))
    for place, (began, _) in enumerate(taken):
        for end in range(place, len(taken)):
            spent = sum(cost for _, cost in taken[place : end + 1])
            assert spent <= 10 + (taken[end][0] - began) * 2.0 + 1e-3


# bans


@pytest.mark.parametrize("status", [429, 418])
async def test_a_refusal_stops_every_process_until_the_stated_time(client: Redis, status: int) -> None:
    times: list[float] = []

    async def handler(_: web.Request) -> web.Response:
        times.append(time.monotonic())
        if len(times) == 1:
            return web.Response(status=status, headers={"Retry-After": "2"})
        return web.Response(text="{}")

    async with server(handler) as url, rest_client(url, client) as one, rest_client(url, client) as two:
        began = time.time() * 1000
        with pytest.raises(RateLimited) as caught:
            await one.fetch(CHEAP)
        assert began + 1990 < caught.value.until_ms <= time.time() * 1000 + 2000
        assert one.banned_until_ms == caught.value.until_ms
        await asyncio.gather(two.fetch(CHEAP), one.fetch(CHEAP), two.fetch(DEPTH))
    assert len(times) == 4
    assert all(at - times[0] > 1.8 for at in times[1:])


def next_minute() -> str:
    """Return the date in a minute, as HTTP writes it."""
    return (datetime.now(UTC) + timedelta(seconds=60)).strftime("%a, %d %b %Y %H:%M:%S GMT")


@pytest.mark.parametrize(
    ("status", "header", "least", "most"),
    [
        (429, "7", 6, 7),
        (429, "0", 0, 1),
        (429, "2.5", 2, 2.5),
        (429, None, 59, 60),
        (418, None, 299, 300),
        (429, "", 59, 60),
        (429, "soon", 59, 60),
        (429, "-5", 59, 60),
        (429, "inf", 59, 60),
        (429, "nan", 59, 60),
        (429, "1e400", 59, 60),
        (418, "1" * 50, 3 * 86_400 - 1, 3 * 86_400),
        (429, "Wed, 21 Oct 2015 07:28:00 GMT", 0, 1),
        (429, next_minute, 55, 61),
    ],
)
async def test_any_retry_after_is_understood_or_a_minute(
    client: Redis, status: int, header: str | Callable[[], str] | None, least: float, most: float
) -> None:
    header = header() if callable(header) else header

    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={} if header is None else {"Retry-After": header})

    async with server(handler) as url, rest_client(url, client) as venue:
        began = time.time()
        with pytest.raises(RateLimited) as caught:
            await venue.fetch(CHEAP)
    assert began + least <= caught.value.until_ms / 1000 <= time.time() + most
    assert f"HTTP {status}" in str(caught.value)


async def test_a_later_refusal_never_shortens_an_earlier_one(client: Redis) -> None:
    """Requests that were under way together may be refused with different times."""
    pauses = iter(["120", "1"])

    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": next(pauses)})

    async with server(handler) as url, rest_client(url, client) as one, rest_client(url, client) as two:
        outcomes = await asyncio.gather(one.fetch(CHEAP), two.fetch(CHEAP), return_exceptions=True)
        assert all(isinstance(outcome, RateLimited) for outcome in outcomes)
    (banned,) = [key async for key in client.scan_iter("md:banned:*")]
    assert await client.pttl(banned) > 115_000
    local = LocalLimiter(1, 1)
    first = await local.ban(100)
    assert abs(await local.ban(1) - first) < 50


async def test_a_refused_rest_does_not_stop_sockets(client: Redis) -> None:
    await limiter(client).ban(60)
    async with asyncio.timeout(30):
        await limiter(client, "connects").take(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await limiter(client).take(1)


async def test_a_ban_does_not_depend_on_the_clock_of_redis(client: Redis) -> None:
    """What is stored is for how long, and not until when."""
    await limiter(client).ban(30)
    (banned,) = [key async for key in client.scan_iter("md:banned:*")]
    await client.set(banned, int(time.time() * 1000) - 3_600_000, px=30_000)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await limiter(client).take(1)


async def test_buckets_and_bans_expire(client: Redis) -> None:
    await limiter(client).take(1)
    await limiter(client).ban(5)
    for key in [key async for key in client.scan_iter()]:
        assert 0 < await client.pttl(key) <= 5000


async def test_another_address_is_not_gone_to(client: Redis) -> None:
    seen: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(text="{}")

    async with server(elsewhere) as other:

        async def handler(_: web.Request) -> web.Response:
            raise web.HTTPTemporaryRedirect(f"{other}/api/v3/time")

        async with server(handler) as url, rest_client(url, client, Patient) as venue:
            with pytest.raises(FetchError, match="HTTP 307"):
                await venue.fetch(CHEAP)
    assert seen == []
