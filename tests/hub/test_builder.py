"""hub/builder.py: the one place where ids are made."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.builder import MessageBuilder
from hub.keys import Keys
from hub.model import Book, Message, Quote, Status, Trade, decode

Maker = tuple[str, str]


def make(kind: str, symbol: str) -> Message:
    head = ("venue", symbol, "", 1, 2, 0)
    if kind == "trade":
        return Trade(*head, 1.0, 1.0, None, "1")
    return Quote(*head, 1.0, 1.0, 2.0, 1.0)


@given(st.lists(st.tuples(st.sampled_from(["trade", "quote", "epoch"]), st.sampled_from("ABC")), max_size=60))
def test_each_channel_counts_for_itself_and_anew_in_each_epoch(script: list[Maker]) -> None:
    builder = MessageBuilder(Keys("md:"), 1000)
    counts: dict[Maker, int] = {}
    for place, (kind, symbol) in enumerate(script):
        if kind == "epoch":
            builder.start_epoch(builder.epoch + 5)
            counts.clear()
            continue
        counts[kind, symbol] = counts.get((kind, symbol), 0) + 1
        message = make(kind, symbol)
        channel, position, payload = builder.build(message, place)
        assert channel is builder.channel(message)
        assert position == f"{builder.epoch}-{counts[kind, symbol]}"
        read = json.loads(payload)
        assert (read["id"], read["ts_pub"], read["symbol"]) == (position, place, symbol)
        assert decode(payload) == message


@pytest.mark.parametrize("epoch", [999, 1000])
def test_an_epoch_never_goes_back(epoch: int) -> None:
    with pytest.raises(ValueError, match="must grow"):
        MessageBuilder(Keys(), 1000).start_epoch(epoch)


def test_a_channel_knows_its_names() -> None:
    builder = MessageBuilder(Keys("x:"), 1)
    channel = builder.channel(make("trade", "A-B"))
    assert channel is builder.channel(make("trade", "A-B")) is builder.named("trade", "venue", "A-B")
    assert (channel.name, channel.key, channel.log) == (
        "trade:venue:A-B",
        "x:trade:venue:A-B",
        "{x:trade:venue:A-B}:log",
    )
    assert (channel.event, channel.book) == (True, False)
    assert not builder.named("quote", "venue", "A-B").event
    assert builder.named("book", "venue", "A-B").book


def test_a_venue_and_its_symbols_have_channels_of_their_own() -> None:
    builder = MessageBuilder(Keys(), 1)
    whole = Status("venue", "*", "", None, 1, 0, "live", None, "", 1)
    one = Status("venue", "A-B", "", None, 1, 0, "live", None, "", 1)
    assert builder.channel(whole).name == "status:venue:*"
    assert builder.channel(one).name == "status:venue:A-B"
    assert builder.build(one, 1)[1] == builder.build(whole, 1)[1] == "1-1"


def test_a_snapshot_that_repeats_what_was_told_takes_no_position_of_its_own() -> None:
    builder = MessageBuilder(Keys(), 7)
    update = Book("venue", "A-B", "", 1, 2, 0, "update", [(1.0, 1.0)], [])
    channel, position, _ = builder.build(update, 1)
    assert position == "7-1"
    snapshot = Book("venue", "A-B", "", 1, 2, 0, "snapshot", [(1.0, 1.0)], [])
    position, payload = builder.restate(channel, snapshot, 5)
    assert (position, json.loads(payload)["action"]) == ("7-1", "snapshot")
    again = Book("venue", "A-B", "", 1, 2, 0, "update", [(1.0, 0.0)], [])
    assert builder.build(again, 1)[1] == "7-2"
