"""Public keys of whoever issues tokens (RFC 7517): read from a URL or a file, kept, and read again now and then.

An unknown key id is looked up at most every COOLDOWN_S, because strangers can make them up. While the source cannot be
read the keys known last go on counting, for a day at most.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from msgspec import Struct

from hub.errors import ConfigError
from hub.log import mask_url

__all__ = ["KeySet", "PublicKey", "parse_keys"]

logger = logging.getLogger(__name__)

COOLDOWN_S = 10.0
STALE_S = 86_400.0
TIMEOUT_S = 5.0
BODY_MAX = 262_144
KEYS_MAX: Final = 64
RSA_MIN_BITS: Final = 2048


class PublicKey(Struct, frozen=True):
    """A key and the one algorithm it is for: a token does not choose how it is checked."""

    algorithm: str
    key: Any  # what PyJWT takes: a public key of cryptography


class _Set(Struct):
    keys: list[dict[str, Any]]


def parse_keys(body: bytes) -> dict[str, PublicKey]:
    """Return key id -> key, those for RS256 and ES256; ValueError where the document is no key set.

    A key without an id has the id "". Keys for other purposes, and symmetric ones, are left out.
    """
    try:
        rows = msgspec.json.decode(body, type=_Set).keys[:KEYS_MAX]
    except msgspec.DecodeError as error:
        raise ValueError(f"no key set: {error}") from error
    found: dict[str, PublicKey] = {}
    for row in rows:
        if row.get("use", "sig") != "sig" or row.get("kty") not in ("RSA", "EC") or "d" in row:
            continue
        try:
            key: object = jwt.PyJWK(row, "RS256" if row["kty"] == "RSA" else "ES256").key
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        if isinstance(key, RSAPublicKey) and key.key_size >= RSA_MIN_BITS:
            algorithm = "RS256"
        elif isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
            algorithm = "ES256"
        else:
            continue
        if row.get("alg", algorithm) == algorithm:
            found[str(row.get("kid", ""))] = PublicKey(algorithm, key)
    return found


class KeySet:
    """The keys of one source. `clock` is monotonic, in s."""

    def __init__(self, source: str, refresh_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.source, self.refresh_s = source, refresh_s
        self._clock = clock
        self._remote = _is_remote(source)
        self._keys: dict[str, PublicKey] = {}
        self._read_at = self._tried_at = -STALE_S
        self._reading: asyncio.Task[None] | None = None

    async def find(self, kid: str) -> PublicKey | None:
        """Return the key of an id, after another look at the source where it is not known."""
        now = self._clock()
        if now - self._read_at > STALE_S:
            self._keys = {}
        reading = self._reading is not None and not self._reading.done()
        if kid not in self._keys and (reading or now - self._tried_at >= COOLDOWN_S):
            await asyncio.shield(self._start())  # shared: who gives up must not take it from the others
        elif now - self._tried_at >= self.refresh_s:
            self._start()  # this one is answered with what is known
        return self._keys.get(kid)

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def _start(self) -> "asyncio.Task[None]":
        if self._reading is None or self._reading.done():
            self._tried_at = self._clock()
            self._reading = asyncio.create_task(self._read())
        return self._reading

    async def _read(self) -> None:
        try:
            body = await self._fetch() if self._remote else await asyncio.to_thread(_load, self.source)
            keys = parse_keys(body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            logger.warning("key set not readable source=%s error=%s", mask_url(self.source), type(error).__name__)
            return
        if set(keys) != set(self._keys):
            logger.info("key set read source=%s keys=%d", mask_url(self.source), len(keys))
        self._keys, self._read_at = keys, self._clock()

    async def _fetch(self) -> bytes:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            async with session.get(self.source, allow_redirects=False) as response:
                if response.status != 200:
                    raise ValueError(f"status {response.status}")
                body = await response.content.read(BODY_MAX + 1)
                while len(body) <= BODY_MAX and (more := await response.content.read(BODY_MAX + 1)):
                    body += more
        if len(body) > BODY_MAX:
            raise ValueError("too large")
        return body


def _is_remote(source: str) -> bool:
    parts = urlsplit(source)
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise ConfigError("gateway.auth.jwks: keys over http could be anybody's; use https")
    return parts.scheme in ("http", "https")


def _load(path: str) -> bytes:
    with Path(path).open("rb") as file:
        body = file.read(BODY_MAX + 1)
    if len(body) > BODY_MAX:
        raise ValueError("too large")
    return body
