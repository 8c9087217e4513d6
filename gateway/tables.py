"""Rows as JSON, CSV or an Arrow stream, whichever the client accepts, made and sent page by page.

What fits into HEAD_BYTES is one answer. Beyond that the rest is made while it is sent, as fast as the client reads, and
of all such answers of this process one page at a time: the fan-out runs on the same event loop.
"""

import asyncio
import csv
import importlib
import io
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.response import Stream
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct

from gateway.runtime import runtime_of
from hub.errors import RedisUnavailable

__all__ = ["ARROW", "CSV", "FORMATS", "JSON", "Column", "Table", "TableOperation", "answer", "format_of"]

logger = logging.getLogger(__name__)

JSON: Final = "application/json"
CSV: Final = "text/csv"
ARROW: Final = "application/vnd.apache.arrow.stream"
FORMATS: Final = (JSON, CSV, ARROW)

HEAD_BYTES = 65_536

Row: TypeAlias = Sequence[Any]
_encode = msgspec.json.Encoder().encode


class _Rows(Stream):
    """A streamed answer that is cut off, not completed, where Redis goes away meanwhile."""

    def to_asgi_response(self, *args: Any, **kwargs: Any) -> ASGIResponse:
        return cast(ASGIResponse, partial(_cut_off, super().to_asgi_response(*args, **kwargs)))


async def _cut_off(answer: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await answer(scope, receive, send)
    except* RedisUnavailable as group:
        # It ends without a last chunk: the server closes the connection, and the client knows that rows are missing.
        logger.warning("answer cut off path=%s reason=%s", scope["path"], group.exceptions[0])


class Column(Struct, frozen=True):
    """`ns` and `ms` are unix times: integers in CSV, timestamps in Arrow."""

    name: str
    kind: Literal["ns", "ms", "int", "float", "text"]


class Table(Struct):
    """Rows of one venue. `pages` gives them; JSON puts them into `field`, between what `head` says when the first row
    is there or none is (told which) and what `tail` says at the end. CSV and Arrow begin each row with the venue."""

    venue: str
    field: str
    pages: AsyncIterator[list[Any]]
    head: Callable[[bool], dict[str, Any]]
    tail: Callable[[], dict[str, Any]]


@dataclass
class TableOperation(Operation):
    """OpenAPI: a JSON answer that comes as CSV and Arrow as well."""

    def __post_init__(self) -> None:
        found = (self.responses or {}).get("200")
        if isinstance(found, OpenAPIResponse) and found.content is not None:
            found.content[CSV] = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))
            found.content[ARROW] = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING, content_media_type=ARROW))


def format_of(request: Request[Any, Any, Any]) -> str:
    """Return the format the client wants; HTTPException 406 where it accepts none of them."""
    found = request.accept.best_match(list(FORMATS)) if "accept" in request.headers else JSON
    if found is None:
        raise HTTPException(f"rows come as {', '.join(FORMATS)}", status_code=406)
    return found


async def answer(
    request: Request[Any, Any, Any], head: dict[str, Any], tables: Sequence[Table], columns: Sequence[Column]
) -> Response[Any]:
    """Return the response in the format of the request. `head` is what JSON says of all tables."""
    wanted = format_of(request)
    if wanted == JSON:
        chunks = _json(head, tables)
    elif wanted == CSV:
        chunks = _csv(tables, columns)
    else:
        await asyncio.to_thread(importlib.import_module, "pyarrow")  # takes a while, and most never ask
        chunks = _arrow(tables, columns)
    begun = bytearray()
    async for chunk in chunks:
        begun += chunk
        if len(begun) > HEAD_BYTES:
            return _Rows(_in_turns(bytes(begun), chunks, runtime_of(request.app).turn), media_type=wanted)
    return Response(bytes(begun), media_type=wanted)


async def _in_turns(begun: bytes, chunks: AsyncIterator[bytes], turn: asyncio.Lock) -> AsyncIterator[bytes]:
    yield begun
    while True:
        async with turn:
            chunk = await anext(chunks, None)
        if chunk is None:
            return
        if chunk:
            yield chunk
        await asyncio.sleep(0)


async def _json(head: dict[str, Any], tables: Sequence[Table]) -> AsyncIterator[bytes]:
    yield _encode(head)[:-1] + b',"venues":['
    for number, table in enumerate(tables):
        begun = False
        async for page in table.pages:
            if page:
                rows = _encode(page)[1:-1]
                yield b"," + rows if begun else _begin(number, table, present=True) + rows
                begun = True
            else:
                yield b""  # a turn for others
        yield (b"" if begun else _begin(number, table, present=False)) + b"]," + _encode(table.tail())[1:]
    yield b"]}"


def _begin(number: int, table: Table, *, present: bool) -> bytes:
    return (b"," if number else b"") + _encode(table.head(present))[:-1] + b',"%b":[' % table.field.encode()


async def _csv(tables: Sequence[Table], columns: Sequence[Column]) -> AsyncIterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["venue", *(column.name for column in columns)])
    for table in tables:
        async for page in table.pages:
            writer.writerows((table.venue, *_values(row)) for row in page)
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


async def _arrow(tables: Sequence[Table], columns: Sequence[Column]) -> AsyncIterator[bytes]:
    import pyarrow as pa

    types = {
        "ns": pa.timestamp("ns", "UTC"), "ms": pa.timestamp("ms", "UTC"),
        "int": pa.int64(), "float": pa.float64(), "text": pa.string(),
    }  # fmt: skip
    schema = pa.schema([("venue", pa.string()), *((column.name, types[column.kind]) for column in columns)])
    sink = _Sink()
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), schema) as writer:
        for table in tables:
            async for page in table.pages:
                if page:
                    values = [[table.venue] * len(page), *map(list, zip(*map(_values, page), strict=True))]
                    arrays = [pa.array(column, field.type) for column, field in zip(values, schema, strict=True)]
                    writer.write_batch(pa.record_batch(arrays, schema=schema))
                yield sink.take()
    yield sink.take()


def _values(row: Any) -> Row:
    return cast(Row, msgspec.structs.astuple(row)) if isinstance(row, Struct) else cast(Row, row)


class _Sink(io.RawIOBase):
    """A file that is emptied while it is written."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._size += len(part)
        return len(part)

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)
