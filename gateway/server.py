"""uvicorn around the app: the listening socket, our WebSocket protocol, and an orderly end."""

import asyncio
import gc
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from litestar import Litestar

from gateway.handover import HandoverProtocol
from gateway.runtime import runtime_of
from hub.config import GatewaySettings
from hub.errors import ConfigError

__all__ = ["GatewayServer", "listen", "refuse_remote", "serve"]

BACKLOG = 4096
#: The kernel's send buffer per client (it doubles the number): small, so that a slow reader shows early.
SEND_BUFFER_BYTES = 65_536
#: Young objects between two collections. Messages leave none behind that need collecting, so rarely is enough.
GC_THRESHOLD = 50_000


def refuse_remote(settings: GatewaySettings) -> None:
    """Raise ConfigError for an address beyond this machine, as long as nobody has to prove who they are."""
    if settings.allow_remote_without_auth or _is_loopback(settings.host):
        return
    raise ConfigError(
        f"gateway.host = {settings.host!r} is reachable from other machines, and the gateway does not ask who its "
        "clients are. Use 127.0.0.1, put a proxy with authentication in front, or set "
        "gateway.allow_remote_without_auth = true"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(settings: GatewaySettings) -> socket.socket:
    """Open the listening socket; ConfigError where that is impossible."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"gateway.host = {settings.host!r} cannot be used: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit both.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}. Stop what uses the port, or set "
            "gateway.port (--port)"
        ) from error
    return listener


class GatewayServer(uvicorn.Server):
    """Ends with the task that serves, not by signals of its own; parts from handed-over clients first."""

    def __init__(self, config: uvicorn.Config, app: Litestar) -> None:
        super().__init__(config)
        self._app = app

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        # uvicorn does not know these connections any more, yet its listener waits until they are gone.
        await runtime_of(self._app).clients.close_all()
        await super().shutdown(sockets)


async def serve(app: Litestar, listener: socket.socket, *, freeze: bool = True) -> None:
    """Serve until cancelled, then end in order. `freeze` sets up the garbage collector for a process of its own."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws=HandoverProtocol,
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        timeout_graceful_shutdown=2,
        backlog=BACKLOG,
    )
    server = GatewayServer(config, app)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        if freeze:
            gc.set_threshold(GC_THRESHOLD, 20, 50)
            gc.collect()
            gc.freeze()
        await asyncio.shield(task)
    except asyncio.CancelledError:
        server.should_exit = True
        await task
        raise
