"""How fast each venue's adapter is: frames per CPU-second, beside bare msgspec decoding and beside cryptofeed.

    python -m scripts.bench_adapters [--sessions DIR] [--cryptofeed PYTHON] [--rounds 5] [--venue V]

Sessions are those in tests/data/sessions and demo, and in DIR (one folder a venue). Each frame that a typed decoder
exists for (scripts/wire_decoders.py) is counted; answers, heartbeats and channels without one are fed too, but neither
counted nor timed. Measured in interleaved rounds, in CPU time of one process, without sockets and without Redis:

- `decode`: the bare typed decoder alone: the reference;
- `events`: bytes -> adapter -> canonical messages -> encoded payloads, no book kept;
- `book`: the same through the feed's own pipeline: books kept, checksums and crossed books looked at, trades told once,
  quotes made from books where the venue sends none.

With `--cryptofeed` (the interpreter of an environment with `pip install cryptofeed==2.4.1`) its handlers get the same
frames in the same rounds, books kept, checksum validation on, and make JSON payloads (scripts/cryptofeed_driver.py).
There only frames that both can read count. Only ratios count: machines differ and are shared.
"""

import argparse
import base64
import gc
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from feeds.adapter import Adapter, BookUpdate, Event, Fetch
from feeds.pipeline import Pipeline, Source
from feeds.registry import ADAPTERS
from feeds.session import Session
from hub.builder import MessageBuilder
from hub.config import BookSettings, CandleSettings
from hub.errors import HubError
from hub.instruments import Instrument, InstrumentTable
from hub.keys import Keys, escape_symbol
from hub.model import CANDLE_TYPES, Book, Mark, Message, Quote, Ticker, Trade
from scripts.wire_decoders import Decode, decoder_of

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("trade", "quote", "book", "ticker", "mark")
#: Fewer frames are examples, not a session; where a venue has nothing else they are measured all the same.
SESSION_FRAMES = 40
#: A short session is played so often that it has as many frames.
PASS_FRAMES = 1000
START_NS = 1_600_000_000_000_000_000
_MESSAGES = frozenset({Trade, Quote, Ticker, Mark, *CANDLE_TYPES.values()})
_EXCHANGES = {
    "binance": "BINANCE", "binance_futures": "BINANCE_FUTURES", "coinbase": "COINBASE", "deribit": "DERIBIT",
    "kraken": "KRAKEN", "okx": "OKX", "bybit": "BYBIT", "htx": "HUOBI",
}  # fmt: skip

#: (counted, frames with their receive times): what is not counted is not timed
Runs: TypeAlias = list[tuple[bool, list[tuple[bytes, int]]]]


class _Sink:
    """Encodes what a pipeline publishes, as a publisher and `normalize` do."""

    def __init__(self) -> None:
        self.now = START_NS
        self.build = MessageBuilder(Keys(), 1).build

    def publish(self, message: Message) -> None:
        self.build(message, self.now)

    def renew(self, snapshot: Book) -> None:
        """Nothing: the key's snapshot is the publisher's work."""

    def withdraw(self, kind: str, symbol: str) -> None:
        """Nothing: as above."""


