"""Alpha Vantage: US and foreign stocks, exchange rates of currencies and crypto. Polled; see feeds/poller.py.

Documentation: https://www.alphavantage.co/documentation/

Quirks:
- Every answer has HTTP status 200; errors are told by the keys `Note`, `Information` and `Error Message` at the top,
  and what they mean by their text. Some repeat the key.
- All numbers are text, keys are numbered (`05. price`), and the numbers differ from function to function.
- Times of bars are local to the time zone that the answer names, `US/Eastern` mostly, summer time included; a bar's
  time is its start. A day is the exchange's, so `candle.1d` begins at midnight there.
- GLOBAL_QUOTE has no bid, no ask and no time, only the day; open, high, low and volume are that day's.
- Bars within a day are for paid plans. The free one has 25 calls a day, one a second.
- One call is one symbol, so nothing can be asked for in batches.
"""

import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, Final
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from feeds.adapter import Event, Fetch, Refusal
from feeds.poller import Asked, Poller
from feeds.quota import Plan, Quota
from feeds.schedule import Job
from feeds.units import number
from feeds.venue_candles import venue_candle
from hub.errors import WireError
from hub.instruments import Instrument, InstrumentTable, canonical_asset, canonical_symbol
from hub.intervals import INTERVALS, NS_PER_S, interval_ns
from hub.model import Candle, Quote, Ticker

__all__ = ["AlphaVantage"]

Events = list[Event | Fetch]
Fields = dict[str, str]

_KEY_ENV: Final = ("ALPHAVANTAGE_API_KEY",)
_INTERVALS: Final = {"1m": "1min", "5m": "5min", "15m": "15min", "30m": "30min", "1h": "60min"}
_NAMES: Final = {venue: name for name, venue in _INTERVALS.items()}
_ERRORS: Final = ("Error Message", "Information", "Note")
#: Its name for New York's zone is one that newer zone databases leave out.
_ZONES: Final = {"US/Eastern": "America/New_York"}
_PAIR: Final = re.compile(r"([A-Z]{2,6})-([A-Z]{3})")
#: A day's calls are used up: when the venue's day ends is not documented, so it is asked again now and then.
_DAY_PAUSE_S: Final = 3600.0
_BURST_PAUSE_S: Final = 60.0

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _paid(calls: int) -> Plan:
    # One at a time and never in bursts: those are refused, whatever the plan.
    return Plan(calls=1, window_s=60 / calls, credentials_env=_KEY_ENV)


