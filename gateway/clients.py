"""All clients of this process: what they say is dispatched, and one timer looks after them.

A connection is pinged once per round; one that sent nothing (not even pongs) for the idle timeout is closed, and so is
one that did not read for the stall timeout.
"""

import asyncio
import logging
import random
import time
from typing import Protocol

from gateway.encodings import Encodings
from gateway.fanout import Fanout
from gateway.frames import FrameError
from gateway.gate import Gate
from gateway.guard import Guard
from gateway.joins import Joins
from gateway.limits import wait_s
from gateway.protocol import (
    Auth,
    Authenticated,
    CloseCode,
    Error,
    Ping,
    Pong,
    Request,
    Subscribe,
    Unsubscribe,
    frame,
    parse_op,
)
from gateway.subscriber import Subscriber
from gateway.subscriptions import Subscriptions
from hub.config import GatewaySettings

__all__ = ["Client", "Clients"]

logger = logging.getLogger(__name__)

TICK_S = 0.5
PINGS_PER_IDLE_TIMEOUT = 3
#: At the end of the gateway: time between two closes where that is enough for all clients, and how long each may take.
CLOSE_EVERY_S = 0.001
ANSWER_S = 2.0
#: Clients come back after so many ms, at random: from the first number to the second, and 1 ms more per client.
RECONNECT_MS = (100, 1000)


class Client(Protocol):
    """A connection, whichever way it sends."""

    seen: float
    bucket: int
    subscriber: Subscriber

    def close(self, code: int, reason: str) -> None: ...

    def ping(self) -> None: ...

    def abort(self) -> None: ...


