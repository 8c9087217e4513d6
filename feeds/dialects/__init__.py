"""The venues whose server side the replay server can speak: one line each."""

from feeds.dialects.alpaca import AlpacaDialect
from feeds.dialects.alphavantage import AlphaVantageDialect
from feeds.dialects.base import Dialect
from feeds.dialects.binance import BinanceDialect
from feeds.dialects.binance_futures import BinanceFuturesDialect
from feeds.dialects.bybit import BybitDialect
from feeds.dialects.coinbase import CoinbaseDialect
from feeds.dialects.coingecko import CoinGeckoDialect
from feeds.dialects.deribit import DeribitDialect
from feeds.dialects.htx import HtxDialect
from feeds.dialects.hyperliquid import HyperliquidDialect
from feeds.dialects.kraken import KrakenDialect
from feeds.dialects.okx import OkxDialect
from hub.errors import ConfigError

__all__ = ["DIALECTS", "dialect_of"]

DIALECTS: dict[str, type[Dialect]] = {
    "alpaca": AlpacaDialect,
    "alphavantage": AlphaVantageDialect,
    "binance": BinanceDialect,
    "coinbase": CoinbaseDialect,
    "coingecko": CoinGeckoDialect,
    "binance_futures": BinanceFuturesDialect,
    "deribit": DeribitDialect,
    "okx": OkxDialect,
    "hyperliquid": HyperliquidDialect,
    "kraken": KrakenDialect,
    "htx": HtxDialect,
    "bybit": BybitDialect,
}


def dialect_of(venue: str) -> type[Dialect]:
    """Return the dialect class of `venue`; ConfigError naming those there are."""
    try:
        return DIALECTS[venue]
    except KeyError:
        raise ConfigError(f"no replay of venue {venue!r}; known: {', '.join(sorted(DIALECTS))}") from None
