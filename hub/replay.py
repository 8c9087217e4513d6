"""A channel's log from a place in the past on, page by page: where to begin, what follows, what is lost.

The time of an event is `ts_event`, or `ts_recv` where the venue gives none. The log's own order counts: what comes late
keeps its place, and times read here never go back. No socket: `read` carries out one packed command and returns the
reply, None where Redis refused it.
"""

import math
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from hub.errors import RequestError
from hub.intervals import NS_PER_MS, NS_PER_S
from hub.join import Source, events_in, is_snapshot
from hub.link import pack
from hub.position import Position, format_position, parse_position, position_in

__all__ = ["PAGE", "Cursor", "Event", "Lost", "Read", "Since", "parse_since"]

#: Entries per read.
PAGE: Final = 128

Since: TypeAlias = Position | int
"""Where a replay begins: at this event, or at this time (unix ns)."""

Read: TypeAlias = Callable[[bytes], Awaitable[Any]]

_ID: Final = re.compile(r"\d+-\d+", re.ASCII)
_EXAMPLES: Final = ("2026-01-31T12:00:00Z", "1769860800", "1769860800000", "<epoch>-<seq>")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: 2200-01-01 in s. A number beyond it is in a smaller unit: ms, µs or ns.
_END_S: Final = 7_258_118_400


def parse_since(value: str | float) -> Since:
    """Return the place that `value` means: an id `<epoch>-<seq>`, or a time as ISO 8601 (UTC unless it says otherwise)
    or as a number since 1970 in s, ms, µs or ns, whichever its size fits. Raises RequestError."""
    text = str(value).strip()
    try:
        if _ID.fullmatch(text):
            return parse_position(text)
        number = _number(value)
        if number is None:
            moment = datetime.fromisoformat(text)
            since = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            ns = (since - _EPOCH) // timedelta(microseconds=1) * 1000
        else:
            ns = _nanoseconds(number)
        if not 0 <= ns < _END_S * NS_PER_S:
            raise ValueError
    except (ValueError, OverflowError) as error:
        raise RequestError("bad_since", f"since = {text[:60]!r} is no time and no id", _EXAMPLES) from error
    return ns


def _number(value: str | float) -> int | float | None:
    if not isinstance(value, str):
        return value
    try:
        return int(value)
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        return None


def _nanoseconds(number: float) -> int:
    if not math.isfinite(number):
        raise ValueError
    unit = NS_PER_S
    while number > _END_S * NS_PER_S // unit and unit > 1:
        unit //= 1000
    return number * unit if isinstance(number, int) else round(number * unit)


class Event(NamedTuple):
    """One entry of a log; `at` in unix ns."""

    at: int
    position: Position
    payload: bytes


class Lost(Struct):
    """Events between `last` (null: a time was asked for) and `following` (null: none yet) are not in the log."""

    last: Position | None
    following: Position | None


class _Times(Struct):
    ts_event: int | None = None
    ts_recv: int = 0


_times = msgspec.json.Decoder(_Times)


