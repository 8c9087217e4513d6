"""The archive process on a real Redis, under a running publisher: killed, cut off, told to stop."""

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from msgspec.structs import replace

from hub.archive.process import Archive
from hub.config import ArchiveSettings, PublisherSettings, RedisSettings, Settings
from hub.embedded import EmbeddedRedis
from hub.errors import ConfigError
from hub.history import SortedSets
from hub.keys import Keys
from hub.position import parse_position
from tests.hub.publishing import KEYS, Rig, rig, snapshot, status, trade, update
from tests.ports import free_port
from tests.servers import eventually

TRADES = "trade:venue:A-B"
ENDLESS = PublisherSettings(log_trades=1_000_000)


def settings(url: str, **archive: Any) -> Settings:
    options = {"poll_ms": 20, "rotate_s": 0.2, **archive}
    return Settings(redis=RedisSettings(url=url), archive=ArchiveSettings(**options))


@asynccontextmanager
async def archiving(url: str, root: Path, **archive: Any) -> AsyncIterator[Archive]:
    it = Archive(settings(url, **archive), root)
    task = asyncio.create_task(it.run())
    try:
        yield it
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def ids(root: Path, where: str = "kind = 'trade'") -> list[str]:
    if not any(root.rglob("*.parquet")):
        return []
    files = f"read_parquet('{root}/**/*.parquet', hive_partitioning = true, union_by_name = true)"
    query = f"SELECT id FROM {files} WHERE {where}"
    return sorted((row[0] for row in duckdb.connect().execute(query).fetchall()), key=parse_position)


