"""Alpha Vantage: its numbered text, its local times, and errors that come with HTTP status 200."""

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from feeds.adapter import Refusal
from feeds.venues.alphavantage import AlphaVantage
from hub.errors import ConfigError, WireError
from hub.instruments import Instrument, InstrumentTable
from hub.intervals import NS_PER_S
from hub.model import Candle, Quote, Ticker, kind_of
from tests.feeds.polling import SESSIONS, read

FOLDER = SESSIONS / "alphavantage" / "alpha_vantage_2017-2020"
BASE = "https://www.alphavantage.co/query?function="
NONE = InstrumentTable("alphavantage")
MSFT = AlphaVantage.unlisted("MSFT", NONE)
INTRADAY = BASE + "TIME_SERIES_INTRADAY&symbol=MSFT&interval=1min"
DAILY = BASE + "TIME_SERIES_DAILY&symbol=MSFT"


def body(name: str) -> bytes:
    return gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes())


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS_PER_S


def refusal(text: str, key: str = "Information") -> Refusal:
    found = AlphaVantage.refusal(200, json.dumps({key: text}).encode())
    assert found is not None
    return found


def test_a_quote_is_a_ticker_of_the_day() -> None:
    (ticker,) = read(AlphaVantage, BASE + "GLOBAL_QUOTE&symbol=MSFT", body("GLOBAL_QUOTE_MSFT_2018-10-05"), [MSFT])
    assert isinstance(ticker, Ticker)
    assert (ticker.last_price, ticker.open_price, ticker.high_price, ticker.low_price) == (
        112.13,
        112.63,
        113.17,
        110.64,
    )
    assert (ticker.volume, ticker.bid_price, ticker.ask_price, ticker.ts_event) == (29062853.0, None, None, None)


def test_a_delayed_quote_has_another_key() -> None:
    said = body("GLOBAL_QUOTE_MSFT_2018-10-05").replace(b"Global Quote", b"Global Quote - DATA DELAYED BY 15 MINUTES")
    (ticker,) = read(AlphaVantage, BASE + "GLOBAL_QUOTE&symbol=MSFT", said, [MSFT])
    assert isinstance(ticker, Ticker)


def test_bars_are_in_new_yorks_time_and_the_open_one_is_left_out() -> None:
    data = body("TIME_SERIES_INTRADAY_1min_MSFT_2017-12-18")
    events = read(AlphaVantage, INTRADAY, data, [MSFT], ns("2017-12-18T19:56:59"))
    candles = [event for event in events if isinstance(event, Candle)]
    newest = candles[-1]
    assert (len(candles), kind_of(newest)) == (99, "candle.1m")
    assert newest.start == ns("2017-12-18T19:55:00")  # 14:55 in winter
    assert (newest.open, newest.high, newest.low, newest.close) == (86.49, 86.5, 86.4801, 86.5)
    assert (newest.volume, newest.trades, newest.vwap, newest.source) == (12682.0, None, None, "venue")
    assert [c.start for c in candles if isinstance(c, Candle)] == sorted(
        {c.start for c in candles if isinstance(c, Candle)}
    )
    assert len(read(AlphaVantage, INTRADAY, data, [MSFT], ns("2017-12-18T19:57:00"))) == 100


def daily(*days: str, zone: str = "US/Eastern", volume: str = "5. volume") -> bytes:
    bar = {"1. open": "10.0", "2. high": "12.0", "3. low": "9.0", "4. close": "11.0", volume: "77"}
    meta = {"1. Information": "Daily Prices", "2. Symbol": "MSFT", "5. Time Zone": zone}
    return json.dumps({"Meta Data": meta, "Time Series (Daily)": dict.fromkeys(days, bar)}).encode()


@pytest.mark.parametrize(
    ("day", "start", "end"),
    [
        ("2026-01-15", "2026-01-15T05:00:00", "2026-01-16T05:00:00"),
        ("2026-07-15", "2026-07-15T04:00:00", "2026-07-16T04:00:00"),
        ("2026-03-08", "2026-03-08T05:00:00", "2026-03-09T04:00:00"),  # clocks go forward
        ("2026-11-01", "2026-11-01T04:00:00", "2026-11-02T05:00:00"),  # and back
    ],
)
def test_a_day_is_the_exchanges(day: str, start: str, end: str) -> None:
    assert read(AlphaVantage, DAILY, daily(day), [MSFT], ns(end) - 1) == []
    (candle,) = read(AlphaVantage, DAILY, daily(day), [MSFT], ns(end))
    assert isinstance(candle, Candle)
    assert (candle.start, kind_of(candle), candle.volume) == (ns(start), "candle.1d", 77.0)


def test_the_numbers_of_keys_mean_nothing() -> None:
    (candle,) = read(AlphaVantage, DAILY, daily("2026-01-15", volume="6. volume"), [MSFT])
    assert isinstance(candle, Candle) and candle.volume == 77.0


