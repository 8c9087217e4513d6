"""The frame reader against websockets' own: same messages, same refusals."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, SERVER, Protocol

from gateway.frames import (
    CLOSE,
    PING,
    TEXT,
    FrameError,
    FrameReader,
    close_frame,
    control_frame,
    split_frames,
    text_frame,
)

LIMIT = 200
quiet = logging.getLogger("tests.frames")
quiet.setLevel(logging.CRITICAL)

payloads = st.one_of(st.binary(max_size=260), st.text(max_size=80).map(str.encode))
opcodes = st.sampled_from([Opcode.CONT, Opcode.TEXT, Opcode.CLOSE, Opcode.PING, Opcode.PONG])


def client_frame(opcode: int, payload: bytes, *, fin: bool = True, mask: bool = True, rsv: int = 0) -> bytes:
    data = Frame(Opcode(opcode), payload, fin=fin)
    try:
        raw = bytearray(data.serialize(mask=mask))
    except Exception:  # what a correct client refuses to send
        size = len(payload)
        length = bytes((0x80 | size,)) if size < 126 else bytes((0x80 | 126,)) + size.to_bytes(2, "big")
        raw = bytearray(bytes((0x80 * fin | opcode,)) + length + b"\0\0\0\0" + payload)
    raw[0] |= rsv << 4
    return bytes(raw)


frames = st.builds(
    client_frame,
    opcodes,
    payloads,
    fin=st.booleans(),
    mask=st.sampled_from([True] * 9 + [False]),
    rsv=st.sampled_from([0] * 9 + [1, 2, 4]),
)


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    at = 0
    for cut in cuts:
        yield data[at : at + cut]
        at += cut
    yield data[at:]


def ours(data: bytes, cuts: list[int]) -> tuple[list[tuple[int, bytes]], int | None]:
    found: list[tuple[int, bytes]] = []
    reader = FrameReader(LIMIT)
    try:
        for piece in pieces(data, cuts):
            for message in reader.feed(piece):
                found.append(message)
                if message[0] == CLOSE:
                    return found, None
    except FrameError as error:
        return found, error.code
    return found, None


def theirs(data: bytes) -> tuple[list[tuple[int, bytes]], int | None]:
    protocol = Protocol(SERVER, state=OPEN, max_size=LIMIT, logger=quiet)
    protocol.receive_data(data)
    found: list[tuple[int, bytes]] = []
    parts: list[bytes] = []
    for event in protocol.events_received():
        assert isinstance(event, Frame)
        if event.opcode in (Opcode.TEXT, Opcode.CONT):
            parts.append(bytes(event.data))
            if not event.fin:
                continue
            text, parts = b"".join(parts), []
            try:
                text.decode()
            except UnicodeDecodeError:
                return found, 1007
            found.append((TEXT, text))
        else:
            found.append((int(event.opcode), bytes(event.data)))
            if event.opcode is Opcode.CLOSE:
                return found, None
    fault = protocol.parser_exc
    return found, None if fault is None else protocol.close_sent.code if protocol.close_sent else 0


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 40), max_size=12))
@example([b"\x01\x80-\xc1\xd4\xfc", b"\x88\x80\xc4\xa1.\x0e"], [])
def test_same_as_websockets_however_the_bytes_are_cut(sent: list[bytes], cuts: list[int]) -> None:
    data = b"".join(sent)
    assert ours(data, cuts) == theirs(data)


@given(st.binary(max_size=400), st.lists(st.integers(0, 40), max_size=12))
def test_noise_is_refused_with_a_code_or_waited_for(data: bytes, cuts: list[int]) -> None:
    _, code = ours(data, cuts)
    assert code in {None, 1002, 1003, 1007, 1009}


@given(st.lists(st.text(max_size=50).map(str.encode), min_size=1, max_size=5))
def test_an_idle_reader_can_be_thrown_away(texts: list[bytes]) -> None:
    for text in texts:
        reader = FrameReader(LIMIT)
        half = len(text) // 2
        data = client_frame(Opcode.TEXT, text[:half], fin=False) + client_frame(Opcode.CONT, text[half:])
        found: list[tuple[int, bytes]] = []
        for byte in data:
            assert not found
            found += list(reader.feed(bytes((byte,))))
            assert reader.idle == bool(found)
        assert found == [(TEXT, text)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 2047, 2048, 65_535, 65_536, 70_000])
def test_text_frames_are_what_websockets_would_send(size: int) -> None:
    payload = b"x" * size
    assert text_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)


def test_frames_are_taken_apart_again() -> None:
    data = text_frame(b"a" * 300) + control_frame(PING, b"p") + text_frame(b"b" * 70_000) + close_frame(4008, "slow")
    assert list(split_frames(data)) == [
        (TEXT, b"a" * 300), (PING, b"p"), (TEXT, b"b" * 70_000), (CLOSE, b"\x0f\xa8slow"),
    ]  # fmt: skip


def test_a_long_close_reason_is_cut_at_a_character() -> None:
    (frame,) = split_frames(close_frame(1000, "ü" * 100))
    assert len(frame[1]) <= 125
    assert frame[1][2:].decode() == "ü" * 61


def test_binary_messages_are_refused() -> None:
    with pytest.raises(FrameError) as error:
        list(FrameReader(LIMIT).feed(client_frame(Opcode.BINARY, b"x")))
    assert error.value.code == 1003


def test_a_message_is_limited_however_it_is_cut() -> None:
    reader = FrameReader(LIMIT)
    first = client_frame(Opcode.TEXT, b"x" * 150, fin=False)
    assert list(reader.feed(first)) == []
    with pytest.raises(FrameError) as error:
        list(reader.feed(client_frame(Opcode.CONT, b"x" * 51)))
    assert error.value.code == 1009


def test_empty_fragments_take_no_memory() -> None:
    reader = FrameReader(LIMIT)
    list(reader.feed(client_frame(Opcode.TEXT, b"", fin=False)))
    for _ in range(1000):
        list(reader.feed(client_frame(Opcode.CONT, b"", fin=False)))
    assert len(reader._parts) <= 1 + 1
    assert list(reader.feed(client_frame(Opcode.CONT, b"{}"))) == [(TEXT, b"{}")]
