"""`tickwire up`: run every part of the hub on this machine until Ctrl-C."""

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from hub import config
from hub.cli import demo
from hub.cli.console import Console
from hub.cli.parts import build_parts, gateway_address, venues_of
from hub.cli.supervisor import Part, Supervisor
from hub.config import Settings
from hub.embedded import free_port, port_is_free
from hub.errors import ConfigError
from hub.keys import VENUE_WIDE, Keys, channel_name
from hub.log import mask_url
from hub.model import Status
from hub.redisio import check, command_client

__all__ = ["Plan", "main", "make_plan"]

#: How long a port may stay taken by parts of an earlier run that are still ending: a gateway has clients to part from.
GATEWAY_WAIT_S = 5.0
REDIS_WAIT_S = 1.0
#: Without data for this long a live start says so.
PATIENCE_S = 15.0
WATCH_S = 2.0


class Plan(Struct, frozen=True, kw_only=True):
    """What `up` is going to do. `notes` are for the user to read before anything starts."""

    settings: Settings
    redis_url: str
    embedded: bool
    parts: list[Part]
    venues: list[str]
    is_demo: bool
    notes: list[str]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tickwire up", description=__doc__)
    parser.add_argument("--demo", action="store_true", help="replay recorded sessions; needs no network")
    parser.add_argument("--config", metavar="FILE", help="settings (default: hub.toml where there is one)")
    args = parser.parse_args(argv)
    console = Console()
    plan = make_plan(args.config, is_demo=args.demo, terminal=console.is_terminal)
    return asyncio.run(_up(plan, console))


def make_plan(config_file: str | None, *, is_demo: bool, terminal: bool = False) -> Plan:
    """Read the settings and decide on ports, folders and parts. Raises ConfigError."""
    settings = config.load(config_file)
    env: dict[str, str] = {}
    notes: list[str] = []
    if config_file is not None:
        env["TICKWIRE_CONFIG"] = str(Path(config_file).absolute())
    if terminal and settings.log.format == "auto":
        env["TICKWIRE_LOG__FORMAT"] = "human"  # the parts see a pipe, but a person reads it
    host, port = gateway_address(settings)
    if host == "127.0.0.1" and not _comes_free(port, GATEWAY_WAIT_S):
        raise ConfigError(
            f"gateway.port = {port} cannot be used: another program listens on {host}:{port}. "
            "Stop it (another `tickwire up`?) or set gateway.port, e.g. TICKWIRE_GATEWAY__PORT=8001"
        )
    embedded = not settings.redis.url
    redis_url = settings.redis.url
    if embedded:
        redis_port = _redis_port(settings, config_file, notes)
        redis_url = f"redis://127.0.0.1:{redis_port}/0"
        env["TICKWIRE_REDIS__PORT"] = str(redis_port)
        if is_demo:
            env["TICKWIRE_REDIS__DATA_DIR"] = demo.data_dir(settings.redis.data_dir)
    elif is_demo:
        notes.append(f"recorded data is being written to the configured Redis {mask_url(redis_url)}")
    demo_ports = {venue: free_port() for venue in demo.VENUES} if is_demo else None
    parts = build_parts(settings, redis_url, env, embedded=embedded, demo_ports=demo_ports)
    venues = list(demo.VENUES) if is_demo else venues_of(settings)
    return Plan(
        settings=settings,
        redis_url=redis_url,
        embedded=embedded,
        parts=parts,
        venues=venues,
        is_demo=is_demo,
        notes=notes,
    )


def _comes_free(port: int, wait_s: float) -> bool:
    end = time.monotonic() + wait_s
    while not port_is_free(port):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _redis_port(settings: Settings, config_file: str | None, notes: list[str]) -> int:
    """Return the port of the embedded Redis: the configured one, or from the default upwards the first free one."""
    wanted = settings.redis.port
    if _comes_free(wanted, REDIS_WAIT_S):
        return wanted
    if config.is_set("redis.port", config_file):
        raise ConfigError(
            f"redis.port = {wanted} cannot be used: another program listens on 127.0.0.1:{wanted}. "
            "Set redis.port to a free port, or redis.url to use that server"
        )
    port = next(port for port in range(wanted + 1, 65_536) if port_is_free(port))
    notes.append(
        f"port {wanted} is taken, so this hub's Redis listens on port {port}: use `tickwire redis-cli` or "
        f"`redis-cli -p {port}`. (To use the server on {wanted}, set redis.url.)"
    )
    return port


async def _up(plan: Plan, console: Console) -> int:
    for note in plan.notes:
        console.say(f"NOTE: {note}")
    if not plan.embedded:
        await check(plan.redis_url)
    watch: asyncio.Task[None] | None = None

    async def when_ready() -> None:
        nonlocal watch
        console.say(_banner(plan))
        if not plan.is_demo and plan.venues:
            watch = asyncio.get_running_loop().create_task(_watch_venues(plan, console))

    try:
        return await Supervisor(plan.parts, console).run(when_ready)
    finally:
        if watch is not None:
            watch.cancel()


def _banner(plan: Plan) -> str:
    host, port = gateway_address(plan.settings)
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    mode = "recorded sessions" if plan.is_demo else "live"
    return (
        f"Tickwire is up ({mode}; venues: {', '.join(plan.venues) or 'none'}). Ctrl-C stops it.\n"
        f"  dashboard  {url}/\n"
        f"  REST       {url}/schema\n"
        f"  WebSocket  {url.replace('http', 'ws', 1)}/v1/ws\n"
        f"  Redis      {mask_url(plan.redis_url)}"
    )


async def _watch_venues(plan: Plan, console: Console) -> None:
    """Say once when a venue delivers, and once when after PATIENCE_S none does."""
    waiting, complained = set(plan.venues), False
    patience = time.monotonic() + PATIENCE_S
    async with command_client(plan.redis_url) as client:
        keys = Keys(plan.settings.redis.prefix)
        while waiting:
            try:
                states = {venue: await _venue_state(client, keys, venue) for venue in sorted(waiting)}
            except (RedisError, OSError):
                states = {venue: ("unknown", "Redis does not answer") for venue in sorted(waiting)}
            for venue, (state, _) in states.items():
                if state == "live":
                    waiting.discard(venue)
                    console.say(f"{venue} is live.")
            if waiting and not complained and time.monotonic() > patience:
                complained = True
                console.complain(_no_venue(plan, {venue: states[venue] for venue in sorted(waiting)}))
            await asyncio.sleep(WATCH_S)


async def _venue_state(client: Redis, keys: Keys, venue: str) -> tuple[str, str]:
    """Return a venue's state and the reason for it, as its feed says; `down` where the feed has no pulse."""
    if await client.get(keys.alive(venue)) is None:
        return "down", "its feed has no pulse"
    payload = await client.get(keys.newest(channel_name("status", venue, VENUE_WIDE)))
    if payload is None:
        return "down", "its feed has not said anything yet"
    status = msgspec.json.decode(payload, type=Status)
    return status.state, status.reason


def _no_venue(plan: Plan, states: dict[str, tuple[str, str]]) -> str:
    reasons = "; ".join(f"{venue}: {reason or state}" for venue, (state, reason) in states.items())
    if len(states) < len(plan.venues):
        return f"Not reached yet: {reasons}. Its feed keeps trying."
    return (
        f"NO VENUE COULD BE REACHED ({reasons}).\n"
        "The feeds keep trying; data appears as soon as a venue answers.\n"
        "Without a network: `make demo` runs the whole hub on recorded sessions."
    )
