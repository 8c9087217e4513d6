"""Everything between the venues' messages and those of venue `all`. No I/O, no clock: time comes in with each call.

Each change marks the symbols it touches; `flush`, once per event-loop turn, publishes what became of them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from hub.analytics.figures import Figures
from hub.analytics.measure import Market, Measure
from hub.config import Settings
from hub.consolidator.flow import DOUBT_NS, Flow
from hub.consolidator.health import Health, Source
from hub.consolidator.merge import Merged
from hub.consolidator.output import Output
from hub.intervals import NS_PER_S
from hub.keys import ALL_VENUES, VENUE_WIDE
from hub.model import Depth, Message, Quote, State, Status, Trade, kind_of
from hub.position import parse_position
from hub.statuses import StatusBoard

__all__ = ["Engine", "Sink"]

#: Numbers change with trades, depths and time; a quote that stays the same is said again for them this often.
REFRESH_NS = NS_PER_S


class Sink(Protocol):
    """Where messages go."""

    def publish(self, message: Message) -> None:
        """Give `message` its position and send it."""

    def withdraw(self, kind: str, symbol: str) -> None:
        """Delete the newest value of a channel."""

    def retire(self, kind: str, symbol: str) -> None:
        """Take away a channel."""

    def retire_all(self, symbol: str) -> None:
        """Take away every channel of `symbol`."""


class Engine:
    """All symbols. `measures` are the classes by name (hub/analytics/registry.py)."""

    def __init__(self, settings: Settings, measures: Mapping[str, type[Measure]], sink: Sink) -> None:
        own = settings.consolidator
        self.settings, self.measures, self.sink = settings, measures, sink
        self.levels = min(own.levels, settings.books.depth_levels)
        self.kinds = frozenset(own.kinds)
        self.health = Health()
        self.board = StatusBoard(ALL_VENUES)
        self.outputs: dict[str, Output] = {}
        self.counters: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        """by measure"""
        self.made: Counter[str] = Counter()
        """messages by kind, without interval"""
        self.newest: dict[str, int] = {}
        self._of: dict[Source, list[Output]] = {}
        self._groups = groups_of(own.groups)
        self._names = frozenset(own.groups)
        self._depth_gap = int(NS_PER_S / own.depth_per_s)
        self._changed: dict[Output, None] = {}
        self._touched: dict[Output, None] = {}
        self._waiting: dict[Output, None] = {}
        self._refreshed = 0

    # sources

    def outputs_of(self, symbol: str) -> list[str]:
        """Return what `symbol` is merged into: itself, unless a group has its name, and its groups."""
        own = [] if symbol in self._names else [symbol]
        wanted = self.settings.consolidator.symbols
        return [name for name in (*own, *self._groups.get(symbol, ())) if not wanted or name in wanted]

    def add(self, venue: str, symbol: str, unit: str, now: int) -> Source:
        """Return the source of a venue's symbol, made on first use; sizes are in `unit`s."""
        known = self.health.venue(venue).sources
        if symbol in known:
            return known[symbol]
        source = known[symbol] = Source(venue, symbol, unit)
        self._of[source] = [self._join(name, source, now) for name in self.outputs_of(symbol)]
        return source

    def _join(self, name: str, source: Source, now: int) -> Output:
        output = self.outputs.get(name)
        if output is None:
            output = self.outputs[name] = self._output(name, source.unit)
        elif source.unit == "base" != output.unit:
            # Sizes in base units are the rule: what was made of others begins anew.
            made = self._output(name, "base")
            for each in output.sources:
                made.join(each)
                self._of[each] = [made if other is output else other for other in self._of[each]]
            self._unmark(output)
            output = self.outputs[name] = made
        output.join(source)
        self._mark(output)
        return output

    def _output(self, name: str, unit: str) -> Output:
        own = self.settings.consolidator
        quoted = unit == "quote"
        market = Market(
            symbol=name, quoted=quoted, levels=self.levels,
            windows_s=tuple(own.windows_s), bands_bps=tuple(own.bands_bps),
        )  # fmt: skip
        flow = Flow(name, self.settings.candles, own.grace_ms, quoted=quoted) if "candle" in self.kinds else None
        merged = Merged(name, self.levels, min(own.imbalance_levels, self.levels))
        return Output(name, unit, merged, Figures(self.measures, market, self.errors), flow)

    def remove(self, source: Source, now: int) -> None:
        """Forget a source; a symbol without sources is taken away."""
        venue = self.health.venue(source.venue)
        venue.sources.pop(source.symbol, None)
        for output in self._of.pop(source, ()):
            output.leave(source, venue.sound_ns, now)
            output.merged.came(None, now)
            self._mark(output)
            if not output.sources:
                self._end(output, now)

    def _end(self, output: Output, now: int) -> None:
        del self.outputs[output.symbol]
        self._unmark(output)
        self._say(output.symbol, None, "down", "no venue publishes it any more", now)
        self.board.forget(output.symbol)
        self.sink.retire_all(output.symbol)

    def offer(self, source: Source, kind: str, now: int) -> None:
        """Note that `source` publishes `kind`."""
        source.offers.add(kind)
        if kind == "depth":
            for output in self._of.get(source, ()):
                output.depth_due = True  # what an earlier run left there must not stay
        self._judged(source, now)

    def withdraw(self, source: Source, kind: str, now: int) -> None:
        """Note that `source` publishes `kind` no more."""
        source.offers.discard(kind)
        if kind == "quote":
            source.quote = None
        elif kind == "depth":
            source.depth = None
        self._judged(source, now)

    def ready(self, source: Source, now: int) -> None:
        """Note that all there is of `source` was read."""
        source.ready = True
        self._judged(source, now)

    # messages

    def quote(self, source: Source, quote: Quote | None, now: int) -> None:
        """Take the newest quote of `source`; None: it was withdrawn."""
        source.quote = quote
        if "quote" in source.live:
            self.counters["quotes"] += 1
            for output in self._of.get(source, ()):
                if source in output.members:
                    output.set_quote(source)
                    self._came(output, quote, now)

    def depth(self, source: Source, depth: Depth | None, now: int) -> None:
        """Take the newest depth of `source`; None: it was withdrawn."""
        source.depth = depth
        if "depth" in source.live:
            self.counters["depths"] += 1
            for output in self._of.get(source, ()):
                if source in output.members:
                    output.set_depth(source)
                    self._came(output, depth, now)

    def _came(self, output: Output, message: Quote | Depth | None, now: int) -> None:
        if message is None:
            output.merged.came(None, now)
        else:
            output.merged.came(message.ts_event, message.ts_recv)
        self._mark(output)

    def trade(self, source: Source, trade: Trade, now: int) -> None:
        """Take a trade."""
        if "trade" not in source.live:
            return
        self.counters["trades"] += 1
        for output in self._of.get(source, ()):
            if source not in output.members:
                continue
            output.trade(trade, now)
            self._touched[output] = None
            if output.flow is not None:
                for candle in output.flow.add(source, trade):
                    self._publish(candle)

    def trades_lost(self, source: Source, now: int) -> None:
        """Note that trades of `source` are missing."""
        sound = self.health.venue(source.venue).sound_ns - DOUBT_NS
        for output in self._of.get(source, ()):
            if output.flow is not None:
                output.flow.lost(source, sound, now)

    # health

    def pulse(self, name: str, epoch: int | None, holder: bytes | None, now: int) -> None:
        """Note a look at a venue's pulse and lease."""
        venue = self.health.venue(name)
        was_alive = venue.alive
        void = self.health.pulse(name, epoch, holder, now)
        for source in list(venue.sources.values()) if void or venue.alive != was_alive else ():
            if void:
                source.quote = source.depth = None
                self.trades_lost(source, now)
            self._judged(source, now)

    def venue_status(self, name: str, status: Status | None, now: int) -> None:
        """Take the newest status of a venue as a whole; None: there is none."""
        venue = self.health.venue(name)
        before, venue.status, venue.known = venue.status, status, True
        renewed = before is not None and status is not None and _epoch(before) != _epoch(status)
        for source in list(venue.sources.values()):
            if renewed:
                self.trades_lost(source, now)  # a new epoch: what was dropped before it is not known
            self._judged(source, now)

    def symbol_status(self, source: Source, status: Status | None, now: int) -> None:
        """Take the newest status of a venue's symbol; None: there is none."""
        source.status, source.known = status, True
        if status is not None and status.state == "live" and status.kind == "trade":
            self.trades_lost(source, now)  # announced without a change of state
        self._judged(source, now)

    def cut_off(self, cut: bool, now: int) -> None:
        """Nothing arrives any more, or it does again."""
        self.health.cut_off = cut
        for source in list(self.health.sources()):
            self._judged(source, now)

    def _judged(self, source: Source, now: int) -> None:
        """Decide again whether `source` counts, at once."""
        self.health.judge(source)
        sound = self.health.venue(source.venue).sound_ns
        for output in self._of.get(source, ()):
            output.judged(source, sound, now)
            output.merged.came(None, now)
            self._mark(output)

    # outputs

    def _mark(self, output: Output) -> None:
        self._changed[output] = None

    def _unmark(self, output: Output) -> None:
        for marked in (self._changed, self._touched, self._waiting):
            marked.pop(output, None)

    @property
    def pending(self) -> bool:
        """Tell whether `flush` has something to do."""
        return bool(self._changed)

    def flush(self, now: int) -> None:
        """Publish what changed."""
        changed, self._changed = self._changed, {}
        for output in changed:
            if not output.begun:
                continue  # marked again when its sources are ready
            if output.depth_due and "depth" in self.kinds and output.offers("depth"):
                self._depth(output, now)
            if "quote" in self.kinds and output.offers("quote"):
                if output.changed():
                    self._quote(output, now)
                else:
                    self._touched[output] = None
            self._status(output, now)

    def _quote(self, output: Output, now: int) -> None:
        self._touched.pop(output, None)
        self._publish(output.quote(now))

    def _depth(self, output: Output, now: int) -> None:
        if now - output.depth_at < self._depth_gap:
            self._waiting[output] = None
            return
        self._waiting.pop(output, None)
        self._publish(output.depth(now))
        self._touched[output] = None

    def _status(self, output: Output, now: int) -> None:
        for kind in ("quote", "depth"):
            counting = output.merged.quotes if kind == "quote" else output.merged.depths
            if counting and output.states.get(kind) == "live":
                continue
            if kind not in self.kinds or not output.offers(kind):
                continue
            state, reason = output.state(kind, self.health)
            if state != output.states.get(kind):
                output.states[kind] = state
                self._say(output.symbol, kind, state, reason, now)

    def _say(self, symbol: str, kind: str | None, state: State, reason: str, now: int) -> None:
        status = self.board.mark(symbol, kind, state, reason, now)
        if status is not None:
            self.sink.publish(status)

    def _publish(self, message: Message) -> None:
        kind = kind_of(message).partition(".")[0]
        self.newest[kind] = message.ts_recv
        self.made[kind] += 1
        self.sink.publish(message)

    def tick_depths(self, now: int) -> None:
        """Publish the depths whose turn has come; often."""
        for output in list(self._waiting):
            if now - output.depth_at >= self._depth_gap:
                self._depth(output, now)

    def tick(self, now: int) -> None:
        """Do what the clock demands; a few times a second."""
        for output in self.outputs.values():
            if output.flow is not None:
                for interval in output.flow.spoilt(now):
                    self.sink.withdraw(f"forming.{interval}", output.symbol)
                for candle in output.flow.tick(now):
                    self._publish(candle)
        if now - self._refreshed >= REFRESH_NS and "quote" in self.kinds:
            self._refreshed = now
            touched, self._touched = self._touched, {}
            for output in touched:
                if output.begun and output.offers("quote"):
                    self._quote(output, now)

    # what is said of venue `all` as a whole

    def say(self, state: State, reason: str, now: int) -> None:
        """Publish the state of venue `all`."""
        self._say(VENUE_WIDE, None, state, reason, now)

    def new_epoch(self, reason: str, now: int) -> None:
        """Ids start again: say so, and every state once more."""
        self.sink.publish(self.board.note(VENUE_WIDE, None, reason, now))
        for status in self.board.again(now):
            self.sink.publish(status)


def groups_of(groups: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return symbol -> names of the groups it is in."""
    result: dict[str, list[str]] = {}
    for name, members in groups.items():
        for member in dict.fromkeys(members):
            result.setdefault(member, []).append(name)
    return result


def _epoch(status: Status) -> int:
    return parse_position(status.id)[0]
