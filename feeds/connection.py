"""One socket driving one adapter: connect, subscribe, receive, keep alive.

What to do when it ends is the runner's business.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from feeds.adapter import Acked, Adapter, Event, Fetch, LoggedIn, Refused, Rotate, Send, Subscription
from feeds.pipeline import Intent, Pipeline, Source
from hub.errors import WireError
from hub.venues import ConnectionReport

__all__ = ["Connection"]

log = logging.getLogger(__name__)

ACK_TIMEOUT_S = 10.0
ACK_TRIES = 3
OPEN_TIMEOUT_S = 10.0

#: What begins the events of a frame that is about the connection itself.
_ANSWERS = frozenset({Acked, Refused, Rotate, LoggedIn, Send})

Submit = Callable[[Fetch, Callable[[Fetch, bytes], None], Callable[[], bool]], None]


class Connection:
    """One connection. `run` returns why it ended; the adapter lives and dies with it."""

    def __init__(
        self,
        adapter: Adapter,
        url: str,
        subs: Sequence[Subscription],
        pipeline: Pipeline,
        submit: Submit,
        generation: int,
    ) -> None:
        self.adapter, self.url, self.subs, self.pipeline = adapter, url, list(subs), pipeline
        self.source = Source(adapter, generation, _kinds(adapter, self.subs))
        self.rotate = asyncio.Event()
        self.frames = 0
        self.bytes = 0
        self.acked: set[str] = set()
        self.refused: dict[str, str] = {}
        self.since = 0
        self.open = False
        self._submit = submit
        self._symbols_of: dict[str, set[str]] = {}
        for sub in self.subs:
            for name in adapter.venue_channels([sub]):
                self._symbols_of.setdefault(name, set()).add(sub.instrument.symbol)
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue(10_000)
        self._socket: ClientConnection | None = None
        self._logged_errors = 0

    @property
    def symbols(self) -> set[str]:
        return {sub.instrument.symbol for sub in self.subs}

    @property
    def settled(self) -> bool:
        """Tell whether the venue answered for every channel."""
        return self.acked | self.refused.keys() >= self._symbols_of.keys()

    @property
    def ready(self) -> bool:
        """Tell whether this connection carries all it should, its books included."""
        with_books = {sub.instrument.symbol for sub in self.subs if sub.kind in {"book", "depth"}}
        return self.open and self.settled and self.pipeline.owns_books(self.source, with_books)

    def report(self) -> ConnectionReport:
        heard = [sub for sub in self.subs if self.pipeline.count(sub.instrument.symbol, sub.kind)]
        return ConnectionReport(
            url=self.url,
            connected=self.open,
            since=self.since,
            requested=len(self._symbols_of),
            acked=len(self.acked),
            with_data=len(self.adapter.venue_channels(heard)),
            refused=dict(list(self.refused.items())[:50]),
            messages=self.frames,
        )

    async def run(self) -> str:
        """Connect and receive until the socket ends or is cancelled; returns the reason."""
        limits = self.adapter.limits
        try:
            async with connect(
                self.url,
                max_size=limits.max_frame_bytes,
                max_queue=(256, 64),
                compression=None,
                open_timeout=OPEN_TIMEOUT_S,
                ping_interval=limits.heartbeat_s / 3,
                ping_timeout=limits.heartbeat_s / 3,
                close_timeout=2,
            ) as socket:
                self._socket, self.open, self.since = socket, True, time.time_ns()
                return await self._serve(socket)
        except ConnectionClosed as error:
            return f"connection closed: {error}"
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as error:
            return f"cannot connect to {self.url}: {str(error) or type(error).__name__}"
        finally:
            self.open = False

    async def close(self) -> None:
        """End the connection in an orderly way; `run` returns."""
        if self._socket is not None:
            await self._socket.close()

    async def _serve(self, socket: ClientConnection) -> str:
        login = self.adapter.login()
        for frame in login or self.adapter.subscribe(self.subs):
            self._outbox.put_nowait(frame)
        helpers = [asyncio.create_task(self._send(socket)), asyncio.create_task(self._keep())]
        try:
            await self._receive(socket)
        finally:
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
        return "connection closed"

    async def _receive(self, socket: ClientConnection) -> None:
        receive, feed, source, clock = self.adapter.receive, self.pipeline.feed, self.source, time.time_ns
        while True:
            payload = await socket.recv(decode=False)
            now = clock()
            self.frames += 1
            self.bytes += len(payload)
            try:
                events = receive(payload, now)
            except WireError as error:
                self._bad_frame(error, payload)
                continue
            if events:
                if type(events[0]) in _ANSWERS:
                    self._notice(events, now)
                intents = feed(source, events)
                if intents:
                    self._act(intents)

    def _notice(self, events: Iterable[Event | Fetch], now: int) -> None:
        """Answers of the venue to what this connection asked; rare among data."""
        for event in events:
            kind = type(event)
            if kind is Acked:
                self._acked(event.channels, now)  # type: ignore[union-attr]
            elif kind is Refused:
                self._refused(event.channels, event.reason)  # type: ignore[union-attr]
            elif kind is Rotate:
                log.info("rotating venue=%s reason=%s", self.adapter.venue, event.reason)  # type: ignore[union-attr]
                self.rotate.set()
            elif kind is Send:
                self._outbox.put_nowait(event.frame)  # type: ignore[union-attr]
            elif kind is LoggedIn:
                for frame in self.adapter.subscribe(self.subs):
                    self._outbox.put_nowait(frame)

    def _acked(self, channels: Iterable[str], now: int) -> None:
        self.acked.update(channels)
        symbols: set[str] = set().union(*(self._symbols_of.get(name, set()) for name in channels))
        # A symbol flows once all of its channels are there.
        missing = self._symbols_of.keys() - self.acked - self.refused.keys()
        waiting: set[str] = set().union(*(self._symbols_of[name] for name in missing))
        self.pipeline.flowing(self.source, symbols - waiting, now)

    def _refused(self, channels: Iterable[str], reason: str) -> None:
        names = list(channels)
        self.refused.update(dict.fromkeys(names, reason))
        self.pipeline.counters["subscriptions_refused"] += max(1, len(names))
        log.warning("venue refused venue=%s channels=%d reason=%s", self.adapter.venue, len(names), reason)

    def _bad_frame(self, error: WireError, payload: bytes) -> None:
        self.pipeline.counters["wire_errors"] += 1
        self._logged_errors += 1
        if self._logged_errors <= 10 or self._logged_errors % 1000 == 0:
            log.warning("frame skipped %s bytes=%d begins=%r", error, len(payload), payload[:80])

    def _act(self, intents: Iterable[Intent]) -> None:
        for intent in intents:
            if isinstance(intent, Fetch):
                self._submit(intent, self._answered, self._wanted)
            else:
                self._outbox.put_nowait(intent)

    def _wanted(self) -> bool:
        return self.open

    def _answered(self, fetch: Fetch, body: bytes) -> None:
        now = time.time_ns()
        try:
            events = self.adapter.snapshot(fetch, body, now)
        except WireError as error:
            self._bad_frame(error, body)
            asyncio.get_running_loop().call_later(5.0, self._submit, fetch, self._answered, self._wanted)
            return
        again = [event for event in events if isinstance(event, Fetch)]
        intents = self.pipeline.feed(self.source, [event for event in events if not isinstance(event, Fetch)])
        self._act(intents)
        if again:
            # The snapshot was too old: a newer one exists only after the venue moved on.
            asyncio.get_running_loop().call_later(0.5, self._act, again)

    async def _send(self, socket: ClientConnection) -> None:
        """Send frames no faster than the venue takes them: evenly spaced, since bursts trip its counters."""
        while True:
            await socket.send(await self._outbox.get(), text=True)
            await asyncio.sleep(1.25 / self.adapter.limits.messages_per_s)

    async def _keep(self) -> None:
        """Heartbeats, and subscriptions that were never answered."""
        interval = max(1.0, self.adapter.limits.ping_s)
        tries = 0
        while True:
            await asyncio.sleep(min(interval, ACK_TIMEOUT_S))
            frame = self.adapter.ping()
            if frame is not None:
                self._outbox.put_nowait(frame)
            if self.settled or tries >= ACK_TRIES:
                continue
            tries += 1
            missing = self._symbols_of.keys() - self.acked - self.refused.keys()
            again = [sub for sub in self.subs if set(self.adapter.venue_channels([sub])) & missing]
            log.warning("subscriptions unanswered venue=%s channels=%d try=%d", self.adapter.venue, len(missing), tries)
            for frame in self.adapter.subscribe(again):
                self._outbox.put_nowait(frame)


def _kinds(adapter: Adapter, subs: Sequence[Subscription]) -> set[str]:
    """Return what tells this connection from those to the venue's other endpoints; empty where there is one."""
    return {sub.kind for sub in subs} if len(adapter.endpoints) > 1 else set()
