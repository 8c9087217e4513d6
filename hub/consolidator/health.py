"""Who counts: what is known of venues and of their symbols. Pure.

A venue's symbol counts for a kind while the venue's pulse beats, both statuses are known and neither says otherwise:
the same rule as every reader's (hub/venues.py).
"""

from collections.abc import Iterator

from hub.model import Depth, Quote, State, Status
from hub.position import parse_position
from hub.venues import state_of

__all__ = ["KINDS", "Health", "Source", "Venue"]

#: Kinds of input.
KINDS = ("quote", "depth", "trade")
_CUT_OFF = "the consolidator lost its connection to Redis"


class Venue:
    """`holder` is who publishes it, as its lease says; `since` the first epoch of that holder, 0 where not known.
    `sound_ns`: when it was last seen alive."""

    __slots__ = ("alive", "epoch", "holder", "known", "name", "since", "sound_ns", "sources", "status")

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = False
        self.known = False  # the status was read
        self.epoch = self.since = 0
        self.holder = b""
        self.status: Status | None = None
        self.sound_ns = 0
        self.sources: dict[str, Source] = {}


class Source:
    """One symbol of one venue. `quote` and `depth` are its newest values, whether they count or not; `offers` the kinds
    it publishes, `live` those that count; `unit` is what sizes are in. `known`: its status was read, `ready`: all was.
    """

    __slots__ = ("depth", "known", "live", "offers", "quote", "ready", "status", "symbol", "unit", "venue")

    def __init__(self, venue: str, symbol: str, unit: str = "base") -> None:
        self.venue, self.symbol, self.unit = venue, symbol, unit
        self.quote: Quote | None = None
        self.depth: Depth | None = None
        self.status: Status | None = None
        self.known = self.ready = False
        self.offers: set[str] = set()
        self.live: frozenset[str] = frozenset()


class Health:
    """All venues and their symbols. `cut_off`: nothing arrives at the moment, so nothing counts."""

    def __init__(self) -> None:
        self.venues: dict[str, Venue] = {}
        self.cut_off = False

    def venue(self, name: str) -> Venue:
        """Return a venue, made on first use."""
        try:
            return self.venues[name]
        except KeyError:
            venue = self.venues[name] = Venue(name)
            return venue

    def sources(self) -> Iterator[Source]:
        for venue in self.venues.values():
            yield from venue.sources.values()

    def pulse(self, name: str, epoch: int | None, holder: bytes | None, now: int) -> bool:
        """Note a look at a venue's pulse (None: it has none) and lease; returns whether its values are void: they are
        those of a process that is gone."""
        venue = self.venue(name)
        was_alive, venue.alive = venue.alive, epoch is not None
        if epoch is None:
            return was_alive
        venue.sound_ns = now
        successor = bool(holder) and bool(venue.holder) and holder != venue.holder
        if successor:
            venue.since = epoch
        venue.holder = holder or venue.holder
        venue.epoch = epoch
        return successor

    def is_current(self, name: str, message_id: str) -> bool:
        """Tell whether a value that was read is of the venue's present process, as far as is known."""
        return parse_position(message_id)[0] >= self.venue(name).since

    def judge(self, source: Source) -> bool:
        """Decide again for which kinds `source` counts; returns whether that changed."""
        live = frozenset(kind for kind in KINDS if self.state(source, kind)[0] == "live")
        changed, source.live = live != source.live, live
        return changed

    def state(self, source: Source, kind: str) -> tuple[State, str]:
        """Return the state of one kind of a source, and the reason."""
        if self.cut_off:
            return "down", _CUT_OFF
        venue = self.venue(source.venue)
        if not venue.alive:
            return state_of(kind, False, None, None)
        if not (venue.known and source.known):
            return "resyncing", "its status was not read yet"
        return state_of(kind, True, venue.status, source.status)
