"""Feeds recorded frames to cryptofeed's handlers and times them; run by scripts/bench_adapters.py, not by hand.

    PYTHON_WITH_CRYPTOFEED scripts/cryptofeed_driver.py JOB

It runs in cryptofeed's own environment and imports nothing of this repository. JOB is a JSON file with one venue's
sessions: frames, symbols, REST snapshots. As in cryptofeed's raw_data_collection.py a connection that is none and a
patched `http_conn` stand for the network; as in its backends, each object goes through `to_dict` with floats (a book's
delta, where there is one) and cryptofeed's own JSON library. Commands come on stdin: `check` answers which frames it
can parse, `round` how many CPU-seconds they take.
"""

import asyncio
import base64
import gc
import json
import logging
import sys
import time
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs, urlsplit

_exchanges: Any = import_module("cryptofeed.exchanges")
_defines: Any = import_module("cryptofeed.defines")
_symbols: Any = import_module("cryptofeed.symbols")
_json: Any = import_module("yapic.json")

#: Placeholders: without any, public channels of some venues are refused before a socket is opened.
_NO_KEYS = {"key_id": "none", "key_secret": "none", "key_passphrase": "none", "account_name": "none"}
_MOST_CHECKS = 6


class _Complaints(logging.Handler):
    """What cryptofeed cannot use it says in its log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


class _Connection:
    def __init__(self, address: str, subscription: dict[str, list[str]]) -> None:
        self.uuid, self.address, self.subscription = "1", address, subscription

    async def write(self, *_: object, **__: object) -> None:
        """Nobody listens."""


class _Player:
    """One session, played any number of times, each time by a new feed."""

    def __init__(self, session: dict[str, Any], complaints: _Complaints) -> None:
        self._exchange, self._address = session["exchange"], session["address"]
        self._symbols: dict[str, str] = session["symbols"]
        self._bodies: dict[str, str] = session["bodies"]
        self._complaints = complaints
        self.frames = [
            (base64.b64decode(row["b64"]) if "b64" in row else row["raw"], row["ts"], row["channel"])
            for row in session["frames"]
        ]
        self.wanted = list(range(len(self.frames)))
        self.payloads = 0

    def _feed(self) -> Any:
        kind = _exchanges.EXCHANGE_MAP[self._exchange]
        info = {"tick_size": {}, "instrument_type": dict.fromkeys(self._symbols, "perpetual")}
        _symbols.Symbols.set(kind.id, dict(self._symbols), info)
        channels = [name for name in ("l2_book", "trades", "ticker") if name in kind.websocket_channels]
        callbacks = {
            name: self._object for name in ("trades", "ticker", "funding", "open_interest", "l1_book", "candles")
        }
        feed = kind(
            config={kind.id.lower(): _NO_KEYS},
            subscription={name: list(self._symbols) for name in channels},
            callbacks={**callbacks, "l2_book": self._book},
            checksum_validation=True,
        )
        feed.http_conn.read = self._answer
        return feed

    async def _answer(self, url: str, **_: object) -> str:
        return self._bodies[parse_qs(urlsplit(url).query)["symbol"][0]]

    async def _object(self, item: Any, received: float) -> None:
        data = item.to_dict(numeric_type=float, none_to=None)
        if not item.timestamp:
            data["timestamp"] = received
        data["receipt_timestamp"] = received
        _json.dumps(data)
        self.payloads += 1

    async def _book(self, book: Any, received: float) -> None:
        data = book.to_dict(delta=book.delta is not None, numeric_type=float, none_to=None)
        if not book.timestamp:
            data["timestamp"] = received
        data["receipt_timestamp"] = received
        if book.delta is None:
            del data["delta"]
        _json.dumps(data)
        self.payloads += 1

    async def _begin(self) -> tuple[Any, _Connection]:
        feed = self._feed()
        connection = _Connection(self._address, {name: list(pairs) for name, pairs in feed.subscription.items()})
        await feed.subscribe(connection)
        return feed, connection

    async def check(self) -> None:
        """Find the frames it can parse: no exception, no complaint, and a channel of which it makes anything."""
        for _ in range(_MOST_CHECKS):
            feed, connection = await self._begin()
            good: list[int] = []
            useful: set[str] = set()
            for number in self.wanted:
                payload, ts, channel = self.frames[number]
                complaints, payloads = self._complaints.count, self.payloads
                try:
                    await feed.message_handler(payload, connection, ts)
                except Exception:
                    continue
                if self._complaints.count == complaints:
                    good.append(number)
                    if self.payloads > payloads:
                        useful.add(channel)
            good = [number for number in good if self.frames[number][2] in useful]
            if good == self.wanted:
                return
            self.wanted = good
        self.wanted = []

    async def play(self) -> float:
        """Return the CPU-seconds of the frames it can parse."""
        feed, connection = await self._begin()
        handle = feed.message_handler
        frames = [self.frames[number] for number in self.wanted]
        gc.collect()
        start = time.process_time()
        for payload, ts, _ in frames:
            await handle(payload, connection, ts)
        return time.process_time() - start


async def _serve(job: dict[str, Any]) -> None:
    complaints = _Complaints()
    logger = logging.getLogger("feedhandler")
    logger.handlers, logger.propagate = [complaints], False
    players = [_Player(session, complaints) for session in job["sessions"]]
    for line in sys.stdin:
        if line.strip() == "check":
            for player in players:
                await player.check()
            gc.collect()
            gc.freeze()  # as in bench_adapters.py
            answer: Any = [player.wanted for player in players]
        else:
            answer = [await player.play() if player.wanted else 0.0 for player in players]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        asyncio.run(_serve(json.load(file)))
