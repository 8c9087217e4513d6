"""feeds/venues/binance.py: the venue's rules, each with the sentence it comes from."""

import json
from typing import Any

import pytest

from feeds.adapter import Acked, BookGap, BookUpdate, Fetch, Peek, Refused, Rotate, Skipped, Subscription
from feeds.venues.binance import Binance
from hub.errors import WireError
from hub.intervals import interval_ns
from hub.model import CANDLE_TYPES, Candle, Quote, Ticker, Trade
from tests.feeds.frames import (
    BTC,
    ETH,
    MS,
    T0,
    adapter,
    agg_trade,
    best,
    depth_body,
    diff,
    framed,
    instrument,
    ticker,
)

NOW = T0 * MS
SUBS = [Subscription(kind, row) for row in (BTC, ETH) for kind in Binance.channels]


def single(frame: bytes) -> Any:
    (event,) = adapter().receive(frame, NOW)
    return event


# subscriptions


def test_stream_names_are_lower_case_and_shared_streams_are_asked_for_once() -> None:
    """ "Stream names need lowercase symbols"; depth comes from the book's stream, candles from the trades'."""
    names = adapter().venue_channels(SUBS)
    assert names == [
        f"{symbol}@{channel}"
        for symbol in ("btcusdt", "ethusdt")
        for channel in ("aggTrade", "bookTicker", "depth@100ms", "ticker")
    ]
    (frame,) = adapter().subscribe(SUBS)
    assert json.loads(frame) == {"method": "SUBSCRIBE", "params": names, "id": 1}
    assert json.loads(adapter().unsubscribe(SUBS)[0])["method"] == "UNSUBSCRIBE"


def test_many_streams_are_several_requests_with_ids_of_their_own() -> None:
    rows = [instrument(f"S{number}USDT", f"S{number}-USDT") for number in range(300)]
    subs = [Subscription("trade", row) for row in rows]
    frames = [json.loads(frame) for frame in Binance(rows).subscribe(subs)]
    assert [len(frame["params"]) for frame in frames] == [200, 100]
    assert len({frame["id"] for frame in frames}) == 2


def test_an_ack_names_what_it_is_for_and_books_ask_for_snapshots() -> None:
    """`{"result":null,"id":1}`."""
    made = adapter()
    made.subscribe(SUBS)
    acked, *fetches = made.receive(b'{"result":null,"id":1}', NOW)
    assert isinstance(acked, Acked)
    assert list(acked.channels) == made.venue_channels(SUBS)
    assert [fetch.instrument for fetch in fetches if isinstance(fetch, Fetch)] == [BTC, ETH]
    assert made.receive(b'{"result":null,"id":1}', NOW) == [], "an answer is good once"


@pytest.mark.parametrize(
    "frame",
    [
        b'{"error":{"code":2,"msg":"Invalid request: streams must be an array"},"id":1}',
        b'{"code":2,"msg":"Invalid request: unknown variant","id":1}',
    ],
)
def test_a_refusal_names_what_was_refused(frame: bytes) -> None:
    made = adapter()
    made.subscribe(SUBS)
    (refused,) = made.receive(frame, NOW)
    assert isinstance(refused, Refused)
    assert list(refused.channels) == made.venue_channels(SUBS)
    assert "Invalid request" in refused.reason


def test_a_refusal_of_nothing_known_is_told_as_well() -> None:
    assert single(b'{"code":3,"msg":"Invalid JSON"}') == Refused((), "Invalid JSON")


# data


@pytest.mark.parametrize(("sold", "side"), [(True, "sell"), (False, "buy")])
def test_the_aggressor_is_the_taker(sold: bool, side: str) -> None:
    """ "m = buyer is the maker": then the taker sold."""
    assert single(agg_trade(1, sold=sold)).side == side


def test_an_aggregate_counts_its_fills() -> None:
    """f and l are the first and the last trade in it."""
    trade = single(agg_trade(5, fills=4))
    assert (trade.trade_id, trade.count) == ("5", 4)


def test_the_raw_form_and_the_combined_form_are_the_same() -> None:
    for frame in (agg_trade(1), best(1, 1.0, 2.0), ticker(1.0)):
        raw = json.dumps(json.loads(frame)["data"]).encode()
        assert single(raw) == single(frame)


def test_single_fills_are_trades_too() -> None:
    data = {"e": "trade", "E": T0, "s": "BTCUSDT", "t": 9, "p": "1.5", "q": "2", "b": 88, "a": 50, "T": T0, "m": True}
    trade = single(framed("btcusdt@trade", data))
    assert isinstance(trade, Trade)
    assert (trade.trade_id, trade.count, trade.side) == ("9", 1, "sell")


