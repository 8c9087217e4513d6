"""feeds/schedule.py and feeds/ledger.py: what is asked when, and which candles are told."""

from hypothesis import given
from hypothesis import strategies as st

from feeds.adapter import Fetch
from feeds.ledger import CandleLedger
from feeds.quota import Plan, Quota
from feeds.schedule import REFUSED_NS, SHARE, SLOWEST, Job, Schedule
from hub.instruments import Instrument
from hub.intervals import NS_PER_S
from hub.model import CANDLE_TYPES, Candle

ROW = Instrument(venue="v", venue_symbol="A", symbol="A", kind="equity", base="A", quote="USD")
RICH = Plan(calls=1000, window_s=1)


def job(name: str, period_s: float = 60.0) -> Job:
    return Job(lambda now: Fetch(resource=name, path="/"), ("ticker",), (ROW,), period_s)


def names(fetches: list[Fetch]) -> list[str]:
    return [fetch.resource for fetch in fetches]


def test_everything_is_due_at_the_start_and_again_after_its_period() -> None:
    schedule = Schedule([job("a"), job("b", 10)], RICH, 0)
    first = schedule.poll(0, 10)
    assert names(first) == ["a", "b"]
    assert schedule.poll(NS_PER_S, 10) == []  # on their way
    for fetch in first:
        schedule.answered(fetch, NS_PER_S)
    assert schedule.poll(10 * NS_PER_S, 10) == []
    assert names(schedule.poll(11 * NS_PER_S, 10)) == ["b"]
    assert names(schedule.poll(61 * NS_PER_S, 10)) == ["a"]


def test_no_more_than_there_is_room_for_and_the_longest_overdue_first() -> None:
    schedule = Schedule([job("a", 100), job("b", 10), job("c", 50)], RICH, 0)
    for fetch in schedule.poll(0, 9):
        schedule.answered(fetch, 0)
    assert names(schedule.poll(200 * NS_PER_S, 2)) == ["b", "c"]
    assert schedule.poll(200 * NS_PER_S, 0) == []


@given(st.lists(st.floats(1, 86_400), min_size=1, max_size=50), st.integers(1, 5000))
def test_a_day_of_polling_stays_within_the_days_quota(periods: list[float], calls: int) -> None:
    schedule = Schedule([job(str(at), period) for at, period in enumerate(periods)], day(calls), 0)
    a_day = sum(86_400 * NS_PER_S / schedule.period_ns(each) for each in schedule.jobs)
    assert a_day <= calls * SHARE * 1.0001
    wished = sum(86_400 / period for period in periods)
    assert schedule.stretch > 1 or wished <= calls * SHARE * 1.0001


def day(calls: int) -> Plan:
    return Plan(calls=100, window_s=0.01, quotas=(Quota(calls, "day"),))


def test_429_slows_everything_down_and_answers_bring_the_pace_back() -> None:
    schedule = Schedule([job("a")], RICH, 0)
    usual = schedule.period_ns(schedule.jobs[0])
    (fetch,) = schedule.poll(0, 1)
    schedule.limited(fetch, "too many", 7 * NS_PER_S, 0)
    assert schedule.poll(6 * NS_PER_S, 1) == []
    assert schedule.period_ns(schedule.jobs[0]) == 2 * usual
    now = 7 * NS_PER_S
    for _ in range(40):
        (fetch,) = schedule.poll(now, 1)
        schedule.answered(fetch, now)
        now += schedule.period_ns(schedule.jobs[0])
    assert schedule.period_ns(schedule.jobs[0]) == usual
    for _ in range(20):
        schedule.limited(fetch, "too many", now, now)
    assert schedule.slowed == SLOWEST


def test_a_failure_is_tried_again_later_and_later() -> None:
    schedule = Schedule([job("a", 3600)], RICH, 0)
    now, waits = 0, []
    for _ in range(4):
        (fetch,) = schedule.poll(now, 1)
        schedule.failed(fetch, "no route", now)
        waits.append(schedule.jobs[0].next - now)
        now = schedule.jobs[0].next
    assert waits == sorted(waits)
    assert waits[0] < waits[-1]


def test_what_has_no_answer_is_asked_rarely_and_said() -> None:
    schedule = Schedule([job("a")], RICH, 0)
    (fetch,) = schedule.poll(0, 1)
    schedule.refused(fetch, "premium", 0)
    assert [(refused, reason) for _, refused, reason in schedule.troubles(1)] == [(True, "premium")]
    assert schedule.poll(REFUSED_NS - 1, 1) == []
    (fetch,) = schedule.poll(REFUSED_NS, 1)
    schedule.answered(fetch, REFUSED_NS)
    assert list(schedule.troubles(REFUSED_NS + 1)) == []


def test_data_is_stale_by_the_jobs_own_schedule() -> None:
    schedule = Schedule([job("a", 100), job("b", 10_000)], RICH, 0)
    for fetch in schedule.poll(0, 9):
        schedule.answered(fetch, 0)
    assert list(schedule.troubles(200 * NS_PER_S)) == []
    (trouble,) = schedule.troubles(400 * NS_PER_S)
    assert trouble[0] is schedule.jobs[0]
    assert "no answer for 400 s" in trouble[2]


def test_what_an_earlier_run_had_is_not_asked_again_at_once() -> None:
    schedule = Schedule([job("a", 100)], RICH, 50 * NS_PER_S)
    schedule.resume(schedule.jobs[0], 20 * NS_PER_S)
    assert schedule.poll(119 * NS_PER_S, 1) == []
    assert names(schedule.poll(120 * NS_PER_S, 1)) == ["a"]


# candles


def candle(start: int, close: float = 1.0, revision: int = 0) -> Candle:
    return CANDLE_TYPES["1m"](
        "v", "A", "", None, 1, 0, start, 1.0, 1.0, 1.0, close, 5.0,
        None, None, None, None, None, None, None, None, None, "venue", revision,
    )  # fmt: skip


def test_a_candle_is_told_once_and_again_when_it_changed() -> None:
    ledger = CandleLedger()
    first = ledger.admit(candle(60))
    assert first is not None and first.revision == 0
    assert ledger.admit(candle(60)) is None
    again = ledger.admit(candle(60, 2.0))
    assert again is not None and again.revision == 1
    assert ledger.admit(candle(60, 2.0)) is None
    other = ledger.admit(candle(120))
    assert other is not None and other.revision == 0


def test_what_an_earlier_run_told_counts() -> None:
    ledger = CandleLedger()
    ledger.note(candle(60, 2.0, revision=3))
    assert ledger.admit(candle(60, 2.0)) is None
    changed = ledger.admit(candle(60, 2.5))
    assert changed is not None and changed.revision == 4


def test_what_was_forgotten_is_not_told_again() -> None:
    ledger = CandleLedger()
    for start in range(CandleLedger.KEPT + 10):
        assert ledger.admit(candle(start)) is not None
    assert ledger.admit(candle(3)) is None
    ledger.forget("A")
    assert ledger.admit(candle(3)) is not None
