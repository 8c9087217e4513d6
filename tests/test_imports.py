"""The one direction of imports: hub <- feeds, hub <- gateway, and nothing else."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN = {"hub": {"feeds", "gateway"}, "feeds": {"gateway"}, "gateway": {"feeds"}}
TOOLS = {"tests", "scripts"}


def imported(source: str) -> Iterator[str]:
    """Yield the top-level packages a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def test_the_check_sees_every_form_of_import() -> None:
    source = (
        "import a.x, b\nfrom c.y import z\ndef f():\n    from d import e\nif f:\n    import g as h\nfrom . import i\n"
    )
    assert set(imported(source)) == {"a", "b", "c", "d", "g"}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_direction(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in set(imported(file.read_text())) & (FORBIDDEN[package] | TOOLS)
    }
    assert not wrong
