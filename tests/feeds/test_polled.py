"""feeds/polled.py over real HTTP: answers, refusals, silence, garbage; and keys that nobody gets to see."""

import asyncio
import gzip
import json
import logging
import time
from typing import Any

import pytest
from aiohttp import web

from feeds.adapter import Fetch
from feeds.poller import Poller
from feeds.replay import ReplayServer
from feeds.rest import LocalLimiter, RestClient
from feeds.venues.alpaca_rest import AlpacaRest
from feeds.venues.alphavantage import AlphaVantage
from feeds.venues.coingecko import CoinGecko
from hub.errors import ConfigError, FetchError, FetchRefused, RateLimited
from hub.instruments import InstrumentTable
from hub.model import Candle, Quote, State, Status, Ticker
from tests.feeds.polling import KEY, SESSIONS, Polling, Venue
from tests.feeds.running import limited

AV = InstrumentTable("alphavantage")
MSFT = AlphaVantage.unlisted("MSFT", AV)
BODY = gzip.decompress(
    (SESSIONS / "alphavantage" / "alpha_vantage_2017-2020" / "GLOBAL_QUOTE_MSFT_2018-10-05.json.gz").read_bytes()
)
FAST = AlphaVantage.on("1200")


async def msft(request: web.Request) -> web.Response:
    """Answer as the venue does, except that a wrong key is not looked at."""
    return web.Response(body=BODY)


def states(polling: Polling, symbol: str) -> list[State]:
    return [each.state for each in polling.heard.statuses(symbol)]


@pytest.mark.parametrize(
    ("poller", "session", "symbols", "plan"),
    [
        (AlphaVantage, "alphavantage/alpha_vantage_2017-2020", ["MSFT", "BTC/CNY"], "1200"),
        (CoinGecko, "coingecko/coingecko_ruby_2021", ["bitcoin/usd", "bitcoin/myr"], "demo"),
        (AlpacaRest, "alpaca/rest_2021-2022", ["AAPL", "ETH/USD", "BCH/USD"], "basic"),
    ],
)
async def test_recorded_answers_come_over_http(
    poller: type[Poller], session: str, symbols: list[str], plan: str
) -> None:
    """Keys go along: without one the server would answer with an error."""
    rows = [poller.unlisted(name, InstrumentTable(poller.venue)) for name in symbols]
    async with ReplayServer(poller.venue, [SESSIONS / session]) as server:
        options = {"intervals": [{"coingecko": "4h"}.get(poller.venue, "1m")]}
        async with Polling(poller.on(plan), rows, server.rest_url, **options) as polling:
            priced = {row.symbol for row in rows} - {"BCH-USD"}
            await polling.until(lambda: {ticker.symbol for ticker in polling.told(Ticker)} == priced)
            if poller is not CoinGecko:  # that one's recorded answer is not the one of 14 days
                await polling.until(lambda: polling.told(Candle))
            await polling.until(lambda: polling.heard.statuses("*")[-1].state == "live")
            if poller is AlpacaRest:
                assert {quote.symbol for quote in polling.told(Quote)} == {"AAPL", "ETH-USD"}
            starts = [(candle.symbol, candle.start, candle.revision) for candle in polling.told(Candle)]
            assert len(starts) == len(set(starts))


async def test_candles_come_once_however_often_they_are_polled() -> None:
    folder = SESSIONS / "alphavantage" / "alpha_vantage_2017-2020"
    async with (
        ReplayServer("alphavantage", [folder]) as server,
        Polling(FAST, [MSFT], server.rest_url, kinds=["candle"], intervals=["1m"]) as polling,
    ):
        job = polling.runner.schedule.jobs[0]
        await polling.until(lambda: job.answered)
        first = job.answered
        job.next = 0
        await polling.until(lambda: job.answered > first)
        candles = polling.told(Candle)
        assert len(candles) == 100
        assert {candle.revision for candle in candles} == {0}


async def test_429_stops_everything_for_as_long_as_it_says_and_slows_down() -> None:
    async with Venue(msft) as venue:
        venue.script.append((429, {"Retry-After": "2"}, b"slow down"))
        async with Polling(FAST, [MSFT], venue.url) as polling:
            await polling.until(lambda: polling.runner.schedule.slowed > 1)
            asked = len(venue.requests)
            banned = polling.rest.banned_until_ms
            assert banned is not None and asked == 1
            await polling.until(lambda: polling.told(Ticker))
            assert polling.told(Ticker)[0].ts_recv // 1_000_000 >= banned - 50
            assert 1 < polling.runner.pace < 2  # on its way back


