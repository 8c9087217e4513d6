"""`tickwire doctor`: look at everything the hub stands on, and say what to do about what is wrong."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, TypeAlias, cast
from urllib.parse import urlsplit

import aiohttp
import click
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from hub import config, redisio
from hub.cli import demo
from hub.cli.addresses import Addresses, addresses_of
from hub.cli.parts import gateway_address, venues_of
from hub.config import Settings
from hub.embedded import configured_port, port_is_free
from hub.errors import ConfigError, HubError
from hub.history import has_timeseries
from hub.keys import Keys
from hub.log import mask_url
from hub.redis_binary import find_server
from hub.redisio import command_client

__all__ = ["Check", "doctor", "examine"]

Level: TypeAlias = Literal["ok", "warn", "fail"]

_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}
#: Clocks that differ by more are reported; by more than the second, tokens and candles suffer.
OFFSET_WARN_S, OFFSET_FAIL_S = 0.5, 5.0
#: An HTTP Date has whole seconds.
DATE_STEP_S = 1.0
VENUE_TIMEOUT_S = 5.0
#: Of maxmemory; at all of it Redis refuses what feeds write.
MEMORY_WARN, MEMORY_FAIL = 0.8, 0.95


class Check(Struct):
    """One finding. `todo`: what to do about it."""

    name: str
    level: Level
    text: str
    todo: str = ""


@click.command()
@click.option("--config", "config_file", metavar="FILE", help="Settings (default: hub.toml where there is one).")
@click.option("--offline", is_flag=True, help="Leave out the venues.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def doctor(config_file: str | None, offline: bool, as_json: bool) -> int:
    """Check configuration, ports, Redis, clocks and venues. Exit code 1 where something has failed."""
    found: list[Check] = []
    console = Console(soft_wrap=True)

    def tell(check: Check) -> None:
        found.append(check)
        if not as_json:
            console.print(f"[{_STYLES[check.level]}]{check.level:<5}[/]", check.name, end=": ", highlight=False)
            console.print(check.text, markup=False, highlight=False)
            if check.todo:
                console.print(f"      {check.todo}", markup=False, highlight=False, style="dim")

    asyncio.run(examine(config_file, tell, offline=offline))
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    return int(any(check.level == "fail" for check in found))


async def examine(config_file: str | None, tell: Callable[[Check], None], *, offline: bool = False) -> None:
    """Make all checks, each told as soon as it is known."""
    if config_file is not None:
        os.environ["TICKWIRE_CONFIG"] = config_file  # for the process that knows the venues, too
    try:
        settings = config.load()
    except ConfigError as error:
        tell(Check("config", "fail", str(error), "correct the setting; `tickwire config check` reads it again"))
        return
    tell(Check("config", "ok", f"valid; venues: {', '.join(venues_of(settings))}"))
    for check in await _ports(settings):
        tell(check)
    for check in await _redis(settings):
        tell(check)
    if not offline:
        await _venues(settings, tell)


# ports


async def _ports(settings: Settings) -> list[Check]:
    host, port = gateway_address(settings)
    name = f"gateway port {port}"
    health = await _gateway_health(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    if health is not None:
        return [
            Check(
                name,
                "ok" if health == 200 else "warn",
                f"a gateway listens ({'ready' if health == 200 else 'not ready'})",
            )
        ]
    if port_is_free(port):
        return [Check(name, "ok", "free: no gateway is running")]
    return [Check(name, "fail", "another program listens there", "stop it, or set gateway.port")]


async def _gateway_health(url: str) -> int | None:
    """Return the status of a gateway's readiness; None where nothing, or something else, listens."""
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session:
            async with session.get(f"{url}/health/ready") as response:
                body = await response.json(content_type=None)
                ours = isinstance(body, dict) and (body.get("status") == "ok" or body.get("code") == "not_ready")
                return response.status if ours else None
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None


# Redis


def _running(settings: Settings) -> str | None:
    """Return the data folder of the embedded server that runs, the live hub's or the demo's."""
    for folder in (settings.redis.data_dir, demo.data_dir(settings.redis.data_dir)):
        port = configured_port(folder)
        if port is not None and not port_is_free(port):
            return folder
    return None


