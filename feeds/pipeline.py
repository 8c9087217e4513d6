"""From an adapter's events to canonical messages: trades, quotes, books, candles, statuses of one venue.

The same code runs in a feed and in `normalize`; they differ in the sink and in who answers fetches. No I/O, no clock:
time comes in with each call.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from feeds.adapter import (
    Adapter,
    BookGap,
    BookUpdate,
    Event,
    Fetch,
    Revised,
    Skipped,
    TradesLost,
)
from feeds.books import BookKeeper, Sink
from feeds.cadence import Cadence
from feeds.open_candles import OpenCandles
from feeds.turns import HELD_MAX, Turns
from hub.candles import CandleBuilder, Due, is_empty
from hub.config import BookSettings, CandleSettings
from hub.instruments import Instrument
from hub.intervals import NS_PER_MS, NS_PER_S
from hub.model import CANDLE_TYPES, Candle, Mark, Quote, State, Status, Ticker, Trade
from hub.sequence import TradeIds
from hub.statuses import StatusBoard

__all__ = ["Intent", "Pipeline", "Source"]

Intent: TypeAlias = bytes | Fetch
"""What an adapter wants done: a frame sent, or a REST body fetched."""


#: A book is looked at every so many updates, and a thin one is refreshed at most this often.
THIN_EVERY = 16
REFRESH_GAP_NS = 10 * NS_PER_S


class Source:
    """One connection as the pipeline sees it. The higher `generation` wins where two deliver the same.

    `kinds` are those it carries, where the venue has several endpoints; empty: all. `heard` is when its last data came
    and `flows` since when the venue sends it, int ns; 0: not yet.
    """

    __slots__ = ("adapter", "cause", "flows", "generation", "has_trades", "heard")

    def __init__(self, adapter: Adapter, generation: int, kinds: Iterable[str] = ()) -> None:
        self.adapter = adapter
        self.generation = generation
        self.heard = self.flows = 0
        self.cause = ",".join(sorted(set(kinds)))
        """what a status of this connection is kept under: that of another endpoint does not take it back"""
        self.has_trades = not self.cause or not {"trade", "candle"}.isdisjoint(kinds)


class _Gone(Exception):
    """An event of a symbol that is no longer kept: it was on its way when the symbol was removed."""


class _Symbol:
    """State of one symbol."""

    __slots__ = (
        "book_count", "book_owner", "candles", "has_book", "instrument", "keeper", "mark_owner", "quote_count",
        "quote_owner", "refresh_after", "refreshing", "streams_lost", "ticker_count", "ticker_owner", "trade_at",
        "trade_count", "trade_ids", "turns",
    )  # fmt: skip

    def __init__(
        self, instrument: Instrument, keeper: BookKeeper, candles: CandleBuilder | None, ids: TradeIds
    ) -> None:
        self.instrument = instrument
        self.keeper = keeper
        self.candles = candles
        self.trade_ids = ids
        self.book_owner: Source | None = None
        self.turns: Turns[Source, Trade | TradesLost] = Turns()
        self.quote_owner = self.ticker_owner = self.mark_owner = -1
        self.quote_count = self.book_count = self.trade_count = self.ticker_count = 0
        self.trade_at = 0  # the venue's time of the newest trade, ns
        self.streams_lost: set[str] = set()
        self.has_book = True
        self.refreshing = False
        self.refresh_after = 0


class _Symbols(dict[str, _Symbol]):
    def __missing__(self, symbol: str) -> _Symbol:
        raise _Gone(symbol)


class Pipeline:
    """All symbols of one venue."""

    def __init__(
        self, adapter: type[Adapter], kinds: Iterable[str], books: BookSettings, candles: CandleSettings, sink: Sink
    ) -> None:
        self.venue = adapter.venue
        self.adapter = adapter
        self.kinds = frozenset(kinds)
        self.sink = sink
        self._publish = sink.publish
        self.board = StatusBoard(self.venue)
        self.counters: Counter[str] = Counter()
        self._books, self._candles = books, candles
        self._symbols = _Symbols()
        self._cadences: dict[tuple[str, str], Cadence] = {}
        self._forming_at = self._cadence_at = 0
        self._forming_gap = int(NS_PER_S / candles.forming_per_s)
        self._newest: dict[str, int] = {}
        self._handlers: dict[type, Callable[[Source, Any], Sequence[Intent]]] = {
            Trade: self._trade,
            TradesLost: self._numbers_missing,
            Quote: self._quote,
            BookUpdate: self._book,
            BookGap: self._gap,
            Ticker: self._ticker,
            Mark: self._mark,
            Revised: self._revised,
            Skipped: self._skipped,
            Fetch: self._fetch,
            **dict.fromkeys(CANDLE_TYPES.values(), self._candle),
        }

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
        self._symbols[symbol] = _Symbol(instrument, keeper, candles, ids)

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
    def flat(self) -> bool:
        """Tell whether intervals without trades have candles."""
        return self._candles.empty == "flat"

    @property
    def books_live(self) -> int:
        return sum(state.keeper.live for state in self._symbols.values())

    @property
    def books_wanted(self) -> int:
        return sum(state.has_book for state in self._symbols.values()) if "book" in self.kinds else 0

    # events

    def feed(self, source: Source, events: Iterable[Event | Fetch]) -> list[Intent]:
        """Take what an adapter made of one frame or body; returns what it wants done next."""
        intents: list[Intent] = []
        handlers = self._handlers
        for event in events:
            handler = handlers.get(type(event))
            if handler is not None:
                try:
                    wanted = handler(source, event)
                except _Gone:
                    self.counters["skipped_removed_symbol"] += 1
                    continue
                if wanted:
                    intents += wanted
        return intents

    def _fetch(self, source: Source, fetch: Fetch) -> Sequence[Intent]:
        return (fetch,)

    def _candle(self, source: Source, candle: Candle) -> Sequence[Intent]:
        if self.flat or not is_empty(candle):
            self._publish(candle)
        return ()

    def _trade(self, source: Source, trade: Trade) -> Sequence[Intent]:
        state = self._symbols[trade.symbol]
        if state.turns.owner is not source and self._not_yet(source, state, trade):
            return ()
        if self.adapter.trade_ids_unique and not state.trade_ids.new(trade.trade_id):
            self.counters["trades_repeated"] += 1
            return ()
        if state.turns.held:
            state.turns.held.pop(_name_of(trade), None)
        at = trade.ts_event if trade.ts_event is not None else trade.ts_recv
        contiguous = source.adapter.trade_ids_contiguous
        before = state.trade_ids.last
        missing = state.trade_ids.missing_before(trade.trade_id) if contiguous else None
        if state.candles is not None and state.candles.doubtful and state.trade_ids.last != before:
            for candle in state.candles.judged(missing is None, trade.ts_recv):
                self.sink.publish(candle)
        if missing is not None:
            self._trades_lost(state, missing, trade, at)
        if at > state.trade_at:
            state.trade_at = at
        state.trade_count += 1
        self._newest["trade"] = trade.ts_recv
        self._publish(trade)
        if state.candles is not None:
            for candle in state.candles.add(trade):
                self._publish(candle)
        return ()

    def _not_yet(self, source: Source, state: _Symbol, event: Trade | TradesLost) -> bool:
        """Tell whether it is another connection's turn to say this: then it is held until that one is done."""
        turns = state.turns
        if turns.owner is None:
            turns.owner = source
        elif source.generation > turns.owner.generation:
            if type(event) is TradesLost or event.trade_id not in state.trade_ids:  # type: ignore[union-attr]
                turns.held[_name_of(event)] = event
            if len(turns.held) > HELD_MAX:
                self.feed(source, turns.pass_on(source))
            return True
        return False

    def _numbers_missing(self, source: Source, lost: TradesLost) -> Sequence[Intent]:
        state = self._symbols[lost.symbol]
        if state.turns.owner is not source and self._not_yet(source, state, lost):
            return ()
        known = state.trade_ids.last
        if known is None or lost.last > known:  # two connections tell of one hole during a rotation
            state.trade_ids.last = lost.last
            self._trades_lost(state, (lost.first, lost.last), lost, lost.ts_event)
        return ()

    def _trades_lost(self, state: _Symbol, missing: tuple[int, int], trade: Trade | TradesLost, at: int) -> None:
        count = missing[1] - missing[0] + 1
        self.counters["trades_lost"] += count
        reason = f"{count} trades lost, ids {missing[0]} to {missing[1]}"
        self._publish(self.board.note(trade.symbol, "trade", reason, trade.ts_recv))
        if state.candles is not None:
            # They happened somewhere between the trade before the hole and this one.
            state.candles.uncovered(min(state.trade_at, at - 1))
            state.candles.covered(at + 1)

    def _revised(self, source: Source, revised: Revised) -> Sequence[Intent]:
        symbol = revised.instrument.symbol
        state = self._symbols[symbol]
        self.counters["trades_revised"] += 1
        self._publish(self.board.note(symbol, "trade", revised.reason, revised.ts_recv))
        if state.candles is not None and revised.ts_event is not None:
            # A candle that is still open counts the old one: only the venue can tell it right.
            state.candles.uncovered(min(state.trade_at, revised.ts_event - 1))
            state.candles.covered(max(state.trade_at, revised.ts_event) + 1)
        return ()

    def _quote(self, source: Source, quote: Quote) -> Sequence[Intent]:
        state = self._symbols[quote.symbol]
        if source.generation < state.quote_owner:
            return ()
        if self.adapter.quotes_from_book and state.book_count:
            return ()
        state.quote_owner = source.generation
        state.quote_count += 1
        self._newest["quote"] = quote.ts_recv
        state.keeper.derive = self.adapter.quotes_from_book
        self._publish(quote)
        return ()

    def _ticker(self, source: Source, ticker: Ticker) -> Sequence[Intent]:
        state = self._symbols[ticker.symbol]
        if source.generation >= state.ticker_owner:
            state.ticker_owner = source.generation
            state.ticker_count += 1
            self._newest["ticker"] = ticker.ts_recv
            self._publish(ticker)
        return ()

    def _mark(self, source: Source, mark: Mark) -> Sequence[Intent]:
        state = self._symbols[mark.symbol]
        if source.generation >= state.mark_owner:
            state.mark_owner = source.generation
            self._publish(mark)
        return ()

    def _skipped(self, source: Source, skipped: Skipped) -> Sequence[Intent]:
        self.counters[f"skipped_{skipped.reason.replace(' ', '_')}"] += 1
        return ()

    def _book(self, source: Source, update: BookUpdate) -> Sequence[Intent]:
        state = self._symbols[update.instrument.symbol]
        if update.snapshot:
            return self._snapshot(source, state, update)
        if state.book_owner is not source:
            return ()  # an older connection during a rotation: the newer one has these levels already
        count = state.book_count = state.book_count + 1
        self._newest["book"] = update.ts_recv
        problem = state.keeper.change(update)
        if problem is not None:
            return self._invalid(source, state, problem, update.ts_recv)
        if count % THIN_EVERY:
            return ()
        return self._refreshed(source, state, update.ts_recv)

    def _snapshot(self, source: Source, state: _Symbol, update: BookUpdate) -> Sequence[Intent]:
        if state.book_owner is not None and source.generation < state.book_owner.generation:
            return ()
        state.book_owner = source
        state.refreshing = False
        state.book_count += 1
        self._newest["book"] = update.ts_recv
        was_live = state.keeper.live
        problem = state.keeper.restart(update)
        if problem is not None:
            return self._invalid(source, state, problem, update.ts_recv)
        if not was_live:
            self._say(self.board.mark(update.instrument.symbol, "book", "live", "book rebuilt", update.ts_recv))
        return () if state.book_count % THIN_EVERY else self._refreshed(source, state, update.ts_recv)

    def _refreshed(self, source: Source, state: _Symbol, now: int) -> Sequence[Intent]:
        """Ask for a new snapshot where little of the book is left."""
        if not state.keeper.thin or state.refreshing or now < state.refresh_after:
            return ()
        state.refreshing = True
        state.refresh_after = now + REFRESH_GAP_NS
        self.counters["refreshes"] += 1
        return source.adapter.refresh(state.instrument)

    def _gap(self, source: Source, gap: BookGap) -> Sequence[Intent]:
        state = self._symbols[gap.instrument.symbol]
        if state.book_owner is not None and state.book_owner is not source:
            return source.adapter.resync(gap.instrument)
        return self._invalid(source, state, gap.reason, gap.ts_recv)

    def _invalid(self, source: Source, state: _Symbol, reason: str, now: int) -> Sequence[Intent]:
        """Invalidate first, then recover: readers never see the old book unlabelled."""
        self.counters["resyncs"] += 1
        self._resyncing(state, reason, now)
        return source.adapter.resync(state.instrument)

    def _resyncing(self, state: _Symbol, reason: str, now: int) -> None:
        state.keeper.invalidate()
        state.book_owner = None
        state.refreshing = False
        # A quote derived from the book went with it, so more than the book is affected.
        self._say(self.board.mark(state.instrument.symbol, "book", "resyncing", reason, now))

    def _say(self, status: Status | None) -> None:
        if status is not None:
            self._publish(status)

    # connections

    def started(self, now: int, symbols: Iterable[str] | None = None) -> None:
        """Before the first connection of `symbols` (default: all): no book is good yet, whatever was left behind."""
        for state in self._states(self._symbols if symbols is None else symbols):
            if "book" in self.kinds and state.has_book:
                self._resyncing(state, "waiting for the first snapshot", now)

    def _states(self, symbols: Iterable[str]) -> list[_Symbol]:
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

    def _uncovered(self, state: _Symbol, source: Source, now: int) -> None:
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

    def _pass_turn(self, state: _Symbol, source: Source, successor: Source | None) -> None:
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


def _name_of(event: Trade | TradesLost) -> str:
    """Return what two connections' copies of an event have in common and no other event of the symbol has."""
    if isinstance(event, TradesLost):
        return f"before {event.last}"
    return f"{event.trade_id} {event.ts_event} {event.price} {event.size}"
