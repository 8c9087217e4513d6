"""Alpaca's side of the replay server: both encodings, and one connection an endpoint."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect

from feeds import connection as module
from feeds.adapter import BookUpdate, Event, Fetch, Subscription
from feeds.connection import Connection
from feeds.pipeline import Pipeline
from feeds.replay import ReplayServer
from feeds.venues.alpaca import Alpaca
from hub.config import BookSettings, CandleSettings
from hub.instruments import Instrument
from hub.model import Trade
from tests.feeds.running import KINDS, Heard
from tests.feeds.venues import alpaca_session

BTC = Instrument(venue="alpaca", venue_symbol="BTC/USD", symbol="BTC-USD", kind="spot", base="BTC", quote="USD")
PATH = "/v1beta3/crypto/us"
MSGPACK = {"Content-Type": "application/msgpack"}
AUTH = {"action": "auth", "key": "a", "secret": "b"}
SUBSCRIBE = {"action": "subscribe", "trades": ["BTC/USD"], "quotes": ["BTC/USD"], "orderbooks": ["BTC/USD"]}


def packed(request: dict[str, Any]) -> bytes:
    return msgspec.msgpack.encode(request)


async def told(socket: ClientConnection) -> Any:
    """Return the next message, which has one item."""
    data = await socket.recv()
    (item,) = json.loads(data) if isinstance(data, str) else msgspec.msgpack.decode(data)
    return item


async def events_of(socket: ClientConnection, count: int) -> list[Event | Fetch]:
    adapter, events = Alpaca([BTC]), list[Event | Fetch]()
    while sum(isinstance(event, Trade) for event in events) < count:
        payload = await asyncio.wait_for(socket.recv(decode=False), 30)
        events += [event for event in adapter.receive(payload, 1) if isinstance(event, Trade | BookUpdate)]
    return events


async def test_either_encoding_says_the_same(tmp_path: Path) -> None:
    session = alpaca_session.write(tmp_path / "s")
    async with ReplayServer("alpaca", [session], speed=20, ping_s=60) as server:
        url = server.ws_url + PATH
        async with connect(url, additional_headers=MSGPACK) as binary, connect(url) as text:
            for socket, encode in ((binary, packed), (text, json.dumps)):
                assert (await told(socket))["msg"] == "connected"
                await socket.send(encode({**AUTH, "key": encode.__name__}))
                assert (await told(socket))["msg"] == "authenticated"
            # The recording starts with the first subscription: neither may come late.
            server.play = lambda: None  # type: ignore[method-assign]
            for socket, encode in ((binary, packed), (text, json.dumps)):
                await socket.send(encode(SUBSCRIBE))
                assert (await told(socket))["T"] == "subscription"
            del server.play
            server.play()
            found = await asyncio.gather(events_of(binary, 40), events_of(text, 40))
    assert found[0] == found[1]
    trades = [event for event in found[0] if isinstance(event, Trade)]
    assert [trade.trade_id for trade in trades] == [str(t["i"]) for t, _, _ in alpaca_session.frames()]
    assert all(trade.ts_event is not None and trade.ts_event % 1000 for trade in trades)  # ns are not cut off


async def test_one_connection_a_path_and_key(tmp_path: Path) -> None:
    session = alpaca_session.write(tmp_path / "s")
    async with ReplayServer("alpaca", [session], ping_s=0.3) as server:
        url = server.ws_url + PATH

        async def entered(socket: ClientConnection) -> Any:
            await told(socket)
            await socket.send(json.dumps(AUTH))
            return await told(socket)

        async with connect(url) as first:
            assert (await entered(first))["msg"] == "authenticated"
            async with connect(url) as second:
                assert (await entered(second))["code"] == 406
                await asyncio.wait_for(second.wait_closed(), 30)
            async with connect(server.ws_url + "/v2/iex") as elsewhere:
                assert (await entered(elsewhere))["msg"] == "authenticated"
            await first.send(json.dumps(SUBSCRIBE))
            assert (await told(first))["T"] == "subscription"
        async with asyncio.timeout(30):
            while len(server.clients):
                await asyncio.sleep(0.02)
        async with connect(url) as next_one:
            assert (await entered(next_one))["msg"] == "authenticated"


@asynccontextmanager
async def occupied(tmp_path: Path) -> AsyncIterator[str]:
    """A venue that leaves a connection open whose login it refused."""
    async with ReplayServer("alpaca", [alpaca_session.write(tmp_path / "s")], ping_s=60) as server:
        async with connect(server.ws_url + PATH) as first:
            await told(first)
            await first.send(json.dumps(AUTH))
            assert (await told(first))["msg"] == "authenticated"
            yield server.ws_url + PATH


async def test_who_is_not_let_in_tries_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOGIN_TIMEOUT_S", 0.5)
    monkeypatch.setattr(module, "CHECK_S", 0.1)
    pipeline = Pipeline(Alpaca, KINDS, BookSettings(), CandleSettings(), Heard())
    pipeline.add(BTC)
    async with occupied(tmp_path) as url:
        adapter = Alpaca([BTC], credentials=("a", "b"))
        made = Connection(adapter, url, [Subscription("trade", BTC)], pipeline, lambda *_: None, 1)
        reason = await asyncio.wait_for(made.run(), 30)
    assert reason == "the venue refused the login: 406 connection limit exceeded"
    assert not made.settled
