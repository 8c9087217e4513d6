"""The token prompt: asked for, refused with the reason, renewed; and where the token never is."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.gateway.kit import Feed, Gateway, gateway_on, quote
from tests.gateway.tokens import SECRET, mint
from tests.web.browsing import Tab, opened

pytestmark = pytest.mark.asyncio(loop_scope="session")

REASON = "document.getElementById('token-reason').textContent"
OPEN = "document.getElementById('token').open"


@pytest_asyncio.fixture(loop_scope="session")
async def guarded(redis_url: str, feed: Feed) -> AsyncIterator[Gateway]:
    await feed.publish(quote(100.0), quote(200.0, symbol="ETH-USDT"))
    async with gateway_on(redis_url, auth={"secret": SECRET, "leeway_s": 0.0}) as gateway:
        yield gateway


async def show(tab: Tab, token: str) -> None:
    await tab.page.locator("#token-input").fill(token)
    await tab.page.keyboard.press("Enter")


async def test_asks_says_why_not_and_lets_in(browser: Browser, guarded: Gateway) -> None:
    async with opened(browser, guarded.http) as tab:
        await tab.go()
        await tab.holds(OPEN)
        assert await tab.page.locator("#link").inner_text() == "token wanted"
        assert await tab.js("document.activeElement.id") == "token-input"
        await show(tab, "not a token")
        await tab.holds(f"{OPEN} && {REASON}.length > 10 && !{REASON}.startsWith('This gateway wants')")
        await show(tab, mint(secret="another secret, of another gateway altogether"))
        await tab.holds(f"{OPEN} && /signature/i.test({REASON})")
        token = mint("quote:binance:BTC-USDT", "ticker:*:*")
        await show(tab, token)
        await tab.shows("binance", "BTC-USDT", "live")
        assert not await tab.js(OPEN)
        assert await tab.page.locator("tbody[data-symbol]").count() == 1, "what the token allows"
        await tab.page.reload()
        await tab.shows("binance", "BTC-USDT", "live")
        assert not await tab.js(OPEN), "kept in this tab"
        assert await tab.js("Object.keys(localStorage).length + document.cookie.length") == 0
        assert tab.urls and not [url for url in tab.urls if token in url or "token=" in url]
        assert tab.complained() == []
    async with opened(browser, guarded.http) as other:
        await other.go()
        await other.holds(OPEN)


async def test_an_ended_token_is_asked_for_again(browser: Browser, guarded: Gateway) -> None:
    async with opened(browser, guarded.http) as tab:
        await tab.go()
        await tab.holds(OPEN)
        await show(tab, mint(ttl=8))
        await tab.shows("binance", "BTC-USDT", "live")
        await tab.holds(f"{OPEN} && {REASON} === 'the token expired'")
        await tab.shows("binance", "BTC-USDT", "down")
        await tab.page.keyboard.press("Escape")
        assert not await tab.js(OPEN)
        await tab.page.get_by_role("button", name="Enter a token").click()
        await show(tab, mint())
        await tab.shows("binance", "BTC-USDT", "live")
        await tab.shows("binance", "ETH-USDT", "live")
        assert not await tab.page.locator("#banner").is_visible()
        assert tab.complained(away=True) == []


async def test_a_token_for_something_else_is_said_to_be_so(browser: Browser, guarded: Gateway) -> None:
    async with opened(browser, guarded.http) as tab:
        await tab.go()
        await tab.holds(OPEN)
        await show(tab, mint("trade:okx:ETH-USDT"))
        await tab.holds("document.querySelector('.empty').textContent.includes('token does not allow')")
        assert await tab.page.locator("tbody[data-symbol]").count() == 0 and tab.complained() == []
