"""`tickwire normalize` on sessions that are answers alone."""

import json
from collections import Counter
from pathlib import Path

import pytest

from feeds.normalize import main
from tests.feeds.polling import SESSIONS

FOLDERS = {
    "alphavantage": (SESSIONS / "alphavantage" / "alpha_vantage_2017-2020", {"candle.1m": 100, "ticker": 2}),
    "coingecko": (SESSIONS / "coingecko" / "coingecko_ruby_2021", {"candle.4h": 179}),
    "alpaca": (SESSIONS / "alpaca" / "rest_2021-2022", {"quote": 5}),
}


@pytest.mark.parametrize("venue", sorted(FOLDERS))
def test_a_session_is_printed_and_twice_the_same(venue: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    folder, wanted = FOLDERS[venue]
    assert main([venue, str(folder)]) == 0
    first = capfdbinary.readouterr().out
    assert main([venue, str(folder)]) == 0
    assert capfdbinary.readouterr().out == first
    messages = [json.loads(line) for line in first.splitlines()]
    kinds = Counter(message["type"] for message in messages)
    assert all(kinds[kind] >= count for kind, count in wanted.items())
    assert {message["venue"] for message in messages} == {venue}
    for name in {(message["type"], message["symbol"]) for message in messages}:
        ids = [m["id"] for m in messages if (m["type"], m["symbol"]) == name]
        assert [int(each.split("-")[1]) for each in ids] == list(range(1, len(ids) + 1))


def test_errors_and_garbage_are_warned_of_and_skipped(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    url = "https://www.alphavantage.co/query?function=GLOBAL_QUOTE&symbol=MSFT"
    bodies = {
        "a.json": b'{"Note":"5 calls per minute"}',
        "b.json": b"<html>",
        "c.json": b'{"Global Quote":{"05. price":"7"}}',
    }
    for name, body in bodies.items():
        (tmp_path / name).write_bytes(body)
    index = [{"t": None, "url": url, "file": name} for name in bodies]
    (tmp_path / "rest_index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in index))
    assert main(["alphavantage", str(tmp_path)]) == 0
    out, err = capfdbinary.readouterr()
    assert [json.loads(line)["last_price"] for line in out.splitlines()] == [7.0]
    assert b"a.json: " in err and b"unreadable answer skipped: b.json" in err
