"""How much work the page does for how many messages, and what it shows of data made up to be difficult."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace
from playwright.async_api import Browser

from hub.instruments import Instrument
from hub.model import CANDLE_TYPES, FORMING_TYPES, Candle, Quote, Ticker
from tests.gateway.kit import Feed, Gateway, head, quote, status, trade
from tests.web.browsing import Tab, opened

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROWS, PER_S = 200, 20
NONE = "\u2013"
FORMING = FORMING_TYPES["1m"]


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, gateway: Gateway) -> AsyncIterator[Tab]:
    async with opened(browser, gateway.http) as tab:
        yield tab


COUNTED = """
(ms) => new Promise((resolve) => {
  const { link, frames, writes } = tickwire;
  const now = () => [link.received, frames.frames, frames.drawn, frames.asked, writes.text];
  const mutations = new Set();
  let number = 0, records = 0;
  // Records arrive after the frame that made them: their number tells in how many frames something was written.
  const observer = new MutationObserver((found) => { mutations.add(number); records += found.length; });
  observer.observe(document.querySelector("table"), { subtree: true, characterData: true, attributes: true });
  const before = now(), began = performance.now();
  const step = () => {
    number += 1;
    if (performance.now() - began < ms) return requestAnimationFrame(step);
    observer.disconnect();
    const after = now();
    const names = ["messages", "passes", "drawn", "asked", "texts"];
    const found = Object.fromEntries(names.map((name, i) => [name, after[i] - before[i]]));
    resolve({ ...found, frames: number, written: mutations.size, records, ms: performance.now() - began });
  };
  requestAnimationFrame(step);
})
"""


async def publish_all(feed: Feed, symbols: list[str], stop: asyncio.Event) -> None:
    """Publish `PER_S` quotes a second of every symbol until told to stop; fewer where it takes half of the time."""
    step = 0
    began = time.monotonic()
    while not stop.is_set():
        step += 1
        at = time.monotonic()
        await feed.publish(*(quote(100 + (step * 7 + n) % 50, symbol=name) for n, name in enumerate(symbols)))
        now = time.monotonic()
        await asyncio.sleep(max(now - at, began + step / PER_S - now))


@pytest.mark.timeout(180)
async def test_two_hundred_rows_are_written_once_a_frame(tab: Tab, feed: Feed, capsys: Any) -> None:
    symbols = [f"S{n:03}-USDT" for n in range(ROWS)]
    await feed.publish(*(quote(100.0, symbol=name) for name in symbols))
    await tab.go()
    await tab.holds(f"document.querySelectorAll('tbody[data-symbol]').length === {ROWS}")
    await tab.shows("binance", symbols[0], "live")
    stop = asyncio.Event()
    publishing = asyncio.create_task(publish_all(feed, symbols, stop))
    try:
        await tab.holds("tickwire.link.received > 2000")
        found = await tab.js(COUNTED, 3000)
        near = "b.getBoundingClientRect().top < innerHeight + 200"
        in_sight = await tab.js(f"[...document.querySelectorAll('tbody')].filter((b) => {near}).length")
    finally:
        stop.set()
        await publishing
    with capsys.disabled():
        seconds = found["ms"] / 1000
        sys.stdout.write(
            f"\n{ROWS} rows: {found['messages'] / seconds:.0f} messages/s, {found['frames'] / seconds:.0f} fps, "
            f"{found['passes']} passes, {found['texts']} texts written in {seconds:.1f} s\n"
        )
    assert found["messages"] > 500
    assert found["passes"] <= found["frames"] + 1, "one pass per frame"
    assert found["written"] <= found["passes"] + 1, "and nothing is written besides it"
    assert found["drawn"] < found["messages"], "messages between two frames are one"
    # Of those out of sight nothing is drawn; five cells of a quote change at most, and the age twice a second.
    assert in_sight < ROWS / 2
    assert found["drawn"] <= found["passes"] * 2 * in_sight
    await tab.page.mouse.wheel(0, 100_000)
    bid = f"document.querySelector('tbody[data-symbol=\"{symbols[-1]}\"] td.bid').textContent"
    await feed.publish(quote(123.0, symbol=symbols[-1]))
    await tab.holds(f"parseFloat({bid}) === 123")
    assert tab.complained() == []


async def test_unchanged_values_are_not_written(tab: Tab, feed: Feed) -> None:
    await feed.publish(quote(100.0))
    await tab.go()
    await tab.shows("binance", "BTC-USDT", "live")
    seen = await tab.js("tickwire.link.received")
    await tab.js(
        "new MutationObserver((r) => { window.bids = (window.bids ?? 0) + r.length; })"
        ".observe(document.querySelector('td.bid'), { subtree: true, characterData: true, childList: true })"
    )
    for _ in range(5):
        await feed.publish(quote(100.0))
        await asyncio.sleep(0.12)
    await tab.holds(f"tickwire.link.received >= {seen} + 3")
    assert await tab.js("window.bids ?? 0") == 0
    await feed.publish(quote(101.0))
    await tab.holds("window.bids === 1")


async def test_a_hidden_tab_lets_go_of_the_socket(tab: Tab, feed: Feed, gateway: Gateway) -> None:
    await feed.publish(quote(100.0))
    await tab.go()
    await tab.shows("binance", "BTC-USDT", "live")
    hide = (
        "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }"
    )
    await tab.js(hide, True)
    await tab.holds("tickwire.link.state === 'asleep'")
    async with asyncio.timeout(20):
        while len(gateway.runtime.clients):
            await asyncio.sleep(0.05)
    await feed.publish(quote(200.0))
    await tab.js(hide, False)
    await tab.holds("document.querySelector('td.bid').textContent.startsWith('200')")
    await tab.shows("binance", "BTC-USDT", "live")
    assert not await tab.page.locator("#banner").is_visible() and tab.complained() == []


async def test_states_of_a_symbol_come_and_go_as_words(tab: Tab, feed: Feed) -> None:
    await feed.publish(quote(100.0), quote(200.0, symbol="ETH-USDT"))
    await tab.go()
    await tab.shows("binance", "BTC-USDT", "live")
    await feed.publish(status("resyncing", "BTC-USDT", "book"), withdraw=["quote:binance:BTC-USDT"])
    await tab.shows("binance", "BTC-USDT", "resyncing")
    assert await tab.cell("binance", "BTC-USDT", "bid") == NONE, "what came out of a bad book is not shown"
    await tab.shows("binance", "ETH-USDT", "live")
    await feed.publish(status("live", "BTC-USDT"), quote(101.0))
    await tab.shows("binance", "BTC-USDT", "live")
    await feed.publish(status("stale", "BTC-USDT"))
    await tab.shows("binance", "BTC-USDT", "stale")
    # A quote the venue sends itself was not withdrawn: it is there again although none came since.
    await feed.publish(status("live", "BTC-USDT"))
    await tab.shows("binance", "BTC-USDT", "live")
    assert float(await tab.cell("binance", "BTC-USDT", "bid")) == 101
    await feed.publish(status("stale"))
    await tab.shows("binance", "ETH-USDT", "stale")
    colours = await tab.js("[...document.querySelectorAll('td .state')].map((e) => getComputedStyle(e).color)")
    await feed.publish(status("live"))
    await tab.shows("binance", "ETH-USDT", "live")
    assert await tab.js("getComputedStyle(document.querySelector('td .state')).color") not in colours
    assert tab.complained() == []


def candle(kind: type[Candle], venue: str, close: float, back: int = 0) -> Candle:
    """Return the present minute, or one so many minutes ago."""
    now, minute = time.time_ns(), 60_000_000_000
    return kind(
        **head(venue, "BTC-USDT"), start=now - now % minute - back * minute, open=100.0, high=200.0, low=50.0,
        close=close, volume=1.0, notional=close, vwap=close, trades=1, buy_trades=1, sell_trades=0, buy_volume=1.0,
        sell_volume=0.0, buy_notional=close, sell_notional=0.0, source="trades", revision=0,
    )  # fmt: skip


async def test_an_open_candle_that_may_miss_trades_is_not_shown(tab: Tab, feed: Feed, redis_url: str) -> None:
    bars, closes = (
        "tickwire.parts.candles.feed.bars",
        "[...tickwire.parts.candles.feed.bars.values()].map(b => b.close)",
    )
    await feed.publish(quote(100.0), candle(FORMING, "binance", 101.0), status("live", "BTC-USDT"))
    await tab.go("BTC-USDT?venue=binance")
    await tab.holds(f"{closes}.at(-1) === 101")
    await feed.publish(status("stale", "BTC-USDT"))
    await tab.holds(f"{bars}.size === 0")
    await feed.publish(status("live", "BTC-USDT"), candle(FORMING, "binance", 102.0))
    await tab.holds(f"{closes}.at(-1) === 102")
    await feed.publish(status("live", "BTC-USDT", "trade"))  # some were lost
    await tab.holds(f"{bars}.size === 0")
    async with Feed(redis_url, "all") as merged:
        whole = Quote(
            **head("all", "BTC-USDT"), bid=100.0, bid_size=3.0, ask=100.0125, ask_size=1.0, microprice=100.00234567,
            venues=["binance", "okx"],
        )  # fmt: skip
        await feed.list_instruments(
            Instrument(
                venue="binance", venue_symbol="BTCUSDT", symbol="BTC-USDT", kind="spot", base="BTC", quote="USDT",
                tick_size=0.0125,
            )
        )  # fmt: skip
        await merged.publish(whole, candle(CANDLE_TYPES["1m"], "all", 99.0, 2), candle(FORMING, "all", 103.0))
        await tab.page.reload()
        await tab.go("BTC-USDT?venue=all")
        await tab.holds(f"{closes}.at(-1) === 103")
        await tab.holds("document.querySelector('.measures td')?.textContent === '100.00235'")
        await merged.publish(replace(whole, venues=["binance"]))
        await tab.holds(f"{closes}.join() === '99'")
    assert tab.complained() == []


async def test_consolidated_rows_come_first_and_speak_for_their_venues(tab: Tab, feed: Feed, redis_url: str) -> None:
    whole = Quote(
        **head("all", "BTC-USDT"), bid=100.0, bid_size=3.0, ask=100.0, ask_size=1.0, bid_venue="okx",
        ask_venue="binance", market="locked",
    )  # fmt: skip
    day = Ticker(
        **head("binance", "BTC-USDT"), last_price=110.0, open_price=100.0, high_price=111.0, low_price=99.0,
        volume=5.0, quote_volume=500.0, bid_price=None, ask_price=None,
    )  # fmt: skip
    async with Feed(redis_url, "all") as merged:
        await feed.publish(quote(100.0), day)
        await merged.publish(whole)
        await tab.go()
        await tab.shows("consolidated", "BTC-USDT", "live")
        await tab.shows("binance", "BTC-USDT", "live")
        venues = await tab.page.locator("tbody[data-symbol] td.venue").all_inner_texts()
        assert venues == ["consolidated", "binance"]
        assert await tab.cell("consolidated", "BTC-USDT", "bps") == "locked"
        assert await tab.page.locator("tr.all td.bid").get_attribute("title") == "at okx"
        await tab.holds("document.querySelector('tr.all td.change').textContent === '+10.00 %'")
        await tab.page.locator("#merged").check()
        assert await tab.page.locator("tbody tr:visible").count() == 1
    assert tab.complained() == []


async def test_text_stays_text(tab: Tab, feed: Feed) -> None:
    evil = "<img/src=x/onerror=alert(1)>"
    name = evil.replace("/", "~2F")
    row = Instrument(
        venue="binance", venue_symbol=evil, symbol=name, kind="spot", base=evil, quote="USDT", name=evil,
        tick_size=1e-8, status=evil,
    )  # fmt: skip
    await feed.list_instruments(row)
    await feed.publish(quote(1.0, symbol=name), trade(1, symbol=name), status("stale", name))
    dialogs: list[str] = []
    tab.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    await tab.go()
    await tab.shows("binance", name, "stale")
    for route in ("instruments?text=" + "%3Cimg", "%3Cimg~2Fsrc%3Dx~2Fonerror%3Dalert(1)%3E", "venues"):
        await tab.go(route)
        await tab.holds("document.querySelector('main h1') !== null")
        await tab.holds("document.querySelectorAll('main tbody tr').length > 0")
    assert await tab.page.locator("main img").count() == 0 and dialogs == [] and tab.complained() == []


async def test_numbers_as_people_read_them(tab: Tab) -> None:
    await tab.go()
    cases: list[tuple[str, list[Any], str]] = [
        ("price", [58000.1, 2], "58000.10"), ("price", [58000.125, 2], "58000.125"), ("price", [None, 2], NONE),
        ("price", [7.4e-7, 11], "0.00000074000"), ("price", [0, 1], "0.0"), ("price", [-37.63, 2], "-37.63"),
        ("decimalsOf", [1e-8], "8"), ("decimalsOf", [0.25], "2"), ("decimalsOf", [10], "0"),
        ("decimalsOf", [2.5e-7], "8"), ("size", [0], "0.0000"), ("size", [None], NONE),
        ("size", [219860000], "219.86M"), ("size", [0.000003], "0.000003"), ("size", [0.0441], "0.04410"),
        ("size", [3155], "3155.0"), ("percent", [-6.504], "\u22126.50 %"), ("percent", [0.001], "0.00 %"),
        ("percent", [None], NONE), ("bps", [0.0123], "0.012"), ("bps", [54.23], "54.2"), ("age", [None], NONE),
        ("age", [-50], "0.0 s"), ("age", [65_000], "65 s"), ("age", [7_200_000], "2 h"), ("ms", [0.36], "0.36 ms"),
        ("ms", [2500], "2.5 s"),
    ]  # fmt: skip
    base = await tab.js("document.querySelector('script[type=module]').src.replace('main.js', 'format.js')")
    got = await tab.js(
        "([url, cases]) => import(url).then((m) => cases.map(([name, args]) => String(m[name](...args))))",
        [base, [case[:2] for case in cases]],
    )
    assert got == [text for _, _, text in cases]
