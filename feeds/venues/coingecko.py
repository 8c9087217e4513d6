"""CoinGecko: prices of coins over all exchanges. Polled; see feeds/poller.py.

Documentation: https://docs.coingecko.com/reference/introduction

Quirks:
- The key of a coin is its id; symbols are not unique. `/coins/list` has all coins, the first page of `/coins/markets`
  the largest: where several coins have one symbol, the one on that page has the plain name (`BTC-USD`), and each other
  is named by its id.
- Unknown ids are left out of an answer without a word; a space after a comma loses what follows.
- `ohlc` has no volume, and its times are the ends of candles; the last one is still open. How long they are follows
  from the days that are asked for.
- Markets give no price of 24 h ago; their volume is in the quote currency.
- 429 may come with HTTP status 200, errors in half a dozen shapes. Failed calls count.
- Answers are cached for 30 to 120 s: asking more often brings the same again.
"""

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, ClassVar, Final
from urllib.parse import parse_qsl, urlsplit

import msgspec
from msgspec import Struct

from feeds.adapter import Event, Fetch, Refusal
from feeds.poller import Asked, Poller, batches
from feeds.quota import Plan, Quota
from feeds.rfc3339 import parse_ns
from feeds.schedule import Job
from feeds.venue_candles import venue_candle
from hub.errors import WireError
from hub.instruments import Instrument, InstrumentTable, canonical_asset, canonical_symbol
from hub.intervals import NS_PER_MS, NS_PER_S, interval_ns
from hub.model import Price, Size, Ticker

__all__ = ["CoinGecko", "CoinGeckoPrices", "CoinGeckoTickers"]

Events = list[Event | Fetch]

#: interval -> days to ask for: https://docs.coingecko.com/reference/coins-id-ohlc
_DAYS: Final = {"30m": "1", "4h": "14"}
_INTERVALS: Final = {"1": "30m", "2": "30m", "7": "4h", "14": "4h", "30": "4h"}
_BATCH: Final = 200
_CANDLES_S: Final = 600.0
_PAUSE_S: Final = 60.0
#: error_code: a key that is missing, or of the other host; an endpoint that the plan does not have.
_KEY_ERRORS: Final = frozenset({401, 10002, 10010, 10011})
_UNREADABLE: Final = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)


class Coin(Struct, gc=False):
    """`{"id":"bitcoin","symbol":"btc","name":"Bitcoin"}`; a row of markets has `current_price` as well."""

    id: str
    symbol: str
    name: str | None = None
    market_cap_rank: int | msgspec.UnsetType | None = msgspec.UNSET


class Market(Struct, gc=False):
    """A row of `/coins/markets`: money in the asked-for currency, volume too."""

    id: str
    current_price: Price | None = None
    high_24h: Price | None = None
    low_24h: Price | None = None
    total_volume: Size | None = None
    last_updated: str | None = None


class Listed(Struct, gc=False):
    """A row of `/coins/{id}/tickers`: one exchange's price. `volume` in the base."""

    base: str
    target: str
    coin_id: str = ""
    last: Price | None = None
    volume: Size | None = None
    converted_volume: dict[str, float] = {}
    last_traded_at: str | None = None
    is_anomaly: bool = False
    is_stale: bool = False


class _Tickers(Struct, gc=False):
    tickers: list[Listed]


_coins = msgspec.json.Decoder(list[Coin]).decode
_markets = msgspec.json.Decoder(list[Market]).decode
_prices = msgspec.json.Decoder(dict[str, dict[str, float | None]]).decode
_tickers = msgspec.json.Decoder(_Tickers).decode
_ohlc = msgspec.json.Decoder(list[tuple[int, Price, Price, Price, Price]]).decode
_any = msgspec.json.Decoder(Any).decode


