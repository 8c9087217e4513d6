"""Reads over the gateway's REST."""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import TypeVar

import aiohttp
import msgspec
from msgspec import Struct

from hub.client.items import Token, Wanted
from hub.client.problems import problem_error, retry_after_s
from hub.client.rows import BookSnapshot, CandleRow, QuoteRow, Rows, Source, TickerRow, TradeRow, VenueRow
from hub.client.socket import GatewayStream
from hub.client.tokens import TokenKeeper
from hub.errors import GatewayUnreachable, NotFound
from hub.instruments import Instrument
from hub.model import State

__all__ = ["GatewayTransport"]

PAGE = 1000
ATTEMPTS = 3


class _Quotes(Struct):
    symbol: str
    quotes: list[QuoteRow]


class _Tickers(Struct):
    symbol: str
    tickers: list[TickerRow]


class _QuotePage(Struct):
    items: list[_Quotes]
    next: str | None
    unknown: list[str]


class _TickerPage(Struct):
    items: list[_Tickers]
    next: str | None
    unknown: list[str]


class _Books(Struct):
    books: list[BookSnapshot]


class _VenueTrades(Source, kw_only=True):
    trades: list[TradeRow]


class _Trades(Struct):
    venues: list[_VenueTrades]


class _VenueCandles(Source, kw_only=True):
    candles: list[CandleRow]


class _Candles(Struct):
    venues: list[_VenueCandles]


class _Connection(Struct):
    connected: bool


class _Kind(Struct):
    messages: int


class _Feed(Struct):
    books_live: int
    books_wanted: int
    connections: list[_Connection]


class _Venue(Struct):
    venue: str
    state: State
    reason: str
    age_ms: int | None
    symbols: int
    kinds: list[_Kind]
    feed: _Feed | None


class _Venues(Struct):
    venues: list[_Venue]


class _InstrumentPage(Struct):
    items: list[Instrument]
    next: str | None


class _SymbolInstruments(Struct):
    instruments: list[Instrument]


R = TypeVar("R", bound=Struct)
P = TypeVar("P", _QuotePage, _TickerPage)


def _check_found(symbols: Sequence[str], venue: str | None, rows: Sequence[Source]) -> None:
    """Raise NotFound where a symbol that was asked for is not published by the one venue that was asked about."""
    found = {row.symbol for row in rows}
    for symbol in symbols:
        if venue is not None and symbol not in found:
            raise NotFound("unknown_symbol", f"{venue} does not publish {symbol!r}; other venues do")


