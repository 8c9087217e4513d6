"""hub/archive without Redis: columns, names, compaction and what interruptions leave behind."""

import json
import os
import re
import tempfile
import threading
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.archive import compact as compacting
from hub.archive.compact import clean, compact
from hub.archive.files import ChannelFiles, FileName, Gap, lock, parse_name
from hub.archive.process import Chosen
from hub.archive.schema import TYPES, schema_of, table_of
from hub.archive.tail import Tail
from hub.config import Settings
from hub.errors import ConfigError
from hub.keys import Channel
from hub.model import CANDLE_TYPES, EVENT_KINDS, Book, Listing, Status, Trade, encode
from hub.position import parse_position

TRADES = Channel("trade", "venue", "A-B")
DAY = 86_400 * 10**9
NOON = 20_000 * DAY + DAY // 2


def trade(seq: int, ts: int = NOON, epoch: int = 7) -> Trade:
    return Trade("venue", "A-B", f"{epoch}-{seq}", ts, ts + 5, ts + 9, seq / 4, 1.5, "buy", f"t{seq}")


def entries(*messages: Any) -> list[tuple[bytes, list[bytes]]]:
    return [(each.id.encode(), [b"payload", encode(each)]) for each in messages]


def tail(root: Path, channel: Channel = TRADES, log_length: int = 100) -> Tail:
    return Tail(channel, "{k}:log", ChannelFiles(root, channel), log_length)


def fed(root: Path, *messages: Any) -> Tail:
    it = tail(root)
    it.take(entries(*messages), 0.0)
    it.flush()
    return it


def archived(root: Path) -> list[tuple[str, float]]:
    query = f"SELECT id, price FROM read_parquet('{root}/**/*.parquet', hive_partitioning = true)"
    found = duckdb.connect().execute(query).fetchall()
    return sorted(found, key=lambda row: parse_position(row[0]))


