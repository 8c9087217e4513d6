"""Settings: one frozen tree, read once from a TOML file and the environment.

`TICKWIRE_REDIS__URL=redis://...` sets `redis.url`: two underscores separate levels, values are TOML, or plain text
where that is no TOML. The environment wins over the file. An unknown name stops the process and names the nearest.
Only `__main__` modules, the command line and `create_app` call `load`; everything else is given its settings.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct, field

from hub.access import AuthSettings, LimitSettings, check_access
from hub.consolidator.settings import ConsolidatorSettings, check_consolidator
from hub.errors import ConfigError
from hub.intervals import INTERVALS
from hub.model import KINDS

__all__ = [
    "ArchiveSettings",
    "BookSettings",
    "CandleSettings",
    "GatewaySettings",
    "HistorySettings",
    "InstrumentsSettings",
    "LogSettings",
    "MetricsSettings",
    "PublisherSettings",
    "RedisSettings",
    "Settings",
    "VenueSettings",
    "is_set",
    "load",
]

ENV_PREFIX = "TICKWIRE_"
#: Environment names that are no settings.
ENV_OTHER = {"TICKWIRE_CONFIG", "TICKWIRE_REQUIRE_ALL", "TICKWIRE_SUPERVISED", "TICKWIRE_TOKEN", "TICKWIRE_URL"}


class _Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class RedisSettings(_Settings, frozen=True):
    """`url` empty: an embedded server on 127.0.0.1:`port` that keeps its data in `data_dir`. `server` auto: the one
    installed with Tickwire, else one on PATH; path: only one on PATH."""

    url: str = ""
    prefix: str = "md:"
    port: int = 6379
    data_dir: str = "data/redis"
    maxmemory: str = "2gb"
    server: Literal["auto", "path"] = "auto"

    @property
    def address(self) -> str:
        """URL of the Redis to use: `url`, else where the embedded server listens."""
        return self.url or f"redis://127.0.0.1:{self.port}/0"


class VenueSettings(_Settings, frozen=True):
    """One venue. Empty `ws_url`/`rest_url` mean the venue's own; `symbols` are canonical; `feed` names another of the
    venue's feeds (coinbase: exchange; alpaca: sip, rest; coingecko: prices, tickers). Of venues that are polled: `plan`
    is what was bought (empty: the smallest), `poll_s` the wish for the time between two polls (0: the venue's own)."""

    enabled: bool = True
    symbols: list[str] = []
    kinds: list[str] = field(default_factory=lambda: ["trade", "quote", "book", "depth", "ticker", "mark", "candle"])
    feed: str = ""
    ws_url: str = ""
    rest_url: str = ""
    plan: str = ""
    poll_s: float = 0.0


class InstrumentsSettings(_Settings, frozen=True):
    """Lists of instruments are renewed each `every_s`, of `venues` or, where that is empty, of those with a feed."""

    every_s: float = 3600.0
    venues: list[str] = []


class BookSettings(_Settings, frozen=True):
    """`levels` per side asked of the venue; `kept` bounds what is held; a full snapshot is stored every
    `snapshot_every` updates; `depth_levels` and `depth_per_s` shape the `depth` kind."""

    levels: int = 1000
    kept: int = 5000
    snapshot_every: int = 500
    depth_levels: int = 20
    depth_per_s: float = 10.0


class CandleSettings(_Settings, frozen=True):
    """`grace_ms` after an interval's end the candle closes; `forming_per_s` bounds updates of open candles. `empty`:
    intervals without trades have no candle (skip), or one that repeats the last close (flat). `repair_max` bounds the
    candles per symbol and interval that the venue is asked for after a gap and at the start."""

    intervals: list[str] = field(default_factory=lambda: ["1s", "10s", "1m", "5m", "15m", "1h", "1d"])
    grace_ms: int = 1500
    forming_per_s: float = 4.0
    empty: Literal["skip", "flat"] = "skip"
    repair_max: int = 500


class HistorySettings(_Settings, frozen=True):
    """Retention in seconds: `tick_s` for sampled quotes and trades, `candle_s` for candles."""

    enabled: bool = True
    tick_s: int = 86_400
    candle_s: int = 30 * 86_400
    quote_sample_ms: int = 1000


class ArchiveSettings(_Settings, frozen=True):
    """`tickwire up` archives where it is `enabled`: into `dir`, the channels that a pattern of `channels` names (as in
    tokens); `books` too, which is most of all data. Logs are read every `poll_ms`; what was read is in a file after
    `rotate_s`, earlier where a log could not hold it."""

    enabled: bool = False
    dir: str = "data/archive"
    channels: list[str] = field(default_factory=lambda: ["*"])
    books: bool = False
    poll_ms: int = 250
    rotate_s: float = 300.0


class PublisherSettings(_Settings, frozen=True):
    """`logs` are entries kept per log; `buffer` events a feed holds while Redis is away; newest values expire
    `last_value_ttl_s` after the last write."""

    log_trades: int = 2000
    log_books: int = 1500
    log_candles: int = 500
    log_statuses: int = 200
    buffer: int = 100_000
    last_value_ttl_s: int = 7 * 86_400


class GatewaySettings(_Settings, frozen=True):
    """`allow_remote_without_auth` lets the gateway listen beyond loopback although nobody has to prove who they are.

    `origins`: pages (`https://host`) whose scripts may use the WebSocket and, by CORS, REST, besides the gateway's own.
    `deflate` offers compressed messages (permessage-deflate) to clients that ask for them.

    Per WebSocket connection: `max_frame_bytes` bounds a client's message, `max_subscriptions` its channels and
    patterns, `queue_bytes` the events kept while it does not read. It is closed when nothing was heard from it for
    `idle_timeout_s` (pings are answered meanwhile), or when it did not read for `stall_timeout_s`.

    `workers` processes share the port. A gateway that ends asks its clients to leave one after the other, over
    `drain_s` at most.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    drain_s: float = 10.0
    allow_remote_without_auth: bool = False
    origins: list[str] = []
    deflate: bool = False
    max_frame_bytes: int = 65_536
    max_subscriptions: int = 5000
    queue_bytes: int = 1_048_576
    idle_timeout_s: float = 60.0
    stall_timeout_s: float = 15.0
    auth: AuthSettings = AuthSettings()
    limits: LimitSettings = LimitSettings()


class LogSettings(_Settings, frozen=True):
    """`format` auto: for people on a terminal, JSON lines elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "human", "json"] = "auto"


