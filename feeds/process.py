"""One venue's feed as a process: lease and pulse, instruments, publisher, runner, in that order; and back.

Readers learn of each step: the pulse beats from the moment the lease is held, and the venue's status says what is
missing until the first connection is live.
"""

import asyncio
import logging
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from feeds.adapter import Adapter
from feeds.backoff import Backoff
from feeds.candle_store import CandleStore
from feeds.connection import Connection
from feeds.fetches import FetchQueue
from feeds.pipeline import Pipeline
from feeds.registry import adapter_of, credentials_of
from feeds.repairs import Repairs
from feeds.rest import RestClient, SharedLimiter
from feeds.runner import Runner
from hub.config import Settings, VenueSettings
from hub.errors import ConfigError, FetchError, WireError
from hub.history import open_history
from hub.instrument_store import InstrumentStore
from hub.instruments import Instrument, InstrumentTable
from hub.intervals import INTERVALS
from hub.keys import VENUE_WIDE, Keys, channel_name, parse_channel
from hub.lease import Lease, new_holder
from hub.publisher import Publisher
from hub.publishing import publish_while, serve_report
from hub.redisio import check, command_client
from hub.venues import ChannelReport, FeedReport

__all__ = ["Feed"]

log = logging.getLogger(__name__)

PULSE_S = 1.0
#: How often readers are counted while books are missing.
READERS_S = 2.0


class VenueRunner(Protocol):
    """Runner, and feeds.polled.PollRunner."""

    @property
    def reconnects(self) -> int: ...
    @property
    def connections(self) -> Sequence[Connection]: ...
    async def run(self) -> None: ...
    def add(self, rows: Sequence[Instrument]) -> None: ...
    async def remove(self, symbols: Collection[str], reason: str) -> None: ...


