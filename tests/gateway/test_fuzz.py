"""Whatever clients send, in frames or in messages, a running gateway answers or closes; nobody else notices, nothing is
left behind, and nothing in its log is a bug."""

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from gateway.frames import BINARY, CLOSE, PONG, TEXT, split_frames
from tests.gateway.kit import Feed, Gateway, gateway_on, quote, subscribe, trade, until

HANDSHAKE = (
    b"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
CODES = {1000, 1002, 1003, 1007, 1009, 4429}
ERRORS = {
    "already_subscribed", "bad_after", "bad_channel", "bad_frame", "bad_json", "bad_max_rate", "bad_message",
    "bad_since", "bad_speed", "bad_symbol", "bad_venue", "message_too_big", "more_errors", "not_subscribed",
    "too_many_replays", "unknown_kind", "unknown_op",
}  # fmt: skip

names = st.one_of(
    st.sampled_from(
        ["trade:binance:BTC-USDT", "quote:binance:BTC-USDT", "quote:*:*", "trade:*:BTC-USDT", "book:binance:BTC-USDT",
         "status:binance:*", "status:*:*", "candle.1m:binance:*", "quote:all:X", "trade:binance:*"]
    ),
    st.text(max_size=30),
    st.builds("{}:{}:{}".format, st.text(max_size=5), st.text(max_size=5), st.text(max_size=5)),
    st.integers(), st.none(), st.lists(st.none(), max_size=2),
)  # fmt: skip
ids = st.one_of(st.none(), st.text(max_size=8), st.from_regex(r"\d{1,21}-\d{1,21}", fullmatch=True), st.integers())
requests = st.fixed_dictionaries(
    {"op": st.sampled_from(["subscribe", "subscribe", "unsubscribe", "ping", "auth", "dance", 7])},
    optional={
        "channels": st.one_of(st.lists(names, max_size=4), names),
        "after": st.one_of(ids, st.dictionaries(st.text(max_size=10), ids)),
        "since": st.one_of(ids, st.floats(allow_nan=False, allow_infinity=False), st.just("2026-01-31")),
        "speed": st.one_of(st.none(), st.sampled_from([0, 1, 1e6, -1, "max", "fast"]), st.floats(0, 1e9)),
        "max_rate": st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=3)),
        "id": st.one_of(st.none(), st.integers(), st.text(max_size=5), st.lists(st.none(), max_size=1)),
        "token": st.one_of(st.text(max_size=5), st.none()),
        "more": st.recursive(st.none() | st.booleans(), lambda inner: st.lists(inner, max_size=3), max_leaves=5),
    },
)  # fmt: skip
plausible = st.fixed_dictionaries(
    {"op": st.sampled_from(["subscribe", "subscribe", "unsubscribe"]), "channels": st.lists(names, max_size=4)},
    optional={
        "since": st.one_of(ids.filter(lambda i: i is not None), st.floats(0, 2e9), st.just("2026-01-31")),
        "after": st.from_regex(r"\d{1,21}-\d{1,21}", fullmatch=True),
    },
)
fuzz = settings(
    max_examples=60, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.fixture
async def innocent(redis_url: str, feed: Feed, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Gateway]:
    """A gateway with a client that wants its messages whatever others do."""
    await feed.publish(quote(), trade(1))
    limits = {"messages_per_s": 0.0}
    async with gateway_on(redis_url, limits=limits) as gateway, gateway.connect() as client:
        await subscribe(client, "trade:binance:BTC-USDT")
        await until(client, "trade")
        yield gateway
        await feed.publish(trade(2))
        assert (await until(client, "trade"))["price"] == 2.0
        runtime = gateway.runtime
        async with asyncio.timeout(30):
            while len(runtime.clients) > 1 or runtime.subscriptions.replays.count:
                await asyncio.sleep(0.02)
        assert runtime.subscriptions.count == 1
        assert runtime.healthy
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR or r.exc_info] == []


