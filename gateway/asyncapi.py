"""The AsyncAPI 3 document of the WebSocket, made of the same Structs that read and write its messages.

It describes the gateway: it receives what clients send and sends the rest. JSON is described; with the subprotocol
`msgpack` or `?format=msgpack` the same objects stand in binary frames.
"""

from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from typing import Any, Final

import msgspec
from litestar import MediaType, Response, get
from msgspec import Struct

from gateway import protocol
from gateway.protocol import Op, Subscribe
from gateway.ws import DEFAULT_KINDS, FORMATS
from hub import model
from hub.keys import MAX_CHANNEL_CHARS
from hub.model import CANDLE_TYPES, EVENT_KINDS, FORMING_TYPES, Candle, Message

__all__ = ["asyncapi", "document"]

SCHEMAS: Final = "#/components/schemas/"
MESSAGES: Final = "#/components/messages/"

#: What answers a client's message, by its op. Everything else comes unasked, or follows from a subscription.
REPLIES: Final = {"subscribe": ["ack"], "unsubscribe": ["ack"], "ping": ["pong"], "auth": ["auth"]}

#: The same message as JSON and, on connections that asked for it, as msgpack: suffix of its name -> content type.
FORMS: Final = {"": "application/json", ".msgpack": "application/msgpack"}
FORMAT: Final = {
    "type": "string", "enum": list(FORMATS), "default": FORMATS[0],
    "description": "msgpack: every message as msgpack in a binary frame (application/msgpack).",
}  # fmt: skip

DESCRIPTION: Final = """\
Market data by subscription. A subscribe is answered per channel with `ack`, then the newest message (with `after`: the
events behind that id), then the stream, without hole or repeat. A channel is `kind:venue:symbol`; `*` stands for every
venue, or for every symbol. A `status` comes unasked to subscribers of what it is about. With `since` stored events
come first, then `live`, then the stream.

Every message is JSON in a text frame (application/json). A client that offers the subprotocol `msgpack`, or connects
with `?format=msgpack`, gets each as msgpack in a binary frame (application/msgpack), the same fields in the same order,
and may send either.

Where the gateway asks who its clients are, a token (JWT) comes in the header `Authorization: Bearer`, behind the
subprotocol `bearer`, or as the first message, `auth`; never in the URL.

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


def _forms(names: Iterable[str]) -> list[str]:
    """Return the names of messages in each form they have."""
    return [name + suffix for name in names for suffix in FORMS]


def _message(name: str, struct: type[Struct], content_type: str) -> dict[str, Any]:
    text = _text(struct)
    kind = _tag(struct)
    described: dict[str, Any] = {
        "name": kind,
        "title": kind,
        "summary": text.partition(". ")[0],
        "contentType": content_type,
        "payload": {"$ref": SCHEMAS + name},
    }
    if issubclass(struct, Message):
        described["tags"] = [{"name": "event" if kind in EVENT_KINDS else "state"}]
    return described


def _channel(names: dict[str, type[Struct]], **fields: Any) -> dict[str, Any]:
    return {**fields, "messages": {name: {"$ref": MESSAGES + name} for name in _forms(names)}}


def _operations(messages: dict[str, type[Struct]], channel: str) -> dict[str, Any]:
    """Return one operation per message of a client, and one for everything that the gateway sends."""
    where = {"$ref": f"#/channels/{channel}"}

    def refer(names: list[str]) -> list[dict[str, str]]:
        return [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in _forms(names)]

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
    """Return the path parameters and the query of the channel that subscribes by its URL. The query says what a
    subscribe message would."""
    path = {"symbol": {"description": "Canonical symbol.", "examples": ["BTC-USDT"]}}
    words = {"type": "string", "maxLength": MAX_CHANNEL_CHARS}
    query = {
        "type": "object",
        "properties": {
            "kinds": {**words, "default": DEFAULT_KINDS, "description": "Kinds with commas between."},
            "venues": {**words, "default": "*", "description": "Venues with commas between; * for all."},
            **_as_in_subscribe(),
            "format": FORMAT,
        },
    }
    return path, query


def _as_in_subscribe() -> dict[str, Any]:
    known = msgspec.json.schema(Subscribe)["$defs"]["Subscribe"]["properties"]
    texts = {
        "max_rate": "Messages per second and channel at most, for kinds of which the newest is enough.",
        "since": "Begin in the past, for kinds that have a log: ISO 8601, a number since 1970, or an id.",
        "speed": "How many times faster than it happened; max: as fast as it is read. Needs since.",
    }
    found = {}
    for name, text in texts.items():
        forms = [form for form in known[name]["anyOf"] if form.get("type") != "null"]
        found[name] = {**(forms[0] if len(forms) == 1 else {"anyOf": forms}), "description": text}
    return found


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
                "security": [{"$ref": "#/components/securitySchemes/bearer"}],
            }
        },
        "channels": {
            "stream": _channel(
                messages,
                address="/v1/ws",
                summary="Subscribe by messages.",
                bindings={"ws": {"method": "GET", "query": {"type": "object", "properties": {"format": FORMAT}}}},
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
            "messages": {
                name + suffix: _message(name, struct, content_type)
                for name, struct in messages.items()
                for suffix, content_type in FORMS.items()
            },
            "schemas": _schemas(messages),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "Only where the gateway asks who its clients are (docs/tokens.md).",
                }
            },
        },
    }


@get("/asyncapi.json", include_in_schema=False)
async def asyncapi() -> Response[bytes]:
    """Serve the document."""
    return Response(msgspec.json.format(msgspec.json.encode(document())), media_type=MediaType.JSON)
