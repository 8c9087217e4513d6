"""Which candles were told: an answer that repeats them tells each once, and a changed one again. Pure."""

from collections import OrderedDict
from typing import TypeAlias

from msgspec.structs import replace

from hub.model import Candle, kind_of

__all__ = ["CandleLedger"]

Values: TypeAlias = tuple[float | None, ...]


class CandleLedger:
    """Remembers the last `KEPT` candles of each channel."""

    KEPT = 1000

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], OrderedDict[int, tuple[Values, int]]] = {}

    def note(self, candle: Candle) -> None:
        """`candle` was told by an earlier run."""
        self._remember(candle, _values(candle), candle.revision)

    def admit(self, candle: Candle) -> Candle | None:
        """Return what to tell: the candle, with its revision; None where the same was told before."""
        told = self._told.get((kind_of(candle), candle.symbol), OrderedDict())
        values, before = _values(candle), told.get(candle.start)
        if before is None:
            if len(told) >= self.KEPT and candle.start < next(iter(told)):
                return None  # so old that it may have been told and forgotten
            revision = 0
        elif before[0] == values:
            return None
        else:
            revision = before[1] + 1
        self._remember(candle, values, revision)
        return replace(candle, revision=revision)

    def forget(self, symbol: str) -> None:
        """Know nothing of `symbol` any more."""
        for key in [key for key in self._told if key[1] == symbol]:
            del self._told[key]

    def _remember(self, candle: Candle, values: Values, revision: int) -> None:
        told = self._told.setdefault((kind_of(candle), candle.symbol), OrderedDict())
        told[candle.start] = values, revision
        if len(told) > self.KEPT:
            told.popitem(last=False)


def _values(candle: Candle) -> Values:
    return (
        candle.open, candle.high, candle.low, candle.close, candle.volume, candle.trades, candle.vwap,
    )  # fmt: skip
