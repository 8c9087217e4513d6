"""The WebSocket handshake is the HTTP server's and Litestar's; afterwards the socket is ours.

uvicorn's protocol is subclassed to offer a hand-over in `scope["extensions"]`. A handler that takes it gets the
transport, with what the client sent meanwhile, and returns; uvicorn then forgets the connection. A handler that does
not take it talks ASGI as usual.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias, cast

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.http11 import Request

__all__ = ["EXTENSION", "Handover", "HandoverProtocol", "Successor", "handover_in", "window_bits_in"]

EXTENSION: Final = "tickwire.handover"
#: Of what a client sends before the handler is done, so much is kept before reading is paused.
EARLY_MAX: Final = 65_536


class Successor(Protocol):
    """The protocol that goes on with the socket."""

    def data_received(self, data: bytes) -> None: ...

    def pause_writing(self) -> None: ...


Handover: TypeAlias = Callable[[Callable[[asyncio.Transport], Successor]], bool]
"""Give the socket to the protocol made by the argument. False: the client is gone already."""


def handover_in(scope: Mapping[str, Any]) -> Handover | None:
    """Return the server's offer; None where there is none."""
    extension = (scope.get("extensions") or {}).get(EXTENSION)
    return extension["take"] if extension else None


def window_bits_in(scope: Mapping[str, Any]) -> int:
    """Return the window for compressing messages to this client, 0 where compression was not negotiated."""
    extension = (scope.get("extensions") or {}).get(EXTENSION)
    return extension["window_bits"] if extension else 0


#: Each message by itself, both ways: a compressed message can go to many, and no connection keeps a window.
_DEFLATE = ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)


class _Gone:
    """What uvicorn may still do to a transport that it no longer has: nothing."""

    def close(self) -> None: ...

    def is_closing(self) -> bool:
        return True


class HandoverProtocol(WebSocketsSansIOProtocol):
    """Keeps what the client sends after the handshake as raw bytes until somebody wants it."""

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        if config.ws_per_message_deflate:
            self.conn.available_extensions = [_DEFLATE]
        self._early: list[bytes] | None = []

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):  # else: no valid handshake, refused above
            extensions = cast(dict[str, Any], self.scope["extensions"])
            bits = [e.local_max_window_bits for e in self.conn.extensions if isinstance(e, PerMessageDeflate)]
            extensions[EXTENSION] = {"take": self._hand_over, "window_bits": bits[0] if bits else 0}

    def data_received(self, data: bytes) -> None:
        if self._early is None or not self.handshake_initiated:
            super().data_received(data)
            return
        self._early.append(data)
        if sum(map(len, self._early)) > EARLY_MAX:
            self.transport.pause_reading()

    async def receive(self) -> Any:
        if self._early is not None and self.queue.empty():
            # Somebody wants messages over ASGI: from here on this is uvicorn's protocol again.
            early, self._early = self._early, None
            self.transport.resume_reading()
            for data in early:
                super().data_received(data)
        return await super().receive()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.close_sent:
            # uvicorn forgets it after a refusal with a body of its own, and complains that nothing was answered.
            self.handshake_complete = True

    def _hand_over(self, make: Callable[[asyncio.Transport], Successor]) -> bool:
        transport = self.transport
        if self.disconnected or self.close_sent or transport.is_closing():
            return False
        self.stop_keepalive()
        self.connections.discard(self)
        self.disconnected = True
        early, self._early = self._early or [], None
        successor = make(transport)
        transport.set_protocol(cast(asyncio.BaseProtocol, successor))
        self.transport = cast(asyncio.Transport, _Gone())
        if not self.writable.is_set():
            successor.pause_writing()
        transport.resume_reading()
        for data in early:
            successor.data_received(data)
        return True
