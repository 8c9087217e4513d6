"""The AsyncAPI document: valid, complete, and true of what goes over the socket."""

import gzip
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from gateway.asyncapi import document
from gateway.protocol import OPS
from gateway.ws import PARAMETERS
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
    ops = {f"client.{op}" for op in OPS}
    assert ops | {f"{op}.msgpack" for op in ops} == {name for name in names if name.startswith("client.")}
    assert names >= {"ack", "error", "auth", "pong", "gap", "live", "lagging", "closing"}
    packed = {name for name in names if name.endswith(".msgpack")}
    assert {f"{name}.msgpack" for name in names - packed} == packed, "each message has both forms"
    assert document()["components"]["messages"]["trade.msgpack"]["contentType"] == "application/msgpack"
    operations = document()["operations"]
    assert {f"stream.{op}" for op in OPS} < set(operations)
    assert all(operations[f"stream.{op}"]["reply"]["messages"][:-1] for op in OPS), "each op has an answer of its own"


def test_what_a_url_may_say_is_in_it() -> None:
    channels = document()["channels"]
    query = {name: channels[name]["bindings"]["ws"]["query"]["properties"] for name in ("stream", "symbol")}
    assert set(query["symbol"]) == set(PARAMETERS)
    assert query["stream"] == {"format": query["symbol"]["format"]}
    rate = jsonschema_rs.Draft7Validator(query["symbol"]["max_rate"])
    assert [rate.is_valid(value) for value in (4, 0.01, 0, "x")] == [True, True, False, False]
    assert query["symbol"]["format"]["enum"] == ["json", "msgpack"]


def payload_validator(name: str) -> jsonschema_rs.Draft7Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": document()["components"]}
    return jsonschema_rs.Draft7Validator(schema)


async def test_what_goes_over_the_socket_is_as_described(feed: Feed, gateway: Gateway) -> None:
    requests: list[dict[str, Any]] = [
        {"op": "subscribe", "channels": ["trade:binance:BTC-USDT", "quote:*:*", "x"], "id": 7},
        {"op": "subscribe", "channels": ["book:binance:BTC-USDT"], "after": "1-1"},
        {"op": "subscribe", "channels": ["candle.1m:binance:BTC-USDT"], "since": "2026-01-31", "speed": "max"},
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
    assert {m["type"] for m in found} >= {"ack", "error", "pong", "trade", "quote", "book", "gap", "live", "status"}
    for message in found:
        assert [str(error) for error in payload_validator(message["type"]).iter_errors(message)] == []
    assert not payload_validator("trade").is_valid(found[0])


async def test_it_is_served(gateway: Gateway) -> None:
    code, body = await gateway.get("/asyncapi.json")
    assert (code, body) == (200, json.loads(json.dumps(document())))
