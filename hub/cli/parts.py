"""Which parts run: the one list behind `tickwire up`. The Procfile says the same, and a test compares the two."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import count

from msgspec.structs import replace

from hub.cli import demo
from hub.cli.supervisor import Part
from hub.config import MetricsSettings, Settings
from hub.errors import RedisUnavailable
from hub.redisio import check

__all__ = ["DEFAULT_VENUES", "build_parts", "gateway_address", "venues_of"]

#: What runs live when no venue is configured: every venue that wants no keys.
DEFAULT_VENUES = (
    "binance", "binance_futures", "bybit", "coinbase", "deribit", "htx", "hyperliquid", "kraken", "okx",
)  # fmt: skip

#: Clients are asked to leave within this time, because everything has to be stopped in a few seconds.
DRAIN_S = 0.3

# The archive begins before the feeds and ends after them, so that it misses nothing of theirs.
REDIS, VENUE_SERVER, ARCHIVE, FEEDS, CONSOLIDATOR, GATEWAY = range(6)


def venues_of(settings: Settings) -> list[str]:
    """Return the venues that have a feed: the configured ones that are enabled, else the default."""
    if not settings.venues:
        return list(DEFAULT_VENUES)
    return [name for name, venue in settings.venues.items() if venue.enabled]


def gateway_address(settings: Settings) -> tuple[str, int]:
    """Return where the gateway is reached from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(settings.gateway.host, settings.gateway.host)
    return host, settings.gateway.port


def build_parts(
    settings: Settings,
    redis_url: str,
    env: dict[str, str],
    *,
    embedded: bool = True,
    demo_ports: Mapping[str, int] | None = None,
) -> list[Part]:
    """Return all parts. `env` goes to every one of them; `demo_ports` is where the demo's venue servers listen."""
    parts = []
    redis_ready = partial(_redis_answers, redis_url)
    if embedded:
        parts.append(_part("redis", ["-m", "hub.embedded"], REDIS, env, redis_ready))
    env = {**env, "TICKWIRE_REDIS__URL": redis_url}
    venues = venues_of(settings)
    if demo_ports is not None:
        venues = list(demo_ports)
        env |= demo.environment(demo_ports)
        for venue, port in demo_ports.items():
            listens = partial(_listens, "127.0.0.1", port)
            parts.append(_part(f"venue-{venue}", demo.server_command(venue, port), VENUE_SERVER, env, listens))
    if settings.archive.enabled:
        parts.append(_part("archive", ["-m", "hub.archive"], ARCHIVE, env))
    parts += [_part(f"feed-{venue}", ["-m", "feeds", venue], FEEDS, env) for venue in venues]
    parts.append(_part("instruments", ["-m", "feeds.instruments"], FEEDS, env))
    if settings.consolidator.enabled:
        parts.append(_part("consolidator", ["-m", "hub.consolidator"], CONSOLIDATOR, env))
    parts = _with_ports(parts, settings.metrics)
    env = {**env, "TICKWIRE_GATEWAY__DRAIN_S": str(min(settings.gateway.drain_s, DRAIN_S))}
    parts.append(_part("gateway", ["-m", "gateway"], GATEWAY, env, partial(_is_live, *gateway_address(settings))))
    return parts


def _with_ports(parts: Sequence[Part], metrics: MetricsSettings) -> list[Part]:
    """Tell each part where to serve /metrics."""
    ports = count(metrics.port_base)
    return [
        replace(part, env={**part.env, "TICKWIRE_METRICS__PORT": str(next(ports))})
        if metrics.port_base and part.stage in (ARCHIVE, FEEDS, CONSOLIDATOR)
        else part
        for part in parts
    ]


def _part(
    name: str, command: list[str], stage: int, env: dict[str, str], ready: Callable[[], Awaitable[bool]] | None = None
) -> Part:
    return Part(name=name, argv=[sys.executable, *command], stage=stage, env=env, ready=ready)


async def _redis_answers(url: str) -> bool:
    try:
        await check(url)
    except RedisUnavailable:
        return False
    return True


async def _listens(host: str, port: int) -> bool:
    return await _answer(host, port, b"", 0) is not None


async def _is_live(host: str, port: int) -> bool:
    request = f"GET /health/live HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
    answer = await _answer(host, port, request.encode(), 64)
    return answer is not None and b" 200 " in answer.partition(b"\r\n")[0]


async def _answer(host: str, port: int, request: bytes, size: int) -> bytes | None:
    """Connect, send and return up to `size` bytes of the answer; None where nobody listens or answers."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(request)
                return await reader.read(size)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
