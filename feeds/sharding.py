"""Which subscriptions share a connection: by endpoint, within the venue's limits, a symbol's own together. Pure."""

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from feeds.adapter import Adapter, Subscription

__all__ = ["by_endpoint", "by_symbol", "has_room", "shards", "url_of"]


def shards(subs: Sequence[Subscription], adapter: Adapter) -> Iterator[list[Subscription]]:
    """Split subscriptions over connections by endpoint and the venue's limit; those of one symbol stay together."""
    for own in by_endpoint(subs, adapter):
        shard: list[Subscription] = []
        for group in by_symbol(own):
            if not has_room(adapter, shard, group):
                yield shard
                shard = []
            shard += group
        if shard:
            yield shard


def url_of(adapter: type[Adapter], endpoint: str, base: str) -> str:
    """Return the URL of an endpoint; `base` (scheme and host), where given, stands in for the venue's own."""
    url = adapter.endpoints[endpoint]
    return base.rstrip("/") + urlsplit(url)._replace(scheme="", netloc="").geturl() if base else url


def by_endpoint(subs: Sequence[Subscription], adapter: Adapter) -> list[list[Subscription]]:
    """Divide subscriptions by the endpoint that serves them."""
    endpoints: dict[str, list[Subscription]] = {}
    for sub in subs:
        endpoints.setdefault(adapter.endpoint_of(sub.kind, sub.instrument), []).append(sub)
    return list(endpoints.values())


def by_symbol(subs: Sequence[Subscription]) -> list[list[Subscription]]:
    """Divide subscriptions by symbol."""
    groups: dict[str, list[Subscription]] = {}
    for sub in subs:
        groups.setdefault(sub.instrument.symbol, []).append(sub)
    return list(groups.values())


def has_room(adapter: Adapter, shard: Sequence[Subscription], group: Sequence[Subscription]) -> bool:
    """Tell whether a connection that carries `shard` can carry one more symbol's `group`. An empty one always can."""
    limits = adapter.limits
    if not shard:
        return True
    symbols = len({sub.instrument.symbol for sub in shard})
    if limits.symbols_per_connection and symbols >= limits.symbols_per_connection:
        return False
    return len(adapter.venue_channels([*shard, *group])) <= limits.streams_per_connection
