"""How many updates a second the consolidator takes on one core: 10 venues, 100 symbols, made-up markets.

    python -m scripts.bench_consolidate [--venues 10] [--symbols 100] [--updates 10000] [--rounds 5]

An update is a venue's message as it comes from Redis: a depth of 20 levels a side of which a few changed, or a quote.
Each venue's symbol has ten of each a second, on a clock that is made up, too. Every market is known before. Measured in
interleaved rounds, in CPU time of one process, without sockets and without Redis:

- `decode`: bytes -> message, nothing else: the reference;
- `merge`: and kept up to date in the merged ladder (depths alone);
- `merge anew`: and, for comparison, all venues' depths of the symbol merged from nothing (depths alone);
- `consolidate`: everything: quotes of `all` once per turn of 10 messages, depths at most 10/s, made into commands for
  Redis; without measures, and with the default ones.

Before anything is measured, ladder and merging anew must agree. Only ratios count: machines differ and are shared.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import msgspec

from hub.analytics.registry import choose_measures
from hub.batch import BatchEncoder, Item
from hub.builder import MessageBuilder
from hub.config import Settings
from hub.consolidator.engine import Engine
from hub.consolidator.health import Source
from hub.consolidator.merge import Merged
from hub.keys import Keys
from hub.model import Depth, Level, Message, Quote, encode

LEVELS: Final = 20
CHANGED: Final = 3
TURN: Final = 10
START_NS: Final = 1_700_000_000_000_000_000

Update: TypeAlias = tuple[str, str, bool, bytes]
"""venue, symbol, whether it is a depth, payload"""
Sources: TypeAlias = dict[tuple[str, str], Source]

_depth = msgspec.json.Decoder(Depth).decode
_quote = msgspec.json.Decoder(Quote).decode


class Made:
    """One venue's market: a mid that wanders, sizes of which some change."""

    def __init__(self, venue: str, symbol: str, rng: random.Random) -> None:
        self.venue, self.symbol, self.rng = venue, symbol, rng
        self.mid = 10_000 + rng.randrange(-3, 4)
        self.sizes: dict[int, float] = {}

    def _levels(self, sign: int) -> list[Level]:
        sizes, rng = self.sizes, self.rng
        ticks = [self.mid + sign * (1 + step) for step in range(LEVELS)]
        return [(tick / 100, sizes.setdefault(tick, round(rng.uniform(0.01, 5), 4))) for tick in ticks]

    def update(self, depth: bool, now: int) -> bytes:
        rng = self.rng
        if rng.random() < 0.1:
            self.mid += rng.choice((-1, 1))
        for _ in range(CHANGED):
            self.sizes[self.mid + rng.randrange(-LEVELS, LEVELS)] = round(rng.uniform(0.01, 5), 4)
        bids, asks = self._levels(-1), self._levels(1)
        head = (self.venue, self.symbol, "1-1", now, now, now)
        return encode(Depth(*head, bids, asks) if depth else Quote(*head, *bids[0], *asks[0]))


def make(venues: int, symbols: int, updates: int) -> tuple[list[Update], list[Update]]:
    """Return first a depth and a quote of every market, then updates as they come; the same at every call."""
    rng = random.Random(1)
    markets = [Made(f"v{v}", f"S{s}-USD", rng) for v in range(venues) for s in range(symbols)]
    chosen = [(rng.choice(markets), number % 2 == 0) for number in range(updates)]
    first = [(market, depth) for market in markets for depth in (True, False)]
    made = [(m.venue, m.symbol, depth, m.update(depth, START_NS)) for m, depth in (*first, *chosen)]
    return made[: len(first)], made[len(first) :]


def decode(updates: list[Update]) -> None:
    for _, _, depth, payload in updates:
        if depth:
            _depth(payload)
        else:
            _quote(payload)


def merge(updates: list[Update], merged: dict[str, Merged], sources: Sources) -> None:
    for venue, symbol, _, payload in updates:
        merged[symbol].set_depth(sources[venue, symbol], _depth(payload))


def anew(updates: list[Update], known: dict[str, dict[str, Depth]]) -> dict[str, tuple[list[Level], list[Level]]]:
    """Merge each symbol's depths from nothing at each update."""
    result: dict[str, tuple[list[Level], list[Level]]] = {}
    for venue, symbol, _, payload in updates:
        depths = known[symbol]
        depths[venue] = _depth(payload)
        sides: list[list[Level]] = []
        for bids in (True, False):
            total: dict[float, float] = {}
            for depth in depths.values():
                for price, size in depth.bids if bids else depth.asks:
                    total[price] = total.get(price, 0.0) + size
            sides.append(sorted(total.items(), reverse=bids)[:LEVELS])
        result[symbol] = (sides[0], sides[1])
    return result


class _Commands:
    """Implements hub.consolidator.engine.Sink: what is published becomes commands."""

    def __init__(self) -> None:
        settings = Settings()
        builder = MessageBuilder(Keys(), 1)
        self._encoder = BatchEncoder(builder, None, settings.publisher, settings.history)
        self._items: list[Item] = []
        self.published = 0

    def publish(self, message: Message) -> None:
        self._items.append(message)

    def withdraw(self, kind: str, symbol: str) -> None: ...

    def retire(self, kind: str, symbol: str) -> None: ...

    def retire_all(self, symbol: str) -> None: ...

    def send(self) -> None:
        items, self._items = self._items, []
        self.published += len(items)
        self._encoder.encode(items, START_NS)


