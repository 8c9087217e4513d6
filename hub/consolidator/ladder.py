"""The best price and the merged levels of several sources, kept up to date by what changed. Pure.

A source is anything hashable by identity that has a venue and a symbol; ties go to the larger size, then to the name.
"""

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from math import fsum
from typing import Protocol

from hub.model import Level

__all__ = ["Best", "Ladder", "Named"]


class Named(Protocol):
    @property
    def venue(self) -> str: ...
    @property
    def symbol(self) -> str: ...


class Best:
    """The best price over sources. A change costs O(1), one that makes the best worse O(sources).

    `sign` is 1 for bids, -1 for asks.
    """

    __slots__ = ("_ranks", "price", "sign", "size", "source")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self._ranks: dict[Named, tuple[float, float, float | None]] = {}
        self.source: Named | None = None
        self.price: float | None = None
        self.size: float | None = None

    def set(self, source: Named, price: float | None, size: float | None) -> None:
        """Note the best price of `source`; None: it has none."""
        if price is None:
            if self._ranks.pop(source, None) is not None and source is self.source:
                self._search()
            return
        rank = (self.sign * price, size or 0.0, size)
        before = self._ranks.get(source)
        self._ranks[source] = rank
        if source is self.source:
            assert before is not None
            if rank[:2] >= before[:2]:
                self._take(source, rank)
            else:
                self._search()
        elif self.source is None or self._beats(source, rank, self.source, self._ranks[self.source]):
            self._take(source, rank)

    def _beats(
        self,
        source: Named,
        rank: tuple[float, float, float | None],
        other: Named,
        than: tuple[float, float, float | None],
    ) -> bool:
        if rank[0] != than[0]:
            return rank[0] > than[0]
        if rank[1] != than[1]:
            return rank[1] > than[1]
        return (source.venue, source.symbol) < (other.venue, other.symbol)

    def _take(self, source: Named, rank: tuple[float, float, float | None]) -> None:
        self.source, self.price, self.size = source, self.sign * rank[0], rank[2]

    def _search(self) -> None:
        best: Named | None = None
        for source, rank in self._ranks.items():
            if best is None or self._beats(source, rank, best, self._ranks[best]):
                best = source
        if best is None:
            self.source = self.price = self.size = None
        else:
            self._take(best, self._ranks[best])


class Ladder:
    """One side of the merged book: price -> size by source. Changing a source costs what changed of it.

    What `top` made of a level is kept until the level changes, and never changed itself: it may be on its way out.
    """

    __slots__ = ("_given", "_keys", "_made", "_sizes", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self._sizes: dict[float, dict[Named, float]] = {}
        self._keys: list[float] = []  # sign * price, ascending: the best is last
        self._given: dict[Named, dict[float, float]] = {}
        self._made: dict[float, tuple[Level, dict[str, float]]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def set(self, source: Named, levels: Sequence[Level]) -> int:
        """Replace the levels of `source`; returns how many changed."""
        new = dict(levels)
        if 0.0 in new.values():
            new = {price: size for price, size in new.items() if size}
        old = self._given.get(source, _NOTHING)
        gone = [price for price in old if price not in new]
        for price in gone:
            self._remove(source, price)
        before = old.get
        changed = [(price, size) for price, size in new.items() if before(price) != size]
        sizes, keys, sign, made = self._sizes, self._keys, self.sign, self._made
        for price, size in changed:
            made.pop(price, None)
            here = sizes.get(price)
            if here is None:
                sizes[price] = {source: size}
                insort(keys, sign * price)
            else:
                here[source] = size
        if new:
            self._given[source] = new
        else:
            self._given.pop(source, None)
        return len(gone) + len(changed)

    def _remove(self, source: Named, price: float) -> None:
        self._made.pop(price, None)
        here = self._sizes[price]
        del here[source]
        if not here:
            del self._sizes[price]
            key = self.sign * price
            del self._keys[bisect_left(self._keys, key)]

    def top(self, count: int) -> tuple[list[Level], list[dict[str, float]]]:
        """Return the best `count` levels, best first, and at the same places the sizes by venue."""
        found = self._levels(count)
        return [level for level, _ in found], [shares for _, shares in found]

    def size(self, count: int) -> float:
        """Return the summed sizes of the best `count` levels."""
        return sum(level[1] for level, _ in self._levels(count))

    def _levels(self, count: int) -> list[tuple[Level, dict[str, float]]]:
        made, sign = self._made, self.sign
        return [made.get(sign * key) or self._make(sign * key) for key in self._keys[: -count - 1 : -1]]

    def _make(self, price: float) -> tuple[Level, dict[str, float]]:
        sizes = self._sizes[price]
        shares = {source.venue: size for source, size in sizes.items()}
        if len(shares) < len(sizes):
            shares = _by_venue(sizes)
        # fsum: the total must not depend on the order in which venues came.
        made = self._made[price] = ((price, fsum(shares.values())), shares)
        return made


_NOTHING: Mapping[float, float] = {}


def _by_venue(sizes: Mapping[Named, float]) -> dict[str, float]:
    """Return the sizes by venue where one comes with several symbols of a group."""
    parts: dict[str, list[float]] = {}
    for source, size in sizes.items():
        parts.setdefault(source.venue, []).append(size)
    return {venue: fsum(found) for venue, found in parts.items()}
