"""The feed of a venue that is polled: the process of every feed, with another runner and a plan's limits.

Every call counts here, so a start asks for as little as it can: instruments that are stored are taken from there, and
what the run before brought is not asked for again before its time.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from msgspec import structs
from redis.exceptions import RedisError

from feeds.ledger import CandleLedger
from feeds.pipeline import Pipeline
from feeds.polled import PollRunner, intervals_of
from feeds.poller import Poller
from feeds.process import Feed
from feeds.quota import PlanLimiter, account_of
from feeds.rest import SharedLimiter
from hub.config import Settings
from hub.errors import FetchError, FetchRefused, RedisUnavailable, UnknownInstrument
from hub.instruments import Instrument, InstrumentTable
from hub.keys import channel_name
from hub.listing import DELISTED
from hub.model import CANDLE_TYPES, Message, Quote, Ticker
from hub.reader import Reader
from hub.venues import FeedReport

__all__ = ["PolledFeed"]

log = logging.getLogger(__name__)


class PolledFeed(Feed):
    """One venue's polling process."""

    adapter: type[Poller]

    def __init__(self, venue: str, settings: Settings, reload: Callable[[], Settings] | None = None) -> None:
        super().__init__(venue, settings, reload)
        wanted = settings.candles.intervals
        self.intervals = intervals_of(self.adapter, wanted) if "candle" in self.own.kinds else []

    def _limiter(self) -> SharedLimiter:
        account = account_of(self.credentials)
        self.limiter = PlanLimiter(self.redis, self.keys, self.venue, self.adapter.plan, account)
        return self.limiter

    def _pipeline(self) -> Pipeline:
        # Candles come from the venue: none are built here.
        kinds = [kind for kind in self.own.kinds if kind != "candle"]
        return Pipeline(self.adapter, kinds, self.settings.books, self.settings.candles, self.publisher)

    def _asked_for(self) -> frozenset[str]:
        return frozenset()  # what there is comes by polling, nothing else is missing

    # instruments

    async def _load(self) -> InstrumentTable:
        """Find the configured symbols: among what is stored, by search, or in the venue's whole list."""
        found = await self._found(self.symbols)
        table = InstrumentTable(self.venue, found)
        self.rows = list(table)
        log.info("instruments found venue=%s count=%d", self.venue, len(table))
        return table

    async def _listed(self, symbols: Sequence[str]) -> list[Instrument]:
        try:
            return await self._found(symbols)
        except UnknownInstrument as error:
            log.error("not listed by the venue, nothing is added: %s", error)
            return []

    async def _found(self, symbols: Sequence[str]) -> list[Instrument]:
        stored: list[Instrument] = []
        with suppress(RedisError, OSError):
            stored = [row for row in (await self.store.load(self.venue)).values() if row.status != DELISTED]
        found, missing = self.adapter.find(symbols, stored)
        if missing:
            asked = await self._searched(missing)
            more, missing = self.adapter.find(missing, asked)
            found += more
        for symbol in missing:
            raise UnknownInstrument(self.venue, symbol, InstrumentTable(self.venue, stored).near(symbol))
        order = {symbol: at for at, symbol in enumerate(symbols)}
        await self._store(found)
        return sorted(found, key=lambda row: order[row.symbol])

    async def _searched(self, missing: Sequence[str]) -> list[Instrument]:
        rows: list[Instrument] = []
        for symbol in missing:
            fetch = self.adapter.search(symbol)
            if fetch is None:
                lists = await self.rest.fetch_lists(self.adapter)
                listed = [row for _, body, _ in lists for row in self.adapter.parse_instruments(body)]
                await self._store(listed, whole=True)
                return listed
            try:
                rows += self.adapter.parse_instruments(await self.rest.fetch(fetch))
            except FetchRefused as error:
                if error.venue_wide:
                    raise FetchError(self.venue, fetch.resource, error.reason) from None
        return rows

    # polling

    async def _make_runner(self, rows: Sequence[Instrument]) -> PollRunner:
        ledger = CandleLedger()
        runner = PollRunner(
            self.adapter, rows, self.pipeline, self.rest, self.own.kinds, self.intervals, self.own.poll_s, ledger
        )
        reader = Reader(self.settings.redis.address, self.keys)
        try:
            await self.limiter.read()
            await self._resume(runner, reader)
        except RedisUnavailable as error:
            log.warning("what an earlier run brought is not known venue=%s error=%s", self.venue, error)
        finally:
            await reader.close()
        return runner

    async def _resume(self, runner: PollRunner, reader: Reader) -> None:
        """Learn what the run before told, and when it was answered."""
        brought: dict[tuple[str, str], int] = {}
        for symbol in runner.rows:
            for interval in self.intervals:
                name = channel_name(f"candle.{interval}", self.venue, symbol)
                candles = await reader.log(name, CandleLedger.KEPT, CANDLE_TYPES[interval])
                for candle in candles:
                    runner.ledger.note(candle)
                if candles:
                    brought[symbol, f"candle.{interval}"] = max(candle.ts_recv for candle in candles)
        kinds: list[tuple[str, type[Message]]] = [("ticker", Ticker), ("quote", Quote)]
        for kind, struct in kinds:
            names = {channel_name(kind, self.venue, symbol): symbol for symbol in runner.rows}
            for name, message in (await reader.newest(list(names), struct)).items():
                brought[names[name], kind] = message.ts_recv
        for job in runner.schedule.jobs:
            # Of a rate there may be no quote: what any of its kinds brought counts.
            times = [max(brought.get((row.symbol, kind), 0) for kind in job.kinds) for row in job.instruments]
            if times and all(times):
                runner.schedule.resume(job, min(times))

    def report(self) -> FeedReport:
        report = super().report()
        name = next((name for name, plan in self.adapter.plans.items() if plan == self.adapter.plan), "")
        pace = self.runner.pace if isinstance(self.runner, PollRunner) else None
        return structs.replace(report, plan=name, pace=pace, budget=self.limiter.budget())
