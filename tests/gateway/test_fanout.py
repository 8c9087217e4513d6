"""The fan-out and the policy for slow readers, without sockets: what each client is written, in which order."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from gateway.channel import Channel
from gateway.fanout import FLUSH_EVERY_S, SLICE, Fanout
from gateway.frames import CLOSE, split_frames, text_frame
from gateway.subscriber import Subscriber
from hub.join import Joined
from hub.keys import Keys
from tests.gateway.kit import eventually


class Keeper:
    """Nobody else has to be told."""

    audience: Iterable[Subscriber] = ()

    def status(self, channel: Channel, payload: bytes) -> Iterable[Subscriber]:
        return self.audience

    def channels_added(self, names: Iterable[str]) -> None: ...

    def channels_are(self, names: Iterable[str]) -> None: ...

    def connected(self) -> None: ...

    def disconnected(self, reason: str) -> None: ...


class Client:
    """Notes every write; `full` makes the next write fill the socket."""

    def __init__(self, queue_bytes: int = 10_000) -> None:
        self.writes: list[bytes] = []
        self.full = False
        self.closed: int | None = None
        self.subscriber = Subscriber(self, self, queue_bytes)

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        if self.full:
            self.subscriber.hold(0.0)

    def close(self, code: int, reason: str) -> None:
        self.closed = code
        self.subscriber.closed = True
        for channel in list(self.subscriber.channels):
            channel.leave(self.subscriber)

    def unsent(self) -> int:
        return 0

    @property
    def got(self) -> list[dict[str, Any]]:
        frames = [frame for data in self.writes for frame in split_frames(data)]
        return [json.loads(payload) for opcode, payload in frames if opcode != CLOSE]

    def join(self, *channels: Channel) -> None:
        for channel in channels:
            self.subscriber.note(channel, 1)
            channel.enter(self.subscriber)

    def seqs(self, kind: str) -> list[int]:
        return [int(m["id"].split("-")[1]) for m in self.got if m["type"] == kind]


def channel(kind: str = "quote", symbol: str = "X") -> Channel:
    return Channel(f"{kind}:v:{symbol}", Keys())


def payload(channel: Channel, seq: int, **more: Any) -> bytes:
    body = {"type": channel.kind, "venue": channel.venue, "symbol": channel.symbol, "id": f"5-{seq}", **more}
    return json.dumps(body, separators=(",", ":")).encode()


def publish(fanout: Fanout, *batch: tuple[Channel, int], **more: Any) -> None:
    """As the bus does: the topics know the newest before the listener is called."""
    found = []
    for topic, seq in batch:
        topic.last, topic.newest = (5, seq), payload(topic, seq, **more)
        found.append((topic, topic.newest))
    fanout.received(found)


@pytest.fixture
def fanout() -> Fanout:
    return Fanout(Keeper())


async def test_one_message_is_written_at_once(fanout: Fanout) -> None:
    a, b, quotes = Client(), Client(), channel()
    a.join(quotes)
    b.join(quotes)
    publish(fanout, (quotes, 1))
    assert a.seqs("quote") == b.seqs("quote") == [1]
    assert a.writes[0] is b.writes[0], "framed once"


async def test_a_batch_is_one_write_per_client(fanout: Fanout) -> None:
    a, b, quotes, trades = Client(), Client(), channel(), channel("trade")
    a.join(quotes, trades)
    b.join(trades)
    publish(fanout, (quotes, 1), (trades, 1), (quotes, 2), (trades, 2))
    assert (len(a.writes), len(b.writes)) == (1, 1)
    assert a.seqs("quote") == a.seqs("trade") == b.seqs("trade") == [1, 2]


async def test_bursts_are_sliced_and_keep_their_order(fanout: Fanout) -> None:
    quotes = channel()
    clients = [Client() for _ in range(SLICE * 3)]
    for client in clients:
        client.join(quotes)
    publish(fanout, (quotes, 1))
    assert sum(bool(client.writes) for client in clients) == SLICE
    publish(fanout, (quotes, 2))
    publish(fanout, (quotes, 3), (quotes, 4))
    await eventually(lambda: all(client.seqs("quote") == [1, 2, 3, 4] for client in clients))


async def test_long_flushes_keep_apart_and_share_writes() -> None:
    now = 0.0

    def clock() -> float:
        return now

    fanout, quotes = Fanout(Keeper(), clock), channel()

    class Costly(Client):
        def write(self, data: bytes) -> None:
            nonlocal now
            now += 0.0002
            super().write(data)

    clients = [Costly() for _ in range(20)]
    for client in clients:
        client.join(quotes)
    publish(fanout, (quotes, 1))
    assert all(len(client.writes) == 1 for client in clients), "the first goes out at once"
    for seq in range(2, 6):
        publish(fanout, (quotes, seq))
    assert all(len(client.writes) == 1 for client in clients)
    now += FLUSH_EVERY_S
    await eventually(lambda: all(client.seqs("quote") == [1, 2, 3, 4, 5] for client in clients))
    assert all(len(client.writes) == 2 for client in clients)


async def test_a_flush_under_load_ends_and_the_next_one_waits() -> None:
    """What comes while slices are written is written by them, or by one further flush: not by more of the same."""
    now = 0.0
    fanout, quotes = Fanout(Keeper(), lambda: now), channel()

    class Costly(Client):
        def write(self, data: bytes) -> None:
            nonlocal now
            now += 0.000003
            super().write(data)

    clients = [Costly() for _ in range(SLICE * 3)]
    for client in clients:
        client.join(quotes)
    for seq in range(1, 7):
        publish(fanout, (quotes, seq))
        await asyncio.sleep(0)
    assert max(len(client.writes) for client in clients) == 1
    assert [clients[0].seqs("quote"), clients[-1].seqs("quote")] == [[1], [1, 2]], "who was still to be written"
    now += FLUSH_EVERY_S
    await eventually(lambda: all(client.seqs("quote") == [1, 2, 3, 4, 5, 6] for client in clients))
    assert max(len(client.writes) for client in clients) == 2


async def test_a_status_keeps_its_place(fanout: Fanout) -> None:
    client, books, statuses = Client(), channel("book"), channel("status")
    client.join(books)
    fanout.keeper.audience = [client.subscriber]  # type: ignore[attr-defined]
    publish(fanout, (books, 1), (books, 2), (statuses, 1), (books, 3), (books, 4))
    await asyncio.sleep(0)
    assert [m["type"] for m in client.got] == ["book", "book", "status", "book", "book"]


async def test_who_joined_ahead_of_the_stream_gets_only_what_is_new(fanout: Fanout) -> None:
    early, late, trades = Client(), Client(), channel("trade")
    early.join(trades)
    publish(fanout, (trades, 1), (trades, 2))
    late.subscriber.note(trades, 1)
    assert fanout.enter(late.subscriber, trades, Joined(upto=(5, 4)))
    publish(fanout, (trades, 3))
    publish(fanout, (trades, 4), (trades, 5), (trades, 6))
    publish(fanout, (trades, 7))
    assert early.seqs("trade") == [1, 2, 3, 4, 5, 6, 7]
    assert late.seqs("trade") == [5, 6, 7]
    assert not trades.late


async def test_who_was_read_behind_the_stream_must_read_again(fanout: Fanout) -> None:
    client, trades = Client(), channel("trade")
    client.join(trades)
    publish(fanout, (trades, 5))
    assert not fanout.enter(Client().subscriber, trades, Joined(upto=(5, 4)))


async def test_a_held_reader_of_state_gets_the_newest(fanout: Fanout) -> None:
    slow, fast, quotes, still = Client(), Client(), channel(), channel(symbol="Y")
    slow.join(quotes, still)
    fast.join(quotes)
    slow.full = True
    publish(fanout, (quotes, 1))
    slow.full = False
    for seq in range(2, 6):
        publish(fanout, (quotes, seq))
    assert slow.subscriber.drain(1.0) == []
    publish(fanout, (quotes, 6))
    await eventually(lambda: (fast.seqs("quote"), slow.seqs("quote")) == ([1, 2, 3, 4, 5, 6], [1, 5, 6]))
    (lagging,) = [m for m in slow.got if m["type"] == "lagging"]
    assert lagging == {"type": "lagging", "action": "conflated", "channels": {"quote:v:X": 3}, "paused_ms": 1000}
    assert slow.got.index(lagging) == 1, "before anything is left out"


async def test_a_held_reader_of_events_gets_all_of_them(fanout: Fanout) -> None:
    slow, trades = Client(), channel("trade")
    slow.join(trades)
    slow.full = True
    publish(fanout, (trades, 1))
    slow.full = False
    for seq in range(2, 8):
        publish(fanout, (trades, seq))
    slow.subscriber.drain(1.0)
    publish(fanout, (trades, 8))
    assert slow.seqs("trade") == list(range(1, 9))
    assert not [m for m in slow.got if m["type"] == "lagging"]


async def test_events_that_do_not_fit_end_the_connection(fanout: Fanout) -> None:
    slow, fast, trades, quotes = Client(queue_bytes=300), Client(), channel("trade"), channel()
    slow.join(trades, quotes)
    fast.join(trades)
    publish(fanout, (trades, 1), (quotes, 1))
    slow.full = True
    publish(fanout, (trades, 2))
    for seq in range(3, 20):
        publish(fanout, (trades, seq))
    assert slow.closed == 4008
    assert [m["type"] for m in slow.got[-2:]] == ["lagging", "closing"]
    assert slow.got[-1]["last"] == {"trade:v:X": "5-2"}, "where to continue"
    assert fast.seqs("trade") == list(range(1, 20))


async def test_a_book_that_does_not_fit_begins_anew(fanout: Fanout) -> None:
    slow, books, trades = Client(queue_bytes=400), channel("book"), channel("trade")
    slow.join(books, trades)
    slow.full = True
    publish(fanout, (books, 1))
    slow.full = False
    publish(fanout, (trades, 1))
    for seq in range(2, 30):
        publish(fanout, (books, seq))
    assert slow.closed is None
    assert slow.subscriber.drain(1.0) == [books]
    assert slow.seqs("book") == [1]
    assert slow.seqs("trade") == [1]
    assert slow.got[-1]["action"] == "snapshot"
    assert slow.got[-1]["channels"] == {"book:v:X": 28}


async def test_draining_stops_where_the_socket_fills_up_again(fanout: Fanout) -> None:
    slow, trades = Client(queue_bytes=1_000_000), channel("trade")
    slow.join(trades)
    slow.full = True
    publish(fanout, (trades, 1))
    for seq in range(2, 40):
        publish(fanout, (trades, seq), pad="x" * 4000)
    slow.subscriber.drain(1.0)
    assert len(slow.writes) == 2
    assert slow.subscriber.held is not None
    publish(fanout, (trades, 40))
    for _ in range(20):
        slow.full = False
        slow.subscriber.drain(1.0)
    publish(fanout, (trades, 41))
    assert slow.seqs("trade") == list(range(1, 42))


async def test_a_gap_is_told_before_what_there_is_instead(fanout: Fanout) -> None:
    client, books = Client(), channel("book")
    client.join(books)
    publish(fanout, (books, 1))
    snapshot = payload(books, 9, ts_event=None, action="snapshot")
    fanout.gap(books, (5, 1), Joined(payloads=[snapshot], upto=(5, 9), gap=True))
    books.last = (5, 9)
    publish(fanout, (books, 10))
    await asyncio.sleep(0)
    assert [m["type"] for m in client.got] == ["book", "gap", "book", "book"]
    assert client.got[1] == {"type": "gap", "channel": "book:v:X", "last": "5-1", "next": "5-9"}


async def test_after_a_gap_without_a_snapshot_updates_wait_for_one(fanout: Fanout) -> None:
    client, books = Client(), channel("book")
    client.join(books)
    fanout.gap(books, (5, 1), Joined(gap=True, based=False))
    publish(fanout, (books, 4), action="update")
    publish(fanout, (books, 5), action="snapshot")
    publish(fanout, (books, 6), action="update")
    await asyncio.sleep(0)
    assert [m.get("id", m["type"]) for m in client.got] == ["gap", "5-5", "5-6"]


async def test_unsubscribing_inside_a_write_does_not_break_the_loop(fanout: Fanout) -> None:
    quotes = channel()
    clients = [Client() for _ in range(5)]

    class Leaver(Client):
        def write(self, data: bytes) -> None:
            super().write(data)
            for other in clients:
                quotes.leave(other.subscriber)

    leaver = Leaver()
    for client in (leaver, *clients):
        client.join(quotes)
    publish(fanout, (quotes, 1))
    publish(fanout, (quotes, 2))
    assert leaver.seqs("quote") == [1, 2]
    assert all(client.seqs("quote") == [1] for client in clients)


async def test_a_gap_in_the_queue_is_no_place_to_continue(fanout: Fanout) -> None:
    """The client is given up after the gap was written, and once more with nothing but a gateway's own status."""
    client, trades, statuses = Client(), channel("trade"), channel("status", "*")
    client.join(trades, statuses)
    publish(fanout, (trades, 1))
    client.subscriber.hold(0.0)
    fanout.gap(trades, (5, 1), Joined(payloads=[payload(trades, 9)], upto=(5, 9), gap=True))
    fanout.send(client.subscriber, text_frame(payload(statuses, 0).replace(b'"5-0"', b'"0-0"')), statuses)
    publish(fanout, (trades, 10))
    client.full = True
    held = client.subscriber.held
    assert held is not None
    client.subscriber.drain(1.0)
    assert client.subscriber.held is held, "still full after the first write"
    client.subscriber.cut("enough", 2.0)
    closing = client.got[-1]
    assert (closing["type"], closing["last"]) == ("closing", {"trade:v:X": "5-10", "status:v:*": "0-0"})


