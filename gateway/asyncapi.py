"""The AsyncAPI 3 document of the WebSocket, made of the same Structs that read and write its messages.

It describes the gateway: it receives what clients send and sends the rest. JSON is described; in msgpack the same
objects stand.
"""

from functools import cache
from importlib.metadata import version
from typing import Any, Final

import msgspec
from litestar import MediaType, Response, get
from msgspec import Struct

from gateway import protocol
from gateway.protocol import Op
from gateway.ws import DEFAULT_KINDS
from hub import model
from hub.keys import MAX_CHANNEL_CHARS
from hub.model import CANDLE_TYPES, EVENT_KINDS, FORMING_TYPES, Candle, Message

__all__ = ["asyncapi", "document"]

SCHEMAS: Final = "#/components/schemas/"
MESSAGES: Final = "#/components/messages/"

#: What answers a client's message, by its op. Everything else comes unasked, or follows from a subscription.
REPLIES: Final = {"subscribe": ["ack"], "unsubscribe": ["ack"], "ping": ["pong"], "auth": ["auth"]}

DESCRIPTION: Final = """\
Market data by subscription. A subscribe is answered per channel with `ack`, then the newest message (with `after`: the
events behind that id), then the stream, without hole or repeat. A channel is `kind:venue:symbol`; `*` stands for every
venue, or for every symbol. A `status` comes unasked to subscribers of what it is about.

Close codes: 1012 the gateway restarts (the reason ends in `reconnect_ms=<when to come back>`), 1011 nothing was heard
from the client, 1013 try again later, 4008 too slow (resume with `after`), 4401 the token is missing, wrong or has
expired, 4429 too many messages, 1009 a message is too big, 1002 and 1007 frames that are none."""


def _tag(struct: type[Struct]) -> str:
    return str(struct.__struct_config__.tag)


def _name(struct: type[Struct]) -> str:
    """Return the component name of a message: unique, although candles of all intervals are one class by name."""
    tag = _tag(struct)
    return f"client.{tag}" if issubclass(struct, Op) else tag


def _in(module: Any, base: type[Struct], field: str) -> list[type[Struct]]:
    """Return the tagged Structs of a module, in the order of their definition, without what they are derived from."""
    found = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, base)]
    return [s for s in found if s.__struct_config__.tag_field == field and not s.__subclasses__()]


def _messages() -> dict[str, type[Struct]]:
    market = [*_in(model, Message, "type"), *CANDLE_TYPES.values(), *FORMING_TYPES.values()]
    structs = [*_in(protocol, Op, "op"), *_in(protocol, Struct, "type"), *market]
    return {_name(struct): struct for struct in structs}


def _plain(schema: Any) -> Any:
    """Return a JSON Schema as draft 7 says it, which is what AsyncAPI understands: tuples are a list of `items`."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _plain(value) for key, value in schema.items() if key != "prefixItems"}
    if "prefixItems" in schema:
        plain["items"] = _plain(schema["prefixItems"])
    return plain


def _schemas(structs: dict[str, type[Struct]]) -> dict[str, Any]:
    found = {}
    for name, struct in structs.items():
        # One at a time: classes of one name would be told apart by their module alone, and that is one as well.
        (reference,), components = msgspec.json.schema_components([struct], ref_template=SCHEMAS + "{name}")
        own = reference["$ref"].removeprefix(SCHEMAS)
        schema = components.pop(own)
        schema["title"] = name
        schema["description"] = _text(struct)
        found[name] = _plain(schema)
        found.update({key: _plain(value) for key, value in components.items()})
    return found


def _text(struct: type[Struct]) -> str:
    documented = Candle if issubclass(struct, Candle) else struct
    return " ".join((documented.__doc__ or "").split())


def _message(name: str, struct: type[Struct]) -> dict[str, Any]:
    text = _text(struct)
    kind = _tag(struct)
    described: dict[str, Any] = {
        "name": kind,
        "title": kind,
        "summary": text.partition(". ")[0],
        "contentType": "application/json",
        "payload": {"$ref": SCHEMAS + name},
    }
    if issubclass(struct, Message):
        described["tags"] = [{"name": "event" if kind in EVENT_KINDS else "state"}]
    return described


def _channel(names: dict[str, type[Struct]], **fields: Any) -> dict[str, Any]:
    return {**fields, "messages": {name: {"$ref": MESSAGES + name} for name in names}}


def _operations(messages: dict[str, type[Struct]], channel: str) -> dict[str, Any]:
    """Return one operation per message of a client, and one for everything that the gateway sends."""
    where = {"$ref": f"#/channels/{channel}"}

    def refer(names: list[str]) -> list[dict[str, str]]:
        return [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names]

    found: dict[str, Any] = {}
    for name, struct in messages.items():
        if issubclass(struct, Op):
            replies = [reply for reply in (*REPLIES.get(_tag(struct), ()), "error") if reply in messages]
            found[f"{channel}.{_tag(struct)}"] = {
                "action": "receive",
                "channel": where,
                "summary": _text(struct).partition(". ")[0],
                "messages": refer([name]),
                "reply": {"channel": where, "messages": refer(replies)},
            }
    sent = [name for name, struct in messages.items() if not issubclass(struct, Op)]
    found[f"{channel}.send"] = {"action": "send", "channel": where, "messages": refer(sent)}
    return found


def _parameters() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the path parameters and the query of the channel that subscribes by its URL."""
    path = {"symbol": {"description": "Canonical symbol.", "examples": ["BTC-USDT"]}}
    words = {"type": "string", "maxLength": MAX_CHANNEL_CHARS}
    query = {
        "type": "object",
        "properties": {
            "kinds": {**words, "default": DEFAULT_KINDS, "description": "Kinds with commas between."},
            "venues": {**words, "default": "*", "description": "Venues with commas between; * for all."},
        },
    }
    return path, query


@cache
def document() -> dict[str, Any]:
    """Return the document as builtins."""
    messages = _messages()
    path, query = _parameters()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tickwire",
            "version": version("tickwire"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "gateway": {
                "host": "{address}",
                "protocol": "ws",
                "variables": {"address": {"default": "127.0.0.1:8000", "description": "gateway.host:gateway.port"}},
            }
        },
        "channels": {
            "stream": _channel(
                messages, address="/v1/ws", summary="Subscribe by messages.", bindings={"ws": {"method": "GET"}}
            ),
            "symbol": _channel(
                messages,
                address="/v1/ws/{symbol}",
                summary="One symbol, subscribed by the URL; messages add to that.",
                parameters=path,
                bindings={"ws": {"method": "GET", "query": query}},
            ),
        },
        "operations": {**_operations(messages, "stream"), **_operations(messages, "symbol")},
        "components": {
            "messages": {name: _message(name, struct) for name, struct in messages.items()},
            "schemas": _schemas(messages),
        },
    }


@get("/asyncapi.json", include_in_schema=False)
async def asyncapi() -> Response[bytes]:
    """Serve the document."""
    return Response(msgspec.json.format(msgspec.json.encode(document())), media_type=MediaType.JSON)
