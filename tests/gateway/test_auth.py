"""Tokens over real sockets: where they may be, what they let through, how they end."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hub.admission import Admission
from hub.embedded import EmbeddedRedis
from hub.keys import Keys
from tests.gateway.kit import Feed, Gateway, eventually, gateway_on, messages, quote, subscribe, trade, until
from tests.gateway.tokens import SECRET, bearer, closing, mint, refused

QUOTE = "quote:binance:BTC-USDT"
TRADE = "trade:binance:BTC-USDT"
AUTH: dict[str, Any] = {"secret": SECRET, "leeway_s": 0.0}


@pytest.fixture
async def guarded(redis_url: str, feed: Feed) -> AsyncIterator[Gateway]:
    async with gateway_on(redis_url, auth=AUTH) as gateway:
        yield gateway


async def auth(socket: Any, token: str, **fields: Any) -> None:
    await socket.send(json.dumps({"op": "auth", "token": token, **fields}))


# where a token may be


async def test_in_the_header(feed: Feed, guarded: Gateway) -> None:
    await feed.publish(quote(3.0))
    async with guarded.connect(**bearer(mint("quote:*:*"))) as socket:
        await subscribe(socket, QUOTE)
        assert (await until(socket, "quote"))["bid"] == 3.0
        await feed.publish(quote(4.0))
        assert (await until(socket, "quote"))["bid"] == 4.0


async def test_behind_the_subprotocol(feed: Feed, guarded: Gateway) -> None:
    await feed.publish(quote(3.0))
    async with guarded.connect(subprotocols=["bearer", mint()]) as socket:
        assert socket.subprotocol == "bearer", "the token is never repeated"
        await subscribe(socket, QUOTE)
        assert (await until(socket, "quote"))["bid"] == 3.0


async def test_as_the_first_message_with_more_behind_it(feed: Feed, guarded: Gateway) -> None:
    await feed.publish(quote(3.0))
    async with guarded.connect() as socket:
        await auth(socket, mint(sub="bot-7"), id=1)
        await subscribe(socket, QUOTE, id=2)
        told = json.loads(await socket.recv())
        assert (told["type"], told["id"], told["sub"]) == ("auth", 1, "bot-7")
        assert abs(told["exp"] - time.time() - 3600) < 60
        assert (await until(socket, "quote"))["bid"] == 3.0


async def test_a_url_that_subscribes_waits_for_the_token(feed: Feed, guarded: Gateway) -> None:
    await feed.publish(quote(3.0))
    async with guarded.connect("/BTC-USDT?kinds=quote") as socket:
        assert await messages(socket) == []
        await auth(socket, mint())
        assert (await until(socket, "quote"))["bid"] == 3.0
    async with guarded.connect("/BTC-USDT?kinds=quote", **bearer(mint())) as socket:
        assert (await until(socket, "quote"))["bid"] == 3.0


@pytest.mark.parametrize("name", ["token", "access_token", "TOKEN", "jwt"])
async def test_never_in_a_url(guarded: Gateway, name: str) -> None:
    token = mint()
    assert (await refused(guarded, f"?{name}={token}"))[:2] == (400, "token_in_url")
    code, body = await guarded.get(f"/v1/venues?{name}={token}")
    assert (code, body["code"]) == (400, "token_in_url")
    assert token not in json.dumps(body)


async def test_where_nobody_asks_a_token_does_no_harm(gateway: Gateway) -> None:
    async with gateway.connect(**bearer("x")) as socket:
        await auth(socket, "x", id=1)
        assert json.loads(await socket.recv()) == {"type": "auth", "id": 1, "sub": None, "exp": None}


# what is refused


async def test_nothing_without_a_token(feed: Feed, guarded: Gateway) -> None:
    await feed.publish(quote())
    async with guarded.connect() as socket:
        for op in ("subscribe", "unsubscribe", "ping"):
            await socket.send(json.dumps({"op": op, "channels": [QUOTE], "id": op}))
            error = json.loads(await socket.recv())
            assert (error["code"], error["id"]) == ("unauthorized", op)
        await feed.publish(quote())
        assert await messages(socket) == []


async def test_a_socket_without_a_token_is_closed_in_time(redis_url: str, feed: Feed) -> None:
    async with gateway_on(redis_url, auth={**AUTH, "deadline_s": 0.5}) as gateway, gateway.connect() as socket:
        code, _ = await asyncio.wait_for(closing(socket), 30)
        assert code == 4401


def bad_tokens() -> dict[str, str]:
    """Return tokens to be refused, made now: some of them are about time."""
    return {
        "not a jwt": "nonsense",
        "other secret": mint(secret="another secret that is long enough, too"),
        "expired": mint(ttl=-10),
        "no exp": mint(exp=None),
        "no sub": mint(sub=None),
        "not yet": mint(nbf=int(time.time()) + 600),
        "too long lived": mint(ttl=400 * 86_400),
        "none": mint(secret=None, algorithm="none"),
        "other algorithm": mint(algorithm="HS512"),
        "bad pattern": mint("quote:binance"),
        "bad limit": mint(max_connections=-1),
        "channels no list": mint(channels="*"),
        "huge": "x" * 9000,
    }


@pytest.mark.parametrize("name", bad_tokens())
async def test_bad_tokens(guarded: Gateway, name: str) -> None:
    token = bad_tokens()[name]
    if name != "huge":  # beyond what a header may have
        status, code, headers = await refused(guarded, **bearer(token))
        assert (status, code) == (401, "token_expired" if name == "expired" else "bad_token")
        assert headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        assert (await guarded.get("/v1/venues", Authorization=f"Bearer {token}"))[0] == 401
    async with guarded.connect() as socket:
        await auth(socket, token, id=1)
        closed, (error,) = await closing(socket)
        assert (closed, error["type"], error["id"]) == (4401, "error", 1)
        assert token not in json.dumps(error)


async def test_another_scheme_is_said(guarded: Gateway) -> None:
    assert (await refused(guarded, additional_headers={"Authorization": "Basic YTpi"}))[:2] == (401, "bad_token")
    status, headers, _ = await guarded.request("GET", "/v1/venues")
    assert (status, headers["www-authenticate"]) == (401, "Bearer")


# what a token lets through


async def test_channels_outside_the_token_are_forbidden_one_by_one(feed: Feed, guarded: Gateway) -> None:
    await feed.publish(quote(), trade(1), quote(symbol="ETH-USDT"))
    token = mint("quote:binance:BTC-USDT", "candle.*:binance:*")
    async with guarded.connect(**bearer(token)) as socket:
        await subscribe(socket, TRADE, QUOTE, "candle.1m:binance:X", "quote:binance:ETH-USDT", "status:binance:*", id=1)
        found = await messages(socket)
    assert {m["channel"] for m in found if m.get("code") == "forbidden"} == {TRADE, "quote:binance:ETH-USDT"}
    acked = {m["channel"] for m in found if m["type"] == "ack"}
    assert acked == {QUOTE, "candle.1m:binance:X", "status:binance:*"}
    assert {m["type"] for m in found} == {"ack", "error", "quote"}


async def test_patterns_stand_for_what_the_token_covers(redis_url: str, feed: Feed, guarded: Gateway) -> None:
    await feed.publish(quote(), quote(symbol="ETH-USDT"))
    async with Feed(redis_url, "kraken") as other, guarded.connect(**bearer(mint("quote:binance:*"))) as socket:
        await other.publish(quote(venue="kraken"))
        await eventually(lambda: "quote:kraken:BTC-USDT" in guarded.runtime.directory.names)
        await subscribe(socket, "quote:*:BTC-USDT", "trade:*:*", "quote:kraken:*")
        found = await messages(socket)
        assert [m["channel"] for m in found if m["type"] == "error"] == ["trade:*:*", "quote:kraken:*"]
        assert [m["matched"] for m in found if "matched" in m] == [1]
        await subscribe(socket, "quote:*:*")
        await messages(socket)
        await other.publish(quote(venue="kraken", symbol="NEW-USDT"))
        await feed.publish(quote(symbol="NEW-USDT"))
        found = await messages(socket)
        assert {m["venue"] for m in found if "venue" in m} == {"binance"}, "also of what is added later"
        assert {m["symbol"] for m in found if m["type"] == "quote"} == {"NEW-USDT"}


async def test_limits_of_a_token(feed: Feed, guarded: Gateway) -> None:
    token = mint(sub="small", max_connections=2, max_subscriptions=2, max_messages_per_s=1)
    async with guarded.connect(**bearer(token)) as socket, guarded.connect(**bearer(token)):
        status, code, headers = await refused(guarded, **bearer(mint(sub="small", max_connections=2)))
        assert (status, code) == (429, "too_many_connections")
        assert int(headers["Retry-After"]) > 0
        async with guarded.connect() as third:
            await auth(third, token)
            assert (await closing(third))[0] == 1013
        await subscribe(socket, *(f"quote:binance:S{n}" for n in range(3)))
        assert [m["code"] for m in await messages(socket) if m["type"] == "error"] == ["too_many_subscriptions"]
        began = time.monotonic()
        for _ in range(40):
            await socket.send('{"op":"ping"}')
        closed, found = await closing(socket)
        assert closed == 4429
        assert sum(m["type"] == "pong" for m in found) <= 10 + time.monotonic() - began
        assert any(m.get("code") == "too_many_messages" for m in found)
    async with asyncio.timeout(30):
        while True:  # the slots come back at once
            try:
                async with guarded.connect(**bearer(token)):
                    break
            except Exception:
                await asyncio.sleep(0.05)


async def test_connections_are_counted_over_all_gateways(redis_url: str, guarded: Gateway) -> None:
    token = mint(max_connections=1)
    async with gateway_on(redis_url, auth=AUTH) as other, guarded.connect(**bearer(token)):
        assert (await refused(other, **bearer(token)))[:2] == (429, "too_many_connections")


async def test_rest_is_guarded_likewise(feed: Feed, guarded: Gateway) -> None:
    await feed.publish(quote(), trade(1), quote(symbol="ETH-USDT"))
    some = {"Authorization": f"Bearer {mint('quote:*:BTC-USDT')}"}
    assert (await guarded.get("/v1/quotes/BTC-USDT"))[0] == 401
    assert (await guarded.get("/v1/quotes/BTC-USDT", **some))[0] == 200
    for path in ("quotes/ETH-USDT", "trades/BTC-USDT", "books/BTC-USDT", "tickers/BTC-USDT", "candles/BTC-USDT",
                 "series/BTC-USDT?kind=trade"):  # fmt: skip
        code, body = await guarded.get(f"/v1/{path}", **some)
        assert (code, body["code"]) == (403, "forbidden"), path
    code, body = await guarded.get("/v1/quotes", **some)
    assert [row["symbol"] for row in body["items"]] == ["BTC-USDT"]
    code, body = await guarded.get("/v1/quotes?symbols=BTC-USDT,ETH-USDT", **some)
    assert [row["symbol"] for row in body["items"]] == ["BTC-USDT"]
    assert body["unknown"] == ["ETH-USDT"]
    for path in ("/v1/venues", "/v1/instruments", "/metrics"):
        assert (await guarded.request("GET", path))[0] == 401
        assert (await guarded.request("GET", path, **some))[0] == 200
    for path in ("/", "/health/live", "/health/ready", "/schema"):
        assert (await guarded.request("GET", path))[0] == 200


# how a token ends


async def test_expiry_closes_a_live_socket(feed: Feed, guarded: Gateway) -> None:
    async with guarded.connect(**bearer(mint(ttl=4))) as socket:
        await subscribe(socket, QUOTE)
        code, found = await closing(socket)
        assert code == 4401
        assert found[-1]["code"] == "token_expired"
        assert guarded.runtime.clients.gate is not None and guarded.runtime.clients.gate.expired == 1


async def test_renewal_in_place_goes_on_without_a_hole(feed: Feed, guarded: Gateway) -> None:
    async with guarded.connect(**bearer(mint(ttl=4))) as socket:
        await subscribe(socket, TRADE)
        await until(socket, "ack")
        await auth(socket, mint(), id=9)
        await until(socket, "auth", id=9)
        for number in range(1, 31):  # beyond the end of the first token
            await feed.publish(trade(number))
            await asyncio.sleep(0.15)
        found = await messages(socket)
        assert [m["trade_id"] for m in found] == [str(n) for n in range(1, 31)]


async def test_a_renewal_that_fails_leaves_the_old_token_in_force(feed: Feed, guarded: Gateway) -> None:
    async with guarded.connect(**bearer(mint(sub="a"))) as socket:
        await auth(socket, mint(sub="b"), id=1)
        assert (await until(socket, "error", id=1))["code"] == "other_subject"
        await auth(socket, "nonsense", id=2)
        assert (await until(socket, "error", id=2))["code"] == "bad_token"
        await socket.send('{"op":"ping","id":3}')
        await until(socket, "pong", id=3)


async def test_a_renewal_changes_what_may_be_read(feed: Feed, guarded: Gateway) -> None:
    await feed.publish(quote(), quote(symbol="ETH-USDT"), trade(1))
    async with guarded.connect(**bearer(mint("quote:*:BTC-USDT", "trade:*:*"))) as socket:
        await subscribe(socket, "quote:binance:*", TRADE)
        await messages(socket)
        await auth(socket, mint("quote:*:ETH-USDT"))
        found = await messages(socket)
        assert {m["channel"] for m in found if m.get("code") == "forbidden"} == {QUOTE, TRADE}
        await feed.publish(quote(8.0), quote(9.0, symbol="ETH-USDT"), trade(2))
        found = await messages(socket)
        assert [(m["type"], m["symbol"]) for m in found] == [("quote", "ETH-USDT")]
        assert (await guarded.get("/v1/venues", Authorization=f"Bearer {mint()}"))[0] == 200


async def test_revoked_tokens_are_refused_and_their_sockets_closed(redis_url: str, guarded: Gateway) -> None:
    bad, good = mint(jti="bad"), mint(jti="good")
    admission = Admission(redis_url, Keys())
    async with guarded.connect(**bearer(bad)) as socket, guarded.connect(**bearer(good)) as other:
        await admission.revoke("bad", time.time() + 3600)
        code, found = await asyncio.wait_for(closing(socket), 30)
        assert code == 4401
        assert found[-1]["code"] == "token_revoked"
        assert (await refused(guarded, **bearer(bad)))[:2] == (401, "token_revoked")
        assert (await guarded.get("/v1/venues", Authorization=f"Bearer {bad}"))[0] == 401
        await other.send('{"op":"ping"}')
        await until(other, "pong")
    await admission.revoke("gone", time.time() - 1)
    await admission.revoke("last", time.time() + 60)
    assert await admission.revoked(["bad", "gone", "good", "last"]) == {"bad", "last"}, "old ones are forgotten"
    await admission.close()


async def test_while_redis_is_away_nobody_new_comes_in_and_nobody_is_thrown_out(tmp_path: Any) -> None:
    server = EmbeddedRedis(tmp_path)
    await server.start()
    try:
        async with gateway_on(server.url, auth=AUTH) as gateway, gateway.connect(**bearer(mint())) as socket:
            await server.stop()
            status, code, headers = await refused(gateway, **bearer(mint()))
            assert (status, code, headers["Retry-After"]) == (503, "redis_unavailable", "1")
            async with gateway.connect() as late:
                await auth(late, mint())
                assert (await closing(late))[0] == 1013
            await socket.send('{"op":"ping"}')
            await until(socket, "pong")
    finally:
        await server.stop()


async def test_who_has_not_said_who_it_is_takes_no_slot(redis_url: str, feed: Feed) -> None:
    async with gateway_on(redis_url, auth={"secret": SECRET}, limits={"connections_per_subject": 1}) as gateway:
        async with gateway.connect() as silent, gateway.connect() as other:
            for number in range(3):
                async with gateway.connect() as socket:
                    await socket.send(json.dumps({"op": "auth", "token": mint(sub=f"bot {number}")}))
                    assert (await until(socket, "auth"))["sub"] == f"bot {number}"
            for socket in (silent, other):
                await socket.send(json.dumps({"op": "auth", "token": mint(sub="one")}))
            assert (await until(silent, "auth"))["sub"] == "one"
            assert (await until(other, "error"))["code"] == "too_many_connections"
