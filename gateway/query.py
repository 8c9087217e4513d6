"""What REST resources share: which symbols and venues exist, times, pages, and the envelope of a snapshot."""

import difflib
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Protocol, TypeAlias, TypeVar

from litestar import Request
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from msgspec import Struct

from gateway.runtime import Runtime, runtime_of
from hub.access import Grant
from hub.errors import NotFound, Refused, RequestError
from hub.intervals import NS_PER_MS, NS_PER_S
from hub.keys import ALL_VENUES, channel_name
from hub.model import State

__all__ = [
    "Context",
    "Cursor",
    "Granted",
    "Limit",
    "Page",
    "Snapshot",
    "SymbolList",
    "Time",
    "Venue",
    "check_parameters",
    "choose",
    "envelope",
    "not_allowed",
    "page_of",
    "pairs",
    "parse_time",
    "provide_grant",
    "provide_runtime",
    "symbol_list",
    "time_range",
    "venues_for",
    "venues_of",
    "visible",
]

NEAR_MAX = 5
SYMBOLS_MAX = 1000
#: 2200-01-01; what is larger was meant in another unit.
EPOCH_S_MAX = 7_258_118_400
#: Below the first the number counts units of the second, in ns.
_EPOCH_UNITS = ((10**11, NS_PER_S), (10**14, NS_PER_MS), (10**17, 1000))
_TIMES = ("2026-01-31T12:00:00Z", "1769860800", "1769860800000")

Venue: TypeAlias = Annotated[str | None, QueryParameter(description="One venue; default: all that have the symbol.")]
Limit: TypeAlias = Annotated[int, QueryParameter(ge=1, le=1000, description="Rows at most.")]
Cursor: TypeAlias = Annotated[str | None, QueryParameter(description="`next` of the page before.")]
Time: TypeAlias = Annotated[
    str | None,
    QueryParameter(description="ISO 8601 (UTC unless it says), or s, ms, us or ns since 1970, by magnitude."),
]
SymbolList: TypeAlias = Annotated[
    str | None, QueryParameter(description=f"Symbols with commas between, at most {SYMBOLS_MAX}; default: all, paged.")
]


class Snapshot(Struct, kw_only=True):
    """What every snapshot says of itself.

    `state` live, stale, resyncing or down, with the `reason`; `age_ms` is the time since the hub read the value off the
    venue's socket. Without a value everything else is null.
    """

    venue: str
    symbol: str
    state: State
    reason: str
    age_ms: int | None
    id: str | None
    ts_event: int | None
    ts_recv: int | None


class Dated(Protocol):
    """A message, or what was made of some."""

    @property
    def id(self) -> str: ...
    @property
    def ts_event(self) -> int | None: ...
    @property
    def ts_recv(self) -> int: ...


class Page(Struct):
    """Where the next page begins (`cursor`); null on the last one. `unknown`: asked-for symbols nobody publishes."""

    next: str | None
    unknown: list[str]


Context: TypeAlias = NamedDependency[Runtime]
Granted: TypeAlias = NamedDependency[Grant]


def provide_runtime(request: Request[Any, Any, Any]) -> Runtime:
    return runtime_of(request.app)


def provide_grant(request: Request[Any, Any, Any]) -> Grant:
    """Return what the sender may: the guard noted it (gateway/guard.py)."""
    grant: Grant = request.scope["state"]["grant"]
    return grant


async def check_parameters(request: Request[Any, Any, Any]) -> None:
    """Refuse query parameters that the resource does not have: a typo must not look like an empty filter."""
    signature = request.route_handler.parsed_fn_signature.parameters
    known = [name for name in signature if name not in request.path_params and name not in {"runtime", "grant"}]
    for name in request.query_params:
        if name not in known:
            raise RequestError("unknown_parameter", f"there is no parameter {name!r} here", sorted(known))


def choose(name: str, value: str, allowed: Iterable[str]) -> str:
    """Return `value` where it is allowed; RequestError with what is, else."""
    options = list(allowed)
    if value not in options:
        raise RequestError("bad_parameter", f"{name} = {value[:60]!r} is not possible", options)
    return value


def venues_for(runtime: Runtime, grant: Grant, kind: str, symbol: str, venue: str | None = None) -> list[str]:
    """Return the venues that publish `symbol` and of which `kind` may be read, sorted.

    Raises NotFound with near matches where none publishes it, Refused where none may be read.
    """
    known = venues_of(runtime, symbol, venue)
    venues = [name for name in known if grant.allows(kind, name, symbol)]
    if not venues:
        raise not_allowed(kind, symbol, venue)
    return [name for name in venues if name == venue or _is_made(runtime, kind, name, symbol)]


def _is_made(runtime: Runtime, kind: str, venue: str, symbol: str) -> bool:
    """Tell whether there is such a kind: of venue `all` there are only some."""
    return venue != ALL_VENUES or channel_name(kind, venue, symbol) in runtime.directory.names


def not_allowed(kind: str, symbol: str, venue: str | None) -> Refused:
    return Refused(403, "forbidden", f"the token does not allow {channel_name(kind, venue or '*', symbol)}")


