"""The venues' pulses and leases, looked at several times a second; and whether Redis answers at all."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from hub.consolidator.engine import Engine
from hub.consolidator.health import Venue
from hub.keys import Keys
from hub.link import RedisReplyError, pack

__all__ = ["Asked", "Pulses"]

logger = logging.getLogger(__name__)

POLL_S = 0.25
#: Redis that does not answer for so long counts as away; after the second span the link is given up.
SILENT_S, DEAD_S = 1.5, 5.0


class Asked(Protocol):
    """The part of the bus that is needed."""

    connected: bool

    async def call(self, *commands: bytes) -> list[object]:
        """Return the replies; ConnectionError while there is no link."""

    def drop(self, reason: str) -> None:
        """Give up a link that does not answer."""


class Pulses:
    """`changed(venue)` is called after a venue came, went, or has another publisher; `silent(True)` when Redis does not
    answer, `silent(False)` after each answer."""

    def __init__(
        self, bus: Asked, keys: Keys, engine: Engine, changed: Callable[[Venue], None], silent: Callable[[bool], None]
    ) -> None:
        self._bus, self._keys, self._engine = bus, keys, engine
        self._changed, self._silent = changed, silent

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            if self._bus.connected:
                await self._in_time()
            await asyncio.sleep(POLL_S)

    async def _in_time(self) -> None:
        poll = asyncio.ensure_future(self.look())
        try:
            done, _ = await asyncio.wait([poll], timeout=SILENT_S)
            if not done:
                self._silent(True)
                done, _ = await asyncio.wait([poll], timeout=DEAD_S)
            if not done:
                self._bus.drop("no answer to polls")
                return
            error = poll.exception()
            if error is None:
                self._silent(False)
            elif not isinstance(error, ConnectionError):
                raise error
        finally:
            poll.cancel()

    async def look(self) -> None:
        """Look once, at all known venues. Raises ConnectionError."""
        venues = list(self._engine.health.venues.values())
        if not venues:
            return
        keys = [key for venue in venues for key in (self._keys.alive(venue.name), self._keys.lease(venue.name))]
        (values,) = await self._bus.call(pack("MGET", *keys))
        if isinstance(values, RedisReplyError):
            raise ConnectionError(str(values))
        assert isinstance(values, list)
        now = time.time_ns()
        for venue, pulse, holder in zip(venues, values[::2], values[1::2], strict=True):
            before = venue.alive, venue.holder
            epoch = int(pulse) if pulse is not None and pulse.isdigit() else None
            self._engine.pulse(venue.name, epoch, holder, now)
            if (venue.alive, venue.holder) != before:
                logger.info("venue %s venue=%s", "alive" if venue.alive else "down", venue.name)
                self._changed(venue)