@pytest.mark.parametrize("header", ["X-RateLimit-Reset", "Retry-After"])
async def test_the_end_of_the_silence_may_be_told_in_either_header(header: str) -> None:
    async with Venue(msft) as venue:
        at = int(time.time()) + 30
        venue.script.append((429, {header: str(at if header != "Retry-After" else 30)}, b""))
        rest = RestClient(FAST, LocalLimiter(10, 1), venue.url, [KEY])
        with pytest.raises(RateLimited) as caught:
            await rest.fetch(Fetch(resource="quote", path="/query"))
        await rest.close()
        assert abs(caught.value.until_ms / 1000 - at) < 3


async def test_throttling_with_status_200_is_throttling() -> None:
    text = "Please consider spreading out your free API requests more sparingly (1 request per second)."
    async with Venue(msft) as venue:
        venue.script.append((200, {}, json.dumps({"Information": text}).encode()))
        async with Polling(FAST, [MSFT], venue.url) as polling:
            await polling.until(lambda: polling.rest.banned_until_ms)
            assert polling.runner.schedule.slowed == 2
            assert len(venue.requests) == 1 and not polling.told(Ticker)


@pytest.mark.parametrize(
    "step",
    [
        (500, {}, b"oops"),
        (200, {}, b"<html>gateway</html>"),
        (200, {}, b"{"),
        (200, {}, b'{"Global Quote":{"05. price":"x"}}'),
    ],
)
async def test_a_failure_or_garbage_costs_that_answer(step: tuple[int, dict[str, str], bytes]) -> None:
    async with Venue(msft) as venue:
        venue.script.append(step)
        async with Polling(FAST, [MSFT], venue.url) as polling:
            await polling.until(
                lambda: polling.pipeline.counters["fetch_errors"] + polling.pipeline.counters["wire_errors"]
            )
            polling.runner.schedule.jobs[0].next = 0
            await polling.until(lambda: polling.told(Ticker))
            assert polling.heard.statuses("*")[-1].state == "live"


async def test_an_answer_that_never_comes_is_given_up() -> None:
    hangs = asyncio.Event()
    hasty: Any = limited(FAST, rest_timeout_s=1.0)

    async def hang(request: web.Request) -> web.StreamResponse:
        await hangs.wait()
        return web.Response()

    async with Venue(msft) as venue:
        venue.script.append(hang)
        async with Polling(hasty, [MSFT], venue.url) as polling:
            await polling.until(lambda: polling.pipeline.counters["fetch_errors"])
            polling.runner.schedule.jobs[0].next = 0
            await polling.until(lambda: polling.told(Ticker))
        hangs.set()


async def test_a_venue_that_fails_again_and_again_is_down() -> None:
    async def fails(request: web.Request) -> web.StreamResponse:
        return web.Response(status=503, body=b"maintenance")

    async with Venue(fails) as venue, Polling(FAST, [MSFT], venue.url) as polling:

        def down() -> bool:
            polling.runner.schedule.jobs[0].next = 0
            return any("failures in a row" in status.reason for status in polling.heard.statuses("*")[-1:])

        await polling.until(down)
        venue.usual = msft
        await polling.until(lambda: not down() and polling.heard.statuses("*")[-1].state == "live")


async def test_what_the_venue_does_not_know_is_down_and_the_rest_goes_on() -> None:
    async def quotes(request: web.Request) -> web.StreamResponse:
        return web.Response(body=BODY if request.query["symbol"] == "MSFT" else b'{"Global Quote": {}}')

    other = AlphaVantage.unlisted("NOSUCH", AV)
    async with Venue(quotes) as venue, Polling(FAST, [MSFT, other], venue.url) as polling:
        await polling.until(lambda: polling.told(Ticker, "MSFT") and polling.heard.statuses("NOSUCH"))
        (status,) = polling.heard.statuses("NOSUCH")
        assert (status.state, status.kind) == ("down", "ticker")
        assert "does not know this symbol" in status.reason
        assert polling.heard.statuses("*")[-1].state == "live"


