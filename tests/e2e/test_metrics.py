"""Every process serves its metrics, and what alerts and dashboard ask for is there."""

import json
import re
import subprocess
from pathlib import Path

import aiohttp

from tests.e2e.stack import DEMO, ROOT, Stack, until
from tests.ports import free_port

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "tickwire.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
OWN = re.compile(r"\btickwire_[a-z0-9_]+")
#: Lines of feed, instruments, consolidator and gateway, as patterns.
TOLD = (
    (
        r'^tickwire_feed_books_live{venue="binance"} 1.0',
        r'^tickwire_feed_messages_total{kind="trade",venue="binance"} \d+',
        r'^tickwire_feed_events_total{event="wire_errors",venue="binance"} 0.0',
        r'^tickwire_feed_events_total{event="trades_lost",venue="binance"} 0.0',
        r'^tickwire_feed_received_bytes_total{venue="binance"} \d{5,}',
        r'^tickwire_publisher_hub_to_redis_seconds_bucket{le="\+Inf",venue="binance"} [1-9]',
    ),
    (r'^tickwire_instruments{venue="binance"} \d+',),
    (r'^tickwire_feed_messages_total{kind="quote",venue="all"} \d+',),
    (r'^tickwire_gateway_venue_state{state="live",venue="binance"} 1.0', "^tickwire_gateway_queue_bytes 0.0"),
)


def asked_for() -> set[str]:
    """Names of series in alerts and dashboard."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    rules = re.findall(r"expr: (.*(?:\n {10,}.*)*)", ALERTS.read_text())
    assert len(expressions) > 15
    assert len(rules) > 10
    return set(OWN.findall("\n".join([*expressions, *rules])))


async def scraped(url: str) -> str:
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        assert answer.status == 200
        return await answer.text()


async def test_all_that_is_watched_is_measured(tmp_path: Path, redis_url: str) -> None:
    ports = {name: free_port() for name in ("feeds", "feeds.instruments", "hub.consolidator")}
    async with Stack(tmp_path, redis_url, [DEMO / "cryptofeed_2021-04-04"], ["BTC-USDT"]) as stack:
        await stack.venue("--shift", "--loop")
        stack.env["TICKWIRE_METRICS__PORT"] = str(ports["feeds"])
        await stack.feed()
        for module in ("feeds.instruments", "hub.consolidator"):
            stack.env = {**stack.env, "TICKWIRE_METRICS__PORT": str(ports[module])}
            await stack._add(module, module)
        await stack.gateway()
        urls = [*(f"http://127.0.0.1:{port}/metrics" for port in ports.values()), f"{stack.rest}/metrics"]
        async with aiohttp.ClientSession() as http, http.ws_connect(stack.ws) as reader:
            await reader.send_str('{"op":"subscribe","channels":["quote:binance:BTC-USDT","trade:*:*"],"id":1}')
            gateway = ""

            async def timed() -> bool:
                nonlocal gateway
                await reader.receive(10)
                gateway = await scraped(urls[-1])
                counted = re.search(r"^tickwire_gateway_redis_to_client_seconds_count (\S+)", gateway, re.MULTILINE)
                return counted is not None and float(counted[1]) > 2

            await until(timed, "messages were timed on their way to a client", 90)
        texts: list[str] = []
        for url, lines in zip(urls, TOLD, strict=True):

            async def tells(url: str = url, lines: tuple[str, ...] = lines) -> bool:
                text = await scraped(url)
                return all(re.search(line, text, re.MULTILINE) for line in lines)

            await until(tells, f"{url} tells {lines}")
            texts.append(await scraped(url))
    memory = re.search(r"^tickwire_gateway_redis_used_memory_bytes (\S+)", gateway, re.MULTILINE)
    assert memory is not None
    assert float(memory[1]) > 100_000
    there = set(re.findall(r"^(tickwire_[a-z0-9_]+)", "\n".join(texts), re.MULTILINE))
    assert asked_for() - there == set()
    for text in texts:
        said = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
        ours = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("tickwire_")]
        assert ours == []
