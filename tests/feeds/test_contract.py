"""What every adapter promises, checked over the registry: on its recorded sessions, and on noise made of them."""

import io
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache, partial
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from feeds.adapter import Adapter, Fetch, Subscription
from feeds.normalize import Normalizer
from feeds.pipeline import Pipeline, Source
from feeds.registry import ADAPTERS
from feeds.session import Frame, Session
from hub.config import BookSettings, CandleSettings
from hub.errors import WireError
from hub.instruments import Instrument, InstrumentTable
from hub.intervals import INTERVALS, interval_ns
from hub.keys import parse_channel
from hub.model import (
    KINDS,
    Book,
    Candle,
    Depth,
    Level,
    Message,
    Quote,
    Status,
    Ticker,
    Trade,
    decode,
    is_event,
    kind_of,
)
from tests.feeds.frames import Recorder
from tests.feeds.naive import ROOT

SIMPLE = {kind.partition(".")[0] for kind in KINDS} - {"status", "forming"}
YEAR = 365 * 86_400 * 1_000_000_000
#: int ns: no venue of ours is older than 2009, and no session is of the future
EARLIEST, LATEST = 39 * YEAR, 70 * YEAR

each_venue = pytest.mark.parametrize("venue", sorted(ADAPTERS))


@cache
def recorded(venue: str) -> list[Path]:
    """Return the recorded sessions of a venue: those of the project, and those beside it."""
    found: dict[str, Path] = {}
    for place in (ROOT / "demo", ROOT / "tests" / "data" / "sessions", ROOT.parent / "shared" / "exchanges"):
        folder = place / venue
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if (path / "ws.jsonl.gz").is_file():
                found.setdefault(path.name, path)
    return list(found.values())


SESSIONS = [path for venue in sorted(ADAPTERS) for path in recorded(venue)]
each_session = pytest.mark.parametrize("path", SESSIONS, ids=lambda path: f"{path.parent.name}-{path.name}")


@cache
def played(path: Path) -> tuple[Normalizer, list[Message]]:
    output = io.BytesIO()
    normalizer = Normalizer(ADAPTERS[path.parent.name], Session(path), output)
    normalizer.run()
    return normalizer, [decode(line) for line in output.getvalue().splitlines()]


@cache
def rows_of(venue: str) -> list[Instrument]:
    """Return some instruments of a venue: those its sessions have data of, else one made up."""
    rows = {row.key: row for path in recorded(venue) for row in played(path)[0].pipeline.instruments}
    made_up = Instrument(venue=venue, venue_symbol="BTCUSDT", symbol="BTC-USDT", kind="spot", base="BTC", quote="USDT")
    return list(InstrumentTable(venue, rows.values() or [made_up]))


def made(adapter: type[Adapter], rows: list[Instrument], endpoint: str = "") -> Adapter:
    return adapter(rows, 1000, endpoint or next(iter(adapter.endpoints)), ["key"] * len(adapter.credentials_env))


# the class


@each_venue
def test_an_adapter_says_what_it_is(venue: str) -> None:
    adapter = ADAPTERS[venue]
    assert adapter.venue == venue
    assert parse_channel(f"status:{venue}:*").venue == venue
    assert adapter.channels.keys() <= SIMPLE
    assert {"trade", "book"} & adapter.channels.keys()
    assert adapter.candle_intervals <= INTERVALS.keys()
    assert adapter.rest_url.startswith("https://")
    assert not adapter.rest_url.endswith("/")
    assert all(url.startswith("wss://") for url in adapter.endpoints.values())
    limits = adapter.limits
    assert min(limits.streams_per_connection, limits.messages_per_s, limits.connects, limits.connects_window_s) > 0
    assert min(limits.rest_weight, limits.rest_window_s, limits.lifetime_s, limits.subscribe_batch) > 0
    assert 0 < limits.rest_timeout_s <= 60
    assert 0 < limits.heartbeat_s <= 600
    assert limits.max_frame_bytes >= 1 << 20


@each_venue
def test_requests_for_lists_are_known_again_by_their_url(venue: str) -> None:
    adapter = ADAPTERS[venue]
    fetches = adapter.instruments_fetches()
    assert fetches
    for fetch in fetches:
        assert adapter.resource_of(address(adapter, fetch))[0] == fetch.resource
        assert 0 < fetch.weight <= adapter.limits.rest_weight


