"""feeds/fetches.py: books first, failures again, nobody waits for what nobody wants."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from feeds.adapter import Fetch
from feeds.fetches import FetchQueue
from feeds.rest import LocalLimiter, RestClient
from hub.instruments import Instrument
from tests.feeds.test_rest import Handler, Venue, server


def book(number: int) -> Fetch:
    return Fetch(resource="depth", path=f"/depth/{number}")


def candles(number: int) -> Fetch:
    return Fetch(resource="klines", path=f"/klines/{number}", interval="1m")


def wanted() -> bool:
    return True


class Answers:
    """What came back, in order."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.bodies: list[bytes] = []

    def __call__(self, fetch: Fetch, body: bytes) -> None:
        self.paths.append(fetch.path)
        self.bodies.append(body)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def queue(handler: Handler, budget: int = 1000) -> AsyncIterator[FetchQueue]:
    async with server(handler) as url:
        client = RestClient(Venue, LocalLimiter(budget, 1), url)
        made = FetchQueue(client, Counter())
        running = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await client.close()


async def test_books_come_before_candles() -> None:
    gate = asyncio.Event()
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path)
        await gate.wait()
        return web.Response(text=request.path)

    answers = Answers()
    async with queue(handler) as fetches:
        for number in range(FetchQueue.WORKERS):
            fetches.submit(candles(number), answers, wanted)
        await answers.until(lambda: len(asked) == FetchQueue.WORKERS)
        for number in range(4, 8):
            fetches.submit(candles(number), answers, wanted)
            fetches.submit(book(number), answers, wanted)
        gate.set()
        await answers.until(lambda: len(answers.paths) == 12)
        assert set(asked[4:8]) == {f"/depth/{number}" for number in range(4, 8)}
        assert fetches.counters["fetches"] == 12
        assert sorted(answers.paths) == sorted(body.decode() for body in answers.bodies)


async def test_a_failure_is_tried_again_until_it_works() -> None:
    calls = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.Response(status=500 if calls < 3 else 200, text="done")

    answers = Answers()
    async with queue(handler) as fetches:
        fetches.submit(book(1), answers, wanted)
        await answers.until(lambda: bool(answers.bodies))
        assert (answers.bodies, calls) == ([b"done"], 3)
        assert (fetches.counters["fetch_errors"], fetches.counters["fetches"]) == (2, 1)


async def test_what_nobody_wants_any_more_is_neither_asked_nor_answered() -> None:
    asked: list[str] = []
    wants = {"asked": True, "never": False}
    gate = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path)
        await gate.wait()
        return web.Response(text="late")

    answers = Answers()
    async with queue(handler) as fetches:
        fetches.submit(book(1), answers, lambda: wants["asked"])
        fetches.submit(book(2), answers, lambda: wants["never"])
        await answers.until(lambda: bool(asked))
        wants["asked"] = False
        gate.set()
        await answers.until(lambda: fetches.counters["fetches"] == 1)
        assert (asked, answers.bodies) == (["/depth/1"], [])


async def test_an_unwanted_failure_is_not_tried_again() -> None:
    calls = 0
    wants = True

    async def handler(_: web.Request) -> web.Response:
        nonlocal calls, wants
        calls += 1
        wants = False
        return web.Response(status=500)

    async with queue(handler) as fetches:
        fetches.submit(book(1), Answers(), lambda: wants)
        await asyncio.sleep(2)
        assert calls == 1


async def test_a_refusal_is_waited_out() -> None:
    times: list[float] = []

    async def handler(_: web.Request) -> web.Response:
        times.append(time.monotonic())
        return web.Response(status=429 if len(times) == 1 else 200, headers={"Retry-After": "2"})

    answers = Answers()
    async with queue(handler) as fetches:
        fetches.submit(book(1), answers, wanted)
        await answers.until(lambda: bool(answers.bodies))
        assert times[1] - times[0] > 1.9


async def test_the_queue_is_bounded_and_a_book_without_a_place_comes_again() -> None:
    gate = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        await gate.wait()
        return web.Response()

    answers = Answers()
    wants = True
    async with queue(handler, budget=1_000_000) as fetches:
        for number in range(FetchQueue.SIZE_MAX + 50):
            fetches.submit(candles(number), Answers(), lambda: wants)
        assert fetches.counters["fetches_dropped"] == 50
        fetches.submit(book(1), answers, wanted)
        assert fetches.counters["fetches_dropped"] == 51
        wants = False
        gate.set()
        await answers.until(lambda: answers.paths == ["/depth/1"])


async def test_books_that_somebody_reads_come_first() -> None:
    """Who waits is looked at when there is a turn, not when the book was asked for."""
    gate = asyncio.Event()
    asked: list[str] = []
    readers: Counter[str] = Counter()

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path)
        await gate.wait()
        return web.Response()

    def book_of(name: str) -> Fetch:
        row = Instrument(venue="v", venue_symbol=name, symbol=name, kind="spot", base=name, quote="Q")
        return Fetch(resource="depth", path=f"/depth/{name}", instrument=row)

    async with server(handler) as url:
        client = RestClient(Venue, LocalLimiter(1000, 1), url)
        fetches = FetchQueue(client, Counter(), readers.__getitem__)
        fetches.WORKERS = 1
        running = asyncio.create_task(fetches.run())
        answers = Answers()
        for name in "ABCDEFGH":
            fetches.submit(book_of(name), answers, wanted)
        fetches.submit(candles(1), answers, wanted)
        await answers.until(lambda: len(asked) == 1)
        readers.update({"F": 1, "D": 3})
        gate.set()
        await answers.until(lambda: len(answers.paths) == 9)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await client.close()
    assert [path.removeprefix("/depth/") for path in asked] == ["A", "D", "F", "B", "C", "E", "G", "H", "/klines/1"]
