"""The WebSocket endpoints: `/v1/ws`, and `/v1/ws/{symbol}`, which subscribes by its URL alone."""

import asyncio
from contextlib import suppress
from typing import Any

import msgspec
from litestar import websocket
from litestar.params import FromPath

from gateway.asgi import HIGH_WATER, LOW_WATER, AsgiConnection, Socket
from gateway.clients import Client
from gateway.connection import Connection, EncodedConnection
from gateway.errors import refusal
from gateway.guard import MSGPACK
from gateway.handover import handover_in, window_bits_in
from gateway.names import since_of
from gateway.protocol import CloseCode, Subscribe
from gateway.runtime import runtime_of
from hub.errors import RedisUnavailable, Refused, RequestError

__all__ = ["stream", "stream_symbol"]

DEFAULT_KINDS = "quote,trade"
FORMATS = ("json", MSGPACK)
#: What a URL may say; the first one without a symbol, too.
PARAMETERS = ("format", "kinds", "venues", "max_rate", "since", "speed")


@websocket("/v1/ws")
async def stream(socket: Socket) -> None:
    """Stream what the client subscribes to by messages (gateway/protocol.py)."""
    await _serve(socket, None)


@websocket("/v1/ws/{symbol:str}")
async def stream_symbol(socket: Socket, symbol: FromPath[str]) -> None:
    """Stream one symbol. `kinds` (default quote,trade) and `venues` (default all) are comma-separated; `max_rate`,
    `since` and `speed` are as in a subscribe message."""
    await _serve(socket, symbol)


def _subscription(socket: Socket, symbol: str) -> Subscribe:
    """Return the subscribe message that stands for the URL. Raises RequestError."""
    query = socket.query_params
    kinds, venues = _words(query.get("kinds", DEFAULT_KINDS)), _words(query.get("venues", "*"))
    most = runtime_of(socket.app).settings.gateway.max_subscriptions
    if len(kinds) * len(venues) > most:
        raise RequestError("too_many_subscriptions", f"a connection may have {most} subscriptions")
    fields: dict[str, Any] = {"channels": [f"{kind}:{venue}:{symbol}" for kind in kinds for venue in venues]}
    fields |= {name: query[name] for name in ("max_rate", "speed", "since") if name in query}
    for name in ("max_rate", "speed"):
        with suppress(KeyError, ValueError):
            fields[name] = float(fields[name])
    try:
        op = msgspec.convert({"op": "subscribe", **fields}, Subscribe)
    except msgspec.ValidationError as error:
        raise RequestError("bad_parameter", str(error)) from error
    since_of(op)
    return op


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


async def _serve(socket: Socket, symbol: str | None) -> None:
    runtime = runtime_of(socket.app)
    clients, gate, slot = runtime.clients, runtime.clients.gate, ""
    try:
        wanted = _format(socket)
        newcomer = await runtime.guard.connect(socket.scope, len(clients))
        _check_parameters(socket, symbol)
        first = _subscription(socket, symbol) if symbol is not None else None
        if gate is not None:
            slot = await gate.take_slot(newcomer.grant)
    except (RequestError, RedisUnavailable) as error:
        if isinstance(error, RequestError) and not isinstance(error, Refused):
            error = Refused(400, error.code, error.detail)
        code = error.code if isinstance(error, Refused) else "redis_unavailable"
        runtime.guard.note_refused(code, socket.scope)
        await _refuse(socket, error)
        return
    await socket.accept(newcomer.subprotocol)
    packed = MSGPACK in (wanted, newcomer.subprotocol)
    window_bits = window_bits_in(socket.scope)
    encoding = clients.encodings.get(packed=packed, window_bits=window_bits)

    def welcome(client: Client) -> None:
        clients.add(client)
        if client.bucket < 0:
            return
        if gate is not None:
            gate.enter(client.subscriber, newcomer.grant, slot, first)
        elif first is not None:
            runtime.subscriptions.subscribe(client.subscriber, first)

    def take_over(transport: asyncio.Transport) -> Connection:
        transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        connection = (
            EncodedConnection(clients, transport, encoding, packed=packed, deflate=window_bits > 0)
            if packed or window_bits
            else Connection(clients, transport)
        )
        welcome(connection)
        return connection

    hand_over = handover_in(socket.scope)
    if hand_over is not None:
        if not hand_over(take_over) and gate is not None:
            gate.free_slot(newcomer.grant.sub, slot)
        return
    behind_asgi = AsgiConnection(clients, socket, encoding)
    welcome(behind_asgi)
    await behind_asgi.run()


def _check_parameters(socket: Socket, symbol: str | None) -> None:
    """Refuse what the URL cannot say: a typo must not look like a missing filter."""
    allowed = PARAMETERS if symbol is not None else PARAMETERS[:1]
    for name in socket.query_params if socket.scope["query_string"] else ():
        if name not in allowed:
            raise Refused(
                400, "unknown_parameter", f"there is no parameter {name[:60]!r} here; allowed: {', '.join(allowed)}"
            )


def _format(socket: Socket) -> str:
    if not socket.scope["query_string"]:
        return FORMATS[0]
    wanted = socket.query_params.get("format", FORMATS[0])
    if wanted not in FORMATS:
        raise Refused(400, "bad_parameter", f"format = {wanted[:60]!r} is not possible; allowed: {', '.join(FORMATS)}")
    return wanted


async def _refuse(socket: Socket, error: Refused | RedisUnavailable) -> None:
    """Answer the handshake with a problem body, where the server can; browsers see neither it nor the status."""
    await socket.receive()  # the connect message
    if "websocket.http.response" not in (socket.scope.get("extensions") or {}):
        await socket.close(CloseCode.TRY_LATER if isinstance(error, RedisUnavailable) else 1008)
        return
    response = refusal(error)
    headers = [(name.encode(), value.encode()) for name, value in response.headers.items()]
    headers.append((b"content-type", str(response.media_type).encode()))
    start: Any = {"type": "websocket.http.response.start", "status": response.status_code, "headers": headers}
    body: Any = {"type": "websocket.http.response.body", "body": response.content, "more_body": False}
    await socket.send(start)
    await socket.send(body)
