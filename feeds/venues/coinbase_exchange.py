"""Frames of the Coinbase Exchange feed.

https://docs.cdp.coinbase.com/exchange/websocket-feed/channels

Books carry no sequence number; all there is to judge them by is the time of each product's changes, which never goes
back. A change that is missing cannot be noticed, so what cannot be read is taken for one. Trades are numbered without
holes; the first one follows `last_match`, and each heartbeat names the last one. It may overtake that: what it names
must have come by the next heartbeat.
"""

import re
from collections.abc import Callable
from typing import Any

from feeds.adapter import Skipped
from feeds.rfc3339 import parse_ns
from feeds.venues.coinbase_products import Events, Products
from feeds.venues.coinbase_wire import (
    Envelope,
    Heartbeat,
    L2Update,
    LastMatch,
    Match,
    Snapshot,
    Subscribed,
    Ticker,
    decode_exchange,
)
from hub.errors import WireError

__all__ = ["CHANNEL_NAMES", "ExchangeReader"]

#: What the venue calls a channel in its answers -> what it is asked for as.
CHANNEL_NAMES = {"level2_50": "level2_batch"}

#: How a frame of a book names itself and its product, where no more than that can be read of it.
_IS_BOOK = re.compile(rb'"type"\s*:\s*"(?:l2update|snapshot)"')
_PRODUCT = re.compile(rb'"product_id"\s*:\s*"([^"]*)"')


class ExchangeReader:
    """Reads the frames of one connection."""

    def __init__(self, products: Products) -> None:
        self._products = products
        self._times: dict[str, int] = {}
        self._ticker_times: dict[str, int] = {}
        self._beats: dict[str, int] = {}
        self._handlers: dict[type, Callable[[Any], Events]] = {
            L2Update: self._l2_update,
            Match: self._match,
            Ticker: self._ticker,
            Snapshot: self._snapshot,
            Heartbeat: self._heartbeat,
            Subscribed: self._subscribed,
            LastMatch: self._last_match,
        }

    def read(self, payload: bytes) -> Events:
        """Read one frame. ValueError or RecursionError where it is none that is whole: `mend` then."""
        frame = decode_exchange(payload)
        return self._handlers[type(frame)](frame)

    def mend(self, envelope: Envelope) -> Events:
        """Say what an unreadable frame costs; WireError where that is the frame alone."""
        if envelope.type == "l2update":
            lost = self._products.lost(envelope.product_id, "an unreadable book message")
            if lost:
                return [*lost, Skipped("unreadable book")]
        if envelope.type in {"snapshot", "l2update", "match", "ticker", "subscriptions"}:
            raise WireError(self._products.venue, f"an unreadable {envelope.type}")
        return [Skipped("unknown message")]

    def suspect(self, payload: bytes) -> Events:
        """Say which books a frame may have been about that is no JSON."""
        if not _IS_BOOK.search(payload) or b'"channel"' in payload:
            return []
        named, reason = _PRODUCT.search(payload), "an unreadable book message"
        if named is None:
            return self._products.all_lost(reason)
        return self._products.lost(str(named[1], errors="replace"), reason)

    def _snapshot(self, frame: Snapshot) -> Events:
        at = parse_ns(frame.time) if frame.time else None
        self._times.pop(frame.product_id, None)
        return self._products.levels(frame.product_id, at, True, frame.bids, frame.asks)

    def _l2_update(self, frame: L2Update) -> Events:
        product = frame.product_id
        at = parse_ns(frame.time) if frame.time else None
        if at is not None:
            last = self._times.get(product, 0)
            if at < last:
                # Old sizes would come back: a message out of its order, or one told twice.
                return self._products.lost(product, f"a book message {last - at} ns older than the one before")
            self._times[product] = at
        if len(frame.changes) == 1:
            side, price, size = frame.changes[0]
            one = [(price, size)]
            return self._products.update(product, at, one if side == "buy" else [], one if side == "sell" else [])
        bids = [(price, size) for side, price, size in frame.changes if side == "buy"]
        asks = [(price, size) for side, price, size in frame.changes if side == "sell"]
        return self._products.levels(product, at, False, bids, asks)

    def _match(self, frame: Match) -> Events:
        at = parse_ns(frame.time)
        return self._products.trade(frame.product_id, at, frame.price, frame.size, frame.side, str(frame.trade_id))

    def _last_match(self, frame: LastMatch) -> Events:
        # The newest trade before the subscription, not a new one.
        self._products.traded(frame.product_id, str(frame.trade_id))
        return [Skipped("trades before the subscription")]

    def _heartbeat(self, frame: Heartbeat) -> Events:
        product, number = frame.product_id, frame.last_trade_id
        named = self._beats.get(product)
        at = parse_ns(frame.time) if frame.time else None
        lost = self._products.missing(product, named, at) if named is not None else []
        if number is not None:
            self._beats[product] = number
        return lost + self._products.overdue()

    def _ticker(self, frame: Ticker) -> Events:
        at = parse_ns(frame.time) if frame.time else None
        if at is not None:
            if at < self._ticker_times.get(frame.product_id, 0):
                return [Skipped("old ticker")]
            self._ticker_times[frame.product_id] = at
        return self._products.ticker(frame.product_id, at, frame)

    def _subscribed(self, frame: Subscribed) -> Events:
        names = [
            f"{CHANNEL_NAMES.get(channel.name, channel.name)}:{product}"
            for channel in frame.channels
            if channel.name != "heartbeat"  # nobody's data
            for product in channel.product_ids or ()
        ]
        return self._products.answered(names)
