"""`python -m gateway`: serve WebSocket and REST until told to stop."""

import argparse
import logging

from msgspec.structs import replace

from gateway.app import create_app
from gateway.server import listen, refuse_remote, serve
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
    parser.add_argument("--redis", metavar="URL", help="redis://, rediss:// or unix:// (redis.url)")
    parser.add_argument("--config", metavar="FILE", help="TOML file; default $TICKWIRE_CONFIG, then hub.toml")
    settings = settings_of(parser.parse_args())

    async def gateway() -> None:
        refuse_remote(settings.gateway)
        await check(settings.redis.address)
        listener = listen(settings.gateway)
        logger.info("gateway host=%s port=%d", settings.gateway.host, settings.gateway.port)
        await serve(create_app(settings), listener)

    run(gateway, "gateway", settings)


def _port(text: str) -> int:
    port = int(text) if text.isdigit() else 0
    if not 0 < port < 65_536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port (1 to 65535)")
    return port


if __name__ == "__main__":
    main()
