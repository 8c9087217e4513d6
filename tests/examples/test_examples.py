"""The examples as their users run them: processes of their own, on a real gateway, with their effect on the outside."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from hub.model import Depth, Level, Quote
from tests.e2e.stack import DEMO, ROOT, Stack, until
from tests.gateway.kit import Feed, gateway_on, head, quote
from tests.ports import free_port

SESSION = DEMO / "cryptofeed_2021-04-04"


@asynccontextmanager
async def running(*argv: str, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", *argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_with(process: asyncio.subprocess.Process, word: str) -> str:
    """Return the next line of output that holds `word`."""
    assert process.stdout is not None
    seen = []
    async with asyncio.timeout(40):
        async for line in process.stdout:
            seen.append(line.decode())
            if word in seen[-1]:
                return seen[-1].strip()
    raise AssertionError(f"ended without {word!r}: {''.join(seen)}")


@asynccontextmanager
async def webhook(failing: int = 0) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """A server that notes what is posted to it, after refusing the first `failing` times."""
    posted: list[dict[str, Any]] = []
    calls = 0

    async def take(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        if calls <= failing:
            return web.Response(status=500)
        posted.append(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/alerts", take)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}/alerts", posted
    finally:
        await runner.cleanup()


def write_rules(path: Path, url: str, hook: str, *rules: str) -> None:
    text = f'url = "{url}"\nwebhook = "{hook}"\ndebounce_s = 600\n'
    path.write_text(text + "".join(f"[[rules]]\n{rule}\n" for rule in rules))


async def test_alerts_reach_the_webhook_once_each(tmp_path: Path, redis_url: str) -> None:
    config = tmp_path / "alerts.toml"
    async with Feed(redis_url) as feed, gateway_on(redis_url) as gateway, webhook(failing=1) as (hook, posted):
        channel = 'channel = "quote:binance:BTC-USDT"\n'
        write_rules(
            config, gateway.http, hook,
            'name = "up"\nkind = "cross"\nvalue = 100.0\n' + channel,
            'name = "never"\nkind = "cross"\nvalue = 1.0\ndirection = "below"\n' + channel,
            'name = "wide"\nkind = "spread"\nvalue = 500.0\n' + channel,
            'name = "lean"\nkind = "imbalance"\nvalue = 0.3\n' + channel,
            'name = "gone"\nkind = "stale"\n' + channel,
        )  # fmt: skip
        await feed.publish(quote(50.0))
        async with running("examples/alerts.py", str(config)) as process:

            async def got(names: set[str]) -> bool:
                # Prices go on, as a market's do: the first ones may come before anybody listens.
                for bid in (50.0, 150.0, 50.0, 150.0) if "gone" not in names else ():
                    await feed.publish(quote(bid))
                return names <= {alert["rule"] for alert in posted}

            await until(lambda: got({"up", "lean"}), "prices and imbalance are told", 40)
            await feed.publish(Quote(**head("binance", "BTC-USDT"), bid=100.0, bid_size=1.0, ask=120.0, ask_size=1.0))
            await until(lambda: got({"wide"}), "the spread is told", 40)
            await feed.redis.delete(feed.keys.alive("binance"))
            await until(lambda: got({"gone"}), "the dead feed is told", 40)
            assert process.returncode is None
        assert sorted(alert["rule"] for alert in posted) == ["gone", "lean", "up", "wide"]  # once each: debounced
        up = next(alert for alert in posted if alert["rule"] == "up")
        assert (up["channel"], up["value"]) == ("quote:binance:BTC-USDT", 150.5)
        assert "down" in next(alert["text"] for alert in posted if alert["rule"] == "gone")


async def test_the_alerts_of_the_repository_can_be_read_and_mistakes_are_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    write_rules(wrong, "http://127.0.0.1:9", "http://127.0.0.1:9", 'name = "x"\nkind = "cros"\nchannel = "quote:a:B"')
    async with running("examples/alerts.py", str(wrong)) as process:
        assert "Invalid enum value 'cros'" in await line_with(process, "alerts:")
        assert await process.wait() == 1
    rules = "msgspec.convert(tomllib.load(open('examples/alerts.toml', 'rb')), alerts.Settings).rules"
    code = f"import msgspec, tomllib; from examples import alerts; print(len({rules}), 'rules')"
    async with running("-c", code) as process:
        assert await line_with(process, "rules") == "4 rules"


async def test_the_bot_trades_on_live_data_alone(redis_url: str) -> None:
    def consolidated(bid_size: float, ask_size: float) -> Quote:
        sizes: dict[str, Any] = {"bid": 99.0, "bid_size": bid_size, "ask": 101.0, "ask_size": ask_size}
        return Quote(**head("all", "BTC-USDT"), **sizes, bid_venue="okx", ask_venue="kraken", venues=["kraken", "okx"])

    asks: list[Level] = [(101.0, 1.0), (103.0, 5.0)]
    depth = Depth(**head("all", "BTC-USDT"), bids=[(99.0, 4.0)], asks=asks)
    async with Feed(redis_url, venue="all") as feed, gateway_on(redis_url) as gateway:
        await feed.publish(depth, consolidated(1.0, 1.0))
        async with running("examples/bot.py", "BTC-USDT", "--size", "2", "--url", gateway.http) as process:
            await line_with(process, "TRADING BTC-USDT")
            going = asyncio.create_task(_go_on(feed, lambda: [depth, consolidated(9.0, 1.0)]))
            try:
                bought = await line_with(process, "WOULD")
                # 1 at 101 and 1 at 103
                assert bought == "WOULD BUY 2 BTC-USDT at 102, best at kraken; position 2"
                going.cancel()
                await feed.redis.delete(feed.keys.alive("all"))
                assert "down (the feed has no pulse)" in await line_with(process, "STOPPED")
                await feed.pulse()
                await line_with(process, "TRADING")
                going = asyncio.create_task(_go_on(feed, lambda: [depth, consolidated(1.0, 9.0)]))
                sold = await line_with(process, "WOULD")
                assert sold == "WOULD SELL 2 BTC-USDT at 99, best at okx; position 0"
            finally:
                going.cancel()


async def _go_on(feed: Feed, messages: Any) -> None:
    while True:
        await feed.publish(*messages())
        await asyncio.sleep(0.05)


async def test_the_notebook_runs_on_replayed_data(tmp_path: Path, redis_url: str) -> None:
    async with Stack(tmp_path, redis_url, [SESSION], ["BTC-USDT"]) as hub:
        await hub.venue("--loop", "--shift", speed=5)
        await hub.feed()
        await hub.gateway()

        async def candles() -> bool:
            body = await hub.get(f"{hub.rest}/v1/candles/BTC-USDT?venue=binance&interval=10s")
            return body is not None and len(msgspec.json.decode(body)["venues"][0]["candles"]) >= 2

        await until(candles, "there are two candles", 60)
        async with running("examples/notebook.py", TICKWIRE_URL=hub.rest) as process:
            output, _ = await asyncio.wait_for(process.communicate(), 60)
            text = output.decode()
            assert process.returncode == 0, text
        for expected in ("binance  live", "candles of 10 s are", "buy ", "sell "):
            assert expected in text
        quotes = text.rpartition("time  ")[2].strip().splitlines()
        assert len(quotes) == 10 and all(float(line.split()[-1]) > 1000 for line in quotes)
