"""Clients and publisher for scripts/bench_fanout.py where the C load generator is not at hand.

Many WebSocket connections in one event loop. Quotes have one length, so that a whole read is counted by its size alone;
of some reads the first quote is looked at for its `ts_pub`. In a closed loop `window` messages are on their way: each
that has reached all its readers makes room for another.
"""

import asyncio
import base64
import os
import random
import time
from collections.abc import Callable
from typing import cast

from msgspec import Struct

from hub.link import Link, pack
from scripts.harness import Usage

__all__ = ["Load", "Result", "measure"]

LENGTH = 200
SAMPLE_EVERY = 16
_TS_PUB = b'"ts_pub":'


class Load(Struct, frozen=True, kw_only=True):
    """`rate` messages per second, or a closed loop of `window` messages; each client reads `per_client` symbols."""

    clients: int
    symbols: int = 1
    per_client: int = 1
    window: int = 0
    rate: float = 0.0
    seconds: float = 2.0
    warmup_s: float = 0.7


class Result(Struct, kw_only=True):
    """`server_cpu` in cores, latencies publisher -> client in µs, memory in KB per connection."""

    delivered_per_cpu_s: float
    delivered_s: float
    server_cpu: float
    p50_us: float
    p99_us: float
    rss_per_conn_kb: float
    missing: int = 0


class _Client(asyncio.Protocol):
    """Answers nothing and reads everything."""

    def __init__(self, channels: list[str], host: str, counted: Callable[[int], None], latencies: list[int]) -> None:
        self.channels, self.host, self.counted, self.latencies = channels, host, counted, latencies
        self.ready = asyncio.get_running_loop().create_future()
        self.acks = 0
        self._buffer = b""
        self._reads = random.randrange(SAMPLE_EVERY)
        self._partial = 0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            f"GET /v1/ws HTTP/1.1\r\nHost: {self.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        if self.ready.done():
            self._count(data)
            return
        self._buffer += data
        if self.acks == 0 and b"\r\n\r\n" in self._buffer:
            self._buffer = self._buffer.partition(b"\r\n\r\n")[2]
            self.acks = 1
            self._subscribe()
        # The acknowledgements come first, one per channel; each is a frame of its own.
        while self.acks and (size := _frame_size(self._buffer)):
            self._buffer = self._buffer[size:]
            self.acks += 1
            if self.acks > len(self.channels):
                self.ready.set_result(None)
                self._count(self._buffer)
                return

    def _subscribe(self) -> None:
        names = ",".join(f'"{name}"' for name in self.channels)
        text = f'{{"op":"subscribe","channels":[{names}],"id":1}}'.encode()
        head = bytes([0x81, 0x80 | len(text)]) if len(text) < 126 else b"\x81\xfe" + len(text).to_bytes(2, "big")
        self.transport.write(head + b"\0\0\0\0" + text)

    def _count(self, data: bytes) -> None:
        if not data:
            return
        self._reads += 1
        if not self._partial and self._reads % SAMPLE_EVERY == 0:
            at = data.find(_TS_PUB, 0, FRAME)
            if at > 0:
                sent = int(data[at + len(_TS_PUB) : at + len(_TS_PUB) + 19])
                self.latencies.append(time.time_ns() - sent)
        whole, self._partial = divmod(self._partial + len(data), FRAME)
        self.counted(whole)


FRAME = LENGTH + 4


def _frame_size(data: bytes) -> int:
    """Return the size of the first frame, 0 while it is not whole."""
    if len(data) < 4:
        return 0
    size = data[1] & 127
    whole = size + 2 if size < 126 else int.from_bytes(data[2:4], "big") + 4
    return whole if len(data) >= whole else 0


