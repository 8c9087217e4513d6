"""How much a feed process does per CPU-second: venue frame -> canonical messages -> one pipeline of Redis commands.

    python -m scripts.bench_feed [SESSION ...] [--rounds 5] [--cryptofeed PYTHON]

Runs recorded Binance sessions through the feed's own adapter, pipeline and batch encoder, first without Redis, beside
bare msgspec typed decoding of the same frames; then through the publisher into a real Redis (SET, log, PUBLISH, and
samples into TimeSeries), beside both of cryptofeed's Redis backends on the same frames, where --cryptofeed names an
interpreter that has it. Prints frames per CPU-second of the feeding process. Only ratios count; machines differ and are
shared.
"""

import argparse
import asyncio
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import uvloop
from redis.asyncio import Redis

from feeds.adapter import Fetch
from feeds.books import Sink
from feeds.pipeline import Intent, Pipeline, Source
from feeds.session import Frame, Session
from feeds.venues.binance import Binance
from feeds.venues.binance_wire import AggTrade, BookTicker, Diff
from hub.batch import BatchEncoder, Item, Renewal, Withdrawal
from hub.builder import MessageBuilder
from hub.config import BookSettings, CandleSettings, HistorySettings, PublisherSettings
from hub.embedded import EmbeddedRedis
from hub.history import TimeSeries, open_history
from hub.instruments import Instrument
from hub.keys import Keys
from hub.lease import Lease, new_holder
from hub.model import Book, Message
from hub.publisher import Publisher
from hub.redisio import command_client
from scripts.harness import Usage, temporary_redis

DEMO = Path(__file__).resolve().parent.parent / "demo" / "binance"
BATCH = 50
TICK_NS = 50_000_000
#: What cryptofeed has as well.
COMMON_KINDS = ("trade", "quote", "book")
SNAPSHOT_DELAY_NS = 3_000_000_000
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


class _Player:
    """Does with frames what a feed does: adapter and pipeline, into `sink`."""

    def __init__(self, recording: _Recording, kinds: Sequence[str], sink: Sink) -> None:
        self._snapshots = recording.snapshots
        self._pipeline = Pipeline(Binance, kinds, BookSettings(), CandleSettings(), sink)
        for row in recording.rows:
            self._pipeline.add(row)
        self._adapter = Binance(recording.rows)
        self._source = Source(self._adapter, 1)
        self._ticked = 0
        self._late: list[tuple[int, Intent]] = []

    def take(self, frame: Frame) -> None:
        now = frame.ts or 0
        pipeline, late = self._pipeline, self._late
        for intent in pipeline.feed(self._source, self._adapter.receive(frame.payload, now)):
            late.append((now + SNAPSHOT_DELAY_NS, intent))
        if late and late[0][0] <= now:
            _, intent = late.pop(0)
            if isinstance(intent, Fetch) and intent.instrument is not None:
                body = self._snapshots[intent.instrument.venue_symbol]
                pipeline.feed(self._source, self._adapter.snapshot(intent, body, now))
        if now - self._ticked >= TICK_NS:
            self._ticked = now
            pipeline.tick(now)


def feed(recording: _Recording, kinds: Sequence[str]) -> int:
    """Do what a feed does with each frame, up to the bytes for Redis."""
    sink = _Sink()
    player = _Player(recording, kinds, sink)
    encoder = BatchEncoder(MessageBuilder(Keys(), 1), TimeSeries(Redis()), PublisherSettings(), HistorySettings())
    for frame in recording.frames:
        player.take(frame)
        if len(sink.items) >= BATCH:
            items, sink.items = sink.items, []
            encoder.encode(items, frame.ts or 0)
    return len(recording.frames)


def rate(work: Callable[[], int]) -> float:
    """Return frames per CPU-second of one run."""
    start = time.process_time()
    frames = work()
    return frames / (time.process_time() - start)


async def publish(recording: _Recording, kinds: Sequence[str], redis: EmbeddedRedis) -> tuple[float, float]:
    """Do the same into a real Redis, through the feed's own publisher.

    Returns CPU-seconds of this process and of Redis, from the first frame to the last confirmation.
    """
    client = command_client(redis.url)
    await client.flushall()
    lease = Lease(client, Keys(), Binance.venue, new_holder())
    publisher = Publisher(
        redis.url, Keys(), Binance.venue, lease, await lease.acquire(), await open_history(client),
        PublisherSettings(), HistorySettings(), lambda _: None,
    )  # fmt: skip
    running = asyncio.ensure_future(publisher.run())
    player = _Player(recording, kinds, publisher)
    await asyncio.sleep(0.3)
    assert redis.pid is not None
    server = Usage(redis.pid)
    gc.collect()
    began, redis_began = time.process_time(), server.cpu_s()
    for at in range(0, len(recording.frames), BATCH):
        for frame in recording.frames[at : at + BATCH]:
            player.take(frame)
        await asyncio.sleep(0)
    while not await publisher.drain(5.0):
        pass
    took = time.process_time() - began, server.cpu_s() - redis_began
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await lease.release()
    await client.aclose()
    return took


