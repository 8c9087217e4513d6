"""The registry: which adapter a configuration names, and what it wants from the environment."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from feeds.registry import ADAPTERS, adapter_of, credentials_of
from feeds.rest import LocalLimiter, RestClient
from feeds.venues.alpaca import Alpaca, AlpacaSip
from feeds.venues.coinbase import Coinbase, CoinbaseExchange
from hub.errors import ConfigError


def test_a_venue_has_a_default_feed_and_may_have_others() -> None:
    assert adapter_of("coinbase") is Coinbase
    assert adapter_of("coinbase", "exchange") is CoinbaseExchange
    assert adapter_of("alpaca", "sip") is AlpacaSip


def test_names_that_do_not_exist_are_answered_by_those_that_do() -> None:
    with pytest.raises(ConfigError, match="known: alpaca, alphavantage, binance"):
        adapter_of("nowhere")
    with pytest.raises(ConfigError, match=r"venues\.coinbase\.feed = 'pro' does not exist; known: exchange"):
        adapter_of("coinbase", "pro")
    with pytest.raises(ConfigError, match="none but the default"):
        adapter_of("binance", "other")


def test_only_venues_with_keys_want_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALPACA_KEY_ID", raising=False)
    monkeypatch.setenv("ALPACA_SECRET_KEY", "hush")
    with pytest.raises(ConfigError, match="ALPACA_KEY_ID") as caught:
        credentials_of(Alpaca)
    assert "hush" not in str(caught.value)
    assert {name for name, adapter in ADAPTERS.items() if adapter.credentials_env} == {"alpaca"}


async def test_keys_go_along_with_every_rest_request() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers["APCA-API-KEY-ID"] + request.headers["APCA-API-SECRET-KEY"])
        return web.Response(body=b"[]")

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", handler)
    async with TestServer(app) as server:
        rest = RestClient(Alpaca, LocalLimiter(100, 1), str(server.make_url("")), ("key", "secret"))
        for fetch in Alpaca.instruments_fetches():
            await rest.fetch(fetch)
        await rest.close()
    assert seen and set(seen) == {"keysecret"}