def parquets(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.parquet"))


def test_every_kind_with_a_log_has_columns() -> None:
    assert set(TYPES) == EVENT_KINDS
    for kind in EVENT_KINDS:
        names = schema_of(kind).names
        assert names[:4] == ["id", "ts_event", "ts_recv", "ts_pub"]
        assert {"venue", "symbol", "type"}.isdisjoint(names)
    types = {field.name: str(field.type) for field in schema_of("candle.1m")}
    assert types["start"] == types["ts_recv"] == "timestamp[ns, tz=UTC]"
    assert (types["open"], types["trades"], types["source"], types["revision"]) == (
        "double",
        "int64",
        "string",
        "int64",
    )
    assert (
        str(schema_of("book").field("bids").type)
        .replace("element", "item")
        .endswith("<item: struct<price: double, size: double>>")
    )


def test_what_is_written_is_what_was_said() -> None:
    candle = CANDLE_TYPES["1m"](
        "v", "A-B", "1-1", None, NOON + 123_456_789, NOON, NOON, 1.0, 2.0, 0.5, 1.5, 10.0, None, None, 3, None, 2,
        4.0, None, None, 12.0, "venue", 1,
    )  # fmt: skip
    book = Book("v", "A-B", "1-1", 5, 6, 7, "update", [(1.5, 2.0), (1.0, 0.0)], [])
    status = Status("v", "*", "1-1", None, 6, 7, "stale", None, "silence", 4)
    listing = Listing("v", "A-B", "1-1", None, 6, 7, "changed", ["base"], {"base": "A", "expiry": None})
    messages = {"candle.1m": candle, "book": book, "status": status, "trade": trade(3), "listing": listing}
    for kind, message in messages.items():
        (row,) = table_of(kind, [message]).to_pylist()
        for name, value in row.items():
            expected: Any = getattr(message, name)
            if name in ("bids", "asks"):
                expected = [{"price": price, "size": size} for price, size in expected]
            if name == "instrument":
                value = json.loads(value)
            assert (value.value if hasattr(value, "value") else value) == expected, name


def test_files_are_named_by_their_ids_and_dated_by_their_events(tmp_path: Path) -> None:
    midnight = NOON + DAY // 2
    it = fed(tmp_path, trade(1), trade(2, midnight), trade(3, midnight - 1), trade(4, midnight + 1))
    folder = "kind=trade/venue=venue/symbol=A-B"
    assert parquets(tmp_path) == [
        f"{folder}/date=2024-10-04/7-1_7-1.parquet", f"{folder}/date=2024-10-04/7-3_7-3.parquet",
        f"{folder}/date=2024-10-05/7-2_7-2.parquet", f"{folder}/date=2024-10-05/7-4_7-4.parquet",
    ]  # fmt: skip
    assert (it.rows, it.size, it.written) == (0, 0, 4)
    assert archived(tmp_path) == [(f"7-{seq}", seq / 4) for seq in (1, 2, 3, 4)]


@pytest.mark.parametrize("spoil", ["nothing", "state lost", "state torn", "files gone", "state behind"])
def test_the_last_id_is_known_from_the_files_and_beside_them(tmp_path: Path, spoil: str) -> None:
    fed(tmp_path, *(trade(seq) for seq in range(1, 11)))
    state = tmp_path / "kind=trade/venue=venue/symbol=A-B/_last.json"
    if spoil == "state lost":
        state.unlink()
    elif spoil == "state torn":
        state.write_text('{"id": "7-')
    elif spoil == "state behind":
        state.write_text('{"id": "7-3"}')
    elif spoil == "files gone":
        for path in tmp_path.rglob("*.parquet"):
            path.unlink()
    assert tail(tmp_path).read == (7, 10)


def test_a_missing_event_is_a_gap_and_noted_once(tmp_path: Path) -> None:
    for _ in range(2):
        it = tail(tmp_path)
        it.read = (7, 1)
        it.take(entries(trade(2), trade(5), trade(1, epoch=8), trade(2, epoch=8)), 0.0)
        assert it.doubt is None, "they stood side by side in the log"
        it.flush()
        assert it.gaps == 1
    lines = (tmp_path / "kind=trade/venue=venue/symbol=A-B/_gaps.jsonl").read_text().splitlines()
    assert [(gap["after"], gap["before"], gap["lost"]) for gap in map(json.loads, lines)] == [("7-2", "7-5", 2)]


@pytest.mark.parametrize("still_there", [True, False])
def test_a_new_epoch_hides_a_gap_unless_the_last_event_is_still_there(tmp_path: Path, still_there: bool) -> None:
    it = tail(tmp_path)
    it.take(entries(trade(1)), 0.0)
    it.take(entries(trade(1, epoch=8)), 0.0)
    assert it.doubt == ((7, 1), (8, 1))
    it.settle(still_there=still_there)
    assert it.gaps == (0 if still_there else 1)


def test_the_archive_begins_somewhere(tmp_path: Path) -> None:
    it = fed(tmp_path, trade(500), trade(501))
    assert it.gaps == 0
    assert not list(tmp_path.rglob("_gaps.jsonl"))


def test_an_event_that_cannot_be_read_is_noted(tmp_path: Path) -> None:
    it = tail(tmp_path)
    bad = [(b"7-2", [b"payload", b"{nonsense"]), (b"7-3", [b"other", b"x"]), (b"7-4", [b"payload", b"\xff"])]
    it.take([*entries(trade(1)), *bad, *entries(trade(5))], 0.0)
    it.flush()
    assert [each for each, _ in archived(tmp_path)] == ["7-1", "7-5"]
    lines = (tmp_path / "kind=trade/venue=venue/symbol=A-B/_gaps.jsonl").read_text().splitlines()
    assert [json.loads(line)["after"] for line in lines] == ["7-2", "7-3", "7-4"]
    assert tail(tmp_path).read == (7, 5)


def test_a_disk_that_fails_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    midnight = NOON + DAY // 2
    it = tail(tmp_path)
    it.take(entries(trade(1), trade(2, midnight)), 0.0)
    (tmp_path / "kind=trade/venue=venue/symbol=A-B").mkdir(parents=True)
    blocker = tmp_path / "kind=trade/venue=venue/symbol=A-B/date=2024-10-05"
    blocker.write_text("in the way")
    with pytest.raises(OSError):
        it.flush()
    it.take(entries(trade(3, midnight)), 0.0)
    blocker.unlink()
    it.flush()
    assert archived(tmp_path) == [(f"7-{seq}", seq / 4) for seq in (1, 2, 3)]
    assert it.written == 3


def many(root: Path, files: int, rows: int) -> Path:
    for number in range(files):
        fed(root, *(trade(number * rows + row + 1) for row in range(rows)))
    return root / "kind=trade/venue=venue/symbol=A-B/date=2024-10-04"


def test_small_files_of_a_date_become_one(tmp_path: Path) -> None:
    folder = many(tmp_path, 5, 3)
    assert compact(folder, "trade", over=False) == 0, "the date is not over and they are few"
    before = archived(tmp_path)
    assert compact(folder, "trade", over=True) == 5
    assert [path.name for path in folder.iterdir()] == ["7-1_7-15.parquet"]
    assert archived(tmp_path) == before == [(f"7-{seq}", seq / 4) for seq in range(1, 16)]
    assert compact(folder, "trade", over=True) == 0
    assert tail(tmp_path).read == (7, 15)


def test_many_files_are_merged_before_the_date_is_over(tmp_path: Path) -> None:
    folder = many(tmp_path, compacting.PATIENCE, 1)
    assert compact(folder, "trade", over=False) == compacting.PATIENCE
    assert len(archived(tmp_path)) == compacting.PATIENCE


def test_files_do_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacting, "ROWS_MAX", 7)
    monkeypatch.setattr(compacting, "ROW_GROUP", 4)
    folder = many(tmp_path, 5, 3)
    compact(folder, "trade", over=True)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["7-13_7-15.parquet", "7-1_7-6.parquet", "7-7_7-12.parquet"]
    assert len(archived(tmp_path)) == 15