class CoinGecko(Poller):
    """Markets of coins; see feeds/poller.py."""

    venue = "coingecko"
    rest_url = "https://api.coingecko.com"
    # A minute of the demo key is 30 calls in older documents and 100 in newer ones. A month's are on the price list.
    plans: ClassVar[dict[str, Plan]] = {
        "public": Plan(calls=5, window_s=60),
        "demo": Plan(
            calls=30, window_s=60, quotas=(Quota(10_000, "month"),), credentials_env=("COINGECKO_API_KEY",)
        ),
        **{
            name: Plan(
                calls=calls, window_s=60, quotas=(Quota(month, "month"),), credentials_env=("COINGECKO_API_KEY",),
                rest_url="https://pro-api.coingecko.com",
            )
            for name, calls, month in (("analyst", 500, 500_000), ("lite", 500, 2_000_000), ("pro", 1000, 5_000_000))
        },
    }  # fmt: skip
    channels: ClassVar[dict[str, str]] = {"ticker": "markets", "candle": "ohlc"}
    default_symbols: ClassVar[tuple[str, ...]] = ("BTC-USD", "ETH-USD", "SOL-USD")
    candle_intervals = frozenset(_DAYS)
    currencies: ClassVar[tuple[str, ...]] = ("usd", "eur", "gbp", "jpy", "btc", "eth")
    """what coins on the page of the largest are quoted in; all others in the first"""

    @classmethod
    def rest_headers(cls, credentials: Sequence[str]) -> dict[str, str]:
        name = "x-cg-pro-api-key" if "pro-api" in cls.plan.rest_url else "x-cg-demo-api-key"
        return {name: credentials[0]} if credentials else {}

    @classmethod
    def refusal(cls, status: int, body: bytes) -> Refusal | None:
        try:
            answer = _any(body)
        except (ValueError, RecursionError):
            return None
        if not isinstance(answer, dict):
            return None
        error = answer.get("error")
        found = error.get("status") if isinstance(error, dict) else answer.get("status")
        code, text = (found.get("error_code"), str(found.get("error_message"))) if isinstance(found, dict) else (0, "")
        if code == 429:
            return Refusal(text, _PAUSE_S)
        if status == 401 or code in _KEY_ERRORS:
            return Refusal(f"the key is refused: {text or error}", venue_wide=True)
        if code or (isinstance(error, str) and status in (200, 404, 422)):
            return Refusal(text or str(error))
        return None

    # instruments

    @classmethod
    def instruments_fetches(cls) -> list[Fetch]:
        largest = (("vs_currency", cls.currencies[0]), ("order", "market_cap_desc"), ("per_page", "250"), ("page", "1"))
        return [
            Fetch(resource="markets", path="/api/v3/coins/markets", params=largest),
            Fetch(resource="list", path="/api/v3/coins/list"),
        ]

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        try:
            coins = _coins(body)
        except (ValueError, RecursionError) as error:
            raise WireError(cls.venue, f"coins: {error}") from error
        if any(coin.market_cap_rank is not msgspec.UNSET for coin in coins):
            return [cls._row(coin.id, coin.symbol, quote, coin.name) for coin in coins for quote in cls.currencies]
        seen: dict[str, int] = {}
        for coin in coins:
            seen[coin.symbol.upper()] = seen.get(coin.symbol.upper(), 0) + 1
        first = cls.currencies[0]
        return [
            cls._row(coin.id, coin.symbol if seen[coin.symbol.upper()] == 1 else coin.id, first, coin.name)
            for coin in coins
            if coin.id and coin.symbol
        ]

    @classmethod
    def _row(cls, coin: str, base: str, quote: str, name: str | None) -> Instrument:
        return Instrument(
            venue=cls.venue, venue_symbol=f"{coin}/{quote}", symbol=canonical_symbol("spot", base, quote), kind="spot",
            base=canonical_asset(base), quote=canonical_asset(quote), name=name,
        )  # fmt: skip

    @classmethod
    def unlisted(cls, venue_symbol: str, known: InstrumentTable) -> Instrument:
        coin, _, quote = venue_symbol.partition("/")
        own = (row for row in known if _parts(row)[0] == coin)
        row = next(own, None)
        base, name = (row.base, row.name) if row is not None else (coin, None)
        return cls._row(coin, base, quote or cls.currencies[0], name)

    # requests

    @classmethod
    def jobs(
        cls, rows: Sequence[Instrument], kinds: Collection[str], intervals: Sequence[str], period_s: float
    ) -> list[Job]:
        made = cls._price_jobs(rows, period_s) if "ticker" in kinds else []
        for row in rows if "candle" in kinds else ():
            for interval in intervals:
                make = partial(_ohlc_fetch, row, interval)
                made.append(Job(make, (f"candle.{interval}",), (row,), max(period_s, _CANDLES_S)))
        return made

    @classmethod
    def _price_jobs(cls, rows: Sequence[Instrument], period_s: float) -> list[Job]:
        quotes: dict[str, list[Instrument]] = {}
        for row in rows:
            quotes.setdefault(_parts(row)[1], []).append(row)
        return [
            Job(partial(_markets_fetch, quote, batch), ("ticker",), batch, period_s)
            for quote, own in quotes.items()
            for batch in batches(own, _BATCH)
        ]

    @classmethod
    def asked(cls, url: str) -> Asked:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        path = parts.path.split("/v3/")[-1].strip("/")
        quotes = query.get("vs_currencies", query.get("vs_currency", "")).split(",")
        ids = [name for name in query.get("ids", "").split(",") if name]
        match path.split("/"):
            case ["coins", "markets"]:
                return Asked("markets", tuple(f"{name}/{quotes[0]}" for name in ids))
            case ["simple", "price"]:
                return Asked("price", tuple(f"{name}/{quote}" for name in ids for quote in quotes if quote))
            case ["coins", coin, "ohlc"]:
                return Asked("ohlc", (f"{coin}/{quotes[0]}",), _INTERVALS.get(query.get("days", ""), ""))
            case ["coins", coin, "tickers"]:
                return Asked("tickers", tuple(f"{coin}/{quote}" for quote in CoinGeckoTickers.currencies))
            case ["coins", "list"]:
                return Asked("list")
        return Asked(path or "nothing")

    # answers

    def snapshot(self, fetch: Fetch, body: bytes, ts_recv: int) -> Events:
        read = {"markets": self._markets, "price": self._prices, "tickers": self._tickers, "ohlc": self._candles}
        try:
            return read[fetch.resource](fetch, body, ts_recv)
        except _UNREADABLE as error:
            raise WireError(self.venue, f"{fetch.resource}: {type(error).__name__} {str(error)[:200]}") from error

    def _markets(self, fetch: Fetch, body: bytes, ts_recv: int) -> Events:
        rows = {_parts(row)[0]: row for row in fetch.instruments}
        found = [(rows[market.id], market) for market in _markets(body) if market.id in rows]
        return [
            self._ticker(
                row.symbol, parse_ns(m.last_updated) if m.last_updated else None, ts_recv, m.current_price,
                m.high_24h, m.low_24h, None, m.total_volume,
            )
            for row, m in found
        ]  # fmt: skip

    def _prices(self, fetch: Fetch, body: bytes, ts_recv: int) -> Events:
        told = _prices(body)
        events: Events = []
        for row in fetch.instruments:
            coin, quote = _parts(row)
            said = told.get(coin, {})
            if said.get(quote) is None:
                continue
            at = said.get("last_updated_at")
            volume = said.get(f"{quote}_24h_vol")
            ts_event = int(at) * NS_PER_S if at is not None else None
            events.append(self._ticker(row.symbol, ts_event, ts_recv, said[quote], None, None, None, volume))
        return events

    def _tickers(self, fetch: Fetch, body: bytes, ts_recv: int) -> Events:
        """Tell of each pair the exchange with the largest volume."""
        good = [m for m in _tickers(body).tickers if not m.is_anomaly and not m.is_stale and m.last is not None]
        events: Events = []
        for row in fetch.instruments:
            coin, quote = _parts(row)
            own = [m for m in good if m.target.lower() == quote and m.coin_id in ("", coin)]
            if own:
                best = max(own, key=lambda m: m.converted_volume.get("usd", 0.0))
                at = parse_ns(best.last_traded_at) if best.last_traded_at else None
                events.append(self._ticker(row.symbol, at, ts_recv, best.last, None, None, best.volume, None))
        return events

    def _ticker(
        self, symbol: str, at: int | None, ts_recv: int, last: float | None, high: float | None, low: float | None,
        volume: float | None, quote_volume: float | None,
    ) -> Ticker:  # fmt: skip
        return Ticker(
            self.venue, symbol, "", at, ts_recv, 0, last_price=last, open_price=None, high_price=high, low_price=low,
            volume=volume, quote_volume=quote_volume, bid_price=None, ask_price=None,
        )  # fmt: skip

    def _candles(self, fetch: Fetch, body: bytes, ts_recv: int) -> Events:
        (row,) = fetch.instruments
        length = interval_ns(fetch.interval)
        closed = [candle for candle in _ohlc(body) if candle[0] * NS_PER_MS <= ts_recv]
        return [
            venue_candle(row, fetch.interval, end * NS_PER_MS - length, prices, ts_recv)
            for end, prices in sorted((candle[0], candle[1:]) for candle in closed)
        ]


