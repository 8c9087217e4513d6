"""Average price of trades."""

from hub.analytics.measure import Market, Measure, Numbers
from hub.analytics.window import WindowSum
from hub.model import Trade

__all__ = ["Vwap"]


class Vwap(Measure):
    """`vwap_<w>s`: the sum of price * size over the sum of sizes of the last w seconds' trades, in quote units.

    A trade counts when the hub received it. None without trades, and where sizes are in quote units.
    """

    def __init__(self, market: Market) -> None:
        super().__init__(market)
        self._sums = {f"vwap_{length}s": (WindowSum(length), WindowSum(length)) for length in market.windows_s}

    def on_trade(self, trade: Trade, now: int) -> None:
        if self.market.quoted:
            return
        for notional, volume in self._sums.values():
            notional.add(trade.price * trade.size, now)
            volume.add(trade.size, now)

    def numbers(self, now: int) -> Numbers:
        result: dict[str, float | None] = {}
        for name, (notional, volume) in self._sums.items():
            total = volume.read(now)[0]
            result[name] = notional.read(now)[0] / total if total > 0 else None
        return result
