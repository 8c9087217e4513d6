"""Other forms of the same messages: msgpack, and compressed frames. Made once per message and worker, then shared.

Everything in the gateway is JSON in text frames. A client that wants another form has its writes converted at the very
end, so that all rules (order, pauses, resumes) are the same for everyone; who wants plain JSON pays nothing for it.
What was converted is remembered for a while, because the same frames go to many.
"""

import zlib
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.frames import BINARY, COMPRESSED, TEXT, data_frame, payload_of, whole_frames

__all__ = ["Encoding", "Encodings"]

#: Bytes of results remembered, twice: the newer ones, and those before.
KEEP_BYTES: Final = 524_288
#: Shorter messages do not become shorter.
COMPRESS_MIN: Final = 64
#: zlib cannot write raw streams for windows smaller than this.
WINDOW_BITS_MIN: Final = 9

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Encoding:
    """One form. `made` counts conversions: one per message, however many clients there are."""

    def __init__(self, convert: Callable[[bytes], bytes]) -> None:
        self.made = 0
        self._convert = convert  # the payload of a text frame -> the whole frame to send instead
        self._newer: dict[bytes, bytes] = {}
        self._older: dict[bytes, bytes] = {}
        self._size = 0

    def frames(self, data: bytes) -> bytes:
        """Return whole frames in this form; pings, pongs and closes stay as they are."""
        found = self._find(data)
        if found is None:
            each = whole_frames(data)
            found = self._frame(data) if len(each) == 1 else b"".join([self._shared(frame) for frame in each])
            self._keep(data, found)
        return found

    def _shared(self, frame: bytes) -> bytes:
        found = self._find(frame)
        if found is None:
            found = self._frame(frame)
            self._keep(frame, found)
        return found

    def _frame(self, frame: bytes) -> bytes:
        if frame[0] & 15 != TEXT:
            return frame
        self.made += 1
        return self._convert(payload_of(frame))

    def _find(self, data: bytes) -> bytes | None:
        found = self._newer.get(data)
        if found is None and (found := self._older.get(data)) is not None:
            self._keep(data, found)
        return found

    def _keep(self, data: bytes, found: bytes) -> None:
        self._size += len(data) + len(found)
        if self._size > KEEP_BYTES:
            self._older, self._newer, self._size = self._newer, {}, len(data) + len(found)
        self._newer[data] = found


class Encodings:
    """The forms that clients of this worker want, each made when the first one does."""

    def __init__(self) -> None:
        self._known: dict[tuple[bool, int], Encoding] = {}

    def get(self, *, packed: bool, window_bits: int) -> Encoding | None:
        """Return the form for msgpack (`packed`), compressed where `window_bits` is not 0; None for plain JSON."""
        if window_bits < WINDOW_BITS_MIN:
            window_bits = 0
        if not packed and not window_bits:
            return None
        known = self._known.get((packed, window_bits))
        if known is None:

            def convert(payload: bytes) -> bytes:
                content = _encode(_decode(payload)) if packed else payload
                return _compressed(BINARY if packed else TEXT, content, window_bits)

            known = self._known[packed, window_bits] = Encoding(convert)
        return known

    @property
    def made(self) -> int:
        return sum(encoding.made for encoding in self._known.values())


def _compressed(opcode: int, payload: bytes, window_bits: int) -> bytes:
    if window_bits and len(payload) >= COMPRESS_MIN:
        deflater = zlib.compressobj(6, zlib.DEFLATED, -window_bits, 5)
        # RFC 7692, 7.2.1: without the four bytes that end every sync flush.
        short = (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
        if len(short) < len(payload):
            return data_frame(opcode | COMPRESSED, short)
    return data_frame(opcode, payload)
