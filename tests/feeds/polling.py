"""What the pollers' tests share: a venue with scripted answers, a poller of it without Redis, and reading one body."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias

from aiohttp import web

from feeds.adapter import Event, Fetch
from feeds.ledger import CandleLedger
from feeds.pipeline import Pipeline
from feeds.polled import PollRunner
from feeds.poller import Poller
from feeds.rest import LocalLimiter, RestClient
from hub.config import BookSettings, CandleSettings
from hub.instruments import Instrument
from tests.feeds.naive import ROOT
from tests.feeds.running import Heard

SESSIONS = ROOT / "tests" / "data" / "sessions"
KEY = "QUITE-SECRET-KEY-0123"
LATE = 1 << 61

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def read(poller: type[Poller], url: str, body: bytes, rows: Sequence[Instrument], now: int = LATE) -> list[Event]:
    """Return the events of one answer to `url`."""
    about = poller.asked(url)
    fetch = Fetch(resource=about.resource, path="", interval=about.interval, instruments=tuple(rows))
    events = poller(rows).snapshot(fetch, body, now)
    return [event for event in events if not isinstance(event, Fetch)]


class Venue:
    """A server that gives scripted answers, (status, headers, body) or a handler, and then `usual`."""

    def __init__(self, usual: Handler) -> None:
        self.usual = usual
        self.script: deque[tuple[int, dict[str, str], bytes] | Handler] = deque()
        self.requests: list[web.Request] = []

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if not self.script:
            return await self.usual(request)
        step = self.script.popleft()
        if not isinstance(step, tuple):
            return await step(request)
        status, headers, body = step
        return web.Response(status=status, headers=headers, body=body)


class Polling:
    """A poller of `rows` at `url`; `async with` runs it. What it says is in `heard`."""

    def __init__(self, poller: type[Poller], rows: Sequence[Instrument], url: str, **options: Any) -> None:
        self.heard = Heard()
        kinds = options.get("kinds", ("ticker", "quote", "candle"))
        self.pipeline = Pipeline(
            poller, [kind for kind in kinds if kind != "candle"], BookSettings(), CandleSettings(), self.heard
        )
        for row in rows:
            self.pipeline.add(row)
        self.rest = RestClient(poller, LocalLimiter(1000, 1), url, [KEY] * len(poller.credentials_env))
        self.runner = PollRunner(
            poller, rows, self.pipeline, self.rest, kinds, options.get("intervals", ()), options.get("poll_s", 1.0),
            CandleLedger(),
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.runner.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.rest.close()

    async def until(self, condition: Callable[[], object], timeout_s: float = 30.0) -> None:
        """Wait for `condition`; an error of the runner comes out here."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.02)

    def told(self, kind: type, symbol: str | None = None) -> list[Any]:
        """Return the messages of one class."""
        return [m for m in self.heard.messages if isinstance(m, kind) and symbol in (None, m.symbol)]
