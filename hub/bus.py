"""The subscriber's side of the bus: Redis pub/sub channels, joined to what Redis holds, and kept joined.

One link (hub/connect.py) carries subscriptions and reads. Redis answers in order, so a read that is sent after
SUBSCRIBE splits the stream cleanly: every message that arrives before the answer is in the answer, and a later one that
is in it as well has an id at or below the answer's. Hence nothing is buffered while a channel is joined.

A topic that lost messages (the link broke, Redis restarted, a number is missing) is joined again from its last id;
what the log no longer holds is announced as a gap. What to do with messages is the listener's business.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any, Generic

from hub.connect import AnyLink, connect
from hub.errors import RedisUnavailable
from hub.join import NOTHING, Join, Joined
from hub.keys import Keys
from hub.link import Push, RedisReplyError, pack
from hub.log import mask_url
from hub.position import Position, follows, position_in
from hub.topic import Listener, T

__all__ = ["Bus"]

logger = logging.getLogger(__name__)

LINGER_S = 5.0
LINGERING_MAX = 20_000
#: Names per SUBSCRIBE, and reads in flight while joining again: an answer of many full logs is large.
SUBSCRIBE_CHUNK = 1000
JOIN_CHUNK = 64
#: How pushes of messages begin, of plain and of sharded channels.
MESSAGES = frozenset((b"message", b"smessage"))
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.05, 1.0


class Bus(Generic[T]):
    """Counted subscriptions over one link that reconnects."""

    def __init__(self, url: str, keys: Keys, topic: Callable[[str, Keys], T], listener: Listener[T]) -> None:
        self.url, self.keys, self.listener = url, keys, listener
        self.topics: dict[bytes, T] = {}
        self.reconnects = self.malformed = self.holes = self.repeats = 0
        self.linger_s = LINGER_S
        self.connected = False
        self._topic = topic
        self._link: AnyLink | None = None  # set only while every known topic is subscribed on it
        self._lingering = 0
        self._joins: dict[Join, None] = {}
        self._channels_key = keys.channels.encode()

    async def start(self) -> None:
        """Open the link and learn all channels. Raises RedisUnavailable."""
        await self._open()

    async def run(self) -> None:
        """Keep the link up until cancelled; call after `start`."""
        try:
            while True:
                if self._link is not None:
                    await self._link.closed
                self._lost()
                await self._reopen()
        finally:
            self.connected = False
            if self._link is not None:
                self._link.close()
                self._link = None

    def drop(self, reason: str) -> None:
        """Give up a link that does not answer; `run` opens another."""
        if self._link is not None:
            logger.warning("redis link dropped reason=%s", reason)
            self._link.close()

    async def call(self, *commands: bytes) -> list[Any]:
        """Return the replies of packed commands, error replies as values; ConnectionError while there is no link."""
        if self._link is None:
            raise ConnectionResetError("there is no connection to Redis")
        return await self._link.call(commands)

    async def learn_channels(self) -> None:
        """Read all names of channels, for `listener.channels_are`, which is called while the reply is read: in order
        with the announcements around it. ConnectionError where Redis does not say.
        """
        if self._link is None:
            raise ConnectionResetError("there is no connection to Redis")
        learned: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def replied(replies: list[Any] | ConnectionError) -> None:
            names = replies if isinstance(replies, ConnectionError) else replies[0]
            if not isinstance(names, Exception):
                self.listener.channels_are([name.decode(errors="replace") for name in names])
            if not learned.done():
                learned.set_result(names)

        self._link.send(pack(b"SMEMBERS", self._channels_key), 1, replied)
        outcome = await learned
        if isinstance(outcome, Exception):
            raise ConnectionResetError(f"the channels cannot be read: {outcome}")

    # subscriptions

    def acquire(self, name: str) -> T:
        """Return the topic of a channel, subscribed; each call counts until `release`."""
        key = self.keys.newest(name).encode()
        topic = self.topics.get(key)
        if topic is None:
            topic = self.topics[key] = self._topic(name, self.keys)
            if self._link is not None:
                self._link.write(pack(b"SUBSCRIBE", key))
        elif topic.timer is not None:
            topic.timer.cancel()
            topic.timer = None
            self._lingering -= 1
        topic.users += 1
        return topic

    def release(self, topic: T) -> None:
        """Undo one `acquire`. The last one lets the subscription linger, so that a reconnecting client finds it."""
        topic.users -= 1
        if topic.users:
            return
        if self._lingering >= LINGERING_MAX:
            self._forget(topic)
            return
        self._lingering += 1
        topic.timer = asyncio.get_running_loop().call_later(self.linger_s, self._lingered, topic)

    def _lingered(self, topic: T) -> None:
        self._lingering -= 1
        self._forget(topic)

    def _forget(self, topic: T) -> None:
        topic.timer = None
        del self.topics[topic.key]
        if self._link is not None:
            self._link.write(pack(b"UNSUBSCRIBE", topic.key))

    # reads

    def join(self, topic: T, done: Callable[[Joined], None], after: Position | None = None) -> Join:
        """Read what a new reader of `topic` needs; `done` gets it in order with the stream (see Joined).

        A read that finds no link, or loses it, is made again when there is one. `cancel` forgets it.
        """
        join = Join(topic, done, after)
        self._joins[join] = None
        if self._link is not None:
            self._send(self._link, join)
        return join

    def cancel(self, join: Join) -> None:
        """Forget a read; its `done` is not called."""
        join.cancel()
        self._joins.pop(join, None)

    def _send(self, link: AnyLink, join: Join) -> None:
        command = None if join.cancelled else join.command()
        if command is None:
            self._joins.pop(join, None)
            join.finish()
            return

        def replied(replies: list[Any] | ConnectionError) -> None:
            if isinstance(replies, ConnectionError):
                return  # still in self._joins: made again on the next link
            if isinstance(replies[0], RedisReplyError):
                logger.warning("redis refused a read key=%s error=%s", join.source.key, replies[0])
            join.reply(replies[0])
            self._send(link, join)

        link.send(command, 1, replied)

    # the stream

    def _on_push(self, pushes: list[Push]) -> None:
        topics = self.topics
        batch: list[tuple[T, bytes]] = []
        for push in pushes:
            if push[0] not in MESSAGES:
                continue
            topic = topics.get(push[1])
            payload = push[2]
            if topic is None or topic.joining:
                if push[1] == self._channels_key:
                    self.listener.channels_added([payload.decode(errors="replace")])
                continue
            try:
                position = position_in(payload, topic.head)
            except ValueError:
                self.malformed += 1
                continue
            last = topic.last
            if last is not None:
                if position <= last:
                    self.repeats += 1
                    continue
                if topic.event and not follows(last, position):
                    self.holes += 1
                    self._catch_up(topic)
                    continue
            topic.last = position
            topic.newest = payload
            batch.append((topic, payload))
        if batch:
            self.listener.received(batch)

    def _catch_up(self, topic: T, finished: Callable[[], None] | None = None) -> None:
        """Join `topic` again from its last position; until that is read, its messages are ignored."""
        topic.joining = True
        topic.newest = None
        last = topic.last
        if last is None and topic.event:
            last = NOTHING  # whoever reads it was told that there is nothing yet: all there is now is new

        def done(joined: Joined) -> None:
            topic.joining = False
            if joined.upto is not None:
                topic.last = joined.upto
                if not topic.book:
                    topic.newest = joined.payloads[-1] if joined.payloads else joined.newest
            if joined.gap and last is not None:
                self.listener.gap(topic, last, joined)
            elif joined.payloads:
                self.listener.received([(topic, payload) for payload in joined.payloads])
            if finished is not None:
                finished()

        if self._link is not None:
            # Not in self._joins: after a lost link every topic catches up anyway.
            self._send(self._link, Join(topic, done, last))

    # the link

    def _lost(self) -> None:
        self.connected = False
        self._link = None
        for topic in self.topics.values():
            topic.newest = None
        self.listener.disconnected("the gateway lost its connection to Redis")

    async def _reopen(self) -> None:
        delay = BACKOFF_FIRST_S
        while True:
            try:
                await self._open()
            except (RedisUnavailable, ConnectionError) as error:
                logger.info("redis not reachable error=%s", error)
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                delay = min(delay * 2, BACKOFF_MAX_S)
            else:
                self.reconnects += 1
                return

    async def _open(self) -> None:
        link = await connect(self.url, self._on_push, name="tickwire-bus")
        try:
            self._resubscribe(link)
            try:
                await self.learn_channels()
            except ConnectionError as error:
                raise RedisUnavailable(mask_url(self.url), str(error)) from error
            await self._rejoin(link)
        except BaseException:
            self._link = None
            link.close()
            raise
        self.connected = True
        self.listener.connected()

    def _resubscribe(self, link: AnyLink) -> None:
        keys = [*self.topics, self._channels_key]
        for start in range(0, len(keys), SUBSCRIBE_CHUNK):
            link.write(pack(b"SUBSCRIBE", *keys[start : start + SUBSCRIBE_CHUNK]))
        for topic in self.topics.values():
            topic.joining = True
        self._link = link
        for join in list(self._joins):
            join.restart()
            self._send(link, join)

    async def _rejoin(self, link: AnyLink) -> None:
        """Catch up with all topics, a bounded number of reads at a time."""
        waiting = [topic for topic in self.topics.values() if topic.joining]
        for start in range(0, len(waiting), JOIN_CHUNK):
            chunk = waiting[start : start + JOIN_CHUNK]
            left = len(chunk)
            read = asyncio.Event()

            def finished(read: asyncio.Event = read) -> None:
                nonlocal left
                left -= 1
                if not left:
                    read.set()

            for topic in chunk:
                self._catch_up(topic, finished)
            await _either(read, link.closed)
            if link.closed.done():
                raise ConnectionResetError("the connection to Redis broke while channels were joined again")


async def _either(event: asyncio.Event, closed: "asyncio.Future[None]") -> None:
    waiter: asyncio.Future[Any] = asyncio.ensure_future(event.wait())
    waits: list[asyncio.Future[Any]] = [waiter, closed]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