async def test_a_gap_before_anything_of_it_is_written_leaves_the_old_place(fanout: Fanout) -> None:
    client, trades = Client(), channel("trade")
    client.join(trades)
    publish(fanout, (trades, 1))
    client.subscriber.hold(0.0)
    fanout.gap(trades, (5, 1), Joined(gap=True))
    client.full = True
    client.subscriber.drain(1.0)
    client.subscriber.cut("enough", 2.0)
    assert client.got[-1]["last"] == {"trade:v:X": "5-1"}


async def test_events_that_waited_for_a_late_reader_are_not_taken_for_written(fanout: Fanout) -> None:
    """It joined ahead of the stream and its socket is full: what it is told to continue from is what it was sent."""
    client, trades = Client(), channel("trade")
    trades.last = (5, 3)
    client.subscriber.note(trades, 1)
    assert fanout.enter(client.subscriber, trades, Joined(upto=(5, 4)))
    client.subscriber.hold(0.0)
    publish(fanout, (trades, 4), (trades, 5), (trades, 6))
    publish(fanout, (trades, 7))
    client.subscriber.cut("enough", 1.0)
    lagging, closing = client.got[-2:]
    assert lagging["channels"] == {"trade:v:X": 3}
    assert closing["last"] == {"trade:v:X": "5-4"}


async def test_who_joined_behind_a_gap_is_not_told_of_it(fanout: Fanout) -> None:
    old, new, newer, trades = Client(), Client(), Client(), channel("trade")
    trades.last = (5, 3)
    old.join(trades)
    for client, seq in ((new, 9), (newer, 11)):
        client.subscriber.note(trades, 1)
        assert fanout.enter(client.subscriber, trades, Joined(upto=(5, seq)))
    trades.last = (5, 10)
    fanout.gap(trades, (5, 3), Joined(payloads=[payload(trades, 10)], upto=(5, 10), gap=True))
    publish(fanout, (trades, 11))
    publish(fanout, (trades, 12))
    await asyncio.sleep(0.05)
    assert [m["type"] for m in old.got] == [m["type"] for m in new.got] == ["gap", "trade", "trade", "trade"]
    assert old.seqs("trade") == new.seqs("trade") == [10, 11, 12]
    assert [m["type"] for m in newer.got] == ["trade"]
    assert newer.seqs("trade") == [12]
