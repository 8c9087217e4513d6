"""CoinGecko: ids and symbols, candles told by their ends, errors in many shapes."""

import gzip
import json

import pytest

from feeds.venues.coingecko import CoinGecko, CoinGeckoPrices, CoinGeckoTickers
from hub.errors import WireError
from hub.instruments import InstrumentTable
from hub.intervals import NS_PER_MS, NS_PER_S
from hub.model import Candle, Ticker, kind_of
from tests.feeds.polling import LATE, SESSIONS, read

FOLDER = SESSIONS / "coingecko" / "coingecko_ruby_2021"
BASE = "https://api.coingecko.com/api/v3"
RECORDED = 1621092868 * NS_PER_S
OHLC = f"{BASE}/coins/bitcoin/ohlc?days=30&vs_currency=myr"


def body(start: str) -> bytes:
    (path,) = FOLDER.glob(f"{start}*")
    return gzip.decompress(path.read_bytes())


TABLE = InstrumentTable("coingecko", CoinGecko.parse_instruments(body("coins_list")))
BTC = TABLE.get("BTC-USD")
BTC_MYR = CoinGecko.unlisted("bitcoin/myr", TABLE)


def test_coins_are_named_by_their_symbols() -> None:
    assert (BTC.venue_symbol, BTC.name, BTC.base, BTC.quote) == ("bitcoin/usd", "Bitcoin", "BTC", "USD")
    assert (BTC_MYR.symbol, BTC_MYR.name) == ("BTC-MYR", "Bitcoin")


def test_of_coins_with_one_symbol_the_largest_has_the_plain_name() -> None:
    coins = [("bitcoin", "btc"), ("wrapped-fake", "btc"), ("other", "oth"), ("batcat", "btc")]
    rows = [{"id": name, "symbol": symbol, "name": name} for name, symbol in coins]
    largest = [{**rows[0], "market_cap_rank": 1, "current_price": 1}]
    lists = [json.dumps(rows).encode() for rows in (largest, rows)]
    table = InstrumentTable("coingecko", [row for data in lists for row in CoinGecko.parse_instruments(data)])
    assert table.get("BTC-USD").venue_symbol == "bitcoin/usd"
    assert table.get("BTC-EUR").venue_symbol == "bitcoin/eur"
    assert table.get("WRAPPED~2DFAKE-USD").venue_symbol == "wrapped-fake/usd"
    assert table.get("OTH-USD").venue_symbol == "other/usd"
    assert "BITCOIN-USD" not in table.by_symbol


def test_a_market_is_a_ticker_whose_volume_is_in_the_quote() -> None:
    (ticker,) = read(
        CoinGecko,
        f"{BASE}/coins/markets?ids=bitcoin&vs_currency=usd",
        body("coins_markets__ids-bitcoin_vs_currency-usd"),
        [BTC],
    )
    assert isinstance(ticker, Ticker)
    assert (ticker.last_price, ticker.high_price, ticker.low_price) == (49053, 51300, 48019)
    assert (ticker.volume, ticker.quote_volume, ticker.open_price) == (None, 61679663434, None)
    assert ticker.ts_event == 1621094383867 * NS_PER_MS


def test_candles_are_told_by_their_ends_and_the_open_one_is_left_out() -> None:
    assert CoinGecko.asked(OHLC).interval == "4h"
    candles = [
        c for c in read(CoinGecko, OHLC, body("coins_bitcoin_ohlc"), [BTC_MYR], RECORDED) if isinstance(c, Candle)
    ]
    assert len(candles) == 179
    first = candles[0]
    assert (first.start, kind_of(first)) == ((1618516800 - 4 * 3600) * NS_PER_S, "candle.4h")
    assert (first.open, first.high, first.low, first.close) == (260184.16, 260184.16, 257817.26, 258923.13)
    assert (first.volume, first.trades) == (None, None)
    assert candles[-1].start + 4 * 3600 * NS_PER_S <= RECORDED
    assert len(read(CoinGecko, OHLC, body("coins_bitcoin_ohlc"), [BTC_MYR], LATE)) == 180


