"""Tokens for tests, and what comes of showing them."""

import json
import time
from typing import Any

import jwt
from websockets.asyncio.client import ClientConnection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.gateway.kit import Gateway

__all__ = ["SECRET", "bearer", "closing", "mint", "refused"]

SECRET = "a secret for tests, as long as it has to be" + " for the longest hash"


def mint(*channels: str, ttl: float = 3600, secret: Any = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """Return a token; a claim that is None is left out."""
    headers = {"kid": claims.pop("kid")} if "kid" in claims else None
    base: dict[str, Any] = {"sub": "bot", "jti": f"t{time.time_ns()}", "exp": int(time.time() + ttl)}
    base |= {"channels": list(channels or ("*",)), **claims}
    known = {name: value for name, value in base.items() if value is not None}
    return jwt.encode(known, secret, algorithm=algorithm, headers=headers)


def bearer(token: str) -> dict[str, Any]:
    """Options of Gateway.connect that send `token` as a header."""
    return {"additional_headers": {"Authorization": f"Bearer {token}"}}


async def refused(gateway: Gateway, path: str = "", **options: Any) -> tuple[int, str, Headers]:
    """Connect where that must fail; returns status, the problem's code, headers."""
    try:
        async with gateway.connect(path, **options):
            raise AssertionError("accepted")
    except InvalidStatus as error:
        body = json.loads(bytes(error.response.body or b""))
        assert body["status"] == error.response.status_code
        return error.response.status_code, body["code"], error.response.headers


async def closing(socket: ClientConnection) -> tuple[int, list[dict[str, Any]]]:
    """Return the close code, and what came before it."""
    found = []
    try:
        while True:
            found.append(json.loads(await socket.recv()))
    except ConnectionClosed as error:
        assert error.rcvd is not None
        return error.rcvd.code, found
