"""Heads of requests, from peers that nobody knows yet: bounded in size and time, answered where they are refused."""

import asyncio
import logging

import pytest

import gateway.http
from gateway.http import HEAD_BYTES_MAX
from tests.gateway.kit import Feed, Gateway, gateway_on

UPGRADE = (
    b"GET %b HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
HANDSHAKE = UPGRADE % b"/v1/ws"


async def answer(gateway: Gateway, *parts: bytes) -> bytes:
    """Send parts one after the other as long as the gateway takes them; returns what it says until it hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        async with asyncio.timeout(20):
            try:
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
                return await reader.read()
            except ConnectionError:
                return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "begin", [b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\n"], ids=["url", "header", "headers"]
)
async def test_a_head_without_end_is_cut_off(gateway: Gateway, begin: bytes) -> None:
    block = b"X-Y: aaaaaaaaaaa\r\n" * 500 if begin.endswith(b"\n") else b"a" * 9000
    sent = 0

    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(begin)
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(20):
            while sent < 100 * HEAD_BYTES_MAX:
                writer.write(block)
                sent += len(block)
                await writer.drain()
    writer.close()
    answered = b""
    try:
        answered = await reader.read()
    except ConnectionError:
        pass  # what was still on its way reset it
    assert answered.startswith(b"HTTP/1.1 431 ") or not answered
    assert sent < 100 * HEAD_BYTES_MAX
    assert (await gateway.get("/health/live"))[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        HANDSHAKE + b"X: " + b"a" * 9000 + b"\r\n\r\n",
        HANDSHAKE + b"".join(b"X%d: a\r\n" % i for i in range(200)) + b"\r\n",
        UPGRADE % (b"/v1/ws/" + b"A" * 9000) + b"\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer " + b"a" * 9000 + b"\r\n\r\n",
    ],
    ids=["line", "number", "url", "rest"],
)
async def test_what_is_too_large_is_answered(gateway: Gateway, head: bytes) -> None:
    assert (await answer(gateway, head)).startswith(b"HTTP/1.1 431 ")


async def test_the_largest_line_that_a_handshake_may_have(gateway: Gateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(HANDSHAKE + b"X: " + b"a" * (8192 - 5) + b"\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 101 ")
    writer.close()


@pytest.mark.parametrize("begin", [b"", b"GET /v1/ws HT", b"GET /health/live HTTP/1.1\r\nHost: t\r\n\r\nGET /"])
async def test_who_does_not_finish_a_head_is_cut_off(
    redis_url: str, feed: Feed, begin: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.http, "HEAD_TIMEOUT_S", 0.3)
    async with gateway_on(redis_url) as running:
        answered = await answer(running, begin)
        assert answered.count(b"HTTP/1.1 ") == (1 if b"\r\n\r\n" in begin else 0)


async def test_noise_does_not_fill_the_log(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(60):
        assert (await answer(gateway, b"\x16\x03\x01 no HTTP\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        await answer(gateway, b"GET / HTTP/1.1\r\nConnection: close, Upgrade\r\nUpgrade: h2c\r\n\r\n")
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert lines
    assert all(line.startswith("bad request code=400 address='127.0.0.1'") for line in lines)
    assert len(lines) <= 20 * 5