def test_a_rate_is_a_ticker_and_where_both_sides_are_told_a_quote() -> None:
    row = AlphaVantage.named("BTC-CNY")
    assert row is not None
    url = BASE + "CURRENCY_EXCHANGE_RATE&from_currency=BTC&to_currency=CNY"
    assert AlphaVantage.asked(url).symbols == (row.venue_symbol,)
    old = body("CURRENCY_EXCHANGE_RATE_BTC_CNY_2017-12-20")
    (ticker,) = read(AlphaVantage, url, old, [row])
    assert isinstance(ticker, Ticker)
    assert (ticker.last_price, ticker.bid_price, ticker.ts_event) == (109631.430607, None, ns("2017-12-20T19:23:21"))
    told: dict[str, Any] = json.loads(old)
    told["Realtime Currency Exchange Rate"] |= {"8. Bid Price": "109631.1", "9. Ask Price": "-"}
    ticker, quote = read(AlphaVantage, url, json.dumps(told).encode(), [row])
    assert isinstance(quote, Quote)
    assert (quote.bid, quote.bid_size, quote.ask) == (109631.1, None, None)


def test_search_and_list_give_instruments() -> None:
    rows = AlphaVantage.parse_instruments(body("SYMBOL_SEARCH_BA"))
    assert (rows[0].symbol, rows[0].name, rows[0].quote, rows[0].kind) == ("BA", "The Boeing Company", "USD", "equity")
    foreign = next(row for row in rows if "." in row.venue_symbol)
    assert not AlphaVantage.on_list(foreign) and AlphaVantage.on_list(rows[0])
    text = b"symbol,name,exchange,assetType,ipoDate,delistingDate,status\nA,Agilent,NYSE,Stock,1999-11-18,null,Active\n"
    (row,) = AlphaVantage.parse_instruments(text)
    assert (row.symbol, row.name) == ("A", "Agilent")


def test_pairs_need_no_list() -> None:
    found, missing = AlphaVantage.find(["EUR-USD", "AAPL", "MSFT"], [MSFT])
    assert [row.venue_symbol for row in found] == ["EUR/USD", "MSFT"]
    assert missing == ["AAPL"]


# errors


@pytest.mark.parametrize(
    ("text", "key", "pause_s", "venue_wide"),
    [
        ("Our standard API call frequency is 5 calls per minute and 500 calls per day.", "Note", 60, False),
        ("Our standard API rate limit is 25 requests per day. Please subscribe to", "Information", 3600, False),
        # It names the day's calls, too, and premium endpoints.
        ("Please consider spreading out your free API requests more sparingly (1 request per second). … lift the free "
         "key rate limit (25 requests per day), … unlock all premium endpoints", "Information", 60, False),
        ("Thank you! This is a premium endpoint. You may subscribe", "Information", None, False),
        ("the parameter apikey is invalid or missing.", "Error Message", None, True),
        ("The **demo** API key is for demo purposes only.", "Information", None, True),
        ("Invalid API call. Please retry or visit the documentation", "Error Message", None, False),
        ("This API function () does not exist.", "Error Message", None, False),
    ],
)  # fmt: skip
def test_errors_come_with_status_200(text: str, key: str, pause_s: float | None, venue_wide: bool) -> None:
    found = refusal(text, key)
    assert (found.pause_s, found.venue_wide) == (pause_s, venue_wide)


def test_every_recorded_error_is_one() -> None:
    found = SESSIONS.parents[3] / "shared" / "exchanges" / "alphavantage" / "http200_error_bodies.jsonl"
    for line in found.read_bytes().splitlines() if found.is_file() else ():
        assert AlphaVantage.refusal(200, json.loads(line)["raw"].encode()) is not None
    assert AlphaVantage.refusal(200, b'{"Global Quote": {}}') is not None


def test_no_answer_is_taken_for_an_error() -> None:
    for path in FOLDER.glob("*.json.gz"):
        assert AlphaVantage.refusal(200, gzip.decompress(path.read_bytes())) is None


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"<html>", b'{"Global Quote":{"05. price":""}}', b'{"Global Quote":7}']
)
def test_garbage_is_no_quote(data: bytes) -> None:
    with pytest.raises(WireError):
        read(AlphaVantage, BASE + "GLOBAL_QUOTE&symbol=MSFT", data, [MSFT])


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", ""])
def test_a_time_zone_that_nobody_knows_is_an_error(zone: str) -> None:
    with pytest.raises(WireError):
        read(AlphaVantage, DAILY, daily("2026-01-15", zone=zone), [MSFT])


# plans and jobs


def test_the_free_plan_has_no_bars_within_a_day() -> None:
    def resources(poller: type[AlphaVantage]) -> list[str]:
        return [job.make(0).resource for job in poller.jobs([MSFT], ["ticker", "candle"], ["1m", "1d"], 60)]

    assert resources(AlphaVantage) == ["quote", "daily"]
    assert resources(AlphaVantage.on("75")) == ["quote", "intraday", "daily"]
    with pytest.raises(ConfigError, match=r"venues\.alphavantage\.plan = 'gold' does not exist; known: free, 75"):
        AlphaVantage.on("gold")


def test_the_key_is_in_no_request_that_is_kept() -> None:
    rows: list[Instrument] = [MSFT, AlphaVantage.unlisted("EUR/USD", NONE)]
    jobs = AlphaVantage.jobs(rows, ["ticker", "quote", "candle"], ["1d"], 60)
    assert len(jobs) == 3
    assert all("apikey" not in dict(job.make(0).params) for job in jobs)
    assert AlphaVantage.rest_query(["k"]) == {"apikey": "k"}
