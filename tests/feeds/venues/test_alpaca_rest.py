"""Alpaca polled: snapshots, bars in pages, and what 403 means."""

import gzip
import json
from urllib.parse import parse_qs, urlsplit

import pytest

from feeds.adapter import Fetch
from feeds.rfc3339 import parse_ns
from feeds.session import Session
from feeds.venues.alpaca_rest import AlpacaRest
from hub.errors import WireError
from hub.instruments import InstrumentTable
from hub.model import Candle, Quote, Ticker, kind_of
from tests.feeds.polling import LATE, SESSIONS, read

SESSION = Session(SESSIONS / "alpaca" / "rest_2021-2022")
NONE = InstrumentTable("alpaca")
BODIES = {body.path.name[0]: body for body in SESSION.bodies}


def told(number: str, now: int = LATE) -> list[object]:
    body = BODIES[number]
    rows = [AlpacaRest.unlisted(name, NONE) for name in AlpacaRest.asked(body.url).symbols]
    assert rows
    return list(read(AlpacaRest, body.url, gzip.decompress(body.path.read_bytes()), rows, now))


def test_a_snapshot_is_a_quote_and_the_days_ticker() -> None:
    events = told("1")
    quote, ticker = (next(e for e in events if isinstance(e, kind) and e.symbol == "AAPL") for kind in (Quote, Ticker))
    assert isinstance(quote, Quote) and isinstance(ticker, Ticker)
    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size) == (133.42, 15.0, 133.43, 7.0)
    assert quote.ts_event == parse_ns("2021-05-03T14:48:07.257820915Z")
    assert (ticker.last_price, ticker.ts_event) == (133.4201, parse_ns("2021-05-03T14:48:06.563Z"))
    assert (ticker.bid_price, ticker.open_price, ticker.volume) == (133.42, 132.04, 25846800.0)


def test_symbols_without_data_are_left_out() -> None:
    rows = [AlpacaRest.unlisted(name, NONE) for name in ("AAPL", "NONE", "HALF")]
    half = {"latestTrade": None, "latestQuote": {"t": "2021-05-03T14:48:07Z", "bp": 0, "bs": 0, "ap": 5.0, "as": 1}}
    data = json.dumps({"NONE": None, "HALF": half}).encode()
    (quote,) = read(AlpacaRest, "https://data.alpaca.markets/v2/stocks/snapshots?symbols=x", data, rows)
    assert isinstance(quote, Quote)
    assert (quote.symbol, quote.bid, quote.bid_size, quote.ask) == ("HALF", None, None, 5.0)


def test_crypto_has_its_own_form() -> None:
    assert {e.symbol for e in told("2") if isinstance(e, Quote | Ticker)} == {"ETH-USD"}
    candles = [event for event in told("3") if isinstance(event, Candle)]
    assert {kind_of(candle) for candle in candles} == {"candle.1m"}
    first = next(candle for candle in candles if candle.symbol == "BCH-USD")
    assert (first.start, first.close, first.trades) == (parse_ns("2021-11-11T11:11:00Z"), 679.26, 10)
    assert first.vwap == 679.6324449731
    before = told("3", first.start + 60 * 10**9 - 1)
    assert first.start not in {c.start for c in before if isinstance(c, Candle) and c.symbol == "BCH-USD"}


def test_the_next_page_is_asked_for() -> None:
    (row,) = rows = [AlpacaRest.unlisted("BTC/USD", NONE)]
    fetch = Fetch(
        resource="bars", path="/p", params=(("a", "b"), ("page_token", "old")), instruments=(row,), interval="1m"
    )
    events = AlpacaRest(rows).snapshot(fetch, b'{"bars":{},"next_page_token":"new"}', LATE)
    (following,) = events
    assert isinstance(following, Fetch)
    assert dict(following.params) == {"a": "b", "page_token": "new"}
    assert AlpacaRest(rows).snapshot(fetch, b'{"bars":null,"next_page_token":null}', LATE) == []


def test_symbols_are_asked_for_together_by_kind() -> None:
    rows = [AlpacaRest.unlisted(name, NONE) for name in ("AAPL", "BTC/USD", "MSFT", "ETH/USD")]
    fetches = [job.make(10**18) for job in AlpacaRest.jobs(rows, ["ticker", "quote", "candle"], ["1m"], 5)]
    assert [(f.path, dict(f.params)["symbols"]) for f in fetches] == [
        ("/v2/stocks/snapshots", "AAPL,MSFT"),
        ("/v2/stocks/bars", "AAPL,MSFT"),
        ("/v1beta3/crypto/us/snapshots", "BTC/USD,ETH/USD"),
        ("/v1beta3/crypto/us/bars", "BTC/USD,ETH/USD"),
    ]
    assert dict(fetches[0].params)["feed"] == "iex"
    (paid, *_) = AlpacaRest.on("plus").jobs(rows, ["ticker"], [], 5)
    assert dict(paid.make(0).params)["feed"] == "sip"
    assert "feed" not in dict(fetches[2].params)


@pytest.mark.parametrize(
    ("status", "text", "venue_wide"),
    [
        (401, "request is not authorized", True),
        (403, "forbidden.", True),
        (403, "subscription does not permit querying recent SIP data", False),
        (422, "invalid symbol", False),
    ],
)
def test_refusals(status: int, text: str, venue_wide: bool) -> None:
    found = AlpacaRest.refusal(status, json.dumps({"message": text}).encode())
    assert found is not None
    assert (found.pause_s, found.venue_wide) == (None, venue_wide)
    assert AlpacaRest.refusal(500, b"{}") is None


@pytest.mark.parametrize("data", [b"", b"[]", b"<html>", b'{"AAPL":7}', b'{"AAPL":{"latestQuote":{"t":7}}}'])
def test_garbage(data: bytes) -> None:
    rows = [AlpacaRest.unlisted("AAPL", NONE)]
    with pytest.raises(WireError):
        read(AlpacaRest, "https://data.alpaca.markets/v2/stocks/snapshots?symbols=AAPL", data, rows)


def test_recorded_urls_are_those_that_are_asked() -> None:
    for body in SESSION.bodies:
        assert AlpacaRest.asked(body.url).resource in ("snapshots", "bars")
        assert set(parse_qs(urlsplit(body.url).query)) <= {"symbols", "timeframe"}
