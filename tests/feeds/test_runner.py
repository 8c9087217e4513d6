"""feeds/runner.py and feeds/shard.py against the replay server: nothing lost, nothing twice, nobody disturbed."""

import asyncio
import gzip
import logging
from pathlib import Path
from typing import Any

import pytest

from feeds import runner, shard
from feeds.connection import Connection
from feeds.registry import adapter_of
from feeds.venues.binance import Binance
from feeds.venues.deribit import Deribit
from hub.model import Trade
from tests.feeds.replaying import FIRST, LISTING, cut, payloads
from tests.feeds.running import Books, Running, followed, limited
from tests.feeds.venues.plays import DATA, of, play

SYMBOLS = ["BTC-USDT", "ETH-USDT", "DOT-USDT"]
DERIBIT = DATA / "deribit" / "cryptofeed_2021-07-22"


def binance(tmp_path: Path, seconds: float = 24, symbols: list[str] = SYMBOLS, **server: Any) -> Running:
    options: dict[str, Any] = {"speed": 6, **server}
    session = cut(FIRST, tmp_path / "s", seconds)
    return Running(options.pop("adapter", Binance), session, symbols, instruments=LISTING, **options)


def recorded_trades(session: Path) -> dict[str, list[str]]:
    """Return the ids of Binance's trades by its spelling, in order."""
    found: dict[str, list[str]] = {}
    for frame in payloads(session):
        if frame["data"]["e"] == "aggTrade":
            found.setdefault(frame["data"]["s"], []).append(str(frame["data"]["a"]))
    return found


