"""The gateway's own fixtures: a feed, and a gateway without one of its processes."""

from tests.gateway.conftest import feed as feed
from tests.gateway.conftest import gateway as gateway
