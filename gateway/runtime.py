"""Everything one gateway process works with, put together; `create_app` makes one and keeps it in the app's state."""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import cast

from litestar import Litestar

from gateway.catalog import Catalog
from gateway.channel import Channel
from gateway.clients import Clients
from gateway.fanout import Fanout
from gateway.guard import Guard
from gateway.joins import Joins
from gateway.subscriber import Subscriber
from gateway.subscriptions import Subscriptions
from gateway.vitals import Vitals
from gateway.watch import Watch
from hub.admission import Admission
from hub.bus import Bus
from hub.config import Settings
from hub.directory import Directory
from hub.keys import Keys
from hub.model import State
from hub.reader import Reader

__all__ = ["Runtime", "runtime_of"]

logger = logging.getLogger(__name__)


class Runtime:
    """Owns the bus, the clients and the tasks that keep them going."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = Keys(settings.redis.prefix)
        self.directory = Directory()
        self.fanout = Fanout(self)
        self.bus: Bus[Channel] = Bus(settings.redis.address, self.keys, Channel, self.fanout)
        self.joins = Joins(self.bus, self.fanout, self._state)
        self.subscriptions = Subscriptions(
            self.bus,
            self.fanout,
            self.joins,
            self.directory,
            settings.gateway.max_subscriptions,
            settings.gateway.queue_bytes,
        )
        self.watch = Watch(self.bus, self.fanout, self.subscriptions)
        self.vitals = Vitals(self.bus, self.fanout.stopwatch)
        self.admission = Admission(settings.redis.address, self.keys)
        self.guard = Guard(settings.gateway, self.admission)
        self.clients = Clients(settings.gateway, self.fanout, self.joins, self.subscriptions, self.guard)
        self.reader = Reader(settings.redis.address, self.keys)
        self.turn = asyncio.Lock()
        """Held while a page of a long answer is made (gateway/tables.py)."""
        self.catalog = Catalog(self.reader)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Connect and begin; raises RedisUnavailable."""
        await self.bus.start()
        await self.watch.start()
        works = [
            ("bus", self.bus.run()),
            ("watch", self.watch.run()),
            ("vitals", self.vitals.run()),
            ("clients", self.clients.run()),
        ]
        if self.clients.gate is not None:
            works.append(("gate", self.clients.gate.run()))
        for name, work in works:
            task = asyncio.create_task(work, name=name)
            task.add_done_callback(_report)
            self._tasks.append(task)

    async def stop(self) -> None:
        """Part from all clients, then from Redis."""
        await self.clients.close_all()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError, Exception):  # reported by _report
                await task
        if self.clients.gate is not None:
            await self.clients.gate.close()
        await self.guard.close()
        await self.admission.close()
        await self.reader.close()

    @property
    def healthy(self) -> bool:
        """True while every task runs."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def _state(self, kind: str, venue: str, symbol: str, present: bool) -> tuple[State, str]:
        return self.watch.state(kind, venue, symbol, present)

    # gateway.fanout.StatusKeeper

    def status(self, channel: Channel, payload: bytes) -> Iterable[Subscriber]:
        return self.watch.status(channel, payload)

    def channels_added(self, names: Iterable[str]) -> None:
        for name in names:
            channel = self.directory.add(name)
            if channel is None:
                continue
            if channel.kind == "status":
                self.watch.follow(name)
            if channel.venue not in self.watch.venues:
                self.watch.wake()
            self.subscriptions.channel_added(name, channel)

    def channels_are(self, names: Iterable[str]) -> None:
        known = set(names)
        for name, channel in self.directory.retain(known):
            if channel.kind == "status":
                self.watch.unfollow(name)
            self.subscriptions.channel_removed(name, channel)
        self.channels_added(known)

    def connected(self) -> None:
        self.watch.connected()

    def disconnected(self, reason: str) -> None:
        logger.warning("redis lost reason=%s", reason)
        self.watch.disconnected(reason)


def _report(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.critical("task ended task=%s", task.get_name(), exc_info=error)


def runtime_of(app: Litestar) -> Runtime:
    """Return the runtime of an app made by `create_app`."""
    return cast(Runtime, app.state.runtime)
