"""Which venues there are: one line each."""

import os

from feeds.adapter import Adapter
from feeds.poller import Poller
from feeds.venues.alpaca import Alpaca, AlpacaSip
from feeds.venues.alpaca_rest import AlpacaRest
from feeds.venues.alphavantage import AlphaVantage
from feeds.venues.binance import Binance
from feeds.venues.binance_futures import BinanceFutures
from feeds.venues.bybit import Bybit
from feeds.venues.coinbase import Coinbase, CoinbaseExchange
from feeds.venues.coingecko import CoinGecko, CoinGeckoPrices, CoinGeckoTickers
from feeds.venues.deribit import Deribit
from feeds.venues.htx import Htx
from feeds.venues.hyperliquid import Hyperliquid
from feeds.venues.kraken import Kraken
from feeds.venues.okx import Okx
from hub.errors import ConfigError

__all__ = ["ADAPTERS", "FEEDS", "POLLERS", "VENUES", "adapter_of", "credentials_of"]

ADAPTERS: dict[str, type[Adapter]] = {
    "alpaca": Alpaca,
    "binance": Binance,
    "binance_futures": BinanceFutures,
    "bybit": Bybit,
    "coinbase": Coinbase,
    "deribit": Deribit,
    "htx": Htx,
    "hyperliquid": Hyperliquid,
    "kraken": Kraken,
    "okx": Okx,
}

#: Venues without a stream.
POLLERS: dict[str, type[Poller]] = {
    "alphavantage": AlphaVantage,
    "coingecko": CoinGecko,
}

VENUES: dict[str, type[Adapter]] = {**ADAPTERS, **POLLERS}

#: venue -> name in `venues.<venue>.feed` -> adapter, where a venue offers the same data by another feed or plan
FEEDS: dict[str, dict[str, type[Adapter]]] = {
    "coinbase": {"exchange": CoinbaseExchange},
    "alpaca": {"sip": AlpacaSip, "rest": AlpacaRest},
    "coingecko": {"prices": CoinGeckoPrices, "tickers": CoinGeckoTickers},
}


def adapter_of(venue: str, feed: str = "", plan: str = "") -> type[Adapter]:
    """Return the adapter class of `venue`, of another of its feeds or plans; ConfigError naming what exists."""
    adapter = _feed_of(venue, feed)
    if issubclass(adapter, Poller):
        return adapter.on(plan)
    if plan:
        raise ConfigError(f"venues.{venue}.plan = {plan!r}: plans are for what is polled, and this is a stream")
    return adapter


def _feed_of(venue: str, feed: str) -> type[Adapter]:
    if venue not in VENUES:
        raise ConfigError(f"there is no venue {venue!r}; known: {', '.join(sorted(VENUES))}")
    if not feed:
        return VENUES[venue]
    feeds = FEEDS.get(venue, {})
    if feed not in feeds:
        known = ", ".join(sorted(feeds)) or "none but the default"
        raise ConfigError(f"venues.{venue}.feed = {feed!r} does not exist; known: {known}")
    return feeds[feed]


def credentials_of(adapter: type[Adapter]) -> tuple[str, ...]:
    """Return the venue's keys from the environment; ConfigError naming those that are missing, never their values."""
    missing = [name for name in adapter.credentials_env if not os.environ.get(name)]
    if missing:
        raise ConfigError(f"venue {adapter.venue} needs the environment variable(s) {', '.join(missing)}")
    return tuple(os.environ[name] for name in adapter.credentials_env)