@each_venue
def test_candles_can_be_asked_for_in_each_interval_it_names(venue: str) -> None:
    adapter, row = ADAPTERS[venue], rows_of(venue)[0]
    for interval in adapter.candle_intervals:
        fetch = adapter.candles_fetch(row, interval, START, 5)
        assert fetch is not None
        assert (fetch.instrument, fetch.interval) == (row, interval)
        assert adapter.resource_of(address(adapter, fetch))[0] == fetch.resource
    assert adapter.candles_fetch(row, "30s", START, 5) is None or "30s" in adapter.candle_intervals


START = 1_700_000_000_000_000_000 // (86_400 * 10**9) * (86_400 * 10**9)


def address(adapter: type[Adapter], fetch: Fetch) -> str:
    """Return the URL of a request as it is written in a session."""
    url = fetch.path if fetch.path.startswith("https://") else adapter.rest_url + fetch.path
    if fetch.params:
        url += "?" + "&".join(f"{name}={value}" for name, value in fetch.params)
    return url if fetch.body is None else f"{url}#{fetch.body.decode()}"


@each_venue
def test_subscribing_asks_for_each_of_the_venues_channels(venue: str) -> None:
    adapter = ADAPTERS[venue]
    rows = rows_of(venue)[:5]
    for endpoint in adapter.endpoints:
        subs = [
            Subscription(kind, row) for row in rows for kind in adapter.channels
            if adapter.endpoint_of(kind, row) == endpoint
        ]  # fmt: skip
        one = made(adapter, rows, endpoint)
        names = one.venue_channels(subs)
        assert len(names) == len(set(names))
        assert bool(names) == bool(subs)
        for frames in (one.subscribe(subs), one.unsubscribe(subs)):
            assert bool(frames) == bool(subs)
            assert all(isinstance(json.loads(frame), dict | list) for frame in frames)
        first, second = (made(adapter, rows, endpoint).subscribe(subs) for _ in range(2))
        assert first == second, "an instance must not know of another"


# recorded sessions


@each_session
def test_recorded_lists_of_instruments_map_one_to_one(path: Path) -> None:
    adapter = ADAPTERS[path.parent.name]
    resources = {fetch.resource for fetch in adapter.instruments_fetches()}
    rows: list[Instrument] = []
    for body in Session(path).bodies:
        if adapter.resource_of(body.url)[0] in resources:
            rows += adapter.parse_instruments(body.read())
    table = InstrumentTable(adapter.venue, rows)
    assert [row.key for row in table.rejected] == []
    for row in rows:
        assert parse_channel(f"trade:{row.venue}:{row.symbol}").symbol == row.symbol
        assert table.get(row.symbol) is table.by_key[row.key] is row
        assert row.venue == adapter.venue
        for number in (row.tick_size, row.lot_size, row.min_notional):
            assert number is None or (isfinite(number) and number >= 0)
        assert isfinite(row.contract_size) and row.contract_size > 0
        assert (row.expiry is not None) or row.kind not in ("future", "option")


@each_session
def test_every_message_is_what_its_kind_promises(path: Path) -> None:
    normalizer, messages = played(path)
    assert messages
    checker = Checker(ADAPTERS[path.parent.name], {row.symbol: row for row in normalizer.pipeline.instruments})
    for message in messages:
        checker.check(message)


@each_session
def test_a_recorded_session_has_nothing_unreadable_and_no_lost_book(path: Path) -> None:
    counters = played(path)[0].pipeline.counters
    assert {name: counters[name] for name in ("wire_errors", "resyncs") if counters[name]} == {}


