"""Examples against a running hub: what each would be now, and where that differs from what is written."""

import asyncio
import json
import re
import time
from typing import Any, Final

from tests.docs.documents import Example
from tests.docs.live import WAIT_S, Hub
from tests.docs.shapes import differences

__all__ = ["compare", "current"]

_DIGITS: Final = re.compile(r"\d+")


async def current(example: Example, hub: Hub, nullable: set[str]) -> str:
    """Return what `example` is at the moment, as soon as it is like what is written or time is up."""
    sort, _, what = example.what.partition(" ")
    if sort == "message":
        return await _message(example, what, hub, nullable)
    if sort == "ws":
        return "\n".join(await hub.play(example.text.splitlines(), tokens=what == "tokens")) + "\n"
    if sort != "GET":
        raise AssertionError(f"{example.page}: there is no sort of example {example.what!r}")
    path, _, accept = what.partition(" as ")
    end = time.monotonic() + WAIT_S
    while True:
        text = await hub.text(path, accept or None)
        if unwritten(example) or not compare(example, text, nullable) or time.monotonic() > end:
            return text
        await asyncio.sleep(0.5)


def unwritten(example: Example) -> bool:
    return example.text.strip() == "{}"


async def _message(example: Example, what: str, hub: Hub, nullable: set[str]) -> str:
    channel, _, word = what.partition(" ")

    def meant(message: dict[str, Any]) -> bool:
        return not word or word in (message.get("action"), message.get("state"))

    def alike(message: dict[str, Any]) -> bool:
        if unwritten(example):
            return meant(message)
        return not compare(example, json.dumps(message), nullable)

    found = await hub.messages(channel, alike)
    wanted = [message for message in found if meant(message)]
    return json.dumps(wanted[-1]) if wanted else ""


def compare(example: Example, text: str, nullable: set[str]) -> list[str]:
    """Return how `text` differs from the example: in shape, not in values."""
    if not text.strip():
        return ["nothing came"]
    if example.what.partition(" ")[0] in {"ws", "slow"}:
        return _dialogues(example.text.splitlines(), text.splitlines(), nullable)
    if example.lang == "json":
        return _objects(json.loads(example.text), json.loads(text), nullable, example.what)
    if example.lang == "csv":
        said, now = example.text.splitlines()[0], text.splitlines()[0]
        return [] if said == now else [f"the first line is {now}"]
    there = {_without_value(line) for line in text.splitlines()}
    return [f"no such line: {line}" for line in example.text.splitlines() if _without_value(line) not in there]


def _objects(example: Any, live: Any, nullable: set[str], what: str) -> list[str]:
    if isinstance(example, dict) and what.startswith("message "):
        for name in ("type", "action", "state"):
            if example.get(name) != live.get(name):
                return [f".{name}: {live.get(name)!r} where the example has {example.get(name)!r}"]
    return differences(example, live, nullable)


def _dialogues(example: list[str], live: list[str], nullable: set[str]) -> list[str]:
    if len(example) != len(live):
        return [f"{len(live)} lines where the example has {len(example)}"]
    found: list[str] = []
    for said, now in zip(example, live, strict=True):
        if now == "<":
            found.append(f"nothing like {said[:80]} came")
        elif now.startswith("< close"):
            found += (
                [] if _DIGITS.sub("0", said[10:]) == _DIGITS.sub("0", now[10:]) and said[:12] == now[:12] else [now]
            )
        else:
            found += differences(json.loads(said[2:]), json.loads(now[2:]), nullable)
    return found


def _without_value(line: str) -> str:
    return line if line.startswith("#") else line.rpartition(" ")[0]
