"""Asks what a venue without a stream has to be asked: due requests go out, answers go into the pipeline.

It stands where a streaming venue has its Runner, with the same members.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Sequence

from feeds.adapter import Fetch
from feeds.connection import Connection
from feeds.ledger import CandleLedger
from feeds.pipeline import Pipeline, Source
from feeds.poller import Poller
from feeds.rest import RestClient
from feeds.schedule import Job, Schedule
from hub.errors import FetchError, FetchRefused, RateLimited, WireError
from hub.instruments import Instrument
from hub.intervals import INTERVALS, NS_PER_MS
from hub.model import Candle, State

__all__ = ["PollRunner", "intervals_of"]

log = logging.getLogger(__name__)

TICK_S = 0.05
JUDGE_S = 1.0
#: Requests on their way at once, and pages of one answer.
WORKERS = 4
PAGES_MAX = 50
#: So many failures in a row without an answer, and the venue counts as down.
DOWN_AFTER = 3


class PollRunner:
    """Polls one venue; `run` ends only when cancelled."""

    def __init__(
        self,
        adapter: type[Poller],
        rows: Sequence[Instrument],
        pipeline: Pipeline,
        rest: RestClient,
        kinds: Collection[str],
        intervals: Sequence[str],
        period_s: float,
        ledger: CandleLedger,
    ) -> None:
        self.adapter, self.pipeline, self.rest, self.ledger = adapter, pipeline, rest, ledger
        self.kinds, self.intervals = frozenset(kinds), list(intervals)
        self.period_s = period_s or adapter.period_s
        self.connections: list[Connection] = []
        self.reconnects = 0
        self.rows = {row.symbol: row for row in rows}
        self.schedule = self._scheduled(None)
        self._source = Source(adapter(rows), 1)
        self._troubles: dict[tuple[str, str], tuple[State, str]] = {}
        self._failures = 0
        self._group: asyncio.TaskGroup | None = None
        self._asking: set[asyncio.Task[None]] = set()

    @property
    def pace(self) -> float:
        """How many times slower than wished everything is polled."""
        return round(self.schedule.stretch * self.schedule.slowed, 2)

    def _scheduled(self, before: Schedule | None) -> Schedule:
        jobs = self.adapter.jobs(list(self.rows.values()), self.kinds, self.intervals, self.period_s)
        schedule = Schedule(jobs, self.adapter.plan, time.time_ns())
        if before is not None:
            schedule.slowed = before.slowed
            known = {(job.kinds, row.symbol): job.answered for job in before.jobs for row in job.instruments}
            for job in schedule.jobs:
                answered = [known.get((job.kinds, row.symbol), 0) for row in job.instruments]
                if all(answered):
                    schedule.resume(job, min(answered))
        if schedule.stretch > 1:
            log.warning("the plan gives less than is wished venue=%s slower=%.1f", self.adapter.venue, schedule.stretch)
        return schedule

    async def run(self) -> None:
        """Poll until cancelled."""
        now = time.time_ns()
        if self.schedule.jobs and all(
            job.answered and not self.schedule.overdue(job, now) for job in self.schedule.jobs
        ):
            # Nothing is due, maybe for hours.
            self.pipeline.venue_state("live", "what the run before brought is in time", now)
        else:
            self.pipeline.venue_state("down", f"asking {self.rest.base_url}", now)
        judged = 0.0
        async with asyncio.TaskGroup() as group:
            while True:
                for fetch in self.schedule.poll(time.time_ns(), WORKERS - len(self._asking)):
                    task = group.create_task(self._ask(fetch))
                    self._asking.add(task)
                    task.add_done_callback(self._asking.discard)
                if time.monotonic() - judged >= JUDGE_S:
                    judged = time.monotonic()
                    self._judge()
                await asyncio.sleep(TICK_S)

    # symbols

    def add(self, rows: Sequence[Instrument]) -> None:
        """Poll `rows` too."""
        for row in rows:
            self.pipeline.add(row)
        self.rows.update({row.symbol: row for row in rows})
        self.schedule = self._scheduled(self.schedule)

    async def remove(self, symbols: Collection[str], reason: str) -> None:
        """Poll `symbols` no more; their last status gives the reason."""
        now = time.time_ns()
        for symbol in symbols:
            self.rows.pop(symbol, None)
            self.ledger.forget(symbol)
            self.pipeline.remove(symbol, reason, now)
        self._troubles = {key: said for key, said in self._troubles.items() if key[0] in self.rows}
        self.schedule = self._scheduled(self.schedule)

    # asking

    async def _ask(self, first: Fetch) -> None:
        schedule, fetch = self.schedule, first
        try:
            for _ in range(PAGES_MAX):
                following = self._take(fetch, await self.rest.fetch(fetch))
                if following is None:
                    break
                fetch = following
        except RateLimited as error:
            log.warning("%s", error)
            schedule.limited(first, error.reason, error.until_ms * NS_PER_MS, time.time_ns())
        except FetchRefused as error:
            log.error("%s", error)
            schedule.refused(first, error.reason, time.time_ns())
            state: State = "down" if error.venue_wide else "live"
            self.pipeline.venue_state(state, error.reason if error.venue_wide else "answering", time.time_ns())
        except (FetchError, WireError) as error:
            self._failed(schedule, first, error)
        else:
            self.pipeline.counters["fetches"] += 1
            self._failures = 0
            schedule.answered(first, time.time_ns())
            self.pipeline.venue_state("live", "answering", time.time_ns())

    def _failed(self, schedule: Schedule, fetch: Fetch, error: FetchError | WireError) -> None:
        log.warning("%s", error)
        reason = error.reason if isinstance(error, FetchError) else error.detail
        self.pipeline.counters["fetch_errors" if isinstance(error, FetchError) else "wire_errors"] += 1
        self._failures += 1
        now = time.time_ns()
        schedule.failed(fetch, reason, now)
        if self._failures >= DOWN_AFTER:
            self.pipeline.venue_state("down", f"{self._failures} failures in a row, the last: {reason}", now)

    def _take(self, fetch: Fetch, body: bytes) -> Fetch | None:
        """Give the answer to the pipeline; returns the next page that is to be asked for."""
        following: Fetch | None = None
        for event in self._source.adapter.snapshot(fetch, body, time.time_ns()):
            if isinstance(event, Fetch):
                following = event
            elif isinstance(event, Candle):
                admitted = self.ledger.admit(event)
                if admitted is not None and admitted.symbol in self.rows:
                    self.pipeline.feed(self._source, [admitted])
            else:
                self.pipeline.feed(self._source, [event])
        return following

    # judging

    def _judge(self) -> None:
        """Say of each symbol and kind what the schedule says: its data is out of date, or the venue has none."""
        now = time.time_ns()
        found: dict[tuple[str, str], tuple[State, str]] = {}
        for job, refused, reason in self.schedule.troubles(now):
            for key in _subjects(job):
                found[key] = ("down" if refused else "stale"), reason
        for key in self._troubles.keys() - found.keys():
            self.pipeline.judged(*key, "live", "answered", now)
        for key, (state, reason) in found.items():
            if self._troubles.get(key, ("live", ""))[0] != state:
                self.pipeline.judged(*key, state, reason, now)
        self._troubles = found


def _subjects(job: Job) -> list[tuple[str, str]]:
    return [(row.symbol, kind) for row in job.instruments for kind in job.kinds]


def intervals_of(adapter: type[Poller], wanted: Sequence[str]) -> list[str]:
    """Return those of `wanted` that the venue has candles of, else its shortest."""
    found = [interval for interval in wanted if interval in adapter.candle_intervals]
    return found or sorted(adapter.candle_intervals, key=INTERVALS.__getitem__)[:1]
