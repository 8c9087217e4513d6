"""REST over a real socket: each resource, its states, pages, and problem bodies."""

import json
import time
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from hub.history import Sample, TimeSeries, series_of
from hub.instruments import Instrument
from hub.keys import Channel
from hub.model import CANDLE_TYPES, Ticker
from hub.venues import ChannelReport, FeedReport
from tests.gateway.kit import SYMBOL, VENUE, Feed, Gateway, book, eventually, head, quote, status, trade

MINUTE = 60_000


def instrument(base: str, term: str) -> Instrument:
    return Instrument(
        venue=VENUE, venue_symbol=f"{base}{term}", symbol=f"{base}-{term}", kind="spot", base=base, quote=term,
        name=f"{base}/{term}",
    )  # fmt: skip


async def test_quotes_of_one_symbol(feed: Feed, gateway: Gateway, redis_url: str) -> None:
    await feed.publish(quote(1.0), quote(2.0))
    async with Feed(redis_url, "kraken") as kraken:
        await kraken.publish(quote(3.0, venue="kraken"))
        await eventually(lambda: "quote:kraken:BTC-USDT" in gateway.runtime.directory.names)
        code, body = await gateway.get("/v1/quotes/BTC-USDT")
    assert code == 200
    assert [(q["venue"], q["bid"], q["state"]) for q in body["quotes"]] == [
        ("binance", 2.0, "live"),
        ("kraken", 3.0, "live"),
    ]
    first = body["quotes"][0]
    assert first["id"] == f"{feed.builder.epoch}-2"
    assert 0 <= first["age_ms"] < 60_000
    _, only = await gateway.get("/v1/quotes/BTC-USDT?venue=kraken")
    assert [q["venue"] for q in only["quotes"]] == ["kraken"]