def _redis_url(settings: Settings) -> str:
    """Return the address of the hub's Redis; empty where it would be an embedded one and none runs."""
    if settings.redis.url:
        return settings.redis.url
    folder = _running(settings)
    return f"redis://127.0.0.1:{configured_port(folder)}/0" if folder is not None else ""


def _is_demo(settings: Settings) -> bool:
    return not settings.redis.url and _running(settings) == demo.data_dir(settings.redis.data_dir)


async def _redis(settings: Settings) -> list[Check]:
    url = _redis_url(settings)
    if not url:
        return [_embedded(settings)]
    try:
        server = await redisio.check(url)
    except HubError as error:
        return [Check("redis", "fail", str(error), "start it, or correct redis.url (password, TLS, host and port)")]
    checks = [_version(url, server)]
    async with command_client(url) as client:
        reader = cast(Any, client)  # redis-py's annotations describe clients of text and of bytes at once
        series = await has_timeseries(client)
        checks.append(
            Check("redis TimeSeries", "ok", "there") if series else
            Check("redis TimeSeries", "warn", "missing: history is kept in sorted sets, which take more memory",
                  "use Redis 8, or Redis Stack")
        )  # fmt: skip
        checks += _memory(await reader.info("memory"))
        checks.append(_persistence(await reader.info("persistence")))
        if settings.redis.url.partition("://")[0] in {"redis", "rediss", "unix", ""}:
            checks.append(await _redis_clock(reader))
        members = await reader.smembers(Keys(settings.redis.prefix).venues)
        venues = {name.decode() for name in members}
        if settings.venues and not _is_demo(settings):
            venues.update(venues_of(settings))  # some may never have begun
        checks.append(await _pulses(reader, Keys(settings.redis.prefix), sorted(venues)))
    return checks


def _embedded(settings: Settings) -> Check:
    try:
        server = find_server(settings.redis.data_dir, wheel=settings.redis.server == "auto")
    except HubError as error:
        return Check("redis", "fail", str(error), "install redis-server, or set redis.url")
    module = "with TimeSeries" if server.module is not None else "TimeSeries unknown"
    return Check("redis", "ok", f"not running; `tickwire up` starts {server.binary} ({module})")


def _version(url: str, server: Mapping[str, Any]) -> Check:
    version = str(server.get("redis_version", "0"))
    text = f"{mask_url(url)}, version {version}"
    if int(version.partition(".")[0]) < 7:
        return Check("redis", "warn", text, "7 or newer is what Tickwire is tested with")
    return Check("redis", "ok", text)


def _memory(info: Mapping[str, Any]) -> list[Check]:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    policy = str(info.get("maxmemory_policy", "noeviction"))
    checks = []
    if not limit:
        checks.append(Check("redis memory", "warn", f"{_mb(used)} used, no limit", "set maxmemory in redis.conf"))
    else:
        level: Level = "ok" if used < MEMORY_WARN * limit else "warn" if used < MEMORY_FAIL * limit else "fail"
        todo = "" if level == "ok" else "raise maxmemory, or keep less (publisher.log_*, history.*)"
        checks.append(Check("redis memory", level, f"{_mb(used)} of {_mb(limit)} used", todo))
    if policy == "noeviction":
        checks.append(Check("redis eviction", "ok", policy))
    else:
        checks.append(Check("redis eviction", "fail", f"{policy}: keys of the hub may vanish silently",
                            "CONFIG SET maxmemory-policy noeviction, and in redis.conf"))  # fmt: skip
    return checks


def _mb(size: int) -> str:
    return f"{size / 1_048_576:,.1f} MB"


def _persistence(info: Mapping[str, Any]) -> Check:
    name = "redis persistence"
    if not int(info.get("aof_enabled", 0)):
        lost = "no append-only file: a restart loses what came since the last snapshot"
        return Check(name, "warn", lost, "appendonly yes, appendfsync everysec")
    if info.get("aof_last_write_status", "ok") != "ok":
        return Check(name, "fail", "the append-only file cannot be written", "look at disk space and rights")
    return Check(name, "ok", "append-only file")


async def _redis_clock(client: Any) -> Check:
    before = time.time()
    seconds, micros = await client.time()
    after = time.time()
    return _offset("clock of Redis", seconds + micros / 1e6 - (before + after) / 2, (after - before) / 2)


