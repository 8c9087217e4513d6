"""Venue server, feed, Redis, gateway, client: the promises a trading system relies on, over real sockets."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect

from tests.e2e.recorded import newest, normalized, substance
from tests.e2e.stack import DEMO, EXCHANGE_INFO, Stack, until

SESSION = DEMO / "cryptofeed_2021-04-04"
SYMBOLS = ["BTC-USDT", "ETH-USDT", "DOT-USDT"]


def stack(tmp_path: Path, redis_url: str) -> Stack:
    return Stack(tmp_path, redis_url, [SESSION], SYMBOLS)


async def subscribe(socket: ClientConnection, *channels: str, after: dict[str, str] | None = None) -> None:
    request: dict[str, Any] = {"op": "subscribe", "channels": channels, "id": 1}
    await socket.send(msgspec.json.encode(request | ({"after": after} if after else {})).decode())


async def hear(socket: ClientConnection, timeout_s: float = 40) -> dict[str, Any]:
    message: dict[str, Any] = msgspec.json.decode(await asyncio.wait_for(socket.recv(), timeout_s))
    return message


async def test_a_client_receives_every_trade_once_and_in_order(tmp_path: Path, redis_url: str) -> None:
    recorded = [m for m in await normalized(SESSION, EXCHANGE_INFO) if m["type"] == "trade"]
    wanted = {symbol: [substance(m) for m in recorded if m["symbol"] == symbol] for symbol in SYMBOLS}
    async with stack(tmp_path, redis_url) as hub:
        await hub.gateway()
        async with connect(hub.ws, max_queue=None) as socket:
            await subscribe(socket, *(f"trade:binance:{symbol}" for symbol in SYMBOLS))
            await hub.venue(speed=20)
            await hub.feed()
            heard: dict[str, list[dict[str, Any]]] = {symbol: [] for symbol in SYMBOLS}
            while sum(map(len, heard.values())) < len(recorded):
                message = await hear(socket)
                if message["type"] == "trade":
                    heard[message["symbol"]].append(message)
            for symbol, trades in heard.items():
                assert [substance(m) for m in trades] == wanted[symbol]
                assert [int(m["id"].partition("-")[2]) for m in trades] == list(range(1, len(trades) + 1))
        await _rest_tells_the_last_quote(hub)


async def _rest_tells_the_last_quote(hub: Stack) -> None:
    last: list[dict[str, Any]] = []

    async def quiet() -> bool:
        last.append(await newest(hub.redis, "quote:binance:BTC-USDT"))
        await asyncio.sleep(0.5)
        return last[-1] == await newest(hub.redis, "quote:binance:BTC-USDT")

    await until(quiet, "the session has ended")
    answer = msgspec.json.decode(await hub.get(f"{hub.rest}/v1/quotes/BTC-USDT") or b"{}")
    (quote,) = answer["quotes"]
    assert {key: quote[key] for key in ("venue", "symbol", "bid", "bid_size", "ask", "ask_size", "id")} == {
        key: last[-1][key] for key in ("venue", "symbol", "bid", "bid_size", "ask", "ask_size", "id")
    }
    assert quote["age_ms"] >= 0


async def test_a_killed_feed_is_down_for_clients_and_rest(tmp_path: Path, redis_url: str) -> None:
    async with stack(tmp_path, redis_url) as hub:
        await hub.venue()
        feed = await hub.feed()
        await hub.gateway()
        async with connect(hub.ws, max_queue=None) as socket:
            await subscribe(socket, "quote:binance:BTC-USDT")
            while (await hear(socket))["type"] != "quote":
                pass
            await feed.end(signal.SIGKILL)
            async with asyncio.timeout(60):
                while (message := await hear(socket)).get("state") != "down":
                    pass
            assert (message["type"], message["symbol"]) == ("status", "*")
            answer = msgspec.json.decode(await hub.get(f"{hub.rest}/v1/quotes/BTC-USDT") or b"{}")
            assert answer["quotes"][0]["state"] == "down"
            await hub.feed(wait=False)
            async with asyncio.timeout(60):
                while (message := await hear(socket)).get("state") != "live" or message["symbol"] != "*":
                    pass
                while (await hear(socket))["type"] != "quote":
                    pass


async def test_a_client_resumes_after_the_gateway_was_killed(tmp_path: Path, redis_url: str) -> None:
    recorded = await normalized(SESSION, EXCHANGE_INFO)
    wanted = [m["trade_id"] for m in recorded if m["type"] == "trade" and m["symbol"] == "BTC-USDT"]
    channel = "trade:binance:BTC-USDT"
    async with stack(tmp_path, redis_url) as hub:
        gateway = await hub.gateway()
        heard: list[dict[str, Any]] = []
        async with connect(hub.ws, max_queue=None) as socket:
            await subscribe(socket, channel)
            await hub.venue(speed=10)
            await hub.feed()
            while len(heard) < 100:
                message = await hear(socket)
                heard += [message] if message["type"] == "trade" else []
            await gateway.end(signal.SIGKILL)
        await hub.gateway()
        async with connect(hub.ws, max_queue=None) as socket:
            await subscribe(socket, channel, after={channel: heard[-1]["id"]})
            while len(heard) < len(wanted):
                message = await hear(socket)
                assert message["type"] != "gap"
                heard += [message] if message["type"] == "trade" else []
        assert [m["trade_id"] for m in heard] == wanted


async def test_the_symbol_url_and_wildcards_join_quotes_and_books(tmp_path: Path, redis_url: str) -> None:
    async with stack(tmp_path, redis_url) as hub:
        await hub.venue(speed=2)
        await hub.feed()
        await hub.gateway()
        async with connect(f"{hub.ws}/BTC-USDT?kinds=quote,trade&venues=binance", max_queue=None) as socket:
            seen: set[str] = set()
            while seen < {"ack", "quote", "trade"}:
                message = await hear(socket)
                seen.add(message["type"])
                assert message.get("symbol", "BTC-USDT") in {"BTC-USDT", "*"}
        async with connect(hub.ws, max_queue=None) as socket:
            await subscribe(socket, "book:*:ETH-USDT", "quote:binance:*")
            books: list[dict[str, Any]] = []
            quotes: set[str] = set()
            while len(books) < 20 or quotes < set(SYMBOLS):
                message = await hear(socket)
                books += [message] if message["type"] == "book" else []
                quotes |= {message["symbol"]} if message["type"] == "quote" else set()
            assert [m["action"] for m in books[:2]] == ["snapshot", "update"]
            ids = [int(m["id"].partition("-")[2]) for m in books]
            assert ids == list(range(ids[0], ids[0] + len(ids)))
