"""How long messages take, sampled: one per batch. Pure; times come in."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from hub.model import Book, Quote, Trade
from hub.venues import LatencyReport

__all__ = ["SECONDS", "SIZES", "Buckets", "Latencies"]

SAMPLES = 512
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

#: Upper bounds of histograms: of times in s, and of numbers of messages.
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)


class Buckets:
    """A histogram: how many values were at most each bound."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> Iterator[tuple[str, float]]:
        """Return upper bounds as Prometheus writes them, with the counts up to there."""
        total = 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            yield ("+Inf" if bound == float("inf") else repr(bound)), total


class Latencies:
    """From the venue's time to our socket, from there to Redis' confirmation, and of one pipeline. Times are int ns."""

    __slots__ = ("_recv", "_sent", "_to_hub", "_to_redis", "batches", "hub_to_redis", "pipelines", "venue_to_hub")

    def __init__(self) -> None:
        self._to_hub: deque[float] = deque(maxlen=SAMPLES)
        self._to_redis: deque[float] = deque(maxlen=SAMPLES)
        self._recv: int | None = None
        self._sent = 0
        self.venue_to_hub, self.hub_to_redis = Buckets(SECONDS), Buckets(SECONDS)
        self.pipelines, self.batches = Buckets(SECONDS), Buckets(SIZES)

    def sent(self, items: Sequence[object], now: int) -> None:
        """Note a batch, by its first message that came straight off a socket."""
        self._sent = now
        self._recv = None
        self.batches.observe(len(items))
        for item in items:
            if isinstance(item, (Quote, Trade)) or (isinstance(item, Book) and item.action == "update"):
                self._recv = item.ts_recv
                if item.ts_event is not None:
                    self._to_hub.append((item.ts_recv - item.ts_event) / NS_PER_MS)
                    self.venue_to_hub.observe((item.ts_recv - item.ts_event) / NS_PER_S)
                return

    def confirmed(self, now: int) -> None:
        """Redis has the batch."""
        self.pipelines.observe((now - self._sent) / NS_PER_S)
        if self._recv is not None:
            self._to_redis.append((now - self._recv) / NS_PER_MS)
            self.hub_to_redis.observe((now - self._recv) / NS_PER_S)
            self._recv = None

    def report(self) -> dict[str, LatencyReport]:
        """Return what is known, by way: `venue_to_hub` (as good as both clocks), `hub_to_redis`."""
        ways = (("venue_to_hub", self._to_hub), ("hub_to_redis", self._to_redis))
        return {name: _summary(sorted(values)) for name, values in ways if values}

    def histograms(self) -> Iterable[tuple[str, str, Buckets]]:
        """Return name, help text and counts of each histogram."""
        return (
            ("venue_to_hub_seconds", "From the venue's time to the socket; sampled.", self.venue_to_hub),
            ("hub_to_redis_seconds", "From the socket until Redis confirmed; sampled.", self.hub_to_redis),
            ("pipeline_seconds", "Of one pipeline, until Redis confirmed.", self.pipelines),
            ("batch_messages", "Messages in one pipeline.", self.batches),
        )


def _summary(values: list[float]) -> LatencyReport:
    last = len(values) - 1
    return LatencyReport(
        p50_ms=round(values[last // 2], 3), p99_ms=round(values[last * 99 // 100], 3), samples=len(values)
    )
