"""A recorded book, told at any moment of its track: snapshots joined with the diffs played so far, in the venue's text.

Naive on purpose: plain dicts, sorted when somebody asks. It is also what tests compare real books with.
"""

from collections.abc import Collection, Sequence
from typing import TypeAlias

from msgspec import Struct

__all__ = ["BookText", "RecordedBook", "RecordedSnapshot"]

Levels: TypeAlias = Sequence[tuple[str, str]]


class RecordedSnapshot(Struct, frozen=True):
    """A recorded REST book, `last` being the last update in it; `limit` is how many levels a side were asked for, 0
    where nobody knows. Best first."""

    last: int
    bids: Levels
    asks: Levels
    limit: int
    body: bytes


class BookText(Struct, frozen=True):
    """A book in the venue's text, best first; `body` is the recorded answer where it says just this."""

    last: int
    bids: Levels
    asks: Levels
    body: bytes | None = None


class RecordedBook:
    """The book of one symbol in one lap.

    `pages` are the lengths a side has where the venue cut it. Levels beyond a cut are unknown and are never told, even
    where a diff names some: between them others are missing.
    """

    def __init__(self, pages: Collection[int]) -> None:
        self._pages = pages
        self._snapshots: list[RecordedSnapshot] = []
        self._next = 0
        self._live = False
        self._last = 0
        self._bids: dict[str, str] = {}
        self._asks: dict[str, str] = {}
        self._lowest_bid: float | None = None
        self._highest_ask: float | None = None

    def add(self, snapshot: RecordedSnapshot) -> None:
        """Take a recorded snapshot, before anything is played."""
        self._snapshots.append(snapshot)
        self._snapshots.sort(key=lambda each: each.last)

    def reset(self) -> None:
        """Go back to the start of the recording."""
        self._next = 0
        self._live = False

    def apply(self, first: int, last: int, bids: Levels, asks: Levels) -> None:
        """Play the diff `first..last`. After a hole in the recording the book is unknown until the next snapshot."""
        passed = None
        while self._next < len(self._snapshots) and self._snapshots[self._next].last <= last:
            passed = self._snapshots[self._next]
            self._next += 1
        if passed is not None and first <= passed.last + 1:
            self._load(passed)
        elif not self._live or first > self._last + 1:
            self._live = False
            return
        if last > self._last:
            self._last = last
            _set(self._bids, bids)
            _set(self._asks, asks)

    def current(self, limit: int) -> BookText | None:
        """Return the book now, `limit` levels a side; the recorded snapshot where the stream has not passed it yet.

        None where the recording does not tell.
        """
        if self._live:
            bids = _sorted(self._bids, self._lowest_bid, -1)
            asks = _sorted(self._asks, self._highest_ask, 1)
            told_bids = self._page(bids, limit, self._lowest_bid is None)
            told_asks = self._page(asks, limit, self._highest_ask is None)
            return (
                BookText(self._last, told_bids, told_asks) if told_bids is not None and told_asks is not None else None
            )
        if self._next == len(self._snapshots):
            return None
        ahead = self._snapshots[self._next]
        fits = max(len(ahead.bids), len(ahead.asks)) <= limit
        return BookText(ahead.last, ahead.bids[:limit], ahead.asks[:limit], ahead.body if fits else None)

    def _load(self, snapshot: RecordedSnapshot) -> None:
        self._live = True
        self._last = snapshot.last
        self._bids, self._asks = dict(snapshot.bids), dict(snapshot.asks)
        self._lowest_bid = self._edge(snapshot.bids, snapshot.limit)
        self._highest_ask = self._edge(snapshot.asks, snapshot.limit)

    def _edge(self, levels: Levels, limit: int) -> float | None:
        """Return the last known price of a side that the venue cut, None where the side is whole."""
        cut = len(levels) >= limit if limit else len(levels) in self._pages
        return float(levels[-1][0]) if cut and levels else None

    def _page(self, levels: Levels, limit: int, whole: bool) -> Levels | None:
        """Cut a side. One that goes on in the unknown is cut to a page, since a shorter one would pass for the whole
        side; None where not even the smallest page is known."""
        if whole or len(levels) >= limit:
            return levels[:limit]
        page = max((page for page in self._pages if page <= len(levels)), default=None)
        return levels[:page] if page is not None else None


def _set(side: dict[str, str], levels: Levels) -> None:
    for price, size in levels:
        if float(size) == 0:
            side.pop(price, None)
        else:
            side[price] = size


def _sorted(side: dict[str, str], edge: float | None, sign: int) -> Levels:
    known = [(price, size) for price, size in side.items() if edge is None or sign * float(price) <= sign * edge]
    return sorted(known, key=lambda level: sign * float(level[0]))
