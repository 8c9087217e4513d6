"""One session on its own timeline: when each frame is due, which lap it is, and what ids and times are moved by."""

import asyncio
from collections.abc import Callable

from msgspec import Struct

from feeds.dialects.base import Dialect, Item, Lap, Span
from feeds.registry import adapter_of
from feeds.session import Session
from hub.errors import SessionError
from hub.intervals import NS_PER_S

__all__ = ["Pace", "Recording", "Track", "load"]

#: Frames sent without a pause when they are due: clients' writers get their turn after that.
BURST = 50


class Recording:
    """What a session holds for clients: its items in order, its symbols, the ids it uses, its length in ns."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.items: list[Item] = []
        self.symbols: dict[str, None] = {}
        self.topics: set[str] = set()
        self.spans: dict[str, Span] = {}
        self.length = 0
        self.origin = 0
        """recorded venue time (int ns) that belongs to the track's start"""

    def note(self, ids: tuple[tuple[str, int], ...], holes: dict[str, int]) -> None:
        for space, number in ids:
            span = self.spans.get(space)
            if span is None:
                self.spans[space] = Span(number, number, holes.get(space.rpartition(" ")[2], 0))
            else:
                span.low, span.high = min(span.low, number), max(span.high, number)


def load(session: Session, dialect: Dialect) -> Recording:
    """Read a whole session; SessionError where it cannot be read."""
    recording = Recording(session.path.name)
    _load_frames(session, dialect, recording)
    resource_of = adapter_of(dialect.venue).resource_of
    for body in session.bodies:
        resource, symbol = resource_of(body.url)
        try:
            ids = dialect.add_body(resource, symbol, body.url, body.read())
        except (ValueError, TypeError) as error:
            raise SessionError(f"{body.path}: {error}") from error
        if symbol and recording.items:
            recording.symbols[symbol] = None
            recording.note(ids, dict(dialect.holes))
    return recording


def _load_frames(session: Session, dialect: Dialect, recording: Recording) -> None:
    first = at = 0
    lags: list[int] = []
    latest = 0
    opened: list[bytes] = []
    for frame in session.frames():
        if frame.direction == "open":
            opened.append(frame.payload)
        elif frame.on is not None:
            if not 0 <= frame.on < len(opened):
                raise SessionError(f"{session.path}: a frame on connection {frame.on}, which was not opened")
            dialect.sent(opened[frame.on])
        if frame.direction != "in":
            dialect.sent(frame.payload)
            continue
        reading = dialect.read(frame.payload, frame.binary)
        if reading is None:
            continue
        ts = frame.ts if frame.ts is not None else reading.ts_event
        if not recording.items:
            first = ts or 0
        # A clock that was set back, or no time at all: due together with the frame before.
        at = max(at, ts - first) if ts is not None else at
        if reading.ts_event is not None:
            lags.append(first + at - reading.ts_event)
            latest = max(latest, reading.ts_event)
        recording.items.append(Item(at, frame.payload, reading, frame.binary))
        recording.topics.update(reading.topics)
        if reading.symbol:
            recording.symbols[reading.symbol] = None
        recording.note(reading.ids, dict(dialect.holes))
    # The smallest lag is taken for none: no venue time is told before it comes.
    recording.origin = first - min(lags, default=0)
    # Venues greet with events that are hours old: they count for no length, a real venue tells them again as well.
    recording.length = max(at, latest - recording.origin if lags else 0)


class Pace(Struct, frozen=True, kw_only=True):
    """How tracks are played; `pause_s` lies between two laps. See ReplayServer."""

    speed: float
    loop: bool
    shift: bool
    pause_s: float


class Track:
    """Plays a recording, lap after lap. `emit` gets each item when it is due, `wrapped` is told of each lap's end."""

    def __init__(
        self,
        recording: Recording,
        dialect: Dialect,
        pace: Pace,
        emit: Callable[["Track", Item], None],
        wrapped: Callable[["Track"], None],
    ) -> None:
        self.recording, self.dialect, self.pace = recording, dialect, pace
        self.done = asyncio.Event()
        self.position = 0
        """items of this lap that were played"""
        self._emit, self._wrapped = emit, wrapped
        self._started = 0.0
        self._base = recording.origin
        self.lap = self._lap(0)

    @property
    def period(self) -> int:
        """Recorded ns from the start of one lap to the start of the next."""
        return self.recording.length + int(self.pace.pause_s * self.pace.speed * NS_PER_S)

    def _lap(self, number: int) -> Lap:
        return Lap(
            number=number,
            exact=number == 0 and not self.pace.shift,
            origin=self.recording.origin,
            base=self._base,
            offset=number * self.period,
            # Moved to now, time has to pass as fast as it does: speed brings the recorded times closer together.
            scale=self.pace.speed if self.pace.shift else 1.0,
            spans=self.recording.spans,
        )

    def now(self) -> int:
        """Return the venue's time, int ns: that of the first frame until the track is started, then it passes."""
        elapsed_s = asyncio.get_running_loop().time() - self._started if self._started else 0.0
        at = int(elapsed_s * self.pace.speed * NS_PER_S) - self.lap.number * self.period
        return self.lap.time(self.recording.origin + max(0, min(at, self.recording.length)))

    async def run(self, now: int) -> None:
        """Play from the start; `now` (int ns UTC) is what a moved track takes for its first moment."""
        loop = asyncio.get_running_loop()
        self._started = loop.time()
        if self.pace.shift:
            self._base = now
        self.lap = self._lap(0)
        symbols = list(self.recording.symbols)
        while self.recording.items:
            await self._play_lap(loop)
            if not self.pace.loop:
                break
            self.lap = self._lap(self.lap.number + 1)
            self.position = 0
            self.dialect.begin(symbols)
            self._wrapped(self)
        self.done.set()

    async def _play_lap(self, loop: asyncio.AbstractEventLoop) -> None:
        start = self._started + self.lap.number * self.period / NS_PER_S / self.pace.speed
        burst = 0
        for item in self.recording.items:
            delay_s = start + item.at / NS_PER_S / self.pace.speed - loop.time()
            burst += 1
            if delay_s > 0 or burst >= BURST:
                await asyncio.sleep(max(0.0, delay_s))
                burst = 0
            self.position += 1
            self._emit(self, item)