def test_of_two_forms_of_the_trades_of_a_symbol_one_counts() -> None:
    """Both would count each fill twice."""
    made = adapter()
    data = {"e": "trade", "E": T0, "s": "BTCUSDT", "t": 9, "p": "1.5", "q": "2", "T": T0, "m": True}
    assert isinstance(made.receive(agg_trade(1), NOW)[0], Trade)
    assert made.receive(framed("btcusdt@trade", data), NOW) == [Skipped("second trade form")]
    other = framed("ethusdt@trade", {**data, "s": "ETHUSDT"})
    assert isinstance(made.receive(other, NOW)[0], Trade)


def test_a_best_bid_ask_that_is_older_or_repeated_is_dropped() -> None:
    """ "bookTicker carries no timestamp: order by u"."""
    made = adapter()
    outcomes = [type(made.receive(best(update, 1.0, 2.0), NOW)[0]).__name__ for update in (5, 5, 4, 6)]
    assert outcomes == ["Quote", "Skipped", "Skipped", "Quote"]


def test_a_side_without_orders_is_none() -> None:
    """The venue writes an empty side, and the prices of a day without trades, as 0."""
    quote = single(framed("btcusdt@bookTicker", {"u": 1, "s": "BTCUSDT", "b": "0.00", "B": "0.00", "a": "2", "A": "3"}))
    assert isinstance(quote, Quote)
    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size) == (None, None, 2.0, 3.0)
    zeros = dict.fromkeys("cohlvqba", "0.00000000")
    day = single(framed("btcusdt@ticker", {"e": "24hrTicker", "E": T0, "s": "BTCUSDT", **zeros}))
    assert isinstance(day, Ticker)
    assert (day.last_price, day.open_price, day.high_price, day.low_price) == (None,) * 4
    assert (day.bid_price, day.ask_price, day.volume, day.quote_volume) == (None, None, 0.0, 0.0)


@pytest.mark.parametrize("price", ["0", "-1"])
def test_nothing_is_traded_at_or_below_zero(price: str) -> None:
    data = {"e": "trade", "E": T0, "s": "BTCUSDT", "t": 9, "p": price, "q": "2", "T": T0, "m": True}
    change = {"e": "depthUpdate", "E": T0, "s": "BTCUSDT", "U": 1, "u": 2, "b": [[price, "1"]], "a": []}
    for frame in (framed("btcusdt@trade", data), framed("btcusdt@depth@100ms", change)):
        with pytest.raises(WireError):
            adapter().receive(frame, NOW)


def test_absent_is_none() -> None:
    data = {"e": "24hrTicker", "E": T0, "s": "BTCUSDT", "c": "1", "o": "1", "h": "1", "l": "1", "v": "1", "q": "1"}
    day = single(framed("btcusdt@ticker", data))
    assert isinstance(day, Ticker)
    assert (day.bid_price, day.ask_price) == (None, None)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (framed("btcusdt@kline_1m", {"e": "kline", "s": "BTCUSDT"}), "unknown channel"),
        (framed("btcusdt@depth20", {"lastUpdateId": 1, "bids": [], "asks": []}), "unknown channel"),
        (framed("nosuch@aggTrade", {"e": "aggTrade", "s": "NOSUCH"}), "unknown symbol"),
        (framed("!ticker@arr", [{"e": "24hrTicker"}]), "array"),
        (b'{"serverTime":1634180186435}', "unknown message"),
        (b'{"subscriptionId":0,"event":{"e":"eventStreamTerminated","E":1771931296343}}', "unknown message"),
    ],
)
def test_what_the_hub_has_no_use_for_is_counted(frame: bytes, reason: str) -> None:
    assert single(frame) == Skipped(reason)


@pytest.mark.parametrize(
    "frame", [b'{"e":"serverShutdown","E":1}', framed("!serverShutdown", {"e": "serverShutdown", "E": 1770123456789})]
)
def test_a_shutdown_that_is_announced_is_a_reason_to_move(frame: bytes) -> None:
    """ "precedes restarts: reconnect at once"."""
    assert isinstance(single(frame), Rotate)


# books


def test_a_snapshot_is_asked_for_with_the_venues_weight() -> None:
    """ "limit 1-100 w5, 101-500 w25, 501-1000 w50, 1001-5000 w250"."""
    for levels, weight in ((100, 5), (101, 25), (500, 25), (501, 50), (1000, 50), (1001, 250), (5000, 250)):
        (fetch,) = adapter(levels=levels).receive(diff(1, 1), NOW)
        assert isinstance(fetch, Fetch)
        assert (fetch.path, fetch.weight, fetch.instrument) == ("/api/v3/depth", weight, BTC)
        assert dict(fetch.params) == {"symbol": "BTCUSDT", "limit": str(levels)}
        assert Binance.resource_of(f"https://api.binance.com{fetch.path}?symbol=BTCUSDT&limit=5") == (
            "depth",
            "BTCUSDT",
        )


