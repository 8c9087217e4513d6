"""The queue in front of a venue's REST: what books need comes first, failures come again, nothing waits for ever."""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable

from feeds.adapter import Fetch
from feeds.backoff import Backoff
from feeds.rest import RestClient
from hub.errors import FetchError, RateLimited

__all__ = ["FetchQueue"]

log = logging.getLogger(__name__)


def _nobody(symbol: str) -> int:
    return 0


class _Job:
    __slots__ = ("backoff", "done", "fetch", "wanted")

    def __init__(self, fetch: Fetch, done: Callable[[Fetch, bytes], None], wanted: Callable[[], bool]) -> None:
        self.fetch, self.done, self.wanted = fetch, done, wanted
        self.backoff = Backoff(1.0, 30.0)


class FetchQueue:
    """Carries out fetches with a few workers.

    Books come before candles, those with the most readers (`readers`, by symbol) first, then in the order they were
    asked for. A failed fetch is tried again, later and later, for as long as `wanted` says that somebody waits for it.
    """

    WORKERS = 4
    SIZE_MAX = 10_000

    def __init__(self, rest: RestClient, counters: Counter[str], readers: Callable[[str], int] = _nobody) -> None:
        self.rest = rest
        self.counters = counters
        self._readers = readers
        self._books: list[_Job] = []
        self._candles: deque[_Job] = deque()
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._books) + len(self._candles)

    def submit(self, fetch: Fetch, done: Callable[[Fetch, bytes], None], wanted: Callable[[], bool]) -> None:
        """Queue `fetch`; `done` is called with its body."""
        self._put(_Job(fetch, done, wanted))

    def _put(self, job: _Job) -> None:
        if len(self) < self.SIZE_MAX:
            (self._candles if job.fetch.interval else self._books).append(job)
            self._filled.set()
            return
        self.counters["fetches_dropped"] += 1
        if not job.fetch.interval and job.wanted():
            # The adapter waits for it and asks for no other: dropped, its book would never come back.
            asyncio.get_running_loop().call_later(job.backoff.next_s(), self._put, job)

    async def _next(self) -> _Job:
        while not len(self):
            self._filled.clear()
            await self._filled.wait()
        if not self._books:
            return self._candles.popleft()
        # Readers come and go while a fetch waits: who is first is decided when there is a turn.
        return self._books.pop(max(range(len(self._books)), key=self._interest))

    def _interest(self, at: int) -> int:
        instrument = self._books[at].fetch.instrument
        return self._readers(instrument.symbol) if instrument is not None else 0

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.WORKERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            job = await self._next()
            if not job.wanted():
                continue
            try:
                body = await self.rest.fetch(job.fetch)
            except FetchError as error:
                delay_s = job.backoff.next_s()
                if isinstance(error, RateLimited):
                    delay_s = max(delay_s, error.until_ms / 1000 - time.time())
                self.counters["fetch_errors"] += 1
                log.warning("%s; next try in %.1f s", error, delay_s)
                loop.call_later(delay_s, self._put, job)
                continue
            self.counters["fetches"] += 1
            if job.wanted():
                job.done(job.fetch, body)
