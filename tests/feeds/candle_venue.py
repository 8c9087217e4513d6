"""Venues' REST candles over real HTTP, without end: each keeps its venue's rules of order, limits and reach."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from hub.instruments import Instrument

MINUTE_MS = 60_000


def _row(venue: str, venue_symbol: str, quote: str, section: str = "") -> Instrument:
    return Instrument(
        venue=venue, venue_symbol=venue_symbol, symbol=f"BTC-{quote}", kind="spot", base="BTC", quote=quote,
        section=section,
    )  # fmt: skip


ROWS = {
    "binance": _row("binance", "BTCUSDT", "USDT"),
    "okx": _row("okx", "BTC-USDT", "USDT"),
    "kraken": _row("kraken", "BTC/USD", "USD"),
    "bybit": _row("bybit", "BTCUSDT", "USDT", "spot"),
}
PATHS = {
    "/api/v3/klines": "binance",
    "/api/v5/market/candles": "okx",
    "/api/v5/market/history-candles": "okx",
    "/0/public/OHLC": "kraken",
    "/v5/market/kline": "bybit",
}


def prices(minute: int) -> tuple[float, float, float, float, float]:
    """Return open, high, low, close and volume of a minute since 1970."""
    return 100.0 + minute % 7, 120.0 + minute % 5, 90.0 - minute % 3, 100.0 + minute % 11, 1.5 + minute % 4


class CandleVenue:
    """Answers with made-up minutes. `quiet` ones had no trades: they come with zeros, or not at all (`omits`)."""

    def __init__(self, *, quiet: Callable[[int], bool] = lambda minute: False, omits: bool = False) -> None:
        self.quiet, self.omits = quiet, omits
        self.asked: list[tuple[int, int]] = []
        """(first, last) minute of each answer"""
        self.answers: dict[int, Callable[[], web.StreamResponse]] = {}
        """by the number of the request, instead of candles"""
        self.stop_at: int | None = None
        """this request and those after it wait"""
        self.waiting = asyncio.Event()
        self.requests = 0
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        if self.stop_at is not None and self.requests >= self.stop_at:
            self.waiting.set()
            await asyncio.sleep(600)
        if self.requests in self.answers:
            return self.answers[self.requests]()
        venue = PATHS[request.path]
        body: Any = getattr(self, f"_{venue}")(request.path, dict(request.query))
        return web.Response(body=json.dumps(body).encode(), content_type="application/json")

    def _minutes(self, first: int, last: int) -> list[int]:
        """Return the minutes there are, both ends included; the one that is open as well."""
        found = list(range(first, min(last, int(time.time() // 60)) + 1))
        self.asked.append((found[0], found[-1]) if found else (0, 0))
        return [minute for minute in found if not (self.omits and self.quiet(minute))]

    def _row(self, minute: int) -> tuple[str, ...]:
        o, h, low, c, v = prices(minute)
        if self.quiet(minute):
            o = h = low = c = prices(minute - 1)[3]
            v = 0.0
        return tuple(map(str, (o, h, low, c, v)))

    def _binance(self, path: str, query: dict[str, str]) -> list[Any]:
        limit, first = int(query["limit"]), -(-int(query["startTime"]) // MINUTE_MS)
        assert 1 <= limit <= 1000
        return [
            [m * MINUTE_MS, *self._row(m), m * MINUTE_MS + 59_999, "10.0", 0 if self.quiet(m) else 3, "0.5", "5.0", "0"]
            for m in self._minutes(first, first + limit - 1)
        ]

    def _okx(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        limit, now = int(query["limit"]), int(time.time() // 60)
        assert 1 <= limit <= (100 if "history" in path else 300)
        first, last = int(query["before"]) // MINUTE_MS + 1, -(-int(query["after"]) // MINUTE_MS) - 1
        if "history" not in path:
            first = max(first, now - 1439)
        rows = [
            [str(m * MINUTE_MS), *self._row(m), "10", "150", "0" if m == now else "1"]
            for m in self._minutes(max(first, last - limit + 1), last)[::-1]
        ]
        return {"code": "0", "msg": "", "data": rows}

    def _kraken(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        now = int(time.time() // 60)
        rows = [
            [m * 60, *self._row(m)[:4], "101.0", self._row(m)[4], 0 if self.quiet(m) else 2]
            for m in self._minutes(now - 719, now)
        ]
        return {"error": [], "result": {"XXBTZUSD": rows, "last": (now - 1) * 60}}

    def _bybit(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        limit = int(query["limit"])
        assert 1 <= limit <= 1000
        first, last = -(-int(query["start"]) // MINUTE_MS), int(query["end"]) // MINUTE_MS
        rows = [[str(m * MINUTE_MS), *self._row(m), "150"] for m in self._minutes(max(first, last - limit + 1), last)]
        return {"retCode": 0, "retMsg": "OK", "result": {"list": rows[::-1]}, "time": int(time.time() * 1000)}


@asynccontextmanager
async def candle_venue(**options: Any) -> AsyncIterator[CandleVenue]:
    """Serve on loopback; `url` is the address."""
    venue = CandleVenue(**options)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", venue.handle)
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    venue.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    try:
        yield venue
    finally:
        await runner.cleanup()


def too_many() -> web.StreamResponse:
    """Say 429 as venues do."""
    return web.Response(status=429, headers={"Retry-After": "1"}, text="too many requests")
