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
        for name in measures:
            self._begin(name, 0)

    def _begin(self, name: str, now: int) -> None:
        try:
            self._measures[name] = self._types[name](self._market)
        except Exception as error:
            self._measures.pop(name, None)
            self._failed(name, error, now)

    def _failed(self, name: str, error: Exception, now: int) -> None:
        self._errors[name] += 1
        if now - self._said.get(name, -QUIET_NS) >= QUIET_NS:
            self._said[name] = now
            logger.error("measure failed name=%s symbol=%s error=%s: %s", name, self._market.symbol,
                         type(error).__name__, error)  # fmt: skip

    def _each(self, call: Callable[[Measure], None], now: int) -> None:
        for name, measure in list(self._measures.items()):
            try:
                call(measure)
            except Exception as error:
                self._failed(name, error, now)
                self._begin(name, now)  # what it knew may be half of something

    def on_quote(self, quote: Quote, venues: Mapping[str, Quote], now: int) -> None:
        self._each(lambda measure: measure.on_quote(quote, venues, now), now)

    def on_depth(self, depth: Depth, now: int) -> None:
        self._each(lambda measure: measure.on_depth(depth, now), now)

    def on_trade(self, trade: Trade, now: int) -> None:
        self._each(lambda measure: measure.on_trade(trade, now), now)

    def numbers(self, now: int) -> dict[str, float | None]:
        """Return all numbers, in the order of the measures; of two with one name the first."""
        result: dict[str, float | None] = {}

        def ask(measure: Measure) -> None:
            for name, value in measure.numbers(now).items():
                if not isinstance(name, str):
                    raise TypeError(f"the name {name!r} is no text")
                number = None if value is None else float(value)
                result.setdefault(name, number if number is not None and isfinite(number) else None)

        self._each(ask, now)
        return result