async def test_quotes_of_many_symbols_and_in_pages(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(*(quote(float(n), f"S{n:02}-USD") for n in range(25)))
    _, body = await gateway.get("/v1/quotes?symbols=S03-USD,S01-USD,NOPE")
    assert [(item["symbol"], item["quotes"][0]["bid"]) for item in body["items"]] == [
        ("S03-USD", 3.0),
        ("S01-USD", 1.0),
    ]
    assert (body["next"], body["unknown"]) == (None, ["NOPE"])
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        _, body = await gateway.get(f"/v1/quotes?limit=10&cursor={cursor}")
        seen += [item["symbol"] for item in body["items"]]
        cursor = body["next"]
    assert seen == [f"S{n:02}-USD" for n in range(25)]


async def test_a_withdrawn_quote_is_null_with_the_state(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(quote(1.0))
    await feed.publish(status("resyncing", SYMBOL, "book"), withdraw=["quote:binance:BTC-USDT"])
    _, body = await gateway.get("/v1/quotes/BTC-USDT")
    (view,) = body["quotes"]
    assert (view["state"], view["reason"], view["bid"], view["age_ms"]) == ("resyncing", "test", None, None)


async def test_tickers_in_the_unified_form(feed: Feed, gateway: Gateway) -> None:
    await feed.list_instruments(instrument("BTC", "USDT"))
    ticker = Ticker(
        **{**head(VENUE, SYMBOL), "ts_event": 1_700_000_000_123_456_789},
        last_price=5.0, open_price=4.0, high_price=6.0, low_price=3.0, volume=100.0, quote_volume=500.0,
        bid_price=4.9, ask_price=5.1,
    )  # fmt: skip
    await feed.publish(ticker, quote(symbol="ETH-USDT"))
    _, body = await gateway.get("/v1/tickers/BTC-USDT")
    (view,) = body["tickers"]
    unified = {
        "symbol": SYMBOL, "name": "BTC/USDT", "exchange": VENUE,
        "last_price": 5.0, "open_price": 4.0, "high_price": 6.0, "low_price": 3.0, "volume": 100.0, "bid_price": 4.9,
        "ask_price": 5.1, "timestamp": "2023-11-14T22:13:20.123Z",
    }  # fmt: skip
    assert {name: view[name] for name in unified} == unified
    assert view["state"] == "live"
    _, many = await gateway.get("/v1/tickers?symbols=BTC-USDT,ETH-USDT")
    assert [item["tickers"][0]["last_price"] for item in many["items"]] == [5.0, None]
    assert many["items"][1]["tickers"][0]["state"] == "down", "there is none, and that is said"


async def test_books_are_snapshot_plus_log(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(book([(9.0, 1.0), (8.0, 1.0)], [(10.0, 1.0), (11.0, 1.0)], "snapshot"))
    await feed.publish(book([(9.0, 0.0), (8.5, 2.0)], []), book([], [(10.0, 3.0)]))
    _, body = await gateway.get("/v1/books/BTC-USDT")
    (view,) = body["books"]
    assert (view["bids"], view["asks"]) == ([[8.5, 2.0], [8.0, 1.0]], [[10.0, 3.0], [11.0, 1.0]])
    assert (view["id"], view["state"]) == (f"{feed.builder.epoch}-3", "live")
    _, body = await gateway.get("/v1/books/BTC-USDT?venue=binance&depth=1")
    assert (body["books"][0]["bids"], body["books"][0]["asks"]) == ([[8.5, 2.0]], [[10.0, 3.0]])


async def test_no_levels_of_a_book_that_is_not_valid(feed: Feed, gateway: Gateway) -> None:
    name = "book:binance:BTC-USDT"
    await feed.publish(book([(9.0, 1.0)], [(10.0, 1.0)], "snapshot"))
    await feed.publish(status("resyncing", SYMBOL, "book"), withdraw=[name])
    _, body = await gateway.get("/v1/books/BTC-USDT")
    (view,) = body["books"]
    assert (view["state"], view["bids"], view["asks"], view["age_ms"]) == ("resyncing", [], [], None)
    await feed.publish(book([(9.5, 1.0)], [(10.0, 1.0)], "snapshot"), status("live", SYMBOL, "book"))
    for _ in range(3):  # the log misses an update that the snapshot does not hold: no book at all
        await feed.publish(book([(9.5, 2.0)], []))
    await feed.redis.xdel(feed.keys.log(name), f"{feed.builder.epoch}-3")
    _, body = await gateway.get("/v1/books/BTC-USDT")
    (view,) = body["books"]
    assert view["bids"] == []
    assert view["state"] != "live"


async def test_trades_newest_last(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(*(trade(n) for n in range(1, 11)))
    _, body = await gateway.get("/v1/trades/BTC-USDT?limit=3")
    (view,) = body["venues"]
    assert [(t["price"], t["side"], t["count"]) for t in view["trades"]] == [
        (8.0, "buy", 1),
        (9.0, "buy", 1),
        (10.0, "buy", 1),
    ]
    assert (view["state"], view["id"]) == ("live", f"{feed.builder.epoch}-10")


def candle(start_ms: int, close: float, revision: int = 0, interval: str = "1m") -> Any:
    return CANDLE_TYPES[interval](
        **head(VENUE, SYMBOL), start=start_ms * 1_000_000, open=1.0, high=9.0, low=0.5, close=close, volume=10.0,
        notional=20.0, vwap=2.0, trades=3, buy_trades=1, sell_trades=2, buy_volume=4.0, sell_volume=6.0,
        buy_notional=8.0, sell_notional=12.0, source="trades", revision=revision,
    )  # fmt: skip


async def test_candles_from_the_log_with_the_newest_revision(feed: Feed, gateway: Gateway) -> None:
    base = 1_700_000_040_000 // MINUTE * MINUTE
    await feed.publish(*(candle(base + n * MINUTE, float(n)) for n in range(5)), candle(base + 3 * MINUTE, 33.0, 1))
    _, body = await gateway.get("/v1/candles/BTC-USDT?interval=1m&limit=3")
    (view,) = body["venues"]
    assert [(c["close"], c["revision"], c["source"]) for c in view["candles"]] == [
        (2.0, 0, "trades"), (33.0, 1, "trades"), (4.0, 0, "trades")
    ]  # fmt: skip
    assert view["candles"][0]["start"] == (base + 2 * MINUTE) * 1_000_000
    start, end = (base + MINUTE) / 1000, (base + 3 * MINUTE) / 1000
    _, body = await gateway.get(f"/v1/candles/BTC-USDT?interval=1m&start={start}&end={end}")
    assert [c["close"] for c in body["venues"][0]["candles"]] == [1.0, 2.0]


async def write_history(redis: Redis, feed: Feed, base_ms: int, count: int) -> None:
    channel = Channel("candle.1m", VENUE, SYMBOL)
    history = TimeSeries(redis)
    specs = series_of("candle.1m", 10**9, 10**9)
    values = {"open": 1.0, "high": 5.0, "low": 0.5, "close": 2.0, "volume": 10.0, "buy_volume": 4.0, "sell_volume": 6.0}
    commands = history.create(feed.keys, channel, specs, None)
    for number in range(count):
        ts = base_ms + number * MINUTE
        shifted = {name: value + (number if name in {"open", "high", "close"} else 0) for name, value in values.items()}
        commands += history.add(
            [
                Sample(feed.keys.series(channel.name, name), ts, value)
                for name, value in shifted.items()
                if name in values
            ]
        )
    reader = redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    await reader.connect()
    for command in commands:
        await reader.send_packed_command(command)
        await reader.read_response()
    await reader.disconnect()


async def test_older_candles_are_put_together_from_history(feed: Feed, gateway: Gateway) -> None:
    base = 1_700_000_000_000 // (15 * MINUTE) * 15 * MINUTE
    await write_history(feed.redis, feed, base, 30)
    await feed.publish(candle(base + 30 * MINUTE, 7.0), candle(base + 30 * MINUTE, 7.0, interval="15m"))
    _, body = await gateway.get("/v1/candles/BTC-USDT?interval=1m&limit=3")
    assert [(c["close"], c["source"]) for c in body["venues"][0]["candles"]] == [
        (30.0, "history"), (31.0, "history"), (7.0, "trades")
    ]  # fmt: skip
    _, body = await gateway.get("/v1/candles/BTC-USDT?interval=15m")
    first, second, last = body["venues"][0]["candles"]
    assert (first["open"], first["close"], first["high"], first["low"], first["volume"]) == (
        1.0,
        16.0,
        19.0,
        0.5,
        150.0,
    )
    assert (first["buy_volume"], first["sell_volume"], first["trades"], first["source"]) == (
        60.0,
        90.0,
        None,
        "history",
    )
    assert (second["open"], second["close"]) == (16.0, 31.0)
    assert last["source"] == "trades"


async def test_series(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(quote(1.0))
    now = time.time_ns() // 1_000_000
    key = feed.keys.series("quote:binance:BTC-USDT", "bid")
    for offset, value in ((5000, 1.5), (4000, 2.5), (3000, 3.5)):
        await feed.redis.execute_command("TS.ADD", key, now - offset, value)  # type: ignore[no-untyped-call]
    _, body = await gateway.get("/v1/series/BTC-USDT?kind=quote&field=bid&limit=2")
    assert body["venues"][0]["points"] == [[now - 5000, 1.5], [now - 4000, 2.5]]
    _, body = await gateway.get(f"/v1/series/BTC-USDT?start={(now - 4500) / 1000}")
    assert [value for _, value in body["venues"][0]["points"]] == [2.5, 3.5]


async def test_instruments_filtered_and_paged(feed: Feed, gateway: Gateway) -> None:
    rows = [instrument(base, term) for base in ("BTC", "ETH", "DOT") for term in ("USDT", "BTC2")]
    await feed.list_instruments(*rows)
    _, body = await gateway.get("/v1/instruments?quote=usdt&limit=2")
    assert [row["symbol"] for row in body["items"]] == ["BTC-USDT", "DOT-USDT"]
    assert body["total"] == 3
    _, body = await gateway.get(f"/v1/instruments?quote=usdt&limit=2&cursor={body['next']}")
    assert ([row["symbol"] for row in body["items"]], body["next"]) == (["ETH-USDT"], None)
    _, body = await gateway.get("/v1/instruments?base=eth&kind=spot&venue=binance")
    assert len(body["items"]) == 2
    _, body = await gateway.get("/v1/instruments?text=ot/us")
    assert [row["symbol"] for row in body["items"]] == ["DOT-USDT"]
    _, body = await gateway.get("/v1/instruments/ETH-USDT")
    assert body["instruments"][0]["venue_symbol"] == "ETHUSDT"
    code, body = await gateway.get("/v1/instruments/ETH-USTD")
    assert (code, body["near"][0]) == (404, "ETH-USDT")


async def test_venues(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(quote(), status("live"), status("resyncing", SYMBOL, "book"))
    report = FeedReport(
        venue=VENUE, epoch=5, holder="me", symbols=[SYMBOL], books_live=0, books_wanted=1, connections=[],
        counters={},
        kinds={
            "book": ChannelReport(messages=10, ts_recv=time.time_ns()), "mark": ChannelReport(messages=0, ts_recv=0),
        },
    )  # fmt: skip
    await feed.redis.set(feed.keys.feed(VENUE), msgspec.json.encode(report))
    _, body = await gateway.get("/v1/venues")
    (view,) = body["venues"]
    assert (view["venue"], view["state"], view["symbols"]) == (VENUE, "live", 1)
    assert view["kinds"][0]["affected"] == 1
    assert view["kinds"][1]["age_ms"] is None
    assert view["feed"]["holder"] == "me"
    _, one = await gateway.get("/v1/venues/binance")
    assert one["feed"] == view["feed"]


@pytest.mark.parametrize(
    ("path", "status_code", "check"),
    [
        ("/v1/quotes/BTC-USTD", 404, ("near", "BTC-USDT")),
        ("/v1/quotes/btc-usdt", 404, ("near", "BTC-USDT")),
        ("/v1/quotes/BTC-USDT?venue=kraken", 400, ("allowed", "binance")),
        ("/v1/books/NOPE", 404, None),
        ("/v1/books/BTC-USDT?depth=0", 400, None),
        ("/v1/books/BTC-USDT?depth=x", 400, None),
        ("/v1/books/BTC-USDT?deep=5", 400, ("allowed", "depth")),
        ("/v1/trades/BTC-USDT?limit=100000", 400, None),
        ("/v1/candles/BTC-USDT?interval=7x", 400, ("allowed", "1m")),
        ("/v1/candles/BTC-USDT?start=yesterday", 400, None),
        ("/v1/candles/BTC-USDT?start=170000000000000000000", 400, None),
        ("/v1/candles/BTC-USDT?start=nan", 400, None),
        ("/v1/candles/BTC-USDT?start=1700000000&end=1600000000", 400, None),
        ("/v1/series/BTC-USDT?kind=status", 400, ("allowed", "quote")),
        ("/v1/series/BTC-USDT?kind=trade&field=bid", 400, ("allowed", "price")),
        ("/v1/instruments?kind=house", 400, ("allowed", "spot")),
        ("/v1/instruments?venue=nope", 400, ("allowed", "binance")),
        ("/v1/venues/nope", 404, ("near", "binance")),
        ("/v1/nope", 404, None),
        ("/nope", 404, None),
        ("/v1/quotes?symbols=" + ",".join(f"S{n}" for n in range(1001)), 400, None),
    ],
)
async def test_problems(
    feed: Feed, gateway: Gateway, path: str, status_code: int, check: tuple[str, str] | None
) -> None:
    await feed.publish(quote())
    code, headers, raw = await gateway.request("GET", path)
    body = json.loads(raw)
    assert headers["content-type"] == "application/problem+json"
    assert (code, body["status"]) == (status_code, status_code)
    assert body["type"]
    assert body["title"]
    assert body["detail"]
    if check is not None:
        field, value = check
        assert value in body[field]


async def test_wrong_method(gateway: Gateway) -> None:
    code, headers, raw = await gateway.request("POST", "/v1/venues")
    assert (code, json.loads(raw)["status"], set(headers["allow"].split(", "))) == (405, 405, {"GET", "OPTIONS"})


async def test_openapi_names_every_resource(gateway: Gateway) -> None:
    for path in ("/schema", "/schema/openapi.json"):
        _, body = await gateway.get(path)
        assert body["openapi"].startswith("3.1")
        for resource in ("quotes", "tickers", "books", "trades", "candles", "series", "instruments"):
            operation = body["paths"][f"/v1/{resource}/{{symbol}}"]["get"]
            assert operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert {"/v1/quotes", "/v1/tickers", "/v1/instruments", "/v1/venues", "/health/live"} <= set(body["paths"])


async def test_metrics_count_without_user_input_in_labels(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(quote())
    await gateway.get("/v1/quotes/BTC-USDT")
    await gateway.get("/v1/quotes/secret-word")
    await gateway.get("/secret-path")
    _, _, raw = await gateway.request("GET", "/metrics")
    text = raw.decode()
    assert 'tickwire_gateway_http_requests_total{method="GET",path="/v1/quotes/{symbol}",status="2xx"} 1.0' in text
    assert 'path="/v1/quotes/{symbol}",status="4xx"} 1.0' in text
    assert "secret" not in text
    assert "tickwire_gateway_redis_connected 1.0" in text


async def test_the_page_needs_nothing_else(gateway: Gateway) -> None:
    code, headers, raw = await gateway.request("GET", "/")
    assert (code, headers["content-type"].split(";")[0]) == (200, "text/html")
    assert b"http://" not in raw and b"https://" not in raw, "works offline"
