"""What no file of the project holds: paths of one machine, and addresses of package registries."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = {".git", ".venv", "data", "build", "htmlcov", "__pycache__", "node_modules"}
LARGE = 2_000_000

# In pieces, so that this file holds none of it.
PATHS = re.compile(
    r"(?:^|[^\w./~-])/(?:" + "|".join(["ro" + "ot", "ho" + "me", "Us" + "ers", "wo" + "rk", "fa" + "rm"]) + r")/\w"
)
HOSTS = re.compile(
    "|".join(
        re.escape(host)
        for host in (
            "py" + "pi.org",
            "python" + "hosted.org",
            "npm" + "js.com",
            "npm" + "js.org",
            "crates" + ".io",
            "proxy.go" + "lang.org",
            "deb.debi" + "an.org",
            "security.debi" + "an.org",
        )
    )
)


def files() -> Iterator[Path]:
    """Yield the project's files: what git tracks or would, else what lies there."""
    git = shutil.which("git")
    if git is not None and (ROOT / ".git").exists():
        command = [git, "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
        yield from (file for name in listed.split("\0") if name and (file := ROOT / name).is_file())
        return
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if (name not in SKIPPED and not name.startswith(".")) or name == ".ci"]
        yield from (Path(folder) / name for name in names)


def lines() -> Iterator[tuple[str, str]]:
    """Yield (place, line) of all text files."""
    for file in files():
        content = file.read_bytes()
        if len(content) > LARGE or b"\0" in content:
            continue
        for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
            yield f"{file.relative_to(ROOT)}:{number}", line


def test_files_are_found() -> None:
    names = {str(file.relative_to(ROOT)) for file in files()}
    assert {"pyproject.toml", "hub/config.py", "tests/test_repo_text.py", ".ci/run"} <= names


def test_no_machine_paths() -> None:
    assert PATHS.search("see /" + "home/someone") and not PATHS.search("https://host/" + "home/x")
    assert [place for place, line in lines() if PATHS.search(line)] == []


def test_no_registry_hosts() -> None:
    assert HOSTS.search("files.python" + "hosted.org/x")
    assert [place for place, line in lines() if HOSTS.search(line)] == []
