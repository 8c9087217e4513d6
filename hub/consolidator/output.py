"""One symbol of venue `all`: its sources, what is made of them, and what was said last. Pure."""

from typing import Final

from msgspec.structs import force_setattr

from hub.analytics.figures import Figures
from hub.consolidator.flow import DOUBT_NS, Flow
from hub.consolidator.health import Health, Source
from hub.consolidator.merge import Merged
from hub.model import Depth, Quote, State, Trade

__all__ = ["Output"]

_SEVERITY: Final[dict[State, int]] = {"live": 0, "stale": 1, "resyncing": 2, "down": 3}
#: Reasons of so many venues are named in a status.
REASONS_MAX = 5


class Output:
    """`members` are the sources that are merged: those whose sizes are in `unit`."""

    __slots__ = (
        "_said", "depth_at", "depth_due", "figures", "flow", "members", "merged", "sources", "states", "symbol", "unit",
    )  # fmt: skip

    def __init__(self, symbol: str, unit: str, merged: Merged, figures: Figures, flow: Flow | None) -> None:
        self.symbol, self.unit = symbol, unit
        self.merged, self.figures, self.flow = merged, figures, flow
        self.sources: dict[Source, None] = {}
        self.members: set[Source] = set()
        self.depth_due = False
        self.depth_at = 0
        self.states: dict[str, State] = {}
        self._said: object = None

    def join(self, source: Source) -> None:
        """Take `source` in; one with sizes in another unit is known, but not merged."""
        self.sources[source] = None
        if source.unit == self.unit:
            self.members.add(source)

    # inputs

    def judged(self, source: Source, sound_ns: int, now: int) -> None:
        """Take over for which kinds `source` counts now."""
        if source not in self.members:
            return
        self.set_quote(source)
        self.set_depth(source)
        if self.flow is not None:
            live = "trade" in source.live and "trade" in source.offers
            self.flow.counts(source, live, sound_ns - DOUBT_NS, now)

    def leave(self, source: Source, sound_ns: int, now: int) -> None:
        """Forget `source`."""
        source.live = frozenset()
        self.judged(source, sound_ns, now)
        self.sources.pop(source, None)
        self.members.discard(source)

    def set_quote(self, source: Source) -> None:
        self.merged.set_quote(source, source.quote if "quote" in source.live else None)

    def set_depth(self, source: Source) -> None:
        if self.merged.set_depth(source, source.depth if "depth" in source.live else None):
            self.depth_due = True

    # outputs

    @property
    def begun(self) -> bool:
        """Tell whether everything there is was read, so that something can be said."""
        return self._said is not None or all(source.ready for source in self.sources)

    def offers(self, kind: str) -> bool:
        return any(kind in source.offers for source in self.sources)

    def changed(self) -> bool:
        """Tell whether a quote would say something else than the last one, its numbers left aside."""
        return self.merged.top() != self._said

    def quote(self, now: int) -> Quote:
        """Return the quote, the numbers of the measures in it."""
        self._said = self.merged.top()
        quote = self.merged.quote()
        if self.figures:
            self.figures.on_quote(quote, self.merged.venue_quotes(), now)
        # Nobody has seen it yet: measures are given it before their numbers are in it.
        force_setattr(quote, "analytics", self.figures.numbers(now))
        return quote

    def depth(self, now: int) -> Depth:
        self.depth_due, self.depth_at = False, now
        depth = self.merged.depth()
        self.figures.on_depth(depth, now)
        return depth

    def trade(self, trade: Trade, now: int) -> None:
        self.figures.on_trade(trade, now)

    def state(self, kind: str, health: Health) -> tuple[State, str]:
        """Return the state of `kind` (quote or depth): live as long as one venue counts."""
        counting = self.merged.quotes if kind == "quote" else self.merged.depths
        if counting:
            return "live", "a venue counts"
        states: list[tuple[State, str]] = []
        for source in self.sources:
            if kind not in source.offers:
                continue
            state, reason = health.state(source, kind)
            if source not in self.members:
                state, reason = "down", f"its sizes are in {source.unit} units"
            elif state == "live":
                value = source.quote if kind == "quote" else source.depth
                state, reason = "resyncing", "there is no value" if value is None else "it is crossed in itself"
            states.append((state, f"{source.venue} {state}: {reason}"))
        best: State = "down"
        for state, _ in states:
            best = min(best, state, key=_SEVERITY.__getitem__)
        texts = [text for _, text in states[:REASONS_MAX]] + (["…"] if len(states) > REASONS_MAX else [])
        return best, "no venue counts" + (f" ({'; '.join(texts)})" if texts else "")
