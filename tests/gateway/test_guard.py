"""Before anything is served: rates, origins, cross-origin answers, and secrets that stay secret."""

import asyncio
import json
import logging
from typing import Any

import pytest

from gateway.guard import address_of
from gateway.journal import LINES_PER_S, Journal
from gateway.limits import NAMES_MAX, Rates
from gateway.server import refuse_remote
from gateway.tokens import Verifier
from hub.access import AuthSettings
from hub.config import GatewaySettings
from hub.errors import ConfigError
from tests.gateway.kit import Feed, Gateway, gateway_on, quote, subscribe, until
from tests.gateway.tokens import SECRET, bearer, closing, mint, refused

TIGHT: dict[str, Any] = {"connects_per_s": 1.0, "requests_per_s": 1.0, "burst_s": 3.0}


# rates


def test_a_rate_with_a_burst() -> None:
    rates = Rates(2.0, 2.0)
    assert [rates.take("a", 100.0) for _ in range(4)] == [0.0] * 4
    assert rates.take("a", 100.0) == pytest.approx(0.5)
    assert rates.take("b", 100.0) == 0.0, "others have their own"
    assert rates.take("a", 100.5) == 0.0
    assert rates.take("a", 100.5) > 0
    assert [rates.take("a", 200.0) for _ in range(4)] == [0.0] * 4
    assert rates.refused == 2
    assert Rates(0.0, 1.0).take("a", 0.0) == 0.0


def test_names_are_bounded() -> None:
    rates = Rates(0.001, 1.0)
    for number in range(2 * NAMES_MAX):
        rates.take(str(number), float(number) / 1000)
    assert len(rates._even_at) <= NAMES_MAX


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("127.0.0.1", None), ("127.9.9.9", None), ("::1", None), ("::ffff:127.0.0.1", None),
        ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"), ("fe80::1%eth0", "fe80::/64"), ("odd", "odd"),
    ],
)  # fmt: skip
def test_addresses_are_counted_by_who_owns_them(host: str, name: str | None) -> None:
    assert address_of({"client": (host, 1)}) == name
    assert address_of({"client": None}) is None


async def test_connects_and_requests_per_address(redis_url: str, feed: Feed) -> None:
    async with gateway_on(redis_url, limits=TIGHT) as gateway:
        # A proxy on this machine says whom it speaks for.
        one = {"X_Forwarded_For": "192.0.2.1"}
        codes = [(await gateway.request("GET", "/v1/venues", **one))[0] for _ in range(5)]
        assert codes == [200, 200, 200, 429, 429]
        code, headers, body = await gateway.request("GET", "/v1/venues", **one)
        assert (code, headers["retry-after"], headers["content-type"]) == (429, "1", "application/problem+json")
        assert b"too_many_requests" in body
        assert (await gateway.get("/v1/venues", X_Forwarded_For="192.0.2.2"))[0] == 200
        assert [(await gateway.get("/v1/venues"))[0] for _ in range(9)] == [200] * 9, "this machine is not limited"
        there: dict[str, Any] = {"additional_headers": {"X-Forwarded-For": "192.0.2.1"}}
        for _ in range(3):
            async with gateway.connect(**there):
                pass
        status, problem, answer = await refused(gateway, **there)
        assert (status, problem, answer["Retry-After"]) == (429, "too_many_requests", "1")


async def test_connects_and_requests_per_token(redis_url: str, feed: Feed) -> None:
    async with gateway_on(redis_url, limits=TIGHT, auth={"secret": SECRET}) as gateway:
        for _ in range(3):
            async with gateway.connect(**bearer(mint(sub="a"))):
                pass
        assert (await refused(gateway, **bearer(mint(sub="a"))))[:2] == (429, "too_many_requests")
        async with gateway.connect(**bearer(mint(sub="b"))):
            pass
        a = {"Authorization": f"Bearer {mint(sub='a')}"}
        assert [(await gateway.get("/v1/venues", **a))[0] for _ in range(4)] == [200, 200, 200, 429]


async def test_a_full_gateway_says_so(redis_url: str, feed: Feed) -> None:
    async with gateway_on(redis_url, limits={"connections": 1}) as gateway, gateway.connect():
        status, code, headers = await refused(gateway)
        assert (status, code, headers["Retry-After"]) == (503, "too_many_connections", "5")


async def test_messages_are_limited_without_tokens_too(redis_url: str, feed: Feed) -> None:
    async with gateway_on(redis_url, limits={"messages_per_s": 1.0, "burst_s": 2.0}) as gateway:
        async with gateway.connect() as socket:
            for number in range(3):
                await socket.send(f'{{"op":"ping","id":{number}}}')
            assert (await until(socket, "error"))["code"] == "too_many_messages"


# origins


