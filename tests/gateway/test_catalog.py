"""REST instruments and assets: thousands of rows, pages, what is delisted, one asset across venues."""

import time
from typing import Any

from msgspec import structs

from hub.instrument_store import InstrumentStore
from hub.instruments import Instrument, canonical_symbol
from tests.gateway.kit import Feed, Gateway

NOW = 1_800_000_000_000_000_000


def row(base: str, quote: str = "USDT", venue: str = "binance", **fields: Any) -> Instrument:
    made = Instrument(
        venue=venue, venue_symbol=base + quote, symbol=canonical_symbol("spot", base, quote), kind="spot", base=base,
        quote=quote, name=f"{base} of {venue}",
    )  # fmt: skip
    return structs.replace(made, **fields)


async def put(feed: Feed, *rows: Instrument, now: int = NOW) -> None:
    store = InstrumentStore(feed.redis, feed.keys)
    for venue in {each.venue for each in rows}:
        await store.store(venue, [each for each in rows if each.venue == venue], ["1m", "1h"], now, lambda _: True)


async def items(gateway: Gateway, query: str) -> list[tuple[str, str]]:
    code, body = await gateway.get(f"/v1/instruments?{query}")
    assert code == 200
    return [(each["venue"], each["symbol"]) for each in body["items"]]


async def test_every_row_is_on_one_page(feed: Feed, gateway: Gateway) -> None:
    rows = [row(f"C{number:04}", venue=venue) for number in range(2500) for venue in ("binance", "okx")]
    await put(feed, *rows)
    seen: list[tuple[str, str]] = []
    cursor = ""
    while True:
        code, body = await gateway.get(f"/v1/instruments?limit=1000{cursor}")
        assert (code, body["total"]) == (200, 5000)
        seen += [(each["symbol"], each["venue"]) for each in body["items"]]
        if body["next"] is None:
            break
        cursor = f"&cursor={body['next']}"
    assert seen == sorted((each.symbol, each.venue) for each in rows)
    assert await items(gateway, "text=c0077&venue=okx") == [("okx", "C0077-USDT")]
    assert await items(gateway, "text=c0077%20of%20bin") == [("binance", "C0077-USDT")]
    assert await items(gateway, "base=c2499&quote=usdt&kind=spot") == [
        ("binance", "C2499-USDT"),
        ("okx", "C2499-USDT"),
    ]


async def test_what_changes_is_seen_at_once_and_what_left_by_its_status(feed: Feed, gateway: Gateway) -> None:
    rows = [row(base) for base in ("A", "B", "C", "D")]
    await put(feed, *rows)
    assert len(await items(gateway, "limit=10")) == 4
    await put(feed, *rows[1:], row("E"), now=NOW + 5)
    assert await items(gateway, "limit=10") == [("binance", f"{base}-USDT") for base in "BCDE"]
    assert await items(gateway, "status=delisted") == [("binance", "A-USDT")]
    _, body = await gateway.get("/v1/instruments?text=-usdt&limit=1")
    assert (body["items"][0]["first_seen"], body["items"][0]["last_seen"]) == (NOW, NOW + 5)
    _, body = await gateway.get("/v1/instruments/A-USDT")
    (left,) = body["instruments"]
    assert (left["status"], left["first_seen"], left["last_seen"]) == ("delisted", NOW, NOW)


async def test_one_asset_across_venues(feed: Feed, gateway: Gateway) -> None:
    perpetual = structs.replace(row("BTC", venue="okx"), symbol="BTC-USDT-PERP", kind="perpetual", venue_symbol="swap")
    kraken = row("BTC", "USD", "kraken", venue_symbol="XBT/USD")
    await put(feed, row("BTC"), row("BTC", venue="okx"), perpetual, kraken, row("ETH"), row("ETH", "BTC"))
    code, body = await gateway.get("/v1/assets/btc")
    assert (code, body["asset"], body["venues"], body["total"]) == (200, "BTC", ["binance", "kraken", "okx"], 3)
    assert body["symbols"] == [
        {"symbol": "BTC-USD", "kind": "spot", "quote": "USD", "venues": ["kraken"]},
        {"symbol": "BTC-USDT", "kind": "spot", "quote": "USDT", "venues": ["binance", "okx"]},
        {"symbol": "BTC-USDT-PERP", "kind": "perpetual", "quote": "USDT", "venues": ["okx"]},
    ]
    assert (await gateway.get("/v1/assets/XBT"))[1] == body
    _, page = await gateway.get("/v1/assets/BTC?limit=2")
    assert (len(page["symbols"]), page["next"]) == (2, "BTC-USDT")
    _, page = await gateway.get(f"/v1/assets/BTC?limit=2&cursor={page['next']}")
    assert ([each["symbol"] for each in page["symbols"]], page["next"]) == (["BTC-USDT-PERP"], None)
    _, page = await gateway.get("/v1/assets/BTC?kind=perpetual")
    assert page["total"] == 1
    assert await items(gateway, "base=xbt&venue=kraken") == [("kraken", "BTC-USD")]
    code, body = await gateway.get("/v1/assets/NOSUCH")
    assert (code, body["code"]) == (404, "unknown_asset")


async def test_venues_say_how_their_list_was_and_which_candles_they_have(feed: Feed, gateway: Gateway) -> None:
    await put(feed, row("BTC"), now=time.time_ns())
    await InstrumentStore(feed.redis, feed.keys).failed("binance", "HTTP 503", NOW)
    _, body = await gateway.get("/v1/venues/binance")
    known = body["instruments"]
    assert (known["count"], known["intervals"], known["error"], known["error_ts"]) == (1, ["1m", "1h"], "HTTP 503", NOW)
    _, body = await gateway.get("/v1/venues")
    assert [venue["instruments"]["count"] for venue in body["venues"] if venue["venue"] == "binance"] == [1]
