"""Publishes `listing` messages: takes the changes that wait in Redis, numbers them, and takes them away once told.

A change that was published and not taken away, because the process ended in between, is told again with a new id.
"""

import asyncio
import logging
import time

from redis.exceptions import RedisError

from hub.batch import BatchEncoder
from hub.builder import MessageBuilder
from hub.config import Settings
from hub.connect import AnyLink, connect
from hub.errors import LeaseLost, RedisUnavailable
from hub.instrument_store import InstrumentStore
from hub.lease import Lease
from hub.link import RedisReplyError
from hub.listing import Change
from hub.model import Listing

__all__ = ["Listings"]

log = logging.getLogger(__name__)

LOOK_S = 0.5
RETRY_S = 1.0


class Listings:
    """The one publisher of `listing` channels; `epoch` is its lease's."""

    def __init__(self, settings: Settings, store: InstrumentStore, lease: Lease, epoch: int) -> None:
        self.settings, self.store, self.lease, self.epoch = settings, store, lease, epoch
        self._encoders: dict[str, BatchEncoder] = {}
        self._link: AnyLink | None = None

    async def run(self) -> None:
        """Publish until cancelled; LeaseLost where another publisher does."""
        try:
            while True:
                try:
                    await self._look()
                    await asyncio.sleep(LOOK_S)
                except (RedisError, RedisUnavailable, ConnectionError, OSError) as error:
                    log.warning("changes not published, trying again reason=%s", error)
                    self._close()
                    await asyncio.sleep(RETRY_S)
                    await self._begin_epoch()
        finally:
            self._close()

    async def _begin_epoch(self) -> None:
        """What was sent last may have arrived or not: in a new epoch neither leaves a hole."""
        try:
            self.epoch = await self.lease.acquire(at_least=self.epoch + 1, wait_s=0)
        except (RedisError, OSError):
            self.epoch += 1  # larger is enough: nobody else has the lease
        self._encoders.clear()

    async def _look(self) -> None:
        for venue in await self.store.venues():
            while True:
                ids, changes = await self.store.changes(venue)
                if not ids:
                    break
                await self._publish(venue, changes)
                await self.store.told(venue, ids)

    async def _publish(self, venue: str, changes: list[Change]) -> None:
        now = time.time_ns()
        encoder = self._encoder(venue)
        messages = [_message(venue, change) for change in changes]
        batch = encoder.encode(list(messages), now)
        if self._link is None:
            self._link = await connect(self.settings.redis.address, name="tickwire-instruments")
        link, done = self._link, asyncio.get_running_loop().create_future()

        def confirmed(outcome: list[object] | ConnectionError) -> None:
            if isinstance(outcome, ConnectionError):
                done.set_exception(outcome)
            else:
                done.set_result(outcome)

        link.send(batch.core, batch.core_count, confirmed)
        for refused in (reply for reply in await done if isinstance(reply, RedisReplyError)):
            if "equal or smaller" in str(refused):
                raise LeaseLost(venue, "a log holds a larger epoch: another process publishes listings")
            raise ConnectionError(str(refused))
        log.info("listings published venue=%s count=%d", venue, len(changes))

    def _encoder(self, venue: str) -> BatchEncoder:
        # One a venue: a builder knows a channel by its symbol.
        if venue not in self._encoders:
            builder = MessageBuilder(self.store.keys, self.epoch)
            self._encoders[venue] = BatchEncoder(builder, None, self.settings.publisher, self.settings.history)
        return self._encoders[venue]

    def _close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


def _message(venue: str, change: Change) -> Listing:
    row = change.instrument
    return Listing(venue, row.symbol, "", None, change.ts, 0, change.action, change.changes, change.fields)