class CoinGeckoPrices(CoinGecko):
    """Last prices alone: every coin and every currency in one call, for plans with few of them."""

    channels: ClassVar[dict[str, str]] = {"ticker": "price"}

    @classmethod
    def jobs(
        cls, rows: Sequence[Instrument], kinds: Collection[str], intervals: Sequence[str], period_s: float
    ) -> list[Job]:
        made = [Job(partial(_price_fetch, batch), ("ticker",), batch, period_s) for batch in batches(rows, _BATCH)]
        return made if "ticker" in kinds else []


class CoinGeckoTickers(CoinGecko):
    """Pairs as exchanges trade them, `BTC-USDT`: of each the one with the largest volume."""

    channels: ClassVar[dict[str, str]] = {"ticker": "tickers"}
    default_symbols: ClassVar[tuple[str, ...]] = ("BTC-USDT", "ETH-USDT")
    currencies: ClassVar[tuple[str, ...]] = ("usdt", "usdc", "usd", "eur", "btc", "eth")

    @classmethod
    def instruments_fetches(cls) -> list[Fetch]:
        return CoinGecko.instruments_fetches()

    @classmethod
    def jobs(
        cls, rows: Sequence[Instrument], kinds: Collection[str], intervals: Sequence[str], period_s: float
    ) -> list[Job]:
        coins: dict[str, list[Instrument]] = {}
        for row in rows if "ticker" in kinds else ():
            coins.setdefault(_parts(row)[0], []).append(row)
        return [
            Job(partial(_tickers_fetch, coin, tuple(own)), ("ticker",), own, period_s) for coin, own in coins.items()
        ]


