"""SECURITY.md names a test for each point; each of them exists."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def test_every_test_that_is_named_exists() -> None:
    named = NAMED.findall((ROOT / "SECURITY.md").read_text())
    assert len(named) > 30
    for file, name in named:
        path = ROOT / file if file.startswith("tests/") else ROOT / "tests" / "gateway" / file
        assert re.search(rf"^(async )?def {name}\(", path.read_text(), re.MULTILINE), f"{file}::{name}"
