"""Keeps one venue running: connections over symbols, reconnects, rotation, the clock.

Each shard of symbols has one connection that carries it. When that ends, its symbols are marked at once and a new one
is tried after a capped, jittered backoff. Before the venue cuts it by force, the next one is made ready first.
"""

import asyncio
import logging
import random
import time
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from feeds.adapter import Adapter, Fetch, Subscription
from feeds.backoff import Backoff
from feeds.connection import Connection
from feeds.fetches import FetchQueue
from feeds.pipeline import Pipeline
from feeds.repairs import Repairs
from feeds.rest import SharedLimiter
from hub.errors import WireError
from hub.instruments import Instrument
from hub.model import Candle

__all__ = ["Runner", "shards", "url_of"]

log = logging.getLogger(__name__)

TICK_S = 0.05
READY_TIMEOUT_S = 60.0
ROTATE_RETRY_S = 60.0


def shards(subs: Sequence[Subscription], adapter: Adapter) -> Iterator[list[Subscription]]:
    """Split subscriptions over connections by endpoint and the venue's limit; those of one symbol stay together."""
    endpoints: dict[str, list[Subscription]] = {}
    for sub in subs:
        endpoints.setdefault(adapter.endpoint_of(sub.kind, sub.instrument), []).append(sub)
    for own in endpoints.values():
        yield from _split(own, adapter)


def url_of(adapter: type[Adapter], endpoint: str, base: str) -> str:
    """Return the URL of an endpoint; `base` (scheme and host), where given, stands in for the venue's own."""
    url = adapter.endpoints[endpoint]
    return base.rstrip("/") + urlsplit(url)._replace(scheme="", netloc="").geturl() if base else url


def _split(subs: Sequence[Subscription], adapter: Adapter) -> Iterator[list[Subscription]]:
    limits = adapter.limits
    shard: list[Subscription] = []
    symbols = 0
    for group in _by_symbol(subs):
        full = limits.symbols_per_connection and symbols >= limits.symbols_per_connection
        if shard and (full or len(adapter.venue_channels([*shard, *group])) > limits.streams_per_connection):
            yield shard
            shard, symbols = [], 0
        shard += group
        symbols += 1
    if shard:
        yield shard


def _by_symbol(subs: Sequence[Subscription]) -> list[list[Subscription]]:
    groups: dict[str, list[Subscription]] = {}
    for sub in subs:
        groups.setdefault(sub.instrument.symbol, []).append(sub)
    return list(groups.values())


