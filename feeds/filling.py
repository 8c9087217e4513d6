"""Pages of a venue's candles into history, one after the other, each stored with a note that it is done. No I/O of its
own: feeds/rest.py asks, feeds/past.py stores."""

import asyncio
import time
from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from feeds.adapter import Adapter
from feeds.backoff import Backoff
from feeds.past import PastCandles
from feeds.repairs import flat_candles
from feeds.rest import RestClient
from hub.candles import is_empty
from hub.errors import FetchError, FetchRefused, RateLimited
from hub.instruments import Instrument
from hub.intervals import NS_PER_S, interval_ns
from hub.model import Candle

__all__ = ["Filling", "Page", "Tally", "add_range", "pages"]

TRIES = 5
#: What is younger may not be at the venue yet: it is asked for again.
SETTLED_NS = 3600 * NS_PER_S


class Page(Struct, frozen=True):
    """One request's candles: from `start` (int ns) up to `end`, excluded."""

    start: int
    end: int


class Tally(Struct):
    """What became of the candles wanted. `stored` now, `known` before, `empty` without trades; the rest the venue did
    not tell. `refused` by Redis, for `reason`."""

    wanted: int = 0
    stored: int = 0
    known: int = 0
    empty: int = 0
    refused: int = 0
    reason: str = ""

    @property
    def missing(self) -> int:
        return max(0, self.wanted - self.stored - self.known - self.empty - self.refused)


def pages(since: int, until: int, length: int, per_page: int) -> list[Page]:
    """Divide the candles of `since..until` (int ns, the end excluded), oldest first."""
    step = length * per_page
    return [Page(start, min(start + step, until)) for start in range(since, until, step)]


def add_range(ranges: Sequence[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """Return the ranges with `start..end` in them, those that touch made one."""
    result: list[tuple[int, int]] = []
    for first, last in sorted([*ranges, (start, end)]):
        if result and first <= result[-1][1]:
            result[-1] = result[-1][0], max(result[-1][1], last)
        else:
            result.append((first, last))
    return result


class Filling:
    """One run: `since` and `until` are int ns, whole intervals. `flat`: empty intervals have candles."""

    def __init__(
        self,
        adapter: type[Adapter],
        instrument: Instrument,
        interval: str,
        since: int,
        until: int,
        rest: RestClient,
        past: PastCandles,
        *,
        flat: bool = False,
        credentials: Sequence[str] = (),
    ) -> None:
        self.adapter, self.instrument, self.interval = adapter, instrument, interval
        self.rest, self.past, self.flat = rest, past, flat
        self.length = interval_ns(interval)
        self.pages = pages(since, until, self.length, adapter.candles_per_fetch)
        self.tally = Tally(wanted=(until - since) // self.length)
        self._reader = adapter([instrument], credentials=credentials)

    async def run(self, progress: Callable[[int], None], say: Callable[[str], None]) -> Tally:
        """Fill everything; `progress` is told of candles dealt with, `say` why it waits.

        Raises FetchError and WireError where the venue does not answer, RedisUnavailable and RedisError.
        """
        done = await self.past.done()
        if not await self.past.starts(self.pages[0].start, self.pages[-1].end):
            done = []  # what was stored is gone
        for page in self.pages:
            count = (page.end - page.start) // self.length
            known = await self.past.starts(page.start, page.end)
            self.tally.known += len(known)
            if len(known) < count and not any(first <= page.start and page.end <= last for first, last in done):
                candles = await self._ask(page, count, say)
                done = await self._store(page, candles, known, done)
            progress(count)
        return self.tally

    async def _ask(self, page: Page, count: int, say: Callable[[str], None]) -> list[Candle]:
        backoff = Backoff(1.0)
        tries = 0
        while True:
            now = time.time_ns()
            fetch = self.adapter.candles_fetch(self.instrument, self.interval, page.start, count, now)
            assert fetch is not None
            try:
                body = await self.rest.fetch(fetch)
                break
            except FetchRefused:
                raise
            except RateLimited as error:
                say(f"{error}; waiting")  # the limiter lets nobody through until then
            except FetchError as error:
                tries += 1
                if tries == TRIES:
                    raise
                say(f"{error}; trying again")
                await asyncio.sleep(backoff.next_s())
        events = self._reader.snapshot(fetch, body, time.time_ns())
        found = {each.start: each for each in events if isinstance(each, Candle)}
        return [found[start] for start in sorted(found) if page.start <= start < page.end]

    async def _store(
        self, page: Page, candles: list[Candle], known: set[int], done: list[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        told = candles[-1].start + self.length if candles else page.start
        self.tally.empty += sum(map(is_empty, candles)) if not self.flat else 0
        wanted = await self._filled(page, candles) if self.flat else [each for each in candles if not is_empty(each)]
        fresh = [candle for candle in wanted if candle.start not in known]
        done = add_range(done, page.start, page.end if page.end < time.time_ns() - SETTLED_NS else told)
        refused = await self.past.store(fresh, done)
        self.tally.stored += len(fresh) - len(refused)
        self.tally.refused += len(refused)
        self.tally.reason = next(iter(refused.values()), self.tally.reason)
        return done

    async def _filled(self, page: Page, candles: list[Candle]) -> list[Candle]:
        """Put flat candles where the venue left some out between others, the last one stored before included."""
        if not candles:
            return []
        result: list[Candle] = []
        before = await self.past.last_close(page.start)
        if before is not None:
            first = replace(candles[0], start=before[0], close=before[1])
            result += flat_candles(first, candles[0].start, self.length)
        for candle, following in zip(candles, [*(each.start for each in candles[1:]), 0], strict=True):
            result += [candle, *flat_candles(candle, following, self.length)]
        return result
