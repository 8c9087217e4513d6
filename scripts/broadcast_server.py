"""A reference for scripts/bench_fanout.py: Redis pub/sub to WebSocket clients by `websockets`' own `broadcast()`.

    python -m scripts.broadcast_server --port 8000 --redis-port 6379

What one writes with that library's documentation at hand: redis-py's `listen()`, a set of connections per channel. No
snapshots, no resume, no policy for slow clients.
"""

import argparse
import json
from collections import defaultdict

import uvloop
from redis.asyncio import Redis
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed


async def _serve(port: int, redis_port: int, prefix: str) -> None:
    readers: dict[str, set[ServerConnection]] = defaultdict(set)

    async def client(connection: ServerConnection) -> None:
        mine: list[str] = []
        try:
            async for text in connection:
                request = json.loads(text)
                for channel in request["channels"]:
                    readers[channel].add(connection)
                    mine.append(channel)
                    await connection.send(json.dumps({"type": "ack", "channel": channel, "state": "live"}))
        except ConnectionClosed:
            pass
        finally:
            for channel in mine:
                readers[channel].discard(connection)

    async with (
        serve(client, "127.0.0.1", port, compression=None, ping_interval=None, backlog=4096),
        Redis(port=redis_port, socket_timeout=None) as redis,
        redis.pubsub() as pubsub,
    ):
        await pubsub.psubscribe(f"{prefix}*")
        async for message in pubsub.listen():
            if message["type"] == "pmessage":
                channel = message["channel"].decode().removeprefix(prefix)
                broadcast(readers[channel], message["data"].decode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis-port", type=int, required=True)
    parser.add_argument("--prefix", default="md:")
    options = parser.parse_args()
    uvloop.run(_serve(options.port, options.redis_port, options.prefix))


if __name__ == "__main__":
    main()
