"""Tokens signed with keys that others hold: RS256 and ES256, by URL and by file, while keys change."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.jwks import COOLDOWN_S, KeySet, parse_keys
from gateway.tokens import Verifier
from hub.access import AuthSettings
from hub.errors import ConfigError, Refused
from tests.gateway.kit import Feed, gateway_on
from tests.gateway.tokens import SECRET, bearer, mint, refused
from tests.ports import free_port

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def row(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    kind: Any = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    public: dict[str, Any] = kind.to_jwk(key.public_key(), as_dict=True)
    return {**public, "kid": kid, **more}


def document(*rows: dict[str, Any]) -> bytes:
    return json.dumps({"keys": rows}).encode()


class Issuer:
    """Serves a key set, and counts how often it is asked."""

    def __init__(self) -> None:
        self.body = document(row(RSA, "r"), row(EC, "e"))
        self.status, self.asked = 200, 0
        self.url = f"http://127.0.0.1:{free_port()}/keys"

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(body=self.body, status=self.status)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    app = web.Application()
    app.router.add_get("/keys", issuer.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(issuer.url.split(":")[2].split("/")[0])).start()
    yield issuer
    await runner.cleanup()


RS: dict[str, Any] = {"secret": RSA, "algorithm": "RS256", "kid": "r"}
ES: dict[str, Any] = {"secret": EC, "algorithm": "ES256", "kid": "e"}


async def test_both_algorithms_by_url(redis_url: str, feed: Feed, issuer: Issuer) -> None:
    async with gateway_on(redis_url, auth={"jwks": issuer.url}) as gateway:
        for signed in (RS, ES):
            async with gateway.connect(**bearer(mint(**signed))):
                pass
        assert issuer.asked == 1
        assert (await refused(gateway, **bearer(mint())))[:2] == (401, "bad_token"), "there is no secret"


async def test_by_file(redis_url: str, feed: Feed, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(document(row(EC, "e")))
    async with gateway_on(redis_url, auth={"jwks": str(file), "secret": SECRET}) as gateway:
        for token in (mint(**ES), mint()):
            async with gateway.connect(**bearer(token)):
                pass
        assert (await refused(gateway, **bearer(mint(**RS))))[:2] == (401, "bad_token")


async def test_a_public_key_is_no_secret(issuer: Issuer) -> None:
    """The classic confusion: the token says HS256 and is signed with the text of the public key."""
    public = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    verifier = Verifier(AuthSettings(jwks=issuer.url, secret=SECRET))
    body = json.dumps({"sub": "x", "exp": 2**31}).encode()
    forged = jwt.PyJWS().encode(body, b"0" * 64, algorithm="HS256", headers={"kid": "r"})
    with pytest.raises(Refused):
        await verifier.verify(forged)
    with pytest.raises(Refused, match="not known"):
        await verifier.verify(mint(**{**ES, "kid": "r"}))
    assert b"PUBLIC KEY" in public
    await verifier.close()


async def test_new_keys_are_found_and_unknown_ones_do_not_cause_a_storm(issuer: Issuer) -> None:
    now = 1000.0
    keys = KeySet(issuer.url, 600.0, lambda: now)
    assert await keys.find("e") is not None
    new = ec.generate_private_key(ec.SECP256R1())
    issuer.body = document(row(EC, "e"), row(new, "new"))
    for kid in ("new", "made up", "another"):
        assert await keys.find(kid) is None, "only just looked"
    assert issuer.asked == 1
    now += COOLDOWN_S
    found = await asyncio.gather(*(keys.find("new") for _ in range(20)))
    assert None not in found
    assert issuer.asked == 2
    # Withdrawn keys go with the next refresh, which nobody waits for.
    issuer.body = document(row(new, "new"))
    now += 600
    assert await keys.find("e") is not None
    async with asyncio.timeout(30):
        while await keys.find("e") is not None:
            await asyncio.sleep(0.01)
    await keys.close()


async def test_keys_last_while_the_source_is_away_but_not_for_ever(issuer: Issuer) -> None:
    now = 1000.0
    keys = KeySet(issuer.url, 600.0, lambda: now)
    assert await keys.find("r") is not None
    for status, body in ((500, b""), (302, b""), (200, b"nonsense"), (200, b"[" * 300_000)):
        issuer.status, issuer.body = status, body
        now += 700
        assert await keys.find("r") is not None
        await asyncio.sleep(0.05)
    now += 90_000
    assert await keys.find("r") is None
    await keys.close()


def test_only_keys_that_fit_are_taken() -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    other = ec.generate_private_key(ec.SECP384R1())
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "oct"}
    rows = [
        row(weak, "weak"), row(other, "p384"), secret, row(RSA, "enc", use="enc"), row(RSA, "ps", alg="PS256"),
        {"kty": "RSA", "kid": "broken"}, {"kty": "EC", "crv": 5}, row(RSA, "good", use="sig", alg="RS256"),
        row(EC, "e"),
    ]  # fmt: skip
    assert {kid: key.algorithm for kid, key in parse_keys(document(*rows)).items()} == {"good": "RS256", "e": "ES256"}
    for nonsense in (b"", b"{}", b'{"keys":5}', b"\xff"):
        with pytest.raises(ValueError, match="no key set"):
            parse_keys(nonsense)


async def test_issuer_and_audience(issuer: Issuer) -> None:
    verifier = Verifier(AuthSettings(secret=SECRET, issuer="me", audience="tickwire"))
    assert (await verifier.verify(mint(iss="me", aud=["other", "tickwire"]))).sub == "bot"
    bad: list[Any] = [
        {},
        {"iss": "me"},
        {"aud": "tickwire"},
        {"iss": "you", "aud": "tickwire"},
        {"iss": "me", "aud": "x"},
    ]
    for claims in bad:
        with pytest.raises(Refused):
            await verifier.verify(mint(**claims))


def test_keys_over_plain_http_are_refused() -> None:
    with pytest.raises(ConfigError, match="https"):
        KeySet("http://example.org/keys", 600.0)