def told_trades(trades: list[Trade]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for trade in trades:
        found.setdefault(trade.symbol.replace("-", ""), []).append(trade.trade_id)
    return found


def top(books: Books, count: int = 300) -> list[list[tuple[float, float]]]:
    """Return the best levels: inside what every snapshot vouches for, whenever it was taken."""
    return [sorted(books[0].items(), reverse=True)[:count], sorted(books[1].items())[:count]]


def undisturbed(hub: Running) -> None:
    """Nobody was told of a loss: after the first live of a symbol nothing else was said of it."""
    for symbol in hub.symbols:
        states = [status.state for status in hub.heard.statuses(symbol)]
        assert states in (["resyncing", "live"], ["live"], []), f"{symbol}: {states}"
    assert not {"trades_lost", "resyncs", "wire_errors"} & hub.pipeline.counters.keys()


# rotation


async def test_connections_are_replaced_before_the_announced_cut(tmp_path: Path) -> None:
    """serverShutdown comes, the next connection is made ready, then the old one is closed: no trade lost or doubled."""
    async with binance(tmp_path, 48, cut_after_s=4.5, notice_s=3.5) as hub:
        await hub.finished()
        assert hub.rotations >= 2
        assert hub.runner.reconnects == 0
        undisturbed(hub)
        assert told_trades(hub.heard.trades()) == recorded_trades(tmp_path / "s")
        _, messages = play("binance", tmp_path / "s", gzip.decompress(LISTING.read_bytes()))
        for symbol in SYMBOLS:
            assert top(hub.heard.book(symbol)) == top(followed(of(messages, "book", symbol)))


async def test_one_announcement_is_one_rotation(tmp_path: Path) -> None:
    async with binance(tmp_path) as hub:
        await hub.until(lambda: hub.live and hub.heard.trades())
        before = hub.runner.connections
        hub.server.announce_shutdown()
        await hub.until(lambda: hub.rotations == 1)
        assert set(hub.runner.connections).isdisjoint(before)
        await hub.finished()
        undisturbed(hub)
        assert told_trades(hub.heard.trades()) == recorded_trades(tmp_path / "s")


@pytest.mark.parametrize(
    ("venue", "session", "speed"),
    [
        ("deribit", "cryptofeed_2021-07-22", 4),
        ("okx", "cryptofeed_2022-02-27", 4),
        ("kraken", "crossbook_2026-08-02_BTCUSD_d25", 7),
        ("binance_futures", "cryptofeed_2021-07-22", 4),
    ],
)
async def test_connections_are_replaced_before_the_end_of_their_lifetime(
    venue: str, session: str, speed: float
) -> None:
    """Snapshots over the socket and over REST, one endpoint and two."""
    path = DATA / venue / session
    async with Running(limited(adapter_of(venue), lifetime_s=2.5), path, [], speed=speed, cut_after_s=9) as hub:
        await hub.finished()
        assert hub.rotations >= 1
        assert hub.runner.reconnects == 0
        undisturbed(hub)
        assert hub.live
        _, messages = play(venue, path)
        for symbol in hub.symbols:
            told = [trade.trade_id for trade in hub.heard.trades(symbol)]
            assert told == [row["trade_id"] for row in of(messages, "trade", symbol)]
            assert top(hub.heard.book(symbol)) == top(followed(of(messages, "book", symbol)))


async def test_a_cut_without_notice_is_said_and_nothing_is_told_twice(tmp_path: Path) -> None:
    async with binance(tmp_path) as hub:
        await hub.until(lambda: hub.live and hub.heard.trades())
        hub.server.disconnect()
        await hub.until(lambda: hub.runner.reconnects == 1 and hub.live)
        await hub.finished()
        for symbol in SYMBOLS:
            states = [status.state for status in hub.heard.statuses(symbol)]
            assert states[:2] == ["resyncing", "live"]
            assert {"stale", "resyncing"} & set(states[2:]) and states[-1] == "live"
            ids = [trade.trade_id for trade in hub.heard.trades(symbol)]
            assert len(ids) == len(set(ids))


async def test_a_cut_in_the_middle_of_a_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next connection carries on, whatever it has so far; what it lacks is labelled."""
    monkeypatch.setattr(shard, "OVERLAP_S", 30.0)
    async with binance(tmp_path) as hub:
        await hub.until(lambda: hub.live and hub.heard.trades())
        (before,) = hub.runner.connections
        hub.server.announce_shutdown()
        await hub.until(lambda: len(hub.runner.connections) == 2 and hub.runner.connections[1].ready)
        await before.close()
        await hub.until(lambda: hub.rotations == 1)
        await hub.finished()
        undisturbed(hub)
        assert told_trades(hub.heard.trades()) == recorded_trades(tmp_path / "s")


async def test_a_rotation_that_fails_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The books that the next connection had go back to the old one, visibly."""
    monkeypatch.setattr(shard, "READY_TIMEOUT_S", 1.5)
    monkeypatch.setattr(Connection, "ready_but", lambda self, excused: False)
    async with binance(tmp_path) as hub:
        await hub.until(lambda: hub.live and hub.heard.trades())
        (before,) = hub.runner.connections
        hub.server.announce_shutdown()
        await hub.until(lambda: len(hub.runner.connections) == 2)
        await hub.until(lambda: hub.runner.connections == [before])
        await hub.until(lambda: hub.live)
        await hub.finished()
        assert hub.rotations == hub.runner.reconnects == 0
        assert told_trades(hub.heard.trades()) == recorded_trades(tmp_path / "s")
        for symbol in SYMBOLS:
            states = [status.state for status in hub.heard.statuses(symbol)]
            assert states[-1] == "live" and "stale" not in states
        _, messages = play("binance", tmp_path / "s", gzip.decompress(LISTING.read_bytes()))
        for symbol in SYMBOLS:
            assert top(hub.heard.book(symbol)) == top(followed(of(messages, "book", symbol)))


# many symbols


async def test_symbols_are_spread_over_connections(caplog: pytest.LogCaptureFixture) -> None:
    """Three streams a symbol on Deribit: with room for eight, two symbols a connection; opened one after the other."""
    caplog.set_level(logging.INFO, "feeds.runner")
    adapter = limited(Deribit, streams_per_connection=8)
    async with Running(adapter, DERIBIT, [], speed=2) as hub:
        assert len(hub.symbols) == 10
        await hub.until(lambda: hub.live)
        carried = [connection.symbols for connection in hub.runner.connections]
        assert sorted(len(symbols) for symbols in carried) == [2, 2, 2, 2, 2]
        assert set().union(*carried) == set(hub.symbols)
        assert all(len(connection.acked) == 8 for connection in hub.runner.connections)
        opened = sorted(connection.since for connection in hub.runner.connections)
        assert (opened[-1] - opened[0]) / 1e9 > 2 * runner.OPEN_GAP_S
        await hub.until(lambda: any("ready 10/10" in record.message for record in caplog.records))
        assert any(record.message.startswith("ready") and "10/10" not in record.message for record in caplog.records)


async def test_one_shard_that_is_cut_does_not_touch_the_others() -> None:
    adapter = limited(Deribit, streams_per_connection=20)
    async with Running(adapter, DERIBIT, [], speed=2) as hub:
        await hub.until(lambda: hub.live)
        first, second = hub.runner.connections
        await first.close()
        await hub.until(lambda: hub.runner.reconnects == 1 and hub.live)
        assert second in hub.runner.connections
        for symbol in second.symbols:
            assert [status.state for status in hub.heard.statuses(symbol)] == ["resyncing", "live"]
        for symbol in first.symbols:
            assert "stale" in [status.state for status in hub.heard.statuses(symbol)]


# symbols that come and go


def streams_of(hub: Running) -> set[str]:
    return {topic for client in hub.server.clients for topic in client.conversation.topics}


async def test_a_symbol_is_added_to_a_connection_that_has_room(tmp_path: Path) -> None:
    async with binance(tmp_path, 24, SYMBOLS[:2]) as hub:
        await hub.until(lambda: hub.live and hub.heard.trades())
        (connection,) = hub.runner.connections
        hub.runner.add(hub.rows("DOT-USDT"))
        assert [status.state for status in hub.heard.statuses("DOT-USDT")] == ["resyncing"]
        await hub.until(lambda: hub.live and hub.heard.trades("DOT-USDT"))
        assert hub.runner.connections == [connection]
        assert connection.symbols == set(SYMBOLS)
        assert connection.report().requested == connection.report().acked == 12
        await hub.finished()
        undisturbed(hub)
        expected = recorded_trades(tmp_path / "s")
        told = told_trades(hub.heard.trades())
        for symbol in ("BTCUSDT", "ETHUSDT"):
            assert told[symbol] == expected[symbol]
        assert told["DOTUSDT"] == expected["DOTUSDT"][-len(told["DOTUSDT"]) :]


async def test_without_room_it_gets_a_connection_of_its_own(tmp_path: Path) -> None:
    adapter = limited(Binance, streams_per_connection=8)
    async with binance(tmp_path, 24, SYMBOLS[:2], adapter=adapter) as hub:
        await hub.until(lambda: hub.live)
        hub.runner.add(hub.rows("DOT-USDT"))
        await hub.until(lambda: hub.live and len(hub.runner.connections) == 2)
        assert [connection.symbols for connection in hub.runner.connections] == [{"BTC-USDT", "ETH-USDT"}, {"DOT-USDT"}]
        undisturbed(hub)


async def test_an_adapter_that_cannot_learn_gets_a_new_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Binance, "learn", lambda self, rows: False)
    async with binance(tmp_path, 24, SYMBOLS[:2]) as hub:
        await hub.until(lambda: hub.live)
        hub.runner.add(hub.rows("DOT-USDT"))
        await hub.until(lambda: hub.live and len(hub.runner.connections) == 2)
        undisturbed(hub)


