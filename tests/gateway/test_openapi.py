"""The REST interface against its own OpenAPI document: requests made up by schemathesis, a bounded number of them."""

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from hub.instruments import Instrument
from tests.gateway.kit import Feed, Gateway, book, gateway_on, quote, status, trade
from tests.gateway.tokens import SECRET, mint

CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 15


async def fill(feed: Feed) -> None:
    row = Instrument(venue="binance", venue_symbol="BTCUSDT", symbol="BTC-USDT", kind="spot", base="BTC", quote="USDT")
    await feed.list_instruments(row)
    await feed.publish(trade(1), quote(), book([(1.0, 1.0)], [(2.0, 1.0)], "snapshot"), status("live"))


async def operations(gateway: Gateway) -> dict[str, Any]:
    """Return the operations of the document by path."""
    _, document = await gateway.get("/schema/openapi.json")
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    return {path: item["get"] for path, item in document["paths"].items()}


async def run(gateway: Gateway, folder: Path, *arguments: str) -> None:
    count = len(await operations(gateway))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run",
        f"{gateway.http}/schema/openapi.json", "--max-examples", str(EXAMPLES), "--seed", "1", "--no-color",
        *arguments, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 240)
    report = out.decode()
    assert process.returncode == 0, report
    assert f"Selected: {count}/{count}" in report, report
    assert re.search(r"(\d{3,}) generated, \1 passed", report), report


async def test_answers_are_as_documented_whatever_is_asked(feed: Feed, gateway: Gateway, tmp_path: Path) -> None:
    await fill(feed)
    await run(gateway, tmp_path)


@pytest.mark.parametrize("channels", ["*", "quote:*:BTC-USDT"])
async def test_likewise_where_tokens_are_needed(redis_url: str, feed: Feed, tmp_path: Path, channels: str) -> None:
    """What is said to need a token is refused without one and with a wrong one: that is one of the checks made."""
    await fill(feed)
    async with gateway_on(redis_url, auth={"secret": SECRET}, limits={"requests_per_s": 0}) as gateway:
        await run(gateway, tmp_path, "--header", f"Authorization: Bearer {mint(channels)}")


async def test_what_needs_a_token_says_so(redis_url: str, gateway: Gateway) -> None:
    async with gateway_on(redis_url, auth={"secret": SECRET}) as guarded:
        for asks, found in ((False, await operations(gateway)), (True, await operations(guarded))):
            public = {path for path, operation in found.items() if "security" not in operation}
            assert public == {"/health/live", "/health/ready"}
            for path in found.keys() - public:
                assert found[path]["security"] == ([{"bearer": []}] if asks else [{}, {"bearer": []}])
                assert {"400", "401", "403", "404", "429", "503"} <= found[path]["responses"].keys()
        for path in found.keys() - public:
            assert (await guarded.get(path.replace("{symbol}", "X").replace("{venue}", "x")))[0] == 401
        for path in public:
            assert (await guarded.get(path))[0] == 200
