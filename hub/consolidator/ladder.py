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
    """One side of the merged book: price -> size by source. Changing a source costs what changed of it."""

    __slots__ = ("_given", "_keys", "_sizes", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self._sizes: dict[float, dict[Named, float]] = {}
        self._keys: list[float] = []  # sign * price, ascending: the best is last
        self._given: dict[Named, dict[float, float]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def set(self, source: Named, levels: Sequence[Level]) -> int:
        """Replace the levels of `source`; returns how many changed."""
        new = dict(levels)
        if 0.0 in new.values():
            new = {price: size for price, size in new.items() if size}
        old = self._given.get(source, _NOTHING)
        gone = old.keys() - new.keys()
        for price in gone:
            self._remove(source, price)
        changed = new.items() - old.items()
        sizes, keys, sign = self._sizes, self._keys, self.sign
        for price, size in changed:
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
        here = self._sizes[price]
        del here[source]
        if not here:
            del self._sizes[price]
            key = self.sign * price
            del self._keys[bisect_left(self._keys, key)]

    def top(self, count: int) -> tuple[list[Level], list[dict[str, float]]]:
        """Return the best `count` levels, best first, and at the same places the sizes by venue."""
        levels: list[Level] = []
        venues: list[dict[str, float]] = []
        sign = self.sign
        for key in self._keys[: -count - 1 : -1]:
            price = sign * key
            shares = _by_venue(self._sizes[price])
            levels.append((price, _total(shares)))
            venues.append(shares)
        return levels, venues


_NOTHING: Mapping[float, float] = {}


def _by_venue(sizes: Mapping[Named, float]) -> dict[str, float]:
    """Return the sizes by venue, sorted; a venue may come with several symbols of a group."""
    if len(sizes) == 1:
        ((source, size),) = sizes.items()
        return {source.venue: size}
    parts: dict[str, list[float]] = {}
    for source, size in sizes.items():
        parts.setdefault(source.venue, []).append(size)
    return {venue: fsum(parts[venue]) for venue in sorted(parts)}


def _total(shares: Mapping[str, float]) -> float:
    # fsum: the total must not depend on the order in which venues came.
    return fsum(shares.values())
