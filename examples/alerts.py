"""Alerts: watch prices, spreads, imbalances and the health of the data, and POST to a webhook.

    python examples/alerts.py examples/alerts.toml

Each rule fires when its condition becomes true, and not again within `debounce_s`. Data that is not `live` fires
nothing but `stale` rules: a frozen price is no price.
"""

import asyncio
import logging
import sys
import time
import tomllib
from pathlib import Path
from typing import Literal

import aiohttp
import msgspec
from msgspec import Struct

from hub.client import Client, Depth, Gap, Item, Live, Quote, Status, Stream, Trade

logger = logging.getLogger("alerts")

ATTEMPTS = 3


class Rule(Struct, forbid_unknown_fields=True):
    """`cross`: the price (of a trade, or the middle of a quote) passes `value`, `above` or `below`. `spread`: it is
    wider than `value` (1/10,000 of mid). `imbalance`: best bid's share against best ask's, -1 to 1, is beyond `value`
    in either direction. `stale`: the channel is not live for longer than `for_s`."""

    name: str
    kind: Literal["cross", "spread", "imbalance", "stale"]
    channel: str
    value: float = 0.0
    direction: Literal["above", "below"] = "above"
    for_s: float = 0.0


class Settings(Struct, forbid_unknown_fields=True):
    webhook: str
    rules: list[Rule]
    url: str = "http://127.0.0.1:8000"
    debounce_s: float = 60.0


class Alert(Struct):
    """What the webhook gets. `ts` is unix time in s."""

    rule: str
    channel: str
    text: str
    value: float | None
    ts: float


class Watched:
    """A rule and what it remembers."""

    def __init__(self, rule: Rule, debounce_s: float) -> None:
        self.rule, self.debounce_s = rule, debounce_s
        self.was: bool | None = None  # None: nothing seen yet
        self.fired_at = -debounce_s
        self.bad_since: float | None = None

    def judge(self, holds: bool, text: str, value: float | None, now: float) -> Alert | None:
        """Return an alert where the condition has become true and the last one is long enough ago."""
        # A price that is beyond the line when the first one is seen has not crossed it.
        before, self.was = self.was, holds
        if not holds or before or (before is None and self.rule.kind == "cross"):
            return None
        if now - self.fired_at < self.debounce_s:
            return None
        self.fired_at = now
        return Alert(self.rule.name, self.rule.channel, text, value, time.time())


def value_of(rule: Rule, item: Item) -> float | None:
    """Return the number the rule is about; None where the item has none."""
    match item:
        case Trade() if rule.kind == "cross":
            return item.price
        case Quote(bid=bid, ask=ask) if bid is not None and ask is not None:
            if rule.kind == "cross":
                return (bid + ask) / 2
            if rule.kind == "spread":
                return (ask - bid) / ((ask + bid) / 2) * 10_000
            if rule.kind == "imbalance" and item.bid_size and item.ask_size:
                return (item.bid_size - item.ask_size) / (item.bid_size + item.ask_size)
        case Depth() if rule.kind == "imbalance":
            bids, asks = (sum(size for _, size in side) for side in (item.bids, item.asks))
            return (bids - asks) / (bids + asks) if bids + asks else None
    return None


def holds(rule: Rule, value: float) -> bool:
    if rule.kind == "imbalance":
        return abs(value) > rule.value
    return value < rule.value if rule.kind == "cross" and rule.direction == "below" else value > rule.value


class Alerts:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.watched: dict[str, list[Watched]] = {}
        for rule in settings.rules:
            self.watched.setdefault(rule.channel, []).append(Watched(rule, settings.debounce_s))
        self.outbox: asyncio.Queue[Alert] = asyncio.Queue(1000)

    def take(self, item: Item, stream: Stream, now: float) -> None:
        if isinstance(item, Gap):
            logger.warning("gap channel=%s last=%s", item.channel, item.last)
            return
        if isinstance(item, Status):
            logger.info("status venue=%s symbol=%s state=%s %s", item.venue, item.symbol, item.state, item.reason)
            return
        if isinstance(item, Live):
            return  # the end of a replay, which nobody asked for here
        channel = f"{item.__struct_config__.tag}:{item.venue}:{item.symbol}"
        if stream.state(channel)[0] != "live":
            return
        for watched in self.watched.get(channel, ()):
            value = value_of(watched.rule, item)
            if value is not None:
                text = f"{watched.rule.kind} {channel}: {value:g}"
                self.send(watched.judge(holds(watched.rule, value), text, value, now))

    def check_states(self, stream: Stream, now: float) -> None:
        for channel, rules in self.watched.items():
            state, reason = stream.state(channel)
            for watched in rules:
                if watched.rule.kind != "stale":
                    continue
                watched.bad_since = None if state == "live" else now if watched.bad_since is None else watched.bad_since
                late = watched.bad_since is not None and now - watched.bad_since >= watched.rule.for_s
                self.send(watched.judge(late, f"{channel} is {state}: {reason}", None, now))

    def send(self, alert: Alert | None) -> None:
        if alert is None:
            return
        logger.info("alert %s: %s", alert.rule, alert.text)
        try:
            self.outbox.put_nowait(alert)
        except asyncio.QueueFull:
            logger.error("the webhook is too slow: alert %s is lost", alert.rule)

    async def watch(self) -> None:
        async with Client(self.settings.url) as hub, hub.stream(*self.watched) as stream:
            while True:
                try:
                    async with asyncio.timeout(0.5):
                        for item in await stream.batch():
                            self.take(item, stream, time.monotonic())
                except TimeoutError:
                    pass
                if stream.ready:
                    self.check_states(stream, time.monotonic())

    async def post(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            while True:
                alert = await self.outbox.get()
                for attempt in range(ATTEMPTS):
                    try:
                        async with session.post(self.settings.webhook, json=msgspec.to_builtins(alert)) as response:
                            if response.status < 400:
                                break
                            logger.warning("webhook answered %d", response.status)
                    except (aiohttp.ClientError, TimeoutError) as error:
                        logger.warning("webhook failed: %s", error)
                    await asyncio.sleep(2**attempt)
                else:
                    logger.error("alert %s could not be delivered", alert.rule)


async def main(settings: Settings) -> None:
    alerts = Alerts(settings)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(alerts.watch())
        tasks.create_task(alerts.post())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/alerts.py CONFIG.toml")
    try:
        text = Path(sys.argv[1]).read_text(encoding="utf-8")
        configured = msgspec.convert(tomllib.loads(text), Settings)
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as unreadable:
        sys.exit(f"alerts: {sys.argv[1]}: {unreadable}")
    try:
        asyncio.run(main(configured))
    except KeyboardInterrupt:
        sys.exit(130)
