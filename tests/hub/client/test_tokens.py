"""Tokens: shown, refused with a clear error, and renewed by a callback when they end."""

import asyncio

import pytest

from hub.client import Client, Quote, Trade
from hub.errors import Refused
from tests.gateway.kit import Feed, gateway_on, quote, trade
from tests.gateway.tokens import SECRET, mint
from tests.hub.client.kit import TRADE, next_of

QUOTE = "quote:binance:BTC-USDT"
AUTH = {"auth": {"secret": SECRET, "leeway_s": 0.0}}


async def test_a_token_opens_what_it_names_and_nothing_else(redis_url: str) -> None:
    async with Feed(redis_url) as feed, gateway_on(redis_url, **AUTH) as gateway:
        await feed.publish(quote(1.0), trade(1))
        async with Client(gateway.http, token=mint("quote:*:*")) as hub:
            assert (await hub.quotes("BTC-USDT"))[0].bid == 1.0
            async with hub.stream(QUOTE) as stream:
                assert (await next_of(stream, Quote)).bid == 1.0
            with pytest.raises(Refused, match="does not allow"):
                await anext(hub.stream(TRADE))
            with pytest.raises(Refused, match="does not allow"):
                await hub.trades("BTC-USDT")


@pytest.mark.parametrize("wrong", [None, "nonsense", "two words", mint(ttl=-60)])
async def test_a_wrong_token_is_a_clear_error(redis_url: str, wrong: str | None) -> None:
    async with gateway_on(redis_url, **AUTH) as gateway, Client(gateway.http, token=wrong) as hub:
        with pytest.raises(Refused) as caught:
            await hub.quotes()
        assert caught.value.status == 401
        with pytest.raises(Refused) as caught:
            await anext(hub.stream(QUOTE))
        assert caught.value.status == 401


async def test_the_callback_renews_a_token_that_ends(redis_url: str) -> None:
    asked = 0

    async def fresh() -> str:
        nonlocal asked
        asked += 1
        return mint(ttl=2)

    async with Feed(redis_url) as feed, gateway_on(redis_url, **AUTH) as gateway:
        await feed.publish(trade(1))
        async with Client(gateway.http, token=fresh) as hub, hub.stream(TRADE) as stream:
            number = 1
            seen = [await next_of(stream, Trade)]
            async with asyncio.timeout(30):
                while asked < 3:
                    number += 1
                    await feed.publish(trade(number))
                    seen.append(await next_of(stream, Trade))
                    await asyncio.sleep(0.05)
            assert [item.trade_id for item in seen] == [str(n) for n in range(1, number + 1)]


async def test_a_token_that_ends_without_a_callback_is_an_error(redis_url: str) -> None:
    async with Feed(redis_url) as feed, gateway_on(redis_url, **AUTH) as gateway:
        await feed.publish(quote(1.0))
        async with Client(gateway.http, token=mint(ttl=2)) as hub:
            stream = hub.stream(QUOTE)
            await next_of(stream, Quote)
            with pytest.raises(Refused, match="expired"):
                async with asyncio.timeout(30):
                    while True:
                        await anext(stream)
