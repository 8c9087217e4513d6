"""`python -m gateway`: serve WebSocket and REST until told to stop.

With `gateway.workers` above 1 this process is the parent of so many others, which do the work (gateway/workers.py).
"""

import argparse
import logging
import sys
from pathlib import Path

from msgspec.structs import replace

from gateway.app import create_app
from gateway.server import listen, refuse_remote, reserve, serve
from gateway.siblings import Siblings, offer
from gateway.workers import run_workers
from hub.config import Settings
from hub.processes import load_or_exit, run
from hub.redisio import check

logger = logging.getLogger("gateway")


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Read the settings; what the command line gives wins."""
    settings = load_or_exit(arguments.config)
    gateway, redis = settings.gateway, settings.redis
    if arguments.port is not None:
        gateway = replace(gateway, port=arguments.port)
    if arguments.workers is not None:
        gateway = replace(gateway, workers=arguments.workers)
    if arguments.host is not None:
        gateway = replace(gateway, host=arguments.host)
    if arguments.redis is not None:
        redis = replace(redis, url=arguments.redis)
    return replace(settings, gateway=gateway, redis=redis)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m gateway", description="Serve market data over WebSocket and REST.")
    parser.add_argument("--host", help="address to listen on (gateway.host)")
    parser.add_argument("--port", type=_port, help="port to listen on (gateway.port)")
    parser.add_argument(
        "--workers", type=int, choices=range(1, 257), metavar="N", help="processes on that port (gateway.workers)"
    )
    parser.add_argument("--redis", metavar="URL", help="redis://, rediss:// or unix:// (redis.url)")
    parser.add_argument("--config", metavar="FILE", help="TOML file; default $TICKWIRE_CONFIG, then hub.toml")
    parser.add_argument(
        "--take-over", action="store_true",
        help="listen although another gateway has the port: then stop that one, and no connection is refused",
    )  # fmt: skip
    # How the parent starts its workers.
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--siblings", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    settings = settings_of(arguments)
    number: int | None = arguments.worker

    async def gateway() -> int:
        refuse_remote(settings.gateway)
        await check(settings.redis.address)
        if number is None and settings.gateway.workers > 1:
            return await _parent(settings, take_over=arguments.take_over)
        with listen(settings.gateway, take_over=arguments.take_over or number is not None) as listener:
            logger.info("gateway host=%s port=%d", settings.gateway.host, settings.gateway.port)
            app = create_app(settings)
            if number is None:
                await serve(app, listener)
                return 0
            siblings = Siblings(arguments.siblings, number, settings.gateway.workers, app.state.registry)
            app.state.siblings = siblings
            async with offer(siblings.folder, str(number), siblings.registry):
                await serve(app, listener)
        return 0

    run(gateway, "gateway" if number is None else f"gateway-{number}", settings)


async def _parent(settings: Settings, *, take_over: bool) -> int:
    own = settings.gateway
    # Bound as long as the gateway lives, so that no other program takes the port while a worker is started again.
    with reserve(own, take_over=take_over):
        logger.info("gateway host=%s port=%d workers=%d", own.host, own.port, own.workers)
        return await run_workers(sys.argv[1:], own.workers, own.drain_s)


def _port(text: str) -> int:
    port = int(text) if text.isdigit() else 0
    if not 0 < port < 65_536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port (1 to 65535)")
    return port


if __name__ == "__main__":
    main()
