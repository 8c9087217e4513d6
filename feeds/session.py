"""Recorded sessions: reading and writing them.

A session is a folder with `ws.jsonl.gz` (or `ws.jsonl`), lines `{"t": unix seconds or null, "raw": text}`, and
`rest_index.jsonl` naming REST bodies beside it (`"request"` is the body of a POST). `"b64"` instead of `"raw"` holds a
binary frame as it came, `"dir"` is `out` for what the recorder sent and `open` for a connection's URL. `"on"`, where
several are open at once, says on which: the first `open` of the session is 0. A single `.jsonl[.gz]` file of such lines
is a session without REST bodies. Who plays one back is feeds/replay.py, who prints its messages feeds/normalize.py.
"""

import base64
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal, cast

import msgspec
from msgspec import Struct

from hub.errors import SessionError

__all__ = ["Body", "Frame", "Session", "SessionWriter"]

NS_PER_S = 1_000_000_000

Direction = Literal["in", "out", "open"]


class Frame(Struct, frozen=True, gc=False):
    """One line: `ts` int ns UTC or None where the receive time is unknown; `on` None: on the one opened last."""

    ts: int | None
    payload: bytes
    direction: Direction = "in"
    binary: bool = False
    on: int | None = None


class Body(Struct, frozen=True, gc=False):
    """One REST answer. `ts` as in Frame; `url` as it was asked for, a POST's with `#` and its body; the content is
    read when needed."""

    ts: int | None
    url: str
    path: Path

    def read(self) -> bytes:
        """Return the body, unpacked; SessionError where it cannot be read."""
        try:
            data = self.path.read_bytes()
            return gzip.decompress(data) if self.path.suffix == ".gz" else data
        except (OSError, EOFError, zlib.error) as error:
            raise SessionError(f"{self.path}: {error}") from error


class _Line(Struct):
    t: float | None = None
    raw: str | None = None
    b64: str | None = None
    dir: Direction = "in"
    on: int | None = None


class _IndexLine(Struct):
    file: str
    t: float | None = None
    url: str = ""
    path: str = ""
    query: str = ""
    request: str = ""


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_index = msgspec.json.Decoder(_IndexLine).decode

#: What a line that is none may raise: no JSON, no UTF-8, endless nesting, a time beyond all numbers.
_UNREADABLE = (ValueError, RecursionError, OverflowError)


class Session:
    """A recorded session on disk. Raises SessionError where `path` is none."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            candidates = [self.path / "ws.jsonl.gz", self.path / "ws.jsonl"]
            self._frames = next((file for file in candidates if file.is_file()), None)
            index = self.path / "rest_index.jsonl"
            self.bodies = self._read_index(index) if index.is_file() else []
            if self._frames is None and not self.bodies:
                raise SessionError(f"{self.path}: no ws.jsonl.gz, ws.jsonl or rest_index.jsonl in this folder")
        elif self.path.is_file():
            self._frames, self.bodies = self.path, []
        else:
            raise SessionError(f"{self.path}: no such file or folder")

    @property
    def has_frames(self) -> bool:
        """Tell whether anything of a stream was recorded."""
        return self._frames is not None

    def frames(self) -> Iterator[Frame]:
        """Yield the lines in recorded order; SessionError naming file and line where one cannot be read."""
        if self._frames is None:
            return
        read = 0
        try:
            with _open(self._frames) as file:
                for line in file:
                    read += 1
                    if line.strip():
                        yield _frame(line)
        except (OSError, EOFError, zlib.error, *_UNREADABLE) as error:
            raise SessionError(f"{self._frames}, line {read}: {error}") from error

    def _read_index(self, index: Path) -> list[Body]:
        bodies: list[Body] = []
        read = 0
        try:
            for line in index.read_bytes().splitlines():
                read += 1
                if line.strip():
                    row = _decode_index(line)
                    url = (row.url or f"{row.path}?{row.query}") + (f"#{row.request}" if row.request else "")
                    bodies.append(Body(_ns(row.t), url, self.path / row.file))
        except (OSError, *_UNREADABLE) as error:
            raise SessionError(f"{index}, line {read}: {error}") from error
        return bodies


def _frame(line: bytes) -> Frame:
    row = _decode_line(line)
    if row.b64 is not None:
        return Frame(_ns(row.t), base64.b64decode(row.b64, validate=True), row.dir, True, row.on)
    if row.raw is None:
        raise ValueError("neither raw nor b64")
    return Frame(_ns(row.t), row.raw.encode(), row.dir, False, row.on)


def _ns(seconds: float | None) -> int | None:
    # Microseconds are as far as a float of today's unix time is exact.
    return None if seconds is None else round(seconds * 1_000_000) * 1000


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


class SessionWriter:
    """Writes a session folder. Lines are flushed as they come, so that an interrupted recording can be read."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()):
            raise SessionError(f"{self.folder} is not empty: a session gets a folder of its own")
        self.frames_written = self.opened = 0
        self._bodies = 0
        self._frames = gzip.open(self.folder / "ws.jsonl.gz", "wb")
        self._index = (self.folder / "rest_index.jsonl").open("wb")

    def frame(self, ts: int | None, payload: bytes | str, direction: Direction = "in", on: int | None = None) -> None:
        """Append one frame; text that is no UTF-8 is kept as a binary frame. `on` as in Frame."""
        row: dict[str, object] = {"t": _seconds(ts)}
        if direction != "in":
            row["dir"] = direction
            self.opened += direction == "open"
        if on is not None:
            row["on"] = on
        try:
            row["raw"] = payload if isinstance(payload, str) else payload.decode()
        except UnicodeDecodeError:
            assert isinstance(payload, bytes)
            row["b64"] = base64.b64encode(payload).decode()
        self._frames.write(msgspec.json.encode(row) + b"\n")
        self.frames_written += 1

    def body(self, ts: int | None, url: str, data: bytes, request: bytes | None = None) -> None:
        """Store one REST answer; `request` is the body of a POST."""
        self._bodies += 1
        name = f"rest_{self._bodies:04d}.json.gz"
        (self.folder / name).write_bytes(gzip.compress(data, mtime=0))
        row = {"t": _seconds(ts), "url": url, "file": name}
        if request is not None:
            row["request"] = request.decode()
        self._index.write(msgspec.json.encode(row) + b"\n")
        self._index.flush()

    def flush(self) -> None:
        self._frames.flush()

    def close(self) -> None:
        self._frames.close()
        self._index.close()


def _seconds(ts: int | None) -> float | None:
    return None if ts is None else ts / NS_PER_S
