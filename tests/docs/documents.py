"""The documents as tests read them: examples, tables, headings, links, command lines."""

import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

__all__ = [
    "DOCS", "ROOT", "Example", "anchors", "code_blocks", "command_lines", "examples", "first_cells", "links",
    "nullable", "pages", "section",
]  # fmt: skip

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

_EXAMPLE = re.compile(r"<!-- example: (.+?) -->\n```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_ROW = re.compile(r"^\| (.+?) \|(.*)$", re.MULTILINE)
_NAME = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")


class Example(Struct, frozen=True):
    """A fenced block that a comment above it declares: `what` it is an example of, its language and text."""

    page: str
    what: str
    lang: str
    text: str


def pages() -> list[Path]:
    """Return the documents for users: README and docs."""
    return [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def examples(text: str, page: str) -> list[Example]:
    return [Example(page, *match) for match in _EXAMPLE.findall(text)]


def code_blocks(text: str) -> list[tuple[str, str]]:
    """Return (language, text) of all fenced blocks."""
    return _BLOCK.findall(text)


def _prose(text: str) -> str:
    return _BLOCK.sub("", text)


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for _, title in _HEADING.findall(_prose(text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


def links(text: str) -> list[str]:
    """Return the targets of links and images."""
    return _LINK.findall(_prose(text))


def section(text: str, title: str) -> str:
    """Return what stands under a heading, subsections included; empty where there is none."""
    plain = _BLOCK.sub(lambda match: match[0].replace("\n#", "\n\0"), text)
    for match in _HEADING.finditer(plain):
        if match[2].strip().replace("`", "") == title:
            end = re.compile(rf"^#{{1,{len(match[1])}}} ", re.MULTILINE).search(plain, match.end())
            return plain[match.end() : end.start() if end else len(plain)].replace("\n\0", "\n#")
    return ""


def rows(text: str) -> Iterator[tuple[str, str]]:
    """Yield (first cell, the rest) of all rows of tables, heads included."""
    for first, rest in _ROW.findall(_prose(text)):
        if not set(first) <= set("-: "):
            yield first, rest


def first_cells(text: str) -> list[str]:
    """Return the names in code in the first cells of all rows, in order."""
    return [name for first, _ in rows(text) for name in _NAME.findall(first)]


def nullable(texts: list[str]) -> set[str]:
    """Return the fields whose row says that they may be null."""
    found = ((first, rest) for text in texts for first, rest in rows(text))
    return {name for first, rest in found if re.search(r"\bnull\b", rest) for name in _NAME.findall(first)}


def command_lines(text: str, program: str) -> list[str]:
    """Return what follows `program` in lines of code blocks and in inline code, comments cut off."""
    lines = [line for lang, block in code_blocks(text) if lang in {"", "sh"} for line in block.splitlines()]
    lines += _NAME.findall(_prose(text))
    found = []
    for line in lines:
        match = re.match(rf"^(?:\S+/)?{re.escape(program)} (.*)$", line.strip())
        if match:
            found.append(re.split(r"\s#\s|\s[|>&]\s", match[1])[0].strip())
    return found
