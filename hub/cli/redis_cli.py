"""`tickwire redis-cli ARGS...`: the redis-cli of the hub's server, connected to the Redis the hub uses."""

import asyncio
import os
from collections.abc import Sequence
from typing import Any, cast

from redis.asyncio.connection import SSLConnection, parse_url

from hub import config
from hub.cli import demo
from hub.config import RedisSettings
from hub.embedded import configured_port, port_is_free
from hub.errors import ConfigError
from hub.redis_binary import find_server
from hub.topology import find_master, parse_address

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    settings = config.load().redis
    server = find_server(settings.data_dir, wheel=settings.server == "auto")
    if server.cli is None:
        raise ConfigError("no redis-cli was found (Debian: apt-get install redis-tools, macOS: brew install redis)")
    arguments, env = _connection(_node_of(settings.url) if settings.url else _embedded_url(settings))
    if settings.url and parse_address(settings.url).kind == "cluster":
        arguments.append("-c")  # go where a key is
    os.execve(server.cli, [server.cli, *arguments, *argv], {**os.environ, **server.env, **env})


def _embedded_url(settings: RedisSettings) -> str:
    """Return the address of the embedded server that runs, live or demo: `up` may have had to change the port."""
    for folder in (settings.data_dir, demo.data_dir(settings.data_dir)):
        port = configured_port(folder)
        if port is not None and not port_is_free(port):
            return f"redis://127.0.0.1:{port}/0"
    return settings.address


def _node_of(url: str) -> str:
    """Return the URL of the one server, of the master, or of a node of the Cluster."""
    address = parse_address(url)
    if address.kind == "sentinel":
        return asyncio.run(find_master(address))
    return address.node_url(*address.hosts[0]) if address.kind == "cluster" else url


def _connection(url: str) -> tuple[list[str], dict[str, str]]:
    """Return redis-cli's options and variables for `url`. The password goes by variable: options show in `ps`."""
    try:
        options = cast(dict[str, Any], parse_url(url))
    except ValueError as error:
        raise ConfigError(f"redis.url cannot be used: {error}") from error
    if "path" in options:
        arguments = ["-s", str(options["path"])]
    else:
        arguments = ["-h", str(options.get("host", "localhost")), "-p", str(options.get("port", 6379))]
    if options.get("connection_class") is SSLConnection:
        arguments.append("--tls")
    if options.get("username"):
        arguments += ["--user", str(options["username"])]
    if options.get("db"):
        arguments += ["-n", str(options["db"])]
    return arguments, {"REDISCLI_AUTH": str(options["password"])} if options.get("password") else {}
