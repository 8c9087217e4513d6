"""The replay server: recorded sessions behind a venue's own WebSocket and REST, on 127.0.0.1.

Every session is a track of its own. All tracks start with the first subscription, so that the first client misses
nothing. A track that loops goes on as a venue would after a moment's outage: at each wrap the sockets that carry its
streams are closed, and `pause_s` later its frames come again with times and ids moved up. Trade numbers go on without
a hole, as nothing was traded meanwhile. Numbers of book updates leave one, because the first book of a lap does not
follow from the last one of the lap before: a client that misses the closing finds a gap, never a wrong book.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from aiohttp import WSCloseCode, web

from feeds.dialects import dialect_of
from feeds.dialects.base import EVERYONE, Answer, Conversation, Dialect, Item, Refused
from feeds.replay.client import Client
from feeds.replay.instruments import find_instruments
from feeds.replay.track import Pace, Track, load
from feeds.session import Session
from hub.errors import ConfigError

__all__ = ["ReplayServer"]

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
CLIENTS_MAX = 500
SPEED_MAX = 10_000
WINDOW_S = 60.0


class ReplayServer:
    """Serves sessions of one venue; `async with` starts and stops it.

    `port` 0 takes any free one. `speed` is how much faster than recorded frames come. `shift` moves all times, so that
    the first frame comes with the present time; with `speed` they are that much closer together, and stay the present.
    Without it times go on from the recorded ones. `cut_after_s` closes each connection by force after that time, and
    `notice_s` before it the venue's notice is sent. ConfigError or SessionError where `sessions` cannot be played.
    """

    def __init__(
        self,
        venue: str,
        sessions: Sequence[str | Path],
        *,
        port: int = 0,
        speed: float = 1.0,
        loop: bool = False,
        shift: bool = False,
        start_now: bool = False,
        instruments: str | Path | None = None,
        pause_s: float = 2.0,
        ping_s: float | None = None,
        cut_after_s: float | None = None,
        notice_s: float | None = None,
    ) -> None:
        if not 0 < speed <= SPEED_MAX:
            raise ConfigError(f"speed must be above 0 and at most {SPEED_MAX}, not {speed}")
        if not sessions:
            raise ConfigError("no session to replay")
        self.port = port
        self.dialect: Dialect = dialect_of(venue)(self.now)
        self.clients: set[Client] = set()
        self._shift, self._start_now = shift, start_now
        self._ping_s = ping_s if ping_s is not None else self.dialect.rules.ping_s
        self._cut_after_s, self._notice_s = cut_after_s, notice_s
        opened = [Session(path) for path in sessions]
        pace = Pace(speed=speed, loop=loop, shift=shift, pause_s=pause_s)
        self.tracks = [
            Track(load(session, self.dialect), self.dialect, pace, self._emit, self._wrapped) for session in opened
        ]
        self._attach()
        symbols = {symbol for track in self.tracks for symbol in track.recording.symbols}
        self.dialect.instruments = find_instruments(venue, opened, instruments, symbols)
        self._running: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None
        self._scripted: deque[tuple[int, int]] = deque()
        self._window = 0
        self._weight = 0

    def _attach(self) -> None:
        owners: dict[str, str] = {}
        for track in self.tracks:
            name = track.recording.name
            for symbol in track.recording.symbols:
                if owners.setdefault(symbol, name) != name:
                    raise ConfigError(f"{symbol} is in {owners[symbol]} and {name}: play one of them")
            self.dialect.attach(list(track.recording.symbols), track)

    # life

    async def __aenter__(self) -> "ReplayServer":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; ConfigError where the port is taken."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self._handle)
        app.router.add_post("/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, self.port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(f"cannot listen on {HOST}:{self.port}: {error}") from error
        self.port = self._runner.addresses[0][1]
        log.info("replaying venue=%s tracks=%d url=%s", self.dialect.venue, len(self.tracks), self.ws_url)
        if self._start_now:
            self.play()

    async def stop(self) -> None:
        """Close all sockets and stop listening."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self.disconnect("server stops")
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def ws_url(self) -> str:
        return f"ws://{HOST}:{self.port}"

    @property
    def rest_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def now(self) -> int:
        """Return the venue's time, int ns."""
        if self._shift or not self.tracks:
            return time.time_ns()
        return max(track.now() for track in self.tracks)

    # what tests and operators do to it

    def play(self) -> None:
        """Start all tracks, once."""
        if not self._running:
            now = time.time_ns()
            self._running = [asyncio.create_task(track.run(now)) for track in self.tracks]
            for task in self._running:
                task.add_done_callback(_report)

    async def finished(self) -> None:
        """Wait until every track came to its end; never, where they loop."""
        for track in self.tracks:
            await track.done.wait()

    def disconnect(self, reason: str = "connection reset") -> None:
        """Close the sockets of all clients."""
        for client in list(self.clients):
            client.end(WSCloseCode.GOING_AWAY, reason)

    def announce_shutdown(self) -> None:
        """Send the venue's notice of a shutdown to all clients."""
        for client in self.clients:
            self._notify(client)

    def limit(self, status: int, retry_after_s: int, times: int = 1) -> None:
        """Have the next `times` REST requests turned away with `status` (429 or 418)."""
        self._scripted.extend([(status, retry_after_s)] * times)

    # tracks

    def _emit(self, track: Track, item: Item) -> None:
        for data in self.dialect.play(item, track.lap):
            for topic in item.reading.topics:
                for client in self.clients:
                    if topic in client.conversation.topics:
                        client.send(client.conversation.render(topic, item, data))
                    elif topic == EVERYONE and client.conversation.topics:
                        client.send(item.payload, binary=item.binary)

    def _wrapped(self, track: Track) -> None:
        log.info("lap ended session=%s lap=%d", track.recording.name, track.lap.number)
        for client in list(self.clients):
            if not track.recording.topics.isdisjoint(client.conversation.topics):
                client.end(WSCloseCode.GOING_AWAY, "going away")

    # clients

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return self._rest(request.path, query, await request.read() if request.method == "POST" else None)
        try:
            conversation = self.dialect.conversation(request.path, query)
            conversation.asked({name.lower(): value for name, value in request.headers.items()})
        except Refused as refused:
            return web.Response(status=refused.status, text=refused.reason)
        if len(self.clients) >= CLIENTS_MAX:
            return web.Response(status=503, text="too many connections")
        return await self._serve(request, conversation)

    async def _serve(self, request: web.Request, conversation: Conversation) -> web.StreamResponse:
        rules = self.dialect.rules
        socket = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=rules.message_bytes)
        await socket.prepare(request)
        client = Client(socket, conversation, rules, self._ping_s, self._subscribed)
        self.clients.add(client)
        timers = self._timers(client)
        try:
            self._subscribed(client)
            await client.serve(request)
        finally:
            self.clients.discard(client)
            conversation.closed()
            for timer in timers:
                timer.cancel()
        return socket

    def _timers(self, client: Client) -> list[asyncio.TimerHandle]:
        if self._cut_after_s is None:
            return []
        loop = asyncio.get_running_loop()
        timers = [loop.call_later(self._cut_after_s, client.end, WSCloseCode.GOING_AWAY, "24 hours are over")]
        if self._notice_s is not None:
            timers.append(loop.call_later(max(0.0, self._cut_after_s - self._notice_s), self._notify, client))
        return timers

    def _notify(self, client: Client) -> None:
        for frame in client.conversation.shutdown(self.now()):
            client.send(frame)

    def _subscribed(self, client: Client) -> None:
        if client.conversation.topics:
            self.play()

    def _rest(self, path: str, query: dict[str, str], body: bytes | None) -> web.Response:
        loop_time = asyncio.get_running_loop().time()
        window = int(loop_time / WINDOW_S)
        if window != self._window:
            self._window, self._weight = window, 0
        weight = self.dialect.weight(path, query)
        if self._scripted:
            answer = self.dialect.limited(*self._scripted.popleft())
        elif self._weight + weight > self.dialect.rules.rest_weight:
            answer = self.dialect.limited(429, int((window + 1) * WINDOW_S - loop_time) + 1)
        else:
            self._weight += weight
            answer = self.dialect.rest(path, query) if body is None else self.dialect.post(path, body)
        return _response(answer, self.dialect.used(self._weight))


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a track ended by an error", exc_info=error)


def _response(answer: Answer, used: dict[str, str]) -> web.Response:
    headers = {"Content-Type": "application/json;charset=UTF-8", **used, **answer.headers}
    return web.Response(body=answer.body, status=answer.status, headers=headers)
