"""What claims grant."""

import math

import pytest

from hub.access import NOBODY, OPEN, Grant, grant_of, parse_pattern
from hub.errors import RequestError
from hub.keys import parse_channel


def grant(*channels: str, **claims: object) -> Grant:
    return grant_of({"sub": "a", "exp": 1.0, "channels": list(channels), **claims})


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*", ["quote:a:X", "candle.1m:all:Y", "status:a:*"], []),
        ("*:*:*", ["quote:a:X", "quote:all:X"], []),
        ("quote:a:X", ["quote:a:X", "status:a:X", "status:a:*"], ["quote:a:Y", "quote:b:X", "trade:a:X", "status:b:*"]),
        ("quote:*:X", ["quote:a:X", "quote:all:X", "status:b:*"], ["quote:a:Y"]),
        ("trade:a:*", ["trade:a:X"], ["trade:b:X", "quote:a:X"]),
        ("*:a:*", ["book:a:X", "candle.1h:a:X"], ["book:b:X"]),
        ("candle.*:a:*", ["candle.1m:a:X", "candle.1d:a:Y"], ["forming.1m:a:X", "candle.1m:b:X"]),
        ("candle.1m:*:*", ["candle.1m:a:X"], ["candle.5m:a:X"]),
        ("status:a:*", ["status:a:*", "status:a:X"], ["quote:a:X", "status:b:*"]),
    ],
)  # fmt: skip
def test_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    granted = grant(pattern)
    for name in yes:
        assert granted.allows(*name.split(":")), name
    for name in no:
        assert not granted.allows(*name.split(":")), name


@pytest.mark.parametrize(
    ("pattern", "asked", "expected"),
    [
        ("quote:a:X", "quote:*:X", True), ("quote:a:X", "quote:a:*", True), ("quote:a:X", "quote:*:*", True),
        ("quote:a:X", "quote:b:*", False), ("quote:a:X", "quote:*:Y", False), ("quote:a:X", "trade:*:*", False),
        ("quote:*:X", "quote:b:*", True), ("*:a:*", "trade:*:Z", True), ("candle.*:a:*", "candle.1m:*:X", True),
        ("quote:a:X", "status:*:X", True), ("quote:a:X", "status:*:Y", False),
    ],
)  # fmt: skip
def test_a_pattern_may_be_subscribed_where_it_meets_what_is_granted(pattern: str, asked: str, expected: bool) -> None:
    assert grant(pattern).overlaps(parse_channel(asked, wildcards=True)) is expected


def test_everybody_and_nobody() -> None:
    quote = parse_channel("quote:*:*", wildcards=True)
    assert OPEN.allows("quote", "a", "X") and OPEN.overlaps(quote) and OPEN.until == math.inf
    assert not NOBODY.allows("quote", "a", "X") and not NOBODY.overlaps(quote)
    assert not NOBODY.allows("status", "a", "*")
    assert not grant().allows("quote", "a", "X")


@pytest.mark.parametrize(
    "text", ["", "quote", "quote:a", "nonsense:a:X", "quote:A:X", "quote:a:X Y", "quo*:a:X", "x" * 300]
)
def test_malformed_patterns(text: str) -> None:
    with pytest.raises(RequestError):
        parse_pattern(text)


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": ""}, {"sub": "x" * 300}, {"sub": 5}, {"exp": "soon"}, {"exp": None}, {"channels": "*"},
        {"channels": ["*"] * 1000}, {"max_connections": -1}, {"max_connections": "many"},
        {"max_messages_per_s": math.inf}, {"max_subscriptions": 1.5},
    ],
)  # fmt: skip
def test_claims_that_cannot_be_used(claims: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        grant_of({"sub": "a", "exp": 1.0, **claims})


def test_limits_and_names() -> None:
    found = grant("*", jti="j", max_connections=1, max_subscriptions=2, max_messages_per_s=0.5, other=[1])
    assert (found.jti, found.max_connections, found.max_subscriptions, found.max_messages_per_s) == ("j", 1, 2, 0.5)
    assert grant_of({"sub": "a", "exp": 1.0}, "made").jti == "made"