@given(st.sets(st.integers(0, 4)), st.booleans())
def test_an_interrupted_merge_is_finished_and_loses_nothing(survivors: set[int], torn: bool) -> None:
    """Killed after the merged file is there, before all of its sources went; or while the merged one is written."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder = many(root, 5, 3)
        sources = {path: path.read_bytes() for path in sorted(folder.iterdir())}
        compact(folder, "trade", over=True)
        for place, (path, content) in enumerate(sources.items()):
            if place in survivors:
                path.write_bytes(content)
        if torn:
            (folder / ".7-1_7-9.parquet.tmp").write_bytes(b"PAR1 and no more")
        assert {each for each, _ in archived(root)} == {f"7-{seq}" for seq in range(1, 16)}
        clean(folder)
        assert [path.name for path in folder.iterdir()] == ["7-1_7-15.parquet"]
        assert archived(root) == [(f"7-{seq}", seq / 4) for seq in range(1, 16)]


def test_a_merge_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    folder = many(tmp_path, 5, 3)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    ending = threading.Event()
    ending.set()
    assert compact(folder, "trade", over=True, ending=ending) == 0
    assert not list(folder.glob(".*")), "nothing half written stays"
    clean(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert compact(folder, "trade", over=True, ending=threading.Event()) == 5


def test_a_file_within_the_range_of_another_is_not_taken_for_its_source(tmp_path: Path) -> None:
    """Somebody filled a gap from another archive."""
    fed(tmp_path, trade(1), trade(2), trade(9))
    folder = tmp_path / "kind=trade/venue=venue/symbol=A-B/date=2024-10-04"
    ChannelFiles(tmp_path, TRADES).write(
        table_of("trade", [trade(5), trade(6), trade(9)]), "2024-10-04", FileName((7, 5), (7, 9))
    )
    clean(folder)
    assert len(parquets(tmp_path)) == 2
    compact(folder, "trade", over=True)
    assert sorted(archived(tmp_path)) == [(f"7-{seq}", seq / 4) for seq in (1, 2, 5, 6, 9)], "each id once"


def test_files_of_an_earlier_version_get_the_new_columns(tmp_path: Path) -> None:
    folder = many(tmp_path, 2, 2)
    path = sorted(folder.iterdir())[0]
    pq.write_table(pq.ParquetFile(path).read().drop_columns(["count"]), path)
    compact(folder, "trade", over=True)
    (only,) = folder.iterdir()
    assert pq.ParquetFile(only).read().column("count").to_pylist() == [None, None, 1, 1]


def test_gaps_and_state_are_no_data(tmp_path: Path) -> None:
    fed(tmp_path, trade(1))
    ChannelFiles(tmp_path, TRADES).note((7, 1), [Gap("7-0", "7-1", None)])
    assert archived(tmp_path) == [("7-1", 0.25)]
    assert parse_name(Path("_last.json")) is None


def test_the_query_in_the_documents_works(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "history.md").read_text()
    (query,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    it = tail(tmp_path, Channel("trade", "venue", "BTC-USDT"))
    it.take(entries(*(trade(seq) for seq in range(1, 9))), 0.0)
    it.flush()
    query = query.replace("data/archive", str(tmp_path)).replace("2026-01-31", "2024-10-04")
    ((venue, low, high, vwap, trades),) = duckdb.connect().execute(query).fetchall()
    assert (venue, low, high, vwap, trades) == ("venue", 0.25, 2.0, sum(range(1, 9)) / 4 / 8, 8)


def test_the_status_of_a_whole_venue_has_a_path(tmp_path: Path) -> None:
    channel = Channel("status", "venue", "*")
    it = tail(tmp_path, channel)
    it.take(entries(Status("venue", "*", "7-1", None, NOON, NOON, "live", None, "", 4)), 0.0)
    it.flush()
    assert (tmp_path / "kind=status/venue=venue/symbol=%2A/date=2024-10-04/7-1_7-1.parquet").is_file()
    query = f"SELECT kind, symbol, state FROM read_parquet('{tmp_path}/**/*.parquet', hive_partitioning = true)"
    assert duckdb.connect().execute(query).fetchall() == [("status", "*", "live")]


def test_one_archive_process_per_folder(tmp_path: Path) -> None:
    held = lock(tmp_path)
    with pytest.raises(ConfigError, match="in use"):
        lock(tmp_path)
    os.close(held)
    os.close(lock(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        lock(tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("patterns", "books", "chosen"),
    [
        (["*"], False, ["trade:a:S", "trade:all:S", "candle.1m:a:S", "status:a:*"]),
        (["*"], True, ["trade:a:S", "trade:all:S", "candle.1m:a:S", "status:a:*", "book:a:S"]),
        (["book:*:*"], False, ["book:a:S"]),
        (["trade:a:*", "candle.*:*:S"], False, ["trade:a:S", "candle.1m:a:S"]),
        (["trade:b:*"], False, []),
    ],
)
def test_channels_are_chosen_by_pattern(patterns: list[str], books: bool, chosen: list[str]) -> None:
    names = ["trade:a:S", "trade:all:S", "candle.1m:a:S", "status:a:*", "book:a:S", "quote:a:S", "forming.1m:a:S"]
    it = Chosen(patterns, books=books)
    assert [name for name in names if Channel(*name.split(":")) in it] == chosen


@pytest.mark.parametrize("pattern", ["quote:*:*", "trades:*:*", "nonsense", "trade:BINANCE:*"])
def test_patterns_that_cannot_be_used(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"archive\.channels"):
        Chosen([pattern], books=False)


def test_half_a_log_is_written_at_the_latest(tmp_path: Path) -> None:
    settings = Settings().publisher
    assert tail(tmp_path, log_length=settings.log_trades).rows_max == settings.log_trades // 2
