"""What the documents point to exists: pages, headings, files, commands and their options."""

import importlib.util
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from hub.cli.main import COMMANDS
from tests.docs.documents import DOCS, ROOT, anchors, code_blocks, command_lines, links, pages

DOCUMENTS = sorted({*pages(), *ROOT.glob("*.md")})
#: Made by what the text tells to do, or named as examples.
ELSEWHERE = {
    "docker-compose.override.yml",
    "candles.csv",
    "redis-backup.tgz",
    "my_analytics.py",
    "my-hub.toml",
    "mine.py",
}


def broken_links(text: str, page: Path) -> list[str]:
    found = []
    for target in links(text):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            found.append(target)
    return found


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    assert broken_links(page.read_text(), page) == []


def test_links_that_lead_nowhere_are_noticed() -> None:
    page = DOCS / "rest.md"
    text = "# One\n## Two words\n"
    assert anchors(text) == {"one", "two-words"}
    for target in ("nowhere.md", "messages.md#nowhere", "#nowhere", "../docs/nowhere.png"):
        assert broken_links(f"[x]({target})", page) == [target]
    assert broken_links("[x](messages.md#trade) `[no](link.md)`", page) == []


def test_every_page_is_linked() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve() for page in pages() for target in links(page.read_text())
    }
    assert {page.resolve() for page in DOCS.glob("*.md")} <= linked
    assert {picture.resolve() for picture in DOCS.glob("*.png")} <= linked


def missing_files(text: str) -> list[str]:
    """Return paths of the repository that are named in code and do not exist."""
    words = re.findall(r"`([\w./-]+)`", text) + [
        word for lang, block in code_blocks(text) if lang == "" for word in re.findall(r"(?<![\w/.-])[\w./-]+", block)
    ]
    paths = {word for word in words if re.search(r"\w\.(?:py|md|toml|ya?ml|lua|service|lock|sh|png)$", word)}
    paths |= {
        word
        for word in words
        if re.fullmatch(r"(?:examples|deploy|docs|tests|scripts|demo|hub|feeds|gateway)/[\w./-]*", word)
    }
    relative = {path for path in paths if not path.startswith("/") and path not in ELSEWHERE}
    return sorted(
        path
        for path in relative
        if not (ROOT / path).exists() and not (DOCS / path).exists() and not (ROOT / "tests/gateway" / path).exists()
    )


@pytest.mark.parametrize("page", [*pages(), ROOT / "TESTING.md"], ids=lambda page: page.name)
def test_files(page: Path) -> None:
    assert missing_files(page.read_text()) == []


def test_files_that_do_not_exist_are_noticed() -> None:
    text = "`hub/nowhere.py` `hub/keys.py`\n```\npython scripts/nowhere.sh\n```\n"
    assert missing_files(text) == ["hub/nowhere.py", "scripts/nowhere.sh"]


@cache
def help_of(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wrong_options(text: str, line: str) -> list[str]:
    options = re.findall(r"(?<!\S)(--?[a-z][\w-]*)", line)
    return [option for option in options if not re.search(rf"(?<![\w-]){option}(?![\w-])", text)]


def lines_of(program: str) -> dict[str, list[str]]:
    """Return the lines of all documents that call `program`, by their first word."""
    found: dict[str, list[str]] = {}
    for page in DOCUMENTS:
        for line in command_lines(page.read_text(), program):
            found.setdefault(line.split()[0], []).append(line)
    return found


TICKWIRE = lines_of("tickwire")
MODULES = {
    name: lines for name, lines in lines_of("python -m").items() if name.split(".")[0] in {"hub", "feeds", "gateway"}
}


def test_there_are_commands() -> None:
    assert len(TICKWIRE) > 10
    assert len(MODULES) > 3
    assert TICKWIRE.keys() - COMMANDS.keys() - {"COMMAND", "--help"} == set()


@pytest.mark.parametrize("name", sorted(TICKWIRE.keys() & COMMANDS.keys() - {"redis-cli", "completion"}))
def test_commands(name: str) -> None:
    """What comes behind `redis-cli` is that program's, and `completion` has no options."""
    text = help_of("hub.cli.main", name)
    assert wrong_options(text, "--no-such") == ["--no-such"]
    assert [(line, wrong) for line in TICKWIRE[name] if (wrong := wrong_options(text, line))] == []


@pytest.mark.parametrize("name", sorted(MODULES))
def test_modules(name: str) -> None:
    assert importlib.util.find_spec(name) is not None
    with_options = [line for line in MODULES[name] if " --" in line]
    if with_options:
        text = help_of(name)
        assert [(line, wrong) for line in with_options if (wrong := wrong_options(text, line))] == []


def test_make_has_the_targets() -> None:
    targets = set(
        re.findall(r"(?:^|`)(?:TICKWIRE_\S+ )?make ([a-z]+)", "\n".join(p.read_text() for p in pages()), re.MULTILINE)
    )
    assert {"demo", "run", "test"} <= targets
    assert targets <= set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
