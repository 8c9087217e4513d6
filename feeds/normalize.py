"""`python -m feeds.normalize VENUE SESSION`: canonical messages of a recorded session, as JSON lines.

The feed's own adapter, pipeline and message builder with another sink; fetches are answered from the session's bodies.
The clock is the receive time of each frame, else the newest venue time, so two runs print the same bytes.
"""

import argparse
import gzip
import heapq
import os
import sys
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import BinaryIO

import msgspec

from feeds.adapter import Adapter, Event, Fetch
from feeds.pipeline import Pipeline, Source
from feeds.poller import Poller
from feeds.registry import FEEDS, VENUES
from feeds.session import Body, Frame, Session
from hub.builder import MessageBuilder
from hub.config import BookSettings, CandleSettings
from hub.errors import HubError, SessionError, WireError
from hub.instruments import Instrument, InstrumentTable
from hub.intervals import NS_PER_MS
from hub.keys import Keys, escape_symbol
from hub.model import KINDS, Book, Message
from hub.processes import exit_code

__all__ = ["Normalizer", "main"]

TICK_NS = 50 * NS_PER_MS


class _Output:
    """A sink that writes lines; `now` (int ns) is what the normalizer's clock says."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.now = 0
        self.count = 0
        self._builder: MessageBuilder | None = None

    def publish(self, message: Message) -> None:
        if self._builder is None:
            self._builder = MessageBuilder(Keys(), max(1, self.now // NS_PER_MS))
        self.file.write(self._builder.build(message, self.now)[2] + b"\n")
        self.count += 1

    def renew(self, snapshot: Book) -> None:
        """Nothing: what a key would hold was printed already."""

    def withdraw(self, kind: str, symbol: str) -> None:
        """Nothing: the status says it."""


class Normalizer:
    """Plays one session through one venue's pipeline."""

    def __init__(
        self, adapter: type[Adapter], session: Session, output: BinaryIO, instruments: bytes | None = None
    ) -> None:
        self.adapter, self.session = adapter, session
        self.output = _Output(output)
        self.warnings: list[str] = []
        self._given = instruments
        self._endpoint = next(iter(adapter.endpoints))
        self._opened: list[tuple[str, int]] = []
        self._bodies: dict[tuple[str, str], deque[Body]] = defaultdict(deque)
        self._due: list[tuple[int, int, Source, Fetch, Body]] = []
        self._generation = self._answers = self._ticked = self._clock = 0
        for body in session.bodies:
            try:
                self._bodies[adapter.resource_of(body.url)].append(body)
            except ValueError as error:
                raise SessionError(f"{body.path}: its URL {body.url!r} cannot be read: {error}") from error

    def run(self) -> None:
        """Print everything. Raises SessionError where the session cannot be read."""
        self._prepare()
        seen_data = False
        self._opened.clear()
        opened: Counter[str] = Counter()  # of several endpoints, one that comes later takes nothing away
        for frame in self.session.frames():
            self._note_endpoint(frame)
            if frame.direction == "open":
                if seen_data and (not opened or self._endpoint in opened):
                    self._reopen()
                    seen_data, opened = False, Counter()
                self._opened[-1] = self._endpoint, opened[self._endpoint]
                opened[self._endpoint] += 1
            self._source = self._line(frame)
            self._source.adapter.endpoint = self._endpoint
            if frame.direction != "in":
                continue
            seen_data = True
            self._advance(self._time_of(frame))
            try:
                events = self._source.adapter.receive(frame.payload, self._clock)
            except WireError as error:
                self.pipeline.counters["wire_errors"] += 1
                self._warn_once(f"unreadable frame skipped: {error}")
                continue
            if events:
                self._source.heard = self._clock
            self._take(self._source, events)
        while self._due:
            self._advance(self._due[0][0])
        self.pipeline.tick(self._clock)

    # set-up

    def _prepare(self) -> None:
        kinds: dict[str, set[str]] = {}
        first: int | None = None
        listed = self._listed()
        # A recording that does not say where it was made may still have the list of one section alone.
        sections = {row.section for row in listed or ()}
        if len(sections) == 1:
            self._endpoint = next((name for name in self.adapter.endpoints if name in sections), self._endpoint)
        for frame in self.session.frames():
            self._note_endpoint(frame)
            if frame.direction != "in":
                continue
            for peek in self.adapter.peek(frame.payload, self._endpoint):
                kinds.setdefault(peek.key, set()).add(peek.kind)
                if first is None:
                    first = frame.ts if frame.ts is not None else peek.ts_event
        self._clock = self.output.now = first or 0
        if listed is not None:
            kinds = self._as_listed(kinds, {row.key for row in listed})
        rows = self._rows(kinds, listed)
        simple = {kind.partition(".")[0] for kind in KINDS}
        self.pipeline = Pipeline(self.adapter, simple, BookSettings(), CandleSettings(), self.output)
        for row in rows:
            self.pipeline.add(row)
            if "quote" in kinds[row.key]:
                self.pipeline.own_quotes(row.symbol)
        self._open(rows)
        self.pipeline.covered([row.symbol for row in rows], self._clock)

    def _listed(self) -> list[Instrument] | None:
        resources = {fetch.resource for fetch in self.adapter.instruments_fetches()}
        bodies = (
            [self._given]
            if self._given is not None
            else [
                listed.read()
                for (resource, _), waiting in self._bodies.items()
                if resource in resources
                for listed in waiting
            ]
        )
        if not bodies:
            return None
        rows: list[Instrument] = []
        unread: list[WireError] = []
        for body in bodies:
            try:
                rows += self.adapter.parse_instruments(body)
            except WireError as error:
                unread.append(error)
        if unread and not rows:
            raise SessionError(f"the list of instruments cannot be read: {unread[0]}") from unread[0]
        for problem in unread:
            self._warn_once(f"unreadable list of instruments skipped: {problem}")
        return rows

    def _as_listed(self, kinds: dict[str, set[str]], keys: Collection[str]) -> dict[str, set[str]]:
        """Return `kinds` under the lists' keys: an older form may spell an instrument in another way."""
        found: dict[str, set[str]] = {}
        for key, own in kinds.items():
            found.setdefault(key if key in keys else self.adapter.listed_key(key), set()).update(own)
        return found

    def _rows(self, kinds: Iterable[str], listed: list[Instrument] | None) -> list[Instrument]:
        if listed is None:
            self.warnings.append("no list of instruments: the venue's spelling is the symbol, sizes are the venue's")
            return _unlisted(self.adapter, kinds)
        table = InstrumentTable(self.adapter.venue, listed)
        unknown = sorted(name for name in kinds if name not in table.by_key)
        if unknown:
            self.warnings.append(f"not in the list of instruments, skipped: {', '.join(unknown)}")
        return [table.by_key[name] for name in kinds if name in table.by_key]

    def _open(self, rows: list[Instrument]) -> None:
        self._generation += 1
        self._lines = [self._connected(rows)]
        self._source = self._lines[0]
        # What the old connection asked for and did not get yet answers the new one.
        for _, _, _, fetch, body in sorted(self._due, key=lambda due: due[:2], reverse=True):
            self._waiting(fetch).appendleft(body)
        self._due.clear()

    def _connected(self, rows: list[Instrument]) -> Source:
        return Source(self.adapter(rows, BookSettings().levels, self._endpoint), self._generation)

    def _line(self, frame: Frame) -> Source:
        """Return the connection that `frame` came by: those to one endpoint at one time share no state."""
        if not self._opened:
            return self._source
        number = self._opened[-1 if frame.on is None else frame.on][1]
        while number >= len(self._lines):
            self._lines.append(self._connected(self.pipeline.instruments))
        return self._lines[number]

    def _reopen(self) -> None:
        """A connection opened after data: as in a feed, nothing of the old one is trusted."""
        rows = self.pipeline.instruments
        symbols = [row.symbol for row in rows]
        for source in self._lines:
            self.pipeline.lost(source, symbols, "the recorded connection was opened again", self._clock)
        self._open(rows)
        self.pipeline.flowing(self._source, symbols, self._clock)

    def _note_endpoint(self, frame: Frame) -> None:
        if frame.direction == "open":
            self._endpoint = self.adapter.endpoint_at(frame.payload.decode(errors="replace"))
            self._opened.append((self._endpoint, 0))
        elif frame.on is not None:
            if not 0 <= frame.on < len(self._opened):
                raise SessionError(f"{self.session.path}: a frame on connection {frame.on}, which was not opened")
            self._endpoint = self._opened[frame.on][0]

    # time and answers

    def _time_of(self, frame: Frame) -> int:
        if frame.ts is not None:
            return frame.ts
        times = (peek.ts_event for peek in self.adapter.peek(frame.payload, self._endpoint))
        return max((ts for ts in times if ts is not None), default=self._clock)

    def _advance(self, now: int) -> None:
        while self._due and self._due[0][0] <= now:
            ts, _, source, fetch, body = heapq.heappop(self._due)
            self._set_clock(ts)
            self._take(source, self._read(source, fetch, body))
        self._set_clock(now)

    def _set_clock(self, now: int) -> None:
        self._clock = self.output.now = max(self._clock, now)
        if self._clock - self._ticked >= TICK_NS:
            self._ticked = self._clock
            for _ in self.pipeline.tick(self._clock):
                self.pipeline.counters["candles_incomplete"] += 1

    def _take(self, source: Source, events: list[Event | Fetch]) -> None:
        intents = deque(self.pipeline.feed(source, events))
        while intents:  # a loop, not a recursion: a session may hold thousands of snapshots that are too old
            intent = intents.popleft()
            if isinstance(intent, Fetch):
                intents += self.pipeline.feed(source, self._fetched(source, intent))

    def _fetched(self, source: Source, fetch: Fetch) -> list[Event | Fetch]:
        """Answer `fetch` if its body has arrived; one that comes later is answered when its time has come."""
        waiting = self._waiting(fetch)
        if not waiting:
            self.pipeline.counters["fetches_unanswered"] += 1
            return []
        body = waiting.popleft()
        if body.ts is None or body.ts <= self._clock:
            return self._read(source, fetch, body)
        self._answers += 1
        heapq.heappush(self._due, (body.ts, self._answers, source, fetch, body))
        return []

    def _waiting(self, fetch: Fetch) -> deque[Body]:
        return self._bodies[fetch.resource, fetch.instrument.venue_symbol if fetch.instrument is not None else ""]

    def _read(self, source: Source, fetch: Fetch, body: Body) -> list[Event | Fetch]:
        data = body.read()
        try:
            return source.adapter.snapshot(fetch, data, self._clock)
        except WireError as error:
            if not _is_json(data):
                raise SessionError(f"{body.path}: {error}") from error
            self.pipeline.counters["wire_errors"] += 1
            self._warn_once(f"unreadable answer skipped: {body.path.name}: {error}")
            return [fetch]  # as in a feed, it is asked for again

    def _warn_once(self, text: str) -> None:
        if len(self.warnings) < 20:
            self.warnings.append(text)


