"""The interface of a measure. Pure: time comes in, nothing is read or written.

One instance belongs to one consolidated symbol. It is given every consolidated quote and depth, and the trades of the
venues that count; it answers with numbers under names of its own, which appear in `quote:all:<symbol>`.
"""

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct

from hub.model import Depth, Quote, Trade

__all__ = ["Market", "Measure", "Numbers"]

Numbers: TypeAlias = Mapping[str, float | None]
"""name -> number, None where it is not known; a NaN or an infinity counts as not known"""


class Market(Struct, frozen=True, kw_only=True):
    """What a measure is told about its symbol and about the settings.

    `quoted`: sizes are in quote units, so that they are notionals. `levels` is how many a depth has at most: with
    fewer on a side, that side is whole. `windows_s` and `bands_bps` are what `[consolidator]` asks for.
    """

    symbol: str
    quoted: bool = False
    levels: int = 20
    windows_s: tuple[int, ...] = (10, 60, 300)
    bands_bps: tuple[float, ...] = (2.0, 10.0)


class Measure:
    """Base of all measures; override what is needed. Times are int ns UTC.

    An exception costs the numbers of this measure for this symbol: it is logged and counted, and the instance is
    replaced by a new one.
    """

    def __init__(self, market: Market) -> None:
        self.market = market

    def on_quote(self, quote: Quote, venues: Mapping[str, Quote], now: int) -> None:
        """Take a consolidated quote (`analytics` not yet in it), and by venue the quotes that count."""

    def on_depth(self, depth: Depth, now: int) -> None:
        """Take a consolidated depth."""

    def on_trade(self, trade: Trade, now: int) -> None:
        """Take a trade of a venue that counts."""

    def numbers(self, now: int) -> Numbers:
        """Return the numbers as of `now`."""
        raise NotImplementedError
