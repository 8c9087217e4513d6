"""Every example in the documents has the shape of what a running hub says at this moment."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosed

from tests.docs.documents import DOCS, Example, examples, first_cells, nullable, pages, section
from tests.docs.judge import compare, current
from tests.docs.live import Hub, running_hub
from tests.docs.shapes import OPEN
from tests.gateway.kit import Feed, gateway_on, trade
from tests.gateway.test_slow import TRADE, publish_until, stalled

NULLABLE = nullable([page.read_text() for page in pages()])
ALL = [each for page in pages() for each in examples(page.read_text(), page.name)]


def mutations(example: Example) -> list[Example]:
    """Return the example with something wrong: each field of its objects left out, a field that does not exist."""
    if example.lang == "csv":
        return [changed(example, example.text.replace(",", ",no_such,", 1))]
    if example.lang == "text" and example.what.startswith("GET"):
        return [changed(example, example.text.replace("{", "_no{", 1))]
    if example.lang == "json":
        return [changed(example, text) for text in broken(example.text)]
    lines = example.text.splitlines()
    found = []
    for number, line in enumerate(lines):
        if line.startswith("< {"):
            found += [
                changed(example, "\n".join([*lines[:number], f"< {text}", *lines[number + 1 :]]) + "\n")
                for text in broken(line[2:])
            ]
    return found


def changed(example: Example, text: str) -> Example:
    assert text != example.text
    return Example(example.page, example.what, example.lang, text)


Places = set[tuple[str, ...]]


def places(value: Any, key: str = "", at: tuple[str, ...] = ()) -> Places:
    """Return the paths of all fields; items of lists and of maps with names for keys share one."""
    if isinstance(value, list):
        return set().union(*(places(item, f"{key}[]", (*at, "")) for item in value))
    if not isinstance(value, dict):
        return set()
    if key in OPEN:
        return set().union(*(places(item, "", (*at, "")) for item in value.values()))
    below = (places(item, name, (*at, name)) for name, item in value.items())
    return {(*at, name) for name in value}.union(*below)


def without(value: Any, place: tuple[str, ...]) -> Any:
    """Return `value` without the field at `place`, wherever that is."""
    if not place:
        return value
    first, *rest = place
    if isinstance(value, list):
        return [without(item, tuple(rest)) for item in value]
    if isinstance(value, dict) and not first:
        return {name: without(item, tuple(rest)) for name, item in value.items()}
    if not isinstance(value, dict):
        return value
    kept = {name: item for name, item in value.items() if name != first or rest}
    return {name: without(item, tuple(rest)) if name == first else item for name, item in kept.items()}


def broken(text: str) -> list[str]:
    """Return the JSON with each of its fields left out, with one too many, in another order, with other types."""
    whole: dict[str, Any] = json.loads(text)
    found = [without(whole, place) for place in sorted(places(whole))]
    found.append({**whole, "no_such": 1})
    if len(whole) > 1:
        found.append(dict(reversed(whole.items())))
    other: dict[str, Any] = {
        name: [] if isinstance(value, dict) else {} for name, value in whole.items() if value is not None
    }
    found += [{**whole, name: value} for name, value in other.items()]
    return [json.dumps(each, ensure_ascii=False) for each in found]


def test_there_are_examples_and_no_others() -> None:
    """Messages, dialogues and answers are all declared, so that none stands there unchecked."""
    assert len(ALL) > 40
    for page in pages():
        text = page.read_text()
        declared = [each for each in examples(text, page.name) if each.lang in {"json", "text", "csv"}]
        assert len(re.findall(r"^```(?:json|text|csv)$", text, re.MULTILINE)) == len(declared), page.name
        assert text.count("<!-- example:") == len(declared), page.name


@pytest.mark.parametrize("example", ALL, ids=lambda each: each.what)
def test_an_example_is_like_itself_and_unlike_what_is_changed(example: Example) -> None:
    assert mutations(example)
    assert compare(example, example.text, NULLABLE) == []
    for wrong in mutations(example):
        assert compare(wrong, example.text, NULLABLE), f"not noticed: {wrong.text}"


@pytest.mark.timeout(300)
async def test_examples_are_what_the_hub_says(tmp_path: Path) -> None:
    """One hub for all of them. Each is also changed in every field, which has to be noticed."""
    problems: list[str] = []
    # The gateway with tokens ends in the last one.
    asked = sorted((each for each in ALL if each.what != "slow"), key=lambda each: "< close 1012" in each.text)
    async with running_hub(tmp_path) as hub:
        await metrics_are_documented(hub)
        await routes_are_documented(hub)
        for example in asked:
            text = await current(example, hub, NULLABLE)
            problems += [f"{example.page}: {example.what}: {line}" for line in compare(example, text, NULLABLE)]
            for wrong in mutations(example):
                assert compare(wrong, text, NULLABLE), f"not noticed: {wrong.text}"
    assert problems == []


async def metrics_are_documented(hub: Hub) -> None:
    """The names in the tables are those that the processes serve, no more and no fewer."""
    there: set[str] = set()
    for url in hub.metrics:
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            there |= set(re.findall(r"^# TYPE (tickwire_\w+)", await answer.text(), re.MULTILINE))
    assert len(there) > 50
    told = {name for name in first_cells((DOCS / "operations.md").read_text()) if name.startswith("tickwire_")}
    assert told ^ there == set()


async def routes_are_documented(hub: Hub) -> None:
    """Every resource has a section that names its parameters and an example."""
    document = json.loads(await hub.text("/schema/openapi.json"))
    text = (DOCS / "rest.md").read_text()
    shared = set(first_cells(section(text, "Parameters of several resources")))
    asked = [each.what.partition("?")[0].removeprefix("GET ").partition(" ")[0] for each in ALL]
    paths = {path: item["get"] for path, item in document["paths"].items() if not path.startswith("/schema")}
    assert len(paths) > 12
    for path, operation in paths.items():
        under = section(text, path)
        assert under, f"rest.md has no section {path}"
        pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", path))
        assert any(pattern.fullmatch(each) for each in asked), f"rest.md has no example of {path}"
        wanted = {each["name"] for each in operation.get("parameters", []) if each["in"] == "query"}
        (listed,) = re.findall(r"Parameters: (.*?)\.", under, re.DOTALL) or [""]
        told = set(first_cells(under)) | (set(re.findall(r"`(\w+)`", listed)) & (shared | {"kind"}))
        assert wanted - told == set(), path
    for path in ("/schema", "/schema/openapi.json", "/schema/openapi.yaml", "/asyncapi.json", "/metrics"):
        assert f"`{path}`" in text
        assert not (await hub.text(path)).startswith('{"type":"about:blank"'), path


async def test_what_a_slow_reader_is_told(redis_url: str) -> None:
    (example,) = (each for each in ALL if each.what == "slow")
    async with Feed(redis_url) as feed, gateway_on(redis_url, queue_bytes=200_000) as gateway:
        slow = await stalled(gateway, TRADE)
        clients = gateway.runtime.clients
        await publish_until(feed, gateway, lambda: clients.slow_closed, make=lambda n: trade(n + 1))
        slow.transport.resume_reading()
        lines: list[str] = []
        try:
            while True:
                lines.append(f"< {await asyncio.wait_for(slow.recv(), 30)}")
        except ConnectionClosed as error:
            assert error.rcvd is not None
            lines.append(f'< close {error.rcvd.code} "{error.rcvd.reason}"')

    text = "\n".join(lines[-3:])
    assert compare(example, text, NULLABLE) == []
    for wrong in mutations(example):
        assert compare(wrong, text, NULLABLE), f"not noticed: {wrong.text}"
