"""A connection that breaks in the middle of the stream: what is in the logs afterwards."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.e2e.recorded import log_of, normalized, substance
from tests.e2e.stack import DEMO, EXCHANGE_INFO, Stack, until
from tests.ports import free_port

SESSION = DEMO / "cryptofeed_2021-04-04"
SYMBOLS = ["BTC-USDT", "ETH-USDT", "DOT-USDT"]


class Wire:
    """Passes bytes on to `port` until it is cut."""

    def __init__(self, port: int) -> None:
        self.target, self.port = port, free_port()
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks)

    def cut(self) -> int:
        """Break every connection in the middle of whatever it carries; returns how many there were."""
        count = len(self._writers)
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        return count

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers += [writer, back]
        self._tasks += [
            asyncio.create_task(self._pass(reader, back)),
            asyncio.create_task(self._pass(there, writer)),
        ]

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()


async def test_what_a_cut_costs_is_said_and_nothing_else_is_lost(tmp_path: Path, redis_url: str) -> None:
    expected = await normalized(SESSION, EXCHANGE_INFO)
    async with Stack(tmp_path, redis_url, [SESSION], SYMBOLS) as hub, Wire(hub.venue_port) as wire:
        hub.env["TICKWIRE_VENUES__BINANCE__WS_URL"] = f"ws://127.0.0.1:{wire.port}"
        await hub.venue(speed=8)
        await hub.feed()
        last = {s: [m for m in expected if m["type"] == "trade" and m["symbol"] == s][-1]["trade_id"] for s in SYMBOLS}

        async def half() -> bool:
            return min([len(await log_of(hub.redis, f"book:binance:{symbol}")) for symbol in SYMBOLS]) > 60

        await until(half, "every book is on its way", 60)
        assert wire.cut()

        async def ended() -> bool:
            logs = [await log_of(hub.redis, f"trade:binance:{symbol}") for symbol in SYMBOLS]
            return [log[-1]["trade_id"] for log in logs if log] == list(last.values())

        await until(ended, "the last trades of the session came by the next connection", 60)
        for symbol in SYMBOLS:
            trades = await log_of(hub.redis, f"trade:binance:{symbol}")
            told = [substance(message) for message in trades]
            wanted = [substance(m) for m in expected if m["type"] == "trade" and m["symbol"] == symbol]
            assert [trade for trade in wanted if trade in told] == told  # in order, none twice, none made up
            statuses = await log_of(hub.redis, f"status:binance:{symbol}")
            lost = sum(int(m["reason"].split()[0]) for m in statuses if "trades lost" in m["reason"])
            assert lost == len(wanted) - len(told)
            await book_is_labelled(hub, symbol, statuses)


async def book_is_labelled(hub: Stack, symbol: str, statuses: list[dict[str, Any]]) -> None:
    """The first book message after the status that takes the book away is the snapshot that brings it back."""
    gone = next((m for m in statuses if m["state"] == "resyncing" and "connection closed" in m["reason"]), None)
    assert gone is not None
    book = await log_of(hub.redis, f"book:binance:{symbol}")
    later = [message["action"] for message in book if message["ts_recv"] > gone["ts_recv"]]
    assert later[:2] == ["snapshot", "update"]
