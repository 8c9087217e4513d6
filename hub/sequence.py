"""Rules for numbered messages: what is stale, what follows, what is a gap, and what was seen before. Pure.

Venues differ in how a delta names its predecessor; they do not differ in what follows from it. An adapter gives
`first` and `last` (inclusive) of each delta, or the number of the one before it.
"""

from collections import deque
from typing import Generic, TypeVar

from hub.errors import SequenceGap

__all__ = ["SnapshotSync", "TradeIds"]

T = TypeVar("T")


class SnapshotSync(Generic[T]):
    """Joins a stream of deltas to a snapshot fetched meanwhile, then checks that the stream has no hole.

    Until the snapshot fits, deltas are held. Afterwards each delta must begin right after the last one; what ends at
    or below it is stale and dropped. While live, `hold` keeps the applied deltas as well, for a second snapshot.
    """

    __slots__ = ("_held", "holding", "last", "live")

    HELD_MAX = 20_000

    def __init__(self) -> None:
        self.live = False
        self.holding = True
        self.last = 0
        self._held: deque[tuple[int, int, T]] = deque(maxlen=self.HELD_MAX)

    def reset(self) -> None:
        """Forget everything: the next deltas are held until a snapshot fits them."""
        self.live = False
        self.holding = True
        self._held.clear()

    def hold(self) -> None:
        """Keep what is applied from now on, so that a snapshot can replace a live book without a gap."""
        self.holding = True

    def delta(self, first: int, last: int, item: T) -> bool:
        """Take the delta `first..last`. Returns True when `item` is to be applied now.

        Raises SequenceGap when messages are missing before it; the delta is then held for the next snapshot.
        """
        if self.live:
            if first == self.last + 1 or first <= self.last < last:
                self.last = last
                if self.holding:
                    self._held.append((first, last, item))
                return True
            if last <= self.last:
                return False
            expected = self.last + 1
            self.reset()
            self._held.append((first, last, item))
            raise SequenceGap(expected, first)
        if self._held:
            newest = self._held[-1][1]
            if last <= newest:
                return False  # a repeat: applied again later, it would bring back old sizes
            if first > newest + 1:
                self._held.clear()  # a hole among the held ones: nothing before it can be used
        self._held.append((first, last, item))
        return False

    def snapshot(self, last: int) -> list[T] | None:
        """Take a snapshot that holds everything up to `last`.

        Returns the held items to apply on it, in order; None when it is older than the held deltas reach back, so
        that a newer one has to be fetched.
        """
        held = [entry for entry in self._held if entry[1] > last]
        oldest = held[0][0] if held else self.last + 1 if self.live else 0
        if oldest > last + 1:
            return None
        self.live, self.holding = True, False
        self.last = held[-1][1] if held else last
        self._held.clear()
        return [item for _, _, item in held]


class TradeIds:
    """Which trades of one symbol came before: repeats are dropped, holes counted.

    Venues number trades per symbol; where the numbers are consecutive, `contiguous` makes a jump a loss. A window of
    the last ids finds repeats that come out of order.
    """

    __slots__ = ("_order", "_seen", "contiguous", "last")

    WINDOW = 4096
    REPEATED = 256

    def __init__(self, *, contiguous: bool) -> None:
        self.contiguous = contiguous
        self.last: int | None = None
        self._seen: set[str] = set()
        self._order: deque[str] = deque()

    def new(self, trade_id: str) -> bool:
        """Note `trade_id`; False when it was seen before. A venue that gives none (``) cannot be asked."""
        if not trade_id:
            return True
        seen = self._seen
        if trade_id in seen:
            return False
        seen.add(trade_id)
        order = self._order
        order.append(trade_id)
        if len(order) > self.WINDOW:
            seen.discard(order.popleft())
        return True

    def __contains__(self, trade_id: str) -> bool:
        """Tell whether `trade_id` was seen, without noting it."""
        return trade_id in self._seen

    def forgotten(self, trade_id: str) -> bool:
        """Tell whether consecutive numbers put `trade_id` before the window: whether it was seen is not known."""
        order = self._order
        if not self.contiguous or len(order) < self.WINDOW:
            return False
        return trade_id.isdecimal() and order[0].isdecimal() and int(trade_id) < int(order[0])

    def newest(self) -> list[str]:
        """Return the last ids, as many as a venue may repeat to a new connection."""
        return list(self._order)[-self.REPEATED :]

    def missing_before(self, trade_id: str) -> tuple[int, int] | None:
        """Return the ids lost right before `trade_id` as (first, last), None when there are none."""
        if not self.contiguous or not trade_id.isdecimal():
            return None
        number = int(trade_id)
        last, self.last = self.last, number if self.last is None or number > self.last else self.last
        return (last + 1, number - 1) if last is not None and number > last + 1 else None
