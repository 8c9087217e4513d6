"""Order book: price levels of one instrument. Pure; it knows no venue, no sequence numbers and no clock.

Each side keeps a dict price -> size and a sorted list of keys, so that changing a size is one dict write and only a new
or removed price touches the list. A side may be *bounded*: beyond the bound nothing is known for certain (a venue's
snapshot ended there), so levels beyond it are not kept.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from math import inf

from hub.model import Level

__all__ = ["BookSide", "OrderBook"]


class BookSide:
    """One side. Keys are `sign * price`, ascending, so that the best price is last on either side.

    `texts` holds the venue's own digits by key, where they were given; `given` is the snapshot as it came, while it is
    what `levels` returns.
    """

    __slots__ = ("_best", "bound", "given", "keys", "sign", "sizes", "texts")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.sizes: dict[float, float] = {}
        self.keys: list[float] = []
        self.bound = -inf
        self.texts: dict[float, str] = {}
        self.given: list[Level] | None = None
        self._best: list[str] | None = None  # of best_texts, until the side changes

    def __len__(self) -> int:
        return len(self.keys)

    def replace(self, levels: Iterable[Level], *, complete: bool) -> None:
        """Take over a snapshot. Unless it is `complete`, the worst price in it becomes the bound."""
        sizes = dict(levels)
        if 0.0 in sizes.values():
            sizes = {price: size for price, size in sizes.items() if size}
        self.sizes, self.texts, self._best = sizes, {}, None
        ranked = list(sizes) if self.sign == 1 else [-price for price in sizes]
        self.keys = sorted(ranked)
        ranked.reverse()
        whole = isinstance(levels, list) and len(levels) == len(sizes) and ranked == self.keys
        self.given = levels if whole else None  # type: ignore[assignment]  # a list, as tested
        self.bound = -inf if complete or not self.keys else self.keys[0]

    def apply(self, levels: Sequence[Level]) -> Sequence[Level]:
        """Set absolute sizes, 0 removes. Returns the levels within the bound: `levels` itself when all are."""
        sizes, keys, sign, bound = self.sizes, self.keys, self.sign, self.bound
        self.given = self._best = None
        outside = False
        for price, size in levels:
            if size:
                if price not in sizes:
                    key = sign * price
                    if key < bound:
                        outside = True
                        continue
                    insort(keys, key)
                sizes[price] = size
            elif price in sizes:
                del sizes[price]
                del keys[bisect_left(keys, sign * price)]
        if outside:
            return [level for level in levels if sign * level[0] >= bound]
        return levels

    def note_texts(self, levels: Sequence[Level], texts: Sequence[str]) -> None:
        """Remember the venue's digits of `levels`, which were applied just before."""
        sign, sizes, kept = self.sign, self.sizes, self.texts
        self._best = None
        for (price, _), text in zip(levels, texts, strict=True):
            if price in sizes:
                kept[sign * price] = text
            else:
                kept.pop(sign * price, None)

    def best_texts(self, count: int) -> list[str]:
        """Return the venue's digits of the best `count` levels, best first."""
        best = self._best
        if best is None or len(best) != min(count, len(self.keys)):
            best = self._best = list(map(self.texts.__getitem__, self.keys[: -count - 1 : -1]))
        return best

    def truncate(self, count: int, *, bounding: bool = True) -> list[Level]:
        """Forget the worst levels beyond `count`; returns them with size 0.

        The bound moves to what is left, unless the venue sends those levels again when they move up (`bounding` False).
        """
        excess = len(self.keys) - count
        if excess <= 0:
            return []
        dropped = [self.sign * key for key in self.keys[:excess]]
        for key in self.keys[:excess]:
            self.texts.pop(key, None)
        del self.keys[:excess]
        self.given = self._best = None
        for price in dropped:
            del self.sizes[price]
        if bounding:
            self.bound = self.keys[0] if self.keys else -inf
        return [(price, 0.0) for price in reversed(dropped)]

    @property
    def left(self) -> bool:
        """Tell whether nothing is known any more: every level within the bound is gone."""
        return not self.keys and self.bound > -inf

    def thinner(self, count: int) -> bool:
        """Tell whether a bounded side holds fewer than `count` levels."""
        return len(self.keys) < count and self.bound > -inf

    def best(self) -> Level | None:
        if not self.keys:
            return None
        price = self.sign * self.keys[-1]
        return price, self.sizes[price]

    def levels(self, count: int | None = None) -> list[Level]:
        """Return the best `count` levels (all by default), best first; not to be changed."""
        if count is None and self.given is not None:
            return self.given
        sign, sizes = self.sign, self.sizes
        keys = self.keys[::-1] if count is None else self.keys[: -count - 1 : -1]
        return [(sign * key, sizes[sign * key]) for key in keys]


class OrderBook:
    """Bids and asks of one instrument, at most `kept` levels a side.

    `window`: the venue itself keeps just `kept` levels and sends again what moves up, so nothing beyond is unknown.
    """

    __slots__ = ("asks", "bids", "kept", "window")

    def __init__(self, kept: int = 5000, *, window: bool = False) -> None:
        self.kept = kept
        self.window = window
        self.bids = BookSide(1)
        self.asks = BookSide(-1)

    def replace(
        self, bids: Iterable[Level], asks: Iterable[Level], *, bids_complete: bool = True, asks_complete: bool = True
    ) -> None:
        """Throw away what was known and take over a snapshot; see BookSide.replace."""
        self.bids.replace(bids, complete=bids_complete)
        self.asks.replace(asks, complete=asks_complete)
        self.bids.truncate(self.kept, bounding=not self.window)
        self.asks.truncate(self.kept, bounding=not self.window)

    def apply(self, bids: Sequence[Level], asks: Sequence[Level]) -> tuple[Sequence[Level], Sequence[Level]]:
        """Apply absolute sizes and return what a follower of this book must apply to have the same levels.

        That is the input without levels beyond the bounds, and with size 0 for each level that was dropped because
        the side outgrew `kept`.
        """
        own_bids, own_asks = self.bids, self.asks
        if bids:
            bids = own_bids.apply(bids)
            if len(own_bids.keys) > self.kept:
                bids = _merged(bids, own_bids.truncate(self.kept, bounding=not self.window))
        if asks:
            asks = own_asks.apply(asks)
            if len(own_asks.keys) > self.kept:
                asks = _merged(asks, own_asks.truncate(self.kept, bounding=not self.window))
        return bids, asks

    def note_texts(
        self,
        bids: Sequence[Level],
        asks: Sequence[Level],
        texts: tuple[Sequence[str], Sequence[str]],
    ) -> None:
        """Remember the venue's digits of levels that were applied just before."""
        if bids:
            self.bids.note_texts(bids, texts[0])
        if asks:
            self.asks.note_texts(asks, texts[1])

    def crossed(self) -> bool:
        """Tell whether the best bid is at or above the best ask: impossible on one venue, so a message was lost."""
        bids, asks = self.bids.keys, self.asks.keys
        return bool(bids) and bool(asks) and bids[-1] >= -asks[-1]


def _merged(levels: Sequence[Level], dropped: list[Level]) -> list[Level]:
    gone = {price for price, _ in dropped}
    return [level for level in levels if level[0] not in gone] + dropped
