"""The AsyncAPI document: valid, complete, and true of what goes over the socket."""

import gzip
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from gateway.asyncapi import document
from gateway.protocol import OPS
from hub.model import KINDS
from tests.gateway.kit import Feed, Gateway, book, messages, quote, status, subscribe, trade

SCHEMA = Path(__file__).resolve().parents[1] / "data" / "asyncapi" / "asyncapi-3.0.0.json.gz"


@pytest.fixture(scope="module")
def validator() -> jsonschema_rs.Draft7Validator:
    return jsonschema_rs.Draft7Validator(json.loads(gzip.decompress(SCHEMA.read_bytes())))


def test_the_document_is_asyncapi_3(validator: jsonschema_rs.Draft7Validator) -> None:
    assert [str(error) for error in validator.iter_errors(document())] == []
    broken = json.loads(json.dumps(document()))
    broken["channels"]["stream"]["address"] = 5
    assert not validator.is_valid(broken)


def test_every_reference_leads_somewhere() -> None:
    whole = document()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                found: Any = whole
                for part in node["$ref"].removeprefix("#/").split("/"):
                    found = found[part]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(whole)


def test_everything_that_is_said_is_in_it() -> None:
    names = set(document()["components"]["messages"])
    assert names >= KINDS
    assert {f"client.{op}" for op in OPS} == {name for name in names if name.startswith("client.")}
    assert names >= {"ack", "error", "auth", "pong", "gap", "lagging", "closing"}
    operations = document()["operations"]
    assert {f"stream.{op}" for op in OPS} < set(operations)
    assert all(operations[f"stream.{op}"]["reply"]["messages"][:-1] for op in OPS), "each op has an answer of its own"


def payload_validator(name: str) -> jsonschema_rs.Draft7Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": document()["components"]}
    return jsonschema_rs.Draft7Validator(schema)


async def test_what_goes_over_the_socket_is_as_described(feed: Feed, gateway: Gateway) -> None:
    requests: list[dict[str, Any]] = [
        {"op": "subscribe", "channels": ["trade:binance:BTC-USDT", "quote:*:*", "x"], "id": 7},
        {"op": "subscribe", "channels": ["book:binance:BTC-USDT"], "after": "1-1"},
        {"op": "unsubscribe", "channels": ["quote:*:*"], "id": "a"},
        {"op": "ping"},
    ]
    await feed.publish(trade(1), quote(), book([(1.0, 1.0)], [(2.0, 1.0)], "snapshot"), status("live"))
    found: list[dict[str, Any]] = []
    async with gateway.connect() as socket:
        for request in requests:
            assert payload_validator(f"client.{request['op']}").is_valid(request)
            await socket.send(json.dumps(request))
            found += await messages(socket)
        await feed.publish(status("stale", "BTC-USDT"))
        found += await messages(socket)
        await subscribe(socket, "nonsense")
        found += await messages(socket)
    assert {m["type"] for m in found} >= {"ack", "error", "pong", "trade", "quote", "book", "gap", "status"}
    for message in found:
        assert [str(error) for error in payload_validator(message["type"]).iter_errors(message)] == []
    assert not payload_validator("trade").is_valid(found[0])


async def test_it_is_served(gateway: Gateway) -> None:
    code, body = await gateway.get("/asyncapi.json")
    assert (code, body) == (200, json.loads(json.dumps(document())))
