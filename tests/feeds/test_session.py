"""feeds/session.py: recorded sessions are read as they were written, and say where they cannot be read."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.normalize import main
from feeds.session import Body, Direction, Frame, Session, SessionWriter
from hub.errors import SessionError
from tests.feeds.naive import ROOT, bodies_of, rows_of, sessions

LINE = (
    '{"t":1617566591.3,"raw":"{\\"stream\\":\\"btcusdt@depth@100ms\\",\\"data\\":{\\"e\\":\\"depthUpdate\\",'
    '\\"E\\":1617566591307,\\"s\\":\\"BTCUSDT\\",\\"U\\":5,\\"u\\":6,\\"b\\":[],\\"a\\":[]}}"}\n'
)


# reading


@pytest.mark.parametrize("folder", sessions(), ids=lambda folder: str(folder.name))
def test_recorded_sessions_are_read_line_by_line(folder: Path) -> None:
    session = Session(folder)
    frames = list(session.frames())
    rows = rows_of(folder)
    assert [frame.payload.decode() for frame in frames] == [row["raw"] for row in rows]
    assert [frame.direction for frame in frames] == [row.get("dir", "in") for row in rows]
    for frame, row in zip(frames, rows, strict=True):
        assert frame.ts == row["t"] or (frame.ts is not None and abs(frame.ts - row["t"] * 1e9) < 1000)
    assert [(body.url, body.read().decode()) for body in session.bodies] == [
        (body["url"], body["body"]) for body in bodies_of(folder)
    ]


def test_lines_of_every_form(tmp_path: Path) -> None:
    lines = [
        b'{"t":1.5,"raw":"text \\u20ac"}',
        b'{"raw":"no time","t":null,"other":[1]}',
        b"",
        b'{"t":0,"dir":"out","raw":""}',
        b'{"t":2,"dir":"open","raw":"wss://venue/stream"}',
        b'{"b64":"AP8=","t":1617566591.326123}',
    ]
    (tmp_path / "ws.jsonl").write_bytes(b"\n".join(lines))
    assert list(Session(tmp_path).frames()) == [
        Frame(1_500_000_000, "text \u20ac".encode()),
        Frame(None, b"no time"),
        Frame(0, b"", "out"),
        Frame(2_000_000_000, b"wss://venue/stream", "open"),
        Frame(1_617_566_591_326_123_000, b"\x00\xff", "in", True),
    ]


def test_an_index_may_name_path_and_query(tmp_path: Path) -> None:
    (tmp_path / "ws.jsonl").write_text("")
    (tmp_path / "rest_index.jsonl").write_text(
        '{"file":"a.json","path":"/api/v3/depth","query":"symbol=BTCUSDT","n":2}\n'
    )
    (tmp_path / "a.json").write_text("{}")
    (body,) = Session(tmp_path).bodies
    assert body == Body(None, "/api/v3/depth?symbol=BTCUSDT", tmp_path / "a.json")
    assert body.read() == b"{}"


def test_a_gzip_of_several_members_is_read_to_the_end(tmp_path: Path) -> None:
    """A recorder that was started again appends a member."""
    (tmp_path / "ws.jsonl.gz").write_bytes(gzip.compress(LINE.encode()) + gzip.compress(LINE.encode()))
    assert len(list(Session(tmp_path).frames())) == 2


# writing


times = st.none() | st.integers(0, 4_000_000_000_000_000).map(lambda us: us * 1000)
payloads = st.binary(max_size=60) | st.text(st.characters(codec="utf-8"), max_size=60)
directions: st.SearchStrategy[Direction] = st.sampled_from(("in", "out", "open"))
frame_lists = st.lists(st.tuples(times, payloads, directions))


@settings(max_examples=60, deadline=None)
@given(frame_lists, st.lists(st.tuples(times, st.binary())))
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory,
    frames: list[tuple[int | None, bytes | str, Direction]],
    bodies: list[tuple[int | None, bytes]],
) -> None:
    writer = SessionWriter(tmp_path_factory.mktemp("session") / "new")
    for ts, payload, direction in frames:
        writer.frame(ts, payload, direction)
    for ts, data in bodies:
        writer.body(ts, "/depth?symbol=BTCUSDT", data)
    writer.close()
    session = Session(writer.folder)
    assert [(frame.ts, frame.payload, frame.direction) for frame in session.frames()] == [
        (ts, payload.encode() if isinstance(payload, str) else payload, direction) for ts, payload, direction in frames
    ]
    assert [(body.ts, body.read()) for body in session.bodies] == bodies


def test_a_recording_that_was_cut_off_can_be_read_up_to_there(tmp_path: Path) -> None:
    writer = SessionWriter(tmp_path / "new")
    writer.frame(1_000_000_000, "one")
    writer.body(None, "/depth", b"{}")
    writer.flush()
    session = Session(tmp_path / "new")
    assert [body.read() for body in session.bodies] == [b"{}"]
    frames = session.frames()
    assert next(frames).payload == b"one"
    with pytest.raises(SessionError, match=r"ws\.jsonl\.gz, line 1: "):
        next(frames)
    writer.close()


def test_a_session_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    with pytest.raises(SessionError, match="is not empty"):
        SessionWriter(tmp_path)


# what cannot be read


def gz(text: str) -> bytes:
    return gzip.compress(text.encode(), mtime=0)


INDEX = '{"t":null,"url":"/api/v3/depth?symbol=BTCUSDT","file":"depth.json"}\n'
LISTING = '{"t":null,"url":"/api/v3/exchangeInfo","file":"info.json.gz"}\n'
DAMAGED = bytearray(gz("".join(LINE.replace("1617566591.3", str(1617566591 + n / 7)) for n in range(500))))
DAMAGED[len(DAMAGED) // 2] ^= 0x55
FRAMES = {"ws.jsonl": LINE.encode()}

UNREADABLE: dict[str, tuple[dict[str, bytes], list[str]]] = {
    "an empty folder": ({}, ["no ws.jsonl.gz, ws.jsonl or rest_index.jsonl"]),
    "no gzip": ({"ws.jsonl.gz": LINE.encode()}, ["ws.jsonl.gz", "line"]),
    "a gzip cut off": ({"ws.jsonl.gz": gz(LINE * 50)[:-20]}, ["ws.jsonl.gz", "line"]),
    "a damaged gzip": ({"ws.jsonl.gz": bytes(DAMAGED)}, ["ws.jsonl.gz", "line"]),
    "a line that is no JSON": ({"ws.jsonl": f"{LINE}{LINE}oops\n{LINE}".encode()}, ["ws.jsonl", "line 3"]),
    "a line cut off": ({"ws.jsonl": (LINE + LINE[:40]).encode()}, ["ws.jsonl", "line 2"]),
    "a line that is no object": ({"ws.jsonl": f"{LINE}[1,2]\n".encode()}, ["ws.jsonl", "line 2"]),
    "a line without payload": ({"ws.jsonl": f'{LINE}\n\n{{"t":1}}\n'.encode()}, ["ws.jsonl", "line 4"]),
    "a payload that is no text": ({"ws.jsonl": b'{"t":1,"raw":{}}\n'}, ["ws.jsonl", "line 1"]),
    "a time that is none": ({"ws.jsonl": b'{"t":"noon","raw":""}\n'}, ["ws.jsonl", "line 1"]),
    "a time beyond all times": ({"ws.jsonl": b'{"t":1e308,"raw":""}\n'}, ["ws.jsonl", "line 1"]),
    "an unknown direction": ({"ws.jsonl": b'{"t":1,"dir":"up","raw":""}\n'}, ["ws.jsonl", "line 1"]),
    "no base64": ({"ws.jsonl": f'{LINE}{{"t":1,"b64":"a*"}}\n'.encode()}, ["ws.jsonl", "line 2"]),
    "text that is no UTF-8": ({"ws.jsonl": LINE.encode() + b'{"t":1,"raw":"\xff"}\n'}, ["ws.jsonl", "line 2"]),
    "endless nesting": ({"ws.jsonl": b'{"x":' + b"[" * 100_000 + b"\n"}, ["ws.jsonl", "line 1"]),
    "an index that is no JSON": (FRAMES | {"rest_index.jsonl": f"{INDEX}x".encode()}, ["rest_index.jsonl", "line 2"]),
    "an index cut off": (FRAMES | {"rest_index.jsonl": (INDEX + INDEX[:30]).encode()}, ["rest_index.jsonl", "line 2"]),
    "an index without files": (FRAMES | {"rest_index.jsonl": b'\n{"t":1}\n'}, ["rest_index.jsonl", "line 2", "file"]),
    "a time beyond all times in the index": (
        FRAMES | {"rest_index.jsonl": INDEX.replace("null", "1e308").encode()}, ["rest_index.jsonl", "line 1"],
    ),
    "a URL that is none": (FRAMES | {"rest_index.jsonl": b'{"url":"http://[x","file":"depth.json"}'}, ["http://[x"]),
    "a body that is missing": (FRAMES | {"rest_index.jsonl": INDEX.encode()}, ["depth.json"]),
    "a body cut off": (
        FRAMES | {"rest_index.jsonl": INDEX.encode(), "depth.json": b'{"lastUpdateId":1,"bids":[["'}, ["depth.json"],
    ),
    "a body that is noise": (
        FRAMES | {"rest_index.jsonl": INDEX.encode(), "depth.json": b"\xff\x00\xfe"}, ["depth.json"],
    ),
    "instruments that are no gzip": (
        FRAMES | {"rest_index.jsonl": LISTING.encode(), "info.json.gz": b"{}"}, ["info.json.gz"],
    ),
    "instruments cut off": (
        FRAMES | {"rest_index.jsonl": LISTING.encode(), "info.json.gz": gz('{"symbols":[{"sy')},
        ["list of instruments cannot be read"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_session_that_cannot_be_read_says_where(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names file and line, and an exit code of its own."""
    files, words = UNREADABLE[what]
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert main(["binance", str(tmp_path)]) == 6
    errors = capsys.readouterr().err
    assert [word for word in words if word not in errors] == []
    assert errors.startswith("tickwire: ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("body", [b'{"code":-1003,"msg":"Too many requests"}', b'{"lastUpdateId":"x"}', b"[]"])
def test_an_answer_that_is_none_costs_itself_alone(
    body: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A venue's error is recorded as any other body: as in a feed, the next one is asked for."""
    index = INDEX + INDEX.replace("depth.json", "next.json") + LISTING + LISTING.replace("info.json.gz", "list.json")
    files = {
        **FRAMES, "rest_index.jsonl": index.encode(), "depth.json": body, "info.json.gz": gz(body.decode()),
        "next.json": b'{"lastUpdateId":9999999999999,"bids":[["1","2"]],"asks":[]}',
        "list.json": b'{"symbols":[{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT"}]}',
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert main(["binance", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert '"symbol":"BTC-USDT"' in captured.out and '"action":"snapshot"' in captured.out
    assert "unreadable answer skipped: depth.json" in captured.err
    assert "unreadable list of instruments skipped" in captured.err
    assert "wire_errors=1" in captured.err


@pytest.mark.parametrize("name", ["nothing", "nothing.jsonl.gz"])
def test_a_session_that_is_not_there(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "feeds.normalize", "binance", str(tmp_path / name)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120)
    assert (done.returncode, done.stdout) == (6, b"")
    assert done.stderr.decode() == f"tickwire: {tmp_path / name}: no such file or folder\n"


DAMAGED_LIST = bytearray(gzip.compress(b'{"symbols":[]}' + bytes(range(256)) * 40, mtime=0))
DAMAGED_LIST[200] ^= 0x55


@pytest.mark.parametrize(
    "data", [None, b"{", b"\x1f\x8bno", bytes(DAMAGED_LIST), gz("{}")[:-4], b'{"symbols":5}', b"\xff"]
)
def test_given_instruments_that_cannot_be_read(
    data: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ws.jsonl").write_text(LINE)
    file = tmp_path / "list.json"
    if data is not None:
        file.write_bytes(data)
    assert main(["binance", str(tmp_path), "--instruments", str(file)]) == 6
    errors = capsys.readouterr().err
    assert "instruments cannot be read" in errors or "list.json" in errors


def test_a_single_file_is_a_session_without_bodies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "frames.jsonl.gz"
    file.write_bytes(gz(LINE))
    assert main(["binance", str(file)]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "fetches_unanswered=1" in captured.err