class MetricsSettings(_Settings, frozen=True):
    """A process serves Prometheus text on `host` at `port`; `tickwire up` gives its parts `port_base` and the ports
    after it. 0: not at all. (The gateway has `/metrics` on its own port.)"""

    host: str = "127.0.0.1"
    port: int = 0
    port_base: int = 0


class Settings(_Settings, frozen=True):
    redis: RedisSettings = RedisSettings()
    gateway: GatewaySettings = GatewaySettings()
    books: BookSettings = BookSettings()
    candles: CandleSettings = CandleSettings()
    history: HistorySettings = HistorySettings()
    archive: ArchiveSettings = ArchiveSettings()
    publisher: PublisherSettings = PublisherSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    consolidator: ConsolidatorSettings = ConsolidatorSettings()
    instruments: InstrumentsSettings = InstrumentsSettings()
    venues: dict[str, VenueSettings] = {}


def load(path: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read settings: `path`, else $TICKWIRE_CONFIG, else hub.toml in the current folder, else the defaults.

    Raises ConfigError with the name at fault and what is allowed.
    """
    tree = _read(path, environ)
    _refuse_unknown(tree, Settings, "")
    try:
        settings = msgspec.convert(tree, Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"configuration: {error}") from error
    _check(settings)
    return settings


def is_set(name: str, path: str | Path | None = None, environ: Mapping[str, str] | None = None) -> bool:
    """Tell whether file or environment give `name`, e.g. `redis.port`, rather than the default."""
    tree: object = _read(path, environ)
    for part in name.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True


def _read(path: str | Path | None, environ: Mapping[str, str] | None) -> dict[str, Any]:
    env = os.environ if environ is None else environ
    tree: dict[str, Any] = {}
    chosen = path or env.get("TICKWIRE_CONFIG") or ("hub.toml" if Path("hub.toml").is_file() else None)
    if chosen is not None:
        try:
            tree = tomllib.loads(Path(chosen).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"cannot read the configuration {str(chosen)!r}: {error}") from error
    for name, value in env.items():
        if name.startswith(ENV_PREFIX) and name not in ENV_OTHER:
            _put(tree, name, value)
    return tree


def _put(tree: dict[str, Any], name: str, text: str) -> None:
    path = name.removeprefix(ENV_PREFIX).lower().split("__")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{name}: {part!r} is a value, not a section")
    tree[path[-1]] = value


def _refuse_unknown(tree: object, kind: Any, where: str) -> None:
    if not isinstance(tree, dict):
        return
    if get_origin(kind) is dict:
        for key, value in tree.items():
            _refuse_unknown(value, get_args(kind)[1], f"{where}{key}.")
        return
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        return
    types = get_type_hints(kind)
    for key, value in tree.items():
        if key not in types:
            near = difflib.get_close_matches(key, types, n=1, cutoff=0.5)
            hint = f"did you mean {where}{near[0]}?" if near else f"known: {', '.join(sorted(types))}"
            raise ConfigError(f"unknown setting {where}{key}; {hint}")
        _refuse_unknown(value, types[key], f"{where}{key}.")


def _check(settings: Settings) -> None:
    def need(ok: bool, name: str, value: object, allowed: str) -> None:
        if not ok:
            raise ConfigError(f"{name} = {value!r} cannot be used; allowed: {allowed}")

    for interval in settings.candles.intervals:
        need(interval in INTERVALS, "candles.intervals", interval, ", ".join(INTERVALS))
    intervals = settings.candles.intervals
    need(bool(intervals), "candles.intervals", [], "at least one interval")
    need(len(set(intervals)) == len(intervals), "candles.intervals", intervals, "each interval once")
    lengths = sorted(INTERVALS[name] for name in settings.candles.intervals)
    need(
        all(length % lengths[0] == 0 for length in lengths),
        "candles.intervals",
        settings.candles.intervals,
        "multiples of the shortest",
    )
    need(settings.candles.grace_ms >= 0, "candles.grace_ms", settings.candles.grace_ms, "0 or more")
    need(settings.candles.forming_per_s > 0, "candles.forming_per_s", settings.candles.forming_per_s, "more than 0")
    need(0 <= settings.candles.repair_max <= 5000, "candles.repair_max", settings.candles.repair_max, "0 to 5000")
    simple = sorted({kind.partition(".")[0] for kind in KINDS} - {"status", "forming", "listing"})
    for venue, venue_settings in settings.venues.items():
        for kind in venue_settings.kinds:
            need(kind in simple, f"venues.{venue}.kinds", kind, ", ".join(simple))
        poll_s = venue_settings.poll_s
        need(poll_s == 0 or 1 <= poll_s <= 86_400, f"venues.{venue}.poll_s", poll_s, "0, or 1 to 86400")
    every_s = settings.instruments.every_s
    need(30 <= every_s <= 7 * 86_400, "instruments.every_s", every_s, "30 to 604800")
    for name, port in (("gateway.port", settings.gateway.port), ("redis.port", settings.redis.port)):
        need(0 < port < 65_536, name, port, "1 to 65535")
    need(1 <= settings.gateway.workers <= 256, "gateway.workers", settings.gateway.workers, "1 to 256")
    need(0 <= settings.gateway.drain_s <= 600, "gateway.drain_s", settings.gateway.drain_s, "0 to 600")
    books = settings.books
    need(1 <= books.levels <= 5000, "books.levels", books.levels, "1 to 5000")
    need(books.kept >= books.levels, "books.kept", books.kept, f"at least books.levels ({books.levels})")
    need(books.snapshot_every >= 1, "books.snapshot_every", books.snapshot_every, "1 or more")
    need(
        settings.publisher.log_books >= 2 * books.snapshot_every,
        "publisher.log_books",
        settings.publisher.log_books,
        f"at least twice books.snapshot_every ({2 * books.snapshot_every})",
    )
    need(books.depth_per_s > 0, "books.depth_per_s", books.depth_per_s, "more than 0")
    archive = settings.archive
    need(10 <= archive.poll_ms <= 60_000, "archive.poll_ms", archive.poll_ms, "10 to 60000")
    need(archive.rotate_s > 0, "archive.rotate_s", archive.rotate_s, "more than 0")
    need(bool(archive.channels), "archive.channels", [], "at least one pattern, such as *")
    need(settings.redis.prefix != "", "redis.prefix", settings.redis.prefix, "a text that is not empty")
    check_access(settings.gateway.auth, settings.gateway.limits)
    check_consolidator(settings.consolidator)
    for origin in settings.gateway.origins:
        allowed = "origins such as https://example.org"
        need(re.fullmatch(r"https?://[^/\s*]+", origin) is not None, "gateway.origins", origin, allowed)
