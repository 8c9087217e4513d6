"""The WebSocket endpoints: `/v1/ws`, and `/v1/ws/{symbol}`, which subscribes by its URL alone."""

import asyncio

from litestar import websocket
from litestar.params import FromPath

from gateway.asgi import HIGH_WATER, LOW_WATER, AsgiConnection, Socket
from gateway.clients import Client
from gateway.connection import Connection
from gateway.handover import handover_in
from gateway.runtime import runtime_of

__all__ = ["stream", "stream_symbol"]

DEFAULT_KINDS = "quote,trade"


@websocket("/v1/ws")
async def stream(socket: Socket) -> None:
    """Stream what the client subscribes to by messages (gateway/protocol.py)."""
    await _serve(socket, [])


@websocket("/v1/ws/{symbol:str}")
async def stream_symbol(socket: Socket, symbol: FromPath[str]) -> None:
    """Stream one symbol. `kinds` (default quote,trade) and `venues` (default all) are comma-separated."""
    kinds = socket.query_params.get("kinds", DEFAULT_KINDS)
    venues = socket.query_params.get("venues", "*")
    names: list[object] = [f"{kind}:{venue}:{symbol}" for kind in _words(kinds) for venue in _words(venues)]
    await _serve(socket, names)


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


async def _serve(socket: Socket, names: list[object]) -> None:
    runtime = runtime_of(socket.app)
    await socket.accept()

    def welcome(client: Client) -> None:
        runtime.clients.add(client)
        if names and client.bucket >= 0:
            runtime.subscriptions.subscribe(client.subscriber, names)

    def take_over(transport: asyncio.Transport) -> Connection:
        transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        connection = Connection(runtime.clients, transport)
        welcome(connection)
        return connection

    hand_over = handover_in(socket.scope)
    if hand_over is not None:
        hand_over(take_over)
        return
    behind_asgi = AsgiConnection(runtime.clients, socket)
    welcome(behind_asgi)
    await behind_asgi.run()
