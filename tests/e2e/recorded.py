"""What a recorded session must come out as: helpers for comparing runs."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec
from redis.asyncio import Redis

from tests.e2e.stack import ROOT

__all__ = ["log_of", "newest", "normalized", "substance"]

POSITION = ("id", "ts_event", "ts_recv", "ts_pub")


async def normalized(session: Path, instruments: Path) -> list[dict[str, Any]]:
    """Return what `normalize` prints, parsed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "feeds.normalize", "binance", str(session), "--instruments", str(instruments),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return [msgspec.json.decode(line) for line in output.splitlines()]


async def log_of(redis: Redis, channel: str) -> list[dict[str, Any]]:
    """Return all messages of a channel's log; each entry's id is the message's."""
    result = []
    entries: Any = await redis.xrange(f"{{md:{channel}}}:log")
    for position, fields in entries:
        message = msgspec.json.decode(fields[b"payload"])
        assert message["id"] == position.decode()
        result.append(message)
    return result


async def newest(redis: Redis, channel: str) -> dict[str, Any]:
    """Return the newest message of a channel; {} where there is none."""
    value: Any = await redis.get(f"md:{channel}")
    return msgspec.json.decode(value) if value else {}


def substance(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message without position and stamps."""
    return {key: value for key, value in message.items() if key not in POSITION}
