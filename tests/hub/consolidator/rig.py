"""An engine without Redis: what it is told, and what it says."""

from collections.abc import Mapping
from typing import Any

from hub.analytics.measure import Measure
from hub.config import CandleSettings, Settings
from hub.consolidator.engine import Engine
from hub.consolidator.health import Source
from hub.consolidator.settings import ConsolidatorSettings
from hub.model import Candle, Depth, Level, Message, Quote, State, Status, Trade, is_event, kind_of

SYMBOL = "BTC-USD"
S = 1_000_000_000
START = 1_000_000 * S


class Rig:
    """Venues are alive and known as soon as they are named. Time is `now`, int ns."""

    def __init__(
        self, settings: ConsolidatorSettings | None = None, measures: Mapping[str, type[Measure]] | None = None
    ) -> None:
        self.now = START
        self.messages: list[Message] = []
        self.retired: list[str] = []
        self.withdrawn: list[str] = []
        candles = CandleSettings(intervals=["1s", "10s"], grace_ms=0)
        own = settings or ConsolidatorSettings(grace_ms=2000, depth_per_s=1000)
        self.engine = Engine(Settings(consolidator=own, candles=candles), measures or {}, self)

    def publish(self, message: Message) -> None:
        self.messages.append(message)

    def withdraw(self, kind: str, symbol: str) -> None:
        self.withdrawn.append(f"{kind}:{symbol}")

    def retire(self, kind: str, symbol: str) -> None:
        self.retired.append(f"{kind}:{symbol}")

    def retire_all(self, symbol: str) -> None:
        self.retired.append(symbol)

    def source(self, venue: str, symbol: str = SYMBOL, unit: str = "base") -> Source:
        """Return a source of which everything was read and nothing is wrong."""
        known = self.engine.health.venue(venue).sources.get(symbol)
        if known is not None:
            return known
        source = self.engine.add(venue, symbol, unit, self.now)
        if not self.engine.health.venue(venue).alive:
            self.engine.pulse(venue, 1, venue.encode(), self.now)
            self.engine.venue_status(venue, None, self.now)
        self.engine.symbol_status(source, None, self.now)
        for kind in ("quote", "depth", "trade"):
            self.engine.offer(source, kind, self.now)
        self.engine.ready(source, self.now)
        return source

    def quote(
        self,
        venue: str,
        bid: float | None,
        ask: float | None,
        sizes: tuple[float, float] = (1.0, 2.0),
        symbol: str = SYMBOL,
    ) -> Quote:
        quote = Quote(
            venue, symbol, "1-1", 5, self.now, 0,
            bid, sizes[0] if bid is not None else None, ask, sizes[1] if ask is not None else None,
        )  # fmt: skip
        self.engine.quote(self.source(venue, symbol), quote, self.now)
        return quote

    def depth(self, venue: str, bids: list[Level], asks: list[Level], symbol: str = SYMBOL) -> None:
        depth = Depth(venue, symbol, "1-1", 5, self.now, 0, bids, asks)
        self.engine.depth(self.source(venue, symbol), depth, self.now)

    def trade(self, venue: str, price: float, size: float = 1.0, symbol: str = SYMBOL) -> None:
        trade = Trade(venue, symbol, "1-1", self.now, self.now, 0, price, size, "buy", "7")
        self.engine.trade(self.source(venue, symbol), trade, self.now)

    def status(self, state: State, kind: str | None = None, reason: str = "test", epoch: int = 1) -> Status:
        return Status("", "", f"{epoch}-1", None, self.now, 0, state, kind, reason, self.now)

    def said(self, kind: type[Any], symbol: str = SYMBOL) -> list[Any]:
        """Return what was published since the last call, after a flush."""
        self.now += 1_000_000
        self.engine.flush(self.now)
        self.engine.tick_depths(self.now)
        found = [message for message in self.messages if isinstance(message, kind) and message.symbol == symbol]
        self.messages = [message for message in self.messages if message not in found]
        return found

    def newest(self, kind: type[Any], symbol: str = SYMBOL) -> Any:
        found = self.said(kind, symbol)
        assert found, f"no {kind.__name__} of {symbol}"
        return found[-1]

    def run(self, seconds: float) -> list[Candle]:
        """Let time pass; returns the closed candles published meanwhile."""
        end = self.now + int(seconds * S)
        while self.now < end:
            self.now = min(end, self.now + S // 4)
            for venue in self.engine.health.venues.values():
                if venue.alive:
                    self.engine.pulse(venue.name, venue.epoch, venue.holder, self.now)
            self.engine.flush(self.now)
            self.engine.tick(self.now)
        found = [m for m in self.messages if isinstance(m, Candle) and is_event(kind_of(m))]
        self.messages = [message for message in self.messages if not isinstance(message, Candle)]
        return found