async def test_only_own_pages_may_connect(redis_url: str, feed: Feed) -> None:
    allowed = "https://dashboard.example"
    async with gateway_on(redis_url, origins=[allowed]) as gateway:
        for origin in (None, f"http://127.0.0.1:{gateway.port}", allowed):
            async with gateway.connect(origin=origin):
                pass
        for origin in ("https://evil.example", "null", f"http://127.0.0.1:{gateway.port + 1}", allowed + ".evil"):
            assert (await refused(gateway, origin=origin))[:2] == (403, "bad_origin")


async def test_a_name_that_points_here_is_not_this_machine(gateway: Gateway, redis_url: str) -> None:
    """DNS rebinding: the page's own name leads to the gateway, so its origin equals the host."""
    evil = {"Host": "evil.example", "Origin": "http://evil.example"}
    assert (await handshake(gateway, evil)).startswith(b"HTTP/1.1 403")
    local = {"Host": "localhost:1", "Origin": "http://localhost:1"}
    assert (await handshake(gateway, local)).startswith(b"HTTP/1.1 101")
    async with gateway_on(redis_url, auth={"secret": SECRET}) as guarded:
        # Tokens are not sent by the browser on its own, so behind a proxy any name will do.
        named = {"Host": "md.example", "Origin": "https://md.example", "Authorization": f"Bearer {mint()}"}
        assert (await handshake(guarded, named)).startswith(b"HTTP/1.1 101")


async def handshake(gateway: Gateway, headers: dict[str, str]) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    lines = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
             "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", **headers}  # fmt: skip
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"GET /v1/ws HTTP/1.1\r\n{head}\r\n".encode())
    answer = await asyncio.wait_for(reader.readline(), 30)
    writer.close()
    return answer


async def test_only_the_current_protocol_is_spoken(gateway: Gateway) -> None:
    for version in ("0", "8", "12", "14"):
        assert not (await handshake(gateway, {"Host": "t", "Sec-WebSocket-Version": version})).startswith(
            b"HTTP/1.1 101"
        )
    assert (await handshake(gateway, {"Host": "t"})).startswith(b"HTTP/1.1 101")


async def test_the_page_makes_text_of_what_it_gets(gateway: Gateway) -> None:
    _, headers, body = await gateway.request("GET", "/")
    assert headers["content-security-policy"].startswith("default-src 'none';")
    for dangerous in (b"innerHTML", b"outerHTML", b"insertAdjacent", b"document.write", b"eval("):
        assert dangerous not in body