class Recording:
    """One session, read before the clock starts. `frames`: (payload, ts_recv, channel or "", decoder or None)."""

    def __init__(self, adapter: type[Adapter], path: Path) -> None:
        self.adapter, self.path = adapter, path
        session = Session(path)
        self.endpoint = next(iter(adapter.endpoints))
        self.frames: list[tuple[bytes, int, str, Decode | None]] = []
        kinds: dict[str, set[str]] = {}
        now = START_NS
        for frame in session.frames():
            if frame.direction == "open":
                self.endpoint = adapter.endpoint_at(frame.payload.decode(errors="replace"))
            if frame.direction != "in":
                continue
            now = max(now, frame.ts or 0)
            for peek in adapter.peek(frame.payload, self.endpoint):
                kinds.setdefault(peek.key, set()).add(peek.kind)
            found = decoder_of(adapter.venue, frame.payload)
            self.frames.append((frame.payload, now, *(found or ("", None))))
        bodies = [(adapter.resource_of(body.url), body.read()) for body in session.bodies]
        self.bodies = dict(bodies)
        resources = {fetch.resource for fetch in adapter.instruments_fetches()}
        self._lists = [body for (resource, _), body in bodies if resource in resources]
        self.rows = self._rows(list(kinds))
        self.own_quotes = [row.symbol for row in self.rows if "quote" in kinds[row.key]]
        self._drop_unread()

    def _rows(self, keys: list[str]) -> list[Instrument]:
        listed = [row for body in self._lists for row in self.adapter.parse_instruments(body)]
        table = InstrumentTable(self.adapter.venue, listed)
        rows = {key: table.by_key[key] for key in keys if key in table.by_key}
        if not listed:
            rows = {key: self._unlisted(key) for key in keys}
        return list(rows.values())

    def _unlisted(self, key: str) -> Instrument:
        section, _, name = key.rpartition("/")
        if section not in self.adapter.endpoints:
            section, name = "", key
        venue, symbol = self.adapter.venue, escape_symbol(name)
        return Instrument(
            venue=venue, venue_symbol=name, symbol=symbol, kind="spot", base="", quote="", section=section
        )

    def _drop_unread(self) -> None:
        """Count no frame that the adapter cannot read, or that is of no instrument in the list."""
        adapter = self.new_adapter()
        for number, (payload, ts, _, _) in enumerate(self.frames):
            try:
                events = adapter.receive(payload, ts)
                read = not any(getattr(event, "reason", "") == "unknown symbol" for event in events)
            except HubError:
                read = False
            if not read:
                self.frames[number] = (payload, ts, "", None)

    @property
    def counted(self) -> int:
        return sum(decode is not None for *_, decode in self.frames)

    def new_adapter(self) -> Adapter:
        return self.adapter(self.rows, BookSettings().levels, self.endpoint)

    def runs(self, wanted: set[int] | None = None) -> Runs:
        """Group frames by whether they count: all that have a decoder, or those in `wanted`."""
        result: Runs = []
        for number, (payload, ts, _, decode) in enumerate(self.frames):
            counts = decode is not None if wanted is None else number in wanted
            if not result or result[-1][0] != counts:
                result.append((counts, []))
            result[-1][1].append((payload, ts))
        return result

    def answer(self, adapter: Adapter, intents: Sequence[object], ts: int) -> list[Event | Fetch]:
        """Answer fetches of books at once; a second one of the same book gets the same body."""
        events: list[Event | Fetch] = []
        for intent in intents:
            if isinstance(intent, Fetch) and intent.instrument is not None:
                body = self.bodies.get((intent.resource, intent.instrument.venue_symbol))
                if body is not None and intent.resource == "depth":
                    events += adapter.snapshot(intent, body, ts)
        return events


def decoding(recording: Recording) -> float:
    """Decode each counted frame and throw it away. As all of these: returns CPU-seconds."""
    pairs = [(decode, payload) for payload, _, _, decode in recording.frames if decode is not None]
    gc.collect()
    start = time.process_time()
    for decode, payload in pairs:
        decode(payload)
    return time.process_time() - start


def encoding(recording: Recording, runs: Runs) -> float:
    """Bytes to canonical messages to payloads, no book kept."""
    adapter, build = recording.new_adapter(), _Sink().build
    receive, venue = adapter.receive, adapter.venue

    def play(frames: list[tuple[bytes, int]]) -> None:
        for payload, ts in frames:
            for event in receive(payload, ts):
                if type(event) is BookUpdate:
                    build(_message(venue, event), ts)
                elif type(event) in _MESSAGES:  # as the pipeline tells them apart
                    build(event, ts)  # type: ignore[arg-type]  # as tested
                elif type(event) is Fetch:
                    for answer in recording.answer(adapter, (event,), ts):
                        if type(answer) is BookUpdate:
                            build(_message(venue, answer), ts)

    return _timed(runs, play)


def _message(venue: str, update: BookUpdate) -> Book:
    return Book(
        venue, update.instrument.symbol, "", update.ts_event, update.ts_recv, 0,
        "snapshot" if update.snapshot else "update", update.bids, update.asks,
    )  # fmt: skip


def feeding(recording: Recording, runs: Runs) -> float:
    """Bytes to payloads with all that a feed does in between."""
    adapter, sink = recording.new_adapter(), _Sink()
    pipeline = Pipeline(recording.adapter, KINDS, BookSettings(), CandleSettings(), sink)
    for row in recording.rows:
        pipeline.add(row)
    for symbol in recording.own_quotes:
        pipeline.own_quotes(symbol)
    source = Source(adapter, 1)

    def play(frames: list[tuple[bytes, int]]) -> None:
        receive, feed = adapter.receive, pipeline.feed
        for payload, ts in frames:
            sink.now = ts
            try:
                intents = feed(source, receive(payload, ts))
            except HubError:
                continue
            if intents:
                feed(source, recording.answer(adapter, intents, ts))

    return _timed(runs, play)


