"""The archive's files: names, atomic writing, and what of a channel is archived already.

A file holds events of one channel and one date (UTC, of the event) and is named after the ids of its first and last;
files are written in the order of ids. So the last archived id is the largest in the names, whatever was interrupted;
`_last.json` beside them says it too, for when files were moved away. `_gaps.jsonl` lists what never got here.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from hub.errors import ConfigError
from hub.keys import Channel
from hub.position import Position, format_position, parse_position

__all__ = ["ChannelFiles", "FileName", "Gap", "lock", "parse_name", "replace_file", "write_table"]

_NAME: Final = re.compile(r"(\d+-\d+)_(\d+-\d+)\.parquet")
#: Rows that are read back together.
ROW_GROUP: Final = 131_072
OPTIONS: Final[dict[str, Any]] = {"compression": "zstd", "compression_level": 3}


class FileName(Struct, frozen=True, order=True):
    """Ids of the first and the last event in a file, both included."""

    first: Position
    last: Position

    def __str__(self) -> str:
        return f"{format_position(self.first)}_{format_position(self.last)}.parquet"


class Gap(Struct, frozen=True):
    """Events between two ids that were gone before they were archived; `lost` None: nobody knows how many, or if any.

    With `before` None: the event `after` itself could not be read.
    """

    after: str
    before: str | None
    lost: int | None


def parse_name(path: Path) -> FileName | None:
    """Return the ids in a file's name, None where it is none of ours."""
    match = _NAME.fullmatch(path.name)
    return FileName(parse_position(match[1]), parse_position(match[2])) if match else None


class ChannelFiles:
    """The files of one channel below `root`."""

    def __init__(self, root: Path, channel: Channel) -> None:
        names = (("kind", channel.kind), ("venue", channel.venue), ("symbol", channel.symbol))
        self.folder = root.joinpath(*(f"{name}={quote(value, safe='~')}" for name, value in names))
        self._known_gaps: set[str] | None = None

    def files(self) -> Iterator[FileName]:
        for path in self.folder.glob("date=*/*.parquet"):
            name = parse_name(path)
            if name is not None:
                yield name

    def last(self) -> Position | None:
        """Return the id of the last archived event, None where there is none."""
        found = [name.last for name in self.files()]
        try:
            found.append(parse_position(json.loads((self.folder / "_last.json").read_bytes())["id"]))
        except (OSError, ValueError, KeyError, TypeError):
            pass  # a state that is missing or torn: the names say the same
        return max(found, default=None)

    def write(self, table: pa.Table, date: str, name: FileName) -> Path:
        """Write a file whole or not at all; returns its folder."""
        folder = self.folder / f"date={date}"
        folder.mkdir(parents=True, exist_ok=True)
        write_table([table], table.schema, folder / str(name), {})
        return folder

    def note(self, last: Position, gaps: Iterable[Gap]) -> None:
        """Note gaps, each once, and how far the files reach; to be called when they are written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._note_gaps(list(gaps))
        replace_file(self.folder / "_last.json", json.dumps({"id": format_position(last)}).encode())

    def _note_gaps(self, gaps: list[Gap]) -> None:
        if not gaps:
            return
        path = self.folder / "_gaps.jsonl"
        if self._known_gaps is None:
            lines = path.read_text().splitlines() if path.exists() else []
            self._known_gaps = {match[1] for line in lines if (match := re.match(r'\{"after": "([\d-]+)"', line))}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with path.open("a") as file:
            for gap in gaps:
                if gap.after not in self._known_gaps:
                    self._known_gaps.add(gap.after)
                    line = {"after": gap.after, "before": gap.before, "lost": gap.lost, "noted": now}
                    file.write(json.dumps(line) + "\n")


def write_table(tables: Iterable[pa.Table], schema: pa.Schema, path: Path, notes: dict[str, str]) -> None:
    """Write a Parquet file whole or not at all, each table a row group; `notes` go into its metadata."""
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        with pq.ParquetWriter(unfinished, schema.with_metadata(notes), **OPTIONS) as writer:
            for table in tables:
                writer.write_table(table.replace_schema_metadata(notes), row_group_size=ROW_GROUP)
    except BaseException:  # also of `tables`, which may just end early
        unfinished.unlink(missing_ok=True)
        raise
    _install(unfinished, path)


def replace_file(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all; not synced, for the names of the others say the same."""
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def _install(unfinished: Path, path: Path) -> None:
    _sync(unfinished)
    unfinished.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock(root: Path) -> int:
    """Take the archive for this process; returns the open lock. ConfigError where another one has it, or it cannot be
    written to."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"archive.dir = {str(root)!r} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise ConfigError(f"archive.dir = {str(root)!r} is in use by another archive process") from None
    return handle
