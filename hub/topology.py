"""Where Redis is: one server, the master that Sentinels name, or the nodes of a Cluster. redis-py does the finding.

| redis.url | means |
|---|---|
| `redis://[user:password@]host:port/db`, `rediss://`, `unix://` | one server |
| `redis+sentinel://[user:password@]host:port,…/service[/db]` | the master of `service`, as these Sentinels say |
| `redis+cluster://[user:password@]host:port,…` | a Cluster (Redis 7 or newer); some of its nodes |

`rediss+…` speaks TLS to all of them. User and password are those of the data nodes; `?sentinel_username=` and
`?sentinel_password=` those of the Sentinels. Other options pass as in a plain URL.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, quote, urlencode

from msgspec import Struct
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS
from redis.exceptions import RedisError

from hub.errors import ConfigError, RedisUnavailable
from hub.log import mask_url
from hub.redis_clients import ClusterClient, MasterClient, uncancelled

__all__ = ["Address", "Nodes", "cluster_client", "find_master", "find_nodes", "parse_address", "sentinel_client"]

SENTINEL_PORT: Final = 26379
REDIS_PORT: Final = 6379
TIMEOUT_S: Final = 3.0


class Address(Struct, frozen=True):
    """A parsed redis.url. `node_url` is what one node's URL is made of; `sentinel` options of the Sentinels."""

    kind: Literal["single", "sentinel", "cluster"]
    url: str
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    scheme: str = "redis"
    user_info: str = ""
    path: str = ""
    query: str = ""
    sentinel: tuple[tuple[str, str], ...] = ()

    def node_url(self, host: str, port: int) -> str:
        """Return the plain URL of one data node."""
        return f"{self.scheme}://{self.user_info}{_host(host)}:{port}{self.path}{self.query}"


class Nodes(Struct, frozen=True):
    """The masters of a Cluster. `slots` maps a slot to the place of its node in `urls`."""

    urls: tuple[str, ...]
    slots: tuple[int, ...]


def parse_address(url: str) -> Address:
    """Parse a redis.url; ConfigError where it cannot be one. Passwords are never in the error."""
    scheme, separator, rest = url.partition("://")
    base, _, way = scheme.partition("+")
    if not separator or way not in {"", "sentinel", "cluster"} or base not in {"redis", "rediss", "unix"}:
        raise ConfigError(
            f"redis.url = {mask_url(url)!r} cannot be used; allowed: redis://, rediss://, unix://, "
            "redis+sentinel://host:port,…/service, redis+cluster://host:port,…"
        )
    if not way:
        return Address("single", url)
    rest, _, query = rest.partition("?")
    user_info, at, rest = rest.rpartition("@")
    hosts, _, path = rest.partition("/")
    options = parse_qsl(query)
    plain = [(name, value) for name, value in options if not name.startswith("sentinel_")]
    theirs = [(name.removeprefix("sentinel_"), value) for name, value in options if name.startswith("sentinel_")]
    address = Address(
        kind="sentinel" if way == "sentinel" else "cluster",
        url=url,
        hosts=_hosts(hosts, SENTINEL_PORT if way == "sentinel" else REDIS_PORT, url),
        scheme=base,
        user_info=user_info + at,
        query=f"?{urlencode(plain)}" if plain else "",
        sentinel=tuple(theirs),
    )
    return _with_service(address, path) if way == "sentinel" else address


def _with_service(address: Address, path: str) -> Address:
    service, _, db = path.partition("/")
    if not service:
        raise ConfigError(
            f"redis.url = {mask_url(address.url)!r} names no service; it ends in /NAME as in `sentinel monitor NAME`"
        )
    return Address(
        "sentinel", address.url, address.hosts, service, address.scheme, address.user_info, f"/{db}" if db else "",
        address.query, address.sentinel,
    )  # fmt: skip


def _hosts(text: str, default: int, url: str) -> tuple[tuple[str, int], ...]:
    found = []
    for part in text.split(","):
        host, colon, port = part.rpartition(":") if not part.endswith("]") else (part, "", "")
        if not colon:
            host, port = part, str(default)
        if not host or not port.isdigit() or not 0 < int(port) < 65_536:
            raise ConfigError(f"redis.url = {mask_url(url)!r} cannot be used: {part!r} is not of the form host:port")
        found.append((host.strip("[]"), int(port)))
    return tuple(found)


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _options(url: str) -> dict[str, Any]:
    """Return a plain URL as keyword arguments of a redis-py client."""
    options: Mapping[str, Any] = parse_url(url)
    return {name: value for name, value in options.items() if name != "connection_class"} | {
        "ssl": options.get("connection_class") is SSLConnection
    }


# Sentinel


def _sentinel(address: Address, timeout_s: float) -> Sentinel:
    login = "".join(quote(dict(address.sentinel).get(name, ""), safe="") + end for name, end in _LOGIN)
    query = address.query
    first = _options(f"{address.scheme}://{login if len(login) > 2 else ''}{_host(address.hosts[0][0])}{query}")
    first = {name: value for name, value in first.items() if name not in {"host", "port", "db"}}
    return Sentinel(  # type: ignore[no-untyped-call]
        address.hosts,
        sentinel_kwargs={
            **first,
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
        },
    )


_LOGIN: Final = (("username", ":"), ("password", "@"))


def sentinel_client(address: Address, timeout_s: float, **options: Any) -> MasterClient:
    """Return a client of the master, wherever it is at the moment."""
    sentinel = _sentinel(address, timeout_s)
    own = _options(address.node_url("localhost", REDIS_PORT))
    own = {name: value for name, value in own.items() if name not in {"host", "port"}}
    client: MasterClient = sentinel.master_for(
        address.service,
        redis_class=MasterClient,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        **own,
        **options,
    )
    client.sentinels = sentinel
    return client


async def find_master(address: Address, timeout_s: float = TIMEOUT_S) -> str:
    """Ask the Sentinels for the URL of the master. Raises RedisUnavailable."""
    async with _sentinel(address, timeout_s) as sentinel:
        try:
            host, port = await uncancelled(sentinel.discover_master(address.service))
        except (RedisError, OSError) as error:
            # Not the error's own text: it spells out every option of every client.
            raise RedisUnavailable(mask_url(address.url), f"no Sentinel names a master {address.service!r}") from error
    return address.node_url(str(host), int(port))


# Cluster


def cluster_client(address: Address, timeout_s: float, **options: Any) -> ClusterClient:
    """Return a client of all nodes."""
    own = _options(address.node_url("localhost", REDIS_PORT))
    own = {name: value for name, value in own.items() if name not in {"host", "port", "db"}}
    return ClusterClient(
        startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        **own,
        **options,
    )


async def find_nodes(address: Address, timeout_s: float = TIMEOUT_S) -> Nodes:
    """Ask the Cluster which node has which slot. Raises RedisUnavailable."""
    client = cluster_client(address, timeout_s, retry=Retry(NoBackoff(), 1))
    places: dict[str, int] = {}
    slots = [-1] * REDIS_CLUSTER_HASH_SLOTS
    try:
        await client.initialize()
        for slot, (primary, *_) in client.nodes_manager.slots_cache.items():
            slots[slot] = places.setdefault(address.node_url(primary.host, int(primary.port)), len(places))
    except (RedisError, OSError) as error:
        raise RedisUnavailable(mask_url(address.url), str(error)) from error
    finally:
        await client.aclose()
    if -1 in slots:
        raise RedisUnavailable(mask_url(address.url), "the Cluster does not cover all slots")
    return Nodes(tuple(places), tuple(slots))