class GatewayTransport:
    """A gateway at `url` (http, https, ws or wss; without a path)."""

    def __init__(self, url: str, token: Token, *, timeout_s: float, patience_s: float, tls: ssl.SSLContext | None):
        scheme, _, rest = url.rstrip("/").partition("://")
        secure = scheme in {"https", "wss"}
        self._http = f"{'https' if secure else 'http'}://{rest}"
        self._ws = f"{'wss' if secure else 'ws'}://{rest}/v1/ws"
        self._tokens = TokenKeeper(token)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._patience_s, self._tls = patience_s, tls
        self._session: aiohttp.ClientSession | None = None

    def open_stream(self, wanted: Wanted) -> GatewayStream:
        return GatewayStream(self._ws, self._tokens, wanted, patience_s=self._patience_s, tls=self._tls)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    # reads

    async def quotes(self, symbols: Sequence[str], venue: str | None) -> Rows[QuoteRow]:
        pages = await self._pages("/v1/quotes", symbols, _QuotePage)
        rows = [row for page in pages for item in page.items for row in item.quotes if venue in (None, row.venue)]
        _check_found(symbols, venue, rows)
        return Rows(QuoteRow, rows, rows)

    async def tickers(self, symbols: Sequence[str], venue: str | None) -> Rows[TickerRow]:
        pages = await self._pages("/v1/tickers", symbols, _TickerPage)
        rows = [row for page in pages for item in page.items for row in item.tickers if venue in (None, row.venue)]
        _check_found(symbols, venue, rows)
        return Rows(TickerRow, rows, rows)

    async def book(self, symbol: str, venue: str | None, depth: int) -> Rows[BookSnapshot]:
        found = await self._get(f"/v1/books/{symbol}", {"venue": venue, "depth": depth}, _Books)
        return Rows(BookSnapshot, found.books, found.books)

    async def trades(self, symbol: str, venue: str | None, limit: int) -> Rows[TradeRow]:
        found = await self._get(f"/v1/trades/{symbol}", {"venue": venue, "limit": limit}, _Trades)
        for source in found.venues:
            for row in source.trades:
                row.venue, row.symbol = source.venue, source.symbol
        return Rows(TradeRow, [row for source in found.venues for row in source.trades], found.venues)

    async def candles(
        self, symbol: str, venue: str | None, interval: str, start_ms: int | None, end_ms: int | None, limit: int
    ) -> Rows[CandleRow]:
        query = {
            "venue": venue,
            "interval": interval,
            "start": None if start_ms is None else start_ms / 1000,
            "end": None if end_ms is None else end_ms / 1000,
            "limit": limit,
        }
        found = await self._get(f"/v1/candles/{symbol}", query, _Candles)
        for source in found.venues:
            for row in source.candles:
                row.venue, row.symbol, row.interval = source.venue, source.symbol, interval
        return Rows(CandleRow, [row for source in found.venues for row in source.candles], found.venues)

    async def venues(self) -> Rows[VenueRow]:
        found = await self._get("/v1/venues", {}, _Venues)
        return Rows(VenueRow, [_venue_row(venue) for venue in found.venues])

    async def instruments(self, symbol: str | None, venue: str | None, text: str | None) -> Rows[Instrument]:
        if symbol is not None:
            one = await self._get(f"/v1/instruments/{symbol}", {}, _SymbolInstruments)
            return Rows(Instrument, [row for row in one.instruments if venue in (None, row.venue)])
        rows: list[Instrument] = []
        cursor = None
        while True:
            query = {"venue": venue, "text": text, "cursor": cursor, "limit": PAGE}
            page = await self._get("/v1/instruments", query, _InstrumentPage)
            rows += page.items
            cursor = page.next
            if cursor is None:
                return Rows(Instrument, rows)

    async def _pages(self, path: str, symbols: Sequence[str], kind: type[P]) -> list[P]:
        """Read all pages, or the one with `symbols`; NotFound where nobody publishes one of them."""
        if len(symbols) == 1:
            # The form for one symbol names near matches of one that is not there.
            found = await self._get(f"{path}/{symbols[0]}", {}, kind.__annotations__["items"].__args__[0])
            return [kind(items=[found], next=None, unknown=[])]
        pages: list[P] = []
        cursor = None
        while True:
            query = {"symbols": ",".join(symbols) or None, "cursor": cursor, "limit": PAGE}
            page = await self._get(path, query, kind)
            if page.unknown:
                raise NotFound("unknown_symbol", f"nobody publishes {', '.join(page.unknown)}")
            pages.append(page)
            cursor = page.next
            if cursor is None:
                return pages

    # HTTP

    async def _get(self, path: str, query: Mapping[str, object], kind: type[R]) -> R:
        params = {name: str(value) for name, value in query.items() if value is not None}
        for attempt in range(ATTEMPTS):
            status, body, retry_s = await self._ask(path, params)
            if status == 200:
                try:
                    return msgspec.json.decode(body, type=kind)
                except msgspec.DecodeError as error:
                    raise GatewayUnreachable(self._http, f"the answer is none of a gateway's: {error}") from error
            if status == 401 and self._tokens.renewable and attempt == 0:
                self._tokens.forget()
            elif status in {429, 503} and attempt < ATTEMPTS - 1:
                await asyncio.sleep(min(retry_s, self._patience_s))
            else:
                break
        raise problem_error(self._http, status, body, retry_s)

    async def _ask(self, path: str, params: Mapping[str, str]) -> tuple[int, bytes, float]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        headers = await self._tokens.headers()
        try:
            async with self._session.get(
                self._http + path, params=params, headers=headers, ssl=self._tls or True
            ) as response:
                return response.status, await response.read(), retry_after_s(response.headers.get("Retry-After"))
        except TimeoutError as error:
            raise GatewayUnreachable(self._http, f"no answer within {self._timeout.total:g} s") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise GatewayUnreachable(self._http, str(error) or type(error).__name__) from error


def _venue_row(view: _Venue) -> VenueRow:
    feed = view.feed
    return VenueRow(
        venue=view.venue,
        state=view.state,
        reason=view.reason,
        age_ms=view.age_ms,
        symbols=view.symbols,
        messages=sum(kind.messages for kind in view.kinds),
        connections=sum(c.connected for c in feed.connections) if feed is not None else 0,
        books_live=feed.books_live if feed is not None else 0,
        books_wanted=feed.books_wanted if feed is not None else 0,
    )
