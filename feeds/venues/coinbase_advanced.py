"""Frames of Coinbase Advanced Trade.

https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-overview (sequence numbers)

`sequence_num` counts every message of the connection, over all channels and products, from 0. What is missing may have
belonged to any book, so a hole makes all of them suspect.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Raw

from feeds.adapter import Skipped
from feeds.items import Items
from feeds.rfc3339 import parse_ns
from feeds.venues.coinbase_products import Events, Products
from feeds.venues.coinbase_wire import (
    UNREADABLE,
    Candles,
    Envelope,
    Heartbeats,
    L2Data,
    L2Event,
    MarketTrades,
    StatusFrame,
    Subscriptions,
    TickerBatch,
    TickerFrame,
    TradeItem,
    decode_advanced,
    decode_event_name,
    decode_l2_event,
    decode_raws,
    decode_ticker,
    decode_ticker_raws,
    decode_trade_raws,
)
from hub.errors import WireError
from hub.model import Level

__all__ = ["AdvancedReader"]

#: So many old numbers in a row are no repeats: the venue counts anew.
RESTARTED = 3

_read_trades = Items(TradeItem)


class AdvancedReader:
    """Reads the frames of one connection."""

    def __init__(self, products: Products) -> None:
        self._products = products
        self._expected = -1
        self._first = ""  # the time of the message 0
        self._behind = (0, 0)  # the old number that would come next, and how many came in a row
        self._handlers: dict[type, Callable[[Any, int | None], Events]] = {
            L2Data: self._l2,
            MarketTrades: self._trades,
            TickerFrame: self._tickers,
            TickerBatch: self._tickers,
            Subscriptions: self._subscriptions,
            Heartbeats: self._heartbeat,
            Candles: lambda frame, at: [Skipped("venue candles")],
            StatusFrame: lambda frame, at: [Skipped("product status")],
        }

    def read(self, payload: bytes) -> Events:
        """Read one frame. ValueError or RecursionError where it is none that is whole: `mend` then."""
        frame = decode_advanced(payload)
        at = parse_ns(frame.timestamp)
        if frame.sequence_num == self._expected:
            self._expected += 1
            return self._handlers[type(frame)](frame, at)
        lost, old = self._out_of_step(frame.sequence_num, frame.timestamp)
        if old and type(frame) is not MarketTrades:  # trades are told apart by their ids
            return [Skipped("repeated")]
        return lost + self._handlers[type(frame)](frame, at)

    def _out_of_step(self, number: int, timestamp: str) -> tuple[Events, bool]:
        """Judge a number that does not follow the last one: what is lost with it, and whether it came before."""
        expected = self._expected
        if expected < 0 or number > expected:
            self._expected = number + 1
            self._first = timestamp if number == 0 else self._first
            reason = f"sequence gap: expected {max(expected, 0)}, received {number}"
            return self._products.all_lost(reason) if number > max(expected, 0) else [], False
        following, count = self._behind
        count = count + 1 if number == following else 1
        self._behind = (number + 1, count)
        if count < RESTARTED and (number > 0 or timestamp == self._first):
            return [], True
        self._first = timestamp if number == 0 else self._first
        self._expected, self._behind = number + 1, (0, 0)
        return self._products.all_lost(f"the venue counts anew: expected {expected}, received {number}"), False

    # channels

    def _l2(self, frame: L2Data, at: int | None) -> Events:
        result: Events = []
        for event in frame.events:
            result += self._book(event, at)
        return result

    def _book(self, event: L2Event, at: int | None) -> Events:
        updates = event.updates
        if len(updates) == 1 and event.type == "update":
            one = [(updates[0].price_level, updates[0].new_quantity)]
            bid = updates[0].side == "bid"
            return self._products.update(event.product_id, at, one if bid else [], [] if bid else one)
        bids: list[Level] = []
        asks: list[Level] = []
        for row in updates:
            (bids if row.side == "bid" else asks).append((row.price_level, row.new_quantity))
        return self._products.levels(event.product_id, at, event.type == "snapshot", bids, asks)

    def _trades(self, frame: MarketTrades, at: int | None) -> Events:
        result: Events = []
        for event in frame.events:
            result += self._traded(event.type, event.trades)
        return result

    def _traded(self, kind: str, trades: list[TradeItem]) -> Events:
        if kind == "snapshot":
            for item in trades:
                self._products.traded(item.product_id, str(item.trade_id))
            return [Skipped("trades before the subscription")]
        if len(trades) > 1:
            trades.sort(key=_number)  # they come newest first
        result: Events = []
        for item in trades:
            try:
                at = parse_ns(item.time)
            except ValueError:
                result.append(Skipped("unreadable trade"))
                continue
            trade_id = str(item.trade_id)
            result += self._products.trade(item.product_id, at, item.price, item.size, item.side, trade_id)
        return result

    def _tickers(self, frame: TickerFrame, at: int | None) -> Events:
        result: Events = []
        for event in frame.events:
            for item in event.tickers:
                result += self._products.ticker(item.product_id, at, item)
        return result

    def _subscriptions(self, frame: Subscriptions, at: int | None) -> Events:
        names = [
            f"{channel}:{product}"
            for event in frame.events
            for channel, products in event.subscriptions.items()
            if channel != "heartbeats"  # nobody's data
            for product in products
        ]
        return self._products.answered(names)

    def _heartbeat(self, frame: Heartbeats, at: int | None) -> Events:
        return self._products.overdue()

    # what cannot be read at once

    def mend(self, envelope: Envelope) -> Events:
        """Save of an unreadable frame what can be read; WireError where that is nothing."""
        number = envelope.sequence_num
        lost: Events = []
        if number is not None and number == self._expected:
            self._expected += 1
        elif number is not None:
            lost, old = self._out_of_step(number, envelope.timestamp)
            if old:
                return [Skipped("repeated")]
        mend = {
            "l2_data": self._mend_book,
            "market_trades": self._mend_trades,
            "ticker": self._mend_tickers,
            "ticker_batch": self._mend_tickers,
        }.get(envelope.channel)
        if mend is None:
            return [*lost, Skipped("unknown channel")]
        try:
            at = parse_ns(envelope.timestamp)
        except ValueError:
            at = None
        try:
            events = decode_raws(envelope.events)
        except UNREADABLE:
            return self._nothing(lost, envelope)
        saved = [each for event in events for each in mend(event, at)]
        return [*lost, *saved] if saved else self._nothing(lost, envelope)

    def _nothing(self, lost: Events, envelope: Envelope) -> Events:
        if envelope.channel == "l2_data":
            lost = lost or self._products.all_lost("an unreadable book message")
        if not lost:
            raise WireError(self._products.venue, f"an unreadable message of {envelope.channel}")
        return [*lost, Skipped("unreadable message")]

    def _mend_book(self, event: Raw, at: int | None) -> Events:
        try:
            return self._book(decode_l2_event(event), at)
        except UNREADABLE as error:
            try:
                product = decode_event_name(event).product_id
            except UNREADABLE:
                return []
            return [*self._products.lost(product, f"an unreadable book message: {error}"), Skipped("unreadable book")]

    def _mend_trades(self, event: Raw, at: int | None) -> Events:
        try:
            parts = decode_trade_raws(event)
            trades, unread = _read_trades(parts.trades)
        except UNREADABLE:
            return []
        return [*self._traded(parts.type, trades), *[Skipped("unreadable trade")] * unread]

    def _mend_tickers(self, event: Raw, at: int | None) -> Events:
        result: Events = []
        try:
            for raw in decode_ticker_raws(event).tickers:
                item = decode_ticker(raw)
                result += self._products.ticker(item.product_id, at, item)
        except UNREADABLE:
            result.append(Skipped("unreadable ticker"))
        return result


def _number(item: TradeItem) -> tuple[int, str]:
    text = str(item.trade_id)
    return len(text), text
