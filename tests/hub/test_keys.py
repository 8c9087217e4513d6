"""hub/keys.py: one name for everything, and what may stand in it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import RequestError
from hub.keys import Channel, Keys, channel_name, escape_symbol, parse_channel
from hub.model import KINDS

FORBIDDEN = set(":*?[]{}/ \t\n\r\x0b\x0c\x00\x1b\x7f\x85\u00a0\u2003\u3000")


def test_names_as_the_design_has_them() -> None:
    keys = Keys("md:")
    assert channel_name("quote", "binance", "BTC-USDT") == "quote:binance:BTC-USDT"
    assert keys.newest("quote:binance:BTC-USDT") == "md:quote:binance:BTC-USDT"
    assert keys.log("trade:binance:BTC-USDT") == "{md:trade:binance:BTC-USDT}:log"
    assert keys.series("quote:binance:BTC-USDT", "bid") == "{md:quote:binance:BTC-USDT}:bid"
    assert (keys.channels, keys.venues) == ("md:channels", "md:venues")
    assert keys.alive("binance") == "md:alive:binance"


def slot(key: str) -> str:
    """Return what Redis Cluster hashes: the text between the first `{` and the `}` after it, else all."""
    found = re.search(r"\{([^}]+)\}", key)
    return found[1] if found else key


def test_keys_of_one_channel_share_a_slot() -> None:
    """Also those a script touches together."""
    keys = Keys("md:")
    name = "book:binance:BTC-USDT"
    assert (
        slot(keys.newest(name)) == slot(keys.log(name)) == slot(keys.series(name, "bid")) == "md:book:binance:BTC-USDT"
    )
    assert slot(keys.lease("binance")) == slot(keys.epoch("binance"))
    assert slot(keys.tokens("binance", "rest", "host")) == slot(keys.banned("binance", "rest", "host"))


def test_no_two_keys_are_the_same() -> None:
    keys = Keys("md:")
    every = [keys.channels, keys.venues]
    for venue in ("binance", "all"):
        every += [keys.alive(venue), keys.lease(venue), keys.epoch(venue), keys.instruments(venue), keys.feed(venue)]
        for bucket in ("rest", "connects"):
            every += [keys.tokens(venue, bucket, "host"), keys.banned(venue, bucket, "host")]
        for kind in ("trade", "status"):
            name = channel_name(kind, venue, "A-B")
            every += [keys.newest(name), keys.log(name), keys.series(name, "price")]
    assert len(every) == len(set(every))


@given(st.text(max_size=40), st.text(max_size=40))
def test_escaping_is_one_to_one(one: str, other: str) -> None:
    assert (escape_symbol(one) == escape_symbol(other)) == (one == other)


@given(
    st.text(st.sampled_from("~:*/ 0123u{AF\u3000\u00a0"), max_size=8),
    st.text(st.sampled_from("~:*/ 0123u{AF\u3000\u00a0"), max_size=8),
)
def test_escaping_is_one_to_one_where_it_is_hard(one: str, other: str) -> None:
    assert (escape_symbol(one) == escape_symbol(other)) == (one == other)


@given(st.text(min_size=1, max_size=30))
def test_an_escaped_symbol_may_stand_in_a_channel(text: str) -> None:
    symbol = escape_symbol(text)
    assert not FORBIDDEN & set(symbol)
    assert not any(char.isspace() or ord(char) < 32 for char in symbol)
    assert parse_channel(f"trade:binance:{symbol}") == Channel("trade", "binance", symbol)


@pytest.mark.parametrize(
    "symbol", ["BTC-USDT", "BTC-USDT-PERP", "BTC-USD-260925-100000-C", "AAPL", "BRK.B", "1000SATS-USDT"]
)
def test_ordinary_symbols_stay_as_they_are(symbol: str) -> None:
    assert escape_symbol(symbol) == symbol


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_channels_of_every_kind(kind: str) -> None:
    channel = parse_channel(f"{kind}:binance_futures:BTC-USDT")
    assert (channel.kind, channel.venue, channel.symbol) == (kind, "binance_futures", "BTC-USDT")
    assert channel.name == f"{kind}:binance_futures:BTC-USDT"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "bad_channel"),
        ("quote", "bad_channel"),
        ("quote:binance", "bad_channel"),
        ("quote:" + "a" * 300 + ":X", "bad_channel"),
        ("quotes:binance:BTC-USDT", "unknown_kind"),
        ("Quote:binance:BTC-USDT", "unknown_kind"),
        ("candle:binance:BTC-USDT", "unknown_kind"),
        ("candle.2m:binance:BTC-USDT", "unknown_kind"),
        ("*:binance:BTC-USDT", "unknown_kind"),
        ("quote::BTC-USDT", "bad_venue"),
        ("quote:Binance:BTC-USDT", "bad_venue"),
        ("quote:binance\n:BTC-USDT", "bad_venue"),
        ("quote:*:BTC-USDT", "bad_venue"),
        ("quote:binance:", "bad_symbol"),
        ("quote:binance:*", "bad_symbol"),
        ("quote:binance:BTC*", "bad_symbol"),
        ("quote:binance:BTC-USDT:1", "bad_symbol"),
        ("quote:binance:BTC/USDT", "bad_symbol"),
        ("quote:binance:BTC USDT", "bad_symbol"),
        ("quote:binance:BTC-USDT\n", "bad_symbol"),
        ("quote:binance:{BTC}", "bad_symbol"),
        ("quote:binance:\x00", "bad_symbol"),
    ],
)
def test_malformed_channels_are_refused_with_a_word_for_programs(text: str, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_channel(text)
    assert caught.value.code == code
    assert (code == "unknown_kind") == bool(caught.value.allowed)


def test_wildcards_stand_for_venue_or_symbol_where_they_are_allowed() -> None:
    assert parse_channel("quote:*:BTC-USDT", wildcards=True) == Channel("quote", "*", "BTC-USDT")
    assert parse_channel("quote:binance:*", wildcards=True) == Channel("quote", "binance", "*")
    with pytest.raises(RequestError):
        parse_channel("quote:bin*:BTC-USDT", wildcards=True)
    with pytest.raises(RequestError):
        parse_channel("*:binance:BTC-USDT", wildcards=True)


def test_a_status_may_be_about_the_whole_venue() -> None:
    assert parse_channel("status:binance:*") == Channel("status", "binance", "*")