async def test_a_symbol_is_removed_and_nobody_else_notices(tmp_path: Path) -> None:
    async with binance(tmp_path) as hub:
        await hub.until(lambda: hub.live and hub.heard.trades("ETH-USDT"))
        (connection,) = hub.runner.connections
        await hub.runner.remove(["ETH-USDT"], "no longer wanted")
        last = hub.heard.statuses("ETH-USDT")[-1]
        assert (last.state, last.reason) == ("down", "no longer wanted")
        told = len([each for each in hub.heard.messages if each.symbol == "ETH-USDT"])
        await hub.until(lambda: not any("ethusdt" in stream for stream in streams_of(hub)))
        await hub.finished()
        assert hub.runner.connections == [connection]
        assert connection.report().requested == 8
        assert len([each for each in hub.heard.messages if each.symbol == "ETH-USDT"]) == told
        expected, found = recorded_trades(tmp_path / "s"), told_trades(hub.heard.trades())
        for symbol in ("BTCUSDT", "DOTUSDT"):
            assert found[symbol] == expected[symbol]


async def test_a_symbol_that_comes_back_has_no_past(tmp_path: Path) -> None:
    """What its old connection knows of its book is out of date, so it gets another one."""
    async with binance(tmp_path) as hub:
        await hub.until(lambda: hub.live)
        (connection,) = hub.runner.connections
        await hub.runner.remove(["ETH-USDT"], "no longer wanted")
        await asyncio.sleep(0.5)
        hub.runner.add(hub.rows("ETH-USDT"))
        await hub.until(lambda: hub.live and len(hub.runner.connections) == 2)
        assert hub.runner.connections[0] is connection
        states = [status.state for status in hub.heard.statuses("ETH-USDT")]
        assert states == ["resyncing", "live", "down", "resyncing", "live"]
        assert "resyncs" not in hub.pipeline.counters


