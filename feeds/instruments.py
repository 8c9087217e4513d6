"""`python -m feeds.instruments`: keep every venue's list of instruments up to date, and tell what changed.

Each venue has its own schedule: one that cannot be reached is tried again later and later, and costs the others
nothing. What is asked for leaves half of the venue's budget to its feed.
"""

import argparse
import asyncio
import logging
import random
import time
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.asyncio import Redis
from redis.exceptions import RedisError

from feeds.adapter import Adapter
from feeds.backoff import Backoff
from feeds.listings import Listings
from feeds.poller import Poller
from feeds.quota import PlanLimiter, account_of
from feeds.registry import VENUES, adapter_of, credentials_of
from feeds.rest import RestClient, SharedLimiter
from hub.cli.parts import venues_of
from hub.config import Settings, VenueSettings
from hub.errors import ConfigError, FetchError, RateLimited, WireError
from hub.instrument_store import InstrumentStore, Sync
from hub.instruments import InstrumentTable
from hub.intervals import INTERVALS
from hub.keys import Keys
from hub.lease import Lease, new_holder
from hub.metrics import serve_metrics
from hub.processes import load_or_exit, run
from hub.redisio import check, command_client

__all__ = ["Instruments", "VenueSync"]

log = logging.getLogger(__name__)

#: The name of this process's lease: no venue can have it.
LEASE = "instruments:sync"
RENEW_S = 1.0
#: A failed list is tried again after these seconds, and later and later.
RETRY_S, RETRY_MAX_S = 10.0, 1800.0
#: After a start the feeds come first: they need the same lists, and what they fetched is not fetched again.
START_S = 10.0
LOOK_S = 5.0


class VenueSync:
    """One venue's list."""

    def __init__(self, venue: str, settings: Settings, store: InstrumentStore, client: Redis, keys: Keys) -> None:
        own = settings.venues.get(venue, VenueSettings())
        self.venue, self.store = venue, store
        self.rows = self.failures = 0
        self.renewed = 0.0
        self.adapter: type[Adapter] = adapter_of(venue, own.feed, own.plan)
        self.every_s = settings.instruments.every_s
        if issubclass(self.adapter, Poller):
            # Calls are few there, and lists of stocks and coins change from day to day.
            self.every_s = max(self.every_s, 86_400.0)
        credentials = credentials_of(self.adapter)
        limiter = _limiter(self.adapter, client, keys, account_of(credentials))
        self.rest = RestClient(self.adapter, limiter, own.rest_url, credentials)

    async def run(self) -> None:
        """Renew the list whenever it is due, until cancelled."""
        backoff = Backoff(RETRY_S, RETRY_MAX_S)
        await asyncio.sleep(random.uniform(START_S / 2, START_S))
        try:
            while True:
                # Looked at again and again: a feed may have fetched the list, and Redis may have lost it.
                while (due_s := await self._due_s()) > 0:  # noqa: ASYNC110
                    await asyncio.sleep(min(due_s, LOOK_S))
                try:
                    await self._renew()
                    backoff.reset()
                    continue
                except (FetchError, WireError) as error:
                    delay_s = backoff.next_s()
                    if isinstance(error, RateLimited):
                        delay_s = max(delay_s, error.until_ms / 1000 - time.time())
                    log.warning("list not renewed venue=%s reason=%s retry_s=%.0f", self.venue, error, delay_s)
                    await self._failed(str(error))
                except (RedisError, OSError) as error:
                    delay_s = backoff.next_s()
                    log.warning("list not stored venue=%s reason=%s retry_s=%.0f", self.venue, error, delay_s)
                await asyncio.sleep(delay_s)
        finally:
            await self.rest.close()

    async def _due_s(self) -> float:
        """Return the seconds until the list is due: one that its feed fetched a moment ago is not asked for again."""
        try:
            sync = (await self.store.syncs([self.venue])).get(self.venue, Sync())
        except (RedisError, OSError):
            return RETRY_S
        last = max(sync.ts or 0, sync.error_ts or 0) / 1e9
        return max(0.0, last + self.every_s - time.time())

    async def _renew(self) -> None:
        lists = await self.rest.fetch_lists(self.adapter)
        rows = [row for _, body, _ in lists for row in self.adapter.parse_instruments(body)]
        table = InstrumentTable(self.venue, rows)
        intervals = sorted(self.adapter.candle_intervals, key=INTERVALS.__getitem__)
        merged = await self.store.store(self.venue, table, intervals, time.time_ns(), self.adapter.on_list)
        self.rows, self.renewed = len(table), time.time()
        level = logging.WARNING if merged.doubt else logging.INFO
        log.log(
            level, "list renewed venue=%s count=%d changes=%d forgotten=%d doubt=%s",
            self.venue, len(table), len(merged.changes), len(merged.forgotten), merged.doubt,
        )  # fmt: skip

    async def _failed(self, reason: str) -> None:
        self.failures += 1
        try:
            await self.store.failed(self.venue, reason, time.time_ns())
        except (RedisError, OSError) as error:
            log.warning("failure not noted venue=%s reason=%s", self.venue, error)