class Cursor:
    """Reads one log forwards. After `seek`, `fill` appends to `events`, from which the owner takes.

    `place` is the last position read, None where there is nothing to go on from. `lost` is set by either call and
    taken by the owner: it is about what comes next. `end_at`: unix ns at which the log was read to its end, 0 before.

    A book begins at the newest snapshot (in the log, or the stored one) at or before the place asked for, else at the
    oldest there is, which is told as lost.
    """

    __slots__ = ("_at", "end_at", "events", "lost", "place", "since", "size", "source")

    def __init__(self, source: Source, since: Since) -> None:
        self.source, self.since = source, since
        self.place: Position | None = None
        self.events: deque[Event] = deque()
        self.lost: Lost | None = None
        self.end_at = 0
        self.size = 1024  # bytes of an entry, about
        self._at = 0

    async def seek(self, read: Read) -> None:
        """Find where to begin."""
        stored = self._stored(await read(pack(b"GET", self.source.key))) if self.source.book else None
        start, newest, reaches, snapshots = await self._scan(read, stored)
        last = None if isinstance(self.since, int) else self.since
        if newest is None and stored is None:
            self.lost = Lost(last, None)
            return
        if not self.source.book:
            self.place = _before(start) if start is not None else newest if reaches else None
            if not reaches:
                self.lost = Lost(last, start)
            return
        self._seek_base(stored, start or newest, reaches, snapshots, last)

    def _seek_base(
        self,
        stored: Event | None,
        start: Position | None,
        reaches: bool,
        snapshots: list[Position],
        last: Position | None,
    ) -> None:
        bases = snapshots + ([stored.position] if stored is not None else [])
        before = [base for base in bases if start is None or base <= start]
        base = max(before) if before else min(bases, default=None)
        if not reaches or not before:
            self.lost = Lost(last, base)
        if stored is not None and base == stored.position and base not in snapshots:
            self._take([stored])
        else:
            self.place = _before(base) if base is not None else None

    async def _scan(
        self, read: Read, stored: Event | None
    ) -> tuple[Position | None, Position | None, bool, list[Position]]:
        """Read backwards; return the first event wanted, the newest, whether the log reaches back to the place asked
        for, and the snapshots of a book."""
        start, newest, end = None, None, "+"
        snapshots: list[Position] = []
        oldest = stored
        while True:
            entries: Sequence[Any] = await read(pack(b"XREVRANGE", self.source.log, end, b"-", b"COUNT", PAGE)) or ()
            for event in self._events(entries):
                newest = newest or event.position
                oldest = event
                if self._wanted(event):
                    start = event.position
                if self.source.book and is_snapshot(event.payload, self.source.head):
                    snapshots.append(event.position)
            if len(entries) < PAGE or (
                oldest is not None and not self._wanted(oldest) and self._based(start or newest, stored, snapshots)
            ):
                break
            end = "(" + entries[-1][0].decode()
        reaches = start == self.since or (oldest is not None and self._reaches(oldest))
        return start, newest, reaches, snapshots

    def _wanted(self, event: Event) -> bool:
        return event.at >= self.since if isinstance(self.since, int) else event.position >= self.since

    def _reaches(self, oldest: Event) -> bool:
        """Tell whether nothing is missing between the time asked for and the oldest event of the log."""
        if not isinstance(self.since, int):
            return False
        epoch, seq = oldest.position
        # An epoch is the ms at which its publisher began: the first event it ever had here is no loss.
        return not self._wanted(oldest) or (seq == 1 and self.since >= epoch * NS_PER_MS)

    def _based(self, start: Position | None, stored: Event | None, snapshots: list[Position]) -> bool:
        bases = [*snapshots, stored.position] if stored is not None else snapshots
        return not self.source.book or any(start is None or base <= start for base in bases)

    async def fill(self, read: Read, count: int = PAGE) -> None:
        """Read the next `count` events, where there are."""
        asked = time.time_ns()
        if self.place is None:
            self.end_at = asked
            return
        start = format_position(self.place)
        entries: Sequence[Any] = await read(pack(b"XRANGE", self.source.log, start, b"+", b"COUNT", count + 1)) or ()
        self.end_at = asked if len(entries) <= count else 0
        events = self._events(entries)
        if not events:
            return
        first = events[0].position
        if first == self.place:
            del events[0]
        elif first[0] != self.place[0] or first[1] != self.place[1] + 1:
            # Another epoch proves nothing: the rest of the one before may have been trimmed away.
            self.lost = Lost(self.place, first)
            if self.source.book and not is_snapshot(events[0].payload, self.source.head):
                await self._begin_anew(read)
                return
        self._take(events)

    async def _begin_anew(self, read: Read) -> None:
        """The log was trimmed beyond a book's place: go on from the stored snapshot, where that is a later one."""
        stored = self._stored(await read(pack(b"GET", self.source.key)))
        assert self.lost is not None
        if stored is None or self.place is None or stored.position <= self.place:
            self.lost.following = self.place = None
            self.end_at = time.time_ns()
            return
        self.lost.following = stored.position
        self._take([stored])
        self.end_at = 0

    def _take(self, events: list[Event]) -> None:
        for event in events:
            self._at = max(self._at, event.at)
            self.events.append(Event(self._at, event.position, event.payload))
        if events:
            self.place = events[-1].position
            self.size = max(64, sum(len(event.payload) for event in events) // len(events))

    def _stored(self, payload: bytes | None) -> Event | None:
        try:
            return Event(_time_of(payload), position_in(payload, self.source.head), payload) if payload else None
        except ValueError:
            return None

    def _events(self, entries: Sequence[Any]) -> list[Event]:
        return [Event(_time_of(payload), position, payload) for position, payload in events_in(entries)]


def _time_of(payload: bytes) -> int:
    try:
        times = _times.decode(payload)
    except msgspec.DecodeError:
        return 0  # no message of ours; it keeps its place
    return times.ts_recv if times.ts_event is None else times.ts_event


def _before(position: Position) -> Position:
    return position[0], max(0, position[1] - 1)