class Clients:
    """Registry of connections. `now` is a coarse clock in s, good for timeouts; a client's `bucket` is -1 when it is
    not, or no longer, among them."""

    def __init__(
        self, settings: GatewaySettings, fanout: Fanout, joins: Joins, subscriptions: Subscriptions, guard: Guard
    ) -> None:
        self.settings, self.fanout, self.joins, self.subscriptions = settings, fanout, joins, subscriptions
        self.encodings = Encodings()
        self.journal = guard.journal
        self.gate = Gate(guard, self) if guard.verifier is not None else None
        self.now = time.monotonic()
        self.draining = False
        self.opened = self.received = self.errors = self.slow_closed = self.idle_closed = 0
        rounds = max(1, int(settings.idle_timeout_s / PINGS_PER_IDLE_TIMEOUT / TICK_S))
        # One bucket per tick of a round: each tick visits its own, so no client needs a timer.
        self._buckets: list[dict[Client, None]] = [{} for _ in range(rounds)]
        self._tick = 0
        self._count = 0
        self._closing: dict[Client, None] = {}  # told to go, not gone yet
        self._held: dict[Subscriber, None] = {}

    def __len__(self) -> int:
        return self._count

    @property
    def held(self) -> int:
        """How many do not read at the moment."""
        return len(self._held)

    @property
    def queued(self) -> int:
        """Bytes of events that wait for them."""
        return sum(subscriber.held.size for subscriber in self._held if subscriber.held is not None)

    def add(self, client: Client) -> None:
        client.bucket = (self._tick - 1) % len(self._buckets)
        self._buckets[client.bucket][client] = None
        self._count += 1
        self.opened += 1
        if self.draining:
            self._send_away(client)

    def remove(self, client: Client, code: int | None = None) -> None:
        """Take a client out of everything, before it is sent a close frame with `code`; harmless when it is out."""
        if client.bucket < 0:
            return
        del self._buckets[client.bucket][client]
        client.bucket = -1
        self._count -= 1
        self._held.pop(client.subscriber, None)
        if self.gate is not None:
            self.gate.left(client.subscriber)
        if code is not None:
            self._closing[client] = None
            self.slow_closed += code == CloseCode.TOO_SLOW
            self.fanout.settle(client.subscriber)
        self.subscriptions.close(client.subscriber)

    def lost(self, client: Client) -> None:
        """The connection is gone for good."""
        self.remove(client)
        self._closing.pop(client, None)

    # what clients say

    def message(self, subscriber: Subscriber, payload: bytes, *, packed: bool = False) -> None:
        """Act on one client message (`packed`: in msgpack), unless there are too many of them."""
        self.received += 1
        if self._too_many(subscriber):
            return
        op = parse_op(payload, packed=packed)
        if self.gate is None or not self.gate.takes(subscriber, op):
            self.act(subscriber, op)

    def act(self, subscriber: Subscriber, op: Request) -> None:
        """Do what a message asks for."""
        match op:
            case Subscribe():
                self.subscriptions.subscribe(subscriber, op)
            case Unsubscribe():
                self.subscriptions.unsubscribe(subscriber, op.channels, op.id)
            case Ping():
                self.fanout.send(subscriber, frame(Pong(id=op.id, ts=time.time_ns())))
            case Auth() if self.gate is not None:
                self.gate.takes(subscriber, op)
            case Auth():
                self.fanout.send(subscriber, frame(Authenticated(id=op.id, sub=None, exp=None)))
            case Error():
                self.errors += 1
                self.fanout.send(subscriber, frame(op))

    def _too_many(self, subscriber: Subscriber) -> bool:
        """Tell whether a client says too much: what is beyond its burst is refused, as much again is its end."""
        limits = self.settings.limits
        rate = subscriber.grant.max_messages_per_s or limits.messages_per_s
        if not rate:
            return False
        now = time.monotonic()
        said = max(subscriber.said, now)
        wait = wait_s(said, now, rate, limits.burst_s)
        subscriber.said = said + 1 / rate
        if not wait:
            return False
        self.errors += 1
        detail = f"at most {rate:g} messages a second; this one is not acted upon"
        self.fanout.send(subscriber, frame(Error(code="too_many_messages", detail=detail)))
        if wait > limits.burst_s:
            self.journal.note("too many messages", sub=subscriber.grant.sub or None)
            subscriber.sink.close(CloseCode.TOO_MANY, "too many messages")
        return True

    def broke_protocol(self, client: Client, error: FrameError) -> None:
        """Tell the client what it did wrong, and end the connection with the code for it."""
        self.errors += 1
        self.journal.note("protocol broken", code=error.code, reason=error.reason)
        code = "message_too_big" if error.code == 1009 else "bad_frame"
        self.fanout.send(client.subscriber, frame(Error(code=code, detail=error.reason)))
        client.close(error.code, error.reason)

    # slow ones

    def hold(self, subscriber: Subscriber) -> None:
        subscriber.hold(time.monotonic())
        self.subscriptions.replays.mark(subscriber)
        self._held[subscriber] = None

    def drain(self, subscriber: Subscriber) -> None:
        held = subscriber.held
        books = subscriber.drain(time.monotonic())
        if subscriber.held is None:
            self._held.pop(subscriber, None)
            if held is not None:
                self.fanout.conflated += held.skipped
            if books:
                self.joins.again(subscriber, books)
            self.joins.pump(subscriber)

    # the timer

    async def run(self) -> None:
        """Look after all clients until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            self.tick(time.monotonic())

    def tick(self, now: float) -> None:
        self.now = now
        if self.gate is not None:
            self.gate.tick(time.time())
        for subscriber in list(self._held):
            held = subscriber.held
            if held is not None and now - held.since > self.settings.stall_timeout_s:
                subscriber.cut("the client did not read", now)
        bucket = self._buckets[self._tick % len(self._buckets)]
        self._tick += 1
        for client in list(bucket):
            if now - client.seen > self.settings.idle_timeout_s:
                self.idle_closed += 1
                client.close(CloseCode.UNRESPONSIVE, "nothing heard from the client")
            else:
                client.ping()

    async def close_all(self, over_s: float = 0.0) -> None:
        """Ask every client to reconnect, one after the other over `over_s` at most: who comes back costs more than who
        leaves. Whoever has not answered ANSWER_S after the last (less where `over_s` is short) is cut off."""
        self.draining = True
        clients = [client for bucket in self._buckets for client in bucket]
        every_s = min(CLOSE_EVERY_S, over_s / max(1, len(clients)))
        began = time.monotonic()
        for number, client in enumerate(clients):
            ahead_s = began + number * every_s - time.monotonic()
            if ahead_s > 0.005:
                await asyncio.sleep(ahead_s)
            if client.bucket >= 0:
                self._send_away(client)
        deadline = time.monotonic() + min(ANSWER_S, max(0.3, over_s))
        while self._closing and time.monotonic() < deadline:  # noqa: ASYNC110 - each connection would need an event
            await asyncio.sleep(0.02)
        if self._closing:
            logger.info("clients did not answer the close frame count=%d", len(self._closing))
        for client in list(self._closing):
            client.abort()

    def _send_away(self, client: Client) -> None:
        first, last = RECONNECT_MS
        hint = random.randint(first, last + self._count)
        client.close(CloseCode.RESTART, f"the gateway is restarting; reconnect_ms={hint}")
