"""Many small files of one date become few. Pure file work; run in a thread.

The merged file is in place before the ones it was made of go, and names them in its metadata: where that was
interrupted, `clean` finishes it, or takes away what was half written. Until then an event is there twice; a reader who
must not see that takes each id once.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from hub.archive.files import ROW_GROUP, FileName, parse_name, write_table
from hub.archive.schema import schema_of

__all__ = ["clean", "compact"]

#: A merged file has about so many rows or bytes at most.
ROWS_MAX = 2_000_000
BYTES_MAX = 256 << 20
#: So many files of a date that is not over are left alone.
PATIENCE: Final = 32
#: Bytes of one row group in memory.
GROUP_BYTES = 64 << 20
_SOURCES: Final = b"tickwire.sources"


def clean(folder: Path) -> None:
    """Finish what was interrupted in a date's folder: files half written, and sources of files that are merged."""
    for path in folder.glob(".*.tmp"):
        path.unlink()
    files = _files(folder)
    for name, path in files:
        if any(name.first <= other.first and other.last <= name.last for other, each in files if each != path):
            notes = pq.read_metadata(path).metadata or {}
            _remove([folder / source for source in json.loads(notes.get(_SOURCES, b"[]"))], path)


class _Ended(Exception):
    pass


def compact(folder: Path, kind: str, *, over: bool, ending: threading.Event | None = None) -> int:
    """Merge the files of a date's folder; returns how many went. `over`: the date has passed, nothing more comes.

    Once `ending` is set it stops within one batch of rows, all files as they were or merged.
    """
    gone = 0
    ending = ending or threading.Event()
    for group in _groups(_files(folder)):
        if len(group) < (2 if over else PATIENCE):
            continue
        sources = [path for _, path in group]
        target = folder / str(FileName(min(name.first for name, _ in group), max(name.last for name, _ in group)))
        names = [path.name for path in sources if path != target]
        try:
            write_table(_merged(group, kind, ending), schema_of(kind), target, {_SOURCES.decode(): json.dumps(names)})
        except _Ended:
            return gone
        _remove(sources, target)
        gone += len(names)
    return gone


def _files(folder: Path) -> list[tuple[FileName, Path]]:
    return sorted((name, path) for path in folder.glob("*.parquet") if (name := parse_name(path)) is not None)


def _remove(sources: Sequence[Path], target: Path) -> None:
    for source in sources:
        if source != target:
            source.unlink(missing_ok=True)


def _groups(files: list[tuple[FileName, Path]]) -> Iterator[list[tuple[FileName, Path]]]:
    """Yield neighbours that fit into one file; a file that is full already stands alone."""
    group: list[tuple[FileName, Path]] = []
    rows = size = 0
    for name, path in files:
        more, bytes_more = pq.read_metadata(path).num_rows, path.stat().st_size
        if group and (rows + more > ROWS_MAX or size + bytes_more > BYTES_MAX):
            yield group
            group, rows, size = [], 0, 0
        group.append((name, path))
        rows, size = rows + more, size + bytes_more
    if group:
        yield group


def _merged(group: list[tuple[FileName, Path]], kind: str, ending: threading.Event) -> Iterator[pa.Table]:
    """Yield row groups of all files, each id once; raises _Ended."""
    overlapping = any(a.last >= b.first for (a, _), (b, _) in pairwise(group))
    seen: set[str] | None = set() if overlapping else None
    parts: list[pa.Table] = []
    for _, path in group:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=16_384):
            if ending.is_set():
                raise _Ended
            parts.append(_fitted(pa.table(batch), kind, seen))
            if sum(part.num_rows for part in parts) >= ROW_GROUP or sum(part.nbytes for part in parts) >= GROUP_BYTES:
                yield pa.concat_tables(parts)
                parts = []
    if parts:
        yield pa.concat_tables(parts)


def _fitted(table: pa.Table, kind: str, seen: set[str] | None) -> pa.Table:
    """Return `table` with today's columns, those that it lacks null, without rows that were `seen`."""
    if seen is not None:
        ids = table.column("id").to_pylist()
        fresh = [each not in seen for each in ids]
        seen.update(ids)
        table = table.filter(pa.array(fresh))
    columns = [
        table.column(field.name).cast(field.type) if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema_of(kind)
    ]  # fmt: skip
    return pa.table(columns, schema=schema_of(kind))
