"""Venue `all` over REST: consolidated quotes and books beside the venues' own."""

from typing import Any

from hub.model import Depth, Quote
from tests.e2e.stack import until
from tests.gateway.kit import SYMBOL, Feed, Gateway, book, head, quote, trade

FIELDS = {
    "bid_venue", "ask_venue", "mid", "spread_bps", "microprice", "imbalance", "imbalance_n", "market", "venues",
    "analytics",
}  # fmt: skip


def consolidated(bid: float | None = 1.0) -> tuple[Quote, Depth]:
    return (
        Quote(
            **head("all", SYMBOL), bid=bid, bid_size=1.0, ask=3.0, ask_size=2.0, bid_venue="binance",
            ask_venue="kraken", mid=2.0, spread_bps=1e4, microprice=1.6, imbalance=-0.3, imbalance_n=None,
            market="normal", venues=["binance", "kraken"], analytics={"vwap_10s": 2.5, "ofi_10s": None},
        ),
        Depth(
            **head("all", SYMBOL), bids=[(1.0, 3.0), (0.5, 1.0)], asks=[(3.0, 2.0)],
            bid_venues=[{"binance": 1.0, "kraken": 2.0}, {"kraken": 1.0}], ask_venues=[{"kraken": 2.0}],
            venues=["binance", "kraken"],
        ),
    )  # fmt: skip


async def rows(gateway: Gateway, url: str, key: str) -> list[dict[str, Any]]:
    code, body = await gateway.get(url)
    assert code == 200
    found: list[dict[str, Any]] = body[key]
    return found


async def test_quotes_and_books_of_all(feed: Feed, gateway: Gateway, redis_url: str) -> None:
    await feed.publish(quote(1.0), trade(1), book([(9.0, 1.0)], [(10.0, 1.0)], "snapshot"))
    async with Feed(redis_url, "all") as every:
        await every.publish(*consolidated())

        async def known() -> bool:
            return len(await rows(gateway, "/v1/quotes/BTC-USDT", "quotes")) == 2

        await until(known, "venue all is known")
        first, second = await rows(gateway, "/v1/quotes/BTC-USDT", "quotes")
        assert (first["venue"], first["state"], first["bid_venue"], first["market"]) == (
            "all",
            "live",
            "binance",
            "normal",
        )
        assert (first["imbalance_n"], first["analytics"]) == (None, {"vwap_10s": 2.5, "ofi_10s": None})
        assert FIELDS < set(first)
        assert not FIELDS & set(second), "a venue's own quote is as it was"
        (only,) = await rows(gateway, "/v1/quotes/BTC-USDT?venue=all", "quotes")
        assert only["venues"] == ["binance", "kraken"]
        combined, own = await rows(gateway, "/v1/books/BTC-USDT?depth=1", "books")
        assert (combined["venue"], combined["bids"], combined["bid_venues"]) == (
            "all", [[1.0, 3.0]], [{"binance": 1.0, "kraken": 2.0}],
        )  # fmt: skip
        assert (own["venue"], own["bids"], "bid_venues" in own) == ("binance", [[9.0, 1.0]], False)
        (only,) = await rows(gateway, "/v1/books/BTC-USDT?venue=all", "books")
        assert (only["bids"], only["venues"]) == ([[1.0, 3.0], [0.5, 1.0]], ["binance", "kraken"])
        assert [v["venue"] for v in await rows(gateway, "/v1/trades/BTC-USDT", "venues")] == ["binance"]


async def test_without_a_consolidator_its_book_is_not_shown(feed: Feed, gateway: Gateway, redis_url: str) -> None:
    await feed.publish(quote(1.0), book([(9.0, 1.0)], [(10.0, 1.0)], "snapshot"))
    async with Feed(redis_url, "all") as every:
        await every.publish(*consolidated())
        await every.pulse(px=1)

        async def down() -> bool:
            found = await rows(gateway, "/v1/books/BTC-USDT", "books")
            return bool(found[0]["venue"] == "all" and found[0]["state"] == "down")

        await until(down, "venue all is down")
        combined, own = await rows(gateway, "/v1/books/BTC-USDT", "books")
        assert (combined["bids"], combined["venues"], own["state"]) == ([], [], "live")
