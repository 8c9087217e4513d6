"""One-time reads: what Redis says straight is what the gateway says, as rows and as data frames."""

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pandas as pd
import polars as pl
import pytest

from hub import stored_candles
from hub.client import Client, Rows
from hub.client.rows import BookSnapshot, CandleRow, QuoteRow
from hub.errors import ConfigError, GatewayUnreachable, NotFound, RedisUnavailable, RequestError
from hub.instrument_store import InstrumentStore
from hub.instruments import Instrument
from hub.model import CANDLE_TYPES, Candle, Ticker
from tests.gateway.kit import SYMBOL, Feed, book, gateway_on, head, quote, status, trade

ROW = Instrument(venue="binance", venue_symbol="BTCUSDT", symbol=SYMBOL, kind="spot", base="BTC", quote="USDT")


def candle(start_s: int, close: float) -> Candle:
    values = {"open": 1.0, "high": 9.0, "low": 0.5, "close": close, "volume": 2.0, "notional": 3.0, "vwap": 1.5}
    counts = {"trades": 2, "buy_trades": 1, "sell_trades": 1, "buy_volume": 1.0, "sell_volume": 1.0}
    rest = {"buy_notional": 1.5, "sell_notional": 1.5, "source": "trades", "revision": 0}
    return CANDLE_TYPES["1m"](**head("binance", SYMBOL), start=start_s * 10**9, **values, **counts, **rest)  # type: ignore[arg-type]


@pytest.fixture
async def both(redis_url: str) -> AsyncIterator[tuple[Client, Client]]:
    """A gateway's client and Redis's, with something of everything published."""
    minute = int(time.time()) // 60 * 60
    day: dict[str, Any] = {"last_price": 110.0, "open_price": 100.0, "high_price": 120.0, "low_price": 90.0}
    async with Feed(redis_url) as feed:
        await feed.publish(
            status("live"),
            quote(1.0),
            quote(5.0, "ETH-USDT"),
            Ticker(**head("binance", SYMBOL), **day, volume=7.0, quote_volume=None, bid_price=1.0, ask_price=None),
            book([(2.0, 1.0), (1.0, 4.0)], [(3.0, 1.0)], "snapshot"),
            book([(1.0, 0.0)], [(4.0, 2.0)]),
            *(trade(n) for n in range(1, 6)),
            candle(minute - 240, 1.0),
            candle(minute - 180, 2.0),
        )
        await feed.publish(status("stale", "ETH-USDT"))
        async with gateway_on(redis_url) as gateway, Client(gateway.http) as over, Client(redis_url) as straight:
            yield over, straight


async def test_both_ways_say_the_same(both: tuple[Client, Client]) -> None:
    reads: list[Callable[[Client], Awaitable[Rows[Any]]]] = [
        lambda hub: hub.quotes(),
        lambda hub: hub.quotes(SYMBOL, venue="binance"),
        lambda hub: hub.tickers(SYMBOL),
        lambda hub: hub.book(SYMBOL),
        lambda hub: hub.book(SYMBOL, "binance", depth=1),
        lambda hub: hub.trades(SYMBOL, limit=3),
        lambda hub: hub.candles(SYMBOL, interval="1m"),
    ]
    for read in reads:
        answers = []
        for hub in both:
            rows = await read(hub)
            assert len(rows) and rows.sources
            answers.append(
                [{k: v for k, v in r.items() if k not in {"age_ms", "parts", "parts_max"}} for r in rows.records()]
            )
            for source in rows.sources:
                assert source.age_ms is not None and source.age_ms >= 0
        assert answers[0] == answers[1]


async def test_what_is_read(both: tuple[Client, Client]) -> None:
    for hub in both:
        first, second = await hub.quotes(SYMBOL, "ETH-USDT")
        assert (first.bid, first.state, second.bid, second.state) == (1.0, "live", 5.0, "stale")
        (ticker,) = await hub.tickers(SYMBOL)
        assert (ticker.last_price, ticker.ask_price) == (110.0, None)
        assert ticker.timestamp is not None and ticker.timestamp.endswith("Z")
        (snapshot,) = await hub.book(SYMBOL)
        assert (snapshot.bids, snapshot.asks) == ([(2.0, 1.0)], [(3.0, 1.0), (4.0, 2.0)])
        assert [row.price for row in await hub.trades(SYMBOL, limit=2)] == [4.0, 5.0]
        candles = await hub.candles(SYMBOL)
        assert [(row.close, row.interval, row.venue) for row in candles][-2:] == [
            (1.0, "1m", "binance"), (2.0, "1m", "binance"),
        ]  # fmt: skip
        (venue,) = await hub.venues()
        assert (venue.venue, venue.state, venue.symbols) == ("binance", "live", 2)


