"""One browser for all tests here, in the loop of the session; a feed and a gateway in the same loop."""

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser

from tests.gateway.kit import Feed, Gateway, gateway_on
from tests.web.browsing import chromium


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def feed(redis_url: str) -> AsyncIterator[Feed]:
    async with Feed(redis_url) as feed:
        yield feed


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(redis_url: str, feed: Feed) -> AsyncIterator[Gateway]:
    async with gateway_on(redis_url) as gateway:
        yield gateway
