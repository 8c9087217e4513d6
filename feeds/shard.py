"""One shard of a venue's symbols and the connections that carry it, one after the other.

When its connection ends, its symbols are marked at once and a new one is tried after a capped, jittered backoff. Before
the venue cuts it by force, and when the venue says that it will, the next one is made ready first; both run until the
old one has brought what was on its way.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection, Sequence

from feeds.adapter import Adapter, Subscription
from feeds.backoff import Backoff
from feeds.connection import Connection
from feeds.pipeline import Pipeline
from feeds.sharding import has_room

__all__ = ["Shard"]

log = logging.getLogger(__name__)

#: How long the next connection may take to become ready, and the pause before another one is tried. Hundreds of books
#: over REST take minutes within a venue's limits, and meanwhile the old connection does its work.
READY_TIMEOUT_S = 1800.0
ROTATE_RETRY_S = 30.0
#: How long both connections run after the next one is ready.
OVERLAP_S = 1.0
#: A connection is replaced after this part of its lifetime: not all of them at once.
LIFETIME_PARTS = (0.85, 0.95)


class Shard:
    """Serves `subs` until nothing is left of them, or until cancelled."""

    def __init__(
        self,
        subs: Sequence[Subscription],
        adapter: type[Adapter],
        pipeline: Pipeline,
        connect: Callable[[Sequence[Subscription]], Connection],
        admit: Callable[[], Awaitable[None]],
        changed: Callable[[str], None],
    ) -> None:
        """`connect` makes a connection, `admit` waits until it may be opened, `changed` is told why it came or went."""
        self.subs = list(subs)
        self.adapter, self.pipeline = adapter, pipeline
        self.connections: list[Connection] = []
        """the one that carries, and during a rotation the next one"""
        self.reconnects = self.rotations = 0
        self._connect, self._admit, self._changed = connect, admit, changed
        self._dropped: set[str] = set()
        self._due = 0.0

    @property
    def symbols(self) -> set[str]:
        return {sub.instrument.symbol for sub in self.subs}

    # symbols

    def add(self, group: Sequence[Subscription]) -> bool:
        """Carry one more symbol; False where this shard cannot. Others on it are not touched."""
        rows = list({sub.instrument.symbol: sub.instrument for sub in group}.values())
        # What an adapter still knows of a symbol that was removed from its connection is out of date.
        if not self.subs or self._dropped.intersection(row.symbol for row in rows):
            return False
        first = self.subs[0]
        if self.adapter.endpoint_of(group[0].kind, rows[0]) != self.adapter.endpoint_of(first.kind, first.instrument):
            return False
        if self.connections and not has_room(self.connections[0].adapter, self.subs, group):
            return False
        if not all(connection.learn(rows) for connection in self.connections):
            return False
        self.subs += group
        for connection in self.connections:
            connection.add(group)
        return True

    async def remove(self, symbols: Collection[str]) -> None:
        """Carry nothing of `symbols` any more; without others the connection is closed."""
        self._dropped.update(self.symbols.intersection(symbols))
        self.subs = [sub for sub in self.subs if sub.instrument.symbol not in symbols]
        for connection in list(self.connections):
            connection.remove(symbols)
            if not self.subs:
                await connection.close()

    # connections

    async def serve(self) -> None:
        """Keep the shard connected."""
        backoff = Backoff()
        while self.subs:
            await self._admit()
            if not self.subs:
                break
            self._dropped.clear()
            connection, reason = await self._live(self._connect(self.subs), backoff)
            if not self.subs:
                break
            self.pipeline.lost(connection.source, connection.symbols, reason, time.time_ns())
            self._changed(reason)
            delay_s = max(backoff.next_s(), self.adapter.limits.reconnect_s)
            self.reconnects += 1
            hint = "" if connection.frames else "; `make demo` runs on recorded sessions without a network"
            log.warning("connection lost venue=%s reason=%s retry_s=%.1f%s", self.adapter.venue, reason, delay_s, hint)
            await asyncio.sleep(delay_s)
        self._changed("nothing is subscribed")

    async def _live(self, connection: Connection, backoff: Backoff) -> tuple[Connection, str]:
        """Run `connection`, and those that replace it in time; returns the last one and why it ended."""
        task = self._start(connection)
        try:
            while await self._until_rotation(connection, task, backoff):
                connection, task = await self._rotate(connection, task)
            return connection, await task
        except asyncio.CancelledError:
            self.pipeline.stopped(connection.source, connection.symbols, time.time_ns())
            raise
        finally:
            self._drop(connection)
            await _end(task)

    def _start(self, connection: Connection) -> "asyncio.Task[str]":
        self.connections.append(connection)
        self._due = time.monotonic() + self.adapter.limits.lifetime_s * random.uniform(*LIFETIME_PARTS)
        return asyncio.create_task(connection.run(), name=f"connection-{connection.source.generation}")

    def _drop(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)

    async def _until_rotation(self, connection: Connection, task: "asyncio.Task[str]", backoff: Backoff) -> bool:
        """Wait while `connection` runs. True when it is to be replaced, False when it ended."""
        live = False
        while not connection.rotate.is_set() and time.monotonic() < self._due:
            done, _ = await asyncio.wait({task}, timeout=0.1 if not live else 1.0)
            if done:
                return False
            if connection.settled and not live:
                live = True
                self._changed("")
            if connection.frames > len(connection.acked):
                backoff.reset()
            if self.pipeline.silent(connection.symbols):
                log.warning("every stream is silent, reconnecting venue=%s", self.adapter.venue)
                await connection.close()
        return not task.done()

    # make before break

    async def _rotate(
        self, connection: Connection, task: "asyncio.Task[str]"
    ) -> tuple[Connection, "asyncio.Task[str]"]:
        """Make the next connection ready, then end this one. Returns the one that carries from now on."""
        admission = asyncio.ensure_future(self._admit())
        await asyncio.wait({task, admission}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            admission.cancel()
            return connection, task
        successor = self._connect(self.subs)
        next_task = self._start(successor)
        try:
            ready = await self._ready(successor, next_task, task, self.pipeline.books_missing(self.symbols))
            if ready:
                await asyncio.wait({task, next_task}, timeout=OVERLAP_S)
            if (ready or task.done()) and not next_task.done():
                await self._take_over(connection, task, successor)
                return successor, next_task
        except asyncio.CancelledError:
            await _end(next_task)
            raise
        self._drop(successor)
        await _end(next_task)
        log.warning("rotation failed venue=%s retry_s=%.0f", self.adapter.venue, ROTATE_RETRY_S)
        self._give_up(connection, successor)
        return connection, task

    async def _ready(
        self,
        successor: Connection,
        next_task: "asyncio.Task[str]",
        task: "asyncio.Task[str]",
        missing: Collection[str],
    ) -> bool:
        """Wait until `successor` carries everything; books that were `missing` before need not be there."""
        end = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < end and not next_task.done() and not task.done():
            if successor.ready_but(missing):
                return True
            await asyncio.sleep(0.05)
        return False

    async def _take_over(self, connection: Connection, task: "asyncio.Task[str]", successor: Connection) -> None:
        self._drop(connection)
        in_time = not task.done()
        await connection.close()
        reason = await task
        now = time.time_ns()
        if successor.settled:
            self.pipeline.handed_over(connection.source, successor.source, connection.symbols, reason, now)
        else:
            self.pipeline.lost(connection.source, connection.symbols, reason, now, successor.source)
        self.rotations += 1
        log.info("rotated venue=%s symbols=%d in_time=%s", self.adapter.venue, len(successor.symbols), in_time)

    def _give_up(self, connection: Connection, successor: Connection) -> None:
        intents = self.pipeline.abandoned(successor.source, connection.source, successor.symbols, time.time_ns())
        connection.act(intents)
        connection.rotate.clear()
        self._due = time.monotonic() + ROTATE_RETRY_S


async def _end(task: "asyncio.Task[str]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
