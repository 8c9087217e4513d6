"""What is known of a venue's health: what a feed reports, and how readers judge a value's state.

Pure. The rule for readers: no pulse means `down`; else the venue's status; else the symbol's status where it touches
the kind.
"""

from collections.abc import Mapping

from msgspec import Struct

from hub.model import State, Status

__all__ = [
    "PULSE_TTL_MS", "BudgetReport", "ChannelReport", "ConnectionReport", "FeedReport", "LatencyReport", "affects",
    "state_of",
]  # fmt: skip

PULSE_TTL_MS = 3000

_SEVERITY: Mapping[State, int] = {"live": 0, "stale": 1, "resyncing": 2, "down": 3}


class ConnectionReport(Struct, frozen=True, kw_only=True):
    """One socket of a feed. `requested`, `acked` and `with_data` count venue channels."""

    url: str
    connected: bool
    since: int
    requested: int
    acked: int
    with_data: int
    refused: dict[str, str] = {}
    messages: int = 0


class ChannelReport(Struct, frozen=True, kw_only=True):
    """Newest data of one kind over all symbols: `ts_recv` int ns, `messages` since start."""

    messages: int
    ts_recv: int


class BudgetReport(Struct, frozen=True, kw_only=True):
    """One limit of REST calls: `limit` of them, or weight as the venue counts it, in `window_s`. `used` of it, until
    `resets_at` (unix ms), where that is a moment and not all the time; null: not counted."""

    limit: int
    window_s: float
    used: int | None = None
    resets_at: int | None = None


class LatencyReport(Struct, frozen=True, kw_only=True):
    """Milliseconds over the newest `samples`, one message per batch."""

    p50_ms: float
    p99_ms: float
    samples: int


class FeedReport(Struct, frozen=True, kw_only=True):
    """What a feed says of itself, renewed with its pulse.

    Of a polled venue: `plan` and its `budget`; `pace` is how many times slower than wished it is polled, because the
    plan gives no more, or because the venue said that it was too much.
    """

    venue: str
    epoch: int
    holder: str
    symbols: list[str]
    books_live: int
    books_wanted: int
    connections: list[ConnectionReport]
    kinds: dict[str, ChannelReport]
    counters: dict[str, int]
    rest_banned_until: int | None = None
    """unix ms"""
    latency: dict[str, LatencyReport] = {}
    """`venue_to_hub`: from the venue's time to our socket; `hub_to_redis`: from there until Redis confirmed it"""
    bytes: int = 0
    """of frames, since start"""
    ts: int = 0
    plan: str = ""
    pace: float | None = None
    budget: list[BudgetReport] = []


def affects(status: Status, kind: str) -> bool:
    """Tell whether a status is about `kind`: depth lives and dies with the book."""
    return status.kind is None or status.kind == kind or (status.kind == "book" and kind == "depth")


def state_of(
    kind: str, alive: bool, venue: Status | None, symbol: Status | None, *, present: bool = True
) -> tuple[State, str]:
    """Return the state of a value of `kind` and the reason for it.

    `present` False means that there is no value: then any status of the symbol explains it, since a quote that was
    derived from a book goes away with the book.
    """
    if not alive:
        return "down", "the feed has no pulse"
    worst: tuple[State, str] = ("live", "")
    for status in (venue, symbol):
        if status is not None and (affects(status, kind) or not present):
            if _SEVERITY[status.state] > _SEVERITY[worst[0]]:
                worst = (status.state, status.reason)
    return worst
