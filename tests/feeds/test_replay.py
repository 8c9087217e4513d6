"""The replay server's WebSocket: requests, forms, pace, limits, garbage. Real sockets throughout."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from feeds.replay import ReplayServer
from hub.errors import ConfigError, SessionError
from tests.feeds.replaying import FIRST, SECOND, cut, http, lines, payloads, snapshot, subscribe, take, until_closed

TRADES = "btcusdt@aggTrade"


@pytest.fixture
async def server() -> AsyncIterator[ReplayServer]:
    async with ReplayServer("binance", [FIRST, SECOND], speed=60) as server:
        yield server


async def test_frames_are_those_recorded_byte_for_byte(server: ReplayServer) -> None:
    wanted = [row["raw"] for row in lines(FIRST) if f'"{TRADES}"' in row["raw"]]
    socket = await subscribe(server, TRADES)
    assert [await socket.recv() for _ in wanted] == wanted
    await socket.close()


async def test_raw_form_holds_the_data_alone(server: ReplayServer) -> None:
    wanted = [row["raw"].partition('"data":')[2][:-1] for row in lines(FIRST) if f'"{TRADES}"' in row["raw"]]
    async with connect(f"{server.ws_url}/ws/{TRADES}", max_queue=None) as socket:
        assert [await socket.recv() for _ in range(50)] == wanted[:50]


async def test_streams_in_the_url_start_the_session(server: ReplayServer) -> None:
    async with connect(f"{server.ws_url}/stream?streams=dotusdt@aggTrade/ethusdt@aggTrade", max_queue=None) as socket:
        wanted = [row for row in payloads(FIRST) if row["stream"] in ("dotusdt@aggTrade", "ethusdt@aggTrade")]
        assert await take(socket, 100) == wanted[:100]


async def test_only_what_is_subscribed_comes(server: ReplayServer) -> None:
    async with await subscribe(server, "zilusdt@bookTicker") as socket:
        assert {row["stream"] for row in await take(socket, 100)} == {"zilusdt@bookTicker"}
        await socket.send(json.dumps({"method": "SUBSCRIBE", "params": [TRADES], "id": "two"}))
        await socket.send(json.dumps({"method": "UNSUBSCRIBE", "params": ["zilusdt@bookTicker"], "id": 3}))
        while (row := (await take(socket, 1))[0]) != {"result": None, "id": 3}:
            assert row == {"result": None, "id": "two"} or row["stream"] in ("zilusdt@bookTicker", TRADES)
        assert {row["stream"] for row in await take(socket, 100)} == {TRADES}


async def test_every_message_has_one_answer(server: ReplayServer) -> None:
    requests = [
        ({"method": "LIST_SUBSCRIPTIONS", "id": 2}, {"result": ["nobody@aggTrade"], "id": 2}),
        ({"method": "GET_PROPERTY", "params": ["combined"], "id": 3}, {"result": True, "id": 3}),
        ({"method": "SET_PROPERTY", "params": ["combined", False], "id": None}, {"result": None, "id": None}),
    ]
    async with await subscribe(server, "nobody@aggTrade") as socket:
        for request, answer in requests:
            await socket.send(json.dumps(request))
            assert json.loads(await socket.recv()) == answer


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", 3),
        ("no json", 3),
        (b"\xff\xfe\x00", 3),
        ("[]", 2),
        ('{"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":"btcusdt@trade","id":1}', 2),
        ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":["a b"],"id":1}', 2),
        ('{"method":"EXPLODE","id":1}', 2),
        ('{"method":["SUBSCRIBE"],"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":[],"id":{}}', 2),
        ('{"method":"SET_PROPERTY","params":["combined","yes"],"id":1}', 1),
        ('{"method":"SET_PROPERTY","params":["colour",true],"id":1}', 0),
    ],
)
async def test_what_cannot_be_read_is_answered_by_an_error(
    server: ReplayServer, message: str | bytes, code: int
) -> None:
    async with connect(server.ws_url + "/ws") as socket:
        await socket.send(message)
        answer = json.loads(await socket.recv())
        assert (answer.get("error") or answer)["code"] == code
        await socket.send('{"method":"LIST_SUBSCRIPTIONS","id":7}')
        assert json.loads(await socket.recv()) == {"result": [], "id": 7}


async def test_unknown_streams_are_acknowledged_and_silent(server: ReplayServer) -> None:
    async with await subscribe(server, "btcusdt@nothing", "nosuch@aggTrade") as socket:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await socket.recv()


async def test_more_than_five_messages_a_second_end_the_connection(server: ReplayServer) -> None:
    async with connect(server.ws_url + "/ws") as socket:
        for number in range(6):
            await socket.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
        with pytest.raises(ConnectionClosed):
            async with asyncio.timeout(30):
                while True:
                    await socket.recv()
        assert socket.close_code == 1008


async def test_pings_count_as_messages(server: ReplayServer) -> None:
    async with connect(server.ws_url + "/ws") as socket:
        for _ in range(7):
            await socket.ping()
        async with asyncio.timeout(30):
            await socket.wait_closed()
        assert socket.close_code == 1008


async def test_five_messages_a_second_are_fine(server: ReplayServer) -> None:
    async with connect(server.ws_url + "/ws") as socket:
        for number in range(5):
            await socket.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
        assert [row["id"] for row in await take(socket, 5)] == [0, 1, 2, 3, 4]


async def test_at_most_1024_streams(server: ReplayServer) -> None:
    names = [f"coin{number}@aggTrade" for number in range(1025)]
    async with await subscribe(server, *names[:1024]) as socket:
        await socket.send(json.dumps({"method": "SUBSCRIBE", "params": names[1024:], "id": 2}))
        answer = json.loads(await socket.recv())
        assert answer["id"] == 2 and answer["error"]["code"] == 2
        await socket.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": 3}))
        assert len(json.loads(await socket.recv())["result"]) == 1024


async def test_an_unknown_path_is_refused(server: ReplayServer) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(server.ws_url + "/nothing")
    assert refused.value.response.status_code == 404


async def test_an_oversized_message_ends_the_connection(server: ReplayServer) -> None:
    async with connect(server.ws_url + "/ws") as socket:
        await socket.send("x" * 1_000_000)
        async with asyncio.timeout(30):
            await socket.wait_closed()
    async with await subscribe(server, TRADES) as socket:
        assert len(await take(socket, 5)) == 5


async def test_pings_come_and_must_be_answered() -> None:
    async with ReplayServer("binance", [FIRST], ping_s=0.1) as server, aiohttp.ClientSession() as session:
        async with session.ws_connect(server.ws_url + "/ws", autoping=False) as socket:
            kinds = [message.type async for message in socket]
            assert kinds and set(kinds) == {aiohttp.WSMsgType.PING}
            assert socket.close_code == 1008


async def test_recorded_pace_and_speed_up(tmp_path: Path) -> None:
    session = cut(FIRST, tmp_path / "short", 30)
    recorded = [row for row in lines(session) if f'"{TRADES}"' in row["raw"]]
    span = recorded[-1]["t"] - recorded[0]["t"]
    for speed in (15.0, 60.0):
        async with ReplayServer("binance", [session], speed=speed) as server:
            start = time.monotonic()
            async with await subscribe(server, TRADES) as socket:
                await take(socket, len(recorded))
                took = time.monotonic() - start
        assert span / speed - 0.01 < took < span, "never faster; slower only by what this machine is late"


async def test_sessions_wait_for_the_first_subscription(tmp_path: Path) -> None:
    session = cut(FIRST, tmp_path / "short", 2)
    first = payloads(session)[0]
    async with ReplayServer("binance", [session], speed=20) as server:
        async with http(server) as rest:
            await rest.json("/api/v3/ping")
        async with connect(server.ws_url + "/stream") as idle:
            await asyncio.sleep(0.3)
            assert not any(track.position for track in server.tracks)
            async with await subscribe(server, first["stream"]) as socket:
                assert await take(socket, 1) == [first]
            await idle.close()
        await server.finished()


async def test_start_now_waits_for_nobody(tmp_path: Path) -> None:
    async with ReplayServer("binance", [cut(FIRST, tmp_path / "short", 2)], speed=50, start_now=True) as server:
        async with asyncio.timeout(30):
            await server.finished()


async def test_a_session_without_receive_times_is_paced_by_event_times(tmp_path: Path) -> None:
    rows = [row for row in payloads(FIRST) if row["stream"] in (TRADES, "btcusdt@depth@100ms")][:400]
    raw = [json.dumps(row["data"], separators=(",", ":")) for row in rows]
    session = tmp_path / "session.jsonl.gz"
    with gzip.open(session, "wt") as file:
        file.writelines(json.dumps({"t": None, "raw": text}) + "\n" for text in raw)
    async with ReplayServer("binance", [session], speed=20) as server:
        start = time.monotonic()
        async with await subscribe(server, TRADES, "btcusdt@depth@100ms", path="/ws") as socket:
            assert [await socket.recv() for _ in raw] == raw
        span = (rows[-1]["data"]["E"] - rows[0]["data"]["E"]) / 1000
        assert span / 20 - 0.01 < time.monotonic() - start < span
        assert server.now() == rows[-1]["data"]["E"] * 1_000_000


async def test_a_client_that_reads_nothing_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feeds.replay.client.QUEUE_BYTES", 200_000)
    streams = [f"{symbol}@depth@100ms" for symbol in ("btcusdt", "ethusdt", "dotusdt")]
    wanted = [row for row in payloads(FIRST) if row["stream"] in streams]
    request = (
        f"GET /stream?streams={'/'.join(streams)} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    async with ReplayServer("binance", [FIRST], speed=60) as server:
        async with await subscribe(server, *streams) as socket:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
            writer.write(request.encode())
            async with asyncio.timeout(60):  # it never reads: who waited for it would wait for ever
                assert await take(socket, len(wanted)) == wanted
            writer.close()


async def test_a_slow_client_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feeds.replay.client.QUEUE_FRAMES", 5)
    async with ReplayServer("binance", [FIRST], speed=5000) as server:
        async with await subscribe(server, TRADES, "btcusdt@depth@100ms", "ethusdt@depth@100ms") as socket:
            async with asyncio.timeout(30):
                await until_closed_or_error(socket)
            assert socket.close_code == 1008


async def until_closed_or_error(socket: object) -> None:
    try:
        await until_closed(socket)  # type: ignore[arg-type]
    except ConnectionClosed:
        pass


async def test_a_forced_cut_is_announced() -> None:
    async with ReplayServer("binance", [FIRST], cut_after_s=0.6, notice_s=0.4) as server:
        for path, unwrap in (("/stream", True), ("/ws", False)):
            async with connect(server.ws_url + path) as socket:
                (notice,) = await until_closed(socket)
                if unwrap:
                    assert notice["stream"] == "!serverShutdown"
                    notice = notice["data"]
                assert notice["e"] == "serverShutdown" and isinstance(notice["E"], int)
                assert socket.close_code == 1001


async def test_recorded_garbage_comes_to_everybody(tmp_path: Path) -> None:
    raw = [row["raw"] for row in lines(FIRST) if f'"{TRADES}"' in row["raw"]][:3]
    broken = '{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":"soon"}}'
    rows = [{"raw": raw[0]}, {"raw": raw[1][:40]}, {"b64": "/wAB"}, {"raw": '{"result":null,"id":9}'}, {"raw": broken}]
    session = tmp_path / "garbage.jsonl"
    session.write_text("".join(json.dumps({"t": 1.0, **row}) + "\n" for row in rows))
    async with ReplayServer("binance", [session]) as server, await subscribe(server, TRADES) as socket:
        assert [await socket.recv() for _ in range(4)] == [raw[0], raw[1][:40], b"\xff\x00\x01", broken]
        await server.finished()


async def test_what_cannot_be_played_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SessionError):
        ReplayServer("binance", [tmp_path / "nothing"])
    with pytest.raises(ConfigError, match="is in cryptofeed_2021-04-04 and again"):
        ReplayServer("binance", [FIRST, cut(FIRST, tmp_path / "again", 3)])
    with pytest.raises(ConfigError, match="speed"):
        ReplayServer("binance", [FIRST], speed=0)
    with pytest.raises(ConfigError, match="nowhere"):
        ReplayServer("nowhere", [FIRST])
    async with ReplayServer("binance", [FIRST]) as server:
        with pytest.raises(ConfigError, match=str(server.port)):
            await ReplayServer("binance", [SECOND], port=server.port).start()


def test_the_demo_is_whole() -> None:
    assert (len(lines(FIRST)), len(lines(SECOND))) == (4716, 11357)
    assert len(snapshot(SECOND, "NEOUSDC")["bids"]) == 252
