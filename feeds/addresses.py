"""`python -m feeds.addresses VENUE...`: which hosts a venue's feed talks to, and which keys it lacks, a JSON line each.

For `tickwire doctor`, which imports no feed.
"""

import os
import sys

import msgspec
from msgspec import Struct

from feeds.registry import adapter_of
from feeds.sharding import url_of
from hub import config
from hub.config import Settings
from hub.errors import HubError

__all__ = ["Addresses", "addresses_of"]


class Addresses(Struct):
    """`error`: the venue cannot be run as it is configured."""

    venue: str
    urls: list[str] = []
    missing: list[str] = []
    error: str = ""


def addresses_of(venue: str, settings: Settings) -> Addresses:
    """Return where the feed of `venue` connects to: its REST address, then its sockets."""
    own = settings.venues.get(venue, config.VenueSettings())
    try:
        adapter = adapter_of(venue, own.feed)
    except HubError as error:
        return Addresses(venue, error=str(error))
    sockets = [url_of(adapter, endpoint, own.ws_url) for endpoint in adapter.endpoints]
    missing = [name for name in adapter.credentials_env if not os.environ.get(name)]
    return Addresses(venue, list(dict.fromkeys([own.rest_url or adapter.rest_url, *sockets])), missing)


if __name__ == "__main__":
    loaded = config.load()
    for name in sys.argv[1:]:
        sys.stdout.write(msgspec.json.encode(addresses_of(name, loaded)).decode() + "\n")