def _is_json(data: bytes) -> bool:
    """Tell a file that is whole, as one with the venue's error, from a damaged one."""
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except ValueError:
        return False
    return True


def _unlisted(adapter: type[Adapter], keys: Iterable[str]) -> list[Instrument]:
    """Return an instrument for each key: its symbol is the venue's spelling, with the section where two have one."""
    rows: dict[str, Instrument] = {}
    for key in keys:
        section, _, name = key.partition("/")
        if section not in adapter.endpoints or not name:
            section, name = "", key
        symbol = escape_symbol(name)
        if symbol in rows:
            symbol = escape_symbol(key)
        rows[symbol] = Instrument(
            venue=adapter.venue, venue_symbol=name, symbol=symbol, kind="spot", base="", quote="", section=section
        )
    return list(rows.values())


def _read_instruments(path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        data = Path(path).read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, zlib.error) as error:
        raise SessionError(f"{path}: {error}") from error


def _normalizer(venue: str, session: Session, output: BinaryIO, instruments: bytes | None) -> Normalizer:
    """Return what plays `session`: of a venue with both, bodies without a single frame were polled."""
    from feeds.polled_session import PolledNormalizer

    adapters = [VENUES[venue], *FEEDS.get(venue, {}).values()]
    if not session.has_frames:
        for adapter in adapters:
            if issubclass(adapter, Poller):
                return PolledNormalizer(adapter, session, output, instruments)
    return Normalizer(adapters[0], session, output, instruments)


def main(arguments: list[str] | None = None) -> int:
    """Print the canonical messages of a session on stdout; returns the exit code."""
    parser = argparse.ArgumentParser(prog="tickwire normalize", description="Canonical messages of a recorded session.")
    parser.add_argument("venue", choices=sorted(VENUES))
    parser.add_argument("session", help="folder with ws.jsonl.gz and rest_index.jsonl, or one .jsonl[.gz] file")
    parser.add_argument("--instruments", help="the venue's answer with its instruments, where the session has none")
    options = parser.parse_args(arguments)
    try:
        session = Session(options.session)
        instruments = _read_instruments(options.instruments)
        normalizer = _normalizer(options.venue, session, sys.stdout.buffer, instruments)
        normalizer.run()
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough; Python must not try to flush once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except HubError as error:
        sys.stderr.write(f"tickwire: {error}\n")
        return exit_code(error)
    for warning in normalizer.warnings:
        sys.stderr.write(f"tickwire: {warning}\n")
    counted = " ".join(f"{name}={count}" for name, count in sorted(normalizer.pipeline.counters.items()))
    sys.stderr.write(f"tickwire: messages={normalizer.output.count} {counted}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
