"""A feed on the shared Redis, and a client over either way."""

from collections.abc import AsyncIterator

import pytest

from hub.client import Client
from tests.gateway.kit import Feed
from tests.hub.client.kit import hub_over


@pytest.fixture
async def feed(redis_url: str) -> AsyncIterator[Feed]:
    async with Feed(redis_url) as feed:
        yield feed


@pytest.fixture(params=["gateway", "redis"])
def way(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def hub(way: str, redis_url: str, feed: Feed) -> AsyncIterator[Client]:
    async with hub_over(way, redis_url) as hub:
        yield hub
