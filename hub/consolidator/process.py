"""The consolidator as a process: lease and pulse of venue `all`, publisher, inputs; as a feed, without a venue."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

import msgspec
from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import RedisError

from hub.analytics.registry import choose_measures
from hub.config import Settings
from hub.consolidator.engine import Engine
from hub.consolidator.inputs import Inputs
from hub.errors import ConfigError
from hub.history import open_history
from hub.instruments import Instrument
from hub.keys import ALL_VENUES, Keys
from hub.lease import Lease, new_holder
from hub.model import Message
from hub.publisher import Publisher
from hub.publishing import publish_while, serve_report
from hub.redisio import check, command_client
from hub.venues import ChannelReport, FeedReport

__all__ = ["Consolidator"]

log = logging.getLogger(__name__)

PULSE_S = 1.0
TICK_S = 0.25
DEPTH_TICK_S = 0.02
#: How long the start may wait for what is there to be read, before it says that it is live.
SETTLE_S = 30.0


class Consolidator:
    """Everything the process does. `run` returns when cancelled, after a flush."""

    def __init__(self, settings: Settings) -> None:
        """Raise ConfigError where the settings cannot be used."""
        if not settings.consolidator.enabled:
            raise ConfigError("consolidator.enabled is false: nothing to run")
        self.settings = settings
        self.measures = choose_measures(settings.consolidator.analytics, settings.consolidator.plugins)
        self.keys = Keys(settings.redis.prefix)
        self.redis: Redis = command_client(settings.redis.address)
        self.lease = Lease(self.redis, self.keys, ALL_VENUES, new_holder())
        self.engine = Engine(settings, self.measures, self)
        self.reported: FeedReport | None = None
        self._flushing = False

    # hub.consolidator.engine.Sink

    def publish(self, message: Message) -> None:
        self.publisher.publish(message)

    def withdraw(self, kind: str, symbol: str) -> None:
        self.publisher.withdraw(kind, symbol)

    def retire(self, kind: str, symbol: str) -> None:
        self.publisher.retire(kind, symbol)

    def retire_all(self, symbol: str) -> None:
        self.publisher.retire_all(symbol)

    # life

    async def run(self) -> None:
        """Publish venue `all` until cancelled; HubError says why it cannot."""
        try:
            await self._prepare()
            self.engine.say("resyncing", "the consolidator reads what the venues say", time.time_ns())
            await publish_while(
                self.publisher,
                self._pulse(), self.inputs.run(), self._announce(), self._tick(), self._tick_depths(),
                end=self._last_words,
            )  # fmt: skip
        finally:
            await self._end()

    async def _prepare(self) -> None:
        await check(self.settings.redis.address)
        epoch = await self.lease.acquire()
        log.info("lease taken venue=%s epoch=%d holder=%s", ALL_VENUES, epoch, self.lease.holder)
        history = await open_history(self.redis) if self.settings.history.enabled else None
        self.publisher = Publisher(
            self.settings.redis.address,
            self.keys,
            ALL_VENUES,
            self.lease,
            epoch,
            history,
            self.settings.publisher,
            self.settings.history,
            self._new_epoch,
        )
        self.inputs = Inputs(self.settings.redis.address, self.keys, self.engine, self._know, self._changed)
        serve_report(self.settings.metrics, self.publisher, lambda: self.reported)

    async def _last_words(self) -> None:
        self.engine.say("down", "the consolidator was stopped", time.time_ns())
        await asyncio.shield(self.publisher.drain())

    async def _end(self) -> None:
        await self.lease.give_up()
        await self.redis.aclose()
        log.info("consolidator ended")

    async def _announce(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await self.inputs.channels.settled.wait()
        self.engine.flush(time.time_ns())
        self.engine.say("live", "the venues were read", time.time_ns())
        log.info("consolidating symbols=%d", len(self.engine.outputs))

    async def _pulse(self) -> None:
        while True:
            try:
                self.reported = self.report()
                await self.lease.renew(self.publisher.epoch, msgspec.json.encode(self.reported))
            except (RedisError, OSError) as error:
                log.warning("pulse missed venue=%s error=%s", ALL_VENUES, error)
            await asyncio.sleep(PULSE_S)

    async def _tick(self) -> None:
        while True:
            self.engine.tick(time.time_ns())
            await asyncio.sleep(TICK_S)

    async def _tick_depths(self) -> None:
        while True:
            self.engine.tick_depths(time.time_ns())
            await asyncio.sleep(DEPTH_TICK_S)

    # what inputs and publisher call

    def _changed(self) -> None:
        if not self._flushing and self.engine.pending:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        try:
            self.engine.flush(time.time_ns())
        except Exception as error:
            self.inputs.fail(error)

    def _know(self, rows: Iterable[Instrument]) -> None:
        """Tell the publisher base and quote of what is made, for the labels of its series."""
        self.publisher.know(
            replace(row, venue=ALL_VENUES, symbol=name) for row in rows for name in self.engine.outputs_of(row.symbol)
        )

    def _new_epoch(self, reason: str) -> None:
        self.engine.new_epoch(f"new epoch: {reason}", time.time_ns())

    # what it says of itself

    def report(self) -> FeedReport:
        """Describe the consolidator for readers, as a feed describes itself."""
        engine = self.engine
        counters = Counter({name: engine.counters[name] for name in ("quotes", "depths", "trades")})
        counters.update(self.publisher.counters)
        counters.update({f"analytics_errors_{name}": count for name, count in engine.errors.items()})
        counters["unreadable"] = self.inputs.unreadable
        counters["holes"] = self.inputs.bus.holes
        counters["reconnects"] = self.inputs.bus.reconnects
        with_depth = [output for output in engine.outputs.values() if output.offers("depth")]
        return FeedReport(
            venue=ALL_VENUES,
            epoch=self.publisher.epoch,
            holder=self.lease.holder,
            symbols=sorted(engine.outputs),
            books_live=sum(bool(output.merged.depths) for output in with_depth),
            books_wanted=len(with_depth),
            connections=[],
            kinds={
                kind: ChannelReport(messages=count, ts_recv=engine.newest[kind]) for kind, count in engine.made.items()
            },
            counters=dict(counters),
            ts=time.time_ns(),
        )