async def test_instruments(both: tuple[Client, Client], redis_url: str) -> None:
    async with Feed(redis_url) as feed:
        store = InstrumentStore(feed.redis, feed.keys)
        await store.store("binance", [ROW], ["1m"], time.time_ns())
    for hub in both:
        assert (await hub.instruments(SYMBOL))[0].venue_symbol == "BTCUSDT"
        assert [row.symbol for row in await hub.instruments(venue="binance", text="btc")] == [SYMBOL]
        assert not await hub.instruments(text="nothing like it")
        with pytest.raises(NotFound):
            await hub.instruments("NO-SUCH")


async def test_an_invalid_book_has_no_levels(both: tuple[Client, Client], redis_url: str) -> None:
    async with Feed(redis_url) as feed:
        await feed.publish(status("resyncing", SYMBOL, kind="book"), withdraw=[f"book:binance:{SYMBOL}"])
    for hub in both:
        (snapshot,) = await hub.book(SYMBOL)
        assert (snapshot.state, snapshot.bids, snapshot.asks) == ("resyncing", [], [])


async def test_what_is_not_there(both: tuple[Client, Client]) -> None:
    for hub in both:
        with pytest.raises(NotFound) as caught:
            await hub.quotes("BTC-USDX")
        assert SYMBOL in caught.value.near and SYMBOL in str(caught.value)
        with pytest.raises(NotFound):
            await hub.quotes(SYMBOL, "NO-SUCH")
        for wrong in (hub.quotes("BTC/USDT"), hub.book(SYMBOL, depth=0), hub.candles(SYMBOL, interval="7x")):
            with pytest.raises(RequestError):
                await wrong
        with pytest.raises(RequestError, match="no time"):
            await hub.candles(SYMBOL, start="yesterday")


async def test_nobody_answers() -> None:
    async with Client("http://127.0.0.1:9", patience_s=0) as hub:
        with pytest.raises(GatewayUnreachable, match=r"127\.0\.0\.1:9"):
            await hub.quotes()
        with pytest.raises(GatewayUnreachable):
            await anext(hub.stream("quote:*:BTC-USDT"))
    async with Client("redis://:secret@127.0.0.1:9/0", patience_s=0) as hub:
        with pytest.raises(RedisUnavailable) as caught:
            await hub.quotes()
        assert "secret" not in str(caught.value)
        with pytest.raises(RedisUnavailable):
            await anext(hub.stream("quote:*:BTC-USDT"))
    with pytest.raises(ConfigError, match="http://"):
        Client("ftp://somewhere")


async def test_data_frames(both: tuple[Client, Client]) -> None:
    rows = await both[0].candles(SYMBOL)
    frame, other = rows.to_pandas(), rows.to_polars()
    assert list(frame.columns) == other.columns == list(rows.columns)
    assert frame["start"].dt.tz is not None and other.schema["start"] == pl.Datetime("ns", "UTC")
    exact = [row.start for row in rows]
    assert [stamp.value for stamp in frame["start"]] == exact == other["start"].cast(pl.Int64).to_list()
    assert frame["close"].tolist() == other["close"].to_list()
    levels = (await both[1].book(SYMBOL)).to_pandas()
    assert levels[["side", "level", "price"]].values.tolist() == [["bid", 0, 2.0], ["ask", 0, 3.0], ["ask", 1, 4.0]]


def test_empty_rows_keep_their_columns_and_nanoseconds_are_exact() -> None:
    for kind in (QuoteRow, CandleRow, BookSnapshot):
        empty: Rows[QuoteRow] = Rows(kind, [])  # type: ignore[arg-type]
        assert list(empty.to_pandas().columns) == empty.to_polars().columns == list(empty.columns)
        assert empty.to_csv() == ",".join(empty.columns) + "\n"
    late = QuoteRow(venue="a", symbol="B", state="live", ts_recv=1795203014747123457)
    rows = Rows(QuoteRow, [late, QuoteRow(venue="b", symbol="B", state="down")])
    frame = rows.to_pandas()
    assert frame["ts_recv"][0] == pd.Timestamp(1795203014747123457, unit="ns", tz="UTC") and pd.isna(
        frame["ts_recv"][1]
    )
    assert rows.to_polars()["ts_recv"].cast(pl.Int64).to_list() == [1795203014747123457, None]
    assert [row.venue for row in rows[1:]] == ["b"]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_missing_library_is_named(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=rf"{library} is not installed.*tickwire\[client\]"):
        getattr(Rows(QuoteRow, []), f"to_{library}")()


async def test_a_venue_that_does_not_have_the_symbol_is_named(hub: Client, feed: Feed) -> None:
    await feed.publish(quote(1.0))
    for read in (hub.quotes, hub.tickers):
        with pytest.raises(NotFound, match="kraken does not publish 'BTC-USDT'"):
            await read("BTC-USDT", venue="kraken")


def test_a_row_of_candles_has_all_that_rest_gives() -> None:
    """They differ in what says whose candle it is, which comes first here, and in defaults for older gateways."""
    assert CandleRow.__struct_fields__ == ("venue", "symbol", "interval", *stored_candles.CandleRow.__struct_fields__)
