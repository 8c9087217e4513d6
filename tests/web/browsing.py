"""A headless Chromium that looks at the page, and what it says on its console."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage, Error, Page, async_playwright

__all__ = ["Tab", "chromium", "opened"]

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
#: ms; a loaded machine is slow.
PATIENCE = 40_000
#: What browsers say by themselves of a gateway that is away.
AWAY = ("WebSocket connection to", "Failed to load resource")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run a browser; the test is skipped where the machine has none (TICKWIRE_REQUIRE_ALL=1 makes that a failure)."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


class Tab:
    """One page; `complaints` are errors and warnings on its console, `urls` all it asked for."""

    def __init__(self, page: Page, base: str) -> None:
        self.page, self.base = page, base
        self.complaints: list[str] = []
        self.urls: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error.stack or error}"))
        page.on("request", lambda request: self.urls.append(request.url))
        page.on("websocket", lambda socket: self.urls.append(socket.url))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def complained(self, *, away: bool = False) -> list[str]:
        """Return what was complained about; `away`: not that the gateway was."""
        return [text for text in self.complaints if not (away and text.startswith(AWAY))]

    async def go(self, route: str = "") -> None:
        """Go to `#/route`; the page itself is loaded the first time only."""
        await self.page.goto(f"{self.base}/#/{route}" if route else f"{self.base}/")

    async def holds(self, expression: str, argument: Any = None) -> None:
        """Wait until an expression of JavaScript is true; one that fails is not, yet."""
        end = time.monotonic() + PATIENCE / 1000
        while True:
            failure = ""
            try:
                if await self.page.evaluate(expression, argument):
                    return
            except Error as error:
                failure = error.message
            assert time.monotonic() < end, f"did not come true: {expression} {failure}; {self.complaints}"
            await asyncio.sleep(0.1)

    async def js(self, expression: str, argument: Any = None) -> Any:
        return await self.page.evaluate(expression, argument)

    async def cell(self, venue: str, symbol: str, column: str) -> str:
        """Return the text of a cell of the board."""
        lines = self.page.locator(f'tbody[data-symbol="{symbol}"] tr')
        line = lines.filter(has=self.page.locator("td.venue", has_text=venue))
        return (await line.locator(f"td.{column}").first.inner_text()).strip()

    async def shows(self, venue: str, symbol: str, state: str) -> None:
        """Wait until the board shows a state, as a word."""
        await self.holds(
            """([venue, symbol, state]) => [...document.querySelectorAll(`tbody[data-symbol="${symbol}"] tr`)].some(
                 (tr) => tr.querySelector(".venue").textContent === venue
                   && tr.querySelector(".state")?.textContent === state)""",
            [venue, symbol, state],
        )

    async def inked(self, selector: str) -> int:
        """Return how many colours the canvases below an element have: one where they are blank."""
        return int(
            await self.js(
                """(selector) => {
                  const seen = new Set();
                  for (const canvas of document.querySelectorAll(`${selector} canvas`)) {
                    if (!canvas.width || !canvas.height) continue;
                    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                    for (let i = 0; i < data.length; i += 4) if (data[i + 3]) seen.add(data.slice(i, i + 3).join());
                  }
                  return seen.size;
                }""",
                selector,
            )
        )

    async def picture(self, path: Path) -> None:
        await self.page.screenshot(path=path)


@asynccontextmanager
async def opened(
    browser: Browser, base: str, *, size: Sequence[int] = (1280, 800), dark: bool = False
) -> AsyncIterator[Tab]:
    """Open a tab of its own: nothing is kept from another one."""
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
    )
    try:
        yield Tab(await context.new_page(), base)
    finally:
        await context.close()