def _timed(runs: Runs, play: Callable[[list[tuple[bytes, int]]], None]) -> float:
    clock, total = time.process_time, 0.0
    gc.collect()
    for counts, frames in runs:
        start = clock()
        play(frames)
        if counts:
            total += clock() - start
    return total


class Cryptofeed:
    """cryptofeed's handlers in a process of its own."""

    def __init__(self, interpreter: str, recordings: list[Recording]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        job = Path(self._folder.name) / "job.json"
        job.write_text(json.dumps({"sessions": [_job(recording) for recording in recordings]}), encoding="utf-8")
        driver = Path(__file__).with_name("cryptofeed_driver.py")
        self._process = subprocess.Popen(
            [interpreter, str(driver), str(job)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.wanted: list[set[int]] = [set(numbers) for numbers in self._ask("check")]
        for wanted, recording in zip(self.wanted, recordings, strict=True):
            wanted.intersection_update(n for n, frame in enumerate(recording.frames) if frame[3] is not None)

    def round(self) -> list[float]:
        """Return the CPU-seconds of each recording."""
        seconds: list[float] = self._ask("round")
        return seconds

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()

    def _ask(self, command: str) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the process with cryptofeed ended; its message is above")
        return json.loads(line)


def _job(recording: Recording) -> dict[str, Any]:
    exchange = _EXCHANGES[recording.adapter.venue]
    names = [row.venue_symbol for row in recording.rows]
    if exchange == "HUOBI" and any("-" in name for name in names):
        exchange = "HUOBI_SWAP"
    frames = []
    for payload, ts, channel, decode in recording.frames:
        row: dict[str, object] = {"ts": ts / 1e9, "channel": channel if decode is not None else ""}
        try:
            row["raw"] = payload.decode()
        except UnicodeDecodeError:
            row["b64"] = base64.b64encode(payload).decode()
        frames.append(row)
    endpoints = recording.adapter.endpoints
    return {
        "exchange": exchange,
        # Bybit's frames are the same in all sections, cryptofeed's names of spot are not the venue's.
        "address": endpoints.get("linear", endpoints[recording.endpoint]),
        "symbols": {f"{name}-USD-PERP": name for name in names},
        "bodies": {name: body.decode() for (resource, name), body in recording.bodies.items() if resource == "depth"},
        "frames": frames,
    }


class VenueResult:
    """Rates of one venue, one figure a round, in frames per CPU-second."""

    def __init__(self, adapter: type[Adapter], recordings: list[Recording], interpreter: str | None) -> None:
        self.venue, self.recordings = adapter.venue, recordings
        self.checksum = adapter.checksum is not None
        self.rates: dict[str, list[float]] = {name: [] for name in ("decode", "events", "book")}
        self.frames = sum(recording.counted for recording in recordings)
        self.cryptofeed: Cryptofeed | None = None
        self.note = "not measured"
        if interpreter is not None:
            self.note = "unknown to it"
            if self.venue in _EXCHANGES:
                self.cryptofeed = Cryptofeed(interpreter, recordings)
        self.parsed = sum(map(len, self.cryptofeed.wanted)) if self.cryptofeed is not None else 0
        if self.cryptofeed is not None:
            self.note = f"parses {self.parsed} of {self.frames}"
            self.rates |= {"ours": [], "cryptofeed": []}

    def round(self) -> None:
        times = dict.fromkeys(self.rates, 0.0)
        counts = dict.fromkeys(self.rates, 0)
        passes = 0
        for recording in self.recordings:
            runs, frames = recording.runs(), recording.counted
            for _ in range(max(1, PASS_FRAMES // max(1, frames))):
                times["decode"] += decoding(recording)
                times["events"] += encoding(recording, runs)
                times["book"] += feeding(recording, runs)
                for name in ("decode", "events", "book"):
                    counts[name] += frames
        if self.cryptofeed is not None and self.parsed:
            passes = max(1, PASS_FRAMES // self.parsed)
            shared = [
                (recording, recording.runs(wanted), len(wanted))
                for recording, wanted in zip(self.recordings, self.cryptofeed.wanted, strict=True)
                if wanted
            ]
            for _ in range(passes):
                times["cryptofeed"] += sum(self.cryptofeed.round())
                times["ours"] += sum(feeding(recording, runs) for recording, runs, _ in shared)
                for name in ("ours", "cryptofeed"):
                    counts[name] += self.parsed
        for name, figures in self.rates.items():
            if times[name]:
                figures.append(counts[name] / times[name])

    def ratio(self, name: str, base: str) -> float | None:
        pairs = list(zip(self.rates.get(name, ()), self.rates.get(base, ()), strict=False))
        return statistics.median(figure / reference for figure, reference in pairs) if pairs else None


def find_sessions(venue: str, folders: Sequence[Path]) -> list[Path]:
    """Return the sessions of `venue` below `folders`; of several with one name the first."""
    found: dict[str, Path] = {}
    for folder in folders:
        below = folder / venue
        for path in sorted(below.iterdir()) if below.is_dir() else ():
            frames = path.name.endswith((".jsonl", ".jsonl.gz")) and not path.name.startswith("rest")
            if frames or (path / "ws.jsonl.gz").is_file() or (path / "ws.jsonl").is_file():
                found.setdefault(path.name.partition(".")[0].removesuffix("_cut"), path)
    return list(found.values())


def read_sessions(adapter: type[Adapter], folders: Sequence[Path]) -> list[Recording]:
    """Read a venue's sessions; single messages only where there is nothing else."""
    recordings = []
    for path in find_sessions(adapter.venue, folders):
        try:
            recordings.append(Recording(adapter, path))
        except HubError as error:
            print(f"{adapter.venue}: {error}", file=sys.stderr)
    recordings = [recording for recording in recordings if recording.counted]
    return [recording for recording in recordings if recording.counted >= SESSION_FRAMES] or recordings


def report(results: list[VenueResult]) -> None:
    print(
        f"\n{'venue':16} {'frames':>7} {'decode/CPU-s':>13} {'events':>7} {'book':>7}   "
        f"{'cryptofeed/CPU-s':>16} {'ours':>9} {'times':>6}  cryptofeed"
    )
    for result in results:
        times = result.ratio("ours", "cryptofeed")
        beside = f"{'':>16} {'':>9} {'':>6}"
        if times is not None:
            other, ours = (statistics.median(result.rates[name]) for name in ("cryptofeed", "ours"))
            beside = f"{other:16,.0f} {ours:9,.0f} {times:6.2f}"
        print(
            f"{result.venue + (' *' if result.checksum else ''):16} {result.frames:7} "
            f"{statistics.median(result.rates['decode']):13,.0f} {result.ratio('events', 'decode') or 0:7.2f} "
            f"{result.ratio('book', 'decode') or 0:7.2f}   {beside}  {result.note}"
        )
    plain = [result for result in results if not result.checksum]
    for name in ("events", "book"):
        ratios = [result.ratio(name, "decode") or 0 for result in plain]
        if ratios and all(ratios):
            mean = math.exp(statistics.fmean(map(math.log, ratios)))
            print(f"{name} to decode, geometric mean of {len(ratios)} venues without checksum: {mean:.3f}")
    print("* with a checksum in each book message, not in the mean")
    print("\nall rounds, frames per CPU-second in thousands")
    for result in results:
        for name, figures in result.rates.items():
            if figures:
                print(f"{result.venue:16} {name:10} " + " ".join(f"{figure / 1000:.1f}" for figure in figures))
    print("\nsessions")
    for result in results:
        for recording in result.recordings:
            few = "" if recording.counted >= SESSION_FRAMES else ", examples only"
            skipped = len(recording.frames) - recording.counted
            print(f"{result.venue:16} {recording.path.name}: {recording.counted} frames, {skipped} not counted{few}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=Path, help="further sessions, one folder a venue")
    parser.add_argument("--cryptofeed", help="the Python interpreter of an environment with cryptofeed 2.4.1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--venue", choices=sorted(ADAPTERS))
    options = parser.parse_args()
    folders = [ROOT / "tests" / "data" / "sessions", ROOT / "demo", *([options.sessions] if options.sessions else [])]
    results = []
    for venue, adapter in ADAPTERS.items():
        if options.venue in (None, venue):
            recordings = read_sessions(adapter, folders)
            if recordings:
                results.append(VenueResult(adapter, recordings, options.cryptofeed))
            else:
                print(f"{venue}: no session", file=sys.stderr)
    gc.collect()
    gc.freeze()  # recordings are no part of a feed: collections, also those within a run, pass them by on both sides
    for _ in range(options.rounds):
        for result in results:
            result.round()
    for result in results:
        if result.cryptofeed is not None:
            result.cryptofeed.close()
    report(results)


if __name__ == "__main__":
    main()
