"""Candles as venues tell them: what a row of theirs becomes, and what they say of it and what not. Pure."""

from decimal import Decimal

from hub.instruments import Instrument
from hub.model import CANDLE_TYPES, Candle

__all__ = ["average_price", "venue_candle"]


def venue_candle(
    instrument: Instrument,
    interval: str,
    start: int,
    prices: tuple[float, float, float, float],
    ts_recv: int,
    *,
    ts_event: int | None = None,
    volume: float | None = None,
    notional: float | None = None,
    vwap: float | None = None,
    trades: int | None = None,
    buy_volume: float | None = None,
    sell_volume: float | None = None,
    buy_notional: float | None = None,
    sell_notional: float | None = None,
) -> Candle:
    """Return the closed candle that began at `start`; `prices` are open, high, low and close. Times are int ns.

    What the venue does not say stays None; no venue counts buys and sells.
    """
    opened, high, low, close = prices
    return CANDLE_TYPES[interval](
        venue=instrument.venue, symbol=instrument.symbol, id="", ts_event=ts_event, ts_recv=ts_recv, ts_pub=0,
        start=start, open=opened, high=high, low=low, close=close, volume=volume, notional=notional, vwap=vwap,
        trades=trades, buy_trades=None, sell_trades=None, buy_volume=buy_volume, sell_volume=sell_volume,
        buy_notional=buy_notional, sell_notional=sell_notional, source="venue", revision=0,
    )  # fmt: skip


def average_price(notional: float | None, volume: float | None) -> float | None:
    """Return the volume-weighted price, rounded once; None where it cannot be known."""
    if notional is None or not volume:
        return None
    return float(Decimal(repr(notional)) / Decimal(repr(volume)))
