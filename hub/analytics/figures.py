"""The measures of one symbol together: what one of them does wrong costs its own numbers only."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from math import isfinite

from hub.analytics.measure import Market, Measure
from hub.intervals import NS_PER_S
from hub.model import Depth, Quote, Trade

__all__ = ["Figures"]

logger = logging.getLogger(__name__)

#: An error is logged once in this time, per measure.
QUIET_NS = 60 * NS_PER_S


class Figures:
    """Instances of `measures` for one symbol. `errors` counts by measure and is shared by all symbols."""

    def __init__(self, measures: Mapping[str, type[Measure]], market: Market, errors: Counter[str]) -> None:
        self._types, self._market, self._errors = measures, market, errors
        self._measures: dict[str, Measure] = {}
        self._said: dict[str, int] = {}
        # By input, those that look at it.
        self._quotes: dict[str, Callable[[Quote, Mapping[str, Quote], int], None]] = {}
        self._depths: dict[str, Callable[[Depth, int], None]] = {}
        self._trades: dict[str, Callable[[Trade, int], None]] = {}
        for name in measures:
            self._begin(name, 0)

    def __len__(self) -> int:
        return len(self._measures)

    def _begin(self, name: str, now: int) -> None:
        for known in (self._measures, self._quotes, self._depths, self._trades):
            known.pop(name, None)
        kind = self._types[name]
        try:
            measure = self._measures[name] = kind(self._market)
        except Exception as error:
            self._failed(name, error, now)
            return
        if kind.on_quote is not Measure.on_quote:
            self._quotes[name] = measure.on_quote
        if kind.on_depth is not Measure.on_depth:
            self._depths[name] = measure.on_depth
        if kind.on_trade is not Measure.on_trade:
            self._trades[name] = measure.on_trade

    def _failed(self, name: str, error: Exception, now: int) -> None:
        self._errors[name] += 1
        if now - self._said.get(name, -QUIET_NS) >= QUIET_NS:
            self._said[name] = now
            logger.error(
                "measure failed name=%s symbol=%s error=%s: %s", name, self._market.symbol, type(error).__name__, error
            )

    def _again(self, name: str, error: Exception, now: int) -> None:
        self._failed(name, error, now)
        self._begin(name, now)  # what it knew may be half of something

    def on_quote(self, quote: Quote, venues: Mapping[str, Quote], now: int) -> None:
        for name, call in list(self._quotes.items()):
            try:
                call(quote, venues, now)
            except Exception as error:
                self._again(name, error, now)

    def on_depth(self, depth: Depth, now: int) -> None:
        for name, call in list(self._depths.items()):
            try:
                call(depth, now)
            except Exception as error:
                self._again(name, error, now)

    def on_trade(self, trade: Trade, now: int) -> None:
        for name, call in list(self._trades.items()):
            try:
                call(trade, now)
            except Exception as error:
                self._again(name, error, now)

    def numbers(self, now: int) -> dict[str, float | None]:
        """Return all numbers, in the order of the settings; of two with one name the first."""
        result: dict[str, float | None] = {}
        for name in self._types:
            measure = self._measures.get(name)
            if measure is not None:
                try:
                    for number, value in measure.numbers(now).items():
                        result.setdefault(_text(number), _finite(value))
                except Exception as error:
                    self._again(name, error, now)
        return result


def _text(name: object) -> str:
    if type(name) is not str:
        raise TypeError(f"the name {name!r} is no text")
    return name


def _finite(value: float | None) -> float | None:
    if value is None:
        return None
    number = float(value)
    return number if isfinite(number) else None