async def test_a_connection_without_symbols_is_closed() -> None:
    adapter = limited(Deribit, streams_per_connection=20)
    async with Running(adapter, DERIBIT, [], speed=2) as hub:
        await hub.until(lambda: hub.live)
        first, second = hub.runner.connections
        await hub.runner.remove(sorted(first.symbols), "no longer wanted")
        await hub.until(lambda: hub.runner.connections == [second] and len(hub.server.clients) == 1)
        assert len(hub.runner.shards) == 1
        assert hub.pipeline.books_wanted == 5
        assert hub.pipeline.board.state() == "live"


async def test_symbols_change_in_the_middle_of_a_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "OVERLAP_S", 1.5)
    async with binance(tmp_path, 24, SYMBOLS[:2]) as hub:
        await hub.until(lambda: hub.live and hub.heard.trades())
        hub.server.announce_shutdown()
        await hub.until(lambda: len(hub.runner.connections) == 2)
        hub.runner.add(hub.rows("DOT-USDT"))
        await hub.runner.remove(["ETH-USDT"], "no longer wanted")
        await hub.until(lambda: hub.rotations == 1)
        await hub.until(lambda: hub.live and hub.heard.trades("DOT-USDT"))
        (connection,) = hub.runner.connections
        assert connection.symbols == {"BTC-USDT", "DOT-USDT"}
        await hub.finished()
        assert told_trades(hub.heard.trades("BTC-USDT"))["BTCUSDT"] == recorded_trades(tmp_path / "s")["BTCUSDT"]


async def test_symbols_change_while_the_venue_is_away(tmp_path: Path) -> None:
    async with binance(tmp_path, 24, SYMBOLS[:2]) as hub:
        await hub.until(lambda: hub.live)
        url, hub.runner.ws_url = hub.runner.ws_url, "ws://127.0.0.1:1"
        hub.server.disconnect()
        await hub.until(lambda: hub.runner.reconnects >= 1 and not hub.runner.connections)
        hub.runner.add(hub.rows("DOT-USDT"))
        await hub.runner.remove(["ETH-USDT"], "no longer wanted")
        hub.runner.ws_url = url
        await hub.until(lambda: hub.live and hub.pipeline.books_live == 2)
        assert set().union(*(each.symbols for each in hub.runner.connections)) == {"BTC-USDT", "DOT-USDT"}


# what the venue refuses


async def test_what_the_venue_refuses_is_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown symbol costs itself only: in the report, and as a status."""
    monkeypatch.setattr("feeds.dialects.deribit.DeribitDialect.known", lambda self, symbol: "8000" not in symbol)
    async with Running(Deribit, DERIBIT, [], speed=2) as hub:
        wanted = "BTC-USD-210924-8000-P"
        await hub.until(lambda: hub.pipeline.books_live == 9)
        (connection,) = hub.runner.connections
        report = connection.report()
        assert len(report.refused) == 4
        assert set(report.refused.values()) == {"not subscribed by the venue: unknown instrument"}
        assert (report.requested, report.acked) == (40, 36)
        assert connection.ready
        status = hub.heard.statuses(wanted)[-1]
        assert status.state == "down" and "the venue refused" in status.reason
        await hub.until(lambda: hub.pipeline.board.state() == "live")
