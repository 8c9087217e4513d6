"""Redis through redis-py: everything that is not a hot path. The hot paths use hub/connect.py.

Clients made here speak bytes. Scripts are loaded from hub/lua, one file each.
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError

from hub.errors import ConfigError, RedisUnavailable
from hub.log import mask_url
from hub.redis_clients import SingleClient
from hub.topology import cluster_client, parse_address, sentinel_client

__all__ = ["check", "command_client", "mget", "script"]


def command_client(url: str, *, timeout_s: float = 5.0) -> Redis:
    """Return a client for commands that answer at once.

    One retry on a broken connection; a call fails with redis.exceptions.RedisError after `timeout_s`. Not for
    blocking reads. Of a Cluster it is a RedisCluster, which has the same commands, except that those of several keys
    need them in one slot (`mget` here does not).
    """
    retry, name = Retry(NoBackoff(), 1), "tickwire"
    address = parse_address(url)
    if address.kind == "cluster":
        return cast(Redis, cluster_client(address, timeout_s, retry=retry, client_name=name))
    if address.kind == "sentinel":
        return sentinel_client(address, timeout_s, retry=retry, client_name=name)
    return SingleClient.from_url(
        url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=retry, client_name=name
    )


async def mget(client: Redis, keys: Sequence[str]) -> list[bytes | None]:
    """Return the values of `keys`, on whichever nodes they are."""
    several: object = client
    if isinstance(several, RedisCluster):
        return cast(list[bytes | None], await several.mget_nonatomic(keys))
    return cast(list[bytes | None], await client.mget(keys))


async def check(url: str) -> dict[str, Any]:
    """Return INFO server; raises RedisUnavailable with the reason (never the password) where Redis cannot be used."""
    try:
        async with command_client(url) as client:
            info: dict[str, Any] = await client.info("server")
            return info
    except AuthenticationError as error:
        raise RedisUnavailable(mask_url(url), f"authentication failed ({error})") from error
    except (RedisError, OSError, ValueError, ConfigError) as error:
        raise RedisUnavailable(mask_url(url), str(error)) from error


@cache
def script(name: str) -> str:
    """Return the text of hub/lua/<name>.lua."""
    return (files("hub") / "lua" / f"{name}.lua").read_text(encoding="utf-8")
