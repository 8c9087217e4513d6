"""hub/model.py: what a message looks like on the wire."""

import json
import math
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model import (
    CANDLE_TYPES,
    EVENT_KINDS,
    FORMING_TYPES,
    KINDS,
    STATE_KINDS,
    Book,
    Candle,
    Depth,
    Listing,
    Mark,
    Message,
    Quote,
    Status,
    Ticker,
    Trade,
    decode,
    encode,
    is_event,
    kind_of,
)
from hub.position import head_of, position_in

COMMON = ["type", "venue", "symbol", "id", "ts_event", "ts_recv", "ts_pub"]
OWN = {
    "trade": ["price", "size", "side", "trade_id", "count"],
    "quote": ["bid", "bid_size", "ask", "ask_size"],
    "depth": ["bids", "asks"],
    "book": ["action", "bids", "asks"],
    "ticker": [
        "last_price", "open_price", "high_price", "low_price", "volume", "quote_volume", "bid_price", "ask_price",
    ],
    "candle": [
        "start", "open", "high", "low", "close", "volume", "notional", "vwap", "trades", "buy_trades", "sell_trades",
        "buy_volume", "sell_volume", "buy_notional", "sell_notional", "source", "revision",
    ],
    "mark": ["mark_price", "index_price", "funding_rate", "next_funding_ts", "open_interest"],
    "status": ["state", "kind", "reason", "since"],
    "listing": ["action", "changes", "instrument"],
}  # fmt: skip
HEAD: tuple[str, str, str, int, int, int] = ("binance", "BTC-USDT", "1-2", 3, 4, 5)


def candle(kind: type[Candle]) -> Candle:
    return kind(*HEAD, 60, 1.0, 2.0, 0.5, 1.5, 9.0, None, None, None, None, None, None, None, None, None, "venue", 1)


MESSAGES: list[Message] = [
    Trade(*HEAD, 1.5, 0.1, "sell", "77", 3),
    Quote(*HEAD, 1.0, 2.0, None, None),
    Depth(*HEAD, [(1.0, 2.0)], []),
    Book(*HEAD, "update", [(1.0, 0.0)], []),
    Ticker(*HEAD, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, None, None),
    Mark(*HEAD, 1.0, None, -0.0001, 7, None),
    Status(*HEAD, "resyncing", None, 'text \u20ac "quoted"', 8),
    Listing(*HEAD, "changed", ["tick_size"], {"symbol": "BTC-USDT", "tick_size": 0.1, "expiry": None}),
    *(candle(kind) for kind in CANDLE_TYPES.values()),
    *(candle(kind) for kind in FORMING_TYPES.values()),
]

each_message = pytest.mark.parametrize("message", MESSAGES, ids=kind_of)


def test_there_is_one_of_each_kind_here() -> None:
    assert {kind_of(message) for message in MESSAGES} == KINDS


@each_message
def test_field_order_on_the_wire(message: Message) -> None:
    kind = kind_of(message)
    fields = list(json.loads(encode(message)))
    assert fields == COMMON + OWN[kind.replace("forming", "candle").partition(".")[0]]
    assert json.loads(encode(message))["type"] == kind


@each_message
def test_the_id_is_found_without_decoding(message: Message) -> None:
    """It begins at the same byte in every message of a channel."""
    payload = encode(message)
    head = head_of(kind_of(message), message.venue, message.symbol)
    assert payload.startswith(head)
    assert payload[len(head) :].startswith(b'1-2"')
    assert position_in(payload, head) == (1, 2)


@each_message
def test_what_is_encoded_is_decoded_again(message: Message) -> None:
    again = decode(encode(message))
    assert type(again) is type(message)
    assert again == message


def test_a_symbol_with_any_text_keeps_the_head() -> None:
    message = Trade("binance", "币安-\u00e9\u2028", "1-2", None, 4, 5, 1.0, 1.0, None, "1")
    assert encode(message).startswith(head_of("trade", message.venue, message.symbol))


def test_absent_is_null_and_fields_of_consolidated_messages_are_left_out() -> None:
    """A single venue's payload is what it was before venue `all` existed, byte for byte."""
    head = b',"venue":"binance","symbol":"BTC-USDT","id":"1-2","ts_event":3,"ts_recv":4,"ts_pub":5'
    assert encode(Quote(*HEAD, 1.0, 2.0, None, None)) == (
        b'{"type":"quote"' + head + b',"bid":1.0,"bid_size":2.0,"ask":null,"ask_size":null}'
    )
    assert encode(Depth(*HEAD, [(1.0, 2.0)], [])) == b'{"type":"depth"' + head + b',"bids":[[1.0,2.0]],"asks":[]}'


def test_fields_of_consolidated_messages_follow_the_others() -> None:
    quote = Quote(
        *HEAD, 1.0, 2.0, 3.0, 4.0, "kraken", None, 2.0, 1e4, 1.7, -0.3, None, "normal", ["binance", "kraken"],
        {"vwap_60s": 2.5, "ofi_10s": None},
    )  # fmt: skip
    assert encode(quote).endswith(
        b'"ask_size":4.0,"bid_venue":"kraken","ask_venue":null,"mid":2.0,"spread_bps":10000.0,"microprice":1.7,'
        b'"imbalance":-0.3,"imbalance_n":null,"market":"normal","venues":["binance","kraken"],'
        b'"analytics":{"vwap_60s":2.5,"ofi_10s":null}}'
    )
    depth = Depth(*HEAD, [(1.0, 2.0)], [], [{"kraken": 2.0}], [], ["kraken"])
    assert encode(depth).endswith(
        b'"bids":[[1.0,2.0]],"asks":[],"bid_venues":[{"kraken":2.0}],"ask_venues":[],"venues":["kraken"]}'
    )
    assert [decode(encode(message)) for message in (quote, depth)] == [quote, depth]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_written_so_that_they_are_read_as_the_same(number: float) -> None:
    text = encode(Depth(*HEAD, [(number, 0.0)], [])).partition(b'"bids":[[')[2].partition(b",")[0]
    assert float(text) == number
    assert math.copysign(1, float(text)) == math.copysign(1, number)
    assert len(text) <= len(repr(number)) + 2


@pytest.mark.parametrize("text", ["0.00000798", "0.00000009", "58942.01", "0.1", "123456789.123456", "1e-8", "7"])
def test_decimal_text_of_15_digits_survives(text: str) -> None:
    payload = encode(Depth(*HEAD, [(float(text), 1.0)], []))
    ((price, _),) = json.loads(payload, parse_float=Decimal)["bids"]
    assert price == Decimal(text)


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"{}", b"[]", b"null", b'{"type":"nothing"}', b'{"type":"trade"}', b"\xff",
        encode(MESSAGES[0]).replace(b'"sell"', b'"up"'), encode(MESSAGES[0]).replace(b"1.5", b'"1.5"'),
        encode(MESSAGES[0]).replace(b"0.1", b"-0.1"), encode(MESSAGES[0])[:-1],
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(payload)


def test_every_kind_is_an_event_or_a_state() -> None:
    assert EVENT_KINDS | STATE_KINDS == KINDS
    assert not EVENT_KINDS & STATE_KINDS
    assert [kind for kind in sorted(KINDS) if is_event(kind)] == sorted(EVENT_KINDS)
    assert {"trade", "book", "status", "candle.1m"} <= EVENT_KINDS
    assert {"quote", "depth", "ticker", "mark", "forming.1m"} <= STATE_KINDS


def test_a_message_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        MESSAGES[0].ts_pub = 9  # type: ignore[misc]
