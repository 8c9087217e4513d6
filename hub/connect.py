"""Open the lean connection of the hot paths, wherever redis.url leads (hub/topology.py)."""

import asyncio
import logging
from typing import TypeAlias

from hub.cluster import ClusterLink
from hub.errors import RedisUnavailable
from hub.link import Link, PushHandler, pack
from hub.log import mask_url
from hub.topology import Address, find_master, find_nodes, parse_address

__all__ = ["AnyLink", "connect"]

logger = logging.getLogger(__name__)

AnyLink: TypeAlias = Link | ClusterLink

#: How often the Sentinels are asked whether the master is still the master.
MASTER_CHECK_S = 1.0


async def connect(
    url: str, on_push: PushHandler | None = None, *, name: str = "tickwire", timeout_s: float = 5.0
) -> AnyLink:
    """Find the node or nodes of `url` and connect. Raises RedisUnavailable.

    Pushes of messages begin with `message` or, in a Cluster, `smessage`.
    """
    address = parse_address(url)
    if address.kind == "single":
        return await Link.connect(url, on_push, name=name, timeout_s=timeout_s)
    if address.kind == "cluster":
        nodes = await find_nodes(address, timeout_s)
        return await ClusterLink.open(nodes, on_push, name=name, timeout_s=timeout_s)
    return await _connect_master(address, on_push, name, timeout_s)


async def _connect_master(address: Address, on_push: PushHandler | None, name: str, timeout_s: float) -> Link:
    node_url = await find_master(address, timeout_s)
    link = await Link.connect(node_url, on_push, name=name, timeout_s=timeout_s)
    role, *_ = await link.call([pack("ROLE")])
    if isinstance(role, Exception) or role[0] != b"master":
        link.close()
        raise RedisUnavailable(mask_url(node_url), "the Sentinels name it, but it is no master")
    watch = asyncio.ensure_future(_watch_master(address, node_url, link))
    link.closed.add_done_callback(lambda _: watch.cancel())
    return link


async def _watch_master(address: Address, node_url: str, link: Link) -> None:
    """Close the link once the Sentinels name another master: the old one may not know yet, and still answer."""
    while True:
        await asyncio.sleep(MASTER_CHECK_S)
        try:
            current = await find_master(address)
        except RedisUnavailable:
            continue
        if current != node_url:
            logger.warning("redis master changed new=%s", mask_url(current))
            link.close()
            return
