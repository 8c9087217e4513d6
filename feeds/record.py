"""`python -m feeds.record VENUE --symbols A,B --out DIR`: record a session from a venue, without Redis.

The venue's own adapter and the feed's pipeline decide what is subscribed and fetched, so that what they ask for when
the session is played is in it. What their messages are is nobody's concern here: they go nowhere.
"""

import argparse
import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from feeds.adapter import Adapter, Event, Fetch, LoggedIn, Rotate, Send, Subscription
from feeds.backoff import Backoff
from feeds.pipeline import Intent, Pipeline, Source
from feeds.registry import ADAPTERS, adapter_of, credentials_of
from feeds.rest import LocalLimiter, RestClient
from feeds.session import SessionWriter
from feeds.sharding import shards, url_of
from hub.config import Settings, VenueSettings
from hub.errors import FetchError, WireError
from hub.instruments import Instrument, InstrumentTable
from hub.intervals import NS_PER_S
from hub.model import Book, Message
from hub.processes import load_or_exit, run

__all__ = ["Recorder", "record"]

log = logging.getLogger(__name__)

PROGRESS_S = 5.0
FETCHES = 4
#: A snapshot that was too old is asked for again after this: a newer one exists only after the venue moved on.
AGAIN_S = 0.5


class _Lost(Exception):
    """A connection ended; the reason is the message."""


class _Nowhere:
    """A sink that drops everything."""

    def publish(self, message: Message) -> None: ...

    def renew(self, snapshot: Book) -> None: ...

    def withdraw(self, kind: str, symbol: str) -> None: ...


class _Line:
    """One open connection of an attempt."""

    def __init__(self, socket: ClientConnection, source: Source, subs: Sequence[Subscription]) -> None:
        self.socket, self.source, self.subs = socket, source, subs
        self.on: int | None = None
        self.outbox: asyncio.Queue[bytes] = asyncio.Queue(10_000)
        self.secret: list[bytes] = []
        """frames with credentials, never recorded"""