async def has(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    async def check() -> bool:
        return condition()

    await eventually(check, timeout_s)


async def logged(it: Rig, name: str = TRADES) -> list[str]:
    return [entry for entry, _ in await it.log(name)]


async def test_everything_that_has_a_log_is_archived(redis_url: str, tmp_path: Path) -> None:
    async with rig(redis_url) as it, archiving(redis_url, tmp_path) as archive:
        for number in range(1, 700):
            it.publisher.publish(trade(number))
            it.publisher.publish(trade(number, symbol="C-D"))
        it.publisher.publish(status("live"))
        for each in (snapshot({1.0: 1.0}), update(2.0, 1.0)):
            it.publisher.publish(each)
        await it.drained()
        await has(lambda: sum(tail.written for tail in archive.tails.values()) == 2 * 699 + 1)
        assert ids(tmp_path, "kind = 'trade' AND symbol = 'A-B'") == await logged(it)
        assert ids(tmp_path, "kind = 'status'") == await logged(it, "status:venue:A-B")
        assert not list(tmp_path.glob("kind=book")), "books only where they are asked for"
        late = "trade:venue:LATE"
        it.publisher.publish(trade(1, symbol="LATE"))
        await has(lambda: late in archive.tails and archive.tails[late].written == 1)


async def test_books_where_they_are_asked_for(redis_url: str, tmp_path: Path) -> None:
    async with rig(redis_url) as it, archiving(redis_url, tmp_path, channels=["book:*:*"]):
        it.publisher.publish(trade(1))
        it.publisher.publish(snapshot({1.0: 1.5}))
        it.publisher.publish(update(2.0, 1.0))
        await it.drained()
        await has(lambda: len(list(tmp_path.rglob("*.parquet"))) > 0 and len(ids(tmp_path, "true")) == 2)
    files = f"read_parquet('{tmp_path}/**/*.parquet')"
    query = f"SELECT action, bids[1].price, bids[1].size FROM {files} ORDER BY ts_pub, action"
    assert duckdb.connect().execute(query).fetchall() == [("snapshot", 1.0, 1.5), ("update", 2.0, 1.0)]


async def start(url: str, root: Path, **more: str) -> asyncio.subprocess.Process:
    environ = {
        "TICKWIRE_CONFIG": "/dev/null", "TICKWIRE_REDIS__URL": url, "TICKWIRE_ARCHIVE__POLL_MS": "10",
        "TICKWIRE_ARCHIVE__ROTATE_S": "0.1", "TICKWIRE_PUBLISHER__LOG_TRADES": "100", **more,
    }  # fmt: skip
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub.archive", "--out", str(root), "--channels", "trade:*:*",
        env={**os.environ, **environ}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_killed_again_and_again_it_has_every_event_once(redis_url: str, tmp_path: Path) -> None:
    chance = random.Random(3)

    async def busy(it: Rig) -> None:
        for number in range(1, 1_000_000):
            it.publisher.publish(trade(number))
            if number % 4 == 0:
                await asyncio.sleep(0.002)

    async with rig(redis_url, publisher=ENDLESS) as it:
        writing = asyncio.create_task(busy(it))
        for _ in range(4):
            process = await start(redis_url, tmp_path)
            before = len(list(tmp_path.rglob("*.parquet")))
            await has(lambda before=before: len(list(tmp_path.rglob("*.parquet"))) > before)  # type: ignore[misc]
            await asyncio.sleep(chance.random() / 5)
            process.kill()
            await process.communicate()
        writing.cancel()
        await it.drained()
        process = await start(redis_url, tmp_path)
        expected = await logged(it)
        await has(lambda: ids(tmp_path) == expected)
        process.terminate()
        await process.communicate()
        assert process.returncode == 0
        assert ids(tmp_path) == expected
        assert not list(tmp_path.rglob("_gaps.jsonl"))
        assert len(expected) > 200


async def test_told_to_stop_it_writes_what_it_has(redis_url: str, tmp_path: Path) -> None:
    async with rig(redis_url) as it:
        async with archiving(redis_url, tmp_path, rotate_s=1000) as archive:
            for number in range(1, 50):
                it.publisher.publish(trade(number))
            await it.drained()
            await has(lambda: TRADES in archive.tails and archive.tails[TRADES].rows == 49)
            assert ids(tmp_path) == []
        assert ids(tmp_path) == await logged(it)


async def test_what_the_log_lost_before_it_was_read_is_a_gap(redis_url: str, tmp_path: Path) -> None:
    async with rig(redis_url) as it:
        async with archiving(redis_url, tmp_path):
            for number in range(1, 11):
                it.publisher.publish(trade(number))
            await it.drained()
            await has(lambda: len(ids(tmp_path)) == 10)
        for number in range(11, 31):
            it.publisher.publish(trade(number))
        await it.drained()
        await it.client.xtrim(KEYS.log(TRADES), maxlen=5, approximate=False)
        async with archiving(redis_url, tmp_path):
            await has(lambda: len(ids(tmp_path)) == 15)
        epoch = it.publisher.epoch
        (line,) = next(tmp_path.rglob("_gaps.jsonl")).read_text().splitlines()
        gap = json.loads(line)
        assert (gap["after"], gap["before"], gap["lost"]) == (f"{epoch}-10", f"{epoch}-26", 15)


async def test_a_new_epoch_of_a_publisher_that_lost_nothing_is_no_gap(redis_url: str, tmp_path: Path) -> None:
    async with archiving(redis_url, tmp_path) as archive:
        for epoch in range(1, 4):
            async with rig(redis_url) as it:
                it.publisher.publish(trade(epoch))
                await it.drained()
                await has(lambda epoch=epoch: len(ids(tmp_path)) == epoch)  # type: ignore[misc]
        assert [tail.gaps for tail in archive.tails.values()] == [0]


async def test_it_goes_on_when_redis_was_away_and_without_the_module(tmp_path: Path) -> None:
    async with (
        EmbeddedRedis(tmp_path / "redis", free_port(), timeseries=False) as own,
        archiving(own.url, tmp_path / "a") as archive,
    ):
        async with rig(own.url) as it:
            assert isinstance(it.publisher.encoder.history, SortedSets)
            it.publisher.publish(trade(1))
            await it.drained()
            await has(lambda: len(ids(tmp_path / "a")) == 1)
        await own.stop()
        await asyncio.sleep(0.1)
        await own.start()
        async with rig(own.url) as it:
            it.publisher.publish(trade(2))
            await it.drained()
            await has(lambda: len(ids(tmp_path / "a")) == 2)
        assert [tail.gaps for tail in archive.tails.values()] == [0]


async def test_small_files_are_merged_while_it_runs(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.archive.process.COMPACT_S", 0.05)
    monkeypatch.setattr("hub.archive.compact.PATIENCE", 3)
    async with rig(redis_url) as it, archiving(redis_url, tmp_path, rotate_s=0.01) as archive:
        async with asyncio.timeout(60):
            while not archive.files_merged:
                it.publisher.publish(trade(1))
                await it.drained()
                await asyncio.sleep(0.02)
        expected = await logged(it)
        await has(lambda: sorted(set(ids(tmp_path)), key=parse_position) == expected)
    for folder in tmp_path.glob("kind=*/venue=*/symbol=*/date=*"):
        assert not list(folder.glob(".*"))
    assert sorted(ids(tmp_path), key=parse_position) == expected, "each id once"


async def test_a_refused_start_says_why(redis_url: str, tmp_path: Path) -> None:
    first = await start(redis_url, tmp_path)
    await has(lambda: (tmp_path / ".lock").exists())
    await asyncio.sleep(0.5)
    second = await start(redis_url, tmp_path)
    _, said = await second.communicate()
    assert (second.returncode, "in use by another archive" in said.decode()) == (2, True), said
    first.terminate()
    await first.communicate()
    assert first.returncode == 0


async def test_metrics(redis_url: str, tmp_path: Path) -> None:
    port = free_port()
    process = await start(redis_url, tmp_path, TICKWIRE_METRICS__PORT=str(port))
    async with rig(redis_url) as it:
        it.publisher.publish(trade(1))
        await it.drained()

        async def scraped() -> bool:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
            text = (await reader.read()).decode()
            writer.close()
            return "tickwire_archive_events_total 1.0" in text and "tickwire_archive_channels 1.0" in text

        async with asyncio.timeout(30):
            while True:
                try:
                    if await scraped():
                        break
                except OSError:
                    pass
                await asyncio.sleep(0.1)
    process.terminate()
    await process.communicate()
    assert process.returncode == 0


def test_settings_are_checked(tmp_path: Path) -> None:
    it = settings("redis://127.0.0.1:1/0")
    with pytest.raises(ConfigError, match="quote has no log"):
        Archive(replace(it, archive=ArchiveSettings(channels=["quote:*:*"])), tmp_path)
    assert Archive(it, tmp_path).keys.prefix == Keys().prefix
