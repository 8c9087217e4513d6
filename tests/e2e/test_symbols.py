"""Symbols that come and go while a feed runs: SIGHUP, the settings read again, nobody else disturbed."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.e2e.recorded import log_of, newest
from tests.e2e.stack import DEMO, Part, Stack, until

SESSION = DEMO / "cryptofeed_2021-04-04"
KINDS = ("trade", "quote", "book", "depth", "status")


class Configured(Stack):
    """A stack whose symbols stand in a file."""

    def write(self, symbols: Sequence[str]) -> None:
        listed = ", ".join(f'"{symbol}"' for symbol in symbols)
        (self.folder / "hub.toml").write_text(f"[venues.binance]\nsymbols = [{listed}]\n", encoding="utf-8")

    async def configured_feed(self, symbols: Sequence[str]) -> Part:
        self.symbols = list(symbols)
        self.write(symbols)
        self.env.pop("TICKWIRE_VENUES__BINANCE__SYMBOLS", None)
        self.env["TICKWIRE_CONFIG"] = str(self.folder / "hub.toml")
        part = await self._add(f"feed{len(self.parts)}", "feeds", "binance")

        async def reported() -> bool:
            report = await self.report()
            return bool(report.get("connections")) and report["books_live"] == len(symbols)

        await until(reported, "every book is live")
        return part

    async def change(self, feed: Part, symbols: Sequence[str]) -> None:
        self.write(symbols)
        assert feed.process is not None
        feed.process.send_signal(signal.SIGHUP)

    async def report(self) -> dict[str, Any]:
        value: Any = await self.redis.get("md:feed:binance")
        report: dict[str, Any] = msgspec.json.decode(value) if value else {}
        return report

    async def channels(self, symbol: str) -> set[str]:
        """Return the kinds of `symbol` that are listed."""
        members: Any = await self.redis.smembers("md:channels")
        return {name.split(":")[0] for name in map(bytes.decode, members) if name.endswith(f":binance:{symbol}")}


async def test_sighup_changes_what_changed_and_nothing_else(tmp_path: Path, redis_url: str) -> None:
    async with Configured(tmp_path, redis_url, [SESSION], []) as hub:
        await hub.venue(speed=3)
        feed = await hub.configured_feed(["BTC-USDT", "DOT-USDT"])
        epoch = await hub.epoch()
        (connection,) = (await hub.report())["connections"]
        assert await hub.channels("DOT-USDT") >= {"book", "depth", "quote", "status"}
        async with hub.redis.pubsub() as pubsub:
            await pubsub.subscribe("md:status:binance:DOT-USDT")
            await hub.change(feed, ["BTC-USDT", "ETH-USDT"])

            async def changed() -> bool:
                report = await hub.report()
                return (report["symbols"], report["books_live"]) == (["BTC-USDT", "ETH-USDT"], 2)

            await until(changed, "the other symbol is served")
            await pubsub.get_message(timeout=30)
            message: Any = await pubsub.get_message(ignore_subscribe_messages=True, timeout=30)
            status = msgspec.json.decode(message["data"])
            assert (status["state"], status["reason"]) == ("down", "no longer in the settings")
        assert not await hub.redis.exists(*(f"md:{kind}:binance:DOT-USDT" for kind in KINDS))
        assert await hub.channels("DOT-USDT") == set()
        assert await hub.channels("ETH-USDT") >= {"book", "depth", "quote", "status"}
        report = await hub.report()
        assert (report["books_wanted"], report["counters"]["reconnects"]) == (2, 0)
        (same,) = report["connections"]
        assert same["since"] == connection["since"]
        assert (same["requested"], same["acked"]) == (8, 8)
        assert await hub.epoch() == epoch
        for kind in ("trade", "book"):
            log = await log_of(hub.redis, f"{kind}:binance:BTC-USDT")
            assert [m["id"] for m in log] == [f"{epoch}-{number}" for number in range(1, len(log) + 1)]
        snapshots = [m for m in await log_of(hub.redis, "book:binance:BTC-USDT") if m["action"] == "snapshot"]
        assert len(snapshots) == 1
        assert [m["state"] for m in await log_of(hub.redis, "status:binance:BTC-USDT")] == ["resyncing", "live"]


async def test_a_symbol_that_comes_back_is_listed_again(tmp_path: Path, redis_url: str) -> None:
    async with Configured(tmp_path, redis_url, [SESSION], []) as hub:
        await hub.venue(speed=2)
        feed = await hub.configured_feed(["BTC-USDT", "DOT-USDT"])
        await hub.change(feed, ["BTC-USDT"])

        async def gone() -> bool:
            return not await hub.channels("DOT-USDT")

        await until(gone, "the symbol is gone")
        await hub.change(feed, ["BTC-USDT", "DOT-USDT"])
        await until(hub.books_live, "the book is back")
        assert await hub.channels("DOT-USDT") >= {"book", "depth", "quote", "status"}
        log = await log_of(hub.redis, "book:binance:DOT-USDT")
        numbers = [int(m["id"].partition("-")[2]) for m in log]
        assert numbers == list(range(1, len(log) + 1))


async def test_settings_that_are_wrong_change_nothing(tmp_path: Path, redis_url: str) -> None:
    async with Configured(tmp_path, redis_url, [SESSION], []) as hub:
        await hub.venue(speed=2)
        feed = await hub.configured_feed(["BTC-USDT"])
        (tmp_path / "hub.toml").write_text("[venues.binance]\nsymbol = []\n", encoding="utf-8")
        assert feed.process is not None
        feed.process.send_signal(signal.SIGHUP)

        async def said() -> bool:
            return "settings not taken over" in feed.logged()

        await until(said, "the error is logged")
        await hub.change(feed, ["BTC-USDT", "NO-SUCH"])

        async def left_out() -> bool:
            return "not listed by the venue" in feed.logged()

        await until(left_out, "the unknown symbol is logged")
        assert (await hub.report())["symbols"] == ["BTC-USDT"]
        assert feed.process.returncode is None


async def test_what_an_earlier_run_left_behind_is_taken_away(tmp_path: Path, redis_url: str) -> None:
    """A newest value that nobody renews would pass for current."""
    async with Configured(tmp_path, redis_url, [SESSION], []) as hub:
        await hub.venue("--loop", speed=3)
        feed = await hub.configured_feed(["BTC-USDT", "DOT-USDT"])
        assert await newest(hub.redis, "quote:binance:DOT-USDT")
        await feed.end(signal.SIGKILL)
        await hub.redis.delete("md:lease:binance")
        await hub.redis.delete("md:feed:binance")
        await hub.configured_feed(["BTC-USDT"])
        assert not await hub.redis.exists(*(f"md:{kind}:binance:DOT-USDT" for kind in KINDS))
        assert await hub.channels("DOT-USDT") == set()
        assert await hub.channels("BTC-USDT") >= {"book", "quote"}