def test_prices_that_are_absent_are_no_tickers() -> None:
    eth = TABLE.get("ETH-USD")
    url = f"{BASE}/simple/price?ids=bitcoin,%20ethereum&vs_currencies=usd"
    (ticker,) = read(CoinGecko, url, body("simple_price__ids-bitcoin_ethereum"), [BTC, eth])
    assert isinstance(ticker, Ticker) and ticker.symbol == "BTC-USD"
    assert read(CoinGecko, url, body("simple_price__ids-bitcoin_vs_currencies-ethereum"), [BTC]) == []
    told = b'{"bitcoin":{"usd":76975,"usd_24h_vol":29096603418.89408,"last_updated_at":1779092258}}'
    (ticker,) = read(CoinGecko, url, told, [BTC])
    assert isinstance(ticker, Ticker)
    assert (ticker.quote_volume, ticker.ts_event) == (29096603418.89408, 1779092258 * NS_PER_S)


def test_of_a_pairs_tickers_the_largest_good_one_counts() -> None:
    url = f"{BASE}/coins/bitcoin/tickers"
    row = CoinGeckoTickers.unlisted("bitcoin/usdt", TABLE)
    (ticker,) = read(CoinGeckoTickers, url, body("coins_bitcoin_tickers"), [row])
    told = json.loads(body("coins_bitcoin_tickers"))["tickers"]
    good = [
        t
        for t in told
        if t["target"] == "USDT" and t["coin_id"] == "bitcoin" and not t["is_stale"] and not t["is_anomaly"]
    ]
    best = max(good, key=lambda t: t["converted_volume"]["usd"])
    assert isinstance(ticker, Ticker)
    assert (ticker.symbol, ticker.last_price, ticker.volume) == ("BTC-USDT", best["last"], best["volume"])


@pytest.mark.parametrize(
    ("status", "data", "pause_s", "venue_wide"),
    [
        (200, b'{"status":{"error_code":429,"error_message":"You\'ve exceeded the Rate Limit."}}', 60, False),
        (401, b'{"status":{"error_code":10002,"error_message":"API Key Missing"}}', None, True),
        (400, b'{"error":{"status":{"error_code":10010,"error_message":"use the pro host"}}}', None, True),
        (400, b'{"status":{"error_code":10005,"error_message":"only for paid plans"}}', None, False),
        (404, b'{"error":"coin not found"}', None, False),
        (422, b'{"error":"Missing parameter vs_currency"}', None, False),
    ],
)
def test_errors_have_many_shapes(status: int, data: bytes, pause_s: float | None, venue_wide: bool) -> None:
    found = CoinGecko.refusal(status, data)
    assert found is not None
    assert (found.pause_s, found.venue_wide) == (pause_s, venue_wide)


def test_a_failure_of_theirs_is_none_for_ever() -> None:
    assert CoinGecko.refusal(500, b'{"status":500,"error":"Internal Server Error"}') is None
    assert CoinGecko.refusal(503, b"<html>") is None


def test_no_answer_is_taken_for_an_error() -> None:
    assert all(CoinGecko.refusal(200, gzip.decompress(path.read_bytes())) is None for path in FOLDER.glob("*.json.gz"))


@pytest.mark.parametrize("data", [b"", b"{}", b"[[1,2]]", b"<html>", b'[["x",1,1,1,1]]', b"[null]"])
def test_garbage_is_no_candle(data: bytes) -> None:
    with pytest.raises(WireError):
        read(CoinGecko, OHLC, data, [BTC_MYR])


def test_many_coins_are_one_request() -> None:
    rows = [CoinGecko.unlisted(f"coin{number}/usd", TABLE) for number in range(450)]
    jobs = CoinGecko.jobs([*rows, BTC_MYR], ["ticker"], [], 60)
    fetches = [job.make(0) for job in jobs]
    assert [len(fetch.instruments) for fetch in fetches] == [200, 200, 50, 1]
    assert {" " in value for fetch in fetches for _, value in fetch.params} == {False}
    both = CoinGeckoPrices.jobs([BTC, BTC_MYR], ["ticker"], [], 60)
    (fetch,) = [job.make(0) for job in both]
    assert dict(fetch.params)["vs_currencies"] == "usd,myr"


def test_keys_and_hosts_belong_together() -> None:
    demo, pro = CoinGecko.on("demo"), CoinGecko.on("pro")
    assert CoinGecko.credentials_env == () and CoinGecko.rest_headers([]) == {}
    assert demo.credentials_env == pro.credentials_env == ("COINGECKO_API_KEY",)
    assert (demo.rest_url, demo.rest_headers(["k"])) == ("https://api.coingecko.com", {"x-cg-demo-api-key": "k"})
    assert (pro.rest_url, pro.rest_headers(["k"])) == ("https://pro-api.coingecko.com", {"x-cg-pro-api-key": "k"})