async def _pulses(client: Any, keys: Keys, venues: Sequence[str]) -> Check:
    alive = [venue for venue in venues if await client.exists(keys.alive(venue))]
    dead = [venue for venue in venues if venue not in alive]
    if not alive:
        return Check("feeds", "warn", "none has a pulse", "start them: `tickwire up`, or `python -m feeds VENUE`")
    text = f"alive: {', '.join(alive)}" + (f"; without a pulse: {', '.join(dead)}" if dead else "")
    return Check("feeds", "warn" if dead else "ok", text, "look at the logs of those feeds" if dead else "")


def _offset(name: str, offset_s: float, error_s: float) -> Check:
    """Judge a clock that is `offset_s` ahead of this machine's, give or take `error_s`."""
    beyond = max(0.0, abs(offset_s) - error_s)
    text = f"{offset_s:+.3f} s against this machine (± {error_s:.3f} s)"
    if beyond <= OFFSET_WARN_S:
        return Check(name, "ok", text)
    level: Level = "fail" if beyond > OFFSET_FAIL_S else "warn"
    return Check(name, level, text, "synchronise the clocks (chrony, systemd-timesyncd)")


# venues


async def _venues(settings: Settings, tell: Callable[[Check], None]) -> None:
    if _is_demo(settings):
        tell(Check("venues", "ok", "not asked: the hub that runs is the demo, on recorded sessions"))
        return
    try:
        rows = await addresses_of(venues_of(settings))
    except ConfigError as error:
        tell(Check("venues", "fail", str(error)))
        return
    columns = SpinnerColumn(), TextColumn("{task.description} {task.completed}/{task.total}")
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    timeout = aiohttp.ClientTimeout(total=VENUE_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        with progress:
            task = progress.add_task("venues", total=len(rows))
            work: list[Awaitable[list[Check]]] = [_venue(session, row) for row in rows]
            for done in asyncio.as_completed(work):
                for check in await done:
                    tell(check)
                progress.advance(task)


async def _venue(session: aiohttp.ClientSession, row: Addresses) -> list[Check]:
    name = f"venue {row.venue}"
    if row.error:
        return [Check(name, "fail", row.error, "correct the section of the venue in hub.toml")]
    checks = []
    if row.missing:
        todo = "set them, or venues.{row.venue}.enabled = false".replace("{row.venue}", row.venue)
        checks.append(Check(f"{name} keys", "fail", f"missing: {', '.join(row.missing)}", todo))
    hosts = {urlsplit(url).netloc: url for url in reversed(row.urls)}
    outcomes = await asyncio.gather(*(_reach(session, url) for url in hosts.values()))
    unreachable = [f"{host} ({error})" for host, (error, _) in zip(hosts, outcomes, strict=True) if error]
    if unreachable:
        todo = "the feed keeps trying; look at DNS, firewall and proxy, or whether the venue serves your country"
        checks.append(Check(name, "fail", f"cannot be reached: {', '.join(unreachable)}", todo))
        return checks
    checks.append(Check(name, "ok", f"reachable: {', '.join(hosts)}"))
    offsets = [offset for _, offset in outcomes if offset is not None]
    if offsets:
        checks.append(_offset(f"{name} clock", min(offsets, key=abs), DATE_STEP_S))
    return checks


async def _reach(session: aiohttp.ClientSession, url: str) -> tuple[str, float | None]:
    """Ask a host for anything; returns what went wrong, and how far its Date is ahead of this machine's clock."""
    parts = urlsplit(url)
    scheme = {"wss": "https", "ws": "http"}.get(parts.scheme, parts.scheme)
    before = time.time()
    try:
        async with session.get(f"{scheme}://{parts.netloc}/", allow_redirects=False) as response:
            date = response.headers.get("Date")
    except TimeoutError:
        return f"no answer in {VENUE_TIMEOUT_S:g} s", None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return str(error) or type(error).__name__, None
    if date is None:
        return "", None
    middle = (before + time.time()) / 2
    try:
        # The second has begun at Date; on average it is half over.
        return "", parsedate_to_datetime(date).timestamp() + DATE_STEP_S / 2 - middle
    except ValueError:
        return "", None
