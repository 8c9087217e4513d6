"""From the venue's socket to the client: how long a trade takes through feed, Redis and gateway, hop by hop.

    python -m scripts.bench_latency [--rate 1000] [--seconds 10]

Starts a tiny venue that speaks Binance's dialect, a feed, a Redis and a gateway, each a process of its own as in
production, and reads the stream as a client. The times are the venue's sending (noted here), `ts_recv` (the feed read
it), `ts_pub` (the feed handed it to Redis), the arrival at a bare Redis subscriber, and the arrival at the client.
Venue, subscriber and client share this process: what they need themselves is in the figures.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop
from aiohttp import WSMsgType, web
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_ws

from hub.embedded import free_port
from hub.link import Link, Push, pack
from hub.model import Trade
from scripts.harness import running, temporary_redis

CHANNEL = "trade:binance:BTC-USDT"
WARMUP = 500

INFO = {
    "symbols": [
        {
            "symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "filters": [],
            "isSpotTradingAllowed": True, "permissions": ["SPOT"],
        }
    ]
}  # fmt: skip


class Venue:
    """Lists one symbol and streams its trades once somebody subscribed. `sent` is ns by trade id."""

    def __init__(self, rate: float) -> None:
        self.sent: list[int] = []
        self.subscribed = asyncio.Event()
        self._rate = rate
        self._sockets: list[web.WebSocketResponse] = []

    async def start(self, port: int) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/api/v3/exchangeInfo", self._info)
        app.router.add_get("/stream", self._stream)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return runner

    async def _info(self, _: web.Request) -> web.Response:
        return web.json_response(INFO)

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                question = json.loads(message.data)
                await socket.send_json({"result": None, "id": question.get("id")})
                if question.get("method") == "SUBSCRIBE":
                    self._sockets.append(socket)
                    self.subscribed.set()
        return socket

    async def play(self, count: int) -> None:
        """Send so many trades at the rate."""
        began = time.perf_counter()
        for number in range(count):
            ahead = began + number / self._rate - time.perf_counter()
            if ahead > 0:
                await asyncio.sleep(ahead)
            now = time.time_ns()
            self.sent.append(now)
            ms = now // 1_000_000
            text = (
                f'{{"stream":"btcusdt@aggTrade","data":{{"e":"aggTrade","E":{ms},"s":"BTCUSDT","a":{number},'
                f'"p":"60000.10","q":"0.01000000","f":{number},"l":{number},"T":{ms},"m":false,"M":true}}}}'
            )
            for socket in self._sockets:
                await socket.send_str(text)


class _Ears:
    """When which trade came, by trade id."""

    def __init__(self) -> None:
        self.heard: dict[int, tuple[int, Trade]] = {}
        self._decode = msgspec.json.Decoder(Trade).decode

    def take(self, payload: bytes) -> None:
        now = time.time_ns()
        if payload.startswith(b'{"type":"trade"'):
            trade = self._decode(payload)
            self.heard[int(trade.trade_id)] = now, trade

    def pushed(self, pushes: list[Push]) -> None:
        for push in pushes:
            if push[0] == b"message":
                self.take(push[2])


def line(name: str, figures: Sequence[float]) -> str:
    """Return p50, p99 and the largest of some ns, in µs."""
    ordered = sorted(figures)
    cells = (ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], ordered[-1])
    return f"{name:34}" + "".join(f"{cell / 1000:12,.0f}" for cell in cells)


def report(venue: Venue, redis: _Ears, client: _Ears, rate: float) -> str:
    numbers = [n for n in range(WARMUP, len(venue.sent)) if n in client.heard and n in redis.heard]
    trades = [client.heard[n][1] for n in numbers]
    hops = {
        "venue socket -> feed has read": [t.ts_recv - venue.sent[n] for n, t in zip(numbers, trades, strict=True)],
        "feed: read -> handed to Redis": [t.ts_pub - t.ts_recv for t in trades],
        "Redis -> a bare subscriber": [redis.heard[n][0] - t.ts_pub for n, t in zip(numbers, trades, strict=True)],
        "Redis -> gateway -> client": [client.heard[n][0] - t.ts_pub for n, t in zip(numbers, trades, strict=True)],
        "venue socket -> client": [client.heard[n][0] - venue.sent[n] for n in numbers],
    }
    missing = len(venue.sent) - WARMUP - len(numbers)
    head = f"{len(numbers):,} trades at {rate:,.0f}/s, {missing} missing\n{'µs':34}{'p50':>12}{'p99':>12}{'max':>12}"
    return "\n".join([head, *(line(name, figures) for name, figures in hops.items())])


async def bench(rate: float, seconds: float) -> None:
    venue_port, port = free_port(), free_port()
    venue = Venue(rate)
    runner = await venue.start(venue_port)
    with tempfile.TemporaryDirectory(prefix="tickwire-bench-") as folder:
        async with temporary_redis(Path(folder)) as redis:
            env = {
                "TICKWIRE_REDIS__URL": redis.url,
                "TICKWIRE_VENUES__BINANCE__WS_URL": f"ws://127.0.0.1:{venue_port}",
                "TICKWIRE_VENUES__BINANCE__REST_URL": f"http://127.0.0.1:{venue_port}",
                "TICKWIRE_VENUES__BINANCE__SYMBOLS": '["BTC-USDT"]',
                "TICKWIRE_VENUES__BINANCE__KINDS": '["trade"]',
                "TICKWIRE_GATEWAY__PORT": str(port),
            }
            python = sys.executable
            ears, client = _Ears(), _Ears()
            async with (
                running([python, "-m", "gateway"], port, env=env),
                running([python, "-m", "feeds", "binance"], env=env),
                connect_ws(f"ws://127.0.0.1:{port}/v1/ws", compression=None) as socket,
            ):
                link = await Link.connect(redis.url, ears.pushed)
                link.write(pack("SUBSCRIBE", "md:" + CHANNEL))
                await socket.send(json.dumps({"op": "subscribe", "channels": [CHANNEL]}))
                await asyncio.wait_for(venue.subscribed.wait(), 30)
                listening = asyncio.create_task(_listen(socket, client))
                await venue.play(WARMUP + int(rate * seconds))
                await asyncio.sleep(0.5)
                listening.cancel()
                link.close()
            print(report(venue, ears, client, rate))
    await runner.cleanup()


async def _listen(socket: ClientConnection, ears: _Ears) -> None:
    while True:
        ears.take(await socket.recv(decode=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1000.0, help="trades per second")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    uvloop.run(bench(options.rate, options.seconds))


if __name__ == "__main__":
    main()
