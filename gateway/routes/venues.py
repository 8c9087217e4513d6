"""Venues: how each feed is, and what it says of itself."""

import time

from litestar import get
from litestar.params import FromPath
from msgspec import Struct

from gateway.errors import PROBLEMS
from gateway.query import Context
from gateway.runtime import Runtime
from hub.errors import NotFound
from hub.instrument_store import Sync
from hub.model import State
from hub.venues import FeedReport

__all__ = ["KindView", "VenueView", "Venues", "get_venue", "list_venues"]


class KindView(Struct):
    """One kind over all symbols of a venue. `age_ms`: since the newest message; `affected`: symbols not live."""

    kind: str
    state: State
    messages: int
    age_ms: int | None
    affected: int


class VenueView(Struct):
    """`age_ms`: since the newest data of any kind. `feed` is null while the feed has no pulse; of a polled venue it
    says the plan's budget. `instruments` is how the venue's list was, with the intervals of its own candles."""

    venue: str
    state: State
    reason: str
    age_ms: int | None
    symbols: int
    kinds: list[KindView]
    feed: FeedReport | None
    instruments: Sync | None


class Venues(Struct):
    venues: list[VenueView]


def _view(runtime: Runtime, venue: str, report: FeedReport | None, sync: Sync | None) -> VenueView:
    now = time.time_ns()
    state, reason = runtime.watch.venue_state(venue)
    kinds = []
    for kind, channel in sorted(report.kinds.items()) if report is not None else ():
        affected = runtime.watch.affected(venue, kind)
        age_ms = max(0, (now - channel.ts_recv) // 1_000_000) if channel.messages else None
        kinds.append(KindView(kind, runtime.watch.kind_state(venue, kind), channel.messages, age_ms, affected))
    ages = [kind.age_ms for kind in kinds if kind.age_ms is not None]
    symbols = len(runtime.directory.venues.get(venue, ()))
    return VenueView(venue, state, reason, min(ages, default=None), symbols, kinds, report, sync)


@get("/venues", tags=["venues"], responses=PROBLEMS)
async def list_venues(runtime: Context) -> Venues:
    """All venues that ever published here."""
    venues = await runtime.reader.venues()
    reports = await runtime.reader.reports(venues)
    syncs = await runtime.reader.syncs()
    return Venues([_view(runtime, venue, reports.get(venue), syncs.get(venue)) for venue in venues])


@get("/venues/{venue:str}", tags=["venues"], responses=PROBLEMS)
async def get_venue(runtime: Context, venue: FromPath[str]) -> VenueView:
    """One venue."""
    venues = await runtime.reader.venues()
    if venue not in venues:
        raise NotFound("unknown_venue", f"there is no venue {venue[:60]!r}", venues)
    reports, syncs = await runtime.reader.reports([venue]), await runtime.reader.syncs()
    return _view(runtime, venue, reports.get(venue), syncs.get(venue))