def test_what_was_held_follows_the_snapshot() -> None:
    made = adapter()
    (fetch,) = made.receive(diff(100, 101), NOW)
    assert isinstance(fetch, Fetch)
    assert made.receive(diff(102, 104, [(1, 2)]), NOW) == []
    first, second = made.snapshot(fetch, depth_body(101, [(1, 1)], [(2, 1)]), NOW)
    assert isinstance(first, BookUpdate) and isinstance(second, BookUpdate)
    assert (first.snapshot, first.bids, first.ts_event) == (True, [(1.0, 1.0)], None)
    assert (second.snapshot, second.bids, second.ts_event) == (False, [(1.0, 2.0)], T0 * MS)


@pytest.mark.parametrize(
    ("levels", "count", "complete"),
    [
        (1000, 999, True),
        (1000, 1000, False),
        (1000, 100, False),
        (1000, 98, True),
        (100, 100, False),
        (5000, 1000, False),
    ],
)
def test_a_side_that_fills_a_page_goes_on_beyond_it(levels: int, count: int, complete: bool) -> None:
    """ "A snapshot covers max 5000 levels/side: deeper levels are unknown until they change"."""
    made = adapter(levels=levels)
    (fetch,) = made.receive(diff(1, 1), NOW)
    assert isinstance(fetch, Fetch)
    (update,) = made.snapshot(fetch, depth_body(1, [(1 + n / 8, 1) for n in range(count)], [(1e6, 1)]), NOW)
    assert isinstance(update, BookUpdate)
    assert (update.bids_complete, update.asks_complete) == (complete, True)


def test_a_hole_is_a_gap_and_the_next_snapshot_is_on_its_way_after_resync() -> None:
    made = adapter()
    (fetch,) = made.receive(diff(1, 1), NOW)
    assert isinstance(fetch, Fetch)
    made.snapshot(fetch, depth_body(1), NOW)
    assert len(made.receive(diff(2, 3), NOW)) == 1
    (gap,) = made.receive(diff(5, 6), NOW)
    assert isinstance(gap, BookGap)
    assert gap.reason == "sequence gap: expected 4, received 5"
    assert len(made.resync(BTC)) == 1
    assert made.resync(BTC) == [], "one in flight"
    assert made.receive(diff(7, 7), NOW) == []
    found = made.snapshot(fetch, depth_body(5), NOW)
    assert [getattr(event, "snapshot", None) for event in found] == [True, False, False]


def test_symbols_do_not_touch_each_other() -> None:
    made = adapter()
    fetches = [*made.receive(diff(1, 1), NOW), *made.receive(diff(1, 1, symbol="ETHUSDT"), NOW)]
    for fetch in fetches:
        assert isinstance(fetch, Fetch)
        made.snapshot(fetch, depth_body(1), NOW)
    assert isinstance(made.receive(diff(9, 9), NOW)[0], BookGap)
    assert isinstance(made.receive(diff(2, 2, symbol="ETHUSDT"), NOW)[0], BookUpdate)


# REST


def test_instruments_are_read_with_their_steps() -> None:
    row = {
        "symbol": "BTCUSDT", "status": "BREAK", "baseAsset": "BTC", "quoteAsset": "USDT", "baseAssetPrecision": 8,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "tickSize": "0.01000000"},
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "stepSize": "0.00001000"},
            {"filterType": "MIN_NOTIONAL", "minNotional": "10.00000000"},
            {"filterType": "SOMETHING_NEW", "anything": [1]},
        ],
    }  # fmt: skip
    new = {"symbol": "币安人生USDT", "status": "ODD_NEW", "baseAsset": "币安人生", "quoteAsset": "USDT"}
    one, two = Binance.parse_instruments(json.dumps({"symbols": [row, new], "more": 1}).encode())
    assert (one.symbol, one.tick_size, one.lot_size, one.min_notional, one.status) == (
        "BTC-USDT", 0.01, 0.00001, 10.0, "break",
    )  # fmt: skip
    assert (two.symbol, two.tick_size, two.status) == ("币安人生-USDT", None, "odd_new")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"symbols":[{}]}', b'{"symbols":5}', b"\xff", b'{"code":-1,"msg":"no"}']
)
def test_a_list_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        Binance.parse_instruments(body)


