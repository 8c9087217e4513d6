"""Every exception the hub raises on purpose; a class exists only where the action differs.

HubError
├── ConfigError              stop at start-up and say what to change
├── UnknownInstrument        stop at start-up: a configured symbol the venue does not list
├── RedisUnavailable         stop at start-up; retry while running
├── GatewayUnreachable       a client gives up: nothing answers there, or nothing that is a gateway
├── LeaseHeld                stop at start-up: another publisher owns the venue
├── LeaseLost                stop publishing at once
├── WireError                count, skip the one message
├── SequenceGap              that symbol's book is invalid until it is rebuilt
├── SubscriptionRejected     report, keep the rest
├── FetchError               count, retry later
│   ├── RateLimited          the venue's REST rests until the stated time
│   └── FetchRefused         asked again rarely: the venue has no answer
├── SessionError             a recorded session cannot be read
└── RequestError             a client asked for something impossible
    ├── NotFound             ... or for something that is not there
    └── Refused              ... or for something it may not have, now or at all

Errors of libraries are translated once, where the library is called.
"""

from collections.abc import Sequence

__all__ = [
    "ConfigError",
    "FetchError",
    "FetchRefused",
    "GatewayUnreachable",
    "HubError",
    "LeaseHeld",
    "LeaseLost",
    "NotFound",
    "RateLimited",
    "RedisUnavailable",
    "Refused",
    "RequestError",
    "SequenceGap",
    "SessionError",
    "SubscriptionRejected",
    "UnknownInstrument",
    "WireError",
]


class HubError(Exception):
    """Root of all errors of the hub."""


class ConfigError(HubError):
    """A setting that cannot be used; the message names it and what is allowed."""


class UnknownInstrument(HubError):
    def __init__(self, venue: str, symbol: str, near: Sequence[str] = ()) -> None:
        hint = f"; near matches: {', '.join(near)}" if near else ""
        super().__init__(f"{venue} lists no instrument {symbol!r}{hint}")
        self.venue, self.symbol, self.near = venue, symbol, tuple(near)


class RedisUnavailable(HubError):
    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"Redis at {url} cannot be used: {reason}")
        self.url, self.reason = url, reason


class GatewayUnreachable(HubError):
    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"the gateway at {url} cannot be used: {reason}")
        self.url, self.reason = url, reason


class LeaseHeld(HubError):
    def __init__(self, venue: str, holder: str) -> None:
        super().__init__(f"venue {venue} is already published by {holder}; one publisher a venue is allowed")
        self.venue, self.holder = venue, holder


class LeaseLost(HubError):
    def __init__(self, venue: str, reason: str) -> None:
        super().__init__(f"publishing of venue {venue} stopped: {reason}")
        self.venue, self.reason = venue, reason


class WireError(HubError):
    """A message from a venue that cannot be read; costs that one message."""

    def __init__(self, venue: str, detail: str) -> None:
        super().__init__(f"{venue}: {detail}")
        self.venue, self.detail = venue, detail


class SequenceGap(HubError):
    """Messages between `expected` and `received` were lost (venue's sequence numbers)."""

    def __init__(self, expected: int, received: int) -> None:
        super().__init__(f"sequence gap: expected {expected}, received {received}")
        self.expected, self.received = expected, received


class SubscriptionRejected(HubError):
    def __init__(self, venue: str, channels: Sequence[str], reason: str) -> None:
        super().__init__(f"{venue} refused {len(channels)} channel(s): {reason}")
        self.venue, self.channels, self.reason = venue, tuple(channels), reason


class FetchError(HubError):
    def __init__(self, venue: str, resource: str, reason: str) -> None:
        super().__init__(f"{venue}: fetching {resource} failed: {reason}")
        self.venue, self.resource, self.reason = venue, resource, reason


class RateLimited(FetchError):
    """The venue asked for silence; `until_ms` is unix time in milliseconds."""

    def __init__(self, venue: str, resource: str, reason: str, until_ms: int) -> None:
        super().__init__(venue, resource, reason)
        self.until_ms = until_ms


class FetchRefused(FetchError):
    """The venue will not answer this request, later neither; `venue_wide`: nor any other, as with a wrong key."""

    def __init__(self, venue: str, resource: str, reason: str, *, venue_wide: bool = False) -> None:
        super().__init__(venue, resource, reason)
        self.venue_wide = venue_wide


class SessionError(HubError):
    """A recorded session that cannot be read; the message names file and line."""


class RequestError(HubError):
    """A client's request that cannot be served.

    `code` is a stable word for programs, `allowed` what would have been accepted.
    """

    def __init__(self, code: str, detail: str, allowed: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.code, self.detail, self.allowed = code, detail, tuple(allowed)


class NotFound(RequestError):
    """What was asked for is not there; `near` are names that exist."""

    def __init__(self, code: str, detail: str, near: Sequence[str] = ()) -> None:
        super().__init__(code, detail)
        self.near = tuple(near)


class Refused(RequestError):
    """A client that may not, not yet or not now: `status` is the HTTP status that says which (401, 403, 429, 503)."""

    def __init__(self, status: int, code: str, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(code, detail)
        self.status, self.retry_after_s = status, retry_after_s