class Checker:
    """Knows what came before, and what may come after it."""

    def __init__(self, adapter: type[Adapter], rows: dict[str, Instrument]) -> None:
        self.adapter, self.rows = adapter, rows
        self.seqs: dict[tuple[str, str], int] = defaultdict(int)
        self.books: dict[str, tuple[dict[float, float], dict[float, float]]] = {}
        self.pub = 0

    def check(self, message: Message) -> None:
        kind = kind_of(message)
        seq = int(message.id.partition("-")[2])
        before = self.seqs[kind, message.symbol]
        assert seq == before + 1 if is_event(kind) else seq > before
        self.seqs[kind, message.symbol] = seq
        assert message.venue == self.adapter.venue
        assert message.symbol in self.rows or kind == "status"
        assert EARLIEST < message.ts_recv <= message.ts_pub < LATEST
        assert self.pub <= message.ts_pub
        self.pub = message.ts_pub
        if message.ts_event is not None:
            assert EARLIEST < message.ts_event < LATEST
        checks: dict[type[Any], Callable[[Any], None]] = {
            Trade: self._trade, Quote: self._quote, Depth: self._depth, Book: self._book, Ticker: self._ticker,
            Status: self._status, Candle: self._candle,
        }  # fmt: skip
        for type_, check in checks.items():
            if isinstance(message, type_):
                check(message)

    def _trade(self, trade: Trade) -> None:
        assert trade.size > 0
        assert trade.side in ("buy", "sell", None)
        assert trade.count >= 1
        assert trade.ts_event is not None

    def _quote(self, quote: Quote) -> None:
        assert (quote.bid is None) == (quote.bid_size is None)
        assert (quote.ask is None) == (quote.ask_size is None)
        if quote.bid is not None and quote.ask is not None and not self._may_cross(quote):
            assert quote.bid <= quote.ask

    def _may_cross(self, message: Message) -> bool:
        return self.adapter.may_cross(self.rows[message.symbol])

    def _depth(self, depth: Depth) -> None:
        ordered(depth.bids, depth.asks)
        assert max(len(depth.bids), len(depth.asks)) <= BookSettings().depth_levels
        bids, asks = self.books[depth.symbol]
        assert depth.bids == sorted(bids.items(), reverse=True)[: len(depth.bids)]
        assert depth.asks == sorted(asks.items())[: len(depth.asks)]

    def _book(self, book: Book) -> None:
        if book.action == "snapshot":
            ordered(book.bids, book.asks)
            self.books[book.symbol] = dict(book.bids), dict(book.asks)
        bids, asks = self.books[book.symbol]
        for side, levels in ((bids, book.bids), (asks, book.asks)):
            for price, size in levels:
                side[price] = size
                if not size:
                    del side[price]
        if bids and asks and not self._may_cross(book):
            assert max(bids) < min(asks)

    def _ticker(self, ticker: Ticker) -> None:
        if ticker.high_price is not None and ticker.low_price is not None:
            assert ticker.low_price <= ticker.high_price
        for number in (ticker.volume, ticker.quote_volume):
            assert number is None or number >= 0

    def _status(self, status: Status) -> None:
        assert status.reason
        assert status.kind is None or status.kind in KINDS
        assert EARLIEST < status.since <= status.ts_recv

    def _candle(self, candle: Candle) -> None:
        assert candle.start % interval_ns(kind_of(candle).partition(".")[2]) == 0
        assert candle.low <= min(candle.open, candle.close) <= max(candle.open, candle.close) <= candle.high
        assert candle.volume is not None and candle.volume >= 0
        assert candle.vwap is None or candle.low * 0.999999 <= candle.vwap <= candle.high * 1.000001


def ordered(bids: list[Level], asks: list[Level]) -> None:
    assert all(better[0] > worse[0] for better, worse in pairwise(bids))
    assert all(better[0] < worse[0] for better, worse in pairwise(asks))
    assert all(size > 0 for _, size in (*bids, *asks))


# noise

Json: TypeAlias = Any
JUNK: list[Json] = [
    None, True, -1, 0, 1 << 63, 1 << 70, -(1 << 70), 1e308, -1e308, 1.5, "", "x", "nan", "inf", "-5", "1e999", "0",
    "9" * 400, "\u0000", "\ud800", [], {}, [[]], [None], {"": None}, [["1", "1"]], "BTC-USDT", "snapshot",
    "2021-13-45T99:99:99Z",
]  # fmt: skip


def places(tree: Json) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key or index) of everything in a JSON tree."""
    keys: Any = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from places(tree[key])


def mutated(payload: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Return the payload with something wrong in it: in its bytes, or in what it says."""
    way = chance.randrange(8)
    if way >= 4:
        return _miswritten(payload, chance)
    at, to = sorted((chance.randrange(len(payload) + 1), chance.randrange(len(payload) + 1)))
    if way == 0:
        return payload[:at]
    if way == 1:
        return payload[:at] + chance.randbytes(chance.randrange(1, 4)) + payload[at + 1 :]
    if way == 2:
        return payload[:to] + payload[at:]
    other = chance.choice(others)
    return payload[:at] + other[chance.randrange(len(other) + 1) :]


