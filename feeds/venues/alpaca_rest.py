"""Alpaca without its streams: snapshots and bars, polled. See feeds/poller.py, and feeds/venues/alpaca.py for the rest.

Documentation: https://docs.alpaca.markets/reference/stocksnapshots-1, …/reference/stockbars, …/reference/cryptobars-1

Quirks:
- One call is many symbols; bars come in pages, symbol by symbol, and the limit is that of all of them.
- Tickers are the running day's: that begins at midnight in New York, for crypto too.
- 429 comes without Retry-After, X-RateLimit-Reset has the time.
- Without the plan for it, stocks are those of IEX; asking for more is 403.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from msgspec import Struct

from feeds.adapter import Event, Fetch, Refusal
from feeds.poller import Asked, Poller, again, batches
from feeds.quota import Plan
from feeds.rfc3339 import parse_ns
from feeds.schedule import Job
from feeds.venue_candles import venue_candle
from feeds.venues.alpaca import Alpaca, time_text
from feeds.venues.alpaca_wire import Bar
from hub.errors import WireError
from hub.instruments import Instrument, InstrumentTable
from hub.intervals import INTERVALS, interval_ns
from hub.model import Candle, Price, Quote, Size, Ticker

__all__ = ["AlpacaRest"]

Events = list[Event | Fetch]

_KEYS: Final = ("ALPACA_KEY_ID", "ALPACA_SECRET_KEY")
_TIMEFRAMES: Final = {"1m": "1Min", "3m": "3Min", "5m": "5Min", "15m": "15Min", "30m": "30Min", "1h": "1Hour"}
_NAMES: Final = {venue: name for name, venue in _TIMEFRAMES.items()}
_BATCH: Final = 100
#: Bars asked for each time: a few, because late trades change them.
_BARS: Final = 10
_PATHS: Final = {
    ("equity", "snapshots"): "/v2/stocks/snapshots",
    ("equity", "bars"): "/v2/stocks/bars",
    ("spot", "snapshots"): "/v1beta3/crypto/us/snapshots",
    ("spot", "bars"): "/v1beta3/crypto/us/bars",
}


class _Trade(Struct, gc=False):
    p: Price
    t: str


class _Quote(Struct, gc=False, rename={"asize": "as"}):
    t: str
    bp: Price | None = None
    bs: Size | None = None
    ap: Price | None = None
    asize: Size | None = None


class _Snapshot(Struct, gc=False):
    """What is newest of one symbol; each part may be missing, or null."""

    latestTrade: _Trade | None = None
    latestQuote: _Quote | None = None
    dailyBar: Bar | None = None


class _Bars(Struct, gc=False):
    bars: dict[str, list[Bar] | None] | None
    next_page_token: str | None = None


_stocks = msgspec.json.Decoder(dict[str, _Snapshot | None]).decode
_crypto = msgspec.json.Decoder(dict[str, dict[str, _Snapshot | None]]).decode
_bars = msgspec.json.Decoder(_Bars).decode
_message = msgspec.json.Decoder(dict[str, Any]).decode


class AlpacaRest(Poller):
    """Stocks of IEX (plan `plus`: of all exchanges) and crypto."""

    venue = "alpaca"
    rest_url = Alpaca.rest_url
    plans: ClassVar[dict[str, Plan]] = {
        "basic": Plan(calls=200, window_s=60, credentials_env=_KEYS, without=frozenset({"sip"})),
        "plus": Plan(calls=10_000, window_s=60, credentials_env=_KEYS),
    }
    channels: ClassVar[dict[str, str]] = {"ticker": "snapshots", "quote": "snapshots", "candle": "bars"}
    default_symbols = Alpaca.default_symbols
    candle_intervals = frozenset(_TIMEFRAMES)
    period_s = 5.0

    @classmethod
    def rest_headers(cls, credentials: Sequence[str]) -> dict[str, str]:
        return Alpaca.rest_headers(credentials)

    @classmethod
    def refusal(cls, status: int, body: bytes) -> Refusal | None:
        if status not in (400, 401, 403, 404, 422):
            return None
        try:
            text = str(_message(body).get("message", ""))
        except (ValueError, RecursionError):
            text = ""
        # 403 is a wrong key, too; where a plan is the reason, it says so.
        wrong_key = status == 401 or (status == 403 and "subscription" not in text)
        return Refusal(f"HTTP {status} {text}".strip(), venue_wide=wrong_key)

    # instruments

    @classmethod
    def instruments_fetches(cls) -> list[Fetch]:
        return Alpaca.instruments_fetches()

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return Alpaca.parse_instruments(body)

    @classmethod
    def unlisted(cls, venue_symbol: str, known: InstrumentTable) -> Instrument:
        return Alpaca.unlisted(venue_symbol)

    # requests

    @classmethod
    def jobs(
        cls, rows: Sequence[Instrument], kinds: Collection[str], intervals: Sequence[str], period_s: float
    ) -> list[Job]:
        made: list[Job] = []
        for kind in ("equity", "spot"):
            for batch in batches([row for row in rows if row.kind == kind], _BATCH):
                if {"ticker", "quote"} & set(kinds):
                    make = partial(cls._snapshots_fetch, batch)
                    made.append(Job(make, [k for k in ("ticker", "quote") if k in kinds], batch, period_s))
                for interval in intervals if "candle" in kinds else ():
                    make = partial(cls._bars_fetch, batch, interval)
                    pace_s = max(period_s, min(INTERVALS[interval], 300) / 2)
                    made.append(Job(make, (f"candle.{interval}",), batch, pace_s))
        return made

    @classmethod
    def _common(cls, rows: tuple[Instrument, ...]) -> tuple[tuple[str, str], ...]:
        symbols = ("symbols", ",".join(row.venue_symbol for row in rows))
        if rows[0].kind != "equity":
            return (symbols,)
        return (symbols, ("feed", "iex" if "sip" in cls.plan.without else "sip"))

    @classmethod
    def _snapshots_fetch(cls, rows: tuple[Instrument, ...], now: int) -> Fetch:
        path = _PATHS[rows[0].kind, "snapshots"]
        return Fetch(resource="snapshots", path=path, params=cls._common(rows), instruments=rows)

    @classmethod
    def _bars_fetch(cls, rows: tuple[Instrument, ...], interval: str, now: int) -> Fetch:
        length = interval_ns(interval)
        start = (now // length - _BARS) * length
        more = (("timeframe", _TIMEFRAMES[interval]), ("start", time_text(start)), ("limit", "10000"))
        path = _PATHS[rows[0].kind, "bars"]
        return Fetch(
            resource="bars", path=path, params=(*cls._common(rows), *more), instruments=rows, interval=interval,
            start=start,
        )  # fmt: skip

    @classmethod
    def asked(cls, url: str) -> Asked:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        names = [unquote(name) for name in parts.path.split("/") if name]
        resource = names[-1] if names else "nothing"
        symbols = [name for name in query.get("symbols", "").split(",") if name]
        if names[:2] == ["v2", "stocks"] and len(names) == 4:
            symbols = [names[2]]
        return Asked(resource, tuple(symbols), _NAMES.get(query.get("timeframe", ""), ""))

    # answers

    def snapshot(self, fetch: Fetch, body: bytes, ts_recv: int) -> Events:
        try:
            if fetch.resource == "bars":
                return self._bars(fetch, body, ts_recv)
            return self._snapshots(fetch, body, ts_recv)
        except (ValueError, RecursionError, OverflowError) as error:
            raise WireError(self.venue, f"{fetch.resource}: {str(error)[:200]}") from error

    def _snapshots(self, fetch: Fetch, body: bytes, ts_recv: int) -> Events:
        told: Mapping[str, _Snapshot | None]
        told = _stocks(body) if fetch.instruments[0].kind == "equity" else _crypto(body)["snapshots"]
        events: Events = []
        for row in fetch.instruments:
            snapshot = told.get(row.venue_symbol)
            if snapshot is not None:
                events += self._told(row, snapshot, ts_recv)
        return events

    def _told(self, row: Instrument, said: _Snapshot, ts_recv: int) -> Events:
        events: Events = []
        bid = ask = None
        quote, trade, day = said.latestQuote, said.latestTrade, said.dailyBar
        if quote is not None:
            # A price of 0 means that there is no quote on that side.
            bid, bid_size = (quote.bp, quote.bs) if quote.bp else (None, None)
            ask, ask_size = (quote.ap, quote.asize) if quote.ap else (None, None)
            at = parse_ns(quote.t)
            events.append(Quote(self.venue, row.symbol, "", at, ts_recv, 0, bid, bid_size, ask, ask_size))
        if trade is not None:
            events.append(
                Ticker(
                    self.venue, row.symbol, "", parse_ns(trade.t), ts_recv, 0, last_price=trade.p,
                    open_price=day.o if day else None, high_price=day.h if day else None,
                    low_price=day.l if day else None, volume=day.v if day else None, quote_volume=None,
                    bid_price=bid, ask_price=ask,
                )
            )  # fmt: skip
        return events

    def _bars(self, fetch: Fetch, body: bytes, ts_recv: int) -> Events:
        answer = _bars(body)
        length = interval_ns(fetch.interval)
        events: Events = []
        for row in fetch.instruments:
            for bar in (answer.bars or {}).get(row.venue_symbol) or ():
                start = parse_ns(bar.t)
                if start is not None and start + length <= ts_recv:
                    events.append(self._candle(row, fetch.interval, start, bar, ts_recv))
        if answer.next_page_token:
            events.append(again(fetch, page_token=answer.next_page_token))
        return events

    def _candle(self, row: Instrument, interval: str, start: int, bar: Bar, ts_recv: int) -> Candle:
        return venue_candle(
            row, interval, start, (bar.o, bar.h, bar.l, bar.c), ts_recv,
            volume=bar.v, vwap=bar.vw if bar.v else None, trades=bar.n,
        )  # fmt: skip
