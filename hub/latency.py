"""How long messages take, sampled: one per batch, the newest few hundred. Pure; times come in."""

from collections import deque
from collections.abc import Iterable

from hub.model import Book, Quote, Trade
from hub.venues import LatencyReport

__all__ = ["Latencies"]

SAMPLES = 512
NS_PER_MS = 1_000_000


class Latencies:
    """From the venue's time to our socket, and from there to Redis' confirmation. Times are int ns."""

    __slots__ = ("_recv", "_to_hub", "_to_redis")

    def __init__(self) -> None:
        self._to_hub: deque[float] = deque(maxlen=SAMPLES)
        self._to_redis: deque[float] = deque(maxlen=SAMPLES)
        self._recv: int | None = None

    def sent(self, items: Iterable[object]) -> None:
        """Take the first message of a batch that came straight off a socket."""
        self._recv = None
        for item in items:
            if isinstance(item, (Quote, Trade)) or (isinstance(item, Book) and item.action == "update"):
                self._recv = item.ts_recv
                if item.ts_event is not None:
                    self._to_hub.append((item.ts_recv - item.ts_event) / NS_PER_MS)
                return

    def confirmed(self, now: int) -> None:
        """Redis has the batch."""
        if self._recv is not None:
            self._to_redis.append((now - self._recv) / NS_PER_MS)
            self._recv = None

    def report(self) -> dict[str, LatencyReport]:
        """Return what is known, by way: `venue_to_hub` (as good as both clocks), `hub_to_redis`."""
        ways = (("venue_to_hub", self._to_hub), ("hub_to_redis", self._to_redis))
        return {name: _summary(sorted(values)) for name, values in ways if values}


def _summary(values: list[float]) -> LatencyReport:
    last = len(values) - 1
    return LatencyReport(
        p50_ms=round(values[last // 2], 3), p99_ms=round(values[last * 99 // 100], 3), samples=len(values)
    )
