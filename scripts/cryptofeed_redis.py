"""cryptofeed's Redis backends on recorded frames; run by scripts/bench_feed.py, not by hand.

    PYTHON_WITH_CRYPTOFEED scripts/cryptofeed_redis.py JOB

It runs in cryptofeed's own environment and imports nothing of this repository. A connection that is none and a patched
`http_conn` stand for the network; everything from its message handler to Redis is cryptofeed's own. Frames come in
batches between which its writers run, and the time ends when all is written. Prints the CPU-seconds.
"""

import asyncio
import gc
import json
import logging
import sys
import time
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs, urlsplit

_defines: Any = import_module("cryptofeed.defines")
_exchanges: Any = import_module("cryptofeed.exchanges")
_backend: Any = import_module("cryptofeed.backends.redis")
_symbols: Any = import_module("cryptofeed.symbols")


class _Connection:
    """What the handlers know of a connection."""

    def __init__(self, address: str, subscription: dict[str, list[str]]) -> None:
        self.uuid, self.address, self.subscription = "1", address, subscription

    async def write(self, *_: object, **__: object) -> None:
        """Nobody listens."""


def _callbacks(backend: str, port: int) -> dict[str, Any]:
    kinds = {_defines.TRADES: "Trade", _defines.L2_BOOK: "Book", _defines.TICKER: "Ticker"}
    suffix = {"zset": "Redis", "stream": "Stream"}[backend]
    return {channel: getattr(_backend, kind + suffix)(port=port) for channel, kind in kinds.items()}


async def _round(job: dict[str, Any], backend: str) -> float:
    kind = _exchanges.EXCHANGE_MAP["BINANCE"]
    names = job["symbols"]
    info = {"tick_size": {}, "instrument_type": dict.fromkeys(names, "spot")}
    _symbols.Symbols.set(kind.id, {name: name for name in names}, info)
    writers = _callbacks(backend, job["redis_port"])
    channels = list(writers)
    feed = kind(symbols=names, channels=channels, callbacks=writers)

    async def answer(url: str, **_: object) -> str:
        body: str = job["bodies"][parse_qs(urlsplit(url).query)["symbol"][0]]
        return body

    feed.http_conn.read = answer
    loop = asyncio.get_running_loop()
    for writer in writers.values():
        writer.start(loop)
    connection = _Connection(job["address"], {name: list(pairs) for name, pairs in feed.subscription.items()})
    handle = feed.message_handler
    frames = list(zip(job["frames"], job["times"], strict=True))
    gc.collect()
    began = time.process_time()
    for at in range(0, len(frames), job["batch"]):
        for raw, ts in frames[at : at + job["batch"]]:
            await handle(raw, connection, ts)
        await asyncio.sleep(0)
    for writer in writers.values():
        written = asyncio.ensure_future(writer.queue.join())
        await asyncio.wait({written, writer.worker}, return_when=asyncio.FIRST_COMPLETED)
        if writer.worker.done():
            writer.worker.result()  # raises what ended it
    took = time.process_time() - began
    for writer in writers.values():
        await writer.stop()
    await asyncio.gather(*(writer.worker for writer in writers.values()))
    return took


if __name__ == "__main__":
    logging.getLogger("feedhandler").addHandler(logging.NullHandler())
    with open(sys.argv[1], encoding="utf-8") as file:
        _job = json.load(file)
    asyncio.run(_round(_job, _job["backend"]))  # warms up, as the rounds of the other side do
    sys.stdout.write(f"{asyncio.run(_round(_job, _job['backend']))}\n")
