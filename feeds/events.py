"""The path of an event: from what an adapter made of a frame to canonical messages. No I/O, no clock."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

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
from feeds.books import Sink
from feeds.cadence import Cadence
from feeds.tracked import Gone, Intent, Source, Symbol, Symbols
from feeds.turns import HELD_MAX
from hub.candles import is_empty
from hub.config import BookSettings, CandleSettings
from hub.intervals import NS_PER_S
from hub.model import CANDLE_TYPES, Candle, Mark, Quote, Status, Ticker, Trade
from hub.statuses import StatusBoard

__all__ = ["EventPath"]

#: A book is looked at every so many updates, and a thin one is refreshed at most this often.
THIN_EVERY = 16
REFRESH_GAP_NS = 10 * NS_PER_S


class EventPath:
    """Events of one venue's symbols; which symbols there are and what becomes of connections is feeds/pipeline.py."""

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
        self._symbols = Symbols()
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

    @property
    def flat(self) -> bool:
        """Tell whether intervals without trades have candles."""
        return self._candles.empty == "flat"

    def feed(self, source: Source, events: Iterable[Event | Fetch]) -> list[Intent]:
        """Take what an adapter made of one frame or body; returns what it wants done next."""
        intents: list[Intent] = []
        handlers = self._handlers
        for event in events:
            handler = handlers.get(type(event))
            if handler is not None:
                try:
                    wanted = handler(source, event)
                except Gone:
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
        at = trade.ts_event if trade.ts_event is not None else trade.ts_recv
        if self.adapter.trade_ids_unique and (
            (at < state.trade_at and state.trade_ids.forgotten(trade.trade_id))
            or not state.trade_ids.new(trade.trade_id)
        ):
            self.counters["trades_repeated"] += 1
            return ()
        if state.turns.held:
            state.turns.held.pop(_name_of(trade), None)
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

    def _not_yet(self, source: Source, state: Symbol, event: Trade | TradesLost) -> bool:
        """Tell whether it is another connection's turn to say this: then it is held until that one is done."""
        turns = state.turns
        if turns.owner is None:
            turns.owner = source
        elif source.generation > turns.owner.generation:
            if isinstance(event, TradesLost) or event.trade_id not in state.trade_ids:
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
            # Numbers that are the ids: it began with what the connection before did not bring.
            first = lost.first if known is None or not source.adapter.trade_ids_contiguous else known + 1
            self._trades_lost(state, (first, lost.last), lost, lost.ts_event)
        return ()

    def _trades_lost(self, state: Symbol, missing: tuple[int, int], trade: Trade | TradesLost, at: int) -> None:
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

    def _snapshot(self, source: Source, state: Symbol, update: BookUpdate) -> Sequence[Intent]:
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

    def _refreshed(self, source: Source, state: Symbol, now: int) -> Sequence[Intent]:
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

    def _invalid(self, source: Source, state: Symbol, reason: str, now: int) -> Sequence[Intent]:
        """Invalidate first, then recover: readers never see the old book unlabelled."""
        self.counters["resyncs"] += 1
        self._resyncing(state, reason, now)
        return source.adapter.resync(state.instrument)

    def _resyncing(self, state: Symbol, reason: str, now: int) -> None:
        state.keeper.invalidate()
        state.book_owner = None
        state.refreshing = False
        # A quote derived from the book went with it, so more than the book is affected.
        self._say(self.board.mark(state.instrument.symbol, "book", "resyncing", reason, now))

    def _say(self, status: Status | None) -> None:
        if status is not None:
            self._publish(status)


def _name_of(event: Trade | TradesLost) -> str:
    """Return what two connections' copies of an event have in common and no other event of the symbol has."""
    if isinstance(event, TradesLost):
        return f"before {event.last}"
    return f"{event.trade_id} {event.ts_event} {event.price} {event.size}"
