"""What this worker samples for its metrics: how long messages take from Redis to the clients, and Redis' memory."""

import asyncio
import re
import time
from typing import Any

from hub.bus import Bus
from hub.latency import SECONDS, Buckets
from hub.link import pack

__all__ = ["Stopwatch", "Vitals"]

SAMPLE_EVERY_S = 0.1
MEMORY_EVERY_S = 5.0
_TS_PUB = b'"ts_pub":'
_HEAD_BYTES = 400
_MEMORY = b"used_memory", b"maxmemory"


class Stopwatch:
    """Times one message now and then, from its `ts_pub` until it is written to every client's socket.

    `armed`: the next message is to be timed; `running`: one is. Both are looked at once per batch.
    """

    __slots__ = ("_since", "armed", "running", "times")

    def __init__(self) -> None:
        self.armed = self.running = False
        self._since = 0
        self.times = Buckets(SECONDS)

    def begin(self, payload: bytes) -> None:
        """Start with this message, if it says when it was published."""
        self.armed = False
        _, found, rest = payload[:_HEAD_BYTES].partition(_TS_PUB)
        digits = rest.partition(b",")[0]
        if found and digits.isdigit():
            self._since, self.running = int(digits), True

    def end(self) -> None:
        """It is written."""
        self.running = False
        self.times.observe(max(0, time.time_ns() - self._since) / 1e9)


class Vitals:
    """Takes the samples; `memory` is bytes used and allowed (0: no limit) of Redis, of a Cluster's fullest node."""

    def __init__(self, bus: Bus[Any], stopwatch: Stopwatch) -> None:
        self.memory = (0, 0)
        self._bus, self._stopwatch = bus, stopwatch

    async def run(self) -> None:
        """Sample until cancelled."""
        next_memory = 0.0
        while True:
            self._stopwatch.armed = True
            if self._bus.connected and time.monotonic() >= next_memory:
                next_memory = time.monotonic() + MEMORY_EVERY_S
                await self._ask_memory()
            await asyncio.sleep(SAMPLE_EVERY_S)

    async def _ask_memory(self) -> None:
        try:
            async with asyncio.timeout(MEMORY_EVERY_S):
                (info,) = await self._bus.call(pack("INFO", "memory"))
        except (ConnectionError, TimeoutError):
            return  # the watch says so
        if isinstance(info, bytes):  # else an error, where INFO is not allowed
            self.memory = memory_of(info)


def memory_of(info: bytes) -> tuple[int, int]:
    """Return bytes used and allowed of the fullest node that INFO, one node's after the other's, tells of."""
    used, allowed = ([int(value) for value in re.findall(rb"^%b:(\d+)" % name, info, re.M)] for name in _MEMORY)
    nodes = zip(used, allowed, strict=False)
    return max(nodes, key=lambda node: (node[0] / node[1] if node[1] else 0.0, node[0]), default=(0, 0))
