"""The REST interface against its own OpenAPI document: requests made up by schemathesis, a bounded number of them."""

import asyncio
import re
import sys
from pathlib import Path

from hub.instruments import Instrument
from tests.gateway.kit import Feed, Gateway, book, quote, status, trade

CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 15


async def test_answers_are_as_documented_whatever_is_asked(feed: Feed, gateway: Gateway, tmp_path: Path) -> None:
    row = Instrument(venue="binance", venue_symbol="BTCUSDT", symbol="BTC-USDT", kind="spot", base="BTC", quote="USDT")
    await feed.list_instruments(row)
    await feed.publish(trade(1), quote(), book([(1.0, 1.0)], [(2.0, 1.0)], "snapshot"), status("live"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run",
        f"{gateway.http}/schema/openapi.json", "--max-examples", str(EXAMPLES), "--seed", "1", "--no-color",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 110)
    report = out.decode()
    assert process.returncode == 0, report
    assert "Selected: 14/14" in report, report
    assert re.search(r"(\d{3,}) generated, \1 passed", report), report
