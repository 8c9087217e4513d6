"""One venue's pipeline: its symbols, connections that come and go, and time. The path of an event is feeds/events.py.

The same code runs in a feed and in `normalize`; they differ in the sink and in who answers fetches. No I/O, no clock:
time comes in with each call.
"""

from collections.abc import Collection, Iterable, Mapping

from feeds.books import BookKeeper
from feeds.cadence import Cadence
from feeds.events import EventPath
from feeds.open_candles import OpenCandles
from feeds.tracked import Intent, Source, Symbol
from hub.candles import CandleBuilder, Due
from hub.instruments import Instrument
from hub.intervals import NS_PER_MS, NS_PER_S
from hub.model import Candle, State
from hub.sequence import TradeIds

__all__ = ["Intent", "Pipeline", "Source"]


class Pipeline(EventPath):
    """All symbols of one venue, and the connections that carry them."""

    # symbols

    def add(self, instrument: Instrument) -> None:
        """Begin to keep `instrument`; its book is `resyncing` until a snapshot came."""
        symbol = instrument.symbol
        keeper = BookKeeper(self.adapter, symbol, self._books, self.sink, want_depth="depth" in self.kinds)
        keeper.may_cross = self.adapter.may_cross(instrument)
        candles = None
        if "candle" in self.kinds:
            grace = self._candles.grace_ms * NS_PER_MS
            quoted = instrument.size_unit == "quote"
            wanted = self._candles
            candles = CandleBuilder(
                self.venue, symbol, wanted.intervals, grace,
                quoted=quoted, empty=wanted.empty, due_max=wanted.repair_max,
            )  # fmt: skip
        ids = TradeIds(contiguous=self.adapter.trade_ids_contiguous)
        self._symbols[symbol] = Symbol(instrument, keeper, candles, ids)

    def remove(self, symbol: str, reason: str, now: int) -> None:
        """Keep `symbol` no longer; its last status says why."""
        if self._symbols.pop(symbol, None) is None:
            return
        self._say(self.board.mark(symbol, None, "down", reason, now, cause="removed"))
        self.board.forget(symbol)
        for key in [key for key in self._cadences if key[0] == symbol]:
            del self._cadences[key]

    def own_quotes(self, symbol: str) -> None:
        """Never derive the quote of `symbol` from its book: the venue sends it."""
        self._symbols[symbol].keeper.derive = False

    @property
    def instruments(self) -> list[Instrument]:
        return [state.instrument for state in self._symbols.values()]

    def count(self, symbol: str, kind: str) -> int:
        """Return how many messages of `kind` came for `symbol`."""
        state = self._symbols[symbol]
        counts = {
            "trade": state.trade_count,
            "candle": state.trade_count,
            "quote": state.quote_count,
            "book": state.book_count,
            "depth": state.book_count,
            "ticker": state.ticker_count,
        }
        return counts.get(kind, 0)

    def totals(self) -> dict[str, tuple[int, int]]:
        """Return (messages, newest ts_recv in ns) by kind over all symbols."""
        result: dict[str, tuple[int, int]] = {}
        for kind in ("trade", "quote", "book", "ticker"):
            if kind in self.kinds:
                count = sum(self.count(symbol, kind) for symbol in self._symbols)
                result[kind] = (count, self._newest.get(kind, 0))
        return result

    def owns_books(self, source: Source, symbols: Iterable[str]) -> bool:
        """Tell whether `source` carries a live book of each of `symbols`."""
        if "book" not in self.kinds:
            return True
        states = (state for state in self._states(symbols) if state.has_book)
        return all(state.book_owner is source and state.keeper.live for state in states)

    def books_missing(self, symbols: Iterable[str]) -> set[str]:
        """Return which of `symbols` have no live book."""
        return {state.instrument.symbol for state in self._states(symbols) if not state.keeper.live}

    def without_book(self, symbol: str) -> None:
        """Expect no book of `symbol`: the venue has none."""
        self._symbols[symbol].has_book = False

    @property
    def books_live(self) -> int:
        return sum(state.keeper.live for state in self._symbols.values())

    @property
    def books_wanted(self) -> int:
        return sum(state.has_book for state in self._symbols.values()) if "book" in self.kinds else 0

    # connections

    def started(self, now: int, symbols: Iterable[str] | None = None) -> None:
        """Before the first connection of `symbols` (default: all): no book is good yet, whatever was left behind."""
        for state in self._states(self._symbols if symbols is None else symbols):
            if "book" in self.kinds and state.has_book:
                self._resyncing(state, "waiting for the first snapshot", now)

    def _states(self, symbols: Iterable[str]) -> list[Symbol]:
        return [state for symbol in symbols if (state := self._symbols.get(symbol)) is not None]

    def lost(
        self, source: Source, symbols: Iterable[str], reason: str, now: int, successor: Source | None = None
    ) -> None:
        """The connection that carried `symbols` is gone; `successor` is no replacement yet, but has begun."""
        for state in self._states(symbols):
            symbol = state.instrument.symbol
            self._say(self.board.mark(symbol, None, "stale", reason, now, cause=source.cause))
            state.streams_lost.add(source.cause)
            self._uncovered(state, source, now)
            if state.keeper.live and state.book_owner in (source, None):
                self._resyncing(state, reason, now)
            self._pass_turn(state, source, successor)

    def handed_over(self, source: Source, successor: Source, symbols: Iterable[str], reason: str, now: int) -> None:
        """`source` is gone; every stream of `symbols` came by `successor` before. Books may be missing still."""
        late = source.heard and source.heard < successor.flows
        for state in self._states(symbols):
            if late and source.has_trades:
                # It may have been dead before the next one began.
                self._uncovered(state, source, now)
                self.covered([state.instrument.symbol], successor.flows)
            if state.keeper.live and state.book_owner is source:
                self._resyncing(state, reason, now)
            self._pass_turn(state, source, successor)

    def stopped(self, source: Source, symbols: Iterable[str], now: int) -> None:
        """The hub itself ends the connection that carried `symbols`."""
        for state in self._states(symbols):
            self._uncovered(state, source, now)

    def _uncovered(self, state: Symbol, source: Source, now: int) -> None:
        """Trades may be missing since the last data of `source`: that it was dead is often noticed late."""
        if state.candles is not None and source.has_trades:
            provable = source.adapter.trade_ids_contiguous and state.trade_ids.last is not None
            since = min(source.heard or now, now) - self._candles.grace_ms * NS_PER_MS
            state.candles.uncovered(since, provable=provable)

    def abandoned(self, source: Source, carrier: Source, symbols: Iterable[str], now: int) -> list[Intent]:
        """`source` was to replace `carrier` and did not become ready; returns what rebuilds the books it had."""
        intents: list[Intent] = []
        for state in self._states(symbols):
            if state.turns.owner is carrier:
                state.turns.pass_on(carrier)  # `carrier` brings them too
            state.quote_owner = state.ticker_owner = state.mark_owner = -1
            if state.book_owner is source:
                intents += self._invalid(carrier, state, "the next connection did not become ready", now)
        return intents

    def _pass_turn(self, state: Symbol, source: Source, successor: Source | None) -> None:
        if state.turns.owner is source:
            held = state.turns.pass_on(successor)
            if successor is not None:
                self.feed(successor, held)

    def refused(self, symbol: str, kind: str, reason: str, now: int) -> None:
        """The venue does not give `kind` of `symbol`, or never answered."""
        if symbol in self._symbols:
            self._say(self.board.mark(symbol, kind, "down", reason, now, cause="refused"))

    def judged(self, symbol: str, kind: str, state: State, reason: str, now: int) -> None:
        """What is polled of `symbol` is in `state`, as its schedule says."""
        if symbol in self._symbols:
            self._say(self.board.mark(symbol, kind, state, reason, now, cause="schedule"))

    def accepted(self, symbol: str, kind: str, now: int) -> None:
        """What was refused before came to be."""
        if symbol in self._symbols:
            self._say(self.board.mark(symbol, kind, "live", "subscribed", now, cause="refused"))

    def flowing(self, source: Source, symbols: Collection[str], now: int) -> None:
        """The venue acknowledged the streams of `symbols` on this connection: what comes from now on is complete."""
        for symbol in symbols:
            state = self._symbols.get(symbol)
            if state is None:
                continue
            self._say(self.board.mark(symbol, None, "live", "streams are back", now, cause=source.cause))
            state.streams_lost.discard(source.cause)
        source.flows = source.flows or now
        if source.has_trades:
            self.covered(symbols, now)

    def covered(self, symbols: Collection[str], now: int) -> None:
        """Trades of `symbols` are complete from `now` on."""
        for symbol in symbols:
            state = self._symbols.get(symbol)
            if state is not None and state.candles is not None:
                state.candles.covered(now)

    def repaired(self, candle: Candle) -> None:
        """Publish a candle that the venue told, as a revision where one was published before."""
        state = self._symbols.get(candle.symbol)
        if state is not None and state.candles is not None:
            for told in state.candles.told(candle):
                self._publish(told)

    # over a restart

    def candles_to_keep(self) -> dict[str, OpenCandles]:
        """Return by symbol what the next run needs to go on with the candles; every connection was `stopped`."""
        return {
            symbol: OpenCandles(state.candles.save(), state.trade_at, state.trade_ids.last, state.trade_ids.newest())
            for symbol, state in self._symbols.items()
            if state.candles is not None and state.trade_at
        }

    def go_on(self, symbol: str, kept: OpenCandles) -> bool:
        """Go on with the candles of an earlier run; False where they cannot be used. Before the first connection."""
        state = self._symbols[symbol]
        # Where ids cannot tell what came before, the time does.
        floor = 0 if self.adapter.trade_ids_contiguous else kept.since
        if state.candles is None or not state.candles.restore(kept.candles, floor):
            return False
        state.trade_at = kept.trade_at
        for trade_id in kept.trade_ids:
            state.trade_ids.new(trade_id)
        state.trade_ids.last = kept.last_id
        return True

    def ask_since(self, symbol: str, starts: Mapping[str, int]) -> None:
        """Ask the venue for the candles after those of `starts` (interval -> int ns), the last that were told."""
        state = self._symbols[symbol]
        if state.candles is not None:
            state.candles.resume_after(starts)

    def venue_state(self, state: State, reason: str, now: int) -> None:
        self._say(self.board.mark("*", None, state, reason, now))

    def new_epoch(self, reason: str, now: int) -> None:
        """Ids start again: the venue's status says so, and every book begins with a snapshot.

        States are said again, because those said last may be among what was dropped.
        """
        self._publish(self.board.note("*", None, reason, now))
        for status in self.board.again(now):
            self._publish(status)
        for state in self._symbols.values():
            state.keeper.republish()

    # time

    def tick(self, now: int) -> list[tuple[Instrument, Due]]:
        """Do what the clock demands; returns the candles that only the venue can tell."""
        due: list[tuple[Instrument, Due]] = []
        forming = now - self._forming_at >= self._forming_gap
        if forming:
            self._forming_at = now
        for state in self._symbols.values():
            state.keeper.flush(now)
            if state.candles is None:
                continue
            closed, wanted = state.candles.close(now)
            for candle in closed:
                self._publish(candle)
            due += [(state.instrument, entry) for entry in wanted]
            if forming:
                for interval in state.candles.spoilt(now):
                    self.sink.withdraw(f"forming.{interval}", state.instrument.symbol)
            if forming and not state.streams_lost:
                for candle in state.candles.forming(now):
                    self._publish(candle)
        if now - self._cadence_at >= NS_PER_S:
            self._judge_silence(now)
        return due

    def _judge_silence(self, now: int) -> None:
        first, elapsed_s = self._cadence_at == 0, (now - self._cadence_at) / NS_PER_S
        self._cadence_at = now
        if first:
            return
        for symbol, state in self._symbols.items():
            if state.streams_lost:
                continue
            for kind, count in (("quote", state.quote_count), ("book", state.book_count)):
                if kind == "book" and not state.keeper.live:
                    continue  # it waits for a snapshot: its updates are held, not missing
                cadence = self._cadences.setdefault((symbol, kind), Cadence())
                if cadence.tick(count, min(elapsed_s, 5.0)):
                    usual = f"nothing for {cadence.silent_s:.0f} s, usually one every {cadence.gap_s:.1f} s"
                    new: State = "stale" if cadence.stale else "live"
                    reason = usual if cadence.stale else "data flows again"
                    self._say(self.board.mark(symbol, kind, new, reason, now, cause="silence"))

    def silent(self, symbols: Iterable[str]) -> bool:
        """Tell whether every judged stream of `symbols` is stale: then the connection itself is to blame."""
        wanted = set(symbols)
        judged = [cadence for (symbol, _), cadence in self._cadences.items() if symbol in wanted and cadence.gap_s]
        return bool(judged) and all(cadence.stale for cadence in judged)