class AlphaVantage(Poller):
    """One key of Alpha Vantage; see feeds/poller.py."""

    venue = "alphavantage"
    rest_url = "https://www.alphavantage.co"
    plans: ClassVar[dict[str, Plan]] = {
        "free": Plan(
            calls=1, window_s=1.5, quotas=(Quota(25, "day"),), credentials_env=_KEY_ENV, without=frozenset({"intraday"})
        ),
        **{str(calls): _paid(calls) for calls in (75, 150, 300, 600, 1200)},
    }
    channels: ClassVar[dict[str, str]] = {"ticker": "GLOBAL_QUOTE", "quote": "CURRENCY_EXCHANGE_RATE", "candle": "bars"}
    default_symbols = ("AAPL", "MSFT", "EUR-USD", "BTC-USD")
    candle_intervals = frozenset({*_INTERVALS, "1d"})

    @classmethod
    def rest_query(cls, credentials: Sequence[str]) -> dict[str, str]:
        return {"apikey": credentials[0]} if credentials else {}

    @classmethod
    def refusal(cls, status: int, body: bytes) -> Refusal | None:
        try:
            top = _split(body)
        except (ValueError, RecursionError):
            return None
        text = next((bytes(top[key]).decode(errors="replace") for key in _ERRORS if key in top), None)
        if text is not None:
            return _refusal_of(text)
        if any(key.startswith("Global Quote") and bytes(value).strip() == b"{}" for key, value in top.items()):
            return Refusal("the venue does not know this symbol")
        return None

    # instruments

    @classmethod
    def instruments_fetches(cls) -> list[Fetch]:
        return [_fetch("list", None, function="LISTING_STATUS")]

    @classmethod
    def search(cls, symbol: str) -> Fetch | None:
        return _fetch("search", None, function="SYMBOL_SEARCH", keywords=symbol)

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        try:
            if body.lstrip()[:1] == b"{":
                matches: list[Fields] = _decode(body)["bestMatches"]
                found = [_plain(match) for match in matches]
                return [cls._equity(row["symbol"], row.get("name"), row.get("currency", "")) for row in found]
            rows = csv.DictReader(io.StringIO(body.decode()))
            if not {"symbol", "name"} <= set(rows.fieldnames or ()):
                raise ValueError("no list of symbols")
            active = [row for row in rows if row.get("status", "Active") == "Active" and row["symbol"]]
            return [cls._equity(row["symbol"], row["name"] or None, "USD") for row in active]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, csv.Error) as error:
            raise WireError(cls.venue, f"instruments: {error}") from error

    @classmethod
    def on_list(cls, instrument: Instrument) -> bool:
        # The list is that of the US; foreign exchanges are told by a suffix (TSCO.LON), pairs are on none.
        return instrument.kind == "equity" and "." not in instrument.venue_symbol

    @classmethod
    def _equity(cls, symbol: str, name: str | None, currency: str) -> Instrument:
        return Instrument(
            venue=cls.venue, venue_symbol=symbol, symbol=canonical_symbol("equity", symbol, ""), kind="equity",
            base=symbol, quote=currency, name=name,
        )  # fmt: skip

    @classmethod
    def named(cls, symbol: str) -> Instrument | None:
        match = _PAIR.fullmatch(symbol)
        return cls._rate(match[1], match[2]) if match is not None else None

    @classmethod
    def _rate(cls, base: str, quote: str) -> Instrument:
        return Instrument(
            venue=cls.venue, venue_symbol=f"{base}/{quote}", symbol=canonical_symbol("spot", base, quote), kind="spot",
            base=canonical_asset(base), quote=canonical_asset(quote),
        )  # fmt: skip

    @classmethod
    def unlisted(cls, venue_symbol: str, known: InstrumentTable) -> Instrument:
        base, slash, quote = venue_symbol.partition("/")
        return cls._rate(base, quote) if slash else cls._equity(venue_symbol, None, "USD")

    # requests

    @classmethod
    def jobs(
        cls, rows: Sequence[Instrument], kinds: Collection[str], intervals: Sequence[str], period_s: float
    ) -> list[Job]:
        made: list[Job] = []
        for row in rows:
            if row.kind == "spot":
                if {"ticker", "quote"} & set(kinds):
                    made.append(Job(partial(_rate_fetch, row), ("ticker", "quote"), (row,), period_s))
                continue
            if "ticker" in kinds:
                made.append(Job(partial(_quote_fetch, row), ("ticker",), (row,), period_s))
            for interval in intervals if "candle" in kinds else ():
                if interval == "1d" or "intraday" not in cls.plan.without:
                    pace_s = min(max(INTERVALS[interval], period_s), 6 * 3600)
                    made.append(Job(partial(_bars_fetch, row, interval), (f"candle.{interval}",), (row,), pace_s))
        return made

    @classmethod
    def asked(cls, url: str) -> Asked:
        query = dict(parse_qsl(urlsplit(url).query))
        function = query.get("function", "")
        if function == "CURRENCY_EXCHANGE_RATE":
            return Asked("rate", (f"{query.get('from_currency', '')}/{query.get('to_currency', '')}",))
        symbols = (query["symbol"],) if "symbol" in query else ()
        match function:
            case "GLOBAL_QUOTE":
                return Asked("quote", symbols)
            case "TIME_SERIES_INTRADAY":
                return Asked("intraday", symbols, _NAMES.get(query.get("interval", ""), ""))
            case "TIME_SERIES_DAILY":
                return Asked("daily", symbols, "1d")
            case "SYMBOL_SEARCH":
                return Asked("search")
            case "LISTING_STATUS":
                return Asked("list")
        return Asked(function.lower(), symbols)

    # answers

    def snapshot(self, fetch: Fetch, body: bytes, ts_recv: int) -> Events:
        read = {"quote": self._quote, "rate": self._rates, "intraday": self._bars, "daily": self._bars}[fetch.resource]
        try:
            return read(fetch, _decode(body), ts_recv)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise WireError(self.venue, f"{fetch.resource}: {type(error).__name__} {str(error)[:200]}") from error

    def _quote(self, fetch: Fetch, top: Mapping[str, Any], ts_recv: int) -> Events:
        row = _only(fetch)
        said = _plain(_section(top, "Global Quote"))
        return [
            Ticker(
                self.venue, row.symbol, "", None, ts_recv, 0, last_price=_needed(said["price"]),
                open_price=number(said.get("open")), high_price=number(said.get("high")),
                low_price=number(said.get("low")), volume=number(said.get("volume")), quote_volume=None,
                bid_price=None, ask_price=None,
            )
        ]  # fmt: skip

    def _rates(self, fetch: Fetch, top: Mapping[str, Any], ts_recv: int) -> Events:
        row = _only(fetch)
        said = _plain(_section(top, "Realtime Currency Exchange Rate"))
        at = _local_ns(said["Last Refreshed"], said["Time Zone"])
        bid, ask = (number(text) if (text := said.get(name)) != "-" else None for name in ("Bid Price", "Ask Price"))
        ticker = Ticker(
            self.venue, row.symbol, "", at, ts_recv, 0, last_price=_needed(said["Exchange Rate"]), open_price=None,
            high_price=None, low_price=None, volume=None, quote_volume=None, bid_price=bid, ask_price=ask,
        )  # fmt: skip
        if bid is None and ask is None:
            return [ticker]
        return [ticker, Quote(self.venue, row.symbol, "", at, ts_recv, 0, bid, None, ask, None)]

    def _bars(self, fetch: Fetch, top: Mapping[str, Any], ts_recv: int) -> Events:
        row = _only(fetch)
        zone = _plain(_section(top, "Meta Data"))["Time Zone"]
        bars = _section(top, "Time Series")
        candles: Events = []
        for text, fields in sorted(bars.items()):
            start = _local_ns(text, zone)
            end = start + interval_ns(fetch.interval) if fetch.interval != "1d" else _local_ns(text, zone, days=1)
            if end <= ts_recv:
                candles.append(self._candle(row, fetch.interval, start, _plain(fields), ts_recv))
        return candles

    def _candle(self, row: Instrument, interval: str, start: int, said: Fields, ts_recv: int) -> Candle:
        prices = _needed(said["open"]), _needed(said["high"]), _needed(said["low"]), _needed(said["close"])
        return venue_candle(row, interval, start, prices, ts_recv, volume=number(said.get("volume")))