async def test_answers_for_foreign_pages_only_where_they_are_named(redis_url: str, feed: Feed) -> None:
    origin = "https://dashboard.example"
    async with gateway_on(redis_url) as gateway:
        for method in ("GET", "OPTIONS"):
            _, headers, _ = await gateway.request(method, "/v1/venues", Origin=origin)
            assert not [name for name in headers if name.startswith("access-control")]
    async with gateway_on(redis_url, origins=[origin]) as gateway:
        _, headers, _ = await gateway.request("GET", "/v1/venues", Origin=origin)
        assert headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in headers
        asked = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "authorization"}
        code, headers, _ = await gateway.request("OPTIONS", "/v1/venues", Origin=origin, **asked)
        assert (code // 100, headers["access-control-allow-origin"]) == (2, origin)
        _, headers, _ = await gateway.request("GET", "/v1/venues", Origin="https://evil.example")
        assert headers.get("access-control-allow-origin") != "https://evil.example"


# secrets


async def test_secrets_are_in_no_log_and_no_answer(
    redis_url: str, feed: Feed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    good, bad = mint(), mint(secret="another secret that is long enough, too")
    seen = []
    async with gateway_on(redis_url, auth={"secret": SECRET}) as gateway:
        for token in (good, bad):
            for method in ("GET", "POST"):
                headers = {"Authorization": f"Bearer {token}"}
                _, answer, body = await gateway.request(method, "/v1/quotes/BTC-USDT?x=1", **headers)
                seen.append(f"{answer} {body!r}")
            _, answer, body = await gateway.request("GET", f"/v1/venues?token={token}")
            seen.append(f"{answer} {body!r}")
        await feed.publish(quote())
        async with gateway.connect(subprotocols=["bearer", good]) as socket:
            await subscribe(socket, "quote:binance:BTC-USDT")
            await until(socket, "quote")
            await socket.send(f'{{"op":"auth","token":"{bad}"}}')
            seen.append(str(await until(socket, "error")))
        for token in (good, bad):
            with pytest.raises(Exception) as error:
                await gateway.connect(f"?token={token}")
            seen.append(str(error.value))
    ours = [r.getMessage() + str(r.exc_text) for r in caplog.records if not r.name.startswith("websockets.client")]
    for text in [*ours, *seen]:
        for secret in (good, bad, SECRET, good.split(".")[2], bad.split(".")[2]):
            assert secret not in text


async def test_who_is_refused_or_comes_is_logged(redis_url: str, feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.journal")
    async with gateway_on(redis_url, auth={"secret": SECRET}, limits={"messages_per_s": 1.0}) as gateway:
        await refused(gateway, origin="https://evil.example")
        await refused(gateway, **bearer("nonsense"))
        await gateway.get("/v1/venues")
        async with gateway.connect(**bearer(mint(sub="bot\nfake line", jti="j1"))) as socket:
            await socket.send('{"op":"auth","token":"x"}')
            await until(socket, "error")
            for _ in range(40):
                await socket.send('{"op":"ping"}')
            await closing(socket)
    lines = [record.getMessage() for record in caplog.records if record.name == "gateway.journal"]
    assert lines[0] == "refused code='bad_origin' address='127.0.0.1' origin='https://evil.example' path='/v1/ws'"
    assert lines[1] == "refused code='bad_token' address='127.0.0.1' path='/v1/ws'"
    assert lines[2] == "refused code='no_token' address='127.0.0.1' path='/v1/venues'"
    sub = "sub='bot\\nfake line'"
    assert lines[3:] == [
        f"client came {sub} jti='j1'", f"token refused code='bad_token' {sub}", f"too many messages {sub}",
        f"client left {sub} jti='j1'",
    ]  # fmt: skip


def test_a_flood_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    journal = Journal(lambda: now)
    for _ in range(1000):
        journal.note("refused", code="x" * 1000)
    assert len(caplog.records) == LINES_PER_S
    assert len(caplog.records[0].getMessage()) < 200
    now = 1.0
    journal.note("refused")
    assert caplog.records[-1].getMessage() == f"refused omitted_before={1000 - LINES_PER_S}"


def test_a_short_secret_is_refused_without_showing_it(tmp_path: Any) -> None:
    file = tmp_path / "secret"
    file.write_text("short-one\n")
    for settings in (AuthSettings(secret="short-one"), AuthSettings(secret_file=str(file))):
        with pytest.raises(ConfigError) as error:
            Verifier(settings)
        assert "32 bytes" in str(error.value)
        assert "short-one" not in str(error.value)
    with pytest.raises(ConfigError, match="not both"):
        Verifier(AuthSettings(secret=SECRET, secret_file=str(file)))
    with pytest.raises(ConfigError, match="cannot be read"):
        Verifier(AuthSettings(secret_file=str(tmp_path / "none")))
    assert GatewaySettings(auth=AuthSettings(secret_file=str(file))).auth.required


def test_with_tokens_the_gateway_may_listen_on_any_address() -> None:
    for settings in (AuthSettings(secret=SECRET), AuthSettings(jwks="keys.json"), AuthSettings(secret_file="x")):
        refuse_remote(GatewaySettings(host="0.0.0.0", auth=settings))
    with pytest.raises(ConfigError, match=r"gateway\.auth"):
        refuse_remote(GatewaySettings(host="0.0.0.0"))


@pytest.mark.parametrize("origin", ["http://[::1", "http://[bad]:1", "null", "http://"])
@pytest.mark.parametrize("host", ["[bad", "", "127.0.0.1"])
async def test_an_origin_that_is_none_is_refused(redis_url: str, feed: Feed, origin: str, host: str) -> None:
    async with gateway_on(redis_url, auth={"secret": SECRET}) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(
            f"GET /v1/ws HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head, _, body = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 403 ")
    assert json.loads(body)["code"] == "bad_origin"


async def test_a_token_in_the_wrong_place_is_not_repeated(redis_url: str, feed: Feed) -> None:
    token = mint(sub="longer than a channel's name" * 5)
    paths = (f"/{token}", f"/v1/{token}", f"/v1/quotes/{token}", f"/v1/trades/BTC-USDT?venue={token}")
    async with gateway_on(redis_url, auth={"secret": SECRET}) as gateway:
        seen: list[Any] = [await gateway.request("GET", path, Authorization=f"Bearer {token}") for path in paths]
        for path in (f"/{token}", f"/BTC-USDT?kinds={token}", f"/BTC-USDT?venues={token}"):
            async with gateway.connect(path, **bearer(token)) as socket:
                seen.append(await until(socket, "error"))
        async with gateway.connect(**bearer(token)) as socket:
            for channel in (token, f"{token}:binance:BTC-USDT", f"quote:{token}:BTC-USDT"):
                await subscribe(socket, channel)
                seen.append(await until(socket, "error"))
    assert len(seen) == 10
    for answer in seen:
        assert token.rpartition(".")[2] not in str(answer)
        assert token.split(".")[1] not in str(answer)
