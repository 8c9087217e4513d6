"""Order book: price levels of one instrument. Pure; it knows no venue, no sequence numbers and no clock.

Each side keeps a dict price -> size and a sorted list of keys, so that changing a size is one dict write and only a new
or removed price touches the list. A side may be *bounded*: beyond the bound nothing is known for certain (a venue's
snapshot ended there), so levels beyond it are not kept.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from math import inf
from typing import TypeAlias

from hub.model import Level

__all__ = ["BookSide", "OrderBook", "Texts"]

Texts: TypeAlias = tuple[Sequence[str], Sequence[str]]
"""The venue's own digits of bids and asks, level by level, in the form its checksum takes them."""


class BookSide:
    """One side. Keys are `sign * price`, ascending, so that the best price is last on either side.

    `texts` holds the venue's own digits, one of each key, while they are given; `given` is the snapshot as it came,
    while it is what `levels` returns. `keys` is one list for good: who looks at the top often may hold on to it.
    """

    __slots__ = ("bound", "given", "keys", "sign", "sizes", "texts")

    def __init__(self, sign: int) -> None:
        self.sign = float(sign)
        self.sizes: dict[float, float] = {}
        self.keys: list[float] = []
        self.bound = -inf
        self.texts: list[str] | None = None
        self.given: list[Level] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def replace(
        self,
        levels: Iterable[Level],
        *,
        complete: bool,
        texts: Sequence[str] | None = None,
        kept: int | None = None,
        bounding: bool = True,
    ) -> None:
        """Take over a snapshot. Unless it is `complete`, the worst price in it becomes the bound.

        `texts`: the venue's digits of `levels`. Of more than `kept` levels the best are taken; see `truncate`.
        """
        if texts is not None:
            levels = list(levels)
        sizes = dict(levels)
        if 0.0 in sizes.values():
            sizes = {price: size for price, size in sizes.items() if size}
        ranked = list(sizes) if self.sign > 0 else [-price for price in sizes]
        keys = self.keys
        keys[:] = ranked
        keys.sort()
        excess = 0 if kept is None else max(0, len(keys) - kept)
        if excess:
            del keys[:excess]
            sizes = {price: sizes[price] for price in map(self.sign.__mul__, reversed(keys))}
            self.given = None
        else:
            ranked.reverse()
            whole = isinstance(levels, list) and len(levels) == len(sizes) and ranked == keys
            self.given = levels if whole else None  # type: ignore[assignment]  # a list, as tested
        self.sizes = sizes
        if texts is None:
            self.texts = None
        else:
            by_price = {price: text for (price, _), text in zip(levels, texts, strict=True)}
            self.texts = [by_price[self.sign * key] for key in keys]
        if excess and bounding:
            self.bound = keys[0] if keys else -inf
        elif complete or not ranked:
            self.bound = -inf
        else:
            self.bound = min(ranked) if excess else keys[0]

    def apply(self, levels: Sequence[Level], texts: Sequence[str] | None = None) -> Sequence[Level]:
        """Set absolute sizes, 0 removes. Returns the levels within the bound: `levels` itself when all are.

        `texts`: the venue's digits of `levels`; without them none are known any more.
        """
        if texts is not None and self.texts is not None:
            return self._apply_with(levels, texts, self.texts)
        self.given = self.texts = None
        sizes, keys, sign, bound = self.sizes, self.keys, self.sign, self.bound
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
        return [level for level in levels if sign * level[0] >= bound] if outside else levels

    def _apply_with(self, levels: Sequence[Level], texts: Sequence[str], known: list[str]) -> Sequence[Level]:
        """As `apply`, keeping the digits."""
        self.given = None
        sizes, keys, sign, bound = self.sizes, self.keys, self.sign, self.bound
        outside = False
        for (price, size), text in zip(levels, texts, strict=True):
            key = sign * price
            if key < bound:
                outside = True
                continue
            at = bisect_left(keys, key)
            if size:
                if price in sizes:
                    known[at] = text
                else:
                    keys.insert(at, key)
                    known.insert(at, text)
                sizes[price] = size
            elif price in sizes:
                del sizes[price], keys[at], known[at]
        return [level for level in levels if sign * level[0] >= bound] if outside else levels

    def best_texts(self, count: int) -> list[str]:
        """Return the venue's digits of the best `count` levels, best first; none where they were not given."""
        return self.texts[: -count - 1 : -1] if self.texts is not None else []

    def truncate(self, count: int, *, bounding: bool = True) -> list[Level]:
        """Forget the worst levels beyond `count`; returns them with size 0.

        The bound moves to what is left, unless the venue sends those levels again when they move up (`bounding` False).
        """
        keys, sizes, sign = self.keys, self.sizes, self.sign
        excess = len(keys) - count
        if excess <= 0:
            return []
        dropped = [sign * key for key in keys[:excess]]
        del keys[:excess]
        if self.texts is not None:
            del self.texts[:excess]
        self.given = None
        for price in dropped:
            del sizes[price]
        if bounding:
            self.bound = keys[0] if keys else -inf
        dropped.reverse()
        return [(price, 0.0) for price in dropped]

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
        self,
        bids: Iterable[Level],
        asks: Iterable[Level],
        *,
        bids_complete: bool = True,
        asks_complete: bool = True,
        texts: Texts | None = None,
    ) -> None:
        """Throw away what was known and take over a snapshot; see BookSide.replace."""
        bid_texts, ask_texts = texts or (None, None)
        kept, bounding = self.kept, not self.window
        self.bids.replace(bids, complete=bids_complete, texts=bid_texts, kept=kept, bounding=bounding)
        self.asks.replace(asks, complete=asks_complete, texts=ask_texts, kept=kept, bounding=bounding)

    def apply(
        self, bids: Sequence[Level], asks: Sequence[Level], texts: Texts | None = None
    ) -> tuple[Sequence[Level], Sequence[Level]]:
        """Apply absolute sizes and return what a follower of this book must apply to have the same levels.

        That is the input without levels beyond the bounds, and with size 0 for each level that was dropped because
        the side outgrew `kept`. `texts`: the venue's digits of bids and asks.
        """
        own_bids, own_asks = self.bids, self.asks
        if bids:
            bids = own_bids.apply(bids, texts[0] if texts is not None else None)
            if len(own_bids.keys) > self.kept:
                bids = _merged(bids, own_bids.truncate(self.kept, bounding=not self.window))
        if asks:
            asks = own_asks.apply(asks, texts[1] if texts is not None else None)
            if len(own_asks.keys) > self.kept:
                asks = _merged(asks, own_asks.truncate(self.kept, bounding=not self.window))
        return bids, asks

    def crossed(self) -> bool:
        """Tell whether the best bid is at or above the best ask: impossible on one venue, so a message was lost."""
        bids, asks = self.bids.keys, self.asks.keys
        return bool(bids) and bool(asks) and bids[-1] >= -asks[-1]


def _merged(levels: Sequence[Level], dropped: list[Level]) -> list[Level]:
    gone = {price for price, _ in dropped}
    return [level for level in levels if level[0] not in gone] + dropped
