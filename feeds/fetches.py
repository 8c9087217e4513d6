"""The queue in front of a venue's REST: what books need comes first, failures come again, nothing waits for ever."""

import asyncio
import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable

from feeds.adapter import Fetch
from feeds.backoff import Backoff
from feeds.rest import RestClient
from hub.errors import FetchError, RateLimited

__all__ = ["FetchQueue"]

log = logging.getLogger(__name__)

BOOKS, CANDLES = 0, 1


class _Job:
    __slots__ = ("backoff", "done", "fetch", "wanted")

    def __init__(self, fetch: Fetch, done: Callable[[Fetch, bytes], None], wanted: Callable[[], bool]) -> None:
        self.fetch, self.done, self.wanted = fetch, done, wanted
        self.backoff = Backoff(1.0, 30.0)


class FetchQueue:
    """Carries out fetches with a few workers.

    A failed fetch is tried again, later and later, for as long as `wanted` says that somebody waits for it.
    """

    WORKERS = 4
    SIZE_MAX = 10_000

    def __init__(self, rest: RestClient, counters: Counter[str]) -> None:
        self.rest = rest
        self.counters = counters
        self._order = itertools.count()
        self._queue: asyncio.PriorityQueue[tuple[int, int, _Job]] = asyncio.PriorityQueue(self.SIZE_MAX)

    def submit(self, fetch: Fetch, done: Callable[[Fetch, bytes], None], wanted: Callable[[], bool]) -> None:
        """Queue `fetch`; `done` is called with its body."""
        self._put(_Job(fetch, done, wanted))

    def _put(self, job: _Job) -> None:
        priority = CANDLES if job.fetch.interval else BOOKS
        try:
            self._queue.put_nowait((priority, next(self._order), job))
        except asyncio.QueueFull:
            self.counters["fetches_dropped"] += 1
            if priority == BOOKS and job.wanted():
                # The adapter waits for it and asks for no other: dropped, its book would never come back.
                asyncio.get_running_loop().call_later(job.backoff.next_s(), self._put, job)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.WORKERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            _, _, job = await self._queue.get()
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