async def test_data_goes_stale_by_the_schedule_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feeds.schedule.GRACE_NS", 0)
    monkeypatch.setattr("feeds.polled.JUDGE_S", 0.05)

    async with Venue(msft) as venue, Polling(FAST, [MSFT], venue.url, poll_s=0.3) as polling:
        await polling.until(lambda: polling.told(Ticker))
        answers = asyncio.Event()

        async def hang(request: web.Request) -> web.StreamResponse:
            await answers.wait()
            return await msft(request)

        venue.usual = hang
        await polling.until(lambda: "stale" in states(polling, "MSFT"))
        assert "no answer for" in polling.heard.statuses("MSFT")[-1].reason
        answers.set()
        await polling.until(lambda: states(polling, "MSFT")[-1] == "live")


async def test_symbols_come_and_go() -> None:
    async with Venue(msft) as venue, Polling(FAST, [MSFT], venue.url) as polling:
        await polling.until(lambda: polling.told(Ticker, "MSFT"))
        polling.runner.add([AlphaVantage.unlisted("IBM", AV)])
        await polling.until(lambda: polling.told(Ticker, "IBM"))
        await polling.runner.remove(["MSFT"], "no longer in the settings")
        last = polling.heard.messages[-1]
        assert isinstance(last, Status)
        assert (last.symbol, last.state, last.reason) == ("MSFT", "down", "no longer in the settings")
        assert {row.symbol for job in polling.runner.schedule.jobs for row in job.instruments} == {"IBM"}


# keys


async def test_no_key_in_logs_statuses_or_errors(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = f"We have detected your API key as {KEY} and our standard API rate limit is 25 requests per day."

    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.query["apikey"] == KEY
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with Venue(msft) as venue:
        venue.script.extend(
            [
                cut,
                (500, {}, f"failed at /query?apikey={KEY}".encode()),
                (302, {"Location": f"http://127.0.0.1:1/query?apikey={KEY}"}, b""),
                (200, {}, json.dumps({"Error Message": f"no such thing, {KEY}"}).encode()),
                (200, {}, json.dumps({"Information": echo}).encode()),
            ]
        )
        async with Polling(FAST, [MSFT], venue.url) as polling:

            def all_asked() -> bool:
                polling.runner.schedule.jobs[0].next = 0
                return not venue.script and polling.rest.banned_until_ms is not None

            await polling.until(all_asked)
            assert polling.runner.schedule.slowed == 2
            said = repr(polling.heard.messages) + repr(polling.runner.schedule.jobs[0].reason)
    assert len(caplog.records) >= 4 and "***" in caplog.text
    assert KEY not in caplog.text + said


async def test_no_key_in_what_an_error_shows() -> None:
    async with Venue(msft) as venue:
        rest = RestClient(FAST, LocalLimiter(10, 1), "http://127.0.0.1:1", [KEY])
        fetch = Fetch(resource="quote", path="/query", params=(("function", "GLOBAL_QUOTE"),))
        assert KEY not in rest.url(fetch)
        with pytest.raises(FetchError) as caught:
            await rest.fetch(fetch)
        await rest.close()
        assert KEY not in str(caught.value) + repr(caught.value)
        assert caught.value.__suppress_context__
        refusing = RestClient(FAST, LocalLimiter(10, 1), venue.url, [KEY])
        venue.script.append(
            (200, {}, json.dumps({"Error Message": f"the parameter apikey is invalid: {KEY}"}).encode())
        )
        with pytest.raises(FetchRefused) as refused:
            await refusing.fetch(fetch)
        await refusing.close()
        assert KEY not in str(refused.value) and "***" in str(refused.value)


def test_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from feeds.registry import adapter_of, credentials_of

    for name in ("ALPHAVANTAGE_API_KEY", "COINGECKO_API_KEY", "ALPACA_KEY_ID", "ALPACA_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=r"alphavantage needs the environment variable.* ALPHAVANTAGE_API_KEY"):
        credentials_of(adapter_of("alphavantage"))
    assert credentials_of(adapter_of("coingecko")) == ()
    with pytest.raises(ConfigError, match="COINGECKO_API_KEY"):
        credentials_of(adapter_of("coingecko", "prices", "pro"))
    with pytest.raises(ConfigError, match="ALPACA_KEY_ID, ALPACA_SECRET_KEY"):
        credentials_of(adapter_of("alpaca", "rest", "plus"))
