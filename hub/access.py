"""Who may do what: the settings of tokens and limits, and what a token's claims grant. Pure, and without a JWT library,
because every process reads the settings.

Claims of ours, besides `sub`, `exp`, `iat`, `jti`: `channels`, a list of patterns `kind:venue:symbol`, each part of
which may be `*` (kind also `candle.*`, `forming.*`; `*` alone is everything), and optionally `max_connections`,
`max_subscriptions` (per connection) and `max_messages_per_s` (from the client, per connection).
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from hub.errors import ConfigError, RequestError
from hub.keys import Channel, parse_channel
from hub.model import KINDS

__all__ = [
    "NOBODY",
    "OPEN",
    "SECRET_MIN_BYTES",
    "AuthSettings",
    "Grant",
    "LimitSettings",
    "check_access",
    "grant_of",
    "parse_pattern",
    "secret_of",
]

#: RFC 7518, 3.2: a key of the hash's size or larger.
SECRET_MIN_BYTES: Final = 32
PATTERNS_MAX: Final = 500
PATTERN_CHARS_MAX: Final = 200
SUBJECT_CHARS_MAX: Final = 200

_FAMILIES = {f"{kind.partition('.')[0]}.*" for kind in KINDS if "." in kind}


class AuthSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Clients must show a JWT as soon as there is a `secret` (HS256, at least 32 bytes; `secret_file` holds it instead)
    or a `jwks` (RS256 and ES256: https URL or file, read again every `jwks_refresh_s`).

    `issuer` and `audience`: what `iss` and `aud` must be, empty: not looked at. Tokens that live `max_ttl_s` from now
    or longer are refused, so that a revocation need not be kept longer. A token counts `leeway_s` beyond its `exp`. A
    socket without a token is closed after `deadline_s`.
    """

    secret: str = ""
    secret_file: str = ""
    jwks: str = ""
    jwks_refresh_s: float = 600.0
    issuer: str = ""
    audience: str = ""
    max_ttl_s: int = 90 * 86_400
    leeway_s: float = 5.0
    deadline_s: float = 10.0

    @property
    def required(self) -> bool:
        """True where clients have to prove who they are."""
        return bool(self.secret or self.secret_file or self.jwks)


def secret_of(settings: AuthSettings) -> bytes:
    """Return the HS256 secret, empty where there is none; ConfigError where it cannot be used."""
    if settings.secret and settings.secret_file:
        raise ConfigError("set gateway.auth.secret or gateway.auth.secret_file, not both")
    secret = settings.secret.encode()
    if settings.secret_file:
        try:
            secret = Path(settings.secret_file).read_bytes().strip()
        except OSError as error:
            raise ConfigError(f"gateway.auth.secret_file cannot be read: {error.strerror}") from error
    if (settings.secret or settings.secret_file) and len(secret) < SECRET_MIN_BYTES:
        raise ConfigError(f"the secret of gateway.auth needs at least {SECRET_MIN_BYTES} bytes (openssl rand -hex 32)")
    return secret


class LimitSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bounds per worker. Rates are per second, with bursts of `burst_s` seconds' worth; addresses of this machine are
    not limited, tokens (by `sub`) are.

    `connections` bounds all sockets, `connections_per_subject` those of one `sub` over all workers (0: no bound; a
    token's own claim wins). `messages_per_s` is what one client may send.
    """

    connections: int = 50_000
    connections_per_subject: int = 0
    connects_per_s: float = 10.0
    requests_per_s: float = 50.0
    messages_per_s: float = 100.0
    burst_s: float = 10.0


def check_access(auth: AuthSettings, limits: LimitSettings) -> None:
    """Raise ConfigError for values that cannot be used."""
    # The value is not shown.
    if auth.secret and len(auth.secret.encode()) < SECRET_MIN_BYTES:
        raise ConfigError(f"gateway.auth.secret is too short; allowed: {SECRET_MIN_BYTES} bytes or more")
    above_zero = {
        "auth.jwks_refresh_s": auth.jwks_refresh_s,
        "auth.max_ttl_s": auth.max_ttl_s,
        "auth.deadline_s": auth.deadline_s,
        "limits.connections": limits.connections,
        "limits.burst_s": limits.burst_s,
    }
    from_zero = {
        "auth.leeway_s": auth.leeway_s,
        "limits.connections_per_subject": limits.connections_per_subject,
        "limits.connects_per_s": limits.connects_per_s,
        "limits.requests_per_s": limits.requests_per_s,
        "limits.messages_per_s": limits.messages_per_s,
    }
    for name, value in (above_zero | from_zero).items():
        if not (value > 0 or (value == 0 and name in from_zero)):
            allowed = "0 or more" if name in from_zero else "more than 0"
            raise ConfigError(f"gateway.{name} = {value!r} cannot be used; allowed: {allowed}")


class Grant(Struct, frozen=True, kw_only=True):
    """What one client may. `until` is unix time in s; a limit of 0 leaves the configured one in place.

    `kinds`, by kind (`*`: every one), are (venue, symbol) pairs, `*` for every one.
    """

    sub: str
    jti: str = ""
    until: float = math.inf
    everything: bool = False
    kinds: Mapping[str, frozenset[tuple[str, str]]] = {}
    max_connections: int = 0
    max_subscriptions: int = 0
    max_messages_per_s: float = 0.0

    def allows(self, kind: str, venue: str, symbol: str) -> bool:
        """Tell whether a channel may be read. A status may be, where anything is that it is about."""
        if self.everything:
            return True
        wanted = {(venue, symbol), ("*", symbol), (venue, "*"), ("*", "*")}
        if kind == "status":
            return any(
                not pairs.isdisjoint(wanted) or (symbol == "*" and any(v in (venue, "*") for v, _ in pairs))
                for pairs in self.kinds.values()
            )
        return any(not pairs.isdisjoint(wanted) for pairs in self._of(kind))

    def overlaps(self, pattern: Channel) -> bool:
        """Tell whether any channel that `pattern` stands for may be read."""
        if self.everything:
            return True
        found = self.kinds.values() if pattern.kind == "status" else self._of(pattern.kind)
        return any(
            (pattern.venue == "*" or venue in (pattern.venue, "*"))
            and (pattern.symbol == "*" or symbol in (pattern.symbol, "*"))
            for pairs in found
            for venue, symbol in pairs
        )

    def _of(self, kind: str) -> Iterable[frozenset[tuple[str, str]]]:
        family = f"{kind.partition('.')[0]}.*"
        return (self.kinds[name] for name in (kind, family, "*") if name in self.kinds)


#: Where nobody is asked; and who has not said yet.
OPEN: Final = Grant(sub="", everything=True)
NOBODY: Final = Grant(sub="")


def parse_pattern(text: str) -> Channel:
    """Split a claim's pattern; RequestError where it is none."""
    if text == "*":
        return Channel("*", "*", "*")
    parts = text.split(":", 2)
    if len(text) > PATTERN_CHARS_MAX or len(parts) != 3:
        raise RequestError("bad_pattern", f"{text[:60]!r} is not of the form kind:venue:symbol, nor *")
    kind, venue, symbol = parts
    if kind == "*" or kind in _FAMILIES:
        parse_channel(f"quote:{venue}:{symbol}", wildcards=True)
    else:
        parse_channel(text, wildcards=True)
    return Channel(kind, venue, symbol)


class _Claims(Struct):
    sub: str
    exp: float
    jti: str = ""
    channels: list[str] = []
    max_connections: int = 0
    max_subscriptions: int = 0
    max_messages_per_s: float = 0.0


def grant_of(claims: Mapping[str, Any], jti: str = "") -> Grant:
    """Return what verified claims grant; `jti` names a token that has none of its own.

    Raises RequestError, which never repeats what the token holds beyond a pattern.
    """
    try:
        found = msgspec.convert(dict(claims), _Claims)
    except msgspec.ValidationError as error:
        raise RequestError("bad_claims", f"the token's claims cannot be used: {error}") from error
    if not 0 < len(found.sub) <= SUBJECT_CHARS_MAX:
        raise RequestError("bad_claims", f"sub needs 1 to {SUBJECT_CHARS_MAX} characters")
    if len(found.channels) > PATTERNS_MAX:
        raise RequestError("bad_claims", f"a token may hold {PATTERNS_MAX} channel patterns")
    limits = (found.max_connections, found.max_subscriptions, found.max_messages_per_s)
    if not all(math.isfinite(limit) and limit >= 0 for limit in limits):
        raise RequestError("bad_claims", "limits are numbers from 0")
    kinds: dict[str, set[tuple[str, str]]] = {}
    for text in found.channels:
        pattern = parse_pattern(text)
        kinds.setdefault(pattern.kind, set()).add((pattern.venue, pattern.symbol))
    return Grant(
        sub=found.sub,
        jti=found.jti or jti,
        until=found.exp,
        everything=("*", "*") in kinds.get("*", ()),
        kinds={kind: frozenset(pairs) for kind, pairs in kinds.items()},
        max_connections=found.max_connections,
        max_subscriptions=found.max_subscriptions,
        max_messages_per_s=found.max_messages_per_s,
    )
