"""Who gets in: tokens, origins and rates, checked before a request is served or a WebSocket is accepted.

A token comes in the Authorization header, or for browsers behind the subprotocol `bearer`, or as the socket's first
message; never in a URL, which ends up in logs. What is refused is a Refused with its HTTP status.
"""

import ipaddress
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from msgspec import Struct

from gateway.journal import Journal
from gateway.limits import Rates
from gateway.tokens import Verifier
from hub.access import NOBODY, OPEN, Grant
from hub.admission import Admission
from hub.config import GatewaySettings
from hub.errors import Refused

__all__ = ["BEARER", "MSGPACK", "Guard", "Newcomer", "address_of", "only_guests", "refusal_headers"]

BEARER: Final = "bearer"
MSGPACK: Final = "msgpack"
#: A token that was not revoked is looked up again after this long.
RECHECK_S = 2.0
FRESH_MAX: Final = 50_000
_IN_URL: Final = ("token=", "access_token=", "jwt=", "bearer=")


class Newcomer(Struct):
    """A WebSocket that may be accepted: `grant` NOBODY where the token is still to come."""

    grant: Grant
    subprotocol: str | None


class Guard:
    """The rules of one worker."""

    def __init__(self, settings: GatewaySettings, admission: Admission) -> None:
        limits = settings.limits
        self.settings, self.admission = settings, admission
        self.verifier = Verifier(settings.auth) if settings.auth.required else None
        self.connects = Rates(limits.connects_per_s, limits.burst_s)
        self.requests = Rates(limits.requests_per_s, limits.burst_s)
        self.refused = 0
        self.journal = Journal()
        self._fresh: dict[str, float] = {}

    def note_refused(self, code: str, scope: Any) -> None:
        """Count and log that somebody was not let in."""
        self.refused += 1
        client = scope.get("client")
        address = client[0] if client else None
        self.journal.note("refused", code=code, address=address, origin=_header(scope, b"origin"), path=scope["path"])

    async def close(self) -> None:
        if self.verifier is not None:
            await self.verifier.close()

    async def request(self, scope: Any) -> Grant:
        """Return what the sender of an HTTP request may. Raises Refused."""
        self._take(self.requests, address_of(scope))
        _refuse_in_url(scope)
        if self.verifier is None:
            return OPEN
        token = _bearer(scope)
        if token is None:
            raise Refused(401, "no_token", "a token is needed: Authorization: Bearer <JWT>")
        grant = await self.identify(token)
        self._take(self.requests, f"sub {grant.sub}")
        return grant

    async def connect(self, scope: Any, clients: int) -> Newcomer:
        """Judge a WebSocket handshake, with `clients` connected already. Raises Refused."""
        if clients >= self.settings.limits.connections:
            raise Refused(503, "too_many_connections", "the gateway is full", 5.0)
        self._take(self.connects, address_of(scope))
        _refuse_in_url(scope)
        self._check_origin(scope)
        offered: Sequence[str] = scope.get("subprotocols") or ()
        chosen = next((name for name in (MSGPACK, BEARER) if name in offered), None)
        if self.verifier is None:
            return Newcomer(OPEN, chosen)
        token = _bearer(scope) or _offered(offered)
        if token is None:
            return Newcomer(NOBODY, chosen)
        return Newcomer(await self.identify(token, connects=True), chosen)

    async def identify(self, token: str, *, connects: bool = False) -> Grant:
        """Return what `token` grants. Raises Refused, and RedisUnavailable where nobody can say if it is revoked."""
        if self.verifier is None:
            return OPEN
        try:
            grant = await self.verifier.verify(token)
        except TimeoutError as error:
            raise Refused(503, "keys_unavailable", "the keys of tokens cannot be read at the moment", 5.0) from error
        now = time.monotonic()
        if now - self._fresh.get(grant.jti, -RECHECK_S) >= RECHECK_S:
            if await self.admission.revoked([grant.jti]):
                raise Refused(401, "token_revoked", "the token was revoked")
            self.note_good([grant.jti], now)
        if connects:
            self._take(self.connects, f"sub {grant.sub}")
        return grant

    def note_good(self, jtis: Sequence[str], now: float) -> None:
        """Remember that tokens were not revoked at `now` (monotonic, s)."""
        if len(self._fresh) + len(jtis) > FRESH_MAX:
            self._fresh.clear()
        self._fresh.update(dict.fromkeys(jtis, now))

    def forget(self, jti: str) -> None:
        self._fresh.pop(jti, None)

    def _take(self, rates: Rates, name: str | None) -> None:
        wait = rates.take(name, time.monotonic()) if name is not None else 0.0
        if wait:
            raise Refused(429, "too_many_requests", "too often; see Retry-After", wait)

    def _check_origin(self, scope: Any) -> None:
        """Let in only pages of allowed origins; who is no browser sends no Origin.

        A page counts as the gateway's own when it came from the same host and port. Without tokens that host must be
        an address or localhost: any other name could have been pointed at this address by the page's owner.
        """
        origin = _header(scope, b"origin")
        if origin is None or origin in self.settings.origins:
            return
        host = (_header(scope, b"host") or "").lower()
        with suppress(ValueError):  # of an origin or host that is none
            if host and urlsplit(origin).netloc.lower() == host and (self.verifier is not None or _is_address(host)):
                return
        raise Refused(403, "bad_origin", "pages of this origin are not allowed here (gateway.origins)")


async def only_guests(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Litestar guard: note in the request's state what its sender may; raises Refused."""
    guard: Guard = connection.app.state.runtime.guard
    scope = connection.scope
    try:
        scope["state"]["grant"] = await guard.request(scope)
    except Refused as error:
        guard.note_refused(error.code, scope)
        raise


def refusal_headers(error: Refused) -> dict[str, str]:
    """Return the headers that go with a refusal."""
    headers = {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer" if error.code == "no_token" else 'Bearer error="invalid_token"'
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    return headers


def address_of(scope: Any) -> str | None:
    """Return the name under which the peer's address is counted (of IPv6 the /64); None for this machine."""
    client = scope.get("client")
    return _counted(client[0]) if client else None


@lru_cache(maxsize=4096)
def _counted(host: str) -> str | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return None if address.is_loopback else str(ipaddress.ip_network((address, 64), strict=False))
        address = address.ipv4_mapped
    return None if address.is_loopback else str(address)


@lru_cache(maxsize=256)
def _is_address(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost"
    return True


def _headers(scope: Any, wanted: bytes) -> Iterator[str]:
    return (value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted)


def _header(scope: Any, wanted: bytes) -> str | None:
    return next(_headers(scope, wanted), None)


def _bearer(scope: Any) -> str | None:
    value = _header(scope, b"authorization")
    if value is None:
        return None
    scheme, _, token = value.partition(" ")
    if scheme.lower() != BEARER or not token.strip():
        raise Refused(401, "bad_token", "the Authorization header must be: Bearer <JWT>")
    return token.strip()


def _offered(subprotocols: Sequence[str]) -> str | None:
    """Return the token that follows `bearer` among the offered subprotocols."""
    at = subprotocols.index(BEARER) + 1 if BEARER in subprotocols else len(subprotocols)
    return subprotocols[at] if at < len(subprotocols) else None


def _refuse_in_url(scope: Any) -> None:
    query = scope["query_string"].decode("latin-1").lower()
    if query and any(part.startswith(_IN_URL) for part in query.split("&")):
        raise Refused(400, "token_in_url", "a token in a URL ends up in logs; send it as a header or first message")
