"""How much a feed process does per CPU-second: venue frame -> canonical messages -> one pipeline of Redis commands.

    python -m scripts.bench_feed [SESSION ...] [--rounds 5]

Runs recorded Binance sessions through the feed's own adapter, pipeline and batch encoder, without a socket and without
Redis, and prints frames per CPU-second beside a named reference of the same run: bare msgspec typed decoding of the
same frames. Only the ratio counts; machines differ and are shared.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from redis.asyncio import Redis

from feeds.adapter import Fetch
from feeds.batch import BatchEncoder, Item, Renewal, Withdrawal
from feeds.pipeline import Pipeline, Source
from feeds.session import Frame, Session
from feeds.venues.binance import Binance
from feeds.venues.binance_wire import AggTrade, BookTicker, Diff
from hub.builder import MessageBuilder
from hub.config import BookSettings, CandleSettings, HistorySettings, PublisherSettings
from hub.history import TimeSeries
from hub.instruments import Instrument
from hub.keys import Keys
from hub.model import Book, Message

DEMO = Path(__file__).resolve().parent.parent / "demo" / "binance"
BATCH = 50
TICK_NS = 50_000_000
ALL_KINDS = ("trade", "quote", "book", "depth", "candle")


class _Sink:
    def __init__(self) -> None:
        self.items: list[Item] = []

    def publish(self, message: Message) -> None:
        self.items.append(message)

    def renew(self, snapshot: Book) -> None:
        self.items.append(Renewal(snapshot))

    def withdraw(self, kind: str, symbol: str) -> None:
        self.items.append(Withdrawal(kind, Binance.venue, symbol))


class _Recording:
    """Frames, snapshots and instruments of one session, read before the clock starts."""

    def __init__(self, path: Path) -> None:
        session = Session(path)
        self.frames = [frame for frame in session.frames() if frame.direction == "in" and frame.ts is not None]
        bodies = [(*Binance.resource_of(body.url), body) for body in session.bodies]
        self.snapshots = {symbol: body.read() for resource, symbol, body in bodies if resource == "depth"}
        names = dict.fromkeys(peek.key for frame in self.frames for peek in Binance.peek(frame.payload))
        self.rows = [
            Instrument(venue="binance", venue_symbol=name, symbol=name, kind="spot", base="", quote="")
            for name in names
        ]


def decode_only(recording: _Recording) -> int:
    """Decode each frame into a typed Struct and throw it away."""
    kinds = {"aggTrade": AggTrade, "bookTicker": BookTicker, "depth@100ms": Diff}
    decoders: dict[str, Callable[[bytes], object]] = {}
    for name, struct in kinds.items():
        envelope = msgspec.defstruct("Envelope", [("stream", str), ("data", struct)], gc=False)
        decoders[name] = msgspec.json.Decoder(envelope, strict=False).decode
    pairs = [(decoders.get(_channel(frame)), frame.payload) for frame in recording.frames]
    for decoder, payload in pairs:
        if decoder is not None:
            decoder(payload)
    return len(pairs)


def _channel(frame: Frame) -> str:
    return frame.payload[:60].split(b'"')[3].partition(b"@")[2].decode()


def feed(recording: _Recording, kinds: Sequence[str]) -> int:
    """Do what a feed does with each frame, up to the bytes for Redis."""
    sink = _Sink()
    pipeline = Pipeline(Binance, kinds, BookSettings(), CandleSettings(), sink)
    for row in recording.rows:
        pipeline.add(row)
    adapter = Binance(recording.rows)
    source = Source(adapter, 1)
    history = TimeSeries(Redis())
    encoder = BatchEncoder(MessageBuilder(Keys(), 1), history, PublisherSettings(), HistorySettings())
    ticked, late = 0, []
    for frame in recording.frames:
        now = frame.ts or 0
        late += [(now + 3_000_000_000, intent) for intent in pipeline.feed(source, adapter.receive(frame.payload, now))]
        if late and late[0][0] <= now:
            _, intent = late.pop(0)
            if isinstance(intent, Fetch) and intent.instrument is not None:
                body = recording.snapshots[intent.instrument.venue_symbol]
                pipeline.feed(source, adapter.snapshot(intent, body, now))
        if now - ticked >= TICK_NS:
            ticked = now
            pipeline.tick(now)
        if len(sink.items) >= BATCH:
            items, sink.items = sink.items, []
            encoder.encode(items, now)
    return len(recording.frames)


def rate(work: Callable[[], int]) -> float:
    """Return frames per CPU-second of one run."""
    start = time.process_time()
    frames = work()
    return frames / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sessions", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sessions = options.sessions or sorted(path for path in DEMO.iterdir() if (path / "ws.jsonl.gz").is_file())
    print(f"{'session':28} {'work':28} {'frames/CPU-s':>13} {'of decoding':>12}  all rounds")
    for path in sessions:
        recording = _Recording(path)
        works: dict[str, Callable[[], int]] = {
            "msgspec typed decoding": lambda r=recording: decode_only(r),  # type: ignore[misc]
            "trade, quote, book": lambda r=recording: feed(r, ("trade", "quote", "book")),  # type: ignore[misc]
            "and depth, candles": lambda r=recording: feed(r, ALL_KINDS),  # type: ignore[misc]
        }
        rates: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(options.rounds):
            for name, work in works.items():
                rates[name].append(rate(work))
        reference = rates["msgspec typed decoding"]
        for name, figures in rates.items():
            ratio = statistics.median(figure / base for figure, base in zip(figures, reference, strict=True))
            every = " ".join(f"{figure / 1000:.0f}k" for figure in figures)
            print(f"{path.name:28} {name:28} {statistics.median(figures):13,.0f} {ratio:12.2f}  {every}")


if __name__ == "__main__":
    main()
