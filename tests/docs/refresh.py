"""`python -m tests.docs.refresh [WORD]`: write all examples (or those with WORD in them) anew, from a running hub.

Long lists and maps are cut. A new example needs its comment and the fields that matter, `{}` will do for JSON.
"""

import asyncio
import json
import re
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.docs.documents import Example, examples, nullable, pages
from tests.docs.judge import compare, current
from tests.docs.live import Hub, running_hub
from tests.docs.shapes import OPEN

WIDTH = 112
_LOCAL = re.compile(r"ws://127\.0\.0\.1:\d+")


def cut(value: Any, key: str = "") -> Any:
    """Return `value` with the first two of each list, and the first three of maps with names for keys."""
    if isinstance(value, list):
        return [cut(item, f"{key}[]") for item in value[:2]]
    if isinstance(value, dict):
        kept = list(value.items())[:3] if key in OPEN else value.items()
        return {name: cut(item, name) for name, item in kept}
    return value


def pretty(value: Any, indent: int = 0) -> str:
    """Return JSON in lines of a bounded width, with as much in one as fits."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + indent <= WIDTH or not isinstance(value, dict | list) or not value:
        return line
    parts = (
        [f"{json.dumps(name)}: {pretty(item, indent + 2)}" for name, item in value.items()]
        if isinstance(value, dict)
        else [pretty(item, indent + 2) for item in value]
    )
    lines, row = [], ""
    for number, part in enumerate(parts):
        part += "," if number < len(parts) - 1 else ""
        if (row and len(row) + len(part) + indent + 3 > WIDTH) or "\n" in part:
            lines += [row] if row else []
            row = ""
        if "\n" in part:
            lines.append(part)
        else:
            row = f"{row} {part}".strip()
    lines += [row] if row else []
    pad = " " * (indent + 2)
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    return f"{opening}\n" + "\n".join(pad + each for each in lines) + f"\n{' ' * indent}{closing}"


def written(example: Example, text: str) -> str:
    """Return `text` as it is to stand in the page."""
    if example.what.startswith("ws"):
        return text
    text = _LOCAL.sub("wss://stream.binance.com:9443", text).replace(f'"{socket.gethostname()} pid', '"hub-1 pid')
    if example.lang == "json":
        return pretty(cut(json.loads(text))) + "\n"
    if example.lang == "csv":
        return "".join(f"{line}\n" for line in text.splitlines()[:3])
    wanted = {line.rpartition(" ")[0] for line in example.text.splitlines()}
    return "".join(f"{line}\n" for line in text.splitlines() if line.rpartition(" ")[0] in wanted)


async def refresh(hub: Hub, word: str) -> None:
    """Go through all pages."""
    may_be_null = nullable([page.read_text() for page in pages()])
    jobs = [
        (page, each)
        for page in pages()
        for each in examples(page.read_text(), page.name)
        if word in each.what + each.text and each.what != "slow"
    ]
    # The gateway with tokens ends in the last one.
    for page, example in sorted(jobs, key=lambda job: "1012" in job[1].text):
        text = await current(example, hub, may_be_null)
        if not text.strip() or (example.what.startswith("ws") and "<\n" in text):
            sys.stdout.write(f"{page.name}: {example.what}: nothing came\n")
            continue
        problems = compare(example, text, may_be_null)
        sys.stdout.write(f"{page.name}: {example.what}: {problems or 'as it was'}\n")
        fence = f"<!-- example: {example.what} -->\n```{example.lang}\n"
        new = written(example, text)
        page.write_text(page.read_text().replace(fence + example.text + "```", fence + new + "```"))


async def main() -> None:
    """Start a hub, write, stop it."""
    with tempfile.TemporaryDirectory() as folder:
        async with running_hub(Path(folder)) as hub:
            await refresh(hub, sys.argv[1] if len(sys.argv) > 1 else "")


if __name__ == "__main__":
    asyncio.run(main())
