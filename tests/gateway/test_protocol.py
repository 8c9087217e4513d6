"""Client messages: whatever comes is parsed or answered, never raised."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.frames import split_frames
from gateway.protocol import Ack, Error, Ping, Subscribe, Unsubscribe, frame, parse_op
from hub.directory import Directory, is_pattern, patterns_of
from hub.keys import parse_channel

values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
ops: Any = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(["subscribe", "unsubscribe", "ping", "auth", 5, None]),
        "id": values,
        "channels": values,
        "after": values,
    },
)


@given(
    st.one_of(
        st.binary(max_size=100), ops.map(lambda o: json.dumps(o).encode()), values.map(lambda v: json.dumps(v).encode())
    )
)
def test_everything_is_a_request_or_an_error(payload: bytes) -> None:
    op = parse_op(payload)
    assert isinstance(op, Subscribe | Unsubscribe | Ping | Error)
    if isinstance(op, Error):
        ((_, text),) = split_frames(frame(op))
        answer = json.loads(text)
        assert answer["type"] == "error"
        assert answer["code"] in {"bad_json", "bad_message", "unknown_op"}


def test_the_requests_id_is_repeated_in_errors() -> None:
    for request in (1, "a", None):
        op = parse_op(json.dumps({"op": "subscribe", "id": request}).encode())
        assert isinstance(op, Error)
        assert op.id == request


def test_an_ack_says_only_what_it_knows() -> None:
    ((_, text),) = split_frames(frame(Ack(op="unsubscribe", channel="trade:x:Y")))
    assert msgspec.json.decode(text) == {"type": "ack", "op": "unsubscribe", "channel": "trade:x:Y"}


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("quote:*:BTC-USDT", True), ("trade:kraken:*", True), ("quote:*:*", True), ("status:*:*", True),
        ("status:kraken:*", False), ("quote:kraken:BTC-USD", False), ("status:*:BTC-USD", True),
    ],
)  # fmt: skip
def test_what_is_a_pattern(name: str, pattern: bool) -> None:
    assert is_pattern(parse_channel(name, wildcards=True)) is pattern


def test_patterns_match_what_they_stand_for() -> None:
    directory = Directory()
    names = ["quote:binance:BTC-USDT", "quote:all:BTC-USDT", "quote:kraken:BTC-USDT", "trade:kraken:ETH-USD",
             "status:kraken:*", "status:kraken:BTC-USDT"]  # fmt: skip
    for name in [*names, *names, "nonsense", "x:y:z", "quote:bad venue:X"]:
        directory.add(name)
    assert sorted(directory.names) == sorted(names)
    assert directory.match("quote:*:BTC-USDT") == ["quote:binance:BTC-USDT", "quote:kraken:BTC-USDT"]
    assert directory.match("quote:all:*") == ["quote:all:BTC-USDT"]
    assert directory.match("status:*:*") == ["status:kraken:*"]
    assert directory.match("trade:*:*") == ["trade:kraken:ETH-USD"]
    assert directory.match("mark:*:*") == []
    assert directory.symbols["BTC-USDT"] == {"binance", "all", "kraken"}
    assert directory.count == len(names) + 3
    for name in names:
        for pattern in patterns_of(parse_channel(name)):
            assert name in directory.match(pattern)


@given(st.lists(st.sampled_from(range(64)), unique=True), st.lists(st.sampled_from(range(64)), unique=True))
def test_a_directory_that_forgets_is_as_if_it_had_never_known(first: list[int], then: list[int]) -> None:
    kinds, venues, symbols = ("quote", "trade", "status", "nonsense"), ("a", "b", "all", "c"), ("X", "Y", "Z", "*")
    names = [f"{kind}:{venue}:{symbol}" for kind in kinds for venue in venues for symbol in symbols]
    old, fresh = Directory(), Directory()
    before, known = {names[number] for number in first}, {names[number] for number in then}
    for name in before:
        old.add(name)
    channels = set(old.names)
    there = {name.split(":")[1] for name in known}
    kept = {name for name in before - known if name.split(":")[1] not in there}
    assert {name for name, _ in old.retain(known)} == channels - known - kept
    for name in known:
        old.add(name)
    for name in known | kept:
        fresh.add(name)
    assert (old.names, old.symbols, old.venues, old.count) == (fresh.names, fresh.symbols, fresh.venues, len(known))
    assert old._matches.keys() == fresh._matches.keys()
    for pattern in fresh._matches:
        assert set(old.match(pattern)) == set(fresh.match(pattern))