class Raw:
    """A connection of bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, gateway: Gateway) -> "Raw":
        raw = cls(*await asyncio.open_connection("127.0.0.1", gateway.port))
        raw.writer.write(HANDSHAKE)
        assert b" 101 " in await asyncio.wait_for(raw.reader.readuntil(b"\r\n\r\n"), 30)
        return raw

    async def talk(self, data: bytes) -> list[tuple[int, bytes]]:
        """Send bytes, then a ping and the end; return the frames that come back."""
        with suppress(ConnectionError):
            self.writer.write(data + mask(Opcode.PING, b"last") + mask(Opcode.CLOSE, b"\x03\xe8"))
            await self.writer.drain()
        found = b""
        with suppress(ConnectionError):
            self.writer.write_eof()
            found = await asyncio.wait_for(self.reader.read(), 30)
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()
        return list(split_frames(found))


def mask(opcode: Opcode, payload: bytes, fin: bool = True, rsv1: bool = False) -> bytes:
    return Frame(opcode, payload, fin=fin, rsv1=rsv1).serialize(mask=True)


def judge(frames: list[tuple[int, bytes]]) -> None:
    """Everything that came back is a message of ours, a pong or a close with a code that says why."""
    for opcode, payload in frames:
        if opcode == TEXT:
            message = json.loads(payload)
            assert message["type"] != "error" or message["code"] in ERRORS, message
        elif opcode == CLOSE:
            assert int.from_bytes(payload[:2], "big") in CODES or not payload
        else:
            assert opcode in (PONG, BINARY)


def noise(randoms: random.Random) -> bytes:
    """Return frames, some of them broken somewhere."""
    data = bytearray()
    for _ in range(randoms.randint(1, 8)):
        payload = randoms.choice(
            [b"", b'{"op":"ping"}', b"\xff", randoms.randbytes(randoms.randint(0, 300)), b"[" * 500]
        )
        opcode = randoms.choice([Opcode.TEXT, Opcode.TEXT, Opcode.CONT, Opcode.PING, Opcode.PONG, Opcode.BINARY])
        if opcode in (Opcode.PING, Opcode.PONG):
            payload = payload[:125]
        data += mask(opcode, payload, fin=randoms.random() < 0.8 or opcode in (Opcode.PING, Opcode.PONG))
    for _ in range(randoms.choice([0, 0, 1, 3])):
        data[randoms.randrange(len(data))] ^= 1 << randoms.randrange(8)
    return bytes(data[: randoms.choice([len(data), randoms.randint(0, len(data))])])


async def test_frames(innocent: Gateway) -> None:
    randoms = random.Random(7)
    outcomes = set()
    for _ in range(150):
        raw = await Raw.open(innocent)
        frames = await raw.talk(noise(randoms))
        judge(frames)
        outcomes |= {int.from_bytes(payload[:2], "big") for opcode, payload in frames if opcode == CLOSE}
    assert outcomes >= {1000, 1002, 1003, 1007}, "both what ends well and what does not"


async def test_bytes_that_are_no_frames_at_all(innocent: Gateway) -> None:
    randoms = random.Random(8)
    for size in (1, 2, 10, 1000, 200_000):
        for _ in range(5):
            raw = await Raw.open(innocent)
            judge(await raw.talk(randoms.randbytes(size)))
    for data in (b"\x81\xff" + b"\xff" * 8, b"\x81\xfe\xff\xff", b"\x88\x80\0\0\0\0" * 3, b"\x8a\x80\0\0\0\0" * 2000):
        raw = await Raw.open(innocent)
        judge(await raw.talk(data))


async def test_messages(innocent: Gateway) -> None:
    """Each request has an answer of its own, and the connection goes on."""
    found: list[list[dict[str, Any]]] = []

    @given(st.lists(st.one_of(requests, plausible), min_size=1, max_size=12))
    @fuzz
    def collect(batch: list[dict[str, Any]]) -> None:
        found.append(batch)

    await asyncio.to_thread(collect)
    assert len(found) > 30
    seen = set()
    for batch in found:
        raw = await Raw.open(innocent)
        data = b"".join(mask(Opcode.TEXT, json.dumps(request).encode()) for request in batch)
        frames = await raw.talk(data)
        judge(frames)
        messages = [json.loads(payload) for opcode, payload in frames if opcode == TEXT]
        seen |= {m.get("code", m["type"]) for m in messages}
        assert (PONG, b"last") in frames, "it went on to the end"
        assert frames[-1][0] == CLOSE
        pings = sum(1 for request in batch if request["op"] == "ping" and _valid_id(request))
        assert sum(1 for m in messages if m["type"] == "pong") == pings
    assert seen >= {"ack", "pong", "bad_message", "unknown_op", "bad_channel", "not_subscribed"}


def _valid_id(request: dict[str, Any]) -> bool:
    value = request.get("id")
    return value is None or isinstance(value, str) or (isinstance(value, int) and abs(value) <= 2**53)


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "'; DROP TABLE quotes; --", "$(reboot)", "../../etc/passwd", "*\r\nFLUSHALL\r\n",
     "{md:x}:log", "__class__", "%00", "\x00", "\u202e", "🙂" * 50, "a" * 100_000],
)  # fmt: skip
async def test_injections_are_names_that_do_not_exist(innocent: Gateway, feed: Feed, text: str) -> None:
    before = await feed.redis.dbsize()
    async with innocent.connect() as socket:
        for name in (text, f"quote:binance:{text}", f"quote:{text}:X", f"{text}:binance:X"):
            request = json.dumps({"op": "subscribe", "channels": [name], "id": 1})
            if len(request) > 60_000:
                continue
            await socket.send(request)
            answer = json.loads(await asyncio.wait_for(socket.recv(), 30))
            assert answer["type"] in ("error", "ack")
            assert answer["type"] == "error" or answer["state"] == "down"
        await socket.send(json.dumps({"op": "ping", "id": 9}))
        await until(socket, "pong", id=9)
    assert await feed.redis.dbsize() == before
