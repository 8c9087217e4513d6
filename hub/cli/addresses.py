"""What venues' feeds say of their configuration: hosts they talk to, keys they lack. No feed is imported here."""

import asyncio
import os
import sys
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from hub.errors import ConfigError

__all__ = ["Addresses", "addresses_of"]


class Addresses(Struct):
    """As feeds/addresses.py prints it. `error`: the venue cannot be run as it is configured."""

    venue: str
    urls: list[str]
    missing: list[str]
    error: str


async def addresses_of(venues: Sequence[str], config_file: str | None = None) -> list[Addresses]:
    """Ask a process that knows the venues; ConfigError where it cannot tell."""
    env = {**os.environ, "TICKWIRE_CONFIG": config_file} if config_file is not None else None
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "feeds.addresses", *venues,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=env,
    )  # fmt: skip
    output, errors = await process.communicate()
    if process.returncode != 0:
        raise ConfigError(errors.decode(errors="replace").strip().rpartition("\n")[2])
    return [msgspec.json.decode(line, type=Addresses) for line in output.splitlines()]
