"""Keeps one venue running: symbols over shards, the clock, candles that only the venue can tell."""

import asyncio
import logging
import time
from collections.abc import Collection, Sequence

from feeds.adapter import Adapter, Fetch, Subscription
from feeds.connection import Connection
from feeds.fetches import FetchQueue
from feeds.pipeline import Pipeline
from feeds.repairs import Repairs, Request
from feeds.rest import LocalLimiter
from feeds.shard import Shard
from feeds.sharding import by_endpoint, by_symbol, shards, url_of
from hub.errors import WireError
from hub.instruments import Instrument
from hub.model import Candle

__all__ = ["Runner"]

log = logging.getLogger(__name__)

TICK_S = 0.05
#: Between two connections to a venue, however many its budget would let through at once.
OPEN_GAP_S = 0.2
PROGRESS_S = 5.0


class Runner:
    """Runs the connections of one venue; `run` ends only when cancelled."""

    def __init__(
        self,
        adapter: type[Adapter],
        instruments: Sequence[Instrument],
        pipeline: Pipeline,
        fetches: FetchQueue,
        connects: LocalLimiter,
        ws_url: str,
        book_levels: int,
        credentials: Sequence[str] = (),
    ) -> None:
        self.adapter, self.pipeline = adapter, pipeline
        self.fetches, self.connects, self.book_levels = fetches, connects, book_levels
        self.ws_url, self.credentials = ws_url, credentials
        self.shards: list[Shard] = []
        self.repairs = Repairs(adapter, pipeline.counters, flat=pipeline.flat)
        self._ended = 0
        self._first = list(instruments)
        self._generation = 0
        self._opened = 0.0
        self._opening = asyncio.Lock()
        self._group: asyncio.TaskGroup | None = None
        self._warming = asyncio.Event()

    @property
    def connections(self) -> list[Connection]:
        return [connection for shard in self.shards for connection in shard.connections]

    @property
    def reconnects(self) -> int:
        return self._ended + sum(shard.reconnects for shard in self.shards)

    async def run(self) -> None:
        """Serve all symbols until cancelled."""
        self._expect(self._first)
        urls = ", ".join(url_of(self.adapter, name, self.ws_url) for name in self.adapter.endpoints)
        self.pipeline.venue_state("down", f"connecting to {urls}", time.time_ns())
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._ticks())
            group.create_task(self._progress())
            group.create_task(self.fetches.run())
            for subs in shards(self._subs(self._first), self._adapter([], "")):
                self._serve(subs)
            self._warming.set()

    def _subs(self, rows: Sequence[Instrument]) -> list[Subscription]:
        kinds = [kind for kind in self.adapter.channels if kind in self.pipeline.kinds]
        return [Subscription(kind, row) for row in rows for kind in kinds]

    def _adapter(self, subs: Sequence[Subscription], endpoint: str) -> Adapter:
        rows = {sub.instrument.symbol: sub.instrument for sub in subs}
        return self.adapter(list(rows.values()), self.book_levels, endpoint, self.credentials)

    # symbols

    def add(self, rows: Sequence[Instrument]) -> None:
        """Serve `rows` too: on connections that have room, else on new ones. Those already served go on undisturbed."""
        for row in rows:
            self.pipeline.add(row)
        self._expect(rows)
        left: list[Subscription] = []
        for own in by_endpoint(self._subs(rows), self._adapter([], "")):
            for group in by_symbol(own):
                if not any(shard.add(group) for shard in self.shards):
                    left += group
        for subs in shards(left, self._adapter([], "")):
            self._serve(subs)
        self._warming.set()

    def _expect(self, rows: Sequence[Instrument]) -> None:
        probe = self.adapter(rows, self.book_levels, credentials=self.credentials)
        for row in rows:
            if "book" not in self.adapter.channels or not probe.venue_channels([Subscription("book", row)]):
                self.pipeline.without_book(row.symbol)
        self.pipeline.started(time.time_ns(), [row.symbol for row in rows])

    async def remove(self, symbols: Collection[str], reason: str) -> None:
        """Serve `symbols` no more; their last status gives the reason."""
        for shard in list(self.shards):
            await shard.remove(symbols)
        now = time.time_ns()
        for symbol in symbols:
            self.pipeline.remove(symbol, reason, now)

    # connections

    def _serve(self, subs: Sequence[Subscription]) -> None:
        assert self._group is not None
        shard = Shard(subs, self.adapter, self.pipeline, self._connection, self._admit, self._venue_state)
        self.shards.append(shard)
        self._group.create_task(self._until_empty(shard))

    async def _until_empty(self, shard: Shard) -> None:
        await shard.serve()
        self.shards.remove(shard)
        self._ended += shard.reconnects

    def _connection(self, subs: Sequence[Subscription]) -> Connection:
        self._generation += 1
        endpoint = self.adapter.endpoint_of(subs[0].kind, subs[0].instrument)
        adapter, url = self._adapter(subs, endpoint), url_of(self.adapter, endpoint, self.ws_url)
        return Connection(adapter, url, subs, self.pipeline, self.fetches.submit, self._generation)

    async def _admit(self) -> None:
        """Wait until one more connection may be opened: one after the other, within the venue's budget."""
        async with self._opening:
            wait_s = self._opened + OPEN_GAP_S - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            await self.connects.take(1)
            self._opened = time.monotonic()

    def _venue_state(self, reason: str) -> None:
        now = time.time_ns()
        if any(connection.open and connection.settled for connection in self.connections):
            self.pipeline.venue_state("live", "connected", now)
        else:
            self.pipeline.venue_state("down", reason, now)

    # time

    async def _progress(self) -> None:
        """Say how far the start is, and when it is done; again after symbols were added."""
        while True:
            await self._warming.wait()
            self._warming.clear()
            began = said_at = time.monotonic()
            said = -1
            while True:
                await asyncio.sleep(0.2)
                ready, wanted = self.pipeline.books_live, self.pipeline.books_wanted
                if ready >= wanted:
                    break
                now = time.monotonic()
                if ready != said and now - said_at >= (PROGRESS_S if said >= 0 else 0.5):
                    said, said_at = ready, now
                    log.info("ready %d/%d venue=%s", ready, wanted, self.adapter.venue)
            took_s = time.monotonic() - began
            log.info("ready %d/%d venue=%s seconds=%.1f", ready, wanted, self.adapter.venue, took_s)

    async def _ticks(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now = time.time_ns()
            for instrument, due in self.pipeline.tick(now):
                self.repairs.add(instrument, due)
            if any(connection.settled for connection in self.connections):
                for request in self.repairs.take(now):
                    self._repair(request)
            self.repairs.expire(now)

    def _repair(self, request: Request) -> None:
        def done(fetch: Fetch, body: bytes) -> None:
            now = time.time_ns()
            assert fetch.instrument is not None
            try:
                events = self._adapter([Subscription("candle", fetch.instrument)], "").snapshot(fetch, body, now)
            except WireError as error:
                self.pipeline.counters["wire_errors"] += 1
                log.warning("candles not repaired %s", error)
                events = []
            candles = [event for event in events if isinstance(event, Candle)]
            for candle in self.repairs.answered(request, candles, now):
                self.pipeline.counters["candles_repaired"] += 1
                self.pipeline.repaired(candle)

        self.fetches.submit(request.fetch, done, lambda: self.repairs.waits_for(request))
