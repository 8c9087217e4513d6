"""Without the hand-over: over plain ASGI, as with another server, clients get the same messages."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from litestar import Litestar

from gateway.app import create_app
from gateway.asgi import HIGH_WATER
from gateway.runtime import runtime_of
from tests.gateway.kit import Feed, eventually, gateway_settings, quote, trade

QUOTE = "quote:binance:BTC-USDT"
TRADE = "trade:binance:BTC-USDT"


class Socket:
    """The server's side of one WebSocket; it takes messages only while `gate` is set."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.gate = asyncio.Event()
        self.gate.set()

    async def take(self, message: Any) -> None:
        await self.gate.wait()
        self.outbox.put_nowait(message)

    def say(self, text: str) -> None:
        self.inbox.put_nowait({"type": "websocket.receive", "text": text, "bytes": None})

    async def next(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.outbox.get(), 30)

    async def text(self) -> str:
        message = await self.next()
        assert message["type"] == "websocket.send", message
        return str(message["text"])

    async def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.text())
        return found


@asynccontextmanager
async def connected(app: Litestar, path: str = "/v1/ws", query: bytes = b"") -> AsyncIterator[Socket]:
    scope: Any = {
        "type": "websocket", "path": path, "raw_path": path.encode(), "query_string": query, "headers": [],
        "subprotocols": [], "scheme": "ws", "server": None, "client": None, "root_path": "", "extensions": {},
        "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "state": {},
    }  # fmt: skip
    socket = Socket()
    socket.inbox.put_nowait({"type": "websocket.connect"})
    task = asyncio.ensure_future(app(scope, socket.inbox.get, socket.take))  # type: ignore[arg-type]
    assert (await socket.next())["type"] == "websocket.accept"
    yield socket
    socket.gate.set()
    socket.inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
    await asyncio.wait_for(task, 30)


@asynccontextmanager
async def started(app: Litestar) -> AsyncIterator[None]:
    """The app's lifespan, in this event loop; a test client would run it in a thread of its own."""
    runtime = runtime_of(app)
    await runtime.start()
    try:
        yield
    finally:
        await runtime.stop()


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Litestar]:
    app = create_app(gateway_settings(redis_url))
    async with started(app):
        yield app
        assert len(runtime_of(app).clients) == 0


async def test_the_same_messages_over_asgi(feed: Feed, app: Litestar) -> None:
    await feed.publish(quote(1.0), trade(1))
    async with connected(app) as socket:
        socket.say(json.dumps({"op": "subscribe", "channels": [QUOTE, TRADE], "id": 1}))
        assert [(await socket.json())["type"] for _ in range(4)] == ["ack", "quote", "ack", "trade"]
        payloads = await feed.publish(quote(2.0), trade(2), trade(3))
        assert sorted([(await socket.text()).encode() for _ in payloads]) == sorted(payloads)
        socket.say("nonsense")
        assert (await socket.json())["code"] == "bad_json"
    async with connected(app, "/v1/ws/BTC-USDT", b"kinds=quote&venues=binance") as socket:
        assert [(await socket.json())["type"] for _ in range(2)] == ["ack", "quote"]


async def test_too_large_messages_end_with_their_code(app: Litestar) -> None:
    async with connected(app) as socket:
        socket.say("x" * 70_000)
        assert (await socket.json())["code"] == "message_too_big"
        assert (await socket.next())["code"] == 1009


async def test_slow_readers_are_held_as_on_a_socket(feed: Feed, app: Litestar) -> None:
    await feed.publish(quote(1.0))
    clients = runtime_of(app).clients
    async with connected(app) as socket:
        socket.say(json.dumps({"op": "subscribe", "channels": [QUOTE]}))
        assert [(await socket.json())["type"] for _ in range(2)] == ["ack", "quote"]
        socket.gate.clear()
        size, number = 0, 1
        while size < 2 * HIGH_WATER:
            number += 1
            (payload,) = await feed.publish(quote(float(number)))
            size += len(payload)
        await eventually(lambda: clients.held == 1)
        socket.gate.set()
        kinds = set()
        while (message := await socket.json()).get("bid") != float(number):
            kinds.add(message["type"])
        assert kinds == {"quote", "lagging"}
        assert clients.held == 0


async def test_shutdown_closes_with_1012(redis_url: str, feed: Feed) -> None:
    app = create_app(gateway_settings(redis_url))
    async with started(app):
        async with connected(app) as socket:
            await runtime_of(app).clients.close_all(0.1)
            assert (await socket.next())["code"] == 1012