def cryptofeed_job(recording: _Recording, redis: EmbeddedRedis) -> dict[str, object]:
    """Return what scripts/cryptofeed_redis.py needs."""
    return {
        "frames": [frame.payload.decode() for frame in recording.frames],
        "times": [(frame.ts or 0) / 1e9 for frame in recording.frames],
        "symbols": [row.symbol for row in recording.rows],
        "bodies": {symbol: body.decode() for symbol, body in recording.snapshots.items()},
        "address": Binance.endpoints[""],
        "batch": BATCH,
        "redis_port": redis.port,
    }


async def cryptofeed(python: Path, job: dict[str, object], redis: EmbeddedRedis, backend: str) -> tuple[float, float]:
    """Return CPU-seconds of cryptofeed and of Redis for the same frames."""
    async with command_client(redis.url) as client:
        await client.flushall()
    assert redis.pid is not None
    server = Usage(redis.pid)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({**job, "backend": backend}, file)
        file.flush()
        redis_began = server.cpu_s()
        process = await asyncio.create_subprocess_exec(
            str(python), str(Path(__file__).with_name("cryptofeed_redis.py")), file.name, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await asyncio.wait_for(process.communicate(), 120)
    if process.returncode:
        raise SystemExit("cryptofeed ended with an error; it is above")
    return float(out), (server.cpu_s() - redis_began) / 2  # it plays twice, the first time to warm up


async def into_redis(paths: Sequence[Path], rounds: int, python: Path | None) -> None:
    """Print frames per CPU-second into a real Redis, ours and cryptofeed's, taking turns."""
    print(f"\n{'into a real Redis':28} {'work':28} {'frames/CPU-s':>13} {'Redis us/frame':>15}  all rounds")
    if python is None:
        print("cryptofeed left out: name a Python that has it with --cryptofeed (pip install cryptofeed, elsewhere)")
    with tempfile.TemporaryDirectory(prefix="tickwire-bench-") as folder:
        async with temporary_redis(Path(folder)) as redis:
            for path in paths:
                recording = _Recording(path)
                job = cryptofeed_job(recording, redis)
                works: dict[str, Callable[[], Awaitable[tuple[float, float]]]] = {
                    "trade, quote, book": lambda r=recording: publish(r, COMMON_KINDS, redis),  # type: ignore[misc]
                    "and depth, candles": lambda r=recording: publish(r, ALL_KINDS, redis),  # type: ignore[misc]
                }
                for backend in ("zset", "stream") if python is not None else ():
                    works[f"cryptofeed, {backend}"] = lambda j=job, b=backend: cryptofeed(python, j, redis, b)  # type: ignore[misc, arg-type]
                took: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
                for _ in range(rounds):
                    for name, work in works.items():
                        took[name].append(await work())
                _print_rounds(path.name, len(recording.frames), took)


def _print_rounds(session: str, frames: int, took: dict[str, list[tuple[float, float]]]) -> None:
    rates = {name: [frames / own for own, _ in figures] for name, figures in took.items()}
    for name, figures in rates.items():
        redis_us = statistics.median(server for _, server in took[name]) / frames * 1e6
        every = " ".join(f"{figure / 1000:.0f}k" for figure in figures)
        print(f"{session:28} {name:28} {statistics.median(figures):13,.0f} {redis_us:15.1f}  {every}")
    theirs = [statistics.median(figures) for name, figures in rates.items() if name.startswith("cryptofeed")]
    if theirs:
        ours = statistics.median(rates["trade, quote, book"])
        print(f"{session:28} the first is {ours / max(theirs):.1f} x the better of cryptofeed's two")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sessions", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cryptofeed", type=Path, metavar="PYTHON", help="an interpreter that has cryptofeed")
    options = parser.parse_args()
    sessions = options.sessions or sorted(path for path in DEMO.iterdir() if (path / "ws.jsonl.gz").is_file())
    print(f"{'session':28} {'work':28} {'frames/CPU-s':>13} {'of decoding':>12}  all rounds")
    for path in sessions:
        recording = _Recording(path)
        works: dict[str, Callable[[], int]] = {
            "msgspec typed decoding": lambda r=recording: decode_only(r),  # type: ignore[misc]
            "trade, quote, book": lambda r=recording: feed(r, COMMON_KINDS),  # type: ignore[misc]
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
    uvloop.run(into_redis(sessions, options.rounds, options.cryptofeed))


if __name__ == "__main__":
    main()
