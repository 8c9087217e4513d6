"""Every Redis key and channel name, and the rules for the names they are made of.

A channel is `kind:venue:symbol`; with the prefix it is a pub/sub channel and the string key of the newest message at
once, and `{X}:log`, `{X}:<field>` hang on it (the braces keep them in one Cluster slot).
"""

import re
from functools import lru_cache

from msgspec import Struct

from hub.errors import RequestError
from hub.model import KINDS

__all__ = ["ALL_VENUES", "VENUE_WIDE", "Channel", "Keys", "channel_name", "escape_symbol", "parse_channel"]

VENUE_WIDE = "*"
"""The symbol of a status that is about the whole venue."""

ALL_VENUES = "all"
"""The venue of what is made across venues."""

MAX_CHANNEL_CHARS = 200
_FORBIDDEN = re.compile(r"[:*?\[\]{}/\s\x00-\x1f\x7f~]")
_VENUE = re.compile(r"[a-z0-9][a-z0-9_]{0,31}")


class Channel(Struct, frozen=True, gc=False):
    kind: str
    venue: str
    symbol: str

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.venue}:{self.symbol}"


def channel_name(kind: str, venue: str, symbol: str) -> str:
    return f"{kind}:{venue}:{symbol}"


def escape_symbol(text: str) -> str:
    """Replace, one to one, what a canonical symbol must not hold by `~XX` or `~uXXXX` (hex), `~` itself included."""
    return _FORBIDDEN.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"~{code:02X}" if code < 256 else f"~u{code:04X}"


@lru_cache(maxsize=65_536)
def parse_channel(text: str, *, wildcards: bool = False) -> Channel:
    """Split `kind:venue:symbol`; RequestError where it is malformed, naming what is allowed.

    With `wildcards`, venue or symbol may be `*`. The symbol `*` of kind `status` means the venue as a whole.
    """
    if len(text) > MAX_CHANNEL_CHARS:
        raise RequestError("bad_channel", f"a channel name has at most {MAX_CHANNEL_CHARS} characters")
    parts = text.split(":", 2)
    if len(parts) != 3:
        raise RequestError("bad_channel", f"{text!r} is not of the form kind:venue:symbol")
    kind, venue, symbol = parts
    if kind not in KINDS:
        raise RequestError("unknown_kind", f"there is no kind {kind!r}", sorted(KINDS))
    if not _VENUE.fullmatch(venue) and not (wildcards and venue == "*"):
        raise RequestError("bad_venue", f"{venue!r} is not a venue name (a-z, 0-9, _)")
    star = symbol == "*" and (wildcards or kind == "status")
    if not star and (not symbol or any(c != "~" for c in _FORBIDDEN.findall(symbol))):
        raise RequestError("bad_symbol", f"{symbol!r} is not a canonical symbol such as BTC-USDT")
    return Channel(kind, venue, symbol)


class Keys:
    """Names under one prefix. `channel` arguments are names without prefix; all results are str with prefix."""

    __slots__ = ("prefix",)

    def __init__(self, prefix: str = "md:") -> None:
        self.prefix = prefix

    def newest(self, channel: str) -> str:
        """Pub/sub channel, and string key of the newest message (of a `book`: the newest full snapshot)."""
        return f"{self.prefix}{channel}"

    def log(self, channel: str) -> str:
        """Stream of recent messages; one entry is one field `payload`."""
        return f"{{{self.prefix}{channel}}}:log"

    def series(self, channel: str, field: str) -> str:
        return f"{{{self.prefix}{channel}}}:{field}"

    @property
    def channels(self) -> str:
        """Set of all channel names, and the pub/sub channel that announces additions."""
        return f"{self.prefix}channels"

    def alive(self, venue: str) -> str:
        """A feed's pulse: value epoch, gone 3 s after its last beat."""
        return f"{self.prefix}alive:{venue}"

    def lease(self, venue: str) -> str:
        return f"{self.prefix}lease:{venue}"

    def epoch(self, venue: str) -> str:
        """Last epoch of the venue's publisher. No expiry: ids must grow for as long as the data lives."""
        return f"{{{self.lease(venue)}}}:epoch"

    def instruments(self, venue: str) -> str:
        """Hash symbol -> Instrument as JSON."""
        return f"{self.prefix}instruments:{venue}"

    def instruments_sync(self, venue: str) -> str:
        """JSON of hub.instrument_store.Sync: when the rows were renewed last, and how that went."""
        return f"{{{self.instruments(venue)}}}:sync"

    def instruments_changes(self, venue: str) -> str:
        """Stream of hub.listing.Change as JSON, field `change`: what waits to be published as `listing`."""
        return f"{{{self.instruments(venue)}}}:changes"

    @property
    def listed_venues(self) -> str:
        """Set of venues that have instruments here. No expiry: one short name per venue."""
        return f"{self.prefix}instruments"

    def feed(self, venue: str) -> str:
        """JSON of hub.venues.FeedReport: what a feed says of itself; expires with the pulse."""
        return f"{self.prefix}feed:{venue}"

    def open_candles(self, venue: str) -> str:
        """Hash symbol -> the candles that were open when the venue's feed ended; gone once the next one has them."""
        return f"{self.prefix}open-candles:{venue}"

    def backfill(self, venue: str) -> str:
        """Hash `symbol interval` -> the times that a backfill has done, so that it goes on there; expires in a week."""
        return f"{self.prefix}backfill:{venue}"

    @property
    def venues(self) -> str:
        """Set of venues that ever published here. No expiry: one short name per venue."""
        return f"{self.prefix}venues"

    def tokens(self, venue: str, bucket: str, address: str) -> str:
        """Token bucket shared by all processes behind one address."""
        return f"{self.prefix}tokens:{{{venue}:{address}}}:{bucket}"

    def quota(self, venue: str, account: str, period: str) -> str:
        """Counter of calls that `account` made in a UTC day (2026-11-21) or month (2026-11)."""
        return f"{self.prefix}quota:{venue}:{account}:{period}"

    def banned(self, venue: str, bucket: str, address: str) -> str:
        """Present while the venue refuses these requests to this address; the value is the end in unix ms."""
        return f"{self.prefix}banned:{{{venue}:{address}}}:{bucket}"

    @property
    def revoked(self) -> str:
        """Sorted set of the ids of revoked tokens, scored with their ends in unix s; ended ones go with the next."""
        return f"{self.prefix}revoked"

    def slots(self, subject: str) -> str:
        """Connections of one subject over all gateways; expires when nobody renews it."""
        return f"{self.prefix}slots:{subject}"
