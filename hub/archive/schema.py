"""Messages as Arrow tables; the columns follow from the Structs in hub/model.py.

Venue, symbol and kind are not among them: they are in the path. Times are timestamp[ns, UTC], ints int64, levels
list<struct<price, size>>, objects JSON text; order is that of the ids.
"""

import types
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin

import msgspec
import pyarrow as pa
from msgspec import UNSET, UnsetType

from hub.model import EVENT_KINDS, Level, Message

__all__ = ["TYPES", "schema_of", "table_of"]


def _classes(root: type[Message]) -> Iterator[tuple[str, type[Message]]]:
    for each in root.__subclasses__():
        yield str(each.__struct_config__.tag), each
        yield from _classes(each)


#: kind -> Struct, of all kinds that have a log
TYPES: Final = {kind: each for kind, each in _classes(Message) if kind in EVENT_KINDS}
_IN_PATH: Final = {"venue", "symbol"}
_TIMES: Final = {"ts_event", "ts_recv", "ts_pub", "start", "since"}
_LEVELS: Final = pa.list_(pa.struct([("price", pa.float64()), ("size", pa.float64())]))
_PLAIN: Final[dict[Any, pa.DataType]] = {
    int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_(), list[Level]: _LEVELS,
    list[str]: pa.list_(pa.string()),
}  # fmt: skip


@cache
def schema_of(kind: str) -> pa.Schema:
    """Return the columns of one kind's files; KeyError for a kind without a log."""
    fields = [field for field in msgspec.structs.fields(TYPES[kind]) if field.name not in _IN_PATH]
    return pa.schema([_column(field.name, field.type) for field in fields])


def _column(name: str, kind: Any) -> pa.Field:
    options = {each for each in _options(kind) if each not in (type(None), UnsetType)}
    if len(options) != 1:
        raise TypeError(f"column {name}: no one type in {kind}")
    (only,) = options
    if get_origin(only) is dict:
        return pa.field(name, pa.string())
    return pa.field(name, pa.timestamp("ns", "UTC") if only is int and name in _TIMES else _PLAIN[only])


def _options(kind: Any) -> set[Any]:
    origin = get_origin(kind)
    if origin is Annotated:
        return _options(get_args(kind)[0])
    if origin in (Union, types.UnionType):
        return set().union(*map(_options, get_args(kind)))
    if origin is Literal:
        return {type(value) for value in get_args(kind)}
    return {kind}


def table_of(kind: str, messages: Sequence[Message]) -> pa.Table:
    """Return the table of messages of one channel."""
    schema = schema_of(kind)
    columns = [pa.array([_value(getattr(each, field.name)) for each in messages], field.type) for field in schema]
    return cast(pa.Table, pa.table(columns, schema=schema))


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    return None if value is UNSET else value
