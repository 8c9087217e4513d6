"""Which venues there are: one line each."""

from feeds.adapter import Adapter
from feeds.venues.binance import Binance
from hub.errors import ConfigError

__all__ = ["ADAPTERS", "adapter_of"]

ADAPTERS: dict[str, type[Adapter]] = {
    "binance": Binance,
}


def adapter_of(venue: str) -> type[Adapter]:
    """Return the adapter class of `venue`; ConfigError naming the venues there are."""
    try:
        return ADAPTERS[venue]
    except KeyError:
        raise ConfigError(f"there is no venue {venue!r}; known: {', '.join(sorted(ADAPTERS))}") from None