class Runner:
    """Runs the connections of one venue; `run` ends only when cancelled."""

    def __init__(
        self,
        adapter: type[Adapter],
        instruments: Sequence[Instrument],
        pipeline: Pipeline,
        fetches: FetchQueue,
        connects: SharedLimiter,
        ws_url: str,
        book_levels: int,
        credentials: Sequence[str] = (),
    ) -> None:
        self.adapter, self.instruments, self.pipeline = adapter, list(instruments), pipeline
        self.fetches, self.connects, self.book_levels = fetches, connects, book_levels
        self.ws_url, self.credentials = ws_url, credentials
        self.connections: list[Connection] = []
        self.reconnects = 0
        self.repairs = Repairs(adapter)
        self._generation = 0
        kinds = [kind for kind in adapter.channels if kind in pipeline.kinds]
        self.subs = [Subscription(kind, row) for row in self.instruments for kind in kinds]

    async def run(self) -> None:
        """Serve all symbols until cancelled."""
        self.pipeline.started(time.time_ns())
        urls = ", ".join(url_of(self.adapter, name, self.ws_url) for name in self.adapter.endpoints)
        self.pipeline.venue_state("down", f"connecting to {urls}", time.time_ns())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ticks())
            group.create_task(self.fetches.run())
            for shard in shards(self.subs, self._adapter([], "")):
                group.create_task(self._serve(shard))

    def _adapter(self, subs: Sequence[Subscription], endpoint: str) -> Adapter:
        rows = {sub.instrument.symbol: sub.instrument for sub in subs}
        return self.adapter(list(rows.values()), self.book_levels, endpoint, self.credentials)

    def _connection(self, shard: Sequence[Subscription]) -> Connection:
        self._generation += 1
        endpoint = self.adapter.endpoint_of(shard[0].kind, shard[0].instrument)
        adapter, url = self._adapter(shard, endpoint), url_of(self.adapter, endpoint, self.ws_url)
        return Connection(adapter, url, shard, self.pipeline, self.fetches.submit, self._generation)

    # connections

    async def _serve(self, shard: Sequence[Subscription]) -> None:
        backoff = Backoff()
        while True:
            await self.connects.take(1)
            connection = self._connection(shard)
            reason = await self._live(connection, backoff)
            now = time.time_ns()
            self.pipeline.lost(connection.source, connection.symbols, reason, now)
            self._venue_state(reason)
            delay_s = max(backoff.next_s(), self.adapter.limits.reconnect_s)
            self.reconnects += 1
            hint = "" if connection.frames else "; `make demo` runs on recorded sessions without a network"
            log.warning("connection lost venue=%s reason=%s retry_s=%.1f%s", self.adapter.venue, reason, delay_s, hint)
            await asyncio.sleep(delay_s)

    async def _live(self, connection: Connection, backoff: Backoff) -> str:
        """Run `connection`, and those that replace it in time; returns why the last one ended."""
        task = self._start(connection)
        try:
            while True:
                due_s = self.adapter.limits.lifetime_s * random.uniform(0.85, 0.95)
                if not await self._until_rotation(connection, task, due_s, backoff):
                    return await task
                successor = self._connection(connection.subs)
                await self.connects.take(1)
                next_task = self._start(successor)
                if await self._ready(successor, next_task):
                    log.info("rotated venue=%s symbols=%d", self.adapter.venue, len(connection.symbols))
                    self._drop(connection)
                    await connection.close()
                    await task
                    connection, task = successor, next_task
                else:
                    self._drop(successor)
                    await _end(next_task)
                    connection.rotate.clear()
                    asyncio.get_running_loop().call_later(ROTATE_RETRY_S, connection.rotate.set)
        finally:
            self._drop(connection)
            await _end(task)

    def _start(self, connection: Connection) -> asyncio.Task[str]:
        self.connections.append(connection)
        return asyncio.create_task(connection.run(), name=f"connection-{connection.source.generation}")

    def _drop(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)

    async def _until_rotation(
        self, connection: Connection, task: asyncio.Task[str], due_s: float, backoff: Backoff
    ) -> bool:
        """Wait while `connection` runs. True when it is to be replaced, False when it ended."""
        end = time.monotonic() + due_s
        live = False
        while time.monotonic() < end and not connection.rotate.is_set():
            done, _ = await asyncio.wait({task}, timeout=0.1 if not live else 1.0)
            if done:
                return False
            if connection.settled and not live:
                live = True
                self._venue_state("")
            if connection.frames > len(connection.acked):
                backoff.reset()
            if self.pipeline.silent(connection.symbols):
                log.warning("every stream is silent, reconnecting venue=%s", self.adapter.venue)
                await connection.close()
        return not task.done()

    async def _ready(self, successor: Connection, task: asyncio.Task[str]) -> bool:
        end = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < end and not task.done():
            if successor.ready:
                return True
            await asyncio.sleep(0.05)
        return False

    def _venue_state(self, reason: str) -> None:
        now = time.time_ns()
        if any(connection.open and connection.settled for connection in self.connections):
            self.pipeline.venue_state("live", "connected", now)
        else:
            self.pipeline.venue_state("down", reason, now)

    # time

    async def _ticks(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for instrument, due in self.pipeline.tick(time.time_ns()):
                self.repairs.add(instrument, due)
            if any(connection.settled for connection in self.connections):
                for fetch, starts in self.repairs.take():
                    self._repair(fetch, starts)

    def _repair(self, fetch: Fetch, starts: frozenset[int]) -> None:
        def done(fetch: Fetch, body: bytes) -> None:
            assert fetch.instrument is not None
            try:
                events = self._adapter([Subscription("candle", fetch.instrument)], "").snapshot(
                    fetch, body, time.time_ns()
                )
            except WireError as error:
                self.pipeline.counters["wire_errors"] += 1
                log.warning("candles not repaired %s", error)
                return
            for candle in events:
                if isinstance(candle, Candle) and candle.start in starts:
                    self.pipeline.counters["candles_repaired"] += 1
                    self.pipeline.sink.publish(candle)

        self.fetches.submit(fetch, done, lambda: True)


async def _end(task: asyncio.Task[str]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