def kline(start: int, *, volume: str = "10", trades: int = 3) -> list[Any]:
    return [start, "1", "4", "0.5", "2", volume, start + 59_999, "15", trades, "4", "6", "0"]


def test_candles_are_read_and_the_open_one_is_left_out() -> None:
    """ "Last row may be the still-open candle"."""
    start = T0 // 60_000 * 60_000
    fetch = Binance.candles_fetch(BTC, "1m", start * MS, 2)
    assert fetch is not None
    assert dict(fetch.params) == {"symbol": "BTCUSDT", "interval": "1m", "startTime": str(start), "limit": "2"}
    body = json.dumps([kline(start), kline(start + 60_000)]).encode()
    (candle,) = adapter().snapshot(fetch, body, (start + 90_000) * MS)
    assert isinstance(candle, CANDLE_TYPES["1m"])
    assert (candle.start, candle.open, candle.high, candle.low, candle.close) == (start * MS, 1.0, 4.0, 0.5, 2.0)
    assert (candle.volume, candle.notional, candle.vwap, candle.trades) == (10.0, 15.0, 1.5, 3)
    assert (candle.buy_volume, candle.sell_volume, candle.buy_notional, candle.sell_notional) == (4.0, 6.0, 6.0, 9.0)
    assert (candle.buy_trades, candle.sell_trades, candle.source, candle.revision) == (None, None, "venue", 0)
    assert candle.ts_event == (start + 59_999) * MS


@pytest.mark.parametrize("name", sorted(Binance.candle_intervals))
def test_every_interval_can_be_asked_for(name: str) -> None:
    fetch = Binance.candles_fetch(BTC, name, interval_ns(name), 5000)
    assert fetch is not None
    assert dict(fetch.params)["limit"] == "1000"


def test_a_candle_without_volume_has_no_average_price() -> None:
    fetch = Binance.candles_fetch(BTC, "1m", 0, 1)
    assert fetch is not None
    (candle,) = adapter().snapshot(fetch, json.dumps([kline(0, volume="0.0")]).encode(), NOW)
    assert isinstance(candle, Candle)
    assert candle.vwap is None


@pytest.mark.parametrize("value", ["x", "nan", "inf", "", None, "1e999", "-1"])
@pytest.mark.parametrize("place", [1, 5, 7, 9, 10])
def test_a_candle_with_something_that_is_no_number_is_refused(place: int, value: Any) -> None:
    row = kline(0)
    row[place] = value
    if place == 1 and value == "-1":
        return  # a price may be negative
    fetch = Binance.candles_fetch(BTC, "1m", 0, 1)
    assert fetch is not None
    with pytest.raises(WireError):
        adapter().snapshot(fetch, json.dumps([row]).encode(), NOW)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://www.binance.com/api/v1/depth?symbol=BTCUSDT&limit=1000", ("depth", "BTCUSDT")),
        ("https://api.binance.com/api/v3/depth?limit=5&symbol=ETHUSDT", ("depth", "ETHUSDT")),
        ("/api/v3/depth?symbol=ETHBTC (limit as in file)", ("depth", "ETHBTC")),
        ("https://api.binance.com/api/v3/exchangeInfo", ("exchangeInfo", "")),
        ("http://127.0.0.1:5/api/v3/klines?interval=1m&symbol=%E5%B8%81USDT", ("klines", "币USDT")),
        ("", ("", "")),
    ],
)
def test_recorded_bodies_are_known_by_resource_and_symbol(url: str, expected: tuple[str, str]) -> None:
    """Whatever host, version, limit and order of parameters."""
    assert Binance.resource_of(url) == expected


# looking through a session


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (agg_trade(1), [Peek("BTCUSDT", "trade", (T0 + 1) * MS)]),
        (best(1, 1.0, 2.0), [Peek("BTCUSDT", "quote", None)]),
        (diff(1, 1), [Peek("BTCUSDT", "book", T0 * MS)]),
        (ticker(1.0), [Peek("BTCUSDT", "ticker", T0 * MS)]),
        (framed("btcusdt@kline_1m", {"e": "kline", "s": "BTCUSDT"}), []),
        (framed("!ticker@arr", [{"e": "24hrTicker", "s": "BTCUSDT"}]), []),
        (b'{"result":null,"id":1}', []),
        (b'{"s":"BTCUSDT"}', []),
        (b"noise \xff", []),
        (b"[" * 100_000, []),
    ],
)
def test_a_glance_tells_what_a_frame_is_about(frame: bytes, expected: list[Peek]) -> None:
    assert Binance.peek(frame) == expected
