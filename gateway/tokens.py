"""From a token to a grant: signature, times, issuer, audience, claims. What is refused is said without the token."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Final

import jwt

from gateway.jwks import KeySet, PublicKey
from hub.access import AuthSettings, Grant, grant_of, secret_of
from hub.errors import Refused, RequestError

__all__ = ["Verifier"]

TOKEN_CHARS_MAX: Final = 8192
CACHE_MAX: Final = 10_000
CACHE_S: Final = 60.0


class Verifier:
    """Checks tokens; one that was good is not checked again for CACHE_S, but never counts beyond its end.

    `clock` is unix time in s.
    """

    def __init__(self, settings: AuthSettings, clock: Callable[[], float] = time.time) -> None:
        self._settings, self._clock = settings, clock
        secret = secret_of(settings)
        self._secret = PublicKey("HS256", secret) if secret else None
        self._keys = KeySet(settings.jwks, settings.jwks_refresh_s) if settings.jwks else None
        self._known: dict[bytes, tuple[Grant, float]] = {}

    async def close(self) -> None:
        if self._keys is not None:
            await self._keys.close()

    async def verify(self, token: str) -> Grant:
        """Return what `token` grants. Raises Refused (401) with the reason."""
        if len(token) > TOKEN_CHARS_MAX:
            raise _refused("the token is too long")
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        grant, good_until = self._known.get(digest, (None, 0.0))
        now = self._clock()
        if grant is None or now >= good_until:
            self._known.pop(digest, None)
            grant = await self._check(token, digest.hex()[:32])
            while len(self._known) >= CACHE_MAX:
                del self._known[next(iter(self._known))]
            self._known[digest] = grant, now + CACHE_S
        if now >= grant.until + self._settings.leeway_s:
            raise _refused("the token expired", "token_expired")
        return grant

    async def _check(self, token: str, name: str) -> Grant:
        key = await self._key(token)
        settings = self._settings
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                leeway=settings.leeway_s,
                issuer=settings.issuer or None,
                audience=settings.audience or None,
                options={"require": ["exp", "sub"], "verify_aud": bool(settings.audience)},
            )
            grant = grant_of(claims, name)
        except jwt.ExpiredSignatureError as error:
            raise _refused("the token expired", "token_expired") from error
        except (jwt.InvalidTokenError, OverflowError) as error:
            raise _refused(_why(error)) from error
        except RequestError as error:
            raise _refused(error.detail) from error
        if grant.until > self._clock() + settings.max_ttl_s + settings.leeway_s:
            raise _refused(f"the token lives longer than {settings.max_ttl_s} s (gateway.auth.max_ttl_s)")
        return grant

    async def _key(self, token: str) -> PublicKey:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise _refused("this is no JWT") from error
        algorithm, kid = header.get("alg"), header.get("kid", "")
        if algorithm == "HS256" and self._secret is not None:
            return self._secret
        if algorithm in ("RS256", "ES256") and self._keys is not None:
            async with asyncio.timeout(10):
                key = await self._keys.find(kid if isinstance(kid, str) else "")
            if key is None or key.algorithm != algorithm:
                raise _refused("the token was signed with a key that is not known here")
            return key
        raise _refused("tokens signed this way are not accepted here")


def _refused(detail: str, code: str = "bad_token") -> Refused:
    return Refused(401, code, detail)


def _why(error: Exception) -> str:
    match error:
        case jwt.InvalidSignatureError():
            return "the token's signature is wrong"
        case jwt.ImmatureSignatureError():
            return "the token is not valid yet"
        case jwt.InvalidIssuerError() | jwt.InvalidAudienceError():
            return "the token is for somebody else (iss or aud)"
        case jwt.MissingRequiredClaimError():
            return f"the token lacks the claim {error.claim}"
        case _:
            return "the token cannot be used"
