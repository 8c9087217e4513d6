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
from gateway.http import HttpProtocol
from gateway.runtime import runtime_of
from hub.config import GatewaySettings
from hub.errors import ConfigError

__all__ = ["GatewayServer", "listen", "refuse_remote", "reserve", "serve"]

BACKLOG = 4096
#: The kernel's send buffer per client (it doubles the number): small, so that a slow reader shows early.
SEND_BUFFER_BYTES = 65_536
#: Young objects between two collections. Messages leave none behind that need collecting, but handshakes do, and their
#: garbage is memory: 50,000 would be 0.5 KB more per client of 10,000.
GC_THRESHOLD = 10_000


def refuse_remote(settings: GatewaySettings) -> None:
    """Raise ConfigError for an address beyond this machine, as long as nobody has to prove who they are."""
    if settings.auth.required or settings.allow_remote_without_auth or _is_loopback(settings.host):
        return
    raise ConfigError(
        f"gateway.host = {settings.host!r} is reachable from other machines, and the gateway does not ask who its "
        "clients are. Use 127.0.0.1, set gateway.auth.secret (or secret_file, or jwks), or "
        "gateway.allow_remote_without_auth = true where a proxy in front asks them"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reserve(settings: GatewaySettings, *, take_over: bool = False) -> socket.socket:
    """Bind the port, so that this gateway's processes may listen on it; ConfigError where that is impossible.

    The kernel spreads new connections over all who listen. But a port that another gateway has by mistake must not
    be shared in silence: only with `take_over` is it.
    """
    if not take_over:
        _bound(settings, shared=False).close()
    return _bound(settings, shared=True)


def listen(settings: GatewaySettings, *, take_over: bool = False) -> socket.socket:
    """Open the listening socket; as `reserve`."""
    listener = reserve(settings, take_over=take_over)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def _bound(settings: GatewaySettings, *, shared: bool) -> socket.socket:
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
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}. Stop what uses the port, set "
            "gateway.port (--port), or take over from a running gateway (--take-over)"
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
        runtime = runtime_of(self._app)
        await runtime.clients.close_all(runtime.settings.gateway.drain_s)
        await super().shutdown(sockets)


async def serve(app: Litestar, listener: socket.socket, *, freeze: bool = True) -> None:
    """Serve until cancelled, then end in order. `freeze` sets up the garbage collector for a process of its own."""
    runtime = runtime_of(app)

    class Protocol(HttpProtocol):
        journal = runtime.guard.journal

    config = uvicorn.Config(
        app,
        http=Protocol,
        ws=HandoverProtocol,
        lifespan="on",
        log_config=None,
        log_level="error",  # its warnings are one line per bad request; the journal has them
        access_log=False,
        server_header=False,
        ws_per_message_deflate=runtime.settings.gateway.deflate,
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