def ready(first: list[Update], measures: bool) -> tuple[Engine, _Commands, Sources]:
    """Return an engine to which every venue is alive and every market known."""
    sink = _Commands()
    settings = Settings()
    names = settings.consolidator.analytics if measures else []
    engine = Engine(settings, choose_measures(names, []), sink)
    sources: Sources = {}
    for venue, symbol, _, _ in first:
        source = sources[venue, symbol] = engine.add(venue, symbol, "base", START_NS)
        engine.pulse(venue, 1, b"bench", START_NS)
        engine.venue_status(venue, None, START_NS)
        engine.symbol_status(source, None, START_NS)
        engine.offer(source, "quote", START_NS)
        engine.offer(source, "depth", START_NS)
        engine.ready(source, START_NS)
    consolidate(first, 0, engine, sink, sources)
    return engine, sink, sources


def consolidate(updates: list[Update], step_ns: int, engine: Engine, sink: _Commands, sources: Sources) -> None:
    now = START_NS
    for start in range(0, len(updates), TURN):
        for venue, symbol, depth, payload in updates[start : start + TURN]:
            if depth:
                engine.depth(sources[venue, symbol], _depth(payload), now)
            else:
                engine.quote(sources[venue, symbol], _quote(payload), now)
        now += TURN * step_ns
        engine.flush(now)
        engine.tick_depths(now)
        sink.send()


def merged_from(first: list[Update]) -> tuple[dict[str, Merged], Sources]:
    merged = {symbol: Merged(symbol) for _, symbol, _, _ in first}
    sources = {(venue, symbol): Source(venue, symbol) for venue, symbol, _, _ in first}
    merge([update for update in first if update[2]], merged, sources)
    return merged, sources


def known_from(first: list[Update]) -> dict[str, dict[str, Depth]]:
    known: dict[str, dict[str, Depth]] = {}
    for venue, symbol, depth, payload in first:
        if depth:
            known.setdefault(symbol, {})[venue] = _depth(payload)
    return known


def works(
    first: list[Update], updates: list[Update], step_ns: int
) -> Iterator[tuple[str, int, Callable[[], Callable[[], object]]]]:
    """Yield name, updates and what prepares the work: preparing is not measured."""
    depths = [update for update in updates if update[2]]

    def merging() -> Callable[[], object]:
        merged = merged_from(first)
        return lambda: merge(depths, *merged)

    def merging_anew() -> Callable[[], object]:
        known = known_from(first)
        return lambda: anew(depths, known)

    yield "decode (depths)", len(depths), lambda: lambda: decode(depths)
    yield "merge (depths)", len(depths), merging
    yield "merge anew (depths)", len(depths), merging_anew
    yield "decode", len(updates), lambda: lambda: decode(updates)
    for measures in (False, True):

        def prepare(measures: bool = measures) -> Callable[[], object]:
            made = ready(first, measures)
            return lambda: consolidate(updates, step_ns, *made)

        yield f"consolidate{', measures' if measures else ''}", len(updates), prepare


def check(first: list[Update], updates: list[Update]) -> None:
    """Raise AssertionError where ladder and merging anew differ."""
    depths = [update for update in updates if update[2]]
    merged, sources = merged_from(first)
    merge(depths, merged, sources)
    for symbol, sides in anew(depths, known_from(first)).items():
        depth = merged[symbol].depth()
        for levels, wanted in zip((depth.bids, depth.asks), sides, strict=True):
            assert [price for price, _ in levels] == [price for price, _ in wanted], symbol
            assert all(abs(a - b) < 1e-9 for (_, a), (_, b) in zip(levels, wanted, strict=True)), symbol


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venues", type=int, default=10)
    parser.add_argument("--symbols", type=int, default=100)
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    first, updates = make(options.venues, options.symbols, options.updates)
    check(first, updates)
    # Ten quotes and ten depths a second of each venue's symbol.
    step_ns = 1_000_000_000 // (20 * options.venues * options.symbols)
    rates: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, count, prepare in works(first, updates, step_ns):
            work = prepare()
            began = time.process_time()
            work()
            rates.setdefault(name, []).append(count / (time.process_time() - began))
    print(f"{options.venues} venues x {options.symbols} symbols")
    print(f"{'work':24} {'updates/CPU-s':>14} {'of decoding':>12} {'of merging anew':>16}  all rounds")
    for name, figures in rates.items():
        ratios = [_ratio(figures, rates["decode (depths)" if "depths" in name else "decode"])]
        ratios.append(_ratio(figures, rates["merge anew (depths)"]) if name.startswith("merge") else "")
        every = " ".join(f"{figure / 1000:.0f}k" for figure in figures)
        print(f"{name:24} {statistics.median(figures):14,.0f} {ratios[0]:>12} {ratios[1]:>16}  {every}")


def _ratio(figures: list[float], reference: list[float]) -> str:
    return f"{statistics.median(figure / base for figure, base in zip(figures, reference, strict=True)):.2f}"


if __name__ == "__main__":
    main()