def _fetch(resource: str, row: Instrument | None, candles: str = "", **params: str) -> Fetch:
    return Fetch(
        resource=resource, path="/query", params=tuple(params.items()), instrument=row, interval=candles,
        instruments=(row,) if row is not None else (),
    )  # fmt: skip


def _quote_fetch(row: Instrument, now: int) -> Fetch:
    return _fetch("quote", row, function="GLOBAL_QUOTE", symbol=row.venue_symbol)


def _rate_fetch(row: Instrument, now: int) -> Fetch:
    base, _, quote = row.venue_symbol.partition("/")
    return _fetch("rate", row, function="CURRENCY_EXCHANGE_RATE", from_currency=base, to_currency=quote)


def _bars_fetch(row: Instrument, interval: str, now: int) -> Fetch:
    symbol = row.venue_symbol
    if interval == "1d":
        return _fetch("daily", row, interval, function="TIME_SERIES_DAILY", symbol=symbol, outputsize="compact")
    return _fetch(
        "intraday", row, interval, function="TIME_SERIES_INTRADAY", symbol=symbol, interval=_INTERVALS[interval],
        outputsize="compact",
    )  # fmt: skip


def _refusal_of(text: str) -> Refusal:
    """Judge an error by its text; the order matters, because the text about bursts names the day's calls, too."""
    low = text.lower()
    if "this is a premium endpoint" in low:
        return Refusal(f"the plan does not have this: {text}")
    if "apikey is invalid or missing" in low or "demo" in low:
        return Refusal(f"the key is refused: {text}", venue_wide=True)
    if any(mark in low for mark in ("spreading out", "per second", "per minute", "burst pattern")):
        return Refusal(text, _BURST_PAUSE_S)
    if "per day" in low:
        return Refusal(text, _DAY_PAUSE_S)
    return Refusal(text)


def _only(fetch: Fetch) -> Instrument:
    (row,) = fetch.instruments
    return row


def _section(top: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the object whose key begins with `name`: delayed quotes and intervals are told in the rest of the key."""
    found = next((value for key, value in top.items() if key.startswith(name)), None)
    if not isinstance(found, dict):
        raise ValueError(f"no {name!r}")
    return found


def _plain(fields: Mapping[str, str]) -> Fields:
    """Return fields by their names without the numbers in front."""
    return {key.partition(". ")[2] or key: value for key, value in fields.items()}


def _needed(text: str) -> float:
    value = number(text)
    if value is None:
        raise ValueError("a price is missing")
    return value


def _local_ns(text: str, zone: str, days: int = 0) -> int:
    """Return int ns UTC of a local time, or of the local midnight `days` after a date."""
    try:
        known = ZoneInfo(_ZONES.get(zone, zone))
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"unknown time zone {zone[:40]!r}") from error
    at = datetime.fromisoformat(text)
    if at.tzinfo is not None:
        raise ValueError(f"no local time: {text[:40]!r}")
    if days:
        at = datetime.fromordinal(at.toordinal() + days)
    return int(at.replace(tzinfo=known).astimezone(UTC).timestamp()) * NS_PER_S
