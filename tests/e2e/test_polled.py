"""A polled venue end to end: recorded answers over HTTP, the feed's process, a real Redis, the gateway."""

import json
from pathlib import Path
from typing import Any

from tests.e2e.stack import ROOT, Stack, until

SESSION = ROOT / "tests" / "data" / "sessions" / "alphavantage" / "alpha_vantage_2017-2020"
KEY = "QUITE-SECRET-KEY-0123"


def hub_of(folder: Path, redis_url: str, symbols: list[str], plan: str) -> Stack:
    hub = Stack(folder, redis_url, [SESSION], symbols, venue="alphavantage")
    hub.env |= {
        "ALPHAVANTAGE_API_KEY": KEY,
        "TICKWIRE_VENUES__ALPHAVANTAGE__PLAN": f'"{plan}"',
        "TICKWIRE_LOG__LEVEL": '"debug"',
    }
    return hub


async def venue_of(hub: Stack) -> dict[str, Any]:
    body = await hub.get(f"{hub.rest}/v1/venues/alphavantage")
    return dict(json.loads(body)) if body is not None else {}


async def used(hub: Stack) -> int:
    venue = await venue_of(hub)
    if not venue or venue["feed"] is None:
        return 0
    return int(venue["feed"]["budget"][-1]["used"] or 0)


async def test_quotes_rates_and_candles_and_a_quota_that_survives(tmp_path: Path, redis_url: str) -> None:
    async with hub_of(tmp_path, redis_url, ["BTC-CNY", "MSFT"], "free") as hub:
        await hub.venue()
        # SYMBOL_SEARCH for MSFT was not recorded: it is known from the list that somebody fetched before.
        row = {"venue": "alphavantage", "venue_symbol": "MSFT", "symbol": "MSFT", "kind": "equity", "base": "MSFT",
               "quote": "USD", "name": "Microsoft"}  # fmt: skip
        await hub.redis.hset("md:instruments:alphavantage", "MSFT", json.dumps(row))
        await hub.gateway()
        feed = await hub.feed(wait=False)

        async def priced() -> bool:
            body = await hub.get(f"{hub.rest}/v1/tickers?symbols=MSFT,BTC-CNY")
            found = json.loads(body)["items"] if body is not None else []
            prices = {item["symbol"]: ticker["last_price"] for item in found for ticker in item["tickers"]}
            return prices == {"MSFT": 112.13, "BTC-CNY": 109631.430607}

        await until(priced, "both are priced")

        async def refused() -> bool:  # no daily bars were recorded: the venue answers with an error
            return b"Invalid API call" in (await hub.redis.get("md:status:alphavantage:MSFT") or b"")

        await until(refused, "what the venue refuses is said")

        async def three_used() -> bool:
            return await used(hub) == 3

        await until(three_used, "the budget says what is used")
        venue = await venue_of(hub)
        assert venue["state"] == "live"
        assert (venue["feed"]["plan"], venue["feed"]["budget"][-1]["limit"]) == ("free", 25)
        assert venue["feed"]["pace"] > 100
        before = await hub.epoch()
        assert await feed.end(9) != 0
        again = await hub.feed(wait=False)

        async def three_or_more() -> bool:
            return await hub.epoch() > before and await used(hub) >= 3 and (await venue_of(hub))["state"] == "live"

        await until(three_or_more, "the feed is back and knows what was used")
        # Prices are fresh by the plan's schedule: only what was refused may be asked again.
        assert await used(hub) <= 4
        assert await again.end() == 0
        assert KEY not in "".join(part.logged() for part in hub.parts)
        keys = [key async for key in hub.redis.scan_iter("*")]
        assert not any(KEY.encode() in key for key in keys)


async def test_candles_of_a_paid_plan(tmp_path: Path, redis_url: str) -> None:
    async with hub_of(tmp_path, redis_url, ["MSFT"], "1200") as hub:
        hub.env["TICKWIRE_CANDLES__INTERVALS"] = '["1m"]'
        await hub.venue()
        row = {"venue": "alphavantage", "venue_symbol": "MSFT", "symbol": "MSFT", "kind": "equity", "base": "MSFT",
               "quote": "USD"}  # fmt: skip
        await hub.redis.hset("md:instruments:alphavantage", "MSFT", json.dumps(row))
        log = "{md:candle.1m:alphavantage:MSFT}:log"

        async def all_candles() -> bool:
            return await hub.redis.xlen(log) == 100

        feed = await hub.feed(wait=False)
        await until(all_candles, "every candle is in the log")
        assert await feed.end() == 0
        await hub.feed(wait=False)

        async def live() -> bool:
            state = json.loads(await hub.redis.get("md:status:alphavantage:*") or b"{}")
            return bool(state.get("state") == "live")

        await until(live, "the feed answers again")
        entries: Any = await hub.redis.xrange(log)
        told = [json.loads(fields[b"payload"]) for _, fields in entries]
        assert len(told) == len({(candle["start"], candle["revision"]) for candle in told}) == 100
        assert {candle["source"] for candle in told} == {"venue"}


async def test_without_its_key_it_does_not_start(tmp_path: Path, redis_url: str) -> None:
    async with hub_of(tmp_path, redis_url, ["MSFT"], "free") as hub:
        del hub.env["ALPHAVANTAGE_API_KEY"]
        feed = await hub.feed(wait=False)
        assert feed.process is not None
        assert await feed.process.wait() == 2
        assert "needs the environment variable(s) ALPHAVANTAGE_API_KEY" in feed.logged()
