"""msgpack and compressed messages: the same content in the same order, made once for all who want it."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from gateway.app import create_app
from gateway.encodings import KEEP_BYTES, Encoding, Encodings
from gateway.frames import BINARY, PING, FrameReader, control_frame, data_frame, split_frames, text_frame
from tests.gateway.kit import Feed, Gateway, book, gateway_on, gateway_settings, quote, subscribe, trade
from tests.gateway.test_asgi import connected, started
from tests.gateway.tokens import closing, refused

QUOTE = "quote:binance:BTC-USDT"
TRADE = "trade:binance:BTC-USDT"

unpack = msgspec.msgpack.decode


async def received(socket: ClientConnection, count: int) -> list[Any]:
    """Return so many messages, each msgpack in a binary frame."""
    found = []
    for _ in range(count):
        message = await asyncio.wait_for(socket.recv(), 30)
        assert isinstance(message, bytes)
        found.append(unpack(message))
    return found


@pytest.mark.parametrize("how", ["subprotocol", "query"])
async def test_msgpack_by_subprotocol_or_query(feed: Feed, gateway: Gateway, how: str) -> None:
    (stored,) = await feed.publish(quote(0.1))
    options: Any = {"subprotocols": ["msgpack"]} if how == "subprotocol" else {}
    async with gateway.connect("" if how == "subprotocol" else "?format=msgpack", **options) as socket:
        assert socket.subprotocol == ("msgpack" if how == "subprotocol" else None)
        await subscribe(socket, QUOTE, "nonsense", id=1)
        found = await received(socket, 3)
        assert sorted(m["type"] for m in found) == ["ack", "error", "quote"]
        assert json.loads(stored) in found
        assert list(found[-1] if found[-1]["type"] == "quote" else found[1]) == list(json.loads(stored))
        await socket.send(msgspec.msgpack.encode({"op": "ping", "id": "x"}))
        assert (await received(socket, 1))[0]["id"] == "x"
        await socket.send(b"\xc1")
        assert (await received(socket, 1))[0]["code"] == "bad_msgpack"
        await socket.send(msgspec.msgpack.encode({"op": "fly", "id": 2}))
        (error,) = await received(socket, 1)
        assert (error["code"], error["id"]) == ("unknown_op", 2)
        batch = await feed.publish(*(trade(n) for n in range(5)), *(quote(float(n)) for n in range(5)))
        assert [m for m in await received(socket, 5)] == [json.loads(p) for p in batch[5:]]


async def test_by_url_alone(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(quote(7.0))
    async with gateway.connect("/BTC-USDT?kinds=quote&venues=binance&format=msgpack") as socket:
        assert [m["type"] for m in await received(socket, 2)] == ["ack", "quote"]


async def test_an_unknown_format_is_refused(gateway: Gateway) -> None:
    assert (await refused(gateway, "?format=xml"))[:2] == (400, "bad_parameter")


async def test_binary_messages_are_for_those_who_asked_for_them(gateway: Gateway) -> None:
    async with gateway.connect("?format=json") as socket:
        await socket.send(msgspec.msgpack.encode({"op": "ping"}))
        assert (await closing(socket))[0] == 1003


async def test_converted_once_however_many_want_it(feed: Feed, gateway: Gateway) -> None:
    encodings = gateway.runtime.clients.encodings
    async with gateway.connect() as plain:
        await subscribe(plain, TRADE)
        await plain.recv()
        await feed.publish(trade(1))
        await plain.recv()
        assert encodings.made == 0, "nobody wants it"
        await plain.close()
        sockets = [await gateway.connect("?format=msgpack") for _ in range(10)]
        for number, socket in enumerate(sockets):
            # Different sets, so that the writes differ and only the messages are the same.
            await subscribe(socket, TRADE, *[QUOTE][: number % 2])
            await received(socket, 2 + number % 2)
        before = encodings.made
        for start in range(2, 52, 10):
            await feed.publish(*(trade(n) for n in range(start, start + 10)), quote(float(start)))
        for number, socket in enumerate(sockets):
            found = await received(socket, 50 + 5 * (number % 2))
            assert [m["trade_id"] for m in found if m["type"] == "trade"] == [str(n) for n in range(2, 52)]
            await socket.close()
        assert encodings.made - before == 55


async def test_books_and_closes_in_msgpack(redis_url: str, feed: Feed) -> None:
    await feed.publish(book([(1.0, 2.0)], [(3.0, 4.0)], "snapshot"))
    async with gateway_on(redis_url) as gateway:
        async with gateway.connect("?format=msgpack") as socket:
            await subscribe(socket, "book:binance:BTC-USDT")
            _, snapshot = await received(socket, 2)
            assert snapshot["bids"] == [[1.0, 2.0]]
            closing_all = asyncio.create_task(gateway.runtime.clients.close_all(0.5))
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
            await closing_all


async def test_over_plain_asgi(redis_url: str, feed: Feed) -> None:
    await feed.publish(quote(5.0))
    app = create_app(gateway_settings(redis_url))
    async with started(app):
        async with connected(app, "/v1/ws", b"format=msgpack") as socket:
            op = msgspec.msgpack.encode({"op": "subscribe", "channels": [QUOTE]})
            socket.inbox.put_nowait({"type": "websocket.receive", "text": None, "bytes": op})
            assert [unpack((await socket.next())["bytes"])["type"] for _ in range(2)] == ["ack", "quote"]


# permessage-deflate


def offer(**parameters: Any) -> dict[str, Any]:
    return {"extensions": [ClientPerMessageDeflateFactory(**parameters)]}


async def test_compression_is_off_by_default(gateway: Gateway) -> None:
    async with gateway.connect(**offer()) as socket:
        assert socket.protocol.extensions == []


@pytest.mark.parametrize("path", ["", "?format=msgpack"])
@pytest.mark.parametrize("bits", [None, 9, 12])
async def test_compressed_messages(redis_url: str, feed: Feed, path: str, bits: int | None) -> None:
    bids, asks = [(float(n), 1.0) for n in range(500, 0, -1)], [(float(n), 1.0) for n in range(501, 1000)]
    snapshot = book(bids, asks, "snapshot")
    (stored,) = await feed.publish(snapshot)
    async with gateway_on(redis_url, deflate=True) as gateway:
        async with gateway.connect(path, **offer(server_max_window_bits=bits)) as socket:
            (extension,) = socket.protocol.extensions
            assert "remote_no_context_takeover=True" in repr(extension)
            assert "local_no_context_takeover=True" in repr(extension)
            await socket.send(json.dumps({"op": "subscribe", "channels": ["book:binance:BTC-USDT"], "id": "x" * 100}))
            read: Any = unpack if path else json.loads
            found = [read(await asyncio.wait_for(socket.recv(), 30)) for _ in range(2)]
            assert found[0]["id"] == "x" * 100
            assert found[1] == json.loads(stored)
            for number in range(20):
                (payload,) = await feed.publish(book([(float(number + 1), 2.0)], []))
                assert read(await asyncio.wait_for(socket.recv(), 30)) == json.loads(payload)
        async with gateway.connect(path) as plain:
            assert plain.protocol.extensions == []
            await subscribe(plain, "book:binance:BTC-USDT")
            assert read(await plain.recv())["type"] == "ack"


async def test_compressed_once_for_all(redis_url: str, feed: Feed) -> None:
    async with gateway_on(redis_url, deflate=True) as gateway:
        sockets = [await gateway.connect(**offer()) for _ in range(5)]
        for socket in sockets:
            await subscribe(socket, TRADE)
            await socket.recv()
        before = gateway.runtime.clients.encodings.made
        await feed.publish(*(trade(n) for n in range(20)))
        for socket in sockets:
            assert [json.loads(await socket.recv())["trade_id"] for _ in range(20)] == [str(n) for n in range(20)]
            await socket.close()
        assert gateway.runtime.clients.encodings.made - before == 20


async def test_a_bomb_is_cut_off(redis_url: str, feed: Feed) -> None:
    async with gateway_on(redis_url, deflate=True) as gateway, gateway.connect(**offer()) as socket:
        await socket.send(json.dumps({"op": "ping", "id": 1, "x": " " * 10_000_000}))
        assert (await closing(socket))[0] == 1009


# without sockets


def client_frame(first: int, payload: bytes) -> bytes:
    frame = data_frame(first, payload)
    return bytes((frame[0], frame[1] | 0x80)) + frame[2 : len(frame) - len(payload)] + b"\0\0\0\0" + payload


def test_what_is_compressed_can_be_read_again() -> None:
    encodings = Encodings()
    for bits in range(9, 16):
        encoding = encodings.get(packed=False, window_bits=bits)
        assert encoding is not None
        for size in (0, 63, 64, 500, 60_000):
            payload = b'{"a":' + b"1234567890" * (size // 10) + b"}"
            frame = encoding.frames(text_frame(payload))
            reader = FrameReader(70_000, deflate=True)
            (_, content) = next(split_frames(frame))
            assert list(reader.feed(client_frame(frame[0] & 0x4F, content))) == [(1, payload)]
            assert len(frame) <= len(text_frame(payload))
    assert encodings.get(packed=False, window_bits=0) is None


def test_what_is_no_message_stays_as_it_is_and_memory_is_bounded() -> None:
    encoding = Encodings().get(packed=True, window_bits=0)
    assert isinstance(encoding, Encoding)
    mixed = control_frame(PING, b"x") + text_frame(b'{"a":1.0}') + text_frame(b'{"a":1}')
    found = list(split_frames(encoding.frames(mixed)))
    assert found[0] == (PING, b"x")
    assert [(opcode, unpack(payload)) for opcode, payload in found[1:]] == [(BINARY, {"a": 1.0}), (BINARY, {"a": 1})]
    assert isinstance(unpack(found[1][1])["a"], float), "prices stay floats"
    for number in range(20_000):
        encoding.frames(text_frame(b'{"number":%d,"text":"%s"}' % (number, b"x" * 100)))
    kept = [*encoding._newer.items(), *encoding._older.items()]
    assert sum(len(a) + len(b) for a, b in kept) <= 2 * KEEP_BYTES
