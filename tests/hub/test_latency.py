"""Latency, sampled per batch."""

import time

from hub.latency import SAMPLES, Latencies
from hub.model import Book, Quote
from tests.gateway.kit import book

NS_PER_MS = 1_000_000


def timed(recv_ms: int, event_ms: int | None) -> Quote:
    event = event_ms * NS_PER_MS if event_ms is not None else None
    return Quote("binance", "BTC-USDT", "", event, recv_ms * NS_PER_MS, 0, 1.0, 1.0, 2.0, 1.0)


def test_the_first_message_off_a_socket_speaks_for_its_batch() -> None:
    latencies = Latencies()
    assert latencies.report() == {}
    for n in range(1, 101):
        latencies.sent(["something else", timed(1000, 1000 - n), timed(1000, 0)], 1000 * NS_PER_MS)
        latencies.confirmed((1000 + 2 * n) * NS_PER_MS)
    report = latencies.report()
    assert (report["venue_to_hub"].p50_ms, report["venue_to_hub"].p99_ms) == (50, 99)
    assert (report["hub_to_redis"].p50_ms, report["hub_to_redis"].p99_ms) == (100, 198)
    assert report["hub_to_redis"].samples == 100


def test_what_did_not_come_off_a_socket_is_not_measured() -> None:
    latencies = Latencies()
    snapshot: Book = book([(1.0, 1.0)], [(2.0, 1.0)], "snapshot")
    latencies.sent([snapshot], time.time_ns())
    latencies.confirmed(time.time_ns())
    assert latencies.report() == {}
    latencies.sent([timed(1000, None)], 1001 * NS_PER_MS)
    latencies.confirmed(1003 * NS_PER_MS)
    latencies.confirmed(2000 * NS_PER_MS)
    report = latencies.report()
    assert set(report) == {"hub_to_redis"} and report["hub_to_redis"].p50_ms == 3, "a venue without times; once"


def test_only_the_newest_count() -> None:
    latencies = Latencies()
    for n in range(2 * SAMPLES):
        latencies.sent([timed(7, 6)] if n < SAMPLES else [timed(7, 0)], 0)
        latencies.confirmed(7 * NS_PER_MS)
    report = latencies.report()
    assert report["venue_to_hub"].samples == SAMPLES
    assert report["venue_to_hub"].p50_ms == report["venue_to_hub"].p99_ms == 7