class Feed:
    """Everything one venue's process does. `run` returns when cancelled, after a flush."""

    def __init__(self, venue: str, settings: Settings, reload: Callable[[], Settings] | None = None) -> None:
        """`reload` reads the settings again, on SIGHUP."""
        self.venue = venue
        self.reload = reload
        self.settings = settings
        self.own: VenueSettings = settings.venues.get(venue, VenueSettings())
        self.adapter: type[Adapter] = adapter_of(venue, self.own.feed, self.own.plan)
        if not self.own.enabled:
            raise ConfigError(f"venues.{venue}.enabled is false: nothing to run")
        self.keys = Keys(settings.redis.prefix)
        self.symbols = self.own.symbols or list(self.adapter.default_symbols)
        self.redis: Redis = command_client(settings.redis.address)
        self.lease = Lease(self.redis, self.keys, venue, new_holder())
        self.store = InstrumentStore(self.redis, self.keys)
        self.credentials = credentials_of(self.adapter)
        limits = self.adapter.limits
        self.rest = RestClient(self.adapter, self._limiter(), self.own.rest_url, self.credentials)
        self.connects = SharedLimiter(
            self.redis, self.keys, venue, "connects", limits.connects, limits.connects_window_s
        )
        self.candles = CandleStore(self.redis, self.keys, venue, self._asked_for())
        self.runner: VenueRunner | None = None
        self.rows: list[Instrument] = []
        self.reported: FeedReport | None = None
        self.readers: Counter[str] = Counter()
        """by symbol, while books are missing"""
        self._reread = asyncio.Event()

    async def run(self) -> None:
        """Publish the venue until cancelled; HubError says why it cannot."""
        await check(self.settings.redis.address)
        epoch = await self.lease.acquire()
        log.info("lease taken venue=%s epoch=%d holder=%s", self.venue, epoch, self.lease.holder)
        history = await open_history(self.redis) if self.settings.history.enabled else None
        self.publisher = Publisher(
            self.settings.redis.address,
            self.keys,
            self.venue,
            self.lease,
            epoch,
            history,
            self.settings.publisher,
            self.settings.history,
            self._new_epoch,
        )
        self.pipeline = self._pipeline()
        self.fetches = FetchQueue(self.rest, self.pipeline.counters, self.readers.__getitem__)
        serve_report(self.settings.metrics, self.publisher, lambda: self.reported)
        try:
            await publish_while(
                self.publisher,
                self._pulse(), self._work(), self._count_readers(), self._follow_settings(),
                end=self._last_words,
            )  # fmt: skip
        finally:
            await self._end()

    async def _last_words(self) -> None:
        self.pipeline.venue_state("down", "the feed was stopped", time.time_ns())
        await asyncio.shield(self.publisher.drain())
        await asyncio.shield(self.candles.keep(self.pipeline))

    async def _end(self) -> None:
        await self.lease.give_up()
        await self.rest.close()
        await self.redis.aclose()
        log.info("feed ended venue=%s published=%d", self.venue, self.publisher.counters["published"])

    async def _work(self) -> None:
        table = await self._instruments()
        rows = [table.get(symbol) for symbol in self.symbols]
        await self._retire_leftovers()
        self.publisher.know(rows)
        for row in rows:
            self.pipeline.add(row)
        await self.candles.go_on(self.pipeline)
        self.runner = await self._make_runner(rows)
        await self.runner.run()

    # what is different where a venue is polled (feeds/polled_feed.py)

    def _limiter(self) -> SharedLimiter:
        limits = self.adapter.limits
        return SharedLimiter(self.redis, self.keys, self.venue, "rest", limits.rest_weight, limits.rest_window_s)

    def _pipeline(self) -> Pipeline:
        return Pipeline(self.adapter, self.own.kinds, self.settings.books, self.settings.candles, self.publisher)

    async def _make_runner(self, rows: Sequence[Instrument]) -> VenueRunner:
        return Runner(
            self.adapter,
            rows,
            self.pipeline,
            self.fetches,
            self.connects,
            self.own.ws_url,
            self.settings.books.levels,
            self.credentials,
        )

    def _asked_for(self) -> frozenset[str]:
        """Return the candle intervals that the venue is asked for where trades were missed."""
        wanted = self.settings.candles
        asked = "candle" in self.own.kinds and wanted.repair_max > 0
        return Repairs.intervals(self.adapter).intersection(wanted.intervals) if asked else frozenset()

    # symbols that come and go

    async def _retire_leftovers(self) -> None:
        """Take away what an earlier run published and this one will not: it would pass for current."""
        try:
            members: Any = await self.redis.smembers(self.keys.channels)
        except (RedisError, OSError) as error:
            log.warning("channels of earlier runs not read venue=%s error=%s", self.venue, error)
            return
        wanted = {VENUE_WIDE, *self.symbols}
        for member in members:
            channel = parse_channel(member.decode())
            if channel.venue == self.venue and channel.symbol not in wanted:
                self.publisher.retire(channel.kind, channel.symbol)

    async def _follow_settings(self) -> None:
        """On SIGHUP read the settings again and change what changed among the symbols, nothing else."""
        if self.reload is None:
            return
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reread.set)
        while True:
            await self._reread.wait()
            self._reread.clear()
            while self.runner is None:  # noqa: ASYNC110 - the venue is still being asked what it lists
                await asyncio.sleep(0.1)
            try:
                await self._change_symbols(self.reload())
            except (ConfigError, FetchError, WireError) as error:
                log.error("settings not taken over venue=%s reason=%s", self.venue, error)

    async def _change_symbols(self, settings: Settings) -> None:
        own = settings.venues.get(self.venue, VenueSettings())
        wanted = own.symbols or list(self.adapter.default_symbols)
        added = [symbol for symbol in wanted if symbol not in self.symbols]
        removed = [symbol for symbol in self.symbols if symbol not in wanted]
        rows = await self._listed(added) if added else []
        assert self.runner is not None
        await self.runner.remove(removed, "no longer in the settings")
        for symbol in removed:
            self.publisher.retire_all(symbol)
        self.publisher.know(rows)
        told = await self.candles.last_told([row.symbol for row in rows])
        self.runner.add(rows)
        for symbol, starts in told.items():
            self.pipeline.ask_since(symbol, starts)
        found = {row.symbol for row in rows}
        self.symbols = [symbol for symbol in wanted if symbol not in added or symbol in found]
        log.info("symbols changed venue=%s added=%s removed=%s", self.venue, ",".join(sorted(found)), ",".join(removed))

    async def _listed(self, symbols: Sequence[str]) -> list[Instrument]:
        """Return the instruments of `symbols`; one that the venue does not list is left out, and said."""
        table = InstrumentTable(self.venue, self.rows)
        if any(symbol not in table.by_symbol for symbol in symbols):
            table = await self._load()
        missing = [symbol for symbol in symbols if symbol not in table.by_symbol]
        if missing:
            log.error("not listed by the venue, left out venue=%s symbols=%s", self.venue, ",".join(missing))
        return [table.get(symbol) for symbol in symbols if symbol not in missing]

    async def _count_readers(self) -> None:
        """Learn which books somebody waits for, so that they are fetched first."""
        while True:
            await asyncio.sleep(READERS_S)
            symbols = [row.symbol for row in self.pipeline.instruments]
            if self.pipeline.books_live >= self.pipeline.books_wanted or not self.fetches:
                continue
            names = [self.keys.newest(channel_name("book", self.venue, symbol)) for symbol in symbols]
            try:
                counts = await self.redis.pubsub_numsub(*names)
            except (RedisError, OSError) as error:
                log.warning("readers not counted venue=%s error=%s", self.venue, error)
                continue
            self.readers.clear()
            self.readers.update({symbol: count for symbol, (_, count) in zip(symbols, counts, strict=True) if count})

    # instruments

    async def _instruments(self) -> InstrumentTable:
        """Load what the venue lists, for as long as it takes; the venue is `down` meanwhile."""
        backoff = Backoff()
        while True:
            try:
                return await self._load()
            except (FetchError, WireError) as error:
                delay_s = backoff.next_s()
                self.pipeline.venue_state("down", f"cannot reach {self.rest.base_url}: {error}", time.time_ns())
                log.error(
                    "venue cannot be reached venue=%s reason=%s retry_s=%.1f; "
                    "`make demo` runs on recorded sessions without a network", self.venue, error, delay_s,
                )  # fmt: skip
                await asyncio.sleep(delay_s)

    async def _load(self) -> InstrumentTable:
        lists = await self.rest.fetch_lists(self.adapter)
        rows = [row for _, body, _ in lists for row in self.adapter.parse_instruments(body)]
        table = InstrumentTable(self.venue, rows)
        self.rows = list(table)
        rejected = len(table.rejected)
        log.info("instruments loaded venue=%s count=%d rejected=%d", self.venue, len(table), rejected)
        await self._store(self.rows, whole=True)
        return table

    async def _store(self, rows: Sequence[Instrument], *, whole: bool = False) -> None:
        """Store `rows`; `whole`: the venue lists no others."""
        expected = self.adapter.on_list if whole else None
        try:
            intervals = sorted(self.adapter.candle_intervals, key=INTERVALS.__getitem__)
            merged = await self.store.store(self.venue, rows, intervals, time.time_ns(), expected)
        except (RedisError, OSError) as error:
            log.warning("instruments not stored venue=%s error=%s", self.venue, error)
            return
        if merged.doubt:
            log.warning("list of instruments in doubt venue=%s reason=%s", self.venue, merged.doubt)

    async def _pulse(self) -> None:
        while True:
            try:
                await self.rest.limiter.look()
                self.reported = self.report()
                await self.lease.renew(self.publisher.epoch, msgspec.json.encode(self.reported))
            except (RedisError, OSError) as error:
                log.warning("pulse missed venue=%s error=%s", self.venue, error)
            await asyncio.sleep(PULSE_S)

    def _new_epoch(self, reason: str) -> None:
        self.pipeline.new_epoch(f"new epoch: {reason}", time.time_ns())
        if self.rows:
            self._storing = asyncio.ensure_future(self._store(self.rows))

    def report(self) -> FeedReport:
        """Describe this feed for readers."""
        connections = self.runner.connections if self.runner is not None else []
        counters = Counter(self.pipeline.counters)
        counters.update(self.publisher.counters)
        counters["reconnects"] = self.runner.reconnects if self.runner is not None else 0
        received = counters.pop("bytes", 0) + sum(connection.bytes for connection in connections)
        kinds = {kind: ChannelReport(messages=n, ts_recv=ts) for kind, (n, ts) in self.pipeline.totals().items()}
        banned = self.rest.banned_until_ms
        return FeedReport(
            venue=self.venue,
            epoch=self.publisher.epoch,
            holder=self.lease.holder,
            symbols=self.symbols,
            books_live=self.pipeline.books_live,
            books_wanted=self.pipeline.books_wanted,
            connections=[connection.report() for connection in connections],
            kinds=kinds,
            counters=dict(counters),
            rest_banned_until=banned if banned is not None and banned > time.time() * 1000 else None,
            latency=self.publisher.latencies.report(),
            budget=self.rest.limiter.budget(),
            bytes=received,
            ts=time.time_ns(),
        )