def _parts(row: Instrument) -> tuple[str, str]:
    """Return the coin's id and the currency."""
    coin, _, quote = row.venue_symbol.rpartition("/")
    return coin, quote


def _markets_fetch(quote: str, rows: tuple[Instrument, ...], now: int) -> Fetch:
    ids = ",".join(_parts(row)[0] for row in rows)
    params = (("vs_currency", quote), ("ids", ids), ("per_page", "250"), ("precision", "full"))
    return Fetch(resource="markets", path="/api/v3/coins/markets", params=params, instruments=rows)


def _price_fetch(rows: tuple[Instrument, ...], now: int) -> Fetch:
    ids, quotes = (",".join(dict.fromkeys(_parts(row)[at] for row in rows)) for at in (0, 1))
    flags = tuple((f"include_{name}", "true") for name in ("24hr_vol", "last_updated_at"))
    params = (("vs_currencies", quotes), ("ids", ids), *flags, ("precision", "full"))
    return Fetch(resource="price", path="/api/v3/simple/price", params=params, instruments=rows)


def _tickers_fetch(coin: str, rows: tuple[Instrument, ...], now: int) -> Fetch:
    return Fetch(resource="tickers", path=f"/api/v3/coins/{coin}/tickers", instrument=rows[0], instruments=rows)


def _ohlc_fetch(row: Instrument, interval: str, now: int) -> Fetch:
    coin, quote = _parts(row)
    params = (("vs_currency", quote), ("days", _DAYS[interval]), ("precision", "full"))
    return Fetch(
        resource="ohlc", path=f"/api/v3/coins/{coin}/ohlc", params=params, instrument=row, instruments=(row,),
        interval=interval,
    )  # fmt: skip
