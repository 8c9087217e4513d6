"""The archive process: finds the channels, reads their logs and writes files in time.

Whatever ends it, what is not in a file is still in the log, as long as the log reaches back. Reading is XRANGE in pages
over one connection; nothing is written to Redis.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from hub.access import parse_pattern
from hub.archive.compact import clean, compact
from hub.archive.files import ChannelFiles, lock
from hub.archive.tail import Tail
from hub.config import Settings
from hub.connect import AnyLink, connect
from hub.errors import ConfigError, RedisUnavailable, RequestError
from hub.keys import Channel, Keys, parse_channel
from hub.link import RedisReplyError, pack
from hub.model import EVENT_KINDS, KINDS, is_event
from hub.position import format_position

__all__ = ["Archive", "Chosen"]

logger = logging.getLogger(__name__)

DISCOVER_S = 5.0
COMPACT_S = 60.0
#: A date is over so long after its end: later events of it open small files of their own.
LATE = timedelta(hours=1)
#: Channels asked in one pipeline.
GROUP = 32
#: Bytes of all channels together that wait for a file.
BUFFER_BYTES = 128 << 20
#: At the end, files are written for so long; what is left stays in the logs. `tickwire up` gives a part 1 s or so.
STOP_S = 0.4
RETRY_S = 1.0
RETRY_WRITE_S = 5.0

T = TypeVar("T")


class Chosen:
    """Which channels are archived: those of event kinds that a pattern names; books where asked for."""

    def __init__(self, patterns: Sequence[str], *, books: bool) -> None:
        try:
            self._patterns = [parse_pattern(pattern) for pattern in patterns]
        except RequestError as error:
            raise ConfigError(f"archive.channels: {error.detail}; allowed: {', '.join(error.allowed)}") from error
        for pattern in self._patterns:
            if pattern.kind in KINDS and not is_event(pattern.kind):
                kinds = ", ".join(sorted(EVENT_KINDS))
                raise ConfigError(f"archive.channels: {pattern.kind} has no log; allowed: {kinds}, candle.*, *")
        self._books = books or any(pattern.kind == "book" for pattern in self._patterns)

    def __contains__(self, channel: object) -> bool:
        if not isinstance(channel, Channel) or not is_event(channel.kind):
            return False
        if channel.kind == "book" and not self._books:
            return False
        return any(_fits(pattern, channel) for pattern in self._patterns)


def _fits(pattern: Channel, channel: Channel) -> bool:
    family = f"{channel.kind.partition('.')[0]}.*"
    return (
        pattern.kind in ("*", channel.kind, family)
        and pattern.venue in ("*", channel.venue)
        and pattern.symbol in ("*", channel.symbol)
    )


class Archive:
    """Archives until cancelled. Raises ConfigError where its folder or patterns cannot be used."""

    def __init__(self, settings: Settings, root: Path) -> None:
        self.settings, self.root = settings, root
        self.keys = Keys(settings.redis.prefix)
        self.chosen = Chosen(settings.archive.channels, books=settings.archive.books)
        self.tails: dict[str, Tail] = {}
        self.files_merged = 0
        self._dates: set[Path] = set()  # folders that may have files to merge
        self._ending = threading.Event()
        self._discovered = 0.0

    async def run(self) -> None:
        """Archive; at the end write what was read."""
        held = lock(self.root)
        try:
            self._dates = {path for path in self.root.glob("kind=*/venue=*/symbol=*/date=*") if path.is_dir()}
            for folder in self._dates:
                await asyncio.to_thread(clean, folder)
            merging = asyncio.create_task(self._merge(), name="compact")
            try:
                await _first(self._tail(), merging)
            finally:
                self._ending.set()
                merging.cancel()
                with suppress(asyncio.CancelledError):
                    await merging
                self._write_rest()
        finally:
            os.close(held)

    async def _tail(self) -> None:
        while True:
            try:
                link = await connect(self.settings.redis.address, name="tickwire-archive")
            except RedisUnavailable as error:
                logger.warning("%s; trying again", error)
                await self._write_due()
                await asyncio.sleep(RETRY_S)
                continue
            try:
                self._discovered = 0.0
                while True:
                    await self._turn(link)
            except (ConnectionError, TimeoutError, RedisReplyError) as error:
                logger.warning("redis lost reason=%s", error)
                await asyncio.sleep(RETRY_S)
            finally:
                link.close()

    async def _turn(self, link: AnyLink) -> None:
        """Read what is new, write what is due, rest a while."""
        now = time.monotonic()
        if now >= self._discovered + DISCOVER_S or not self._discovered:
            self._discovered = now
            await self._discover(link)
        more = False
        for group in _grouped(list(self.tails.values()), GROUP):
            more = await self._read(link, group) or more
            await self._write_due()
        if not more:
            await asyncio.sleep(self.settings.archive.poll_ms / 1000)

    async def _discover(self, link: AnyLink) -> None:
        (members,) = await _replies(link, [pack("SMEMBERS", self.keys.channels)])
        for member in members:
            name = member.decode(errors="replace")
            if name in self.tails:
                continue
            with suppress(RequestError):
                channel = parse_channel(name)
                if channel in self.chosen:
                    self.tails[name] = await asyncio.to_thread(self._open, channel)

    def _open(self, channel: Channel) -> Tail:
        publisher = self.settings.publisher
        lengths = {"trade": publisher.log_trades, "book": publisher.log_books, "candle": publisher.log_candles}
        length = lengths.get(channel.kind.partition(".")[0], publisher.log_statuses)
        return Tail(channel, self.keys.log(channel.name), ChannelFiles(self.root, channel), length)

    async def _read(self, link: AnyLink, tails: Sequence[Tail]) -> bool:
        """Read a page of each log; returns whether one may have more."""
        more = False
        now = time.monotonic()
        for tail, reply in zip(tails, await _replies(link, [tail.command() for tail in tails]), strict=True):
            more = tail.take(reply, now) or more
            if tail.doubt is not None:
                last = format_position(tail.doubt[0])
                (found,) = await _replies(link, [pack("XRANGE", tail.key, last, last)])
                tail.settle(still_there=bool(found))
        return more

    async def _write_due(self) -> None:
        old = time.monotonic() - self.settings.archive.rotate_s
        for tail in list(self.tails.values()):
            if tail.rows >= tail.rows_max or (tail.rows and tail.since <= old):
                await self._write(tail)
        while sum(tail.size for tail in self.tails.values()) > BUFFER_BYTES:
            await self._write(max(self.tails.values(), key=lambda tail: tail.size))

    async def _write(self, tail: Tail) -> None:
        """Write what waits of a channel. Where that fails nothing more is read: the logs hold it better than we do."""
        while True:
            try:
                self._dates |= await _through(asyncio.to_thread(tail.flush))
                return
            except OSError as error:
                logger.error("cannot write channel=%s error=%s; trying again", tail.channel.name, error)
                await asyncio.sleep(RETRY_WRITE_S)

    def _write_rest(self) -> None:
        end = time.monotonic() + STOP_S
        for tail in self.tails.values():
            if time.monotonic() > end:
                logger.info("not everything is written; the logs still hold it")
                return
            try:
                tail.flush()
            except OSError as error:
                logger.error("cannot write channel=%s error=%s", tail.channel.name, error)

    async def _merge(self) -> None:
        """Merge small files, again and again."""
        while True:
            now = datetime.now(UTC)
            for folder in sorted(self._dates):
                over = _over(folder, now)
                kind = folder.parent.parent.parent.name.partition("=")[2]
                if over:
                    self._dates.discard(folder)
                work = asyncio.to_thread(compact, folder, kind, over=over, ending=self._ending)
                self.files_merged += await _through(work)
            await asyncio.sleep(COMPACT_S)


def _over(folder: Path, now: datetime) -> bool:
    try:
        date = datetime.strptime(folder.name, "date=%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return False
    return now > date + timedelta(days=1) + LATE


def _grouped(items: list[Tail], size: int) -> Iterable[list[Tail]]:
    rest = iter(items)
    return iter(lambda: list(islice(rest, size)), [])


async def _replies(link: AnyLink, commands: Sequence[bytes]) -> list[Any]:
    async with asyncio.timeout(30):
        replies = await link.call(commands)
    for reply in replies:
        if isinstance(reply, RedisReplyError):
            raise reply
    return replies


async def _through(work: Awaitable[T]) -> T:
    """Await work of a thread to its end, although we are cancelled meanwhile: a thread cannot be stopped."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def _first(work: Awaitable[None], other: "asyncio.Task[None]") -> None:
    """Run `work` until it or `other` ends."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task, other}, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
