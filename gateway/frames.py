"""WebSocket frames (RFC 6455), without I/O: what clients send is parsed, what they get is built.

A compact reader instead of websockets' own, because it must cost nothing while a connection is idle: a FrameReader
exists only between the first and the last byte of a message. tests/gateway/test_frames.py holds the two together.
"""

import zlib
from collections.abc import Iterator
from typing import Final

from websockets.exceptions import ProtocolError
from websockets.frames import Close

try:
    from websockets.speedups import apply_mask
except ImportError:  # its wheel for this platform has no C part
    from websockets.utils import apply_mask

__all__ = ["BINARY", "CLOSE", "COMPRESSED", "PING", "PONG", "TEXT", "FrameError", "FrameReader", "close_frame",
           "control_frame", "data_frame", "payload_of", "split_frames", "text_frame", "whole_frames"]  # fmt: skip

CONT: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
#: RSV1: the message is compressed (RFC 7692).
COMPRESSED: Final = 0x40

CONTROL_MAX: Final = 125
_FIN_TEXT: Final = 0x80 | TEXT
#: Headers of whole text frames by payload length; most messages are this short.
_HEADS: Final = [bytes((_FIN_TEXT, n)) for n in range(126)] + [
    bytes((_FIN_TEXT, 126)) + n.to_bytes(2, "big") for n in range(126, 2048)
]


class FrameError(Exception):
    """A client that broke the protocol; `code` is the close code for it."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


def text_frame(payload: bytes) -> bytes:
    """Return a whole, unmasked text frame."""
    size = len(payload)
    if size < 2048:
        return _HEADS[size] + payload
    if size < 65_536:
        return bytes((_FIN_TEXT, 126)) + size.to_bytes(2, "big") + payload
    return bytes((_FIN_TEXT, 127)) + size.to_bytes(8, "big") + payload


def data_frame(first: int, payload: bytes) -> bytes:
    """Return a whole, unmasked frame; `first` is the opcode, with COMPRESSED where that is so."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | first, size)) + payload
    if size < 65_536:
        return bytes((0x80 | first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | first, 127)) + size.to_bytes(8, "big") + payload


def control_frame(opcode: int, payload: bytes = b"") -> bytes:
    return bytes((0x80 | opcode, len(payload))) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a close frame; a reason that does not fit is cut."""
    text = reason.encode()[: CONTROL_MAX - 2].decode(errors="ignore").encode()
    return control_frame(CLOSE, code.to_bytes(2, "big") + text)


def whole_frames(data: bytes) -> list[bytes]:
    """Take apart what this module built: each whole, unmasked frame in `data`."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        size, head = data[at + 1], 2
        if size > 125:
            head = 4 if size == 126 else 10
            size = int.from_bytes(data[at + 2 : at + head], "big")
        found.append(data[at : at + head + size])
        at += head + size
    return found


def payload_of(frame: bytes) -> bytes:
    """Return the payload of a whole, unmasked frame."""
    return frame[2 if frame[1] < 126 else 4 if frame[1] == 126 else 10 :]


def split_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (opcode, payload) of each whole, unmasked frame in `data`."""
    return ((frame[0] & 15, payload_of(frame)) for frame in whole_frames(data))


class FrameReader:
    """Client frames to messages: fragments joined, masks removed, limits kept.

    `limit` bounds a message in bytes, however it is cut into frames, and when it is inflated. `packed`: binary messages
    are welcome, too. `deflate`: messages may be compressed, each by itself.
    """

    __slots__ = ("_buffer", "_compressed", "_deflate", "_kind", "_limit", "_packed", "_parts", "_size")

    def __init__(self, limit: int, *, packed: bool = False, deflate: bool = False) -> None:
        self._limit, self._packed, self._deflate = limit, packed, deflate
        self._compressed = False
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._size = 0
        self._kind = CONT

    @property
    def idle(self) -> bool:
        """True between messages: nothing would be lost with this object."""
        return not self._buffer and self._kind == CONT

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield (TEXT, payload), (BINARY, …), (PING, …), (PONG, …), (CLOSE, payload) of what is complete.

        Raises FrameError after the messages before the fault: 1002 broken frames, 1003 binary messages where none are
        welcome, 1007 text that is not UTF-8 or not inflatable, 1009 beyond the limit. Nothing may be fed after that.
        """
        self._buffer += data
        while (frame := self._frame()) is not None:
            message = self._message(*frame)
            if message is not None:
                yield message

    def _frame(self) -> tuple[int, bool, bytes] | None:
        """Take one frame out of the buffer: opcode, fin, payload."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        opcode, fin, size, head = first & 15, first >= 0x80, second & 127, 2
        self._check(first, second)
        if size > 125:
            head = 4 if size == 126 else 10
            if len(buffer) < head:
                return None
            size = int.from_bytes(buffer[2:head], "big")
        if size > self._limit - (self._size if opcode < CLOSE else 0):
            raise FrameError(1009, f"a message may have {self._limit} bytes")
        end = head + 4 + size
        if len(buffer) < end:
            return None
        payload = apply_mask(bytes(buffer[head + 4 : end]), bytes(buffer[head : head + 4])) if size else b""
        del buffer[:end]
        return opcode, fin, payload

    def _check(self, first: int, second: int) -> None:
        opcode = first & 15
        compressed = bool(first & COMPRESSED) and self._deflate and opcode in (TEXT, BINARY)
        if first & 0x70 and not (compressed and not first & 0x30):
            raise FrameError(1002, "reserved bits are set")
        if second < 0x80:
            raise FrameError(1002, "client frames must be masked")
        if opcode >= CLOSE:
            if opcode > PONG:
                raise FrameError(1002, "unknown opcode")
            if first < 0x80 or second & 127 > CONTROL_MAX:
                raise FrameError(1002, "control frames are short and whole")
        elif opcode > BINARY:
            raise FrameError(1002, "unknown opcode")
        elif (opcode == CONT) != (self._kind != CONT):
            raise FrameError(1002, "fragments out of order")
        elif opcode != CONT:
            self._compressed = compressed

    def _message(self, opcode: int, fin: bool, payload: bytes) -> tuple[int, bytes] | None:
        if opcode >= CLOSE:
            if opcode == CLOSE:
                _check_close(payload)
                if self._kind != CONT:
                    raise FrameError(1002, "a message was not finished")
            return opcode, payload
        if opcode == BINARY and not self._packed:
            raise FrameError(1003, "messages are JSON text")
        if not fin:
            # An empty fragment is legal; a client that sends nothing else must not fill the list.
            if payload or not self._parts:
                self._parts.append(payload)
            self._size += len(payload)
            self._kind = opcode or self._kind
            return None
        kind = opcode or self._kind
        if self._kind != CONT:
            payload = b"".join([*self._parts, payload])
            self._parts, self._size, self._kind = [], 0, CONT
        if self._compressed:
            payload = _inflate(payload, self._limit)
        if kind == TEXT:
            try:
                payload.decode()
            except UnicodeDecodeError as error:
                raise FrameError(1007, "text must be UTF-8") from error
        return kind, payload


def _inflate(payload: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(payload + b"\x00\x00\xff\xff", limit + 1)
    except zlib.error as error:
        raise FrameError(1007, "a compressed message that cannot be inflated") from error
    if len(content) > limit:
        raise FrameError(1009, f"a message may have {limit} bytes")
    return content


def _check_close(payload: bytes) -> None:
    try:
        Close.parse(payload)
    except ProtocolError as error:
        raise FrameError(1002, str(error)) from error
    except UnicodeDecodeError as error:
        raise FrameError(1007, "a close reason must be UTF-8") from error