def _limiter(adapter: type[Adapter], client: Redis, keys: Keys, account: str) -> SharedLimiter:
    limits = adapter.limits
    spare = limits.rest_weight / 2
    if issubclass(adapter, Poller):
        return PlanLimiter(client, keys, adapter.venue, adapter.plan, account, spare=spare)
    return SharedLimiter(client, keys, adapter.venue, "rest", limits.rest_weight, limits.rest_window_s, spare=spare)


class SyncCollector(Collector):
    """How the lists are: rows, age, failures."""

    def __init__(self, syncs: Sequence[VenueSync]) -> None:
        self._syncs = syncs

    def collect(self) -> Iterator[Metric]:
        rows = GaugeMetricFamily("tickwire_instruments", "Rows of the last good list.", labels=["venue"])
        renewed = GaugeMetricFamily(
            "tickwire_instruments_renewed_timestamp_seconds", "When that came, unix time.", labels=["venue"]
        )
        failures = CounterMetricFamily("tickwire_instruments_failures", "Lists not renewed.", labels=["venue"])
        for sync in self._syncs:
            rows.add_metric([sync.venue], sync.rows)
            renewed.add_metric([sync.venue], sync.renewed)
            failures.add_metric([sync.venue], sync.failures)
        yield from (rows, renewed, failures)


class Instruments:
    """The process. `run` returns when cancelled; LeaseHeld where another one runs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = Keys(settings.redis.prefix)
        self.client = command_client(settings.redis.address)
        self.store = InstrumentStore(self.client, self.keys)
        self.lease = Lease(self.client, self.keys, LEASE, new_holder())
        self.syncs = [sync for venue in self._venues() if (sync := self._sync(venue)) is not None]

    def _venues(self) -> Sequence[str]:
        named = self.settings.instruments.venues
        for venue in named:
            if venue not in VENUES:
                raise ConfigError(
                    f"instruments.venues: there is no venue {venue!r}; known: {', '.join(sorted(VENUES))}"
                )
        return named or [venue for venue in venues_of(self.settings) if venue in VENUES]

    def _sync(self, venue: str) -> VenueSync | None:
        try:
            return VenueSync(venue, self.settings, self.store, self.client, self.keys)
        except ConfigError as error:
            log.error("no list of this venue: %s", error)
            return None

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            await check(self.settings.redis.address)
            if port := serve_metrics(self.settings.metrics, SyncCollector(self.syncs)):
                log.info("metrics process=instruments port=%d", port)
            listings = Listings(self.settings, self.store, self.lease, await self.lease.acquire())
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hold())
                group.create_task(listings.run())
                for sync in self.syncs:
                    group.create_task(sync.run())
        finally:
            await asyncio.shield(self._end())

    async def _hold(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self.lease.confirm()
            except (RedisError, OSError) as error:
                log.warning("lease not renewed error=%s", error)

    async def _end(self) -> None:
        await self.lease.give_up()
        await self.client.aclose()


def main() -> None:
    """Parse the command line and run until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m feeds.instruments", description="Keep lists of instruments.")
    parser.add_argument("--config", help="TOML file; default $TICKWIRE_CONFIG, then hub.toml")
    settings = load_or_exit(parser.parse_args().config)

    async def work() -> None:
        await Instruments(settings).run()

    run(work, "instruments", settings)


if __name__ == "__main__":
    main()
