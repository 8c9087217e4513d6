"""What is asked for again and again, how often, and what of it is out of date. Pure: time comes in as int ns.

The pace follows from the plan: where everything at its own pace would be more than the plan gives, all of it is
stretched by the same factor. 429 slows everything down; answers bring the pace back, a little each.
"""

from collections.abc import Callable, Iterable, Iterator

from feeds.adapter import Fetch
from feeds.quota import Plan
from hub.instruments import Instrument
from hub.intervals import NS_PER_S

__all__ = ["Job", "Schedule"]

#: The part of a plan that polling may use; the rest is for lists, searches and what other processes ask.
SHARE = 0.85
SLOWEST = 64.0
RECOVERY = 0.95
#: So many periods without an answer, and what it brings is stale.
STALE_AFTER = 2.5
GRACE_NS = 30 * NS_PER_S
RETRY_NS = 5 * NS_PER_S
#: A request that the venue has no answer to is asked again after this.
REFUSED_NS = 6 * 3600 * NS_PER_S


class Job:
    """One request that is repeated: `make(now)` builds it, `kinds` of `instruments` depend on it."""

    __slots__ = ("answered", "failures", "instruments", "kinds", "make", "next", "period_s", "reason", "refused")

    def __init__(
        self,
        make: Callable[[int], Fetch],
        kinds: Iterable[str],
        instruments: Iterable[Instrument],
        period_s: float,
    ) -> None:
        self.make, self.kinds, self.instruments = make, tuple(kinds), tuple(instruments)
        self.period_s = period_s
        self.answered = self.next = self.failures = 0
        self.refused = False
        self.reason = ""


class Schedule:
    """The jobs of one venue under one plan."""

    def __init__(self, jobs: Iterable[Job], plan: Plan, now: int) -> None:
        self.jobs = list(jobs)
        self.slowed = 1.0
        self._began = now
        self._asked: dict[Fetch, Job] = {}
        demand = sum(1 / job.period_s for job in self.jobs)
        self.stretch = max(1.0, demand / (plan.calls_per_s * SHARE))

    def period_ns(self, job: Job) -> int:
        """Return how long after one answer the next is asked for."""
        return int(job.period_s * self.stretch * self.slowed * NS_PER_S)

    def resume(self, job: Job, answered: int) -> None:
        """An earlier run had the answer of `answered` (int ns)."""
        job.answered = max(job.answered, answered)
        job.next = max(job.next, answered + self.period_ns(job))

    def poll(self, now: int, room: int) -> list[Fetch]:
        """Return up to `room` requests that are due, the longest overdue first; each is to be settled."""
        waiting = set(map(id, self._asked.values()))
        due = [job for job in self.jobs if job.next <= now and id(job) not in waiting]
        due.sort(key=lambda job: job.next)
        fetches = []
        for job in due[: max(0, room)]:
            fetch = job.make(now)
            if fetch not in self._asked:
                self._asked[fetch] = job
                fetches.append(fetch)
        return fetches

    def answered(self, fetch: Fetch, now: int) -> None:
        """Settle `fetch`: it was answered."""
        job = self._asked.pop(fetch, None)
        if job is not None:
            self.slowed = max(1.0, self.slowed * RECOVERY)
            job.answered, job.next = now, now + self.period_ns(job)
            job.failures, job.refused, job.reason = 0, False, ""

    def failed(self, fetch: Fetch, reason: str, now: int) -> None:
        """Settle `fetch`: it failed and is tried again, later and later."""
        job = self._asked.pop(fetch, None)
        if job is not None:
            job.failures += 1
            job.reason = reason
            job.next = now + min(self.period_ns(job), RETRY_NS << min(job.failures, 10))

    def limited(self, fetch: Fetch, reason: str, until: int, now: int) -> None:
        """Settle `fetch`: nothing may be asked before `until` (int ns), and less often afterwards."""
        job = self._asked.pop(fetch, None)
        self.slowed = min(SLOWEST, self.slowed * 2)
        if job is not None:
            job.reason = reason
            job.next = max(now + NS_PER_S, until)

    def refused(self, fetch: Fetch, reason: str, now: int) -> None:
        """Settle `fetch`: the venue has no answer to it."""
        job = self._asked.pop(fetch, None)
        if job is not None:
            job.refused, job.reason, job.next = True, reason, now + max(REFUSED_NS, self.period_ns(job))

    def overdue(self, job: Job, now: int) -> bool:
        """Tell whether what `job` brings is out of date."""
        allowed = int(STALE_AFTER * job.period_s * self.stretch * self.slowed * NS_PER_S) + GRACE_NS
        return now - (job.answered or self._began) > allowed

    def troubles(self, now: int) -> Iterator[tuple[Job, bool, str]]:
        """Yield (job, refused, reason) of each job whose data cannot be relied on."""
        for job in self.jobs:
            if job.refused:
                yield job, True, job.reason
            elif self.overdue(job, now):
                seconds = (now - (job.answered or self._began)) // NS_PER_S
                yield job, False, f"no answer for {seconds} s" + (f": {job.reason}" if job.reason else "")