def _miswritten(payload: bytes, chance: random.Random) -> bytes:
    try:
        tree = json.loads(payload)
    except ValueError:
        return payload[::-1]
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        every = list(places(tree))
        if not every:
            return json.dumps(chance.choice(JUNK)).encode()
        container, key = chance.choice(every)
        way = chance.randrange(4)
        if way == 0:
            del container[key]
        elif way == 1 and isinstance(container, list):
            container.append(deepcopy(container[key]))
        else:
            container[key] = deepcopy(chance.choice(JUNK))
    return json.dumps(tree).encode()


@cache
def frames_of(venue: str) -> list[Frame]:
    """Return recorded frames of a venue, enough of each session for its books to come up."""
    found: list[Frame] = []
    for path in recorded(venue):
        frames = [frame for frame in Session(path).frames() if frame.direction == "in"]
        found += frames[:120] + frames[120 :: max(1, len(frames) // 60)]
    return found


class Pit:
    """An adapter and a pipeline that are fed whatever there is."""

    def __init__(self, venue: str, chance: random.Random) -> None:
        self.adapter, self.chance = ADAPTERS[venue], chance
        self.rows = rows_of(venue)
        self.pipeline = Pipeline(self.adapter, SIMPLE, BookSettings(), CandleSettings(), Recorder())
        for row in self.rows:
            self.pipeline.add(row)
        endpoint = chance.choice(list(self.adapter.endpoints))
        self.source = Source(made(self.adapter, self.rows, endpoint), 1)
        subs = [Subscription(kind, row) for row in self.rows[:20] for kind in self.adapter.channels]
        mine = [sub for sub in subs if self.adapter.endpoint_of(sub.kind, sub.instrument) == endpoint]
        self.source.adapter.subscribe(mine)
        self.bodies = [body.read() for path in recorded(venue) for body in Session(path).bodies[:12]] or [b"{}"]
        self.now = 1_700_000_000_000_000_000
        self.refused = 0

    def receive(self, payload: bytes) -> None:
        self.now += 10_000_000
        try:
            events = self.source.adapter.receive(payload, self.now)
        except WireError:
            self.refused += 1
            return
        self._feed(events)
        if self.chance.random() < 0.05:
            for _ in self.pipeline.tick(self.now):
                pass

    def _feed(self, events: Any) -> None:
        waiting = self.pipeline.feed(self.source, events)
        for _ in range(20):
            fetches = [intent for intent in waiting if isinstance(intent, Fetch)]
            waiting = []
            for fetch in fetches:
                body = self.chance.choice(self.bodies)
                if self.chance.random() < 0.8:
                    body = mutated(body[:5000], self.bodies, self.chance)
                try:
                    events = self.source.adapter.snapshot(fetch, body, self.now)
                except WireError:
                    self.refused += 1
                    continue
                waiting += self.pipeline.feed(self.source, events)


@each_venue
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1 << 32))
def test_noise_costs_the_message_and_nothing_else(venue: str, seed: int) -> None:
    """Frames and bodies with anything wrong in them: WireError, or messages that can be sent and read."""
    chance = random.Random(seed)
    pit = Pit(venue, chance)
    frames = [frame.payload for frame in frames_of(venue)] or [b'{"a":[1,"x"]}']
    for _ in range(60):
        frame = chance.choice(frames)
        pit.receive(frame if chance.random() < 0.3 else mutated(frame, frames, chance))


@each_venue
@settings(max_examples=50, deadline=None)
@given(payload=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(payload=b"")
@example(payload=b"[" * 200_000)
@example(payload=b'{"a":' * 200_000)
@example(payload=b'{"channel":"' + b"\xff" * 10)
@example(payload=b"\xef\xbb\xbf{}")
def test_any_bytes_are_read_or_refused(venue: str, payload: bytes) -> None:
    pit = Pit(venue, random.Random(0))
    pit.receive(payload)
    assert isinstance(pit.adapter.peek(payload), list)
    readers: list[Callable[[], object]] = [partial(pit.adapter.parse_instruments, payload)]
    readers += [partial(pit.source.adapter.snapshot, fetch, payload, pit.now) for fetch in some_fetches(pit)]
    for read in readers:
        try:
            read()
        except WireError:
            continue


def some_fetches(pit: Pit) -> list[Fetch]:
    intents = pit.source.adapter.resync(pit.rows[0])
    found = [intent for intent in intents if isinstance(intent, Fetch)]
    for interval in sorted(pit.adapter.candle_intervals)[:1]:
        fetch = pit.adapter.candles_fetch(pit.rows[0], interval, START, 5)
        found += [fetch] if fetch is not None else []
    return found