class _Run:
    def __init__(self, load: Load, redis_url: str, port: int) -> None:
        self.load, self.redis_url, self.port = load, redis_url, port
        self.delivered = self.expected = self.published = 0
        self.latencies: list[int] = []
        self.readers = [0] * load.symbols
        self.clients: list[_Client] = []
        self._epoch = time.time_ns() // 1_000_000
        self._seqs = [0] * load.symbols
        self._changed = asyncio.Event()
        self._random = random.Random(1)
        self._link: Link

    def counted(self, messages: int) -> None:
        self.delivered += messages
        self._changed.set()

    async def connect(self) -> None:
        self._link = await Link.connect(self.redis_url)
        loop = asyncio.get_running_loop()
        for _ in range(self.load.clients):
            symbols = self._random.sample(range(self.load.symbols), self.load.per_client)
            for symbol in symbols:
                self.readers[symbol] += 1
            names = [f"quote:bench:S{symbol}-USD" for symbol in symbols]
            _, client = await loop.create_connection(
                lambda names=names: _Client(names, f"127.0.0.1:{self.port}", self.counted, self.latencies),  # type: ignore[misc]
                "127.0.0.1", self.port,
            )  # fmt: skip
            self.clients.append(client)
        await asyncio.wait_for(asyncio.gather(*(client.ready for client in self.clients)), 30)

    def publish(self, count: int) -> None:
        commands = []
        for _ in range(count):
            symbol = self.published % self.load.symbols
            self.published += 1
            self._seqs[symbol] += 1
            now = time.time_ns()
            text = (
                f'{{"type":"quote","venue":"bench","symbol":"S{symbol}-USD","id":"{self._epoch}-{self._seqs[symbol]}",'
                f'"ts_event":null,"ts_recv":{now},"ts_pub":{now},"bid":1,"bid_size":1,"ask":2,"ask_size":1}}'
            )
            padded = text[:-1] + " " * (LENGTH - len(text)) + "}"
            commands.append(pack("PUBLISH", f"md:quote:bench:S{symbol}-USD", padded))
            self.expected += self.readers[symbol]
        self._link.send(b"".join(commands), len(commands), lambda _: None)

    async def drive(self, seconds: float) -> None:
        """Publish for so long."""
        end = time.perf_counter() + seconds
        if self.load.window:
            share = max(1, sum(self.readers) // self.load.symbols)
            while time.perf_counter() < end:
                room = self.load.window - (self.expected - self.delivered + share - 1) // share
                if room > 0:
                    self.publish(room)
                self._changed.clear()
                try:
                    await asyncio.wait_for(self._changed.wait(), 0.5)
                except TimeoutError:
                    self.delivered = self.expected  # lost; go on
            return
        began, sent = time.perf_counter(), 0
        while (now := time.perf_counter()) < end:
            due = int((now - began) * self.load.rate) - sent
            if due > 0:
                self.publish(due)
                sent += due
            await asyncio.sleep(0.0005)

    def close(self) -> None:
        for client in self.clients:
            client.transport.abort()
        self._link.close()


async def measure(load: Load, redis_url: str, port: int, server: int) -> Result:
    """Load the server on `port`, whose process is `server`."""
    usage = Usage(server)
    before = usage.rss()
    run = _Run(load, redis_url, port)
    try:
        await run.connect()
        memory = usage.rss() - before
        await run.drive(load.warmup_s)
        run.latencies.clear()
        began, cpu, delivered = time.perf_counter(), usage.cpu_s(), run.delivered
        await run.drive(load.seconds)
        took, cpu, delivered = time.perf_counter() - began, usage.cpu_s() - cpu, run.delivered - delivered
        await asyncio.sleep(0.5)
        latencies = sorted(run.latencies) or [0]
        return Result(
            delivered_per_cpu_s=delivered / cpu,
            delivered_s=delivered / took,
            server_cpu=cpu / took,
            p50_us=latencies[len(latencies) // 2] / 1000,
            p99_us=latencies[len(latencies) * 99 // 100] / 1000,
            rss_per_conn_kb=memory / 1024 / load.clients,
            missing=run.expected - run.delivered,
        )
    finally:
        run.close()
