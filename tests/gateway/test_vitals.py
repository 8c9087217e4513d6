"""What a worker samples for its metrics."""

import time

from gateway.vitals import Stopwatch, memory_of


def test_memory_of_one_server() -> None:
    info = b"# Memory\r\nused_memory:10\r\nused_memory_rss:99\r\nmaxmemory:40\r\nmaxmemory_policy:x\r\n"
    assert memory_of(info) == (10, 40)
    assert memory_of(b"used_memory:10\r\nmaxmemory:0\r\n") == (10, 0)
    assert memory_of(b"nothing of that") == (0, 0)


def test_memory_of_a_cluster_is_that_of_its_fullest_node() -> None:
    nodes = [
        b"used_memory:50\r\nmaxmemory:100\r\n",
        b"used_memory:90\r\nmaxmemory:100\r\n",
        b"used_memory:95\r\nmaxmemory:0",
    ]
    assert memory_of(b"\r\n".join(nodes)) == (90, 100)


def test_a_message_that_says_when_it_was_published_is_timed() -> None:
    stopwatch = Stopwatch()
    assert runs_after(stopwatch, b'{"type":"quote","ts_pub":%d,"bid":1.0}' % (time.time_ns() - 200_000_000))
    stopwatch.end()
    assert 0.2 <= stopwatch.times.sum


def test_a_message_that_does_not_is_left_alone() -> None:
    stopwatch = Stopwatch()
    for payload in (b"", b"{}", b'{"ts_pub":null,"bid":1.0}', b'{"ts_pub":'):
        assert not runs_after(stopwatch, payload)


def runs_after(stopwatch: Stopwatch, payload: bytes) -> bool:
    stopwatch.begin(payload)
    return stopwatch.running
