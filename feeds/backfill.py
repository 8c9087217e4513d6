"""`python -m feeds.backfill VENUE SYMBOL`: fill history with the venue's own candles, days of them.

Candles go into the series of history alone, and only where none is stored. The log of `candle.<interval>` is not
touched: it belongs to the feed, which may run meanwhile. Each page is stored together with a note that it is done, so
this may be killed at any time and goes on where it was. It leaves half of the venue's budget to everybody else.
"""

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Callable

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from feeds.adapter import Adapter
from feeds.filling import Filling, Tally
from feeds.past import PastCandles
from feeds.registry import VENUES, adapter_of, credentials_of
from feeds.rest import RestClient, SharedLimiter
from hub.config import Settings, VenueSettings
from hub.connect import connect
from hub.errors import ConfigError, HubError, RedisUnavailable, RequestError
from hub.history import open_history, series_of
from hub.instruments import Instrument, InstrumentTable
from hub.intervals import INTERVALS, NS_PER_S, interval_ns
from hub.keys import Keys
from hub.log import mask_url
from hub.processes import exit_code, load_or_exit
from hub.redisio import check, command_client
from hub.replay import parse_since

__all__ = ["Order", "backfill", "main", "order", "span"]

#: What is younger still, a running feed is about to store itself.
YOUNGEST_NS = 30 * NS_PER_S
_AGO = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def span(text: str, now: int) -> int:
    """Return int ns of `30d` (that long before `now`) or of a time, as hub.replay.parse_since; RequestError."""
    ago = _AGO.fullmatch(text)
    if ago:
        return max(0, now - int(ago[1]) * _UNITS_S[ago[2]] * NS_PER_S)
    found = parse_since(text)
    if not isinstance(found, int):
        raise RequestError("bad_time", f"{text!r} is no time; allowed: 30d, 12h, 2026-01-31T12:00:00Z, 1769860800")
    return found


class Order(Struct, frozen=True, kw_only=True):
    """What the command line asks for; `notes` say what of it cannot be had."""

    adapter: type[Adapter]
    interval: str
    since: int
    until: int
    notes: list[str]


def order(settings: Settings, venue: str, interval: str, since: str, until: str, now: int) -> Order:
    """Read the command line. ConfigError and RequestError name what cannot be used, and what is allowed."""
    own = settings.venues.get(venue, VenueSettings())
    adapter = adapter_of(venue, own.feed, own.plan)
    if not settings.history.enabled:
        raise ConfigError("history.enabled = false: there is nothing to fill")
    kept = [name for name in INTERVALS if series_of(f"candle.{name}", 0, 0)]
    allowed = [name for name in kept if name in adapter.candle_intervals]
    if interval not in allowed:
        raise RequestError(
            "bad_interval",
            f"candles of {interval!r} cannot be filled; allowed for {venue}: {', '.join(allowed) or 'none'}. "
            f"(History keeps {', '.join(kept)} and puts longer ones together from them)",
        )
    length, notes = interval_ns(interval), []
    first, last = span(since, now), span(until, now) if until else now
    last = min(last, now - YOUNGEST_NS)
    for limit, reason in (
        (settings.history.candle_s * NS_PER_S, "history keeps {} candles of {} (history.candle_s)"),
        (adapter.candle_reach * length, "the venue tells no more than its newest {} candles of {}"),
    ):
        if limit and first < now - limit:
            first = now - limit
            notes.append(reason.format(limit // length, interval))
    first, last = -(-first // length) * length, last // length * length
    if first >= last:
        raise RequestError("bad_time", f"no whole candle of {interval} lies between --since and --until")
    return Order(adapter=adapter, interval=interval, since=first, until=last, notes=notes)


async def _instrument(redis: Redis, keys: Keys, rest: RestClient, adapter: type[Adapter], symbol: str) -> Instrument:
    """Return the row of `symbol`: from Redis, else from the venue's lists. UnknownInstrument names what is near."""
    stored = await redis.hget(keys.instruments(adapter.venue), symbol)
    if stored:
        return msgspec.json.decode(stored, type=Instrument)
    lists = await rest.fetch_lists(adapter)
    rows = [row for _, body, _ in lists for row in adapter.parse_instruments(body)]
    return InstrumentTable(adapter.venue, rows).get(symbol)


async def backfill(settings: Settings, symbol: str, wanted: Order, say: Callable[[str], None]) -> Tally:
    """Carry out `wanted` with a progress bar where stderr is a terminal. HubError says why it cannot go on."""
    adapter, keys, address = wanted.adapter, Keys(settings.redis.prefix), settings.redis.address
    venue, limits = adapter.venue, adapter.limits
    own, credentials = settings.venues.get(venue, VenueSettings()), credentials_of(adapter)
    await check(address)
    redis = command_client(address)
    budget = SharedLimiter(
        redis, keys, venue, "rest", limits.rest_weight, limits.rest_window_s, spare=limits.rest_weight / 2
    )
    rest = RestClient(adapter, budget, own.rest_url, credentials)
    link = await connect(address, name=f"tickwire-backfill-{venue}")
    try:
        row = await _instrument(redis, keys, rest, adapter, symbol)
        history = await open_history(redis)
        past = PastCandles(redis, link, history, keys, row, wanted.interval, settings.history.candle_s)
        flat = settings.candles.empty == "flat"
        work = Filling(
            adapter, row, wanted.interval, wanted.since, wanted.until, rest, past, flat=flat, credentials=credentials
        )
        with _bar() as bar:
            task = bar.add_task(f"{venue} {symbol} {wanted.interval}", total=work.tally.wanted)
            return await work.run(lambda count: bar.advance(task, count), say)
    except (RedisError, ConnectionError) as error:
        raise RedisUnavailable(mask_url(address), f"{error}; what was stored is kept") from error
    finally:
        link.close()
        await rest.close()
        await redis.aclose()


def _bar() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())


def _said(tally: Tally) -> str:
    parts = [f"{tally.wanted} candles: {tally.stored} stored, {tally.known} were there"]
    parts += [f"{tally.empty} without trades"] if tally.empty else []
    parts += [f"{tally.missing} not told by the venue"] if tally.missing else []
    parts += [f"{tally.refused} not kept ({tally.reason})"] if tally.refused else []
    return ", ".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Fill history; returns the exit code (hub/processes.py), 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="tickwire backfill", description="Fill history with the venue's candles.")
    parser.add_argument("venue", help=", ".join(sorted(VENUES)))
    parser.add_argument("symbol", help="canonical symbol, e.g. BTC-USDT")
    parser.add_argument("--interval", default="1m", help="default: 1m")
    parser.add_argument("--since", required=True, help="30d, 12h or a time (ISO 8601, epoch)")
    parser.add_argument("--until", default="", help="the same; default: now")
    parser.add_argument("--config", help="TOML file; default $TICKWIRE_CONFIG, then hub.toml")
    options = parser.parse_args(arguments)
    settings = load_or_exit(options.config)

    def say(text: str) -> None:
        sys.stderr.write(f"tickwire: {text}\n")

    try:
        wanted = order(settings, options.venue, options.interval, options.since, options.until, time.time_ns())
        for note in wanted.notes:
            say(f"only a part is asked for: {note}")
        tally = asyncio.run(backfill(settings, options.symbol, wanted, say))
    except HubError as error:
        say(str(error))
        return exit_code(error)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        return 130
    sys.stdout.write(f"{options.venue} {options.symbol} {options.interval}: {_said(tally)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
