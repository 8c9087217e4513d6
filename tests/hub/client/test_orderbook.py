"""The local order book: equal to a naive rebuild whatever happens on the way, or not valid and empty."""

import asyncio
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from hub.client import Book, Client, LocalBook, OrderBooks
from hub.model import Level
from hub.position import format_position
from tests.gateway.kit import SYMBOL, Feed, book, status

NAME = f"book:binance:{SYMBOL}"

levels = st.lists(
    st.tuples(st.integers(1, 12).map(float), st.sampled_from([0.0, 1.0, 2.5])),
    max_size=6,
    unique_by=lambda level: level[0],
)
steps = st.lists(
    st.tuples(st.sampled_from(["snapshot", "update", "update", "update", "lost", "repeat"]), levels, levels),
    max_size=30,
)


def message(action: str, seq: int, bids: list[Level], asks: list[Level]) -> Book:
    return Book(
        venue="binance", symbol=SYMBOL, id=format_position((7, seq)), ts_event=None, ts_recv=seq, ts_pub=seq,
        action="snapshot" if action == "snapshot" else "update", bids=bids, asks=asks,
    )  # fmt: skip


@given(steps)
def test_it_is_what_a_rebuild_from_all_messages_gives(steps: list[tuple[str, list[Level], list[Level]]]) -> None:
    followed = LocalBook("binance", SYMBOL)
    naive: tuple[dict[float, float], dict[float, float]] | None = None
    last: Book | None = None
    for seq, (action, bids, asks) in enumerate(steps, 1):
        if action == "repeat" and last is not None and followed.valid:
            followed.apply(message("update", int(last.id.partition("-")[2]), last.bids, last.asks))
            action = "update"
        if action == "lost":
            continue  # published, never received
        last = message(action, seq, bids, asks)
        if action == "snapshot":
            naive = ({}, {})
        elif naive is not None and followed.ts_recv != seq - 1:
            naive = None
        if naive is not None:
            for side, changes in zip(naive, (bids, asks), strict=True):
                side.update(changes)
        followed.apply(last)
        assert followed.valid == (naive is not None)
        if naive is None:
            assert (followed.bids(), followed.asks(), followed.best_bid, followed.mid) == ([], [], None, None)
            assert followed.reason
        else:
            wanted = [sorted(((p, s) for p, s in side.items() if s), reverse=not i) for i, side in enumerate(naive)]
            assert [followed.bids(), followed.asks()] == wanted
            assert followed.bids(2) == wanted[0][:2] and followed.reason == ""


async def _until(books: OrderBooks, holds: Callable[[], bool]) -> None:
    while not holds():
        await anext(books)


async def test_books_follow_the_feed(hub: Client, feed: Feed) -> None:
    await feed.publish(status("live"), book([(2.0, 1.0)], [(3.0, 1.0)], "snapshot"))
    async with hub.order_books(SYMBOL, "binance") as books:
        async with asyncio.timeout(30):
            own = await anext(books)
            await _until(books, lambda: own.valid)
            assert (own.venue, own.best_bid, own.best_ask, own.mid) == ("binance", (2.0, 1.0), (3.0, 1.0), 2.5)
            for n in range(1, 60):  # beyond a renewal of the stored snapshot
                await feed.publish(book([(2.0 + n / 100, 1.0)], []))
            await _until(books, lambda: own.bids(1) == [(2.59, 1.0)])
            assert len(own.bids()) == 60
            await feed.publish(status("resyncing", SYMBOL, kind="book"), withdraw=[NAME])
            await _until(books, lambda: not own.valid)
            assert (own.bids(), own.state, own.reason) == ([], "resyncing", "test")
            await feed.publish(book([(1.0, 1.0)], [(5.0, 1.0)], "snapshot"), status("live", SYMBOL, kind="book"))
            await _until(books, lambda: own.valid)
            assert (own.bids(), own.asks()) == ([(1.0, 1.0)], [(5.0, 1.0)])
            await feed.redis.delete(feed.keys.alive("binance"))
            await _until(books, lambda: not own.valid)
            assert own.reason == "the feed has no pulse"
            await feed.pulse()
            await feed.publish(book([(1.0, 3.0)], []))
            await _until(books, lambda: own.bids() == [(1.0, 3.0)])  # nothing was lost: no need to begin anew
