"""A gateway and a feed on the shared Redis."""

from collections.abc import AsyncIterator

import pytest

from tests.gateway.kit import Feed, Gateway, gateway_on


@pytest.fixture
async def feed(redis_url: str) -> AsyncIterator[Feed]:
    async with Feed(redis_url) as feed:
        yield feed


@pytest.fixture
async def gateway(redis_url: str, feed: Feed) -> AsyncIterator[Gateway]:
    async with gateway_on(redis_url) as gateway:
        yield gateway