def visible(runtime: Runtime, grant: Grant, kind: str) -> Mapping[str, set[str]]:
    """Return symbol -> venues, as far as `kind` may be read of any of them."""
    symbols = runtime.directory.symbols
    if grant.everything:
        return symbols
    return {
        symbol: venues
        for symbol, venues in symbols.items()
        if any(grant.allows(kind, venue, symbol) for venue in venues)
    }


def venues_of(runtime: Runtime, symbol: str, venue: str | None = None) -> list[str]:
    """Return the venues that publish `symbol`, sorted, at least one; NotFound with near matches, else."""
    directory = runtime.directory
    venues = directory.symbols.get(symbol)
    if venues is None:
        near = difflib.get_close_matches(symbol.upper()[:60], directory.symbols, n=NEAR_MAX, cutoff=0.5)
        raise NotFound("unknown_symbol", f"nobody publishes {symbol[:60]!r}", near)
    if venue is None:
        return sorted(venues)
    if venue not in venues:
        if venue not in directory.venues:
            raise RequestError("bad_parameter", f"venue = {venue[:60]!r} is not known", sorted(directory.venues))
        raise NotFound("unknown_symbol", f"{venue} does not publish {symbol!r}; other venues do", sorted(venues))
    return [venue]


def envelope(
    runtime: Runtime, kind: str, venue: str, symbol: str, message: Dated | None, *, present: bool | None = None
) -> dict[str, Any]:
    """Return the fields of Snapshot for the newest message of a channel."""
    have = message is not None if present is None else present
    state, reason = runtime.watch.state(kind, venue, symbol, have)
    return {
        "venue": venue,
        "symbol": symbol,
        "state": state,
        "reason": reason,
        "age_ms": max(0, (time.time_ns() - message.ts_recv) // 1_000_000) if message is not None else None,
        "id": message.id if message is not None else None,
        "ts_event": message.ts_event if message is not None else None,
        "ts_recv": message.ts_recv if message is not None else None,
    }


def time_range(start: str | None, end: str | None, now_ms: int, default_ms: int = 0) -> tuple[int, int]:
    """Return (start, end) in unix ms. Default: up to now, from `default_ms` before the end (0: from the beginning).

    Data is in whole ms; a bound between two of them is moved up.
    """
    end_ms = now_ms if end is None else -(-parse_time("end", end) // NS_PER_MS)
    if start is None:
        return max(0, end_ms - default_ms) if default_ms else 0, end_ms
    start_ms = -(-parse_time("start", start) // NS_PER_MS)
    if start_ms >= end_ms:
        raise RequestError("bad_parameter", "start is not before end")
    return start_ms, end_ms


def parse_time(name: str, text: str) -> int:
    """Return int ns UTC of ISO 8601 or of a number since 1970: s, ms, us or ns, by its magnitude.

    Seconds are meant below 1e11 (the year 5138), ms below 1e14, us below 1e17. Raises RequestError for anything else,
    and for times before 1970 or after 2200.
    """
    try:
        number = Decimal(text)
    except InvalidOperation:
        ns = _iso_ns(name, text)
    else:
        if not number.is_finite():
            raise _no_time(name, text)
        unit = next((unit for limit, unit in _EPOCH_UNITS if abs(number) < limit), 1)
        ns = int(number * unit)
    if not 0 <= ns <= EPOCH_S_MAX * NS_PER_S:
        raise RequestError("bad_parameter", f"{name} = {text[:60]!r} is not between 1970 and 2200", _TIMES)
    return ns


def _iso_ns(name: str, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise _no_time(name, text) from error
    return since // timedelta(microseconds=1) * 1000


def _no_time(name: str, text: str) -> RequestError:
    return RequestError("bad_parameter", f"{name} = {text[:60]!r} is no time", _TIMES)


T = TypeVar("T")


def page_of(
    known: Mapping[str, T], symbols: str | None, cursor: str | None, limit: int
) -> tuple[list[str], str | None, list[str]]:
    """Return the symbols of one page, the cursor of the next, and asked-for symbols that are not `known`."""
    if symbols is not None:
        wanted = symbol_list(symbols)
        return [s for s in wanted if s in known], None, [s[:60] for s in wanted if s not in known]
    names = sorted(name for name in known if cursor is None or name > cursor)
    return names[:limit], names[limit - 1] if len(names) > limit else None, []


def symbol_list(text: str) -> list[str]:
    """Return the symbols of a list with commas between, each once. Raises RequestError where they are too many."""
    wanted = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if len(wanted) > SYMBOLS_MAX:
        raise RequestError("bad_parameter", f"symbols: {len(wanted)} are too many", [f"up to {SYMBOLS_MAX}"])
    return wanted


def pairs(
    runtime: Runtime, grant: Grant, kind: str, symbols: Sequence[str], venue: str | None
) -> list[tuple[str, str, str]]:
    """Return (channel, venue, symbol) of one kind for all venues of all `symbols`, as far as they may be read."""
    return [
        (channel_name(kind, name, symbol), name, symbol)
        for symbol in symbols
        for name in sorted(runtime.directory.symbols.get(symbol, ()))
        if (venue is None or name == venue) and grant.allows(kind, name, symbol)
        if name == venue or _is_made(runtime, kind, name, symbol)
    ]
