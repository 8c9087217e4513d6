"""Frames of the Coinbase Exchange feed.

https://docs.cdp.coinbase.com/exchange/websocket-feed/channels

Books carry no sequence number; all there is to judge them by is the time of each product's changes, which never goes
back. A change that is missing cannot be noticed.
"""

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


class ExchangeReader:
    """Reads the frames of one connection."""

    def __init__(self, products: Products) -> None:
        self._products = products
        self._times: dict[str, int] = {}
        self._handlers: dict[type, Callable[[Any], Events]] = {
            L2Update: self._l2_update,
            Match: self._match,
            Ticker: self._ticker,
            Snapshot: self._snapshot,
            Heartbeat: lambda frame: self._products.overdue(),
            Subscribed: self._subscribed,
            # "last_match" is the newest trade before the subscription, not a new one.
            LastMatch: lambda frame: [Skipped("trades before the subscription")],
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

    def _ticker(self, frame: Ticker) -> Events:
        at = parse_ns(frame.time) if frame.time else None
        return self._products.ticker(frame.product_id, at, frame)

    def _subscribed(self, frame: Subscribed) -> Events:
        names = [
            f"{CHANNEL_NAMES.get(channel.name, channel.name)}:{product}"
            for channel in frame.channels
            if channel.name != "heartbeat"  # nobody's data
            for product in channel.product_ids or ()
        ]
        return self._products.answered(names)
