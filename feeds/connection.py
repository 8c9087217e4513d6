"""One socket driving one adapter: connect, subscribe, receive, keep alive.

What to do when it ends is the runner's business.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from feeds.adapter import Acked, Adapter, Event, Fetch, LoggedIn, Refused, Rotate, Send, Subscription
from feeds.outbox import Outbox
from feeds.pipeline import Intent, Pipeline, Source
from hub.errors import WireError
from hub.instruments import Instrument
from hub.venues import ConnectionReport

__all__ = ["Connection"]

log = logging.getLogger(__name__)

#: A channel that the venue said nothing about is asked for again, so many times in all.
ACK_TIMEOUT_S = 10.0
ACK_TRIES = 3
CHECK_S = 1.0
OPEN_TIMEOUT_S = 10.0
#: Who was not let in by then tries anew: the venue may leave the connection open.
LOGIN_TIMEOUT_S = 20.0

#: What begins the events of a frame that is about the connection itself.
_ANSWERS = frozenset({Acked, Refused, Rotate, LoggedIn, Send})

Submit = Callable[[Fetch, Callable[[Fetch, bytes], None], Callable[[], bool]], None]


@dataclass(slots=True)
class _Channel:
    """One of the venue's channels: what it is for, how often and when (monotonic, s) it was asked for."""

    uses: set[tuple[str, str]] = field(default_factory=set)
    """(symbol, kind)"""
    tries: int = 0
    asked: float = 0.0


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
        self._channels: dict[str, _Channel] = {}
        self._note(self.subs)
        limits = adapter.limits
        self._outbox = Outbox(limits.requests, limits.requests_window_s, self._spent)
        self._subscribing = False
        self._login_until = float("inf")
        self._verdict = ""
        self._sent_at = 0.0
        self._socket: ClientConnection | None = None
        self._logged_errors = 0

    @property
    def symbols(self) -> set[str]:
        return {sub.instrument.symbol for sub in self.subs}

    @property
    def settled(self) -> bool:
        """Tell whether the venue answered for every channel."""
        return self.acked | self.refused.keys() >= self._channels.keys()

    @property
    def ready(self) -> bool:
        """Tell whether this connection carries all it should, its books included."""
        return self.ready_but(())

    def ready_but(self, excused: Collection[str]) -> bool:
        """Tell whether it carries all but the books of `excused` symbols, and of those the venue refused."""
        refused = {use for name in self.refused for use in self._channels[name].uses}
        books = {
            sub.instrument.symbol
            for sub in self.subs
            if sub.kind in {"book", "depth"} and (sub.instrument.symbol, sub.kind) not in refused
        }
        return self.open and self.settled and self.pipeline.owns_books(self.source, books.difference(excused))

    def learn(self, instruments: Sequence[Instrument]) -> bool:
        """Tell whether this connection can carry `instruments` too."""
        return self.adapter.learn(instruments)

    def add(self, subs: Sequence[Subscription]) -> None:
        """Carry `subs` as well; their instruments were learnt."""
        self.subs += subs
        self._note(subs)
        if self._subscribing:
            self._ask(subs)

    def remove(self, symbols: Collection[str]) -> None:
        """Carry nothing of `symbols` any more."""
        gone = [sub for sub in self.subs if sub.instrument.symbol in symbols]
        self.subs = [sub for sub in self.subs if sub.instrument.symbol not in symbols]
        kept = set(self.adapter.venue_channels(self.subs))
        for name, channel in list(self._channels.items()):
            channel.uses = {use for use in channel.uses if use[0] not in symbols}
            if not channel.uses:
                del self._channels[name]
                self.acked.discard(name)
                self.refused.pop(name, None)
        unwanted = [sub for sub in gone if kept.isdisjoint(self.adapter.venue_channels([sub]))]
        if self._subscribing and unwanted:
            for frame in self.adapter.unsubscribe(unwanted):
                self._outbox.put(frame)

    def _note(self, subs: Iterable[Subscription]) -> None:
        for sub in subs:
            for name in self.adapter.venue_channels([sub]):
                self._channels.setdefault(name, _Channel()).uses.add((sub.instrument.symbol, sub.kind))

    def _ask(self, subs: Sequence[Subscription]) -> None:
        """Queue the frames that subscribe to `subs`."""
        self._subscribing = True
        now = time.monotonic()
        for name in self.adapter.venue_channels(subs):
            channel = self._channels[name]
            channel.tries, channel.asked = channel.tries + 1, now
        for frame in self.adapter.subscribe(subs):
            self._outbox.put(frame)

    def report(self) -> ConnectionReport:
        heard = [sub for sub in self.subs if self.pipeline.count(sub.instrument.symbol, sub.kind)]
        return ConnectionReport(
            url=self.url,
            connected=self.open,
            since=self.since,
            requested=len(self._channels),
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
            return self._verdict or f"connection closed: {error}"
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as error:
            return f"cannot connect to {self.url}: {str(error) or type(error).__name__}"
        finally:
            self.open = False
            self.pipeline.counters["bytes"] += self.bytes
            self.bytes = 0

    async def close(self) -> None:
        """End the connection in an orderly way; `run` returns."""
        if self._socket is not None:
            await self._socket.close()

    async def _serve(self, socket: ClientConnection) -> str:
        login = self.adapter.login()
        for frame in login:
            self._outbox.put(frame)
        if login:
            self._login_until = time.monotonic() + LOGIN_TIMEOUT_S
            self._verdict = "the venue did not answer the login"
        else:
            self._ask(self.subs)
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
                source.heard = now
                if type(events[0]) in _ANSWERS:
                    self._notice(events, now)
                intents = feed(source, events)
                if intents:
                    self.act(intents)

    def _notice(self, events: Iterable[Event | Fetch], now: int) -> None:
        """Answers of the venue to what this connection asked; rare among data."""
        for event in events:
            if isinstance(event, Acked):
                self._acked(event.channels, now)
            elif isinstance(event, Refused):
                self._refused(event.channels, event.reason)
            elif isinstance(event, Rotate):
                log.info("rotating venue=%s reason=%s", self.adapter.venue, event.reason)
                self.rotate.set()
            elif isinstance(event, Send):
                self._outbox.put(event.frame, urgent=True)
            elif isinstance(event, LoggedIn):
                self._login_until, self._verdict = float("inf"), ""
                self._ask(self.subs)

    def _acked(self, channels: Iterable[str], now: int) -> None:
        names = [name for name in channels if name in self._channels]
        self.acked.update(names)
        for name in names:
            if self.refused.pop(name, None) is not None:
                for symbol, kind in self._channels[name].uses:
                    self.pipeline.accepted(symbol, kind, now)
        symbols = self._symbols_of(names)
        # A symbol flows once all of its channels are there.
        missing = self._channels.keys() - self.acked - self.refused.keys()
        self.pipeline.flowing(self.source, symbols - self._symbols_of(missing), now)

    def _symbols_of(self, names: Iterable[str]) -> set[str]:
        return {symbol for name in names for symbol, _ in self._channels[name].uses}

    def _refused(self, channels: Iterable[str], reason: str) -> None:
        names = list(channels)
        self.pipeline.counters["subscriptions_refused"] += max(1, len(names))
        log.warning("venue refused venue=%s channels=%d reason=%s", self.adapter.venue, len(names), reason)
        if self._verdict:
            self._verdict = f"the venue refused the login: {reason}"
        now = time.time_ns()
        for name in names:
            if name in self._channels:
                self.refused[name] = reason
                self.acked.discard(name)
                for symbol, kind in self._channels[name].uses:
                    self.pipeline.refused(symbol, kind, f"the venue refused: {reason}", now)

    def _bad_frame(self, error: WireError, payload: bytes) -> None:
        self.pipeline.counters["wire_errors"] += 1
        self._logged_errors += 1
        if self._logged_errors <= 10 or self._logged_errors % 1000 == 0:
            log.warning("frame skipped %s bytes=%d begins=%r", error, len(payload), payload[:80])

    def act(self, intents: Iterable[Intent]) -> None:
        """Carry out what an adapter wants done."""
        for intent in intents:
            if isinstance(intent, Fetch):
                self._submit(intent, self._answered, self._wanted)
            else:
                self._outbox.put(intent)

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
        self.act(intents)
        if again:
            # The snapshot was too old: a newer one exists only after the venue moved on.
            asyncio.get_running_loop().call_later(0.5, self.act, again)

    async def _send(self, socket: ClientConnection) -> None:
        """Send frames no faster than the venue takes them: evenly spaced, since bursts trip its counters."""
        while True:
            await socket.send(await self._outbox.get(), text=True)
            self._sent_at = time.monotonic()
            await asyncio.sleep(1.25 / self.adapter.limits.messages_per_s)

    def _spent(self) -> None:
        """What waits would wait long: a new connection may ask at once."""
        if not self.rotate.is_set():
            log.warning("requests of this connection are used up, rotating venue=%s", self.adapter.venue)
            self.rotate.set()

    async def _keep(self) -> None:
        """Heartbeats, and subscriptions that were never answered."""
        interval = max(1.0, self.adapter.limits.ping_s)
        pinged = time.monotonic()
        while True:
            await asyncio.sleep(min(CHECK_S, interval))
            now = time.monotonic()
            if now - pinged >= interval:
                pinged = now
                frame = self.adapter.ping()
                if frame is not None:
                    self._outbox.put(frame, urgent=True)
            if now >= self._login_until:
                await self.close()
            self._ask_again(now)

    def _ask_again(self, now: float) -> None:
        """Repeat what was not answered; what stays so counts as refused, for everybody to see."""
        if self.settled or not self._subscribing or self._outbox or now - self._sent_at < ACK_TIMEOUT_S:
            return
        waiting = self._channels.keys() - self.acked - self.refused.keys()
        late = {name for name in waiting if now - self._channels[name].asked >= ACK_TIMEOUT_S}
        hopeless = {name for name in late if self._channels[name].tries >= ACK_TRIES}
        if hopeless:
            self._refused(sorted(hopeless), f"no answer to {ACK_TRIES} requests")
        again = [sub for sub in self.subs if not (late - hopeless).isdisjoint(self.adapter.venue_channels([sub]))]
        if again:
            log.warning("subscriptions unanswered venue=%s channels=%d", self.adapter.venue, len(late - hopeless))
            self._ask(again)


def _kinds(adapter: Adapter, subs: Sequence[Subscription]) -> set[str]:
    """Return what tells this connection from those to the venue's other endpoints; empty where there is one."""
    return {sub.kind for sub in subs} if len(adapter.endpoints) > 1 else set()
