"""Redis through redis-py: everything that is not a hot path. The hot paths use hub/link.py.

Clients made here speak bytes. Scripts are loaded from hub/lua, one file each.
"""

from functools import cache
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError

from hub.errors import RedisUnavailable
from hub.log import mask_url

__all__ = ["check", "command_client", "script"]


def command_client(url: str, *, timeout_s: float = 5.0) -> Redis:
    """Return a client for commands that answer at once.

    One retry on a broken connection; a call fails with redis.exceptions.RedisError after `timeout_s`. Not for
    blocking reads.
    """
    return Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 1),
        client_name="tickwire",
    )


async def check(url: str) -> dict[str, Any]:
    """Return INFO server; raises RedisUnavailable with the reason (never the password) where Redis cannot be used."""
    try:
        async with command_client(url) as client:
            info: dict[str, Any] = await client.info("server")
            return info
    except AuthenticationError as error:
        raise RedisUnavailable(mask_url(url), f"authentication failed ({error})") from error
    except (RedisError, OSError, ValueError) as error:
        raise RedisUnavailable(mask_url(url), str(error)) from error


@cache
def script(name: str) -> str:
    """Return the text of hub/lua/<name>.lua."""
    return (files("hub") / "lua" / f"{name}.lua").read_text(encoding="utf-8")