class Recorder:
    """Records `instruments` into `writer`; reconnects when the venue closes. `run` ends when it is cancelled."""

    def __init__(
        self,
        adapter: type[Adapter],
        instruments: Sequence[Instrument],
        settings: Settings,
        ws_url: str,
        rest: RestClient,
        writer: SessionWriter,
    ) -> None:
        own = settings.venues.get(adapter.venue, VenueSettings())
        self.adapter, self.rest, self.writer = adapter, rest, writer
        self.ws_url = ws_url
        self.pipeline = Pipeline(adapter, own.kinds, settings.books, settings.candles, _Nowhere())
        for row in instruments:
            self.pipeline.add(row)
        self.bodies = 0
        self._levels = settings.books.levels
        kinds = [kind for kind in adapter.channels if kind in self.pipeline.kinds]
        self._subs = [Subscription(kind, row) for row in instruments for kind in kinds]
        self._connects = LocalLimiter(adapter.limits.connects, adapter.limits.connects_window_s)
        self._fetching = asyncio.Semaphore(FETCHES)
        self._generation = 0

    async def run(self) -> None:
        """Record until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._progress())
            group.create_task(self._connections())

    async def _connections(self) -> None:
        backoff = Backoff()
        while True:
            before = self.writer.frames_written
            reason = await self._attempt()
            if self.writer.frames_written > before + len(self._subs):
                backoff.reset()
            delay_s = backoff.next_s()
            log.warning("connection lost venue=%s reason=%s retry_s=%.1f", self.adapter.venue, reason, delay_s)
            await asyncio.sleep(delay_s)

    async def _attempt(self) -> str:
        """Connect and record until one connection ends; returns why. A session tells of all of them as of one."""
        lines: list[_Line] = []
        try:
            async with AsyncExitStack() as stack:
                self._generation += 1
                for subs in shards(self._subs, self.adapter([])):
                    line = await self._open(stack, subs)
                    lines.append(line)
                for number, line in enumerate(lines if len(lines) > 1 else ()):
                    line.on = self.writer.opened - len(lines) + number
                async with asyncio.TaskGroup() as group:
                    for line in lines:
                        group.create_task(self._receive(line, group))
                        group.create_task(self._send(line))
                        group.create_task(self._keep(line))
        except* _Lost as lost:
            reason = str(lost.exceptions[0])
        except* (OSError, TimeoutError, InvalidHandshake, InvalidURI) as failed:
            reason = f"cannot connect: {failed.exceptions[0]}"
        now = time.time_ns()
        for line in lines:
            self.pipeline.lost(line.source, {sub.instrument.symbol for sub in line.subs}, reason, now)
        return reason

    async def _open(self, stack: AsyncExitStack, subs: Sequence[Subscription]) -> _Line:
        limits = self.adapter.limits
        await self._connects.take(1)
        endpoint = self.adapter.endpoint_of(subs[0].kind, subs[0].instrument)
        url = url_of(self.adapter, endpoint, self.ws_url)
        socket = await stack.enter_async_context(
            connect(
                url,
                max_size=limits.max_frame_bytes,
                compression=None,
                ping_interval=limits.heartbeat_s / 3,
                ping_timeout=limits.heartbeat_s / 3,
                close_timeout=2,
            )
        )
        self.writer.frame(time.time_ns(), url, "open")
        rows = {sub.instrument.symbol: sub.instrument for sub in subs}
        adapter = self.adapter(list(rows.values()), self._levels, endpoint, credentials_of(self.adapter))
        source = Source(adapter, self._generation)
        line = _Line(socket, source, subs)
        line.secret = source.adapter.login()
        for frame in line.secret or source.adapter.subscribe(subs):
            line.outbox.put_nowait(frame)
        return line

    async def _receive(self, line: _Line, group: asyncio.TaskGroup) -> None:
        while True:
            try:
                payload = await line.socket.recv(decode=False)
            except ConnectionClosed as error:
                raise _Lost(f"connection closed: {error}") from error
            now = time.time_ns()
            self.writer.frame(now, payload, on=line.on)
            try:
                events = line.source.adapter.receive(payload, now)
            except WireError as error:
                log.warning("frame recorded but not understood %s", error)
                continue
            for event in events:
                if isinstance(event, Rotate):
                    raise _Lost(event.reason)
                if isinstance(event, Send):
                    line.outbox.put_nowait(event.frame)
                elif isinstance(event, LoggedIn):
                    for frame in line.source.adapter.subscribe(line.subs):
                        line.outbox.put_nowait(frame)
            self._carry_out(line, group, self.pipeline.feed(line.source, events))

    def _carry_out(self, line: _Line, group: asyncio.TaskGroup, intents: Sequence[Intent], delay_s: float = 0) -> None:
        for intent in intents:
            if isinstance(intent, Fetch):
                group.create_task(self._fetch(line, group, intent, delay_s))
            else:
                line.outbox.put_nowait(intent)

    async def _fetch(self, line: _Line, group: asyncio.TaskGroup, fetch: Fetch, delay_s: float) -> None:
        backoff = Backoff(1.0, 30.0)
        await asyncio.sleep(delay_s)
        while True:
            try:
                async with self._fetching:
                    body = await self.rest.fetch(fetch)
                break
            except FetchError as error:
                delay_s = backoff.next_s()
                log.warning("%s; next try in %.1f s", error, delay_s)
                await asyncio.sleep(delay_s)
        now = time.time_ns()
        self.writer.body(now, self.rest.url(fetch), body, fetch.body)
        self.bodies += 1
        try:
            events: list[Event | Fetch] = line.source.adapter.snapshot(fetch, body, now)
        except WireError as error:
            log.warning("body recorded but not understood %s", error)
            return
        again = [event for event in events if isinstance(event, Fetch)]
        self._carry_out(line, group, again, AGAIN_S)
        known = [event for event in events if not isinstance(event, Fetch)]
        self._carry_out(line, group, self.pipeline.feed(line.source, known))

    async def _send(self, line: _Line) -> None:
        """Send no faster than the venue takes frames."""
        while True:
            frame = await line.outbox.get()
            try:
                await line.socket.send(frame, text=True)
            except ConnectionClosed as error:
                raise _Lost(f"connection closed: {error}") from error
            if frame not in line.secret:
                self.writer.frame(time.time_ns(), frame, "out", line.on)
            await asyncio.sleep(1.25 / self.adapter.limits.messages_per_s)

    async def _keep(self, line: _Line) -> None:
        while True:
            await asyncio.sleep(max(1.0, self.adapter.limits.heartbeat_s / 3))
            frame = line.source.adapter.ping()
            if frame is not None:
                line.outbox.put_nowait(frame)

    async def _progress(self) -> None:
        flushed = 0
        while True:
            await asyncio.sleep(1.0)
            self.writer.flush()
            flushed += 1
            if flushed % PROGRESS_S == 0:
                books = f"{self.pipeline.books_live}/{len(self.pipeline.instruments)}"
                log.info("recording frames=%d bodies=%d books=%s", self.writer.frames_written, self.bodies, books)


async def record(
    venue: str, symbols: Sequence[str], out: str, settings: Settings, ws_url: str, rest_url: str, seconds: float | None
) -> None:
    """Record `symbols` (canonical) into the folder `out` for `seconds`, for ever where None; empty URLs: the venue's.

    The folder is complete whenever this ends. UnknownInstrument, FetchError and SessionError say why it cannot begin.
    """
    adapter = adapter_of(venue, settings.venues.get(venue, VenueSettings()).feed)
    own = settings.venues.get(venue, VenueSettings())
    budget = LocalLimiter(adapter.limits.rest_weight, adapter.limits.rest_window_s)
    rest = RestClient(adapter, budget, rest_url or own.rest_url, credentials_of(adapter))
    try:
        listings = await rest.fetch_lists(adapter)
        table = InstrumentTable(venue, [row for _, body, _ in listings for row in adapter.parse_instruments(body)])
        rows = [table.get(symbol) for symbol in symbols]
        writer = SessionWriter(out)
        began = time.time_ns()
        try:
            for fetch, body, listed_at in listings:
                writer.body(listed_at, rest.url(fetch), body, fetch.body)
            recorder = Recorder(adapter, rows, settings, ws_url or own.ws_url, rest, writer)
            async with asyncio.timeout(seconds):
                await recorder.run()
        except TimeoutError:
            pass
        finally:
            writer.close()
            took_s = (time.time_ns() - began) / NS_PER_S
            log.info("session written out=%s frames=%d seconds=%.1f", out, writer.frames_written, took_s)
    finally:
        await rest.close()


def main() -> None:
    """Parse the command line and record until told to stop."""
    parser = argparse.ArgumentParser(prog="tickwire record", description="Record a session from a venue.")
    parser.add_argument("venue", choices=sorted(ADAPTERS))
    parser.add_argument("--symbols", required=True, help="canonical symbols, e.g. BTC-USDT,ETH-USDT")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the session; must be new or empty")
    parser.add_argument("--seconds", type=float, help="how long; default: until Ctrl-C")
    parser.add_argument("--ws-url", default="", help="default: the configured one, else the venue's")
    parser.add_argument("--rest-url", default="", help="default: the configured one, else the venue's")
    parser.add_argument("--config", help="TOML file; default $TICKWIRE_CONFIG, then hub.toml")
    options = parser.parse_args()
    settings = load_or_exit(options.config)
    symbols = [symbol for symbol in options.symbols.split(",") if symbol]

    async def work() -> None:
        await record(options.venue, symbols, options.out, settings, options.ws_url, options.rest_url, options.seconds)

    run(work, f"record-{options.venue}", settings)


if __name__ == "__main__":
    main()
